// Handles: a kernel bound to a device, and pinned to a variant of it.

#include <cstdint>
#include <cstring>

#include "describe.h"
#include "expr.h"
#include "fallback.h"
#include "launch.h"
#include "message.h"
#include "tensor.h"

namespace kpk {
namespace {

kpk_status device_to_bind(const KernelView &view, kpk_device device, Place *out) {
  out->context = 0;
  if (const kpk_status status = find_device(view, "bind", device, &out->device)) return status;
  return out->device->driver->context_of(*out->device, view.name(), &out->context);
}

DeviceState &state_of(const kpk_bound &bound) { return *static_cast<DeviceState *>(bound.state); }

kpk_status check_bound(const char *call, const kpk_bound *bound, const kpk_arg *args, uint32_t count) {
  if (bound == nullptr || bound->state == nullptr)
    return fail(KPK_ERROR_ARGUMENT, "%s: expected a bound kernel, got one whose kpk_bind failed", call);
  if (args == nullptr && count != 0) return refuse_null(call, "arguments");
  return KPK_OK;
}

// The function of a pinned handle.
kpk_status pinned(const char *call, const kpk_bound *bound, const Function **out) {
  if (bound == nullptr || bound->function == nullptr) {
    return fail(KPK_ERROR_ARGUMENT,
                "%s: expected a handle pinned to a variant (kpk_bind_call), got one that is not", call);
  }
  *out = static_cast<const Function *>(bound->function);
  return KPK_OK;
}

[[gnu::cold]] kpk_status refuse_pinned(const Function &function, const kpk_abi_overload &overload,
                                       const Call &call) {
  Text why = message();
  why.add("%s: the handle is pinned to %s, which may not run this call", function.plan.view->name(),
          text(function.plan.variant->name));
  add_reasons(*function.plan.view, overload, call, *function.plan.device, &why);
  return KPK_ERROR_NO_VARIANT;
}

// Checks a call of a pinned function: is it of its overload, and may the variant run it?
kpk_status check_pinned(const DeviceState &device, const Function &function, const kpk_arg *args,
                        uint32_t count, uint64_t signature, Chosen *out) {
  const KernelView &view = *function.plan.view;
  const kpk_abi_variant &variant = *function.plan.variant;
  uint32_t index = variant.overload;
  if (signature == 0) signature = kpk_signature(args, count);
  if (const kpk_status status = find_overload(view, args, count, signature, &index)) return status;
  const Choices &choices = *device.overloads[index];
  *out = {};
  out->function = &function;
  out->call = {some(args, count), count, 0, 0, 0};
  out->terms.why = Terms::kPinned;
  if (index != variant.overload) return refuse_pinned(function, view.overloads[index], out->call);
  if (const kpk_status status = check_arguments(view, *choices.overload, choices.checks, true, &out->call))
    return status;
  ExprError error;
  if (judge(view, *choices.overload, variant, 0, out->call, &error) == Verdict::kEligible) return KPK_OK;
  return refuse_pinned(function, *choices.overload, out->call);
}

kpk_status refuse_vendor(const DeviceState &device) {
  return fail(KPK_ERROR_STREAM,
              "%s: expected a stream of %s, to which it is bound, got one of the other vendor",
              device.kernel->view.name(), device.device->arch);
}

// The driver refused the handle's function. Without a context, or with one that is gone, its words say it best.
kpk_status refuse_elsewhere(const DeviceState &device) {
  constexpr int kInvalidContext = 201, kContextDestroyed = 709;
  const int code = kpk_driver_code();
  if (code == kInvalidContext || code == kContextDestroyed) return KPK_ERROR_DRIVER;
  return fail(
      KPK_ERROR_STREAM,
      "%s: expected a stream of the context of %s (device %d) to which it is bound, got one of another",
      device.kernel->view.name(), device.device->arch, device.device->ordinal);
}

// A call unlike the one before.
[[gnu::noinline]] kpk_status launch_anew(const kpk_bound &bound, void *stream, const kpk_arg *args,
                                         uint32_t count, uint64_t signature) {
  DeviceState &device = state_of(bound);
  Chosen chosen;
  const auto *function = static_cast<const Function *>(bound.function);
  if (const kpk_status status =
          function != nullptr ? check_pinned(device, *function, args, count, signature, &chosen)
                              : choose_for(device, bound.context, stream, args, count, signature, &chosen)) {
    return or_fall_back(status, device, stream, args, count);
  }
  const bool known = device.last.load(std::memory_order_relaxed) == chosen.function;
  device.last.store(chosen.function, std::memory_order_release);
  return launch_chosen(chosen, stream, known, function != nullptr ? nullptr : &device.shortcut);
}

bool is_of(const kpk_stream &stream, const kpk_bound &bound) {
  return stream.vendor == KPK_VENDOR_ANY || stream.vendor == bound.device.vendor;
}

// The shortcut that was taken last, if this launch can take it; otherwise null.
inline const Shortcut *last_taken(const kpk_bound &bound, const kpk_stream &stream) {
  const DeviceState &device = state_of(bound);
  const auto *pinned_to = static_cast<const Function *>(bound.function);
  const Shortcut *shortcut =
      (pinned_to != nullptr ? pinned_to->pinned : device.shortcut).load(std::memory_order_acquire);
  if (shortcut == nullptr || !is_plain() || !is_of(stream, bound)) return nullptr;
  const Plan *plan = shortcut->plan;
  return plan != nullptr && plan->context == bound.context ? shortcut : nullptr;
}

// What was launched last through such a handle, if it can be launched again; otherwise null.
const Function *last_launched(const kpk_bound &bound, const kpk_stream &stream) {
  const auto *last = static_cast<const Function *>(bound.function);
  if (last == nullptr) last = state_of(bound).last.load(std::memory_order_acquire);
  const bool good = last != nullptr && last->plan.context == bound.context && is_plain();
  return good && is_of(stream, bound) ? last : nullptr;
}

// For a call of other types.
[[gnu::noinline]] const Shortcut *other_shortcut(const kpk_bound &bound, const kpk_stream &stream,
                                                 uint64_t types) {
  const Function *last = last_launched(bound, stream);
  if (last == nullptr) return nullptr;
  if (bound.function != nullptr) return find_pinned(*last, types);
  return keep(state_of(bound).shortcut, *last, find_shortcut(*last, types));
}

const Shortcut *other_shortcut(const kpk_bound &bound, const Function *last, const kpk_arg *args,
                               uint32_t count) {
  if (last == nullptr) return nullptr;
  if (bound.function != nullptr) return find_pinned(*last, args, count);
  return keep(state_of(bound).shortcut, *last, find_shortcut(*last, args, count));
}

// The last shortcut is none for this call, or there is something to say about the handle.
[[gnu::noinline]] kpk_status launch_otherwise(const kpk_bound &bound, kpk_stream stream, const kpk_arg *args,
                                              uint32_t count, uint64_t signature) {
  DeviceState &device = state_of(bound);
  // Dry runs are for all; a handle that was bound in one stays there.
  if (is_dry() && !is_dry_device(*device.device))
    return kpk_launch(bound.kernel, stream, args, count, signature);
  if (!is_of(stream, bound) && !is_dry_device(*device.device)) return refuse_vendor(device);
  const Function *last = last_launched(bound, stream);
  const Shortcut *tried = last_taken(bound, stream);
  const Shortcut *shortcut = other_shortcut(bound, last, args, count);
  kpk_status status;
  if (shortcut == nullptr ||
      ((shortcut == tried || !launch_args(*shortcut, stream.handle, args, count, &status)) &&
       !launch_args_beside(*shortcut, stream.handle, args, count, &status))) {
    status = launch_anew(bound, stream.handle, some(args, count), count, signature);
  }
  return status != kElsewhere ? status : refuse_elsewhere(device);
}

void describe(const Function &function, kpk_function *out) {
  const kpk_abi_image &image = *function.plan.image;
  *out = {function.plan.function,
          text(function.plan.variant->name),
          text(image.symbol),
          text(function.plan.view->target(image).name),
          {function.plan.block, 1, 1},
          {image.cluster[0], image.cluster[1], image.cluster[2]},
          image.shared_bytes,
          image.static_shared_bytes,
          image.registers,
          image.spill_bytes,
          image.local_bytes,
          image.max_threads,
          image.param_bytes,
          image.flags};
}

kpk_status check_room(const Function &function, const void *params, size_t bytes) {
  const char *symbol = text(function.plan.image->symbol);
  const kpk_abi_image &image = *function.plan.image;
  if (image.global_scratch_bytes != 0 || image.profile_scratch_bytes != 0) {
    return fail(KPK_ERROR_UNSUPPORTED,
                "%s: needs scratch memory, which lives in a stream: launch it, or capture the launch",
                symbol);
  }
  if (params == nullptr || bytes < image.param_bytes || reinterpret_cast<uintptr_t>(params) % 128 != 0) {
    return fail(KPK_ERROR_ARGUMENT,
                "%s: expected room for %u bytes of parameters at a multiple of 128, got %zu at %p", symbol,
                image.param_bytes, bytes, params);
  }
  return KPK_OK;
}

kpk_status fill_node(const Chosen &chosen, void *params, kpk_node *out) {
  const Plan &plan = chosen.function->plan;
  LaunchRequest request{&plan, chosen.call.args, {}, nullptr, static_cast<unsigned char *>(params)};
  bool empty;
  if (const kpk_status status = fill_grid(plan, chosen.call, request.grid, &empty)) return status;
  if (empty) {
    return fail(KPK_ERROR_GRID,
                "%s: expected a grid with something in it, got an empty one: leave the node out",
                plan.view->name());
  }
  std::memset(params, 0, plan.param_bytes);
  fill_params(plan, chosen.call.args, request.params);
  if (plan.tensors) {
    if (const kpk_status status = fill_tensors(request)) return status;
  }
  *out = {plan.function,
          {request.grid[0], request.grid[1], request.grid[2]},
          {plan.block, 1, 1},
          plan.shared_bytes,
          0,
          params,
          plan.param_bytes};
  return KPK_OK;
}

}  // namespace
}  // namespace kpk

