#include "tune/contest.h"

#include <time.h>

#include "message.h"

namespace kpk {
namespace {

constexpr double kSampleUs = 50;        // that a sample lasts, if so many launches reach it
constexpr uint32_t kMostLaunches = 16;  // of a sample: each has its set
constexpr double kHopeless = 4;         // times the best, in a first run: not timed
constexpr double kCheapUs = 1000;       // a probe that is repeated
constexpr double kShortUs = 200;        // of what takes longer, a cold start is little
// After so many samples whoever takes longer than so many times the best is given up.
constexpr struct {
  uint32_t samples;
  double factor;
} kRounds[] = {{3, 1.5}, {8, 1.15}, {20, 1.04}};
constexpr uint32_t kEnoughAlone = 8;  // samples of the only one that is left

uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Contest::Contest(const SearchRequest &request, Trials &trials)
    : request_(request),
      bench_(*request.device->driver->bench),
      trials_(trials),
      arena_(request),
      timer_(request, arena_),
      results_(request, arena_),
      now_(request.now_ns == nullptr ? monotonic_ns : request.now_ns) {
  start_ = now_();
  budget_ns_ = request.budget_ns == 0 ? kDefaultBudgetNs : request.budget_ns;
}

kpk_status Contest::run() {
  // What the call reaches is known before a driver is asked for anything.
  if (const kpk_status status = arena_.plan()) return status;
  if (const kpk_status status = arena_.open(timer_.least_bytes())) return status;
  if (const kpk_status status = results_.open()) return status;
  if (const kpk_status status = timer_.open()) return status;
  // Each runs once on the same data: that loads it, and who fails, or has other results than the rest, is out.
  if (const kpk_status status = try_each()) return status;
  if (const kpk_status status = judge()) return status;
  // One launch of each tells the hopeless, and how many launches a sample takes.
  if (const kpk_status status = probe_each()) return status;
  // In turn, so that what changes with time changes for all; fewer and fewer of them.
  if (const kpk_status status = time_each()) return status;
  give_up_untimed();
  return KPK_OK;
}

// What warms up needs a set of its own, so that the others stay out of the cache.
bool Contest::warms_up(const Trial &trial) const {
  return trial.known_us() < kShortUs && (arena_.sets() > 1 || !arena_.has_copies());
}

void Contest::give_up(uint32_t contender, const char *reason) {
  trials_[contender].state = Trial::kNotRun;
  Text(trials_[contender].reason, sizeof trials_[contender].reason).add("%s", reason);
}

kpk_status Contest::failed(uint32_t contender, kpk_status why) {
  Trial &trial = trials_[contender];
  trial.state = Trial::kFailed;
  const int code = kpk_driver_code();
  Text(trial.reason, sizeof trial.reason)
      .add("%s", *kpk_message() != '\0' ? kpk_message() : kpk_status_name(why));
  // What a launch left behind is told once; what is told twice stays.
  if (bench_.wait(request_.stream, request_.subject) == KPK_OK) return KPK_OK;
  if (bench_.wait(request_.stream, request_.subject) == KPK_OK) return KPK_OK;
  const int still = kpk_driver_code();
  const kpk_status status =
      fail(KPK_ERROR_DRIVER,
           "%s: tuning: '%s' has left the device's context unusable, start the process again: %s",
           request_.subject, request_.contenders[contender].name, trial.reason);
  set_driver_code(code != 0 ? code : still);
  return status;
}

// The first run loads, and its results are what is compared.
kpk_status Contest::try_first(uint32_t contender) {
  Trial &trial = trials_[contender];
  const Contender &tried = request_.contenders[contender];
  if (const kpk_status status = arena_.fill(0)) return status;
  if (const kpk_status status = bench_.wait(request_.stream, request_.subject)) return status;
  if (request_.before != nullptr) request_.before(request_.user, contender);
  message();  // a function that fails may say nothing
  kpk_status status = tried.run(tried.self, request_.stream, arena_.args(0), request_.count);
  const uint64_t launched = now_();
  if (status == KPK_OK) status = bench_.wait(request_.stream, request_.subject);
  trial.first_us = static_cast<double>(now_() - launched) / 1000;
  trial.state = Trial::kRunning;
  if (status != KPK_OK) status = failed(contender, status);
  // A process that has to start again finds in the journal whose fault that is.
  if (status == KPK_OK && request_.after != nullptr) request_.after(request_.user, contender);
  if (status != KPK_OK || trial.state == Trial::kFailed) return status;
  return results_.take(contender);
}

// A third of the budget is left for measuring.
kpk_status Contest::try_each() {
  for (uint32_t i = 0; i < trials_.size(); ++i) {
    const Contender &contender = request_.contenders[i];
    if (contender.left_out) {
      give_up(i, contender.left_out_reason == nullptr ? "left out" : contender.left_out_reason);
    } else if (spent_ns() >= budget_ns_ / 3 * 2) {
      give_up(i, "out of budget before its first run");
    } else if (const kpk_status status = try_first(i)) {
      return status;
    }
  }
  return KPK_OK;
}

kpk_status Contest::judge() {
  results_.settle();
  for (uint32_t i = 0; i < trials_.size(); ++i) {
    Trial &trial = trials_[i];
    if (trial.state != Trial::kRunning || results_.is_right(i)) continue;
    trial.state = Trial::kWrong;
    Text reason(trial.reason, sizeof trial.reason);
    results_.explain(i, &reason);
  }
  if (trials_.running() != 0) return KPK_OK;
  const char *reason = nullptr;
  for (const Trial &trial : trials_) {
    if (trial.state != Trial::kNotRun && reason == nullptr) reason = trial.reason;
  }
  if (reason == nullptr && spent_ns() >= budget_ns_ / 3 * 2) return KPK_OK;  // none was run
  return fail(KPK_ERROR_NO_VARIANT, "%s: tuning: none of %u contenders can run: %s", request_.subject,
              trials_.size(), reason == nullptr ? "all are left out" : reason);
}

// One run, a second where it is short: what else the machine does is then rarely in both.
kpk_status Contest::probe(uint32_t contender) {
  Trial &trial = trials_[contender];
  for (int i = 0; i < 2; ++i) {
    double us = 0;
    if (const kpk_status status =
            timer_.sample(request_.contenders[contender], {0, 1, false}, &trial.pace, &us)) {
      return failed(contender, status);
    }
    if (i == 0 || us < trial.estimate_us) trial.estimate_us = us;
    if (us > kCheapUs || !in_time(us + timer_.flush_us())) break;
  }
  return KPK_OK;
}

kpk_status Contest::probe_each() {
  // A contender that is none any more may have written where it should not.
  if (const kpk_status status = arena_.fill(0)) return status;
  double least_us = 0;  // of first runs
  for (const Trial &trial : trials_) {
    if (trial.state == Trial::kRunning && (least_us <= 0 || trial.first_us < least_us)) {
      least_us = trial.first_us;
    }
  }
  for (uint32_t i = 0; i < trials_.size() && !out_of_time_; ++i) {
    Trial &trial = trials_[i];
    if (trial.state != Trial::kRunning) continue;
    // By the host's clock, which is coarse: believed only where running it once more would cost.
    const bool hopeless =
        trial.first_us > kHopeless * least_us && trial.first_us * 1000 > static_cast<double>(budget_ns_) / 50;
    if (hopeless && !exhaustive()) {
      trial.state = Trial::kPruned;
      trial.estimate_us = trial.first_us;
      continue;
    }
    out_of_time_ = !in_time(trial.first_us + timer_.flush_us());
    if (out_of_time_) break;
    if (const kpk_status status = probe(i)) return status;
  }
  if (!out_of_time_ && !exhaustive()) trials_.prune(kHopeless);
  return KPK_OK;
}

void Contest::choose_launches() {
  const double best_us = trials_.best_us() - timer_.overhead_us();
  const double wanted = kSampleUs / (best_us < 0.5 ? 0.5 : best_us);
  launches_ = wanted < 1 ? 1 : wanted > kMostLaunches ? kMostLaunches : static_cast<uint32_t>(wanted);
  // What was just in use is in the cache: a set for each, and for the one that warms up.
  if (arena_.has_copies() && launches_ >= arena_.sets())
    launches_ = arena_.sets() > 1 ? arena_.sets() - 1 : 1;
}

// Where a sample begins: behind the one before, so that no contender meets memory that was in use more recently (its
// pages are known to the device) than others do; and the shift by rounds leads each contender through all sets, since
// it moves by an odd number of them, of a power of two.
uint32_t Contest::first_set(uint32_t round) {
  const uint32_t stride = (launches_ + 2) & ~1u;
  return (samples_++ * stride + round) % arena_.sets();
}

kpk_status Contest::sample(uint32_t contender, uint32_t round) {
  Trial &trial = trials_[contender];
  double us = 0;
  const Timer::Way way = {first_set(round), launches_, warms_up(trial)};
  if (const kpk_status status = timer_.sample(request_.contenders[contender], way, &trial.pace, &us)) {
    return failed(contender, status);
  }
  trial.add(us);
  return KPK_OK;
}

kpk_status Contest::time_each() {
  if (out_of_time_ || trials_.running() == 0) return KPK_OK;
  if (const kpk_status status = arena_.grow()) return status;
  choose_launches();
  for (uint32_t round = 1; round <= kMostSamples; ++round) {
    bool settled = true;
    for (uint32_t i = 0; i < trials_.size(); ++i) {
      if (trials_[i].state != Trial::kRunning) continue;
      if (!in_time(sample_us(trials_[i]))) return KPK_OK;
      if (const kpk_status status = sample(i, round)) return status;
      settled = settled && trials_[i].is_settled();
    }
    if (exhaustive()) continue;
    for (const auto &rule : kRounds) {
      if (round == rule.samples) trials_.prune(rule.factor);
    }
    if (settled || (trials_.running() <= 1 && round >= kEnoughAlone)) return KPK_OK;
  }
  return KPK_OK;
}

void Contest::give_up_untimed() {
  for (uint32_t i = 0; i < trials_.size(); ++i) {
    if (trials_[i].state == Trial::kRunning && trials_[i].known_us() <= 0) {
      give_up(i, "out of budget before it was timed");
    }
  }
}

}  // namespace kpk
