#include "device.h"

#include <cstdlib>
#include <cstring>

namespace kpk {
namespace {

// AMD e_flags, code object v4 and later (LLVM AMDGPUUsage, "ELF Header").
constexpr uint32_t kXnackMask = 0x300, kXnackOff = 0x200, kXnackOn = 0x300;
constexpr uint32_t kSrameccMask = 0xc00, kSrameccOff = 0x800, kSrameccOn = 0xc00;

// What code for a generic processor runs on: kpack/target.py has the same table. Code with features asks for them
// on each of these.
constexpr struct {
  const char *generic;
  const char *processors;  // a space before and behind each
} kGeneric[] = {
    {"gfx9-generic", " gfx900 gfx902 gfx904 gfx906 gfx909 gfx90c "},
    {"gfx9-4-generic", " gfx942 gfx950 "},
    {"gfx10-1-generic", " gfx1010 gfx1011 gfx1012 gfx1013 "},
    {"gfx10-3-generic", " gfx1030 gfx1031 gfx1032 gfx1033 gfx1034 gfx1035 gfx1036 "},
    {"gfx11-generic", " gfx1100 gfx1101 gfx1102 gfx1103 gfx1150 gfx1151 gfx1152 gfx1153 "},
    {"gfx12-generic", " gfx1200 gfx1201 "},
};

// The part of an arch's name before its features.
struct Processor {
  const char *name;
  size_t length;
};

bool is(const Processor &processor, const char *name) {
  return std::strlen(name) == processor.length && std::memcmp(name, processor.name, processor.length) == 0;
}

bool is_among(const Processor &processor, const char *list) {
  for (const char *at = list; *at != '\0'; ++at) {
    if (*at == ' ' && std::strncmp(at + 1, processor.name, processor.length) == 0 &&
        at[1 + processor.length] == ' ') {
      return true;
    }
  }
  return false;
}

bool stands_for(const char *generic, const Processor &processor) {
  for (const auto &each : kGeneric) {
    if (std::strcmp(each.generic, generic) == 0) return is_among(processor, each.processors);
  }
  return false;
}

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

// Of the kinds of nearness: what is of a later kind is farther, whatever the minor.
constexpr int kFamily = 10, kMajor = 100, kForward = 1000;
constexpr int kGenericDistance = 10;

int cuda_distance(const kpk_abi_target &target, uint32_t capability) {
  const int behind = static_cast<int>(capability) - static_cast<int>(target.arch);
  const bool same_major = target.arch / 10 == capability / 10;
  // PTX has to be compiled, so that machine code comes first however far it reaches.
  const int compiling = target.kind == KPK_IMAGE_PTX ? kForward : 0;
  switch (target.reach) {
    case KPK_REACH_EXACT: return behind == 0 ? compiling : -1;
    case KPK_REACH_FAMILY: return same_major && behind >= 0 ? compiling + kFamily + behind : -1;
    case KPK_REACH_MAJOR: return same_major && behind >= 0 ? compiling + kMajor + behind : -1;
    case KPK_REACH_FORWARD: return behind >= 0 ? kForward + kMajor + behind : -1;
    default: return -1;
  }
}

int hip_distance(const kpk_abi_target &target, const Device &device) {
  const Processor processor = {device.arch, std::strcspn(device.arch, ":")};
  const bool generic = target.reach == KPK_REACH_FAMILY;
  const char *wanted = text(target.processor);
  if (!(generic ? stands_for(wanted, processor) : is(processor, wanted))) return -1;
  int exact = 0;
  const uint32_t flags = target.elf_flags;
  if (!feature_fits(flags & kXnackMask, kXnackOff, kXnackOn, device.xnack, &exact)) return -1;
  if (!feature_fits(flags & kSrameccMask, kSrameccOff, kSrameccOn, device.sramecc, &exact)) return -1;
  return (generic ? kGenericDistance : 0) + 2 - exact;
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

// 1 to 9999; nothing else.
bool read_multiprocessors(const char *text, uint32_t *out) {
  const size_t digits = std::strspn(text, "0123456789");
  if (digits == 0 || digits > 4 || text[digits] != '\0') return false;
  *out = static_cast<uint32_t>(std::strtoul(text, nullptr, 10));
  return *out != 0;
}

}  // namespace

bool describe_arch(const char *text, Device *device) {
  const size_t length = std::strcspn(text, "/");
  if (length >= sizeof device->arch) return false;
  if (text[length] != '\0' && !read_multiprocessors(text + length + 1, &device->multiprocessors))
    return false;
  std::memcpy(device->arch, text, length);
  device->arch[length] = '\0';
  const char *arch = device->arch;
  device->max_threads = 1024;
  if (std::strncmp(arch, "sm_", 3) == 0 || std::strncmp(arch, "ptx_", 4) == 0) {
    char *end = nullptr;
    const unsigned long number = std::strtoul(std::strchr(arch, '_') + 1, &end, 10);
    if (number < 10 || number > 999 || (*end != '\0' && std::strlen(end) != 1)) return false;
    device->vendor = KPK_VENDOR_CUDA;
    device->capability = static_cast<uint32_t>(number);
    device->max_shared_bytes = number == 75                                    ? 65536
                               : number < 75                                   ? 98304
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
  const bool is_gfx125 = std::strncmp(arch, "gfx125", 6) == 0;
  device->max_shared_bytes = std::strncmp(arch, "gfx950", 6) == 0 ? 163840 : is_gfx125 ? 327680 : 65536;
  // max_registers stays 0: the compiler has kept to what a block of .max_flat_workgroup_size threads may have.
  device->has_clusters = is_gfx125;
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
