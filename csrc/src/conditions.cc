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

}  // namespace

Masks class_of(const Call &call, const KeyRule &rule) {
  return {call.divisible_16 & rule.divisible_16, call.equal_1 & rule.equal_1, call.null & rule.null};
}

bool set_conditions(const Choices &choices, const Candidate &candidate, const Call &call, const Terms &terms,
                    Rival *rivals, Shortcut *out) {
  if (!candidate.bounded) return false;
  const Masks own = masks_of(candidate);
  Masks have = own;
  out->least = candidate.least;
  out->most = choices.most[&candidate - choices.candidates];
  if (terms.rule != nullptr) {
    const Masks exactly = class_of(call, *terms.rule);
    have = {own.divisible_16 | exactly.divisible_16, own.equal_1 | exactly.equal_1, own.null | exactly.null};
  }
  const bool exact = terms.rule != nullptr;
  if (terms.why == Terms::kFirst && !set_first(choices, candidate, have, exact, rivals, out)) return false;
  if (exact) {
    const KeyRule &rule = *terms.rule;
    add_rivals(rule.divisible_16 & ~have.divisible_16,
               (rule.equal_1 & ~have.equal_1) | (rule.null & ~have.null), rivals, out);
  }
  out->divisible_16 = have.divisible_16;
  out->special = own.equal_1 | own.null;
  out->rare = (out->special | out->rival_count) != 0;
  return out->least <= out->most;
}

uint32_t most_rivals(const Terms &terms) {
  if (terms.rule == nullptr) return kRivals;
  return bits_of(terms.rule->divisible_16) + bits_of(terms.rule->equal_1) + bits_of(terms.rule->null);
}

}  // namespace kpk
