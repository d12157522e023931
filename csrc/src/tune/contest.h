// The stages of a search.
#pragma once

#include <cstdint>

#include "tune/arena.h"
#include "tune/results.h"
#include "tune/search.h"
#include "tune/timer.h"
#include "tune/trials.h"

namespace kpk {

class Contest {
 public:
  // The budget counts from now on.
  Contest(const SearchRequest &request, Trials &trials);
  kpk_status run();

 private:
  bool exhaustive() const { return (request_.flags & KPK_TUNE_EXHAUSTIVE) != 0; }
  uint64_t spent_ns() const { return now_() - start_; }
  // Is there time for something that takes about so long?
  bool in_time(double us) const {
    const uint64_t spent = spent_ns();
    return spent < budget_ns_ && us * 1000 < static_cast<double>(budget_ns_ - spent);
  }
  bool warms_up(const Trial &trial) const;
  double sample_us(const Trial &trial) const {
    return trial.known_us() * (launches_ + (warms_up(trial) ? 1 : 0)) + timer_.flush_us();
  }

  // The first run of each, and what it wrote.
  kpk_status try_each();
  kpk_status try_first(uint32_t contender);
  kpk_status judge();
  kpk_status probe_each();
  kpk_status probe(uint32_t contender);
  kpk_status time_each();
  kpk_status sample(uint32_t contender, uint32_t round);
  uint32_t first_set(uint32_t round);
  void give_up(uint32_t contender, const char *reason);
  void give_up_untimed();
  // The contender failed, and the message, if there is one, says how. Not KPK_OK if the device can do nothing any more.
  kpk_status failed(uint32_t contender, kpk_status why);
  void choose_launches();

  const SearchRequest &request_;
  const Bench &bench_;
  Trials &trials_;
  Arena arena_;
  Timer timer_;
  Results results_;
  uint64_t (*now_)();
  uint64_t start_, budget_ns_;
  uint32_t launches_ = 1, samples_ = 0;
  bool out_of_time_ = false;
};

}  // namespace kpk
