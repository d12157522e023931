#include "fallback.h"

namespace kpk {
namespace {

struct Fallback {
  kpk_fallback call;
  void *user;
};
Fallback g_fallback;  // not set while other threads launch

}  // namespace

kpk_status or_fall_back(kpk_status status, const DeviceState &device, void *stream, const kpk_arg *args,
                        uint32_t count) {
  const Fallback &fallback = g_fallback;
  if (status != KPK_ERROR_NO_IMAGE || fallback.call == nullptr) return status;
  const kpk_abi_kernel *kernel = device.kernel->view.kernel;
  const Device &on = *device.device;
  return fallback.call(fallback.user, kernel, {on.vendor, on.ordinal}, {stream, on.vendor, 0}, args, count);
}

}  // namespace kpk

extern "C" void kpk_set_fallback(kpk_fallback fallback, void *user) { kpk::g_fallback = {fallback, user}; }
