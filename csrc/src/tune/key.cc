#include "key.h"

#include <cstdlib>
#include <cstring>

namespace kpk {
namespace {

bool is_key(const kpk_abi_param &param, uint8_t type) {
  return (param.flags & (KPK_PARAM_KEY | KPK_PARAM_KEY_EXACT)) != 0 && param.kind != KPK_PARAM_SELECTED &&
         is_integer(type);
}

uint64_t hash_added(void (*add)(const void *, Text *), const void *what) {
  HostArray<char> text;
  return write_text(&text, [&](Text *out) { add(what, out); }) ? hash_text(text.data()) : 0;
}

struct OverloadOf {
  const KernelView &view;
  const kpk_abi_overload &overload;
};

void add_selected_value(const kpk_value &value, Text *out) {
  double number;
  std::memcpy(&number, &value.bits, sizeof number);
  switch (value.type) {
    case KPK_I1: return out->add(value.bits != 0 ? "True" : "False");
    case KPK_FP64: return number != number ? out->add("nan") : out->add("%.17g", number);
    case KPK_STRING: return add_quoted(text(value.bits), out);
    case KPK_NONE: return out->add("None");
    case KPK_DTYPE: return out->add("%s", type_name(static_cast<uint8_t>(value.bits)));
    default: return out->add("%lld", static_cast<long long>(value.bits));
  }
}

// " 16=out_ptr,in_ptr"
void add_names(const KernelView &view, const char *what, uint64_t mask, const char **space, Text *out) {
  if (mask == 0) return;
  out->add("%s%s", *space, what);
  *space = " ";
  const char *separator = "=";
  for (uint32_t i = 0; i < view.params.size() && i < kInlineParams; ++i) {
    if ((mask >> i & 1) == 0) continue;
    out->add("%s%s", separator, text(view.params[i].name));
    separator = ",";
  }
}

// A part of a text that ends before `end`.
struct Piece {
  const char *begin;
  const char *end;
};

bool is(const Piece &piece, const char *name) {
  const size_t length = std::strlen(name);
  return static_cast<size_t>(piece.end - piece.begin) == length &&
         std::memcmp(piece.begin, name, length) == 0;
}

// Up to the next `stop`, which is passed over.
Piece next_piece(const char **at, const char *end, char stop) {
  const auto *found = static_cast<const char *>(std::memchr(*at, stop, static_cast<size_t>(end - *at)));
  const Piece piece = {*at, found == nullptr ? end : found};
  *at = found == nullptr ? end : found + 1;
  return piece;
}

bool parse_integer(const Piece &piece, int64_t *out) {
  const char *at = piece.begin;
  const bool negative = at != piece.end && *at == '-';
  at += negative;
  if (at == piece.end) return false;
  int64_t value = 0;
  for (; at != piece.end; ++at) {
    if (*at < '0' || *at > '9' || __builtin_mul_overflow(value, 10, &value)) return false;
    const int digit = *at - '0';
    if (negative ? __builtin_sub_overflow(value, digit, &value)
                 : __builtin_add_overflow(value, digit, &value))
      return false;
  }
  return *out = value, true;
}

// The mask of parameters in "out_ptr,in_ptr", all of which `asked` has; false if it is none.
bool parse_names(const KernelView &view, const Piece &piece, uint64_t asked, uint64_t *out) {
  if (*out != 0) return false;  // said already
  for (const char *at = piece.begin; at != piece.end;) {
    const Piece name = next_piece(&at, piece.end, ',');
    uint32_t i = 0;
    while (i < view.params.size() && i < kInlineParams && !is(name, text(view.params[i].name))) ++i;
    if (i == view.params.size() || i == kInlineParams) return false;
    *out |= uint64_t{1} << i;
  }
  return *out != 0 && (*out & ~asked) == 0;
}

}  // namespace

uint64_t hash_text(const char *text) {
  uint64_t hash = KPK_SIGNATURE_SEED;
  for (; *text != '\0'; ++text) hash = (hash ^ static_cast<uint8_t>(*text)) * KPK_SIGNATURE_PRIME;
  return hash;
}

uint64_t tuning_hash(const KernelView &view) {
  uint64_t hash = kWordSeed;
  for (uint32_t v = 0; v < view.variants.size(); ++v) hash = mix(hash, view.variants[v].hash);
  return finish(hash);
}

KeyRule *make_rule(const KernelView &view, const kpk_abi_overload &overload, const Device &device,
                   const char *op) {
  const uint8_t *types = view.types(overload);
  uint32_t count = 0;
  for (uint32_t i = 0; i < view.params.size(); ++i) count += is_key(view.params[i], types[i]);
  auto *made = static_cast<KeyRule *>(std::calloc(1, sizeof(KeyRule) + count * sizeof(KeyParam)));
  if (made == nullptr) return nullptr;
  for (uint32_t v = overload.first_variant; v < overload.first_variant + overload.variant_count; ++v) {
    made->divisible_16 |= view.variants[v].divisible_16;
    made->equal_1 |= view.variants[v].equal_1;
    made->null |= view.variants[v].null;
  }
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (!is_key(view.params[i], types[i])) continue;
    const bool exact = (view.params[i].flags & KPK_PARAM_KEY_EXACT) != 0;
    made->params[made->count++] = {static_cast<uint16_t>(i), exact};
  }
  const OverloadOf of = {view, overload};
  const auto add_device = [](const void *on, Text *out) {
    add_device_text(*static_cast<const Device *>(on), out);
  };
  const auto add_overload = [](const void *which, Text *out) {
    const auto &each = *static_cast<const OverloadOf *>(which);
    add_overload_text(each.view, each.overload, out);
  };
  const auto add_op = [](const void *name, Text *out) { out->add("%s", static_cast<const char *>(name)); };
  made->seed = mix(kWordSeed, hash_added(add_device, &device));
  if (op != nullptr) made->seed = mix(made->seed, hash_added(add_op, op));
  made->seed = mix(made->seed, hash_added(add_overload, &of));
  return made;
}

