// Where the memory comes from: a hook of the program, or the driver in the stream's order, so that it may be
// reused as soon as the launch has run, and a graph captures it with the launch.

#include "scratch.h"

#include <cstring>

#include "message.h"

namespace kpk {
namespace {

constexpr uint32_t kKinds = 2;
constexpr uint64_t kDriverAlign = 256;  // what every driver's memory is aligned to
constexpr const char *kNames[kKinds] = {"global", "profile"};

// By kind; `allocate` null: from the driver. Changed while nobody launches.
kpk_scratch_hook g_hooks[kKinds];

// Memory that was got for a launch.
struct Scratch {
  uint64_t address;  // as it was got; 0: none
  uint64_t bytes;
};

kpk_stream stream_of(const LaunchRequest &request) {
  return {request.stream, request.plan->device->vendor, 0};
}
kpk_device device_of(const Device &device) { return {device.vendor, device.ordinal}; }

uint64_t align_up(uint64_t address, uint64_t align) { return (address + align - 1) / align * align; }

// How many pieces of scratch memory the launch needs. Its grid counts blocks, also where the kernel's own grid
// counts clusters; false if there are too many to count.
bool count_pieces(const LaunchRequest &request, uint64_t *out) {
  const kpk_abi_image &image = *request.plan->image;
  uint64_t count = 1;
  for (const uint32_t blocks : request.grid) {
    if (__builtin_mul_overflow(count, uint64_t{blocks}, &count)) return false;
  }
  constexpr uint32_t how = KPK_IMAGE_SCRATCH_PER_CTA | KPK_IMAGE_GRID_TIMES_CLUSTER;
  const bool by_element = (image.flags & how) == KPK_IMAGE_GRID_TIMES_CLUSTER;
  *out = by_element ? count / (image.cluster[0] * image.cluster[1] * image.cluster[2]) : count;
  return true;
}

kpk_status from_hook(const LaunchRequest &request, const ScratchNeed &need, Scratch *out) {
  const kpk_scratch_hook &hook = g_hooks[need.kind];
  const char *symbol = text(request.plan->image->symbol);
  const kpk_device device = device_of(*request.plan->device);
  const auto bytes = static_cast<unsigned long long>(need.bytes);
  out->bytes = need.bytes;
  out->address = hook.allocate(hook.user, device, stream_of(request), need.bytes, need.align);
  if (out->address == 0) {
    return fail(KPK_ERROR_MEMORY, "%s: expected %llu bytes of %s scratch memory from the hook, got none",
                symbol, bytes, kNames[need.kind]);
  }
  if (out->address % need.align == 0) return KPK_OK;
  return fail(KPK_ERROR_MEMORY,
              "%s: expected %s scratch memory from the hook at a multiple of %llu, got 0x%llx", symbol,
              kNames[need.kind], static_cast<unsigned long long>(need.align),
              static_cast<unsigned long long>(out->address));
}

kpk_status from_driver(const LaunchRequest &request, const ScratchNeed &need, Scratch *out) {
  const Driver &driver = *request.plan->device->driver;
  const char *symbol = text(request.plan->image->symbol);
  const uint64_t slack = kDriverAlign % need.align == 0 ? 0 : need.align - 1;
  if (__builtin_add_overflow(need.bytes, slack, &out->bytes)) {
    return fail(KPK_ERROR_MEMORY, "%s: needs more %s scratch memory for this grid than there are addresses",
                symbol, kNames[need.kind]);
  }
  const kpk_status status =
      driver.allocate(*request.plan->device, request.stream, out->bytes, symbol, &out->address);
  if (status != KPK_OK) out->address = 0;
  if (status != KPK_OK || need.kind != KPK_SCRATCH_PROFILE) return status;
  return driver.zero(request.stream, align_up(out->address, need.align), need.bytes, symbol);
}

// Memory of one kind, with its address in the parameter block. What was got goes back, also after a failure.
kpk_status get(const LaunchRequest &request, uint32_t kind, Scratch *out) {
  ScratchNeed need;
  if (const kpk_status status = scratch_need(request, kind, &need)) return status;
  if (need.each == 0) return KPK_OK;
  const bool hooked = g_hooks[kind].allocate != nullptr && !is_dry_device(*request.plan->device);
  if (const kpk_status status = hooked ? from_hook(request, need, out) : from_driver(request, need, out)) {
    return status;
  }
  const Plan &plan = *request.plan;
  const uint64_t aligned = align_up(out->address, need.align);
  const uint32_t at = kind == KPK_SCRATCH_GLOBAL ? plan.scratch_offset : plan.profile_scratch_offset;
  std::memcpy(request.params + at, &aligned, sizeof aligned);
  return KPK_OK;
}

kpk_status put_back(const LaunchRequest &request, uint32_t kind, const Scratch &scratch) {
  if (scratch.address == 0) return KPK_OK;
  const kpk_scratch_hook &hook = g_hooks[kind];
  if (hook.allocate == nullptr) {
    const char *symbol = text(request.plan->image->symbol);
    return request.plan->device->driver->give_back(request.stream, scratch.address, symbol);
  }
  hook.release(hook.user, device_of(*request.plan->device), stream_of(request), scratch.address,
               scratch.bytes);
  return KPK_OK;
}

// All of it, whatever happens to some; the first failure.
kpk_status put_all_back(const LaunchRequest &request, const Scratch *got) {
  kpk_status first = KPK_OK;
  for (uint32_t kind = kKinds; kind-- > 0;) {
    const kpk_status status = put_back(request, kind, got[kind]);
    if (first == KPK_OK) first = status;
  }
  return first;
}

}  // namespace

kpk_status scratch_need(const LaunchRequest &request, uint32_t kind, ScratchNeed *out) {
  const kpk_abi_image &image = *request.plan->image;
  const bool global = kind == KPK_SCRATCH_GLOBAL;
  const uint32_t align = global ? image.global_scratch_align : image.profile_scratch_align;
  *out = {kind, global ? image.global_scratch_bytes : image.profile_scratch_bytes, 0, 0,
          align == 0 ? 1 : align};
  if (out->each == 0) return KPK_OK;
  if (count_pieces(request, &out->count) &&
      !__builtin_mul_overflow(out->count, uint64_t{out->each}, &out->bytes)) {
    return KPK_OK;
  }
  return fail(KPK_ERROR_MEMORY, "%s: needs more %s scratch memory for this grid than there are addresses",
              text(image.symbol), kNames[kind]);
}

namespace {

// With the stream's context current.
kpk_status launch_in_place(const LaunchRequest &request) {
  Scratch got[kKinds] = {};
  kpk_status status = get(request, KPK_SCRATCH_GLOBAL, &got[KPK_SCRATCH_GLOBAL]);
  if (status == KPK_OK) status = get(request, KPK_SCRATCH_PROFILE, &got[KPK_SCRATCH_PROFILE]);
  if (status == KPK_OK) status = request.plan->device->driver->launch(request);
  if (status == KPK_OK) return put_all_back(request, got);
  const KeepMessage kept;  // the first failure is the one to tell of, and a hook may call kpack
  put_all_back(request, got);
  return status;
}

}  // namespace

// A plain launch finds out from the driver's refusal that it is in the wrong place. Memory is got before, and
// must be of the right device at once.
kpk_status launch_with_scratch(const LaunchRequest &request) {
  const Device &device = *request.plan->device;
  if (is_dry_device(device)) return launch_in_place(request);
  const char *symbol = text(request.plan->image->symbol);
  Place place = {};
  void *before = nullptr;
  if (const kpk_status status = device.driver->enter(request.stream, symbol, &place, &before)) return status;
  kpk_status status = kElsewhere;
  if (place.device == &device) {
    status = launch_in_place(request);
  } else {
    fail(KPK_ERROR_STREAM, "%s: expected a stream of device %d, got one of device %d", symbol, device.ordinal,
         place.device->ordinal);
  }
  device.driver->leave(before);
  return status;
}

}  // namespace kpk

