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

// The primary context of a device, retained once, for all threads, for the life of the process; once more if the
// device was reset since.
CUresult primary_of(CUdevice device, void **out) {
  static std::atomic<void *> primaries[kMaxDevices] =
      {};  // {}: or gcc guards it, which takes the C++ library
  std::atomic<void *> &primary = primaries[device];
  uint64_t id = 0;
  *out = primary.load(std::memory_order_acquire);
  if (*out != nullptr && id_of(*out, &id) == kSuccess) return kSuccess;
  if (const CUresult code = g_api.primary_retain(out, device)) return code;
  primary.store(*out, std::memory_order_release);
  return kSuccess;
}

kpk_status set_current(void *context, const char *kernel) {
  const CUresult code = g_api.ctx_set_current(context);
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
  if (g_api.has_ids) {
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

namespace {

// The thread's current context, which it has; `id` is its, or 0 where it is not known yet.
kpk_status current_place(const char *kernel, uint64_t id, Place *out) {
  const CUresult code = id != 0 ? kSuccess : id_of(nullptr, &id);
  if (code != kSuccess) return failed(kernel, g_api.has_ids ? "cuCtxGetId" : "cuCtxGetCurrent", code);
  out->context = id;
  out->device = g_api.has_ids ? device_of_context(out->context) : nullptr;
  if (out->device != nullptr) return KPK_OK;
  if (const kpk_status status = current_device(kernel, &out->device)) return status;
  if (g_api.has_ids) remember_context(out->context, out->device);
  return KPK_OK;
}

// The context that a stream launches in: for a default stream the current one, or, where the thread has none, as
// the CUDA runtime would have it, the primary context of device 0; where the device was reset, its new one.
CUresult context_of_stream(void *stream, void *current, void **out) {
  *out = current;
  if (!is_default_stream(stream)) return g_api.stream_get_ctx(stream, out);
  uint64_t id = 0;
  const CUresult code = current == nullptr ? kInvalidContext : id_of(nullptr, &id);
  if (code != kInvalidContext && code != kContextDestroyed) return code;
  CUdevice device = 0;
  if (code == kContextDestroyed) {
    if (const CUresult of = g_api.ctx_get_device(&device)) return of;
  }
  return primary_of(device, out);
}

// What `before` is where leave() has nothing to put back.
void *const kNothing = &g_contexts;

}  // namespace

kpk_status enter(void *stream, const char *kernel, Place *out, void **before) {
  *before = kNothing;
  void *current = nullptr, *context = nullptr;
  if (const CUresult code = g_api.ctx_get_current(&current)) return failed(kernel, "cuCtxGetCurrent", code);
  if (const CUresult code = context_of_stream(stream, current, &context)) {
    const char *call = is_default_stream(stream) ? "cuDevicePrimaryCtxRetain" : "cuStreamGetCtx";
    return failed(kernel, call, code);
  }
  uint64_t id = 0;
  if (context != current || id_of(nullptr, &id) != kSuccess) {
    if (const kpk_status status = set_current(context, kernel)) return status;
    // A thread without a context keeps the one it was given, as with the CUDA runtime.
    if (current != nullptr && current != context) *before = current;
    id = 0;
  }
  const kpk_status status = current_place(kernel, id, out);
  if (status != KPK_OK) leave(*before);
  return status;
}

kpk_status enter_context(const Device &device, uint64_t context, const char *subject, void **before,
                         bool *changed) {
  uint64_t id = 0;
  *changed = false;
  if (id_of(nullptr, &id) == kSuccess && id == context) return KPK_OK;
  void *primary = nullptr;
  if (g_api.ctx_get_current(before) != kSuccess) *before = nullptr;
  if (const CUresult code = primary_of(device.ordinal, &primary))
    return failed(subject, "cuDevicePrimaryCtxRetain", code);
  if (id_of(primary, &id) != kSuccess || id != context) {
    return fail(KPK_ERROR_STREAM,
                "%s: expected the context that it is bound to to be current, or the primary one of %s",
                subject, device.arch);
  }
  *changed = true;
  return set_current(primary, subject);
}

void leave(void *before) {
  if (before != kNothing) g_api.ctx_set_current(before);
}

// Modules of old drivers are gone with their context, functions and all.
bool asks() { return !g_api.has_ids; }

uint64_t here(void *) {
  uint64_t id = 0;
  return id_of(nullptr, &id) == kSuccess ? id : 0;
}

uint64_t place(const Device &, uint64_t context) { return context; }

kpk_status context_of(const Device &device, const char *kernel, uint64_t *context) {
  const Device *current = nullptr;
  if (id_of(nullptr, context) == kSuccess && current_device(kernel, &current) == KPK_OK &&
      current == &device) {
    return KPK_OK;
  }
  void *primary = nullptr;
  // It stays: what is loaded into it, and its id, would go with it.
  CUresult code = primary_of(device.ordinal, &primary);
  if (code != kSuccess) return failed(kernel, "cuDevicePrimaryCtxRetain", code);
  code = id_of(primary, context);
  return code == kSuccess ? KPK_OK : failed(kernel, "cuCtxGetId", code);
}

}  // namespace kpk::cuda
