#include "select.h"

namespace kpk {
namespace {

bool meets(const kpk_abi_requirement &requirement, const Call &call) {
  const int64_t value = static_cast<int64_t>(call.args[requirement.param].bits);
  switch (requirement.kind) {
    case KPK_REQUIRE_DIVISIBLE: return value % requirement.value == 0;
    case KPK_REQUIRE_EQUAL: return value == requirement.value;
    case KPK_REQUIRE_NULL: return value == 0;
    default: return false;  // what this runtime cannot check, it does not run
  }
}

}  // namespace

const kpk_abi_requirement *unmet(const kpk_abi_variant &variant, const Call &call) {
  if (variant.requirements.count == 0) return nullptr;
  const Table<kpk_abi_requirement> requirements(variant.requirements);
  for (uint32_t i = 0; i < requirements.size(); ++i) {
    if (!meets(requirements[i], call)) return &requirements[i];
  }
  return nullptr;
}

Verdict judge(const KernelView &view, const kpk_abi_overload &overload, const kpk_abi_variant &variant,
              uint32_t image, const Call &call, ExprError *error) {
  *error = ExprError::kNone;
  if (image == kNoImage) return Verdict::kNotBuilt;
  if ((variant.divisible_16 & ~call.divisible_16) != 0) return Verdict::kMisaligned;
  if ((variant.equal_1 & ~call.equal_1) != 0) return Verdict::kNotOne;
  if ((variant.null & ~call.null) != 0) return Verdict::kNotNull;
  if (unmet(variant, call) != nullptr) return Verdict::kRequirement;
  if (variant.guard == 0) return Verdict::kEligible;
  const ExprInput input{call.args, &overload, &variant};
  const int64_t holds = evaluate(view.exprs + variant.guard, input, error);
  if (*error != ExprError::kNone) return Verdict::kGuardFails;
  return holds != 0 ? Verdict::kEligible : Verdict::kGuard;
}

bool is_eligible(const KernelView &view, const Choices &choices, const Candidate &candidate,
                 const Call &call) {
  const int64_t bounded = static_cast<int64_t>(call.args[choices.param].bits);
  if (((candidate.divisible_16 & ~call.divisible_16) | (candidate.equal_1 & ~call.equal_1) |
       (candidate.null & ~call.null)) != 0 ||
      bounded < candidate.least || bounded > choices.most[&candidate - choices.candidates]) {
    return false;
  }
  if (candidate.bounded) return true;
  const kpk_abi_variant &variant = view.variants[candidate.variant];
  ExprError error;
  return judge(view, *choices.overload, variant, candidate.image, call, &error) == Verdict::kEligible;
}

Candidate *select(const KernelView &view, const Choices &choices, const Call &call) {
  Candidate *best = nullptr;
  int64_t largest = INT64_MIN;
  const uint64_t not_16 = ~call.divisible_16, not_1 = ~call.equal_1, not_null = ~call.null;
  const int64_t bounded = static_cast<int64_t>(call.args[choices.param].bits);
  for (uint32_t i = 0; i < choices.count; ++i) {
    if (bounded > choices.most[i]) continue;
    Candidate &candidate = choices.candidates[i];
    if (((candidate.divisible_16 & not_16) | (candidate.equal_1 & not_1) | (candidate.null & not_null)) !=
            0 ||
        bounded < candidate.least) {
      continue;
    }
    if (!candidate.general) {
      if (best == nullptr) return &candidate;
      continue;
    }
    const kpk_abi_variant &variant = view.variants[candidate.variant];
    ExprError error;
    if (judge(view, *choices.overload, variant, candidate.image, call, &error) != Verdict::kEligible)
      continue;
    if (variant.prefer == 0) {
      if (best == nullptr) return &candidate;
      continue;
    }
    const int64_t value =
        evaluate(view.exprs + variant.prefer, {call.args, choices.overload, &variant}, &error);
    if (error == ExprError::kNone && (best == nullptr || value > largest)) {
      best = &candidate;
      largest = value;
    }
  }
  return best;
}

}  // namespace kpk
