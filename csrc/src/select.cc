#include "select.h"

#include <cstdlib>
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

// Lays `made` out for a variant; false if its conditions are not all in it.
bool fill_candidate(const KernelView &view, uint32_t index, uint32_t image, bool *bounded, Choices *choices,
                    int64_t *most) {
  const kpk_abi_variant &variant = view.variants[index];
  Candidate &made = choices->candidates[choices->count];
  made.divisible_16 = variant.divisible_16;
  made.equal_1 = variant.equal_1;
  made.null = variant.null;
  made.least = INT64_MIN;
  made.variant = index;
  made.image = image;
  *most = INT64_MAX;
  if (variant.requirements.count != 0 || variant.prefer != 0) return false;
  if (variant.guard == 0) return true;
  Bound bound = {INT64_MIN, INT64_MAX, 0};
  if (!is_bound(view.exprs + variant.guard, &bound)) return false;
  if (*bounded && bound.param != choices->param) return false;
  *bounded = true;
  choices->param = bound.param;
  made.least = bound.least;
  *most = bound.most;
  return true;
}

constexpr size_t kLine = 64;
constexpr size_t lines(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

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

Choices *make_choices(const KernelView &view, const kpk_abi_overload &overload, const Device &device) {
  // One block: the choices, the checks and bounds right behind them, then the candidates.
  const size_t checks = sizeof(Choices);
  const size_t most = checks + (view.params.size() * sizeof(ParamCheck) + 7) / 8 * 8;
  const size_t candidates = lines(most + overload.variant_count * sizeof(int64_t));
  const size_t bytes = candidates + overload.variant_count * sizeof(Candidate);
  auto *block = static_cast<char *>(std::aligned_alloc(kLine, bytes));
  if (block == nullptr) return nullptr;
  std::memset(block, 0, bytes);
  auto *made = reinterpret_cast<Choices *>(block);
  made->signature = overload.signature;
  made->overload = &overload;
  made->candidates = reinterpret_cast<Candidate *>(block + candidates);
  made->param_count = view.params.size();
  made->has_selected = overload.selected != 0;
  auto *filled = reinterpret_cast<ParamCheck *>(block + checks);
  fill_checks(view, overload, filled);
  made->checks = filled;
  auto *bounds = reinterpret_cast<int64_t *>(block + most);
  made->most = bounds;
  bool bounded = false;  // has a guard said what `param` is?
  for (uint32_t v = overload.first_variant; v < overload.first_variant + overload.variant_count; ++v) {
    const uint32_t image = best_image(view, view.variants[v], device);
    if (image == kNoImage) continue;
    const bool plain = fill_candidate(view, v, image, &bounded, made, &bounds[made->count]);
    Candidate &last = made->candidates[made->count++];
    last.general = !plain;
    made->ones_and_nulls = made->ones_and_nulls || (last.equal_1 | last.null) != 0;
  }
  return made;
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
