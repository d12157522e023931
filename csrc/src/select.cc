#include "select.h"

#include "device.h"

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
  const ExprInput input{call.args, view.types(overload), follow<kpk_value>(variant.constexprs)};
  const int64_t holds = evaluate(view.exprs + variant.guard, input, error);
  if (*error != ExprError::kNone) return Verdict::kGuardFails;
  return holds != 0 ? Verdict::kEligible : Verdict::kGuard;
}

uint32_t select(const KernelView &view, const kpk_abi_overload &overload, const uint32_t *images,
                const Call &call) {
  uint32_t best = kNoVariant;
  int64_t most = INT64_MIN;
  ExprError error;
  const uint32_t end = overload.first_variant + overload.variant_count;
  for (uint32_t v = overload.first_variant; v < end; ++v) {
    const kpk_abi_variant &variant = view.variants[v];
    if (judge(view, overload, variant, images[v], call, &error) != Verdict::kEligible) continue;
    if (variant.prefer == 0) {
      if (best == kNoVariant) return v;
      continue;
    }
    const ExprInput input{call.args, view.types(overload), follow<kpk_value>(variant.constexprs)};
    const int64_t value = evaluate(view.exprs + variant.prefer, input, &error);
    if (error == ExprError::kNone && (best == kNoVariant || value > most)) best = v, most = value;
  }
  return best;
}

}  // namespace kpk
