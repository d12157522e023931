// AMD: memory that lives in a stream, and pools of it.

#include "hip_scratch.h"

#include "hip_api.h"
#include "message.h"
#include "pool.h"
#include "relaxed_capture.h"

namespace kpk::hip {
namespace {

constexpr int kPinned = 1, kOnDevice = 1;  // hipMemAllocationTypePinned, hipMemLocationTypeDevice
constexpr int kReleaseThreshold = 4;       // hipMemPoolAttrReleaseThreshold
constexpr unsigned kNonBlocking = 1;       // hipStreamNonBlocking

PoolSlot g_pools[kMaxDevices];

PoolSlot &pool_of(const Device &device) { return g_pools[device.ordinal]; }

kpk_status refuse_old(const char *subject, const char *what) {
  return fail(KPK_ERROR_LIMIT, "%s: needs %s, which HIP has from ROCm 5.2 on", subject, what);
}

// Some releases allocate nothing in a capture.
kpk_status refused_allocation(const char *symbol, const char *call, hipError code) {
  if (code != kCaptureUnsupported) return failed(symbol, call, code);
  const kpk_status status =
      fail(KPK_ERROR_DRIVER,
           "%s: %s: %s (%d): expected a HIP that allocates scratch memory in a capture, "
           "got one that does not: give it some with kpk_set_scratch",
           symbol, call, g_api.error_name(code), code);
  set_driver_code(code);
  return status;
}

kpk_status create_pool(const Device &device, void **out) {
  PoolProps props{};
  props.allocation_type = kPinned;
  props.location_type = kOnDevice;
  props.location = device.ordinal;
  hipError code = g_api.pool_create(out, &props);
  if (code != kSuccess) return failed(device.arch, "hipMemPoolCreate", code);
  uint64_t never = UINT64_MAX;
  code = g_api.pool_set(*out, kReleaseThreshold, &never);
  if (code == kSuccess) return KPK_OK;
  g_api.pool_destroy(*out);
  return failed(device.arch, "hipMemPoolSetAttribute", code);
}

// Allocates once and gives it back: the pool keeps what it was given. Waited for, so that every stream may have
// it at once.
kpk_status fill_on(const Device &device, void *pool, size_t bytes, void *stream) {
  uint64_t address = 0;
  hipError code = g_api.malloc_from_pool(&address, bytes, pool, stream);
  if (code != kSuccess) return failed(device.arch, "hipMallocFromPoolAsync", code);
  code = g_api.free_async(address, stream);
  if (code != kSuccess) return failed(device.arch, "hipFreeAsync", code);
  code = g_api.stream_synchronize(stream);
  return code == kSuccess ? KPK_OK : failed(device.arch, "hipStreamSynchronize", code);
}

// On a stream of its own, with the device current.
kpk_status fill_here(const Device &device, void *pool, size_t bytes) {
  void *stream = nullptr;
  const hipError code = g_api.stream_create(&stream, kNonBlocking);
  if (code != kSuccess) return failed(device.arch, "hipStreamCreateWithFlags", code);
  const kpk_status status = fill_on(device, pool, bytes, stream);
  g_api.stream_destroy(stream);
  return status;
}

kpk_status fill_pool(const Device &device, void *pool, size_t bytes) {
  int before = 0;
  if (const hipError code = g_api.get_device(&before)) return failed(device.arch, "hipGetDevice", code);
  if (const hipError code = g_api.set_device(device.ordinal))
    return failed(device.arch, "hipSetDevice", code);
  const kpk_status status = fill_here(device, pool, bytes);
  g_api.set_device(before);
  return status;
}

kpk_status destroy_pool(const Device &device, void *pool) {
  const hipError code = g_api.pool_destroy(pool);
  return code == kSuccess ? KPK_OK : failed(device.arch, "hipMemPoolDestroy", code);
}

constexpr PoolDriver kPools = {create_pool, fill_pool, destroy_pool};

}  // namespace

kpk_status allocate(const Device &device, void *stream, size_t bytes, const char *symbol, uint64_t *address) {
  if (g_api.malloc_async == nullptr || g_api.free_async == nullptr) {
    return refuse_old(symbol, "stream-ordered memory");
  }
  const InUse pool(pool_of(device));
  const bool pooled = pool.native() != nullptr;
  const hipError code = pooled ? g_api.malloc_from_pool(address, bytes, pool.native(), stream)
                               : g_api.malloc_async(address, bytes, stream);
  if (code == kSuccess) return KPK_OK;
  return refused_allocation(symbol, pooled ? "hipMallocFromPoolAsync" : "hipMallocAsync", code);
}

kpk_status give_back(void *stream, uint64_t address, const char *symbol) {
  const hipError code = g_api.free_async(address, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "hipFreeAsync", code);
}

kpk_status zero(void *stream, uint64_t address, size_t bytes, const char *symbol) {
  if (g_api.memset_async == nullptr) return refuse_old(symbol, "hipMemsetAsync");
  const hipError code = g_api.memset_async(address, 0, bytes, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "hipMemsetAsync", code);
}

kpk_status reserve(const Device &device, size_t bytes) {
  if (g_api.pool_create == nullptr || g_api.pool_set == nullptr || g_api.pool_destroy == nullptr ||
      g_api.malloc_from_pool == nullptr || g_api.free_async == nullptr) {
    return refuse_old(device.arch, "pools of memory");
  }
  const RelaxedCapture relaxed(g_api.exchange_capture_mode);
  return reserve_in(pool_of(device), kPools, device, bytes);
}

}  // namespace kpk::hip
