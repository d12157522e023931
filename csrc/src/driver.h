// A vendor's driver behind one table. Three exist: CUDA (libcuda), HIP (libamdhip64), and the dry driver,
// which does everything but drive. Each is one file, the only one that knows its vendor's functions.
#pragma once

#include <kpack/kpack.h>

#include <cstdint>

#include "device.h"

namespace kpk {

// A device function ready to launch, in one context of one device.
struct Function {
  void *handle;  // CUfunction or CUkernel, hipFunction_t; dry: the image
  void *module;  // what to unload: CUlibrary, CUmodule, hipModule_t
  void *copy;    // a private mapping of the image, if one was needed
  size_t copy_bytes;
  void *context;         // the context it is tied to; null: any context of the device
  const Function *next;  // the same image in another context
};

struct LoadRequest {
  const char *kernel;  // for messages
  const Device *device;
  const kpk_abi_image *image;
  const kpk_abi_target *target;
};

struct LaunchRequest {
  const KernelView *view;  // for messages
  const Device *device;
  const kpk_abi_variant *variant;
  const kpk_abi_image *image;
  const Function *function;
  const kpk_arg *args;
  uint32_t grid[3];
  void *stream;
  unsigned char *params;  // image->param_bytes
};

struct Driver {
  const char *name;
  // The device that `stream` runs on.
  kpk_status (*device_of)(void *stream, const char *kernel, const Device **device);
  // The thread's current context, if functions of this driver are tied to one; else null.
  void *(*context)();
  kpk_status (*load)(const LoadRequest &request, Function *out);
  void (*unload)(const Device &device, const Function &function);
  kpk_status (*launch)(const LaunchRequest &request);
  // A grid with a zero in it: nothing to launch.
  kpk_status (*skip)(const Device &device, const char *kernel);
};

// Opens libcuda or libamdhip64 on first use. Null if there is none, or no device of it; then `*why` says so.
const Driver *cuda_driver(const char **why);
const Driver *hip_driver(const char **why);
int cuda_device_count();
int hip_device_count();
const Device *cuda_device(int ordinal);
const Device *hip_device(int ordinal);

// Non-null while the program or KPACK_DRIVER asks for the dry driver. `view`: for the arch where none was
// named. `*status` is not KPK_OK if KPACK_DRIVER names what does not exist.
const Device *dry_device(const KernelView *view, kpk_status *status);

// The driver for a stream of this vendor; KPK_VENDOR_ANY is the only vendor with devices.
kpk_status driver_of(const kpk_stream &stream, const char *kernel, const Driver **driver);

}  // namespace kpk
