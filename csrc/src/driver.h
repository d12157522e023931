// A vendor's driver behind one table. Three exist: CUDA (libcuda), HIP (libamdhip64), and the dry driver,
// which does everything but drive. Each is one file, the only one that knows its vendor's functions.
#pragma once

#include <kpack/kpack.h>

#include <atomic>
#include <cstdint>

#include "device.h"
#include "plan.h"

namespace kpk {

// Where a stream runs: the device, and, where functions belong to a context, which one (never 0).
struct Place {
  const Device *device;
  uint64_t context;
};

// What the driver made of an image, in one context of one device.
struct Loaded {
  void *function;  // CUfunction, hipFunction_t
  void *module;    // what to unload: CUmodule, hipModule_t
  void *copy;      // a private mapping of the image, if one was needed
  size_t copy_bytes;
};

struct LoadRequest {
  const KernelView *view;
  const Device *device;
  const kpk_abi_image *image;
  const Plan *plan;
  uint64_t context;  // of the device, and where it goes
};

struct LaunchRequest {
  const Plan *plan;
  const kpk_arg *args;  // null where the plan is a plain one
  uint32_t grid[3];
  void *stream;
  unsigned char *params;  // plan->param_bytes
};

// What Driver::launch returns where the function is not of the stream's context: nothing was launched, and the
// message says what the driver did.
constexpr kpk_status kElsewhere = static_cast<kpk_status>(15);

// What measuring asks of a driver beyond launching: see tune/search.h. Each call is one of the driver's, on a device
// that enter() has made current, in the stream's order where it takes one. `subject` is for messages.
struct Bench {
  // Makes the device, and where there are contexts this one, current in the thread, which may allocate and wait from
  // now on whatever other streams capture. Undone by leave(), if it succeeds.
  struct Before {
    void *context;
    int device;
    int capture_mode;
    bool changed, relaxed;
  };
  kpk_status (*enter)(const Device &device, uint64_t context, const char *subject, Before *before);
  void (*leave)(const Before &before);
  // Is the stream capturing, or would work on it break another's capture?
  kpk_status (*capturing)(void *stream, const char *subject, bool *out);
  kpk_status (*free_bytes)(const char *subject, uint64_t *out);
  // Aligned to 256 bytes. KPK_ERROR_MEMORY if there is not so much.
  kpk_status (*allocate)(uint64_t bytes, const char *subject, uint64_t *address);
  void (*release)(uint64_t address);
  kpk_status (*copy)(uint64_t to, uint64_t from, uint64_t bytes, void *stream, const char *subject);
  kpk_status (*read)(void *to, uint64_t from, uint64_t bytes, void *stream,
                     const char *subject);  // and waits
  kpk_status (*write)(uint64_t to, const void *from, uint64_t bytes, void *stream,
                      const char *subject);  // and waits
  kpk_status (*fill)(uint64_t to, uint8_t value, uint64_t bytes, void *stream, const char *subject);
  kpk_status (*wait)(void *stream, const char *subject);
  kpk_status (*create_event)(const char *subject, void **event);
  void (*destroy_event)(void *event);
  kpk_status (*record)(void *event, void *stream, const char *subject);
  // Has the device come to where it was recorded?
  bool (*reached)(void *event);
  // Waits for `end`.
  kpk_status (*elapsed_us)(void *begin, void *end, const char *subject, double *us);
};

struct Driver {
  const char *name;
  // Where a stream runs, and makes its context current where it is not: `before` is what leave() puts back. A
  // thread without a context is given one by a default stream.
  kpk_status (*enter)(void *stream, const char *kernel, Place *out, void **before);
  void (*leave)(void *before);
  // Does it launch a function in a place that it is not of, instead of refusing? Then it is asked before.
  bool (*asks)();
  // Where a launch would go now, as a number, never 0, in one query; 0: enter() has something to do or to say.
  uint64_t (*here)(void *stream);
  // That number for a function of this context and device.
  uint64_t (*place)(const Device &device, uint64_t context);
  // The context of a handle that is bound to a device: the current one if it is the device's, else the primary.
  kpk_status (*context_of)(const Device &device, const char *kernel, uint64_t *context);
  // Into the request's context, which becomes the current one meanwhile. Proves that the image is what the archive
  // says. KPK_ERROR_NO_IMAGE, KPK_ERROR_LIMIT: another image of the variant may be taken.
  kpk_status (*load)(const LoadRequest &request, Loaded *out);
  kpk_status (*unload)(const Device &device, const Loaded &loaded, const char *kernel, uint64_t context);
  kpk_status (*launch)(const LaunchRequest &request);
  // Memory in the stream's order: there for what is launched on it until it is given back on it.
  kpk_status (*allocate)(const Device &device, void *stream, size_t bytes, const char *symbol,
                         uint64_t *address);
  kpk_status (*give_back)(void *stream, uint64_t address, const char *symbol);
  // A grid with a zero in it: nothing to launch.
  kpk_status (*skip)(const Device &device, const char *kernel);
  // Sets such memory to 0, in the stream's order.
  kpk_status (*zero)(void *stream, uint64_t address, size_t bytes, const char *symbol);
  // Keeps so much ready for allocate() on the device; 0: gives it back.
  kpk_status (*reserve)(const Device &device, size_t bytes);
  // Blocks of a multiprocessor and clusters of the device that run at once.
  kpk_status (*occupancy)(const Device &device, const Plan &plan, const char *symbol, int *blocks,
                          int *clusters);
  // Encodes a tensor that has been checked into the 128 bytes at `map`; null where no device has TMA. kElsewhere
  // where another device than `device` is current.
  kpk_status (*encode)(const Device &device, const kpk_tensor &tensor, const kpk_abi_tensordesc &wanted,
                       const char *symbol, void *map);
  // Would load() take the image, as far as can be said before? Null: there is nothing to say.
  kpk_status (*accepts)(const LoadRequest &request) = nullptr;
  const Bench *bench = nullptr;  // null: nothing can be measured
};

// Opens libcuda or libamdhip64 on first use. Null if there is none, or no device of it; then `*why` says so.
const Driver *cuda_driver(const char **why);
const Driver *hip_driver(const char **why);
int cuda_device_count();
int hip_device_count();
// As the driver counts: 1000 * major + 10 * minor, 10^7 * major + 10^5 * minor; 0: it does not say.
int cuda_version();
int hip_version();
const Device *cuda_device(int ordinal);
const Device *hip_device(int ordinal);

// What every launch that is not bound looks at first.
enum class Dry : uint8_t { kUnknown, kNo, kYes };
struct alignas(64) Switches {
  std::atomic<const Driver *> drivers[3];  // by vendor, KPK_VENDOR_ANY too: what find_driver() has found
  std::atomic<Dry> dry;
  std::atomic<uint8_t> watched;  // Watch: who wants to see each launch, which then takes no shortcut
};
enum Watch : uint8_t { kObserved = 1, kRecorded = 2 };  // see observe.h and tune/shapes.h
extern Switches g_switches;

// Whether it is one of the dry driver's: then there is no memory.
bool is_dry_device(const Device &device);

// Does the program, or KPACK_DRIVER, ask for the dry driver? Then dry_device() is its device (`view`: for the
// arch where none was named), or KPK_ERROR_... if there is no such thing.
Dry read_dry();
inline bool is_dry() {
  const Dry dry = g_switches.dry.load(std::memory_order_acquire);
  return (dry == Dry::kUnknown ? read_dry() : dry) == Dry::kYes;
}
kpk_status dry_device(const KernelView &view, const Device **out);
// The dry driver's device of `arch` ("": the first target that the kernel has), whoever drives; null if there is no
// such thing.
const Device *dry_device_of(const KernelView &view, const char *arch);

// The device that a caller names, or the dry one in a dry run. `call`: for messages, "bind".
kpk_status find_device(const KernelView &view, const char *call, kpk_device device, const Device **out);

kpk_status find_driver(int32_t vendor, const char *kernel, const Driver **driver);
// The driver for a stream of this vendor; KPK_VENDOR_ANY is the only vendor with devices.
inline kpk_status driver_of(const kpk_stream &stream, const char *kernel, const Driver **driver) {
  const auto vendor = static_cast<uint32_t>(stream.vendor);
  *driver = vendor < 3 ? g_switches.drivers[vendor].load(std::memory_order_acquire) : nullptr;
  return *driver != nullptr ? KPK_OK : find_driver(stream.vendor, kernel, driver);
}

// The same question where the answer is at hand.
inline bool is_driver_of(const kpk_stream &stream, const Driver *driver) {
  const auto vendor = static_cast<uint32_t>(stream.vendor);
  return vendor < 3 && g_switches.drivers[vendor].load(std::memory_order_acquire) == driver;
}

}  // namespace kpk
