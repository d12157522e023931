#include "describe.h"

#include <cstring>

#include "call.h"
#include "select.h"
#include "types.h"

namespace kpk {
namespace {

double as_double(uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void add_value(const kpk_value &value, Text *out) {
  switch (value.type) {
    case KPK_I1: out->add(value.bits != 0 ? "True" : "False"); break;
    case KPK_FP64: out->add("%g", as_double(static_cast<uint64_t>(value.bits))); break;
    case KPK_STRING: out->add("'%s'", text(value.bits)); break;
    case KPK_NONE: out->add("None"); break;
    case KPK_DTYPE: out->add("%s", type_name(static_cast<uint8_t>(value.bits))); break;
    default: out->add("%lld", static_cast<long long>(value.bits)); break;
  }
}

bool same_value(const kpk_value &a, const kpk_value &b) {
  if (a.type != b.type) return false;
  return a.type == KPK_STRING ? std::strcmp(text(a.bits), text(b.bits)) == 0 : a.bits == b.bits;
}

void add_type(uint8_t type, Text *out) {
  if (is_tensordesc(type)) return out->add("tensordesc<%s>", type_name(type));
  out->add("%s%s", is_pointer(type) ? "*" : "", type_name(type));
}

// "0x7f00[64, 128]": the tensor that a descriptor is of.
void add_tensor(const kpk_tensor *tensor, Text *out) {
  if (tensor == nullptr) return out->add("null");
  constexpr uint32_t most = sizeof tensor->shape / sizeof *tensor->shape;
  out->add("0x%llx[", static_cast<unsigned long long>(tensor->address));
  for (uint32_t i = 0; i < tensor->rank && i < most; ++i)
    out->add("%s%lld", i == 0 ? "" : ", ", static_cast<long long>(tensor->shape[i]));
  out->add("]");
}

// "1024" for "BLOCK" of "BLOCK=1024": all constexprs of a variant that are not fixed.
void add_constexprs(const KernelView &view, const kpk_abi_variant &variant, Text *out) {
  const kpk_value *values = follow<kpk_value>(variant.constexprs);
  const char *separator = "";
  for (uint32_t i = 0; i < view.constexprs.size(); ++i) {
    if (view.constexprs[i].role == KPK_CONSTEXPR_FIXED) continue;
    out->add("%s%s=", separator, text(view.constexprs[i].name));
    add_value(values[i], out);
    separator = ", ";
  }
}

void add_masked(const KernelView &view, uint64_t mask, Text *out) {
  const char *separator = "";
  for (uint32_t i = 0; i < view.params.size() && i < kInlineParams; ++i) {
    if ((mask >> i & 1) == 0) continue;
    out->add("%s'%s'", separator, text(view.params[i].name));
    separator = ", ";
  }
}

void add_requirement(const KernelView &view, const kpk_abi_requirement &requirement, Text *out) {
  const char *name = text(view.params[requirement.param].name);
  const long long value = requirement.value;
  switch (requirement.kind) {
    case KPK_REQUIRE_DIVISIBLE: out->add("'%s' is not divisible by %lld", name, value); break;
    case KPK_REQUIRE_EQUAL: out->add("'%s' is not %lld", name, value); break;
    case KPK_REQUIRE_NULL: out->add("'%s' is not null", name); break;
    default: out->add("'%s' has a condition this runtime does not know", name); break;
  }
}

// May a hole be why no variant of the overload runs the call? Of a variant that is not packed, nobody knows the
// overload; of one that has another image for the device, the reason is another.
bool concerns(const KernelView &view, const kpk_abi_hole &hole, const kpk_abi_overload &overload,
              const Device &device) {
  if (hole.variant == KPK_HOLE_NO_VARIANT) return true;
  const kpk_abi_variant &variant = view.variants[hole.variant];
  return &view.overloads[variant.overload] == &overload && best_image(view, variant, device) == kNoImage;
}

// The holes that a message names: it has no room for all of a large build.
constexpr uint32_t kMostHoles = 8;

void add_holes(const KernelView &view, const kpk_abi_overload *overload, const Device &device, Text *out) {
  const Table<kpk_abi_hole> holes(view.kernel->holes);
  uint32_t named = 0, more = 0;
  Text nowhere = Text::nowhere();
  for (uint32_t i = 0; i < holes.size(); ++i) {
    if (overload != nullptr && !concerns(view, holes[i], *overload, device)) continue;
    const bool room = named < kMostHoles;
    if (add_hole(view, i, device, room ? out : &nowhere)) ++(room ? named : more);
  }
  if (more != 0) out->add("\n  and %u more that did not compile", more);
}

}  // namespace

void add_arg(const kpk_arg &arg, bool selected, Text *out) {
  if (is_pointer(arg.type) && !(arg.type == KPK_POINTER && arg.bits == 0)) {
    if ((arg.flags & KPK_PARAM_CONST) != 0) out->add("const ");
    add_type(arg.type, out);
    return;
  }
  if (is_tensordesc(arg.type)) return add_type(arg.type, out);
  if (is_float(arg.type) || is_integer(arg.type)) out->add("%s ", type_name(arg.type));
  add_arg_value(arg, selected, out);
}

void add_arg_value(const kpk_arg &arg, bool selected, Text *out) {
  if (is_pointer(arg.type)) {
    if (arg.bits == 0) return out->add("null");
    out->add("0x%llx", static_cast<unsigned long long>(arg.bits));
  } else if (is_tensordesc(arg.type)) {
    add_tensor(reinterpret_cast<const kpk_tensor *>(arg.bits), out);
  } else if (arg.type == KPK_STRING) {
    if (!selected || arg.bits == 0) return out->add("string");
    out->add("'%.64s'", reinterpret_cast<const char *>(arg.bits));
  } else if (is_float(arg.type)) {
    out->add("%g", as_double(arg.bits));
  } else if (arg.type == KPK_I1) {
    out->add(arg.bits != 0 ? "true" : "false");
  } else if (arg.type == KPK_U64) {
    out->add("%llu", static_cast<unsigned long long>(arg.bits));
  } else if (arg.type == KPK_DTYPE) {
    out->add("%s", type_name(static_cast<uint8_t>(arg.bits)));
  } else if (arg.type == KPK_NONE) {
    out->add("none");
  } else {
    out->add("%lld", static_cast<long long>(arg.bits));
  }
}

void add_call(const KernelView &view, const kpk_arg *args, Text *out) {
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    out->add("%s%s=", i == 0 ? "" : " ", text(view.params[i].name));
    add_arg_value(args[i], view.params[i].kind == KPK_PARAM_SELECTED, out);
  }
}

void add_param_type(const KernelView &view, uint32_t param, Text *out) {
  const kpk_abi_param &p = view.params[param];
  if ((p.flags & KPK_PARAM_CONST) != 0) out->add("const ");
  if (p.type != KPK_VARIES) return add_type(p.type, out);
  uint8_t seen[256] = {};
  uint32_t distinct = 0;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    const uint8_t type = view.types(view.overloads[k])[param];
    bool known = false;
    for (uint32_t i = 0; i < distinct; ++i) known = known || seen[i] == type;
    if (!known && distinct < sizeof seen) seen[distinct++] = type;
  }
  const bool tensors = distinct != 0 && is_tensordesc(seen[0]);
  out->add("%s{", tensors ? "tensordesc<" : distinct != 0 && is_pointer(seen[0]) ? "*" : "");
  for (uint32_t i = 0; i < distinct; ++i) out->add("%s%s", i == 0 ? "" : ",", type_name(seen[i]));
  out->add(tensors ? "}>" : "}");
}

