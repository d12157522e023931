// Which driver a stream belongs to, and the devices there are.

#include "driver.h"

#include "message.h"

namespace kpk {
namespace {

kpk_status no_driver(const char *kernel, const char *cuda, const char *hip) {
  return fail(KPK_ERROR_NO_DRIVER,
              "%s: no GPU driver: %s%s%s; KPACK_DRIVER=dry shows what would be launched without one", kernel,
              cuda == nullptr ? "" : cuda, cuda != nullptr && hip != nullptr ? ", " : "",
              hip == nullptr ? "" : hip);
}

}  // namespace

Switches g_switches;

kpk_status find_driver(int32_t vendor, const char *kernel, const Driver **driver) {
  if (vendor < KPK_VENDOR_ANY || vendor > KPK_VENDOR_HIP) {
    return fail(KPK_ERROR_STREAM, "%s: expected a stream's vendor to be KPK_VENDOR_..., got %d", kernel,
                vendor);
  }
  const char *no_cuda = nullptr, *no_hip = nullptr;
  const Driver *cuda = vendor == KPK_VENDOR_HIP ? nullptr : cuda_driver(&no_cuda);
  const Driver *hip = vendor == KPK_VENDOR_CUDA ? nullptr : hip_driver(&no_hip);
  if (cuda != nullptr && hip != nullptr) {
    return fail(
        KPK_ERROR_STREAM,
        "%s: expected a stream that says its vendor (CUstream, hipStream_t, kpack::Stream), got a bare one "
        "where both CUDA and HIP have devices",
        kernel);
  }
  *driver = cuda != nullptr ? cuda : hip;
  if (*driver == nullptr) return no_driver(kernel, no_cuda, no_hip);
  g_switches.drivers[vendor].store(*driver, std::memory_order_release);
  return KPK_OK;
}

kpk_status find_device(const KernelView &view, const char *call, kpk_device device, const Device **out) {
  if (is_dry()) return dry_device(view, out);
  const bool hip = device.vendor == KPK_VENDOR_HIP;
  if (!hip && device.vendor != KPK_VENDOR_CUDA) {
    return fail(KPK_ERROR_NO_DEVICE, "%s: %s: expected KPK_VENDOR_CUDA or KPK_VENDOR_HIP, got vendor %d",
                view.name(), call, device.vendor);
  }
  *out = hip ? hip_device(device.ordinal) : cuda_device(device.ordinal);
  if (*out != nullptr) return KPK_OK;
  return fail(KPK_ERROR_NO_DEVICE, "%s: %s: expected one of %d %s devices, got ordinal %d", view.name(), call,
              kpk_device_count(device.vendor), hip ? "HIP" : "CUDA", device.ordinal);
}

}  // namespace kpk

extern "C" {

int kpk_device_count(int32_t vendor) {
  if (vendor == KPK_VENDOR_CUDA) return kpk::cuda_device_count();
  if (vendor == KPK_VENDOR_HIP) return kpk::hip_device_count();
  return kpk::cuda_device_count() + kpk::hip_device_count();
}

const char *kpk_device_arch(kpk_device device) {
  const kpk::Device *found =
      device.vendor == KPK_VENDOR_HIP ? kpk::hip_device(device.ordinal) : kpk::cuda_device(device.ordinal);
  return found == nullptr ? nullptr : found->arch;
}

}  // extern "C"
