#include "shortcut.h"

#include "conditions.h"
#include "expr.h"
#include "module.h"
#include "types.h"

namespace kpk {
namespace {

// ---- where: how arguments lie in a block

// As what an argument lies at an offset; KPK_POINTER for any 64 bits.
struct Spot {
  uint16_t offset;
  uint8_t type;
};

struct Layout {
  Spot spots[kMostShortParams];
  uint64_t taken;  // bit i: argument i lies in the image's block; the others behind it
  uint32_t hidden;
  bool hides;
};

uint32_t size_of(uint8_t type) { return is_pointer(type) ? 8 : static_cast<uint32_t>(element_bytes(type)); }

// What the image says of its parameters: arguments in order, then up to two null pointers that nobody passes.
bool read_layout(const Plan &plan, const uint8_t *types, Layout *out) {
  const Table<kpk_abi_slot> slots(plan.image->layout);
  uint32_t end = 0, hidden = 0;
  for (uint32_t s = 0; s < slots.size(); ++s) {
    const kpk_abi_slot &slot = slots[s];
    if (slot.offset < end) return false;
    end = slot.offset + slot.size;
    if (slot.source != KPK_SLOT_ARGUMENT) {
      if (slot.size != 8 || hidden == 2 || (hidden == 1 && slot.offset != out->hidden + 8)) return false;
      if (hidden++ == 0) out->hidden = slot.offset;
      continue;
    }
    // A later step of eight bytes must not run over an earlier value.
    if (hidden != 0 || out->taken >> slot.index != 0) return false;
    const uint8_t type = types[slot.index];
    const bool converts = is_float(type) || is_float(slot.type);
    if (size_of(type) != slot.size) return false;
    if (converts && (slot.type != type || (type != KPK_FP32 && type != KPK_FP64))) return false;
    out->spots[slot.index] = {static_cast<uint16_t>(slot.offset), type};
    out->taken |= uint64_t{1} << slot.index;
  }
  out->hides = hidden != 0;
  return true;
}

// The types are those of the call, each at the next multiple of its size; false where the image has it otherwise.
bool lay_out_as_packed(const Plan &plan, const kpk_arg *args, uint32_t count, Layout *out) {
  Layout made = *out;
  uint32_t end = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint8_t type = args[i].type;
    const uint32_t size = size_of(type);
    const bool taken = (out->taken >> i & 1) != 0;
    if (size == 0 || (!taken && !is_integer(type) && !is_pointer(type))) return false;
    made.spots[i] = {static_cast<uint16_t>((end + size - 1) & ~(size - 1)), type};
    end = made.spots[i].offset + size;
    const Spot &expected = out->spots[i];
    if (taken && (made.spots[i].offset != expected.offset || type != expected.type)) return false;
  }
  if (plan.param_bytes > end + kPackedSlackBytes) return false;
  if (!made.hides) made.hidden = end;
  *out = made;
  return true;
}

// What the image does not take lies behind its block, eight bytes each.
bool lay_out_as_image(const Plan &plan, const uint8_t *types, const kpk_arg *args, uint32_t count,
                      Layout *out) {
  uint32_t end = (plan.param_bytes + 7) / 8 * 8 + 8;  // the last step may write so much further
  if (end + (count + 2) * 8 > kBlockBytes) return false;
  for (uint32_t i = 0; i < count; ++i) {
    if ((out->taken >> i & 1) != 0) continue;
    const bool number = plan.view->params[i].kind != KPK_PARAM_SELECTED && is_integer(args[i].type);
    out->spots[i] = {static_cast<uint16_t>(end), number ? types[i] : uint8_t{KPK_POINTER}};
    end += 8;
  }
  if (!out->hides) out->hidden = end;
  return true;
}

uint64_t types_of(const kpk_arg *args, uint32_t count) {
  uint64_t hash = KPK_SIGNATURE_SEED;
  for (uint32_t i = 0; i < count; ++i) hash = (hash ^ args[i].type) * KPK_SIGNATURE_PRIME;
  return hash | 1;
}

// ---- the parts of a shortcut

// Where notes of a shortcut go while it is made.
struct Room {
  Limit *limits;
  Rival *rivals;
  Keyed *keyed;
};

// A call that is written down.
struct Case {
  const Function &function;
  const kpk_abi_overload &overload;
  const Terms &terms;
  const Call &call;
  const kpk_arg *args;
  uint32_t count;
  Layout layout;
};

// Bits that an integer may take which is stored as `type`.
uint8_t width_of(uint8_t type, uint8_t given) {
  constexpr uint8_t any = Step::kFolded | 63;
  if (!kChecked || !is_integer(type)) return any;
  const bool is_signed = type >= KPK_I8 && type <= KPK_I64;
  const uint32_t bits = type == KPK_I1 ? 1 : 8 * size_of(type) - (is_signed || type == KPK_U64 ? 1 : 0);
  // What looks negative in a u64 is above INT64_MAX.
  const bool folded = is_signed && given != KPK_U64;
  return static_cast<uint8_t>(bits | (folded ? Step::kFolded : 0u));
}

// Type and flags, as they lie in memory.
uint16_t given_as(const kpk_arg &arg) { return static_cast<uint16_t>(arg.type | arg.flags << 8); }

// False for an argument that may not be given so at all.
bool make_step(const Spot &spot, const kpk_arg &arg, const ParamCheck &check, bool divisible_16, Step *out) {
  *out = {given_as(arg), spot.offset, check.low_bits, width_of(spot.type, arg.type), 0, 0};
  if (divisible_16) out->low_bits |= 15;
  return (arg.flags & ~check.flags & KPK_PARAM_CONST) == 0 || !kChecked;
}

bool set_steps(const Case &of, Step *steps, Shortcut *out) {
  uint8_t *narrow = &out->narrow;
  for (uint32_t i = 0; i < of.count; ++i) {
    const ParamCheck &check = of.function.choices->checks[i];
    const Spot &spot = of.layout.spots[i];
    if (!make_step(spot, of.args[i], check, (out->divisible_16 >> i & 1) != 0, &steps[i])) return false;
    if ((check.flags & KPK_PARAM_CONST) == 0) out->written |= uint64_t{1} << i;
    if (spot.type != KPK_FP32) continue;
    *narrow = static_cast<uint8_t>(i + 1);
    narrow = &steps[i].next_narrow;
  }
  return true;
}

// An integer that guards and grids can compute with.
bool set_field(const Case &of, uint32_t argument, Field *out) {
  const Spot &spot = of.layout.spots[argument];
  if (!is_integer(of.args[argument].type)) return false;
  *out = {spot.offset, static_cast<uint8_t>(64 - 8 * size_of(spot.type)),
          spot.type >= KPK_I8 && spot.type <= KPK_I64};
  return true;
}

void add_limit(const Case &of, uint32_t argument, Range range, Limit *limits, Shortcut *out) {
  Limit &made = limits[out->limit_count++];
  const Field all_bits = {of.layout.spots[argument].offset, 0, false};  // of what is no integer
  made = {range.least, range.most, all_bits};
  set_field(of, argument, &made.field);
}

void narrow(Range *range, const Range &to) {
  if (range->least < to.least) range->least = to.least;
  if (range->most > to.most) range->most = to.most;
}

// What an argument has to be for the call to be of the key, and of the values, that the shortcut is for.
Range keyed_range(const Case &of, uint32_t argument, const Shortcut &made) {
  Range range = {INT64_MIN, INT64_MAX};
  const Choices &choices = *of.function.choices;
  const Masks exactly = class_of(of.call, choices, *of.function.candidate, of.terms);
  const uint64_t bit = argument < kInlineParams ? uint64_t{1} << argument : 0;
  if ((exactly.equal_1 & ~made.special & bit) != 0) range = {1, 1};
  if ((exactly.null & ~made.special & bit) != 0) range = {0, 0};
  const auto value = static_cast<int64_t>(of.args[argument].bits);
  if (made.values != 0 && (choices.values & bit) != 0) range = {value, value};
  if (of.terms.rule == nullptr) return range;
  const KeyRule &rule = *of.terms.rule;
  for (uint32_t i = 0; i < rule.count; ++i) {
    if (rule.params[i].index == argument) narrow(&range, key_range(rule.params[i], value));
  }
  return range;
}

// Selected values, ranges that are not those of the type, and keys.
bool set_limits(const Case &of, Limit *limits, Shortcut *out) {
  const KernelView &view = *of.function.plan.view;
  const kpk_value *selected = follow<kpk_value>(of.overload.selected);
  for (uint32_t i = 0; i < of.count; ++i) {
    const uint8_t type = of.layout.spots[i].type;
    Range range = keyed_range(of, i, *out);
    bool limited = range.least != INT64_MIN || range.most != INT64_MAX;
    if (view.params[i].kind == KPK_PARAM_SELECTED) {
      if (selected->type == KPK_STRING) return false;
      range = {selected->bits, selected->bits};
      limited = true;
      ++selected;
    } else if (is_integer(of.args[i].type) && is_integer(type)) {
      const Range held = integer_range(type), asked = range_of(view, of.overload, i);
      // A u64 above INT64_MAX looks negative in its field.
      if (type == KPK_U64 || asked.least > held.least || asked.most < held.most) {
        narrow(&range, asked);
        if (range.least < held.least) range.least = held.least;
        limited = true;
      }
    }
    if (limited) add_limit(of, i, range, limits, out);
  }
  return true;
}

// Where the values of a key are.
bool set_keyed(const Case &of, Keyed *keyed) {
  const Terms &terms = of.terms;
  if (terms.rule == nullptr) return true;
  const KeyRule &rule = *terms.rule;
  const Masks exactly = class_of(of.call, *of.function.choices, *of.function.candidate, terms);
  keyed->hash = hash_class(rule, exactly.divisible_16, exactly.equal_1, exactly.null);
  keyed->odd_16 = rule.divisible_16 & ~exactly.divisible_16;
  keyed->special = exactly.equal_1 | exactly.null;
  auto *fields = reinterpret_cast<Field *>(keyed + 1);
  for (uint32_t i = 0; i < rule.count; ++i) {
    if (!set_field(of, rule.params[i].index, &fields[i])) return false;
  }
  return true;
}

bool set_grid(const Case &of, Shortcut *out) {
  const Plan &plan = of.function.plan;
  for (uint32_t i = 0; i < plan.axis_count; ++i) {
    const Axis &rule = plan.axes[i];
    out->rare = out->rare || rule.kind == Axis::kProgram;
    if (rule.kind == Axis::kProgram) continue;
    out->axis[out->axis_count] = rule.axis;
    ShortAxis &made = out->axes[out->axis_count++];
    made = {rule.kind == Axis::kPieces ? rule.piece : 0, rule.more, rule.most, {}};
    if (!set_field(of, rule.argument, &made.field)) return false;
  }
  return true;
}

bool set_bounded(const Case &of, const Choices &choices, Shortcut *out) {
  if (out->least == INT64_MIN && out->most == INT64_MAX) return true;  // of any field
  return set_field(of, choices.param, &out->bounded);
}

bool fill_shortcut(Case *of, const Room &room, Shortcut *out) {
  const Function &function = of->function;
  const Plan &plan = function.plan;
  const Choices &choices = *function.choices;
  const uint8_t *types = plan.view->types(of->overload);
  if (plan.special || kpk_signature(of->args, of->count) != choices.signature ||
      !set_conditions(choices, *function.candidate, of->call, of->terms, room.rivals, out) ||
      !read_layout(plan, types, &of->layout)) {
    return false;
  }
  const bool packed = out->special == 0 && lay_out_as_packed(plan, of->args, of->count, &of->layout);
  if (!packed && !lay_out_as_image(plan, types, of->args, of->count, &of->layout)) return false;
  out->hidden = static_cast<uint16_t>(of->layout.hidden);
  if (!set_steps(*of, reinterpret_cast<Step *>(out + 1), out) || !set_limits(*of, room.limits, out) ||
      !set_grid(*of, out) || !set_bounded(*of, choices, out) || !set_keyed(*of, room.keyed)) {
    return false;
  }
  const bool programs = out->axis_count != plan.axis_count;  // which take the arguments themselves
  if (packed && !programs) out->types = types_of(of->args, of->count);
  return true;
}

}  // namespace