void add_selected_values(const KernelView &view, uint32_t selected, Text *out) {
  const uint32_t count = view.overloads.size();
  const auto value = [&](uint32_t k) -> const kpk_value & {
    return follow<kpk_value>(view.overloads[k].selected)[selected];
  };
  const char *separator = "";
  for (uint32_t k = 0; k < count; ++k) {
    bool repeated = false;
    for (uint32_t earlier = 0; earlier < k; ++earlier)
      repeated = repeated || same_value(value(earlier), value(k));
    if (repeated) continue;
    out->add("%s", separator);
    add_value(value(k), out);
    separator = ", ";
  }
}

void add_overload(const KernelView &view, const kpk_abi_overload &overload, Text *out) {
  const uint8_t *types = view.types(overload);
  const kpk_value *selected = follow<kpk_value>(overload.selected);
  out->add("(");
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    const kpk_abi_param &param = view.params[i];
    if (i != 0) out->add(", ");
    if (param.kind == KPK_PARAM_SELECTED) {
      out->add("%s=", text(param.name));
      add_value(*selected++, out);
      continue;
    }
    if ((param.flags & KPK_PARAM_CONST) != 0) out->add("const ");
    add_type(types[i], out);
    out->add(" %s", text(param.name));
  }
  out->add(")");
}

