// The part of tuning that is in the way of launches: one hash, one probe, and whether the call may run what it finds;
// or, between calls of several keys, the shortcut of this one.
// Takes no lock and allocates nothing once a kernel's tables are read.

#include "shapes.h"
#include "tuning.h"

namespace kpk {

Tuned *look_up(const KeyRule &rule, Tuning *tuning, Chosen *out) {
  out->tuning = tuning;
  out->key = key_of(rule, out->call);
  out->terms.tuning = tuning;
  out->terms.rule = &rule;
  out->terms.tuned = find_tuned(*tuning, out->key);
  const Tuned *tuned = out->terms.tuned;
  out->open = tuning->mode == KPK_TUNING_TUNE && (tuned == nullptr || tuned->origin() == Origin::kOpen) &&
              may_search();
  return out->terms.tuned;
}

bool select_tuned(DeviceState &device, Chosen *out) {
  const Tuning *tuning = tuning_of(device);
  const KernelView &view = device.kernel->view;
  if (tuning != nullptr && tuning->mode == KPK_TUNING_RECORD) record_call(view, view.name(), out->call);
  return pick_tuned(device, out);
}

bool pick_tuned(DeviceState &device, Chosen *out) {
  Tuning *tuning = tuning_of(device);
  if (tuning == nullptr) return false;
  const KernelView &view = device.kernel->view;
  const Choices &choices = *out->choices;
  const Tuned *tuned = look_up(*tuning->rules[choices.index], tuning, out);
  if (tuned == nullptr) return false;
  const uintptr_t choice = tuned->choice.load(std::memory_order_acquire);
  if (!is_known(static_cast<Origin>(choice & Tuned::kOrigin))) return false;
  auto *candidate = reinterpret_cast<Candidate *>(choice & ~Tuned::kOrigin);
  // Two keys may share their number, and calls of one key differ in what guards ask.
  const bool own = candidate >= choices.candidates && candidate < choices.candidates + choices.count;
  if (!own || !is_eligible(view, choices, *candidate, out->call)) return false;
  out->terms.why = Terms::kTuned;
  out->by_key = true;
  out->candidate = candidate;
  return true;
}

const Shortcut *other_way(const Shortcut &tried, const kpk_packed &call) {
  const Keyed &keyed = *tried.keyed;
  const KeyRule &rule = *keyed.rule;
  const uint64_t odd_16 = call.odd_16 & rule.divisible_16;
  const uint64_t special = call.special & (rule.equal_1 | rule.null);
  uint64_t hash = keyed.hash;
  if (((odd_16 ^ keyed.odd_16) | (special ^ keyed.special)) != 0)
    hash = hash_class(rule, ~odd_16, special, special);
  const Field *fields = keyed.fields();
  for (uint32_t i = 0; i < rule.count; ++i) {
    const int64_t value = read(fields[i], call.block);
    hash = mix(hash, static_cast<uint64_t>(key_value(rule.params[i], value)));
  }
  const Tuned *found = find_tuned(*keyed.tuning, finish(hash));
  return found == nullptr ? nullptr : found->way.load(std::memory_order_acquire);
}

const Shortcut *other_way(const Shortcut &tried, const kpk_arg *args) {
  const KeyRule &rule = *tried.keyed->rule;
  Call call = {args, tried.count, 0, 0, 0};
  for (uint32_t i = 0; i < call.count; ++i) {
    call.divisible_16 |= static_cast<uint64_t>((args[i].bits & 15) == 0) << i;
    call.equal_1 |= static_cast<uint64_t>(args[i].bits == 1) << i;
    call.null |= static_cast<uint64_t>(args[i].bits == 0) << i;
  }
  const Tuned *found = find_tuned(*tried.keyed->tuning, key_of(rule, call));
  return found == nullptr ? nullptr : found->way.load(std::memory_order_acquire);
}

}  // namespace kpk