void add_device_text(const Device &device, Text *out) {
  out->add("%s/%u", device.arch, device.multiprocessors);
}

void add_type_text(uint8_t type, Text *out) {
  if (is_tensordesc(type)) return out->add("tensordesc<%s>", type_name(type));
  out->add("%s%s", is_pointer(type) ? "*" : "", type_name(type));
}

void add_quoted(const char *text, Text *out) {
  out->add("'");
  for (; *text != '\0'; ++text) {
    const auto byte = static_cast<uint8_t>(*text);
    if (byte < 0x20 || byte == 0x7f) {
      out->add("\\x%02x", byte);
    } else {
      out->add("%s%c", byte == '\'' || byte == '\\' ? "\\" : "", byte);
    }
  }
  out->add("'");
}

void add_overload_text(const KernelView &view, const kpk_abi_overload &overload, Text *out) {
  const uint8_t *types = view.types(overload);
  const char *separator = "";
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (view.params[i].kind != KPK_PARAM_ARGUMENT) continue;
    out->add("%s", separator);
    add_type_text(types[i], out);
    separator = ",";
  }
  const kpk_value *selected = follow<kpk_value>(overload.selected);
  separator = ";";
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (view.params[i].kind != KPK_PARAM_SELECTED) continue;
    out->add("%s%s=", separator, text(view.params[i].name));
    add_selected_value(*selected++, out);
    separator = ",";
  }
}

void add_call_text(const KernelView &view, const KeyRule &rule, const Call &call, Text *out) {
  const char *space = "";
  for (uint32_t i = 0; i < rule.count; ++i) {
    const KeyParam &param = rule.params[i];
    const int64_t value = key_value(param, static_cast<int64_t>(call.args[param.index].bits));
    out->add("%s%s=%lld", space, text(view.params[param.index].name), static_cast<long long>(value));
    space = " ";
  }
  add_names(view, "16", call.divisible_16 & rule.divisible_16, &space, out);
  add_names(view, "1", call.equal_1 & rule.equal_1, &space, out);
  add_names(view, "null", call.null & rule.null, &space, out);
  if (*space == '\0') out->add("-");
}

bool parse_call_text(const KernelView &view, const KeyRule &rule, const char *call, uint64_t *key) {
  HostArray<int64_t> values;
  HostArray<bool> known;
  if (!values.allocate(rule.count) || !known.allocate(rule.count)) return false;
  uint64_t divisible_16 = 0, equal_1 = 0, null = 0;
  uint32_t found = 0;
  const char *end = call + std::strlen(call);
  for (const char *at = std::strcmp(call, "-") == 0 ? end : call; at != end;) {
    const Piece part = next_piece(&at, end, ' ');
    Piece value = part;
    const Piece name = next_piece(&value.begin, part.end, '=');
    if (name.end == part.end) return false;
    bool good = false;
    if (is(name, "16")) {
      good = parse_names(view, value, rule.divisible_16, &divisible_16);
    } else if (is(name, "1")) {
      good = parse_names(view, value, rule.equal_1, &equal_1);
    } else if (is(name, "null")) {
      good = parse_names(view, value, rule.null, &null);
    } else {
      uint32_t i = 0;
      while (i < rule.count && !is(name, text(view.params[rule.params[i].index].name))) ++i;
      good = i < rule.count && !known[i] && parse_integer(value, &values[i]);
      if (good) known[i] = true, ++found;
    }
    if (!good) return false;
  }
  if (found != rule.count) return false;
  uint64_t hash = hash_class(rule, divisible_16, equal_1, null);
  for (uint32_t i = 0; i < rule.count; ++i)
    hash = mix(hash, static_cast<uint64_t>(key_value(rule.params[i], values[i])));
  return *key = finish(hash), true;
}

}  // namespace kpk