bool is_for(const Shortcut &shortcut, const kpk_arg *args, uint32_t count) {
  if (shortcut.count != count) return false;
  const Step *steps = steps_of(shortcut);
  for (uint32_t i = 0; i < count; ++i) {
    if (steps[i].given != given_as(args[i])) return false;
  }
  return true;
}

size_t shortcut_bytes(const Function &function, uint32_t count, const Terms &terms) {
  const size_t keyed = terms.rule == nullptr ? 0 : sizeof(Keyed) + terms.rule->count * sizeof(Field);
  return sizeof(Shortcut) + count * (sizeof(Step) + sizeof(Limit)) +
         most_rivals(*function.choices, terms) * sizeof(Rival) + keyed;
}

void make_shortcut(const Function &function, const Call &call, const Terms &terms, Shortcut *out) {
  const Driver &driver = *function.plan.device->driver;
  const KernelView &view = *function.plan.view;
  const uint32_t count = call.count;
  auto *steps = reinterpret_cast<Step *>(out + 1);
  auto *limits = reinterpret_cast<Limit *>(steps + count);
  auto *rivals = reinterpret_cast<Rival *>(limits + count);
  auto *keyed = reinterpret_cast<Keyed *>(rivals + most_rivals(*function.choices, terms));
  out->limits = limits;
  out->rivals = rivals;
  Case of = {function, view.overloads[function.plan.variant->overload], terms, call, call.args, count, {}};
  if (fill_shortcut(&of, {limits, rivals, keyed}, out)) out->plan = &function.plan;
  // Also of what has no shortcut: what it is that has none.
  if (terms.rule != nullptr) {
    keyed->tuning = terms.tuning;
    keyed->rule = terms.rule;
    keyed->tuned = terms.tuned;
    out->keyed = keyed;
  }
  for (uint32_t i = 0; i < count; ++i) steps[i].given = given_as(call.args[i]);
  out->count = static_cast<uint8_t>(count);
  out->function = &function;
  out->launch = driver.launch;
  out->driver = &driver;
}

bool fill_rarely(const Shortcut &shortcut, const kpk_arg *args, uint32_t *grid) {
  uint64_t odd_16 = 0, special = 0;
  for (uint32_t i = 0; i < shortcut.count; ++i) {
    const uint64_t bits = args[i].bits;
    odd_16 |= static_cast<uint64_t>((bits & 15) != 0) << i;
    special |= static_cast<uint64_t>(bits == (is_pointer(args[i].type) ? 0u : 1u)) << i;
  }
  if ((shortcut.special & ~special) != 0 || has_rival(shortcut, odd_16, special)) return false;
  const Plan &plan = *shortcut.plan;
  for (uint32_t i = 0; i < plan.axis_count; ++i) {
    const Axis &rule = plan.axes[i];
    if (rule.kind != Axis::kProgram) continue;
    ExprError error;
    const auto value = static_cast<uint64_t>(axis_value(plan, rule, args, &error));
    if (error != ExprError::kNone || value - 1 >= rule.most) return false;
    grid[rule.axis] = static_cast<uint32_t>(value);
  }
  return true;
}

}  // namespace kpk
