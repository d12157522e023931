// Devices, and which images run on which of them. Pure but for the table of devices, which drivers fill.
#pragma once

#include <kpack/kpack.h>

#include <cstddef>
#include <cstdint>

#include "view.h"

namespace kpk {

struct Driver;

enum class Feature : uint8_t { kUnsupported, kOff, kOn };  // xnack, sramecc of an AMD device

// One device of one vendor. Filled once, then never changed or freed.
struct alignas(64) Device {
  const Driver *driver;
  uint64_t max_grid[3];
  uint64_t max_grid_threads_x;  // grid.x * block.x; AMD: 2^32 - 1
  uint32_t slot;                // unique among all devices of the process: index of per-device tables
  int32_t vendor;
  int32_t ordinal;  // the driver's
  // The above is read by every launch.
  uint32_t capability;  // CUDA: 10 * major + minor; AMD: 0
  Feature xnack;
  Feature sramecc;
  uint32_t max_threads;       // of a block
  uint32_t max_shared_bytes;  // of a block, with opt-in
  uint32_t max_registers;     // of a block; 0: not to be checked
  bool has_clusters;
  char arch[64];  // "sm_90", "gfx90a:sramecc+:xnack-"
  // What tuning asks for.
  uint32_t multiprocessors;  // or compute units; 0: the driver does not say
  uint64_t l2_bytes;         // 0: the driver does not say
};

constexpr uint32_t kMaxDevices = 64;       // of one driver
constexpr uint32_t kMaxDeviceSlots = 192;  // CUDA, HIP, dry

// Fills vendor, arch, capability and features from "sm_90" or "gfx90a:sramecc+:xnack-", the multiprocessors if
// there are some ("sm_90/132"), and the limits that all devices of the vendor have. False if `text` is neither.
bool describe_arch(const char *text, Device *device);

// How far from ideal an image for `target` is on `device`: 0 exact; the smaller the better; -1 it does
// not run there. The order: exact with features, exact, family (AMD: a generic processor, with features first),
// same major, PTX; among two of a kind the one made for the newer processor.
int distance(const kpk_abi_target &target, const Device &device);

constexpr uint32_t kNoImage = UINT32_MAX;
// Index of the best image of `variant` for `device`, or kNoImage.
uint32_t best_image(const KernelView &view, const kpk_abi_variant &variant, const Device &device);
// Of the best one that is not as good as image `than`; among equals they go by index.
uint32_t next_image(const KernelView &view, const kpk_abi_variant &variant, const Device &device,
                    uint32_t than);

}  // namespace kpk
