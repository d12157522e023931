// AMD: what a search asks for.

#include "hip_api.h"
#include "message.h"

namespace kpk::hip {
namespace {

constexpr int kRelaxed = 2;                               // hipStreamCaptureModeRelaxed
constexpr int kToDevice = 1, kToHost = 2, kOnDevice = 3;  // hipMemcpyKind
constexpr hipError kNotReady = 600;

kpk_status said(hipError code, const char *subject, const char *call) {
  return code == kSuccess ? KPK_OK : failed(subject, call, code);
}

bool has_all() {
  const Api &api = g_api;
  return api.stream_capturing != nullptr && api.mem_info != nullptr && api.mem_alloc != nullptr &&
         api.mem_free != nullptr && api.copy_async != nullptr && api.memset_async != nullptr &&
         api.stream_synchronize != nullptr && api.event_create != nullptr && api.event_destroy != nullptr &&
         api.event_record != nullptr && api.event_query != nullptr && api.event_synchronize != nullptr &&
         api.event_elapsed != nullptr;
}

kpk_status enter(const Device &device, uint64_t, const char *subject, Bench::Before *before) {
  if (!has_all()) return fail(KPK_ERROR_UNSUPPORTED, "%s: this HIP measures nothing", subject);
  *before = {nullptr, 0, kRelaxed, false, false};
  if (const hipError code = g_api.get_device(&before->device)) return failed(subject, "hipGetDevice", code);
  if (before->device != device.ordinal) {
    if (const hipError code = g_api.set_device(device.ordinal)) return failed(subject, "hipSetDevice", code);
    before->changed = true;
  }
  before->relaxed = g_api.exchange_capture_mode != nullptr &&
                    g_api.exchange_capture_mode(&before->capture_mode) == kSuccess;
  return KPK_OK;
}

void leave(const Bench::Before &before) {
  int mode = before.capture_mode;
  if (before.relaxed) g_api.exchange_capture_mode(&mode);
  if (before.changed) g_api.set_device(before.device);
}

kpk_status capturing(void *stream, const char *subject, bool *out) {
  int state = 0;
  const hipError code = g_api.stream_capturing(stream, &state);
  *out = code == kCaptureImplicit || state != 0;
  if (!*out) return said(code, subject, "hipStreamIsCapturing");
  if (code != kSuccess) g_api.get_last_error();  // answered here: nobody else is to find it
  return KPK_OK;
}

kpk_status free_bytes(const char *subject, uint64_t *out) {
  size_t free = 0, total = 0;
  const hipError code = g_api.mem_info(&free, &total);
  *out = free;
  return said(code, subject, "hipMemGetInfo");
}

kpk_status allocate(uint64_t bytes, const char *subject, uint64_t *address) {
  const hipError code = g_api.mem_alloc(address, bytes);
  if (code != kOutOfMemory) return said(code, subject, "hipMalloc");
  g_api.get_last_error();
  return fail(KPK_ERROR_MEMORY, "%s: the device has no %llu bytes", subject,
              static_cast<unsigned long long>(bytes));
}

void release(uint64_t address) { g_api.mem_free(address); }

kpk_status wait(void *stream, const char *subject) {
  return said(g_api.stream_synchronize(stream), subject, "hipStreamSynchronize");
}

kpk_status copy(uint64_t to, uint64_t from, uint64_t bytes, void *stream, const char *subject) {
  return said(g_api.copy_async(to, from, bytes, kOnDevice, stream), subject, "hipMemcpyAsync");
}

kpk_status read(void *to, uint64_t from, uint64_t bytes, void *stream, const char *subject) {
  const hipError code = g_api.copy_async(reinterpret_cast<uintptr_t>(to), from, bytes, kToHost, stream);
  return code == kSuccess ? wait(stream, subject) : failed(subject, "hipMemcpyAsync", code);
}

kpk_status write(uint64_t to, const void *from, uint64_t bytes, void *stream, const char *subject) {
  const hipError code = g_api.copy_async(to, reinterpret_cast<uintptr_t>(from), bytes, kToDevice, stream);
  return code == kSuccess ? wait(stream, subject) : failed(subject, "hipMemcpyAsync", code);
}

kpk_status fill(uint64_t to, uint8_t value, uint64_t bytes, void *stream, const char *subject) {
  return said(g_api.memset_async(to, value, bytes, stream), subject, "hipMemsetAsync");
}

kpk_status create_event(const char *subject, void **event) {
  return said(g_api.event_create(event, 0), subject, "hipEventCreateWithFlags");
}

void destroy_event(void *event) { g_api.event_destroy(event); }

kpk_status record(void *event, void *stream, const char *subject) {
  return said(g_api.event_record(event, stream), subject, "hipEventRecord");
}

bool reached(void *event) {
  const hipError code = g_api.event_query(event);
  if (code == kNotReady) g_api.get_last_error();  // an answer, no error
  return code == kSuccess;
}

kpk_status elapsed_us(void *begin, void *end, const char *subject, double *us) {
  float ms = 0;
  hipError code = g_api.event_synchronize(end);
  if (code != kSuccess) return failed(subject, "hipEventSynchronize", code);
  code = g_api.event_elapsed(&ms, begin, end);
  *us = static_cast<double>(ms) * 1000;
  return said(code, subject, "hipEventElapsedTime");
}

}  // namespace

const Bench kBench = {enter, leave, capturing, free_bytes,   allocate,      release, copy,    read,
                      write, fill,  wait,      create_event, destroy_event, record,  reached, elapsed_us};

}  // namespace kpk::hip
