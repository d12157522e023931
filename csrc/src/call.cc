#include "call.h"

#include <cstring>

#include "describe.h"
#include "expr.h"
#include "message.h"
#include "types.h"

namespace kpk {
namespace {

double as_double(uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// A u64 above INT64_MAX: not to be taken for a negative number.
bool is_huge(const kpk_arg &arg) { return arg.type == KPK_U64 && static_cast<int64_t>(arg.bits) < 0; }

// The integer as a double, if it is one exactly.
bool is_exact(int64_t value, double *out) {
  *out = static_cast<double>(value);
  return *out < 9223372036854775808.0 && static_cast<int64_t>(*out) == value;
}

bool is_text(const kpk_arg &arg) { return arg.type == KPK_STRING && arg.bits != 0; }

// Does the argument equal the selected value? Equality is Python's: 1, True and 1.0 are one value.
bool equals(const kpk_value &value, const kpk_arg &arg) {
  switch (value.type) {
    case KPK_I1:
    case KPK_I64: {
      if (is_integer(arg.type)) return !is_huge(arg) && static_cast<int64_t>(arg.bits) == value.bits;
      double number;
      return is_float(arg.type) && is_exact(value.bits, &number) && as_double(arg.bits) == number;
    }
    case KPK_FP64: {
      const double expected = as_double(static_cast<uint64_t>(value.bits));
      if (is_float(arg.type)) return as_double(arg.bits) == expected;
      double number;
      return is_integer(arg.type) && !is_huge(arg) && is_exact(static_cast<int64_t>(arg.bits), &number) &&
             number == expected;
    }
    case KPK_STRING:
      return is_text(arg) && std::strcmp(text(value.bits), reinterpret_cast<const char *>(arg.bits)) == 0;
    case KPK_NONE: return arg.type == KPK_NONE || (is_pointer(arg.type) && arg.bits == 0);
    case KPK_DTYPE: return arg.type == KPK_DTYPE && static_cast<int64_t>(arg.bits) == value.bits;
    default: return false;
  }
}

// May `arg` be given for a parameter of `type`? An integer does for a floating one when it is exact.
bool accepts(uint8_t kind, uint8_t type, const kpk_arg &arg) {
  if (kind == KPK_PARAM_SELECTED) return true;
  if (is_pointer(type)) {
    if (arg.type == KPK_NONE) return arg.bits == 0;
    return is_pointer(arg.type) && (arg.type == type || (arg.type == KPK_POINTER && arg.bits == 0));
  }
  if (is_integer(type)) return is_integer(arg.type);
  if (!is_float(type)) return arg.type == type;
  if (is_float(arg.type)) return true;
  double number;
  return is_integer(arg.type) && !is_huge(arg) && is_exact(static_cast<int64_t>(arg.bits), &number);
}

bool accepts_all(const KernelView &view, const kpk_abi_overload &overload, const kpk_arg *args) {
  const uint8_t *types = view.types(overload);
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (!accepts(view.params[i].kind, types[i], args[i])) return false;
  }
  return true;
}

template <class Matches>
bool search(const KernelView &view, uint32_t *first, Matches matches) {
  const uint32_t count = view.overloads.size();
  for (uint32_t step = 0, i = *first; step < count; ++step, i = i + 1 == count ? 0 : i + 1) {
    if (matches(view.overloads[i])) return *first = i, true;
  }
  return false;
}

// The value of selected parameter number `selected` in an overload.
const kpk_value &selected_value(const kpk_abi_overload &overload, uint32_t selected) {
  return follow<kpk_value>(overload.selected)[selected];
}

// Is there an overload that takes argument `i`, whatever the others are?
bool taken(const KernelView &view, uint32_t i, uint32_t selected, const kpk_arg &arg) {
  const uint8_t kind = view.params[i].kind;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    const kpk_abi_overload &overload = view.overloads[k];
    if (kind == KPK_PARAM_SELECTED ? equals(selected_value(overload, selected), arg)
                                   : accepts(kind, view.types(overload)[i], arg)) {
      return true;
    }
  }
  return false;
}

bool computed(const KernelView &view, const kpk_abi_overload &overload, uint32_t param) {
  for (uint32_t v = overload.first_variant; v < overload.first_variant + overload.variant_count; ++v) {
    const kpk_abi_variant &variant = view.variants[v];
    const uint32_t programs[] = {variant.guard, variant.grid[0], variant.grid[1], variant.grid[2],
                                 variant.prefer};
    for (const uint32_t at : programs) {
      if (at != 0 && reads(view.exprs + at, static_cast<uint16_t>(param))) return true;
    }
  }
  return false;
}

// No overload takes the call: names the first argument that none takes, or, where each alone would do, all
// overloads.
kpk_status refuse(const KernelView &view, const kpk_arg *args) {
  Text why = message();
  for (uint32_t i = 0, selected = 0; i < view.params.size(); ++i) {
    const bool is_selected = view.params[i].kind == KPK_PARAM_SELECTED;
    if (!taken(view, i, selected, args[i])) {
      why.add("%s: argument %u '%s': expected ", view.name(), i + 1, text(view.params[i].name));
      is_selected ? add_selected_values(view, selected, &why) : add_param_type(view, i, &why);
      why.add(", got ");
      add_arg(args[i], is_selected, &why);
      return KPK_ERROR_ARGUMENT;
    }
    selected += is_selected;
  }
  why.add("%s: no overload takes (", view.name());
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (i != 0) why.add(", ");
    add_arg(args[i], view.params[i].kind == KPK_PARAM_SELECTED, &why);
  }
  why.add("); there is ");
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    if (k != 0) why.add(", ");
    add_overload(view, view.overloads[k], &why);
  }
  return KPK_ERROR_ARGUMENT;
}

