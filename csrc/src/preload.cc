// Loading before the first launch, and giving everything back: what a program does around its launches.

#include <fnmatch.h>

#include "describe.h"
#include "launch.h"
#include "message.h"
#include "module.h"

namespace kpk {
namespace {

// What is asked for. Names of a pack's variants start with that of their kernel.
struct Wish {
  kpk_device device;
  const char *pattern;  // null: everything
  bool in_pack;
};

bool matches(const KernelView &view, const kpk_abi_variant &variant, const Wish &wish) {
  if (wish.pattern == nullptr) return true;
  char name[1024];
  Text(name, sizeof name)
      .add("%s%s%s", wish.in_pack ? view.name() : "", wish.in_pack ? "." : "", text(variant.name));
  return fnmatch(wish.pattern, name, 0) == 0;
}

kpk_status preload_overload(const DeviceState &device, uint64_t context, Choices &choices, const Wish &wish,
                            uint32_t *loaded) {
  const KernelView &view = device.kernel->view;
  for (uint32_t c = 0; c < choices.count; ++c) {
    Candidate &candidate = choices.candidates[c];
    if (!matches(view, view.variants[candidate.variant], wish)) continue;
    const Function *function = nullptr;
    if (const kpk_status status = function_of(device, candidate, context, &function)) return status;
    ++*loaded;
  }
  return KPK_OK;
}

// `*images`: how many variants of the kernel have one for the device.
kpk_status preload(const kpk_kernel &kernel, const Wish &wish, uint32_t *loaded, uint32_t *images) {
  KernelState *state = nullptr;
  if (const kpk_status status = kernel_state(kernel, &state)) return status;
  const KernelView &view = state->view;
  const Device *on = nullptr;
  uint64_t context = 0;
  if (const kpk_status status = find_device(view, "preload", wish.device, &on)) return status;
  if (const kpk_status status = on->driver->context_of(*on, view.name(), &context)) return status;
  DeviceState *device = nullptr;
  if (const kpk_status status = device_state(*state, *on, &device)) return status;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    Choices &choices = *device->overloads[k];
    *images += choices.count;
    if (const kpk_status status = preload_overload(*device, context, choices, wish, loaded)) return status;
  }
  if (*images != 0 || wish.in_pack) return KPK_OK;
  Text why = message();
  add_no_image(view, *on, &why);
  return KPK_ERROR_NO_IMAGE;
}

}  // namespace
}  // namespace kpk

extern "C" {

kpk_status kpk_preload(const kpk_kernel *kernel, kpk_device device, const char *pattern, uint32_t *loaded) {
  uint32_t count = 0, images = 0;
  const kpk_status status = kernel == nullptr
                                ? kpk::refuse_null("kpk_preload", "a kernel")
                                : kpk::preload(*kernel, {device, pattern, false}, &count, &images);
  if (loaded != nullptr) *loaded = count;
  return status;
}

kpk_status kpk_preload_pack(const kpk_pack *pack, kpk_device device, const char *pattern, uint32_t *loaded) {
  uint32_t count = 0, images = 0;
  kpk_status status = pack == nullptr ? kpk::refuse_null("kpk_preload_pack", "a pack") : KPK_OK;
  const uint32_t kernels = status == KPK_OK ? kpk_pack_size(pack) : 0;
  for (uint32_t i = 0; i < kernels && status == KPK_OK; ++i)
    status = kpk::preload(*kpk_pack_kernel(pack, i), {device, pattern, true}, &count, &images);
  if (loaded != nullptr) *loaded = count;
  return status;
}

kpk_status kpk_unload_pack(const kpk_pack *pack) {
  kpk_status status = KPK_OK;
  const uint32_t kernels = pack == nullptr ? 0 : kpk_pack_size(pack);
  for (uint32_t i = 0; i < kernels; ++i) {
    const kpk_status one = kpk_unload(kpk_pack_kernel(pack, i));
    if (status == KPK_OK) status = one;
  }
  return status;
}

}  // extern "C"
