// How long a contender takes, in the device's own time: between two events, with the caches flushed before, and with
// the host so far ahead that the device never waits for it.
#pragma once

#include <cstdint>

#include "tune/arena.h"
#include "tune/search.h"

namespace kpk {

// What a contender's samples need.
struct Pace {
  uint32_t fills;   // of the cache, in front of each sample; 0: not known yet
  bool host_bound;  // no lead is enough: it waits for the device itself, or takes long to launch
};

class Timer {
 public:
  Timer(const SearchRequest &request, Arena &arena)
      : request_(request), bench_(*request.device->driver->bench), arena_(arena) {}
  ~Timer();
  Timer(const Timer &) = delete;
  Timer &operator=(const Timer &) = delete;

  // What open() will allocate at least, bytes.
  uint64_t least_bytes() const;
  kpk_status open();

  // How a contender is measured.
  struct Way {
    uint32_t first_set;
    uint32_t launches;  // each in the next set, if there are so many
    bool warm;          // one launch more, before the clock starts: it takes code and its way into the caches
  };
  // How long a run takes, by so many. A failure is the contender's, or the driver's.
  kpk_status sample(const Contender &contender, const Way &way, Pace *pace, double *us);
  // Of a sample beside its runs, about.
  double flush_us() const { return flush_us_ * fills_; }
  // That is between two events with nothing in between.
  double overhead_us() const { return overhead_us_; }

 private:
  kpk_status flush(uint32_t fills);
  kpk_status measure_flush();
  kpk_status attempt(const Contender &contender, const Way &way, uint32_t fills, bool *late, double *us);
  kpk_status run(const Contender &contender, uint32_t set);

  const SearchRequest &request_;
  const Bench &bench_;
  Arena &arena_;
  void *begin_ = nullptr, *end_ = nullptr;  // events
  uint64_t cache_ = 0, cache_bytes_ = 0;    // what is filled to flush the cache
  uint32_t fills_ = 1;
  double flush_us_ = 0, overhead_us_ = 0;
};

}  // namespace kpk
