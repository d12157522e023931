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

// A variant that has an image for the device, with the conditions that nearly all variants have alone laid
// out to be tested in a few instructions: masks, and a guard that bounds one argument (`n_cols <= BLOCK`).
struct Candidate {
  uint64_t divisible_16;
  uint64_t equal_1;
  uint64_t null;
  int64_t least;  // of argument `param`
  int64_t most;
  uint32_t variant;
  uint16_t param;
  bool general;  // there is more to it: judge() decides
};
Candidate make_candidate(const KernelView &view, uint32_t variant);

constexpr uint32_t kNoVariant = UINT32_MAX;
// The variant to run among candidates of one overload, or kNoVariant.
uint32_t select(const KernelView &view, const kpk_abi_overload &overload, const Candidate *first,
                const Candidate *last, const Call &call);

}  // namespace kpk
