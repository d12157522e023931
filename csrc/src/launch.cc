// The launch, in order: state, device, overload, checks, variant, image, grid, parameter block, driver.
// After the first launch of a variant on a device it takes no lock and allocates nothing.

#include <cstring>

#include "call.h"
#include "describe.h"
#include "driver.h"
#include "expr.h"
#include "message.h"
#include "module.h"
#include "observe.h"
#include "scratch.h"
#include "select.h"
#include "tensor.h"

namespace kpk {
namespace {

// No variant may run: says why, by the first of two reasons that explains it all.
[[gnu::cold]] kpk_status refuse_variant(const DeviceState &device, const Choices &choices, const Call &call) {
  const KernelView &view = device.kernel->view;
  uint32_t with_image = 0;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) with_image += device.overloads[k]->count;
  Text why = message();
  if (with_image == 0) {
    why.add("%s: no image for %s; this archive has ", view.name(), device.device->arch);
    add_targets(view, &why);
    return KPK_ERROR_NO_IMAGE;
  }
  why.add("%s: no variant may run this call on %s", view.name(), device.device->arch);
  add_reasons(view, *choices.overload, call, *device.device, &why);
  return KPK_ERROR_NO_VARIANT;
}

// The call is not of the overload that the last one was of: finds its own.
[[gnu::noinline]] kpk_status other_overload(const DeviceState &device, const kpk_arg *args, uint32_t count,
                                            uint64_t signature, uint32_t looked_first, Choices **out) {
  KernelState &state = *device.kernel;
  uint32_t index = looked_first;
  if (signature == 0 && count == state.view.params.size()) signature = kpk_signature(args, count);
  if (const kpk_status status = find_overload(state.view, args, count, signature, &index)) return status;
  if (index != looked_first) state.overload.store(index, std::memory_order_relaxed);
  *out = device.overloads[index];
  return KPK_OK;
}

// What an image asks for beyond a plain launch.
[[gnu::noinline]] kpk_status launch_special(const LaunchRequest &request) {
  const kpk_abi_image &image = *request.plan->image;
  if (image.tensordescs.count != 0) {
    if (const kpk_status status = fill_tensors(request)) return status;
  }
  if (image.global_scratch_bytes != 0 || image.profile_scratch_bytes != 0)
    return launch_with_scratch(request);
  return request.device->driver->launch(request);
}

kpk_status launch_filled(const LaunchRequest &request) {
  return request.plan->special ? launch_special(request) : request.device->driver->launch(request);
}

kpk_status launch_on(DeviceState &device, uint64_t context, void *stream, const kpk_arg *args, uint32_t count,
                     uint64_t signature) {
  const KernelView &view = device.kernel->view;
  const uint32_t index = device.kernel->overload.load(std::memory_order_relaxed);
  Choices *choices = device.overloads[index];
  if (choices->signature != signature || choices->param_count != count ||
      (choices->has_selected && !selects(view, *choices->overload, args))) {
    if (const kpk_status status = other_overload(device, args, count, signature, index, &choices))
      return status;
  }

  static const kpk_arg none = {};
  if (count == 0) args = &none;  // a kernel without parameters may be called with null
  Call call{args, count, 0, 0, 0};
  if (const kpk_status status =
          check_arguments(view, *choices->overload, choices->checks, choices->ones_and_nulls, &call)) {
    return status;
  }

  Candidate *candidate = select(view, *choices, call);
  if (candidate == nullptr) return refuse_variant(device, *choices, call);

  const Function *function = nullptr;
  if (const kpk_status status = function_of(device, *candidate, context, &function)) return status;
  if (device.last.load(std::memory_order_relaxed) != function)
    device.last.store(function, std::memory_order_relaxed);
  const Plan &plan = function->plan;

  LaunchRequest request{&view, device.device, &plan, args, {}, stream, nullptr};
  bool empty;
  if (const kpk_status status =
          fill_grid(view, plan, *choices->overload, *device.device, call, request.grid, &empty)) {
    return status;
  }
  const Driver *driver = device.device->driver;
  if (empty) return driver->skip(*device.device, view.name());

  // 128: what a tensor map asks for; nothing in a parameter block asks for more.
  request.params = static_cast<unsigned char *>(__builtin_alloca_with_align(plan.param_bytes + 1, 128 * 8));
  fill_params(plan, args, request.params);
  if (g_switches.watched.load(std::memory_order_relaxed)) return watch_launch(request, launch_filled);
  return launch_filled(request);
}

[[gnu::cold]] kpk_status refuse_null(const char *call, const char *what) {
  return fail(KPK_ERROR_ARGUMENT, "%s: expected %s, got null", call, what);
}

kpk_status place_of(const KernelView &view, const kpk_stream &stream, Place *out) {
  if (is_dry()) {
    out->context = 0;
    return dry_device(view, &out->device);
  }
  const Driver *driver = nullptr;
  if (const kpk_status status = driver_of(stream, view.name(), &driver)) return status;
  return driver->place_of(stream.handle, view.name(), out);
}

kpk_status device_to_bind(const KernelView &view, kpk_device device, Place *out) {
  out->context = 0;
  if (is_dry()) return dry_device(view, &out->device);
  const bool hip = device.vendor == KPK_VENDOR_HIP;
  if (!hip && device.vendor != KPK_VENDOR_CUDA) {
    return fail(KPK_ERROR_NO_DEVICE, "%s: bind: expected KPK_VENDOR_CUDA or KPK_VENDOR_HIP, got vendor %d",
                view.name(), device.vendor);
  }
  out->device = hip ? hip_device(device.ordinal) : cuda_device(device.ordinal);
  if (out->device == nullptr) {
    return fail(KPK_ERROR_NO_DEVICE, "%s: bind: expected one of %d %s devices, got ordinal %d", view.name(),
                kpk_device_count(device.vendor), hip ? "HIP" : "CUDA", device.ordinal);
  }
  return out->device->driver->context_of(*out->device, view.name(), &out->context);
}

}  // namespace
}  // namespace kpk