// The exact look at one integer that the quick comparison did not pass.
[[gnu::cold]] kpk_status check_integer(const KernelView &view, const kpk_abi_overload &overload,
                                       const kpk_arg &arg, uint32_t index) {
  const int64_t value = static_cast<int64_t>(arg.bits);
  const uint8_t type = view.types(overload)[index];
  const Range range = range_of(view, overload, index);
  const bool huge = is_huge(arg);
  if (!huge && value >= range.least && value <= range.most) return KPK_OK;
  // The range of an int64 says nothing of the other half of a u64; a guard or grid cannot compute with it.
  const bool whole = type == KPK_U64 && range.most == INT64_MAX && !computed(view, overload, index);
  if (huge && whole) return KPK_OK;
  Text why = message();
  why.add("%s: argument %u '%s': expected %s from %lld to ", view.name(), index + 1,
          text(view.params[index].name), type_name(type), static_cast<long long>(range.least));
  if (whole) {
    why.add("%llu", static_cast<unsigned long long>(UINT64_MAX));
  } else {
    why.add("%lld", static_cast<long long>(range.most));
  }
  if (huge) {
    why.add(", got %llu", static_cast<unsigned long long>(arg.bits));
  } else {
    why.add(", got %lld", static_cast<long long>(value));
  }
  return KPK_ERROR_ARGUMENT;
}

[[gnu::cold]] kpk_status refuse_const(const KernelView &view, const kpk_abi_overload &overload,
                                      const kpk_arg &arg, uint32_t index) {
  return fail(KPK_ERROR_ARGUMENT, "%s: argument %u '%s': expected *%s, got const *%s: the kernel writes it",
              view.name(), index + 1, text(view.params[index].name), type_name(view.types(overload)[index]),
              type_name(arg.type));
}

[[gnu::cold]] kpk_status refuse_address(const KernelView &view, const kpk_abi_overload &overload,
                                        const kpk_arg &arg, uint32_t index) {
  const uint8_t type = view.types(overload)[index];
  return fail(KPK_ERROR_ARGUMENT,
              "%s: argument %u '%s': expected the address of a %s, a multiple of %lld, got 0x%llx",
              view.name(), index + 1, text(view.params[index].name), type_name(type),
              static_cast<long long>(element_bytes(type)), static_cast<unsigned long long>(arg.bits));
}

// Not 0 if the argument may be out of range, lies across elements, or is const where it must not be.
uint64_t doubt(const ParamCheck &check, const kpk_arg &arg) {
  const uint64_t above = arg.bits >> check.sure_bits;
  const auto integer = static_cast<uint64_t>(static_cast<int64_t>(check.integer));
  return (above & integer) | (arg.bits & check.low_bits) | (check.flags & ParamCheck::kExact) |
         (arg.flags & ~uint32_t{check.flags} & KPK_PARAM_CONST);
}

[[gnu::noinline]] kpk_status check_again(const KernelView &view, const kpk_abi_overload &overload,
                                         const ParamCheck *checks, const Call &call) {
  for (uint32_t i = 0; i < call.count; ++i) {
    const kpk_arg &arg = call.args[i];
    if (doubt(checks[i], arg) == 0) continue;
    if ((arg.flags & ~uint32_t{checks[i].flags} & KPK_PARAM_CONST) != 0)
      return refuse_const(view, overload, arg, i);
    if ((arg.bits & checks[i].low_bits) != 0) return refuse_address(view, overload, arg, i);
    if (const kpk_status status = check_integer(view, overload, arg, i)) return status;
  }
  return KPK_OK;
}

}  // namespace