void add_prototype(const KernelView &view, Text *out) {
  static const char *const kinds[] = {"", "selected ", "launch "};
  out->add("%s(", view.name());
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    const kpk_abi_param &param = view.params[i];
    out->add("%s%s", i == 0 ? "" : ", ", param.kind <= KPK_PARAM_LAUNCH ? kinds[param.kind] : "");
    if (param.kind != KPK_PARAM_LAUNCH && param.kind != KPK_PARAM_SELECTED) {
      add_param_type(view, i, out);
      out->add(" ");
    }
    out->add("%s", text(param.name));
  }
  out->add(")");
}

bool has_image(const KernelView &view, uint32_t target) {
  for (uint32_t i = 0; i < view.images.size(); ++i) {
    if (view.images[i].target == target) return true;
  }
  return false;
}

void add_targets(const KernelView &view, Text *out) {
  const char *separator = "";
  for (uint32_t i = 0; i < view.targets.size(); ++i) {
    if (!has_image(view, i)) continue;  // only holes
    out->add("%s%s", separator, text(view.targets[i].name));
    separator = ", ";
  }
  if (*separator == '\0') out->add("none");
}

bool add_hole(const KernelView &view, uint32_t hole, const Device &device, Text *out) {
  const Table<kpk_abi_hole> holes(view.kernel->holes);
  const kpk_abi_hole &missing = holes[hole];
  const kpk_abi_target &target = view.targets[missing.target];
  if (distance(target, device) < 0) return false;
  out->add("\n  %s: not built for %s: %s", text(missing.name), text(target.name), text(missing.reason));
  return true;
}

void add_reason(const KernelView &view, const kpk_abi_variant &variant, Verdict verdict, ExprError error,
                const Call &call, Text *out) {
  switch (verdict) {
    case Verdict::kEligible: out->add("eligible"); break;
    case Verdict::kNotBuilt: out->add("no image for the device"); break;
    case Verdict::kMisaligned:
      add_masked(view, variant.divisible_16 & ~call.divisible_16, out);
      out->add(" not divisible by 16");
      break;
    case Verdict::kNotOne:
      add_masked(view, variant.equal_1 & ~call.equal_1, out);
      out->add(" not 1");
      break;
    case Verdict::kNotNull:
      add_masked(view, variant.null & ~call.null, out);
      out->add(" not null");
      break;
    case Verdict::kRequirement: add_requirement(view, *unmet(variant, call), out); break;
    case Verdict::kGuard:
    case Verdict::kGuardFails:
      out->add("guard %s ", text(view.kernel->guard_text));
      if (verdict == Verdict::kGuard) {
        out->add("does not hold (");
      } else {
        out->add("fails: %s (", expr_error_text(error));
      }
      add_constexprs(view, variant, out);
      out->add(")");
      break;
  }
}

void add_reasons(const KernelView &view, const kpk_abi_overload &overload, const Call &call,
                 const Device &device, Text *out) {
  const uint32_t end = overload.first_variant + overload.variant_count;
  for (uint32_t v = overload.first_variant; v < end; ++v) {
    const kpk_abi_variant &variant = view.variants[v];
    ExprError error;
    const Verdict verdict = judge(view, overload, variant, best_image(view, variant, device), call, &error);
    // A config that only other targets have is no reason, as long as this device has some of its own.
    if (verdict == Verdict::kEligible || verdict == Verdict::kNotBuilt) continue;
    out->add("\n  %s: ", text(variant.name));
    add_reason(view, variant, verdict, error, call, out);
  }
  out->add("\n  called with ");
  add_call(view, call.args, out);
  add_holes(view, &overload, device, out);
}

void add_no_image_sentence(const KernelView &view, const Device &device, Text *out) {
  out->add("%s: no image for %s; this archive has ", view.name(), device.arch);
  add_targets(view, out);
}

void add_no_image(const KernelView &view, const Device &device, Text *out) {
  add_no_image_sentence(view, device, out);
  add_holes(view, nullptr, device, out);
}

void add_no_variant(const KernelView &view, const Device &device, Text *out) {
  out->add("%s: no variant may run this call on %s", view.name(), device.arch);
}

}  // namespace kpk