extern "C" {

kpk_status kpk_launch(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args, uint32_t count,
                      uint64_t signature) {
  if (kernel == nullptr) return kpk::refuse_null("kpk_launch", "a kernel");
  if (args == nullptr && count != 0) return kpk::refuse_null("kpk_launch", "arguments");
  kpk::KernelState *state = nullptr;
  if (const kpk_status status = kpk::kernel_state(*kernel, &state)) return status;
  kpk::DeviceState *last = state->last.load(std::memory_order_acquire);
  if (last != nullptr) kpk::prefetch(*last, state->overload.load(std::memory_order_relaxed));
  kpk::Place place;
  if (const kpk_status status = kpk::place_of(state->view, stream, &place)) return status;
  kpk::DeviceState *on = nullptr;
  if (const kpk_status status = kpk::device_state(*state, *place.device, &on)) return status;
  if (on != last) state->last.store(on, std::memory_order_release);
  return kpk::launch_on(*on, place.context, stream.handle, args, count, signature);
}

kpk_status kpk_bind(const kpk_kernel *kernel, kpk_device device, kpk_bound *out) {
  if (out == nullptr) return kpk::refuse_null("kpk_bind", "room for the handle");
  *out = kpk_bound{};
  if (kernel == nullptr) return kpk::refuse_null("kpk_bind", "a kernel");
  kpk::KernelState *state = nullptr;
  if (const kpk_status status = kpk::kernel_state(*kernel, &state)) return status;
  kpk::Place place;
  if (const kpk_status status = kpk::device_to_bind(state->view, device, &place)) return status;
  kpk::DeviceState *on = nullptr;
  if (const kpk_status status = kpk::device_state(*state, *place.device, &on)) return status;
  *out = {kernel, on, nullptr, place.context, {place.device->vendor, place.device->ordinal}};
  return KPK_OK;
}

kpk_status kpk_launch_bound(const kpk_bound *bound, kpk_stream stream, const kpk_arg *args, uint32_t count,
                            uint64_t signature) {
  if (bound == nullptr || bound->state == nullptr) {
    return kpk::fail(KPK_ERROR_ARGUMENT,
                     "kpk_launch_bound: expected a bound kernel, got one whose kpk_bind failed");
  }
  if (args == nullptr && count != 0) return kpk::refuse_null("kpk_launch_bound", "arguments");
  auto &on = *static_cast<kpk::DeviceState *>(bound->state);
  kpk::prefetch(on, on.kernel->overload.load(std::memory_order_relaxed));
  if (stream.vendor != KPK_VENDOR_ANY && stream.vendor != on.device->vendor && !kpk::is_dry()) {
    return kpk::fail(KPK_ERROR_STREAM,
                     "%s: expected a stream of %s, to which it is bound, got one of the other vendor",
                     on.kernel->view.name(), on.device->arch);
  }
  return kpk::launch_on(on, bound->context, stream.handle, args, count, signature);
}

uint64_t kpk_signature(const kpk_arg *args, uint32_t count) {
  uint64_t hash = KPK_SIGNATURE_SEED;
  for (uint32_t i = 0; i < count; ++i) hash = (hash ^ KPK_CLASS(args[i].type)) * KPK_SIGNATURE_PRIME;
  return hash;
}

kpk_status kpk_unload(const kpk_kernel *kernel) { return kernel == nullptr ? KPK_OK : kpk::forget(*kernel); }

}  // extern "C"