Range range_of(const KernelView &view, const kpk_abi_overload &overload, uint32_t param) {
  const kpk_abi_param &declared = view.params[param];
  Range range = integer_range(view.types(overload)[param]);
  if (declared.type == KPK_VARIES) return range;
  if (range.least < declared.least) range.least = declared.least;
  if (range.most > declared.most) range.most = declared.most;
  return range;
}

bool selects(const KernelView &view, const kpk_abi_overload &overload, const kpk_arg *args) {
  if (overload.selected == 0) return true;
  const kpk_value *selected = follow<kpk_value>(overload.selected);
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (view.params[i].kind == KPK_PARAM_SELECTED && !equals(*selected++, args[i])) return false;
  }
  return true;
}

double number(const kpk_arg &arg) {
  return is_integer(arg.type) ? static_cast<double>(static_cast<int64_t>(arg.bits)) : as_double(arg.bits);
}

kpk_status find_overload(const KernelView &view, const kpk_arg *args, uint32_t count, uint64_t signature,
                         uint32_t *first) {
  if (count != view.params.size()) {
    Text why = message();
    why.add("%s: expected %u arguments, got %u: ", view.name(), view.params.size(), count);
    add_prototype(view, &why);
    return KPK_ERROR_ARGUMENT;
  }
  const auto same = [&](const kpk_abi_overload &overload) {
    return overload.signature == signature && selects(view, overload, args);
  };
  const auto fits = [&](const kpk_abi_overload &overload) {
    return accepts_all(view, overload, args) && selects(view, overload, args);
  };
  // Most calls are like the one before, also those whose arguments convert.
  if (same(view.overloads[*first]) || fits(view.overloads[*first])) return KPK_OK;
  return search(view, first, same) || search(view, first, fits) ? KPK_OK : refuse(view, args);
}

void fill_checks(const KernelView &view, const kpk_abi_overload &overload, ParamCheck *checks) {
  const uint8_t *types = view.types(overload);
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    const kpk_abi_param &param = view.params[i];
    ParamCheck &check = checks[i];
    // Only a pointer can be const.
    const auto is_const = static_cast<uint8_t>(param.flags & KPK_PARAM_CONST);
    check = {63, is_pointer(types[i]) ? is_const : uint8_t{KPK_PARAM_CONST}, 0, 0};
    const int64_t element = is_pointer(types[i]) ? element_bytes(types[i]) : 0;
    check.low_bits = static_cast<uint8_t>(element > 1 ? element - 1 : 0);
    if (param.kind == KPK_PARAM_SELECTED || !is_integer(types[i])) continue;
    const Range range = range_of(view, overload, i);
    check.integer = -1;
    if (range.least > 0 || range.most < 0) {
      check.flags |= ParamCheck::kExact;
    } else {  // the largest power of two that is not above range.most + 1
      check.sure_bits = static_cast<uint8_t>(63 - __builtin_clzll(static_cast<uint64_t>(range.most) + 1));
    }
  }
}

kpk_status check_arguments(const KernelView &view, const kpk_abi_overload &overload, const ParamCheck *checks,
                           bool ones_and_nulls, Call *call) {
  // Without a branch for each argument: what is not sure of itself is looked at again, all of it. Masks are
  // shifted in from the top, by constants.
  const uint32_t masked = call->count < kInlineParams ? call->count : kInlineParams;
  const kpk_arg *args = call->args;
  uint64_t divisible_16 = 0, unsure = 0;
  for (uint32_t i = 0; i < masked; ++i) {
    divisible_16 = divisible_16 >> 1 | static_cast<uint64_t>((args[i].bits & 15) == 0) << 63;
    unsure |= doubt(checks[i], args[i]);
  }
  for (uint32_t i = masked; i < call->count; ++i) unsure |= doubt(checks[i], args[i]);
  const uint32_t unused = kInlineParams - masked;
  call->divisible_16 = masked == 0 ? 0 : divisible_16 >> unused;
  if (ones_and_nulls) {
    for (uint32_t i = 0; i < masked; ++i) {
      call->equal_1 |= static_cast<uint64_t>(args[i].bits == 1) << i;
      call->null |= static_cast<uint64_t>(args[i].bits == 0) << i;
    }
  }
  return unsure == 0 || !kChecked ? KPK_OK : check_again(view, overload, checks, *call);
}

}  // namespace kpk
