// The launch, in order: state, device, overload, checks, variant, image, grid, parameter block, driver.
// After the first launch of a variant on a device it takes no lock and allocates nothing.

#include "call.h"
#include "describe.h"
#include "driver.h"
#include "expr.h"
#include "message.h"
#include "module.h"
#include "select.h"

namespace kpk {
namespace {

// No variant may run: says why, by the first of three reasons that explains it all.
kpk_status refuse_variant(const KernelView &view, const kpk_abi_overload &overload, const DeviceState &device,
                          const Call &call) {
  uint32_t with_image = 0;
  for (uint32_t v = 0; v < view.variants.size(); ++v) with_image += device.images[v] != kNoImage;
  Text why = message();
  if (with_image == 0) {
    why.add("%s: no image for %s; this archive has ", view.name(), device.device->arch);
    add_targets(view, &why);
    return KPK_ERROR_NO_IMAGE;
  }
  why.add("%s: no variant may run this call on %s", view.name(), device.device->arch);
  add_reasons(view, overload, call, *device.device, &why);
  return KPK_ERROR_NO_VARIANT;
}

kpk_status refuse_grid(const KernelView &view, int axis, const char *why, int64_t value, uint64_t most) {
  return fail(KPK_ERROR_GRID, "%s: grid %s: axis %c is %lld, %s (at most %llu)", view.name(),
              text(view.kernel->grid_text), "xyz"[axis], static_cast<long long>(value), why,
              static_cast<unsigned long long>(most));
}

// Fills `grid`; `*empty` if there is nothing to launch.
kpk_status compute_grid(const KernelView &view, const kpk_abi_overload &overload,
                        const kpk_abi_variant &variant, const kpk_abi_image &image, const Device &device,
                        const Call &call, uint32_t *grid, bool *empty) {
  const ExprInput input{call.args, view.types(overload), follow<kpk_value>(variant.constexprs)};
  *empty = false;
  for (int axis = 0; axis < 3; ++axis) {
    int64_t value = 1;
    if (variant.grid[axis] != 0) {
      ExprError error;
      value = evaluate(view.exprs + variant.grid[axis], input, &error);
      if (error != ExprError::kNone) {
        return fail(KPK_ERROR_GRID, "%s: grid %s: axis %c fails: %s", view.name(),
                    text(view.kernel->grid_text), "xyz"[axis], expr_error_text(error));
      }
    }
    const uint64_t most = device.max_grid[axis];
    if (value < 0) return refuse_grid(view, axis, "expected 0 or more", value, most);
    if (static_cast<uint64_t>(value) > most)
      return refuse_grid(view, axis, "more than the device takes", value, most);
    *empty = *empty || value == 0;
    grid[axis] = static_cast<uint32_t>(value);
  }
  const uint64_t block = static_cast<uint64_t>(image.num_warps) * image.warp_size;
  if (grid[0] * block > device.max_grid_threads_x) {
    return refuse_grid(view, 0, "more threads than the device takes", grid[0],
                       device.max_grid_threads_x / block);
  }
  return KPK_OK;
}

kpk_status launch_on(KernelState &state, DeviceState &device, void *stream, const kpk_arg *args,
                     uint32_t count, uint64_t signature) {
  const KernelView &view = state.view;
  uint32_t index = state.overload.load(std::memory_order_relaxed);
  const uint32_t looked_first = index;
  if (const kpk_status status = find_overload(view, args, count, signature, &index)) return status;
  if (index != looked_first) state.overload.store(index, std::memory_order_relaxed);

  static const kpk_arg none = {};
  if (count == 0) args = &none;  // a kernel without parameters may be called with null
  const kpk_abi_overload &overload = view.overloads[index];
  Call call{args, count, 0, 0, 0};
  const ParamCheck *checks = state.checks + static_cast<size_t>(index) * count;
  if (const kpk_status status = check_arguments(view, checks, &call)) return status;

  const Candidate *first = device.candidates + device.first_candidate[index];
  const Candidate *last = device.candidates + device.first_candidate[index + 1];
  const uint32_t chosen = select(view, overload, first, last, call);
  if (chosen == kNoVariant) return refuse_variant(view, overload, device, call);
  const kpk_abi_variant &variant = view.variants[chosen];
  const kpk_abi_image &image = view.images[device.images[chosen]];

  uint32_t grid[3];
  bool empty;
  if (const kpk_status status =
          compute_grid(view, overload, variant, image, *device.device, call, grid, &empty)) {
    return status;
  }
  if (empty) return device.device->driver->skip(*device.device, view.name());

  const Function *function = nullptr;
  void *context = device.device->driver->context();
  if (const kpk_status status = function_of(state, device, chosen, context, &function)) return status;

  // 128: what a tensor map asks for; nothing in a parameter block asks for more.
  auto *params = static_cast<unsigned char *>(__builtin_alloca_with_align(image.param_bytes + 1, 128 * 8));
  pack_arguments(image, call, params);
  const LaunchRequest request{
      &view, device.device, &variant, &image, function, args, {grid[0], grid[1], grid[2]}, stream, params};
  return device.device->driver->launch(request);
}

}  // namespace
}  // namespace kpk

