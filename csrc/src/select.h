// Which variant runs: the first eligible one of the overload, in the order of the archive (declaration
// order of the configs, specialised before unspecialised), or the one its `prefer` values highest. Pure.
#pragma once

#include <cstdint>

#include "call.h"
#include "device.h"
#include "expr.h"
#include "view.h"

namespace kpk {

enum class Verdict : uint8_t {
  kEligible,
  kNotBuilt,
  kMisaligned,
  kNotOne,
  kNotNull,
  kRequirement,
  kGuard,
  kGuardFails
};

// Whether `variant` may run this call. `image` is its image for the device, or kNoImage.
Verdict judge(const KernelView &view, const kpk_abi_overload &overload, const kpk_abi_variant &variant,
              uint32_t image, const Call &call, ExprError *error);

// The first requirement of the variant that the call does not meet; null if it meets all.
const kpk_abi_requirement *unmet(const kpk_abi_variant &variant, const Call &call);

// A variant that has an image for the device, and the conditions on a call that are a mask away.
struct Candidate {
  uint64_t divisible_16;
  uint64_t equal_1;
  uint64_t null;
  int64_t least;  // of the list's parameter; what it may be at most is in the list
  uint32_t variant;
  bool general;  // there is more to it: judge() decides
};

// The candidates of one overload in order. Guards are nearly always a bound on one argument, the same in all
// variants (`n_cols <= BLOCK`): what is at most allowed lies together, since it sorts most candidates out.
struct CandidateList {
  const int64_t *most;
  const Candidate *candidates;
  uint32_t count;
  uint16_t param;
};

// Fills a list with the variants of `overload` that have an image; `most` and `candidates` have room for all.
CandidateList make_candidates(const KernelView &view, const kpk_abi_overload &overload,
                              const uint32_t *images, int64_t *most, Candidate *candidates);

constexpr uint32_t kNoVariant = UINT32_MAX;
// The variant to run, or kNoVariant.
uint32_t select(const KernelView &view, const kpk_abi_overload &overload, const CandidateList &list,
                const Call &call);

}  // namespace kpk
