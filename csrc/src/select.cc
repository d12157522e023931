#include "select.h"

#include <cstring>

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

struct Bound {
  int64_t least;
  int64_t most;
  uint16_t param;
};

// Reads `param <op> constant`; false for any other program.
bool is_bound(const uint8_t *code, Bound *out) {
  if (code[0] != KPK_OP_PARAM) return false;
  std::memcpy(&out->param, code + 1, sizeof out->param);
  int64_t constant = 0;
  const uint8_t *compare = code + 3;
  if (*compare == KPK_OP_I8) {
    constant = static_cast<int8_t>(compare[1]);
    compare += 2;
  } else if (*compare == KPK_OP_I64) {
    std::memcpy(&constant, compare + 1, sizeof constant);
    compare += 9;
  } else {
    return false;
  }
  if (compare[0] == KPK_OP_END || compare[1] != KPK_OP_END) return false;
  switch (compare[0]) {
    case KPK_OP_LE: return out->most = constant, true;
    case KPK_OP_GE: return out->least = constant, true;
    case KPK_OP_EQ: return out->least = out->most = constant, true;
    case KPK_OP_LT:
      if (constant == INT64_MIN) return false;
      return out->most = constant - 1, true;
    case KPK_OP_GT:
      if (constant == INT64_MAX) return false;
      return out->least = constant + 1, true;
    default: return false;
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

CandidateList make_candidates(const KernelView &view, const kpk_abi_overload &overload,
                              const uint32_t *images, int64_t *most, Candidate *candidates) {
  CandidateList list = {most, candidates, 0, 0};
  bool bounded = false;  // has a guard said what list.param is?
  for (uint32_t v = overload.first_variant; v < overload.first_variant + overload.variant_count; ++v) {
    if (images[v] == kNoImage) continue;
    const kpk_abi_variant &variant = view.variants[v];
    Candidate &made = candidates[list.count];
    made = {variant.divisible_16, variant.equal_1, variant.null, INT64_MIN, v, false};
    made.general = variant.requirements.count != 0 || variant.prefer != 0;
    most[list.count] = INT64_MAX;
    Bound bound = {INT64_MIN, INT64_MAX, 0};
    if (variant.guard != 0 && is_bound(view.exprs + variant.guard, &bound) &&
        (!bounded || bound.param == list.param)) {
      list.param = bound.param;
      bounded = true;
      made.least = bound.least;
      most[list.count] = bound.most;
    } else if (variant.guard != 0) {
      made.general = true;
    }
    ++list.count;
  }
  return list;
}

uint32_t select(const KernelView &view, const kpk_abi_overload &overload, const CandidateList &list,
                const Call &call) {
  uint32_t best = kNoVariant;
  int64_t largest = INT64_MIN;
  const uint64_t not_16 = ~call.divisible_16, not_1 = ~call.equal_1, not_null = ~call.null;
  const int64_t bounded = static_cast<int64_t>(call.args[list.param].bits);
  for (uint32_t i = 0; i < list.count; ++i) {
    if (bounded > list.most[i]) continue;
    const Candidate &candidate = list.candidates[i];
    if (((candidate.divisible_16 & not_16) | (candidate.equal_1 & not_1) | (candidate.null & not_null)) !=
            0 ||
        bounded < candidate.least) {
      continue;
    }
    if (!candidate.general) {
      if (best == kNoVariant) return candidate.variant;
      continue;
    }
    const kpk_abi_variant &variant = view.variants[candidate.variant];
    ExprError error;
    if (judge(view, overload, variant, variant.first_image, call, &error) != Verdict::kEligible) continue;
    if (variant.prefer == 0) {
      if (best == kNoVariant) return candidate.variant;
      continue;
    }
    const ExprInput input{call.args, view.types(overload), follow<kpk_value>(variant.constexprs)};
    const int64_t value = evaluate(view.exprs + variant.prefer, input, &error);
    if (error == ExprError::kNone && (best == kNoVariant || value > largest)) {
      best = candidate.variant;
      largest = value;
    }
  }
  return best;
}

}  // namespace kpk
