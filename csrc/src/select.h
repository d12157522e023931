// Which variant runs: the first eligible one of the overload, in the order of the archive (declaration
// order of the configs, specialised before unspecialised), or the one its `prefer` values highest. Pure.
#pragma once

#include <atomic>
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

struct Function;  // module.h

// A variant that has an image for the device: the conditions that are a mask away, and what is loaded of it.
// One cache line.
struct alignas(64) Candidate {
  uint64_t divisible_16;
  uint64_t equal_1;
  uint64_t null;
  int64_t least;                            // of Choices::param; what it may be at most is in Choices
  std::atomic<const Function *> functions;  // the loaded image, a list by context
  uint32_t variant;
  uint32_t image;
  bool general;  // there is more to it: judge() decides
  bool bounded;  // but whether it is eligible is all in the above
  bool loading;  // a thread is loading it (under the lock of module.cc)
};

// One overload on one device: what checking a call and choosing a variant read, together in memory. Guards
// are nearly always a bound on one argument, the same in all variants (`n_cols <= BLOCK`): what is at most
// allowed lies in a row, since it sorts most candidates out.
struct alignas(64) Choices {
  uint64_t signature;
  const kpk_abi_overload *overload;
  const ParamCheck *checks;  // of each parameter
  const int64_t *most;       // of each candidate
  Candidate *candidates;     // in order of preference
  uint32_t count;            // of candidates
  uint32_t param_count;
  uint32_t index;  // of the overload
  uint16_t param;  // that the bounds are about
  bool has_selected;
  bool ones_and_nulls;  // some variant asks for an argument that is 1, or null
  // Where guards are more than bounds, or there are preferences: the arguments that they read (bit i: argument i), on
  // whose values alone, and on classes, it depends which candidate runs. 0: there are none, or they say less than all.
  uint64_t values;
  uint64_t divisible_16;  // what some candidate asks for
  uint64_t equal_1;
  uint64_t null;
};

// Made once for a device; null if there is no memory. Never freed: it stays reachable from the kernel's slot.
Choices *make_choices(const KernelView &view, uint32_t overload, const Device &device);

// May the candidate run the call?
bool is_eligible(const KernelView &view, const Choices &choices, const Candidate &candidate,
                 const Call &call);
// Might a measurement prefer it to the fixed choice? Of a null pointer, a variant that is not made for one makes an
// address.
inline bool is_alternative(const KernelView &view, const Choices &choices, const Candidate &candidate,
                           const Candidate &fixed, const Call &call) {
  return &candidate != &fixed && candidate.null == fixed.null && is_eligible(view, choices, candidate, call);
}

// The candidate to run, or null.
Candidate *select(const KernelView &view, const Choices &choices, const Call &call);

}  // namespace kpk
