#include "packed.h"

#include "module.h"
#include "types.h"

namespace kpk {
namespace {

uint32_t size_of(uint8_t type) { return is_pointer(type) ? 8 : static_cast<uint32_t>(element_bytes(type)); }

// Fills where each argument of the call lies, and how many bytes they are; false if one of them lies in no block.
bool lay_out(const kpk_arg *args, uint32_t count, uint32_t *offsets, uint32_t *bytes) {
  uint32_t end = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t size = size_of(args[i].type);
    if (size == 0) return false;
    offsets[i] = (end + size - 1) / size * size;
    end = offsets[i] + size;
  }
  *bytes = end;
  return true;
}

// Is every value of the type that was given one of the type that is taken, in the same bits?
bool same_bits(const KernelView &view, const kpk_abi_overload &overload, uint32_t param, uint8_t given) {
  const uint8_t type = view.types(overload)[param];
  if (given != type) return false;
  if (!is_integer(type)) return is_pointer(type) || type == KPK_FP32 || type == KPK_FP64;
  const Range all = integer_range(type), range = range_of(view, overload, param);
  // A u64 may need its own look; most of the time it does not.
  return type != KPK_U64 && range.least <= all.least && range.most >= all.most;
}

bool set_arguments(const Function &function, const kpk_arg *args, const uint32_t *offsets, Packed *out) {
  const KernelView &view = *function.view;
  const Plan &plan = function.plan;
  const kpk_abi_overload &overload = view.overloads[plan.variant->overload];
  const Table<kpk_abi_slot> layout(plan.image->layout);
  uint32_t taken = 0;
  for (uint32_t s = 0; s < layout.size(); ++s) {
    const kpk_abi_slot &slot = layout[s];
    if (slot.source != KPK_SLOT_ARGUMENT) continue;
    const uint8_t given = args[slot.index].type;
    if (slot.offset != offsets[slot.index] || slot.size != size_of(given) ||
        !same_bits(view, overload, slot.index, given)) {
      return false;
    }
    if (is_pointer(given) && (view.params[slot.index].flags & KPK_PARAM_CONST) == 0)
      out->written |= uint64_t{1} << slot.index;
    ++taken;
  }
  // All run-time arguments, which come first: none was folded away.
  uint32_t run_time = 0;
  for (uint32_t i = 0; i < view.params.size(); ++i) run_time += view.params[i].kind == KPK_PARAM_ARGUMENT;
  return taken == run_time;
}

// An integer that a field can say. A u64 above INT64_MAX looks negative in it.
bool set_field(const kpk_arg *args, const uint32_t *offsets, uint32_t argument, Field *out) {
  const uint8_t type = args[argument].type;
  if (!is_integer(type)) return false;
  *out = {static_cast<uint16_t>(offsets[argument]), static_cast<uint8_t>(64 - 8 * size_of(type)),
          type >= KPK_I8 && type <= KPK_I64};
  return true;
}

// Launch-only parameters: is every value that may be given accepted, or looked at as the grid is?
bool check_launch_only(const KernelView &view, const kpk_abi_overload &overload, const Plan &plan,
                       const kpk_arg *args, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (view.params[i].kind != KPK_PARAM_LAUNCH) continue;
    if (!is_integer(args[i].type)) return false;
    const Range given = integer_range(args[i].type), range = range_of(view, overload, i);
    if (given.least < range.least || given.most > range.most) return false;
    bool in_grid = args[i].type != KPK_U64;
    for (uint32_t axis = 0; axis < plan.axis_count; ++axis) {
      const Axis &rule = plan.axes[axis];
      in_grid = in_grid || (rule.kind != Axis::kProgram && rule.argument == i);
    }
    if (!in_grid) return false;
  }
  return true;
}

bool set_grid(const Plan &plan, const kpk_arg *args, const uint32_t *offsets, Packed *out) {
  for (uint32_t i = 0; i < plan.axis_count; ++i) {
    const Axis &rule = plan.axes[i];
    PackedAxis &made = out->axis[out->axes++];
    made = {rule.kind == Axis::kPieces ? rule.piece : 0, rule.more, rule.most, {}, rule.axis};
    if (rule.kind == Axis::kProgram || !set_field(args, offsets, rule.argument, &made.field)) return false;
  }
  return true;
}

bool set_selected(const Memo &memo, const kpk_arg *args, const uint32_t *offsets, Packed *out) {
  if (memo.selected > kPackedSelected) return false;
  for (uint32_t i = 0; i < memo.selected; ++i) {
    const SelectedBits &selected = memo.selected_bits[i];
    PackedSelected &made = out->select[out->selected++];
    const auto argument = static_cast<uint32_t>(selected.argument);
    if (args[argument].type == KPK_U64 || !set_field(args, offsets, argument, &made.field)) return false;
    made.value = static_cast<int64_t>(selected.bits);
  }
  return true;
}

bool set_conditions(const Memo &memo, const kpk_arg *args, const uint32_t *offsets, Packed *out) {
  if ((memo.needs.equal_1 | memo.needs.null) != 0) return false;
  out->rivals = memo.rivals;
  for (uint32_t i = 0; i < memo.rivals; ++i)
    out->rival[i] = {memo.rival[i].divisible_16, memo.rival[i].equal_1 | memo.rival[i].null};
  out->divisible_16 = memo.needs.divisible_16;
  out->least = memo.least;
  out->most = memo.most;
  if (memo.least == INT64_MIN && memo.most == INT64_MAX) return true;  // of any field
  return args[memo.bounded].type != KPK_U64 && set_field(args, offsets, memo.bounded, &out->bounded);
}

}  // namespace

bool make_packed(const Function &function, const kpk_arg *args, uint32_t count, uint64_t types, Packed *out) {
  const Memo &memo = function.memo;
  uint32_t offsets[kInlineParams];
  uint32_t bytes = 0;
  // Dry launches want to be told more than a block says.
  if (memo.steps == nullptr || memo.count != count || kpk_signature(args, count) != memo.signature ||
      is_dry_device(*function.device) || !lay_out(args, count, offsets, &bytes) ||
      function.plan.param_bytes > bytes + kPackedSlackBytes) {
    return false;
  }
  *out = Packed{};
  const kpk_abi_overload &overload = function.view->overloads[function.plan.variant->overload];
  if (!set_arguments(function, args, offsets, out) || !set_grid(function.plan, args, offsets, out) ||
      !set_selected(memo, args, offsets, out) || !set_conditions(memo, args, offsets, out) ||
      !check_launch_only(*function.view, overload, function.plan, args, count)) {
    return false;
  }
  const bool hides = memo.hidden + 8u <= function.plan.param_bytes;
  out->hidden = hides ? memo.hidden : static_cast<uint16_t>(bytes);
  out->types = types;
  out->plan = &function.plan;
  out->place = memo.place;
  out->driver = memo.driver;
  out->asks = memo.asks;
  out->function = &function;
  out->device = function.device;
  return true;
}

}  // namespace kpk
