// NVIDIA: memory that lives in a stream, and pools of it.

#include "cuda_scratch.h"

#include <atomic>

#include "cuda_api.h"
#include "message.h"
#include "pool.h"
#include "relaxed_capture.h"

namespace kpk::cuda {
namespace {

constexpr int kPinned = 1, kOnDevice = 1;  // CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE
constexpr int kReleaseThreshold = 4;       // CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
constexpr unsigned kNonBlocking = 1;       // CU_STREAM_NON_BLOCKING

PoolSlot g_pools[kMaxDevices];
// Whether the primary context of the device was retained for a pool: it then stays, since nobody says whether
// memory outlives the last context of its device.
std::atomic<bool> g_retained[kMaxDevices];

kpk_status refuse_old(const char *subject) {
  return fail(KPK_ERROR_LIMIT,
              "%s: needs stream-ordered memory, which drivers have from CUDA 11.2 on, this one is of %d.%d",
              subject, g_version / 1000, g_version % 1000 / 10);
}

// Makes a context of the device current while it lives, its primary one unless there is one already.
class OnDevice {
 public:
  explicit OnDevice(const Device &device) {
    CUdevice current = -1;
    if (g_api.ctx_get_device(&current) == kSuccess && current == device.ordinal) return;
    g_api.ctx_get_current(&before_);
    void *primary = nullptr;
    code_ = g_api.primary_retain(&primary, device.ordinal);
    if (code_ != kSuccess) return;
    if (g_retained[device.slot].exchange(true)) g_api.primary_release(device.ordinal);
    changed_ = g_api.ctx_set_current(primary) == kSuccess;
  }
  ~OnDevice() {
    if (changed_) g_api.ctx_set_current(before_);
  }
  OnDevice(const OnDevice &) = delete;
  OnDevice &operator=(const OnDevice &) = delete;
  CUresult code() const { return code_; }

 private:
  void *before_ = nullptr;
  CUresult code_ = kSuccess;
  bool changed_ = false;
};

kpk_status create_pool(const Device &device, void **out) {
  PoolProps props{};
  props.allocation_type = kPinned;
  props.location_type = kOnDevice;
  props.location = device.ordinal;
  CUresult code = g_api.pool_create(out, &props);
  if (code != kSuccess) return failed(device.arch, "cuMemPoolCreate", code);
  uint64_t never = UINT64_MAX;
  code = g_api.pool_set(*out, kReleaseThreshold, &never);
  if (code == kSuccess) return KPK_OK;
  g_api.pool_destroy(*out);
  return failed(device.arch, "cuMemPoolSetAttribute", code);
}

// Allocates once and gives it back: the pool keeps what it was given. Waited for, so that every stream may have
// it at once.
kpk_status fill_on(const Device &device, void *pool, size_t bytes, void *stream) {
  uint64_t address = 0;
  CUresult code = g_api.alloc_from_pool(&address, bytes, pool, stream);
  if (code != kSuccess) return failed(device.arch, "cuMemAllocFromPoolAsync", code);
  code = g_api.free_async(address, stream);
  if (code != kSuccess) return failed(device.arch, "cuMemFreeAsync", code);
  code = g_api.stream_synchronize(stream);
  return code == kSuccess ? KPK_OK : failed(device.arch, "cuStreamSynchronize", code);
}

// On a stream of its own: the default one may be out of bounds in a capture.
kpk_status fill_pool(const Device &device, void *pool, size_t bytes) {
  const OnDevice here(device);
  if (here.code() != kSuccess) return failed(device.arch, "cuDevicePrimaryCtxRetain", here.code());
  void *stream = nullptr;
  const CUresult code = g_api.stream_create(&stream, kNonBlocking);
  if (code != kSuccess) return failed(device.arch, "cuStreamCreate", code);
  const kpk_status status = fill_on(device, pool, bytes, stream);
  g_api.stream_destroy(stream);
  return status;
}

kpk_status destroy_pool(const Device &device, void *pool) {
  const CUresult code = g_api.pool_destroy(pool);
  return code == kSuccess ? KPK_OK : failed(device.arch, "cuMemPoolDestroy", code);
}

constexpr PoolDriver kPools = {create_pool, fill_pool, destroy_pool};

}  // namespace

kpk_status allocate(const Device &device, void *stream, size_t bytes, const char *symbol, uint64_t *address) {
  if (!g_api.has_memory) return refuse_old(symbol);
  const InUse pool(g_pools[device.slot]);
  const bool pooled = pool.native() != nullptr;
  const CUresult code = pooled ? g_api.alloc_from_pool(address, bytes, pool.native(), stream)
                               : g_api.alloc_async(address, bytes, stream);
  if (code == kSuccess) return KPK_OK;
  return failed(symbol, pooled ? "cuMemAllocFromPoolAsync" : "cuMemAllocAsync", code);
}

kpk_status give_back(void *stream, uint64_t address, const char *symbol) {
  const CUresult code = g_api.free_async(address, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "cuMemFreeAsync", code);
}

kpk_status zero(void *stream, uint64_t address, size_t bytes, const char *symbol) {
  const CUresult code = g_api.memset_async(address, 0, bytes, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "cuMemsetD8Async", code);
}

kpk_status reserve(const Device &device, size_t bytes) {
  if (!g_api.has_memory) return refuse_old(device.arch);
  const RelaxedCapture relaxed(g_api.exchange_capture_mode);
  return reserve_in(g_pools[device.slot], kPools, device, bytes);
}

}  // namespace kpk::cuda
