// What a search knows of each contender.
#pragma once

#include <cstdint>

#include "tune/host_array.h"
#include "tune/search.h"
#include "tune/timer.h"

namespace kpk {

constexpr uint32_t kMostSamples = 60;

struct Trial {
  enum State : uint8_t { kNew, kRunning, kPruned, kWrong, kFailed, kNotRun };
  State state;
  uint32_t samples;
  Pace pace;
  double first_us;          // the first run, once it was launched, about; 0: not run
  double estimate_us;       // of single runs, the shortest; 0: none
  double us[kMostSamples];  // ascending
  char reason[512];

  void add(double sample_us);
  // 0 where there are no samples. It is the mean of the middle two of an even number.
  double median_us() const;
  // Is the median as exact as anybody wants to know it? From the spread of the middle half.
  bool is_settled() const;
  // The median, or, where there are no samples, the estimate.
  double known_us() const { return samples != 0 ? median_us() : estimate_us; }
};

class Trials {
 public:
  bool allocate(uint32_t count) { return all_.allocate(count); }
  Trial &operator[](uint32_t i) { return all_[i]; }
  const Trial &operator[](uint32_t i) const { return all_[i]; }
  uint32_t size() const { return static_cast<uint32_t>(all_.size()); }
  Trial *begin() { return all_.begin(); }
  Trial *end() { return all_.end(); }
  const Trial *begin() const { return all_.begin(); }
  const Trial *end() const { return all_.end(); }

  uint32_t running() const;
  // The smallest of what is known of those that are running; 0: nothing.
  double best_us() const;
  // Gives those up that take longer than `factor` times the best.
  void prune(double factor);
  // The fastest: by medians where all that are running have one, else by estimates. kNone: none was timed.
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t fastest() const;

 private:
  HostArray<Trial> all_;
};

// Tells the request's sink of each, in order.
void report(const SearchRequest &request, const Trials &trials, uint32_t chosen);

}  // namespace kpk
