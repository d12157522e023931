// When a call comes to a variant: under which bounds and masks, as far as a shortcut can say it. Pure.
#pragma once

#include "module.h"
#include "shortcut.h"

namespace kpk {

// What a variant needs of arguments: bit i is of argument i.
struct Masks {
  uint64_t divisible_16;
  uint64_t equal_1;
  uint64_t null;
};
// Is a shortcut to the candidate for calls of certain values only, since conditions say too much for bounds?
bool goes_by_values(const Choices &choices, const Candidate &candidate, const Terms &terms);
// The class and the values of such a call, as a number that is not 0.
uint64_t hash_values(const Choices &choices, const Call &call);

// What of a call's class a shortcut is for: all that a key, or a choice by values, depends on.
Masks class_of(const Call &call, const Choices &choices, const Candidate &candidate, const Terms &terms);

// Fills the bounds and masks of `out` under which a call like this one comes to `candidate`, and its rivals, for whom
// there is room. What of a class has to be 1 or null, and the candidate does not ask for, is left to limits. False if
// it cannot be said.
bool set_conditions(const Choices &choices, const Candidate &candidate, const Call &call, const Terms &terms,
                    Rival *rivals, Shortcut *out);
// For how many rivals that is room enough.
uint32_t most_rivals(const Choices &choices, const Terms &terms);

}  // namespace kpk
