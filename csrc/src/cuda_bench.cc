// NVIDIA: what a search asks for.

#include "cuda_api.h"
#include "cuda_context.h"
#include "message.h"

namespace kpk::cuda {
namespace {

constexpr int kRelaxed = 2;        // CU_STREAM_CAPTURE_MODE_RELAXED
constexpr unsigned kSpinning = 0;  // CU_EVENT_DEFAULT: who waits for it wakes at once

kpk_status said(CUresult code, const char *subject, const char *call) {
  return code == kSuccess ? KPK_OK : failed(subject, call, code);
}

kpk_status enter(const Device &device, uint64_t context, const char *subject, Bench::Before *before) {
  if (!g_api.has_bench) return fail(KPK_ERROR_UNSUPPORTED, "%s: this driver measures nothing", subject);
  *before = {nullptr, 0, kRelaxed, false, false};
  if (const kpk_status status = enter_context(device, context, subject, &before->context, &before->changed)) {
    return status;
  }
  before->relaxed = g_api.exchange_capture_mode != nullptr &&
                    g_api.exchange_capture_mode(&before->capture_mode) == kSuccess;
  return KPK_OK;
}

void leave(const Bench::Before &before) {
  int mode = before.capture_mode;
  if (before.relaxed) g_api.exchange_capture_mode(&mode);
  if (before.changed) g_api.ctx_set_current(before.context);
}

kpk_status capturing(void *stream, const char *subject, bool *out) {
  int state = 0;
  const CUresult code = g_api.stream_capturing(stream, &state);
  *out = code == kCaptureImplicit || state != 0;
  return *out ? KPK_OK : said(code, subject, "cuStreamIsCapturing");
}

kpk_status free_bytes(const char *subject, uint64_t *out) {
  size_t free = 0, total = 0;
  const CUresult code = g_api.mem_info(&free, &total);
  *out = free;
  return said(code, subject, "cuMemGetInfo");
}

kpk_status allocate(uint64_t bytes, const char *subject, uint64_t *address) {
  const CUresult code = g_api.mem_alloc(address, bytes);
  if (code != kOutOfMemory) return said(code, subject, "cuMemAlloc");
  return fail(KPK_ERROR_MEMORY, "%s: the device has no %llu bytes", subject,
              static_cast<unsigned long long>(bytes));
}

void release(uint64_t address) { g_api.mem_free(address); }

kpk_status copy(uint64_t to, uint64_t from, uint64_t bytes, void *stream, const char *subject) {
  return said(g_api.copy_dtod(to, from, bytes, stream), subject, "cuMemcpyDtoDAsync");
}

kpk_status wait(void *stream, const char *subject) {
  return said(g_api.stream_synchronize(stream), subject, "cuStreamSynchronize");
}

kpk_status read(void *to, uint64_t from, uint64_t bytes, void *stream, const char *subject) {
  const CUresult code = g_api.copy_dtoh(to, from, bytes, stream);
  return code == kSuccess ? wait(stream, subject) : failed(subject, "cuMemcpyDtoHAsync", code);
}

kpk_status write(uint64_t to, const void *from, uint64_t bytes, void *stream, const char *subject) {
  const CUresult code = g_api.copy_htod(to, from, bytes, stream);
  return code == kSuccess ? wait(stream, subject) : failed(subject, "cuMemcpyHtoDAsync", code);
}

kpk_status fill(uint64_t to, uint8_t value, uint64_t bytes, void *stream, const char *subject) {
  return said(g_api.memset_async(to, value, bytes, stream), subject, "cuMemsetD8Async");
}

kpk_status create_event(const char *subject, void **event) {
  return said(g_api.event_create(event, kSpinning), subject, "cuEventCreate");
}

void destroy_event(void *event) { g_api.event_destroy(event); }

kpk_status record(void *event, void *stream, const char *subject) {
  return said(g_api.event_record(event, stream), subject, "cuEventRecord");
}

bool reached(void *event) { return g_api.event_query(event) == kSuccess; }

kpk_status elapsed_us(void *begin, void *end, const char *subject, double *us) {
  float ms = 0;
  CUresult code = g_api.event_synchronize(end);
  if (code != kSuccess) return failed(subject, "cuEventSynchronize", code);
  code = g_api.event_elapsed(&ms, begin, end);
  *us = static_cast<double>(ms) * 1000;
  return said(code, subject, "cuEventElapsedTime");
}

}  // namespace

const Bench kBench = {enter, leave, capturing, free_bytes,   allocate,      release, copy,    read,
                      write, fill,  wait,      create_event, destroy_event, record,  reached, elapsed_us};

}  // namespace kpk::cuda
