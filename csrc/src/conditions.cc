#include "conditions.h"

namespace kpk {
namespace {

Masks masks_of(const Candidate &candidate) {
  return {candidate.divisible_16, candidate.equal_1, candidate.null};
}

bool holds(const Masks &needs, const Masks &have) {
  return ((needs.divisible_16 & ~have.divisible_16) | (needs.equal_1 & ~have.equal_1) |
          (needs.null & ~have.null)) == 0;
}

uint32_t bits_of(uint64_t mask) { return static_cast<uint32_t>(__builtin_popcountll(mask)); }

// Narrows the bounds of `out` to those in which `earlier` cannot be eligible, or notes it as a rival, unless `own` is all
// that can hold; false if none of that says it.
bool set_apart(const Candidate &earlier, int64_t earlier_most, const Masks &own, bool exact, Rival *rivals,
               Shortcut *out) {
  if (earlier.general) return false;
  if (earlier.least > out->most || earlier_most < out->least) return true;
  const Masks theirs = masks_of(earlier);
  if (holds(theirs, own)) {  // whenever our masks hold theirs do
    if (earlier.least > out->least || earlier_most == INT64_MAX) return false;
    out->least = earlier_most + 1;
    return true;
  }
  if (exact) return true;
  const Rival rival = {theirs.divisible_16, theirs.equal_1 | theirs.null};
  if (has_rival(*out, ~rival.divisible_16, rival.special)) return true;  // known already
  if (out->rival_count == kRivals) return false;
  rivals[out->rival_count++] = rival;
  return true;
}

// Under which bounds and masks `candidate` comes first. The nearest in front are looked at first: they leave the
// least to the others.
bool set_first(const Choices &choices, const Candidate &candidate, const Masks &own, bool exact,
               Rival *rivals, Shortcut *out) {
  if (candidate.general) return false;
  const auto index = static_cast<uint32_t>(&candidate - choices.candidates);
  // First what only bounds set apart, so that its masks need no room among the rivals.
  for (int pass = 0; pass < 2; ++pass) {
    for (uint32_t i = index; i > 0; --i) {
      const Candidate &earlier = choices.candidates[i - 1];
      if (holds(masks_of(earlier), own) != (pass == 0)) continue;
      if (!set_apart(earlier, choices.most[i - 1], own, exact, rivals, out)) return false;
    }
  }
  return true;
}

// Each bit that is not of the class is a rival: where it holds the class is another.
void add_rivals(uint64_t divisible_16, uint64_t special, Rival *rivals, Shortcut *out) {
  for (; divisible_16 != 0; divisible_16 &= divisible_16 - 1)
    rivals[out->rival_count++] = {divisible_16 & -divisible_16, 0};
  for (; special != 0; special &= special - 1) rivals[out->rival_count++] = {0, special & -special};
}

// What classes are told apart by.
Masks asked(const Choices &choices, const Terms &terms) {
  if (terms.rule != nullptr) return {terms.rule->divisible_16, terms.rule->equal_1, terms.rule->null};
  return {choices.divisible_16, choices.equal_1, choices.null};
}

}  // namespace

bool goes_by_values(const Choices &choices, const Candidate &candidate, const Terms &terms) {
  return choices.values != 0 && (terms.why == Terms::kFirst || !candidate.bounded);
}

uint64_t hash_values(const Choices &choices, const Call &call) {
  uint64_t hash = mix(kWordSeed, call.divisible_16 & choices.divisible_16);
  hash = mix(mix(hash, call.equal_1 & choices.equal_1), call.null & choices.null);
  for (uint32_t i = 0; i < call.count; ++i) {
    if ((choices.values >> i & 1) != 0) hash = mix(hash, call.args[i].bits);
  }
  return finish(hash);
}

Masks class_of(const Call &call, const Choices &choices, const Candidate &candidate, const Terms &terms) {
  if (terms.rule == nullptr && !goes_by_values(choices, candidate, terms)) return {0, 0, 0};
  const Masks all = asked(choices, terms);
  return {call.divisible_16 & all.divisible_16, call.equal_1 & all.equal_1, call.null & all.null};
}

bool set_conditions(const Choices &choices, const Candidate &candidate, const Call &call, const Terms &terms,
                    Rival *rivals, Shortcut *out) {
  const bool by_values = goes_by_values(choices, candidate, terms);
  if (!candidate.bounded && !by_values) return false;
  const Masks own = masks_of(candidate);
  const Masks exactly = class_of(call, choices, candidate, terms);
  const Masks have = {own.divisible_16 | exactly.divisible_16, own.equal_1 | exactly.equal_1,
                      own.null | exactly.null};
  out->least = by_values ? INT64_MIN : candidate.least;
  out->most = by_values ? INT64_MAX : choices.most[&candidate - choices.candidates];
  const bool exact = by_values || terms.rule != nullptr;
  if (by_values) {
    out->values = hash_values(choices, call);
  } else if (terms.why == Terms::kFirst && !set_first(choices, candidate, have, exact, rivals, out)) {
    return false;
  }
  if (exact) {
    const Masks all = asked(choices, terms);
    add_rivals(all.divisible_16 & ~have.divisible_16, (all.equal_1 & ~have.equal_1) | (all.null & ~have.null),
               rivals, out);
  }
  out->divisible_16 = have.divisible_16;
  out->special = own.equal_1 | own.null;
  out->rare = (out->special | out->rival_count) != 0;
  return out->least <= out->most;
}

uint32_t most_rivals(const Choices &choices, const Terms &terms) {
  if (terms.rule == nullptr && choices.values == 0) return kRivals;
  const Masks all = asked(choices, terms);
  return bits_of(all.divisible_16) + bits_of(all.equal_1) + bits_of(all.null) + kRivals;
}

}  // namespace kpk
