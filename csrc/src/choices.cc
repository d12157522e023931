// What choosing a variant reads, made once for an overload on a device: decoded, and together in memory.

#include <cstdlib>
#include <cstring>

#include "select.h"

namespace kpk {
namespace {

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
  made.bounded = variant.requirements.count == 0;
  if (variant.guard != 0) {
    Bound bound = {INT64_MIN, INT64_MAX, 0};
    const bool is_one = is_bound(view.exprs + variant.guard, &bound);
    if (is_one && (!*bounded || bound.param == choices->param)) {
      *bounded = true;
      choices->param = bound.param;
      made.least = bound.least;
      *most = bound.most;
    } else {
      made.bounded = false;
    }
  }
  return made.bounded && variant.prefer == 0;
}

// The arguments that guards and preferences of these candidates read; 0 if conditions say more than that.
uint64_t values_of(const KernelView &view, const Choices &choices) {
  uint64_t values = 0;
  bool general = false;
  for (uint32_t c = 0; c < choices.count; ++c) {
    const kpk_abi_variant &variant = view.variants[choices.candidates[c].variant];
    if (variant.requirements.count != 0) return 0;
    general = general || choices.candidates[c].general;
    for (uint32_t i = 0; i < choices.param_count && i < 64; ++i) {
      const auto param = static_cast<uint16_t>(i);
      if ((variant.guard != 0 && reads(view.exprs + variant.guard, param)) ||
          (variant.prefer != 0 && reads(view.exprs + variant.prefer, param))) {
        values |= uint64_t{1} << i;
      }
    }
  }
  return general ? values : 0;
}

constexpr size_t kLine = 64;
constexpr size_t lines(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

}  // namespace

Choices *make_choices(const KernelView &view, uint32_t index, const Device &device) {
  const kpk_abi_overload &overload = view.overloads[index];
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
  made->index = index;
  made->param_count = view.params.size();
  made->has_selected = overload.selected != 0;
  auto *filled = reinterpret_cast<ParamCheck *>(block + checks);
  fill_checks(view, overload, filled);
  made->checks = filled;
  auto *bounds = reinterpret_cast<int64_t *>(block + most);
  made->most = bounds;
  bool bounded = false;  // has a guard said what `param` is?
  for (uint32_t v = overload.first_variant; v < overload.first_variant + overload.variant_count; ++v) {
    const kpk_abi_variant &variant = view.variants[v];
    // Of a variant without an image, too: a key knows the classes that any target has.
    made->ones_and_nulls = made->ones_and_nulls || (variant.equal_1 | variant.null) != 0;
    const uint32_t image = best_image(view, variant, device);
    if (image == kNoImage) continue;
    const bool plain = fill_candidate(view, v, image, &bounded, made, &bounds[made->count]);
    Candidate &last = made->candidates[made->count++];
    last.general = !plain;
    made->divisible_16 |= last.divisible_16;
    made->equal_1 |= last.equal_1;
    made->null |= last.null;
  }
  made->values = values_of(view, *made);
  return made;
}

}  // namespace kpk
