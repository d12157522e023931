#include "expr.h"

#include <cstring>

#include "types.h"

namespace kpk {
namespace {

template <class T>
T operand(const uint8_t *&at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

ExprError floor_divide(int64_t a, int64_t b, int64_t *out) {
  if (b == 0) return ExprError::kDivisionByZero;
  if (a == INT64_MIN && b == -1) return ExprError::kOverflow;
  *out = a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
  return ExprError::kNone;
}

ExprError modulo(int64_t a, int64_t b, int64_t *out) {
  if (b == 0) return ExprError::kDivisionByZero;
  const int64_t rest = b == -1 ? 0 : a % b;
  *out = rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  return ExprError::kNone;
}

ExprError ceiling_divide(int64_t a, int64_t b, int64_t *out) {
  if (b == 0) return ExprError::kDivisionByZero;
  if (a == INT64_MIN && b == -1) return ExprError::kOverflow;
  *out = a / b + (a % b != 0 && (a < 0) == (b < 0) ? 1 : 0);
  return ExprError::kNone;
}

ExprError shift_left(int64_t a, int64_t b, int64_t *out) {
  if (b < 0) return ExprError::kNegative;
  if (a == 0) return *out = 0, ExprError::kNone;
  if (b > 62) return ExprError::kOverflow;
  return __builtin_mul_overflow(a, int64_t{1} << b, out) ? ExprError::kOverflow : ExprError::kNone;
}

ExprError shift_right(int64_t a, int64_t b, int64_t *out) {
  if (b < 0) return ExprError::kNegative;
  *out = a >> (b > 63 ? 63 : b);
  return ExprError::kNone;
}

ExprError next_power_of_2(int64_t a, int64_t *out) {
  if (a < 0) return ExprError::kNegative;
  if (a > int64_t{1} << 62) return ExprError::kOverflow;
  *out = a <= 1 ? 1 : int64_t{1} << (64 - __builtin_clzll(static_cast<uint64_t>(a - 1)));
  return ExprError::kNone;
}

ExprError unary(uint8_t op, int64_t a, int64_t *out) {
  switch (op) {
    case KPK_OP_NEG: return __builtin_sub_overflow(int64_t{0}, a, out) ? ExprError::kOverflow : ExprError::kNone;
    case KPK_OP_NOT: return *out = a == 0, ExprError::kNone;
    case KPK_OP_ABS:
      if (a == INT64_MIN) return ExprError::kOverflow;
      return *out = a < 0 ? -a : a, ExprError::kNone;
    default: return next_power_of_2(a, out);
  }
}

ExprError binary(uint8_t op, int64_t a, int64_t b, int64_t *out) {
  bool overflow = false;
  switch (op) {
    case KPK_OP_ADD: overflow = __builtin_add_overflow(a, b, out); break;
    case KPK_OP_SUB: overflow = __builtin_sub_overflow(a, b, out); break;
    case KPK_OP_MUL: overflow = __builtin_mul_overflow(a, b, out); break;
    case KPK_OP_FLOORDIV: return floor_divide(a, b, out);
    case KPK_OP_MOD: return modulo(a, b, out);
    case KPK_OP_CDIV: return ceiling_divide(a, b, out);
    case KPK_OP_MIN: *out = a < b ? a : b; break;
    case KPK_OP_MAX: *out = a > b ? a : b; break;
    case KPK_OP_EQ: *out = a == b; break;
    case KPK_OP_NE: *out = a != b; break;
    case KPK_OP_LT: *out = a < b; break;
    case KPK_OP_LE: *out = a <= b; break;
    case KPK_OP_GT: *out = a > b; break;
    case KPK_OP_GE: *out = a >= b; break;
    case KPK_OP_AND: *out = a & b; break;
    case KPK_OP_OR: *out = a | b; break;
    case KPK_OP_XOR: *out = a ^ b; break;
    case KPK_OP_SHL: return shift_left(a, b, out);
    case KPK_OP_SHR: return shift_right(a, b, out);
    default: return ExprError::kMalformed;
  }
  return overflow ? ExprError::kOverflow : ExprError::kNone;
}

}  // namespace

const char *expr_error_text(ExprError error) {
  switch (error) {
    case ExprError::kNone: return "no error";
    case ExprError::kOverflow: return "a result does not fit in 64 bits";
    case ExprError::kDivisionByZero: return "division by zero";
    case ExprError::kNegative: return "a shift or next_power_of_2 of a negative number";
    case ExprError::kMalformed: return "an instruction this runtime does not know";
  }
  return "";
}

int64_t evaluate(const uint8_t *code, const ExprInput &input, ExprError *error) {
  int64_t stack[KPK_EXPR_STACK];
  int64_t *top = stack;  // one past the last value
  *error = ExprError::kNone;
  for (;;) {
    const uint8_t op = *code++;
    switch (op) {
      case KPK_OP_END: return top == stack + 1 ? stack[0] : (*error = ExprError::kMalformed, 0);
      case KPK_OP_JUMP: {
        const uint16_t skip = operand<uint16_t>(code);
        code += skip;
        continue;
      }
      case KPK_OP_JUMP_IF_ZERO: {
        const uint16_t skip = operand<uint16_t>(code);
        if (top == stack) return *error = ExprError::kMalformed, 0;
        if (*--top == 0) code += skip;
        continue;
      }
      default: break;
    }
    if (op <= KPK_OP_SIZEOF) {
      if (top == stack + KPK_EXPR_STACK) return *error = ExprError::kMalformed, 0;
      switch (op) {
        case KPK_OP_I8: *top++ = operand<int8_t>(code); break;
        case KPK_OP_I64: *top++ = operand<int64_t>(code); break;
        case KPK_OP_PARAM: *top++ = input.values[operand<uint16_t>(code)]; break;
        case KPK_OP_CONSTEXPR: *top++ = input.constexprs[operand<uint16_t>(code)].bits; break;
        default: *top++ = element_bytes(input.types[operand<uint16_t>(code)]); break;
      }
      continue;
    }
    const int arity = op <= KPK_OP_NEXT_POWER_OF_2 ? 1 : 2;
    if (top - stack < arity) return *error = ExprError::kMalformed, 0;
    top -= arity;
    *error = arity == 1 ? unary(op, top[0], top) : binary(op, top[0], top[1], top);
    if (*error != ExprError::kNone) return 0;
    ++top;
  }
}

}  // namespace kpk
