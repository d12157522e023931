#include "tune/trials.h"

#include "message.h"

namespace kpk {
namespace {

uint32_t outcome_of(Trial::State state) {
  switch (state) {
    case Trial::kRunning: return KPK_TRIAL_TIMED;
    case Trial::kPruned: return KPK_TRIAL_PRUNED;
    case Trial::kWrong: return KPK_TRIAL_WRONG;
    case Trial::kFailed: return KPK_TRIAL_FAILED;
    default: return KPK_TRIAL_NOT_RUN;
  }
}

}  // namespace

void Trial::add(double sample_us) {
  uint32_t at = samples++;
  for (; at != 0 && us[at - 1] > sample_us; --at) us[at] = us[at - 1];
  us[at] = sample_us;
}

double Trial::median_us() const {
  if (samples == 0) return 0;
  return (us[(samples - 1) / 2] + us[samples / 2]) / 2;
}

// The standard error of a median is about 0.93 times the range of the middle half, by the root of their number
// (of normally distributed samples); squared, so that no root is asked for.
bool Trial::is_settled() const {
  constexpr uint32_t kLeast = 12;
  constexpr double kExact = 0.002;
  if (samples < kLeast) return false;
  const double spread = 0.93 * (us[samples * 3 / 4] - us[samples / 4]);
  const double wanted = kExact * median_us();
  return spread * spread <= wanted * wanted * samples;
}

uint32_t Trials::running() const {
  uint32_t count = 0;
  for (const Trial &trial : all_) count += trial.state == Trial::kRunning ? 1 : 0;
  return count;
}

double Trials::best_us() const {
  double best = 0;
  for (const Trial &trial : all_) {
    const double us = trial.known_us();
    if (trial.state == Trial::kRunning && us > 0 && (best <= 0 || us < best)) best = us;
  }
  return best;
}

void Trials::prune(double factor) {
  const double most = best_us() * factor;
  for (Trial &trial : all_) {
    if (trial.state == Trial::kRunning && trial.known_us() > most) trial.state = Trial::kPruned;
  }
}

uint32_t Trials::fastest() const {
  bool medians = true;
  for (const Trial &trial : all_) medians = medians && (trial.state != Trial::kRunning || trial.samples != 0);
  uint32_t best = kNone;
  double best_us = 0;
  for (uint32_t i = 0; i < size(); ++i) {
    const Trial &trial = all_[i];
    const double us = medians ? trial.median_us() : trial.estimate_us;
    if (trial.state != Trial::kRunning || us <= 0 || (best != kNone && us >= best_us)) continue;
    best = i;
    best_us = us;
  }
  return best;
}

void report(const SearchRequest &request, const Trials &trials, uint32_t chosen) {
  if (request.sink == nullptr) return;
  for (uint32_t i = 0; i < trials.size(); ++i) {
    const Trial &trial = trials[i];
    kpk_trial told{};
    told.size = sizeof told;
    told.outcome = outcome_of(trial.state);
    told.name = request.contenders[i].name;
    told.reason = trial.reason;
    told.median_us = trial.known_us();
    told.samples = trial.samples;
    if (trial.samples == 0 && trial.estimate_us > 0) told.samples = 1;
    told.chosen = i == chosen ? 1 : 0;
    request.sink(request.user, &told);
  }
}

}  // namespace kpk