extern "C" {

kpk_status kpk_set_scratch(uint32_t kind, const kpk_scratch_hook *hook) {
  if (kind >= kpk::kKinds) {
    return kpk::fail(KPK_ERROR_ARGUMENT, "kpk_set_scratch: expected KPK_SCRATCH_..., got kind %u", kind);
  }
  if (hook != nullptr && (hook->allocate == nullptr || hook->release == nullptr)) {
    return kpk::fail(KPK_ERROR_ARGUMENT, "kpk_set_scratch: expected allocate and release, got null for %s",
                     hook->allocate == nullptr ? "allocate" : "release");
  }
  kpk::g_hooks[kind] = hook == nullptr ? kpk_scratch_hook{} : *hook;
  return KPK_OK;
}

kpk_status kpk_reserve_scratch(kpk_device device, uint64_t bytes) {
  if (device.vendor != KPK_VENDOR_CUDA && device.vendor != KPK_VENDOR_HIP) {
    return kpk::fail(KPK_ERROR_NO_DEVICE,
                     "kpk_reserve_scratch: expected KPK_VENDOR_CUDA or KPK_VENDOR_HIP, got vendor %d",
                     device.vendor);
  }
  if (kpk::is_dry()) return KPK_OK;
  const bool hip = device.vendor == KPK_VENDOR_HIP;
  const kpk::Device *on = hip ? kpk::hip_device(device.ordinal) : kpk::cuda_device(device.ordinal);
  if (on != nullptr) return on->driver->reserve(*on, bytes);
  return kpk::fail(KPK_ERROR_NO_DEVICE, "kpk_reserve_scratch: expected one of %d %s devices, got ordinal %d",
                   kpk_device_count(device.vendor), hip ? "HIP" : "CUDA", device.ordinal);
}

}  // extern "C"
