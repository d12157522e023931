#include "cuda_context.h"

#include <atomic>

#include "lock.h"
#include "message.h"

namespace kpk::cuda {
namespace {

constexpr uint32_t kMaxContexts = 256;  // contexts past these cost a second query a launch
struct alignas(64) KnownContexts {
  std::atomic<uint32_t> count;
  struct {
    std::atomic<uint64_t> id;
    const Device *device;
  } known[kMaxContexts];
};
KnownContexts g_contexts;
Mutex g_contexts_mutex;

void remember_context(uint64_t id, const Device *device) {
  const Lock lock(g_contexts_mutex);
  const uint32_t count = g_contexts.count.load(std::memory_order_relaxed);
  if (count == kMaxContexts || device_of_context(id) != nullptr) return;
  g_contexts.known[count].device = device;
  g_contexts.known[count].id.store(id, std::memory_order_relaxed);
  g_contexts.count.store(count + 1, std::memory_order_release);
}

// The primary context of device 0, retained once, for all threads, for the life of the process.
CUresult first_primary(void **out) {
  static std::atomic<void *> primary{nullptr};
  *out = primary.load(std::memory_order_acquire);
  if (*out != nullptr) return kSuccess;
  if (const CUresult code = g_api.primary_retain(out, 0)) return code;
  if (primary.exchange(*out, std::memory_order_acq_rel) != nullptr) g_api.primary_release(0);
  return kSuccess;
}

// A thread without a context gets one as the CUDA runtime would give it: the stream's, or the primary
// context of device 0. It stays current.
kpk_status adopt_context(void *stream, const char *kernel) {
  void *context = nullptr;
  const bool any = is_default_stream(stream);
  CUresult code = any ? first_primary(&context) : g_api.stream_get_ctx(stream, &context);
  if (code != kSuccess) return failed(kernel, any ? "cuDevicePrimaryCtxRetain" : "cuStreamGetCtx", code);
  code = g_api.ctx_set_current(context);
  return code == kSuccess ? KPK_OK : failed(kernel, "cuCtxSetCurrent", code);
}

kpk_status current_device(const char *kernel, const Device **out) {
  CUdevice device = 0;
  if (const CUresult code = g_api.ctx_get_device(&device)) return failed(kernel, "cuCtxGetDevice", code);
  *out = cuda_device(device);
  if (*out != nullptr) return KPK_OK;
  return fail(KPK_ERROR_NO_DEVICE, "%s: expected a device below %d, the current context is of device %d",
              kernel, cuda_device_count(), device);
}

}  // namespace

const Device *device_of_context(uint64_t id) {
  const uint32_t count = g_contexts.count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    if (g_contexts.known[i].id.load(std::memory_order_relaxed) == id) return g_contexts.known[i].device;
  }
  return nullptr;
}

CUresult id_of(void *context, uint64_t *id) {
  if (g_api.has_library) {
    unsigned long long native = 0;
    const CUresult code = g_api.ctx_get_id(context, &native);
    *id = native + 1;
    return code;
  }
  CUresult code = kSuccess;
  if (context == nullptr) code = g_api.ctx_get_current(&context);
  *id = reinterpret_cast<uintptr_t>(context);
  return code == kSuccess && context == nullptr ? kInvalidContext : code;
}

kpk_status place_of(void *stream, const char *kernel, Place *out) {
  CUresult code = id_of(nullptr, &out->context);
  if (code == kInvalidContext || code == kNotInitialized) {
    if (const kpk_status status = adopt_context(stream, kernel)) return status;
    code = id_of(nullptr, &out->context);
  }
  if (code != kSuccess) return failed(kernel, "cuCtxGetId", code);
  out->device = g_api.has_library ? device_of_context(out->context) : nullptr;
  if (out->device != nullptr) return KPK_OK;
  if (const kpk_status status = current_device(kernel, &out->device)) return status;
  if (g_api.has_library) remember_context(out->context, out->device);
  return KPK_OK;
}

kpk_status context_of(const Device &device, const char *kernel, uint64_t *context) {
  const Device *current = nullptr;
  if (id_of(nullptr, context) == kSuccess && current_device(kernel, &current) == KPK_OK &&
      current == &device) {
    return KPK_OK;
  }
  void *primary = nullptr;
  if (const CUresult code = g_api.primary_retain(&primary, device.ordinal)) {
    return failed(kernel, "cuDevicePrimaryCtxRetain", code);
  }
  const CUresult code = id_of(primary, context);
  g_api.primary_release(device.ordinal);  // who launches keeps it, as for a bare launch
  return code == kSuccess ? KPK_OK : failed(kernel, "cuCtxGetId", code);
}

}  // namespace kpk::cuda