extern "C" {

kpk_status kpk_launch(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args, uint32_t count,
                      uint64_t signature) {
  kpk::KernelState *state = nullptr;
  if (const kpk_status status = kpk::kernel_state(*kernel, &state)) return status;
  const char *name = state->view.name();

  kpk_status status = KPK_OK;
  const kpk::Device *device = kpk::dry_device(&state->view, &status);
  if (status != KPK_OK) return status;
  if (device == nullptr) {
    const kpk::Driver *driver = nullptr;
    if (const kpk_status failed = kpk::driver_of(stream, name, &driver)) return failed;
    if (const kpk_status failed = driver->device_of(stream.handle, name, &device)) return failed;
  }
  kpk::DeviceState *on = nullptr;
  if (const kpk_status failed = kpk::device_state(*state, *device, &on)) return failed;
  if (signature == 0) signature = kpk_signature(args, count);
  return kpk::launch_on(*state, *on, stream.handle, args, count, signature);
}

kpk_status kpk_bind(const kpk_kernel *kernel, kpk_device device, kpk_bound *out) {
  *out = kpk_bound{};
  kpk::KernelState *state = nullptr;
  if (const kpk_status status = kpk::kernel_state(*kernel, &state)) return status;
  kpk_status status = KPK_OK;
  const kpk::Device *found = kpk::dry_device(&state->view, &status);
  if (status != KPK_OK) return status;
  if (found == nullptr) {
    found =
        device.vendor == KPK_VENDOR_HIP ? kpk::hip_device(device.ordinal) : kpk::cuda_device(device.ordinal);
  }
  if (found == nullptr) {
    return kpk::fail(KPK_ERROR_NO_DEVICE, "%s: bind: expected one of %d %s devices, got ordinal %d",
                     state->view.name(), kpk_device_count(device.vendor),
                     device.vendor == KPK_VENDOR_HIP ? "HIP" : "CUDA", device.ordinal);
  }
  kpk::DeviceState *on = nullptr;
  if (const kpk_status failed = kpk::device_state(*state, *found, &on)) return failed;
  *out = {kernel, on, {found->vendor, found->ordinal}};
  return KPK_OK;
}

kpk_status kpk_launch_bound(const kpk_bound *bound, void *stream, const kpk_arg *args, uint32_t count,
                            uint64_t signature) {
  if (bound->state == nullptr)
    return kpk::fail(KPK_ERROR_ARGUMENT, "launch: the kernel was never bound: kpk_bind failed");
  kpk::KernelState *state = nullptr;
  if (const kpk_status status = kpk::kernel_state(*bound->kernel, &state)) return status;
  if (signature == 0) signature = kpk_signature(args, count);
  return kpk::launch_on(*state, *static_cast<kpk::DeviceState *>(bound->state), stream, args, count,
                        signature);
}

uint64_t kpk_signature(const kpk_arg *args, uint32_t count) {
  uint64_t hash = KPK_SIGNATURE_SEED;
  for (uint32_t i = 0; i < count; ++i) hash = (hash ^ KPK_CLASS(args[i].type)) * KPK_SIGNATURE_PRIME;
  return hash;
}

kpk_status kpk_unload(const kpk_kernel *kernel) {
  kpk::forget(*kernel);
  return KPK_OK;
}

}  // extern "C"