extern "C" {

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

kpk_status kpk_bind_call(const kpk_kernel *kernel, kpk_device device, const kpk_arg *args, uint32_t count,
                         uint64_t signature, kpk_bound *out) {
  if (args == nullptr && count != 0) return kpk::refuse_null("kpk_bind_call", "arguments");
  if (const kpk_status status = kpk_bind(kernel, device, out)) return status;
  kpk::Chosen chosen;
  const kpk_status status = kpk::choose(kpk::state_of(*out), out->context, args, count, signature, &chosen);
  if (status != KPK_OK) return *out = kpk_bound{}, status;
  out->function = chosen.function;
  return KPK_OK;
}

kpk_status kpk_launch_bound(const kpk_bound *bound, kpk_stream stream, const kpk_arg *args, uint32_t count,
                            uint64_t signature) {
  if (const kpk_status status = kpk::check_bound("kpk_launch_bound", bound, args, count)) return status;
  const kpk::Shortcut *shortcut = kpk::last_taken(*bound, stream);
  kpk_status status;
  if (shortcut == nullptr || !kpk::launch_args(*shortcut, stream.handle, args, count, &status))
    return kpk::launch_otherwise(*bound, stream, args, count, signature);
  return status != kpk::kElsewhere ? status : kpk::refuse_elsewhere(kpk::state_of(*bound));
}

kpk_status kpk_launch_bound_packed(const kpk_bound *bound, kpk_stream stream, const kpk_packed *call) {
  if (bound == nullptr || call == nullptr)
    return kpk::refuse_null("kpk_launch_bound_packed", "a handle and a call");
  if (bound->state == nullptr) return KPK_UNPACK;
  const kpk::Shortcut *shortcut = kpk::last_taken(*bound, stream);
  if (shortcut == nullptr || shortcut->types != call->types) {
    shortcut = kpk::other_shortcut(*bound, stream, call->types);
    if (shortcut == nullptr) return KPK_UNPACK;
  }
  kpk_status status;
  if (!kpk::launch_packed(*shortcut, stream.handle, *call, &status))
    return kpk::launch_packed_beside(*shortcut, stream.handle, *call);
  return status != kpk::kElsewhere ? status : KPK_UNPACK;
}

kpk_status kpk_launch_bound_args(const kpk_bound *bound, kpk_stream stream, const kpk_arg *args,
                                 uint32_t count, uint64_t signature, uint64_t types) {
  if (const kpk_status status = kpk::check_bound("kpk_launch_bound_args", bound, args, count)) return status;
  const kpk::Shortcut *tried = kpk::last_taken(*bound, stream);
  if (types == 0 || tried == nullptr || tried->types != types)
    return kpk_launch_bound(bound, stream, args, count, signature);
  return kpk::launch_otherwise(*bound, stream, args, count, signature);
}

kpk_status kpk_launch_bound_call_args(const kpk_bound *bound, kpk_stream stream, const kpk_call *call,
                                      uint64_t types) {
  const kpk_arg *args = call->args;
  if (const kpk_status status = kpk::check_bound("kpk_launch_bound_call", bound, args, call->count))
    return status;
  if (const kpk_status status = kpk::check_count(*bound->kernel, *call)) return status;
  return kpk_launch_bound_args(bound, stream, args, call->count, 0, types);
}

kpk_status kpk_bound_function(const kpk_bound *bound, kpk_function *out) {
  if (out == nullptr) return kpk::refuse_null("kpk_bound_function", "room for the answer");
  const kpk::Function *function = nullptr;
  if (const kpk_status status = kpk::pinned("kpk_bound_function", bound, &function)) return status;
  kpk::describe(*function, out);
  return KPK_OK;
}

kpk_status kpk_bound_occupancy(const kpk_bound *bound, int *blocks, int *clusters) {
  if (blocks == nullptr || clusters == nullptr)
    return kpk::refuse_null("kpk_bound_occupancy", "room for the answer");
  *blocks = *clusters = 0;
  const kpk::Function *function = nullptr;
  if (const kpk_status status = kpk::pinned("kpk_bound_occupancy", bound, &function)) return status;
  return function->plan.device->driver->occupancy(*function->plan.device, function->plan,
                                                  kpk::text(function->plan.image->symbol), blocks, clusters);
}

kpk_status kpk_bound_node(const kpk_bound *bound, const kpk_arg *args, uint32_t count, uint64_t signature,
                          void *params, size_t bytes, kpk_node *out) {
  if (out == nullptr) return kpk::refuse_null("kpk_bound_node", "room for the node");
  if (const kpk_status status = kpk::check_bound("kpk_bound_node", bound, args, count)) return status;
  const kpk::Function *function = nullptr;
  if (const kpk_status status = kpk::pinned("kpk_bound_node", bound, &function)) return status;
  if (const kpk_status status = kpk::check_room(*function, params, bytes)) return status;
  kpk::Chosen chosen;
  if (const kpk_status status =
          kpk::check_pinned(kpk::state_of(*bound), *function, args, count, signature, &chosen)) {
    return status;
  }
  const kpk_status status = kpk::fill_node(chosen, params, out);
  return status != kpk::kElsewhere ? status : kpk::refuse_elsewhere(kpk::state_of(*bound));
}

}  // extern "C"
