#include "tune/timer.h"

#include <initializer_list>

#include "message.h"

namespace kpk {
namespace {

constexpr uint64_t kL2Unknown = uint64_t{64} << 20;  // bytes
constexpr uint64_t kFlushBytes = uint64_t{256}
                                 << 20;  // that take a while, and are more than caches behind an L2
constexpr double kLeadUs = 80;           // what 16 launches take the host, and twice that
constexpr uint32_t kMostFills = 16;

}  // namespace

Timer::~Timer() {
  for (void *event : {begin_, end_}) {
    if (event != nullptr) bench_.destroy_event(event);
  }
  if (cache_ != 0) bench_.release(cache_);
}

uint64_t Timer::least_bytes() const {
  const uint64_t l2 = request_.device->l2_bytes;
  return 2 * (l2 == 0 ? kL2Unknown : l2);
}

kpk_status Timer::open() {
  uint64_t free = 0;
  if (const kpk_status status = bench_.free_bytes(request_.subject, &free)) return status;
  cache_bytes_ = least_bytes();
  if (cache_bytes_ < kFlushBytes && kFlushBytes <= free / 2) cache_bytes_ = kFlushBytes;
  if (const kpk_status status = bench_.allocate(cache_bytes_, request_.subject, &cache_)) {
    cache_ = 0;
    return status;
  }
  if (const kpk_status status = bench_.create_event(request_.subject, &begin_)) return status;
  if (const kpk_status status = bench_.create_event(request_.subject, &end_)) return status;
  return measure_flush();
}

kpk_status Timer::flush(uint32_t fills) {
  for (uint32_t i = 0; i < fills; ++i) {
    if (const kpk_status status = bench_.fill(cache_, 0, cache_bytes_, request_.stream, request_.subject)) {
      return status;
    }
  }
  return KPK_OK;
}

// How long a fill takes, when the device is awake, and how long nothing does.
kpk_status Timer::measure_flush() {
  for (const uint32_t fills : {1u, 0u}) {
    if (const kpk_status status = flush(1)) return status;
    if (const kpk_status status = bench_.record(begin_, request_.stream, request_.subject)) return status;
    if (const kpk_status status = flush(fills)) return status;
    if (const kpk_status status = bench_.record(end_, request_.stream, request_.subject)) return status;
    double *us = fills == 0 ? &overhead_us_ : &flush_us_;
    if (const kpk_status status = bench_.elapsed_us(begin_, end_, request_.subject, us)) return status;
  }
  while (fills_ < kMostFills && flush_us_ * fills_ < kLeadUs) ++fills_;
  return KPK_OK;
}

kpk_status Timer::run(const Contender &contender, uint32_t set) {
  const kpk_arg *args = arena_.args(set % arena_.sets());
  return contender.run(contender.self, request_.stream, args, request_.count);
}

kpk_status Timer::attempt(const Contender &contender, const Way &way, uint32_t fills, bool *late,
                          double *us) {
  const uint32_t end = way.first_set + way.launches + (way.warm ? 1 : 0);
  for (uint32_t i = way.first_set; arena_.renews() && i < end && i < way.first_set + arena_.sets(); ++i) {
    if (const kpk_status status = arena_.renew(i % arena_.sets())) return status;
  }
  if (const kpk_status status = flush(fills)) return status;
  message();  // a function that fails may say nothing
  if (way.warm) {
    if (const kpk_status status = run(contender, end - 1)) return status;
  }
  if (const kpk_status status = bench_.record(begin_, request_.stream, request_.subject)) return status;
  for (uint32_t i = 0; i < way.launches; ++i) {
    if (const kpk_status status = run(contender, way.first_set + i)) return status;
  }
  *late = bench_.reached(begin_);
  if (const kpk_status status = bench_.record(end_, request_.stream, request_.subject)) return status;
  const kpk_status status = bench_.elapsed_us(begin_, end_, request_.subject, us);
  *us /= way.launches;
  return status;
}

kpk_status Timer::sample(const Contender &contender, const Way &way, Pace *pace, double *us) {
  if (pace->fills == 0) pace->fills = fills_;
  for (;;) {
    bool late = false;
    if (const kpk_status status = attempt(contender, way, pace->fills, &late, us)) return status;
    if (!late || pace->host_bound) return KPK_OK;
    // The device may have waited for the host: once more, with a longer lead.
    if (pace->fills >= kMostFills) {
      *pace = {fills_, true};
      return KPK_OK;
    }
    pace->fills = pace->fills * 2 < kMostFills ? pace->fills * 2 : kMostFills;
  }
}

}  // namespace kpk
