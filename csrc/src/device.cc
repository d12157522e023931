#include "device.h"

#include <cstdlib>
#include <cstring>

namespace kpk {
namespace {

// AMD e_flags, code object v4 and later (LLVM AMDGPUUsage, "ELF Header").
constexpr uint32_t kXnackMask = 0x300, kXnackOff = 0x200, kXnackOn = 0x300;
constexpr uint32_t kSrameccMask = 0xc00, kSrameccOff = 0x800, kSrameccOn = 0xc00;

Feature feature(const char *arch, const char *name) {
  const char *found = std::strstr(arch, name);
  if (found == nullptr) return Feature::kUnsupported;
  return found[std::strlen(name)] == '+' ? Feature::kOn : Feature::kOff;
}

// Does an object built with `bits` run where the feature is as the device has it? "Any" and
// "unsupported" run everywhere; on and off must match. `exact` counts what matched by name.
bool feature_fits(uint32_t bits, uint32_t off, uint32_t on, Feature device, int *exact) {
  if (bits != off && bits != on) return true;
  ++*exact;
  return device == (bits == on ? Feature::kOn : Feature::kOff);
}

int cuda_distance(const kpk_abi_target &target, uint32_t capability) {
  const int behind = static_cast<int>(capability) - static_cast<int>(target.arch);
  const bool same_major = target.arch / 10 == capability / 10;
  switch (target.reach) {
    case KPK_REACH_EXACT: return behind == 0 ? 0 : -1;
    case KPK_REACH_FAMILY: return same_major && behind >= 0 ? 10 + behind : -1;
    case KPK_REACH_MAJOR: return same_major && behind >= 0 ? 100 + behind : -1;
    case KPK_REACH_FORWARD: return behind >= 0 ? 1000 + behind : -1;
    default: return -1;
  }
}

int hip_distance(const kpk_abi_target &target, const Device &device) {
  const char *processor = text(target.processor);
  const size_t length = std::strcspn(device.arch, ":");
  if (std::strlen(processor) != length || std::strncmp(processor, device.arch, length) != 0) return -1;
  int exact = 0;
  const uint32_t flags = target.elf_flags;
  if (!feature_fits(flags & kXnackMask, kXnackOff, kXnackOn, device.xnack, &exact)) return -1;
  if (!feature_fits(flags & kSrameccMask, kSrameccOff, kSrameccOn, device.sramecc, &exact)) return -1;
  return 2 - exact;
}

// Where an image comes among those of its variant.
struct Rank {
  int distance;
  uint32_t index;
};
bool operator<(const Rank &a, const Rank &b) {
  return a.distance != b.distance ? a.distance < b.distance : a.index < b.index;
}

// Index of the first image behind `than`, or kNoImage.
uint32_t first_image(const KernelView &view, const kpk_abi_variant &variant, const Device &device,
                     const Rank &than) {
  Rank best = {INT32_MAX, kNoImage};
  for (uint32_t i = variant.first_image; i < variant.first_image + variant.image_count; ++i) {
    const Rank rank = {distance(view.target(view.images[i]), device), i};
    if (rank.distance >= 0 && than < rank && rank < best) best = rank;
  }
  return best.index;
}

}  // namespace

bool describe_arch(const char *arch, Device *device) {
  const size_t length = std::strlen(arch);
  if (length >= sizeof device->arch) return false;
  std::memcpy(device->arch, arch, length + 1);
  device->max_threads = 1024;
  if (std::strncmp(arch, "sm_", 3) == 0 || std::strncmp(arch, "ptx_", 4) == 0) {
    char *end = nullptr;
    const unsigned long number = std::strtoul(std::strchr(arch, '_') + 1, &end, 10);
    if (number < 10 || number > 999 || (*end != '\0' && std::strlen(end) != 1)) return false;
    device->vendor = KPK_VENDOR_CUDA;
    device->capability = static_cast<uint32_t>(number);
    device->max_shared_bytes = number == 75                                    ? 65536
                               : number == 80 || number == 87                  ? 166912
                               : number == 86 || number == 89 || number >= 120 ? 101376
                                                                               : 232448;
    device->max_registers = 65536;
    device->has_clusters = number >= 90;
    device->max_grid[0] = INT32_MAX;
    device->max_grid[1] = device->max_grid[2] = 65535;
    device->max_grid_threads_x = UINT64_MAX;
    return true;
  }
  if (std::strncmp(arch, "gfx", 3) != 0 || length < 6) return false;
  device->vendor = KPK_VENDOR_HIP;
  device->xnack = feature(arch, "xnack");
  device->sramecc = feature(arch, "sramecc");
  device->max_shared_bytes = std::strncmp(arch, "gfx950", 6) == 0 ? 163840 : 65536;
  // max_registers stays 0: the compiler has kept to what a block of .max_flat_workgroup_size threads may have.
  device->has_clusters = std::strncmp(arch, "gfx125", 6) == 0;
  device->max_grid[0] = INT32_MAX;
  device->max_grid[1] = device->max_grid[2] = 65536;
  device->max_grid_threads_x = UINT32_MAX;
  return true;
}

int distance(const kpk_abi_target &target, const Device &device) {
  if (target.vendor != device.vendor) return -1;
  return device.vendor == KPK_VENDOR_CUDA ? cuda_distance(target, device.capability)
                                          : hip_distance(target, device);
}

uint32_t best_image(const KernelView &view, const kpk_abi_variant &variant, const Device &device) {
  return first_image(view, variant, device, {-1, 0});
}

uint32_t next_image(const KernelView &view, const kpk_abi_variant &variant, const Device &device,
                    uint32_t than) {
  return first_image(view, variant, device, {distance(view.target(view.images[than]), device), than});
}

}  // namespace kpk
