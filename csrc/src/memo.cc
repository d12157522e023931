#include "memo.h"

#include "driver.h"
#include "types.h"

namespace kpk {
namespace {

constexpr uint32_t kMaxMemoParams = 63;  // Memo::count, and the masks

Masks masks_of(const Candidate &candidate) {
  return {candidate.divisible_16, candidate.equal_1, candidate.null};
}

// Narrows `out` to the bounds in which `earlier` cannot be eligible, or notes it as a rival; false if neither
// says it.
bool set_apart(const Candidate &earlier, int64_t earlier_most, const Masks &own, Memo *out) {
  if (earlier.general) return false;
  if (earlier.least > out->most || earlier_most < out->least) return true;
  const Masks theirs = masks_of(earlier);
  if (holds(theirs, own)) {  // whenever our masks hold theirs do
    if (earlier.least > out->least || earlier_most == INT64_MAX) return false;
    out->least = earlier_most + 1;
    return true;
  }
  for (uint32_t i = 0; i < out->rivals; ++i) {
    if (holds(out->rival[i], theirs)) return true;  // known already
  }
  if (out->rivals == kMemoRivals) return false;
  out->rival[out->rivals++] = theirs;
  return true;
}

// Under which bounds and masks `candidate` comes first. The nearest in front are looked at first: they leave the
// least to the others.
bool set_conditions(const Choices &choices, const Candidate &candidate, Memo *out) {
  if (candidate.general) return false;
  const auto index = static_cast<uint32_t>(&candidate - choices.candidates);
  out->needs = masks_of(candidate);
  out->least = candidate.least;
  out->most = choices.most[index];
  // First what only bounds set apart, so that its masks need no room among the rivals.
  for (int pass = 0; pass < 2; ++pass) {
    for (uint32_t i = index; i > 0; --i) {
      const Candidate &earlier = choices.candidates[i - 1];
      if (holds(masks_of(earlier), out->needs) != (pass == 0)) continue;
      if (!set_apart(earlier, choices.most[i - 1], out->needs, out)) return false;
    }
  }
  return out->least <= out->most;
}

bool set_selected(const KernelView &view, const kpk_abi_overload &overload, SelectedBits *bits, Memo *out) {
  const kpk_value *value = follow<kpk_value>(overload.selected);
  out->selected_bits = bits;
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (view.params[i].kind != KPK_PARAM_SELECTED) continue;
    if (value->type == KPK_STRING) return false;
    bits[out->selected++] = {static_cast<uint64_t>(value->bits), i};
    ++value;
  }
  return true;
}

// What check_arguments() would pass without a second look, and what the variant needs to be divisible.
Step read_step(const ParamCheck &check, Range range, bool divisible_16, uint16_t offset) {
  Step step = {0, UINT64_MAX, offset, check.low_bits, 0, 0};
  if (check.integer != 0) {
    // Below 0 there could also be a large u64.
    if (range.least == INT64_MIN) range.least = 0;
    step.least = static_cast<uint64_t>(range.least);
    step.span = static_cast<uint64_t>(range.most) - step.least;
  }
  if (divisible_16) step.low_bits |= 15;
  if ((check.flags & KPK_PARAM_CONST) == 0) step.no_flags = KPK_PARAM_CONST;
  return step;
}

// Where each argument goes. What an image does not take goes to the slack behind the block, and so does what
// comes behind the last hidden pointer.
bool set_stores(const KernelView &view, const Choices &choices, const Plan &plan, Step *steps,
                ShortFloat *floats, Memo *out) {
  const uint32_t slack = plan.param_bytes;
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    const bool divisible_16 = (out->needs.divisible_16 >> i & 1) != 0;
    steps[i] = read_step(choices.checks[i], range_of(view, *choices.overload, i), divisible_16,
                         static_cast<uint16_t>(slack));
  }
  out->steps = steps;
  out->short_floats = floats;
  out->hidden = static_cast<uint16_t>(slack);
  uint32_t end = 0, hidden = 0;
  int32_t last_argument = -1;
  for (uint32_t s = 0; s < plan.store_count; ++s) {
    const Store &store = plan.stores[s];
    if (store.offset < end) return false;
    end = store.offset;
    if (store.kind == Store::kZero) {
      // Two at most, behind all arguments and next to each other.
      if (store.size != 8 || hidden == 2 || (hidden == 1 && store.offset != out->hidden + 8)) return false;
      if (hidden++ == 0) out->hidden = store.offset;
      continue;
    }
    // A later store of eight bytes must not run over an earlier value.
    if (hidden != 0 || store.argument <= last_argument) return false;
    last_argument = store.argument;
    steps[store.argument].offset = store.offset;
    if (store.kind != Store::kFloat || store.type == KPK_FP64) continue;
    if (store.type != KPK_FP32) return false;
    floats[out->floats++] = {store.argument, store.offset};
  }
  return true;
}

bool fill_memo(const KernelView &view, const Choices &choices, const Candidate &candidate, const Plan &plan,
               unsigned char *arrays, Memo *out) {
  const uint32_t count = view.params.size();
  if (count > kMaxMemoParams || plan.special || plan.param_bytes + kMemoSlackBytes > kMemoBlockBytes)
    return false;
  auto *steps = reinterpret_cast<Step *>(arrays);
  auto *selected = reinterpret_cast<SelectedBits *>(steps + count);
  auto *floats = reinterpret_cast<ShortFloat *>(selected + count);
  if (!set_conditions(choices, candidate, out) || !set_selected(view, *choices.overload, selected, out) ||
      !set_stores(view, choices, plan, steps, floats, out)) {
    return false;
  }
  out->simple = (out->rivals | out->selected) == 0 && (out->needs.equal_1 | out->needs.null) == 0;
  out->signature = choices.signature;
  out->bounded = static_cast<uint8_t>(choices.param);
  out->count = static_cast<uint8_t>(count);
  return true;
}

}  // namespace

size_t memo_bytes(const KernelView &view) {
  return view.params.size() * (sizeof(SelectedBits) + sizeof(Step) + sizeof(ShortFloat));
}

void make_memo(const KernelView &view, const Choices &choices, const Candidate &candidate, const Plan &plan,
               const Device &device, uint64_t context, void *arrays, Memo *out) {
  *out = Memo{};
  if (!fill_memo(view, choices, candidate, plan, static_cast<unsigned char *>(arrays), out)) {
    *out = Memo{};
  }
  out->driver = device.driver;
  out->place = device.driver->place(device, context);
  out->asks = device.driver->asks();
}

bool recall_rest(const Memo &memo, const kpk_arg *args) {
  Masks have = {};
  for (uint32_t i = 0; i < memo.count; ++i) {
    const uint64_t bits = args[i].bits;
    have.divisible_16 |= static_cast<uint64_t>((bits & 15) == 0) << i;
    have.equal_1 |= static_cast<uint64_t>(bits == 1) << i;
    have.null |= static_cast<uint64_t>(bits == 0) << i;
  }
  if (!holds(memo.needs, have)) return false;
  for (uint32_t i = 0; i < memo.rivals; ++i) {
    if (holds(memo.rival[i], have)) return false;
  }
  for (uint32_t i = 0; i < memo.selected; ++i) {
    const SelectedBits &selected = memo.selected_bits[i];
    if (args[selected.argument].bits != selected.bits) return false;
  }
  return true;
}

}  // namespace kpk
