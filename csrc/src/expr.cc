#include "expr.h"

#include <cstring>

#include "types.h"
#include "view.h"

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

// ---- The check

struct Shape {
  uint8_t operand_bytes;
  uint8_t pops;
  uint8_t pushes;
};

// False for an opcode that this runtime does not know.
bool shape_of(uint8_t op, Shape *out) {
  switch (op) {
    case KPK_OP_END: *out = {0, 1, 0}; return true;
    case KPK_OP_I8: *out = {1, 0, 1}; return true;
    case KPK_OP_I64: *out = {8, 0, 1}; return true;
    case KPK_OP_PARAM:
    case KPK_OP_CONSTEXPR:
    case KPK_OP_SIZEOF: *out = {2, 0, 1}; return true;
    case KPK_OP_JUMP: *out = {2, 0, 0}; return true;
    case KPK_OP_JUMP_IF_ZERO: *out = {2, 1, 0}; return true;
    default: break;
  }
  if (op >= KPK_OP_NEG && op <= KPK_OP_NEXT_POWER_OF_2) *out = {0, 1, 1};
  if (op >= KPK_OP_ADD && op <= KPK_OP_SHR) *out = {0, 2, 1};
  return op >= KPK_OP_NEG && op <= KPK_OP_SHR;
}

// Where jumps land, and how deep the stack is there. Programs are short: few jumps are open at a time.
class Landings {
 public:
  bool add(const uint8_t *target, int depth) {
    if (count_ == kMost) return false;
    open_[count_++] = {target, depth};
    return true;
  }
  // Arrives at `here` with `*depth` values, or, after a jump, from a landing alone (-1). False if the ways
  // that meet here disagree.
  bool arrive(const uint8_t *here, int *depth) {
    for (uint32_t i = 0; i < count_;) {
      if (open_[i].target < here) return false;  // landed inside an instruction
      if (open_[i].target != here) {
        ++i;
        continue;
      }
      if (*depth != -1 && *depth != open_[i].depth) return false;
      *depth = open_[i].depth;
      open_[i] = open_[--count_];
    }
    return *depth != -1;
  }
  bool empty() const { return count_ == 0; }

 private:
  static constexpr uint32_t kMost = 256;
  struct {
    const uint8_t *target;
    int depth;
  } open_[kMost];
  uint32_t count_ = 0;
};

}  // namespace

bool is_program(const uint8_t *code, const uint8_t *end, uint32_t params, uint32_t constexprs) {
  Landings landings;
  for (int depth = 0; code < end;) {
    if (!landings.arrive(code, &depth)) return false;
    const uint8_t op = *code++;
    Shape shape;
    if (!shape_of(op, &shape) || end - code < shape.operand_bytes || depth < shape.pops) return false;
    depth += shape.pushes - shape.pops;
    if (depth > KPK_EXPR_STACK) return false;
    if (op == KPK_OP_END) return depth == 0 && landings.empty();
    const uint16_t number = shape.operand_bytes == 2 ? operand<uint16_t>(code) : uint16_t{0};
    if (shape.operand_bytes != 2) code += shape.operand_bytes;
    if ((op == KPK_OP_PARAM || op == KPK_OP_SIZEOF) && number >= params) return false;
    if (op == KPK_OP_CONSTEXPR && number >= constexprs) return false;
    if (op != KPK_OP_JUMP && op != KPK_OP_JUMP_IF_ZERO) continue;
    if (end - code <= number || !landings.add(code + number, depth)) return false;
    if (op == KPK_OP_JUMP) depth = -1;
  }
  return false;
}

bool reads(const uint8_t *code, uint16_t param) {
  for (Shape shape; *code != KPK_OP_END; code += 1 + shape.operand_bytes) {
    if (!shape_of(*code, &shape)) return false;
    uint16_t number = 0;
    if (*code == KPK_OP_PARAM) std::memcpy(&number, code + 1, sizeof number);
    if (*code == KPK_OP_PARAM && number == param) return true;
  }
  return false;
}

const char *expr_error_text(ExprError error) {
  switch (error) {
    case ExprError::kNone: return "no error";
    case ExprError::kOverflow: return "a result does not fit in 64 bits";
    case ExprError::kDivisionByZero: return "division by zero";
    case ExprError::kNegative: return "a shift or next_power_of_2 of a negative number";
  }
  return "";
}

int64_t evaluate(const uint8_t *code, const ExprInput &input, ExprError *error) {
  int64_t stack[KPK_EXPR_STACK + 1];
  int64_t *top = stack;  // the last value; stack[0] is never one
  bool overflow = false;
  *error = ExprError::kNone;
  for (;;) {
    const uint8_t op = *code++;
    if (op >= KPK_OP_ADD && op <= KPK_OP_SHR) --top;  // a binary one: top[0] op top[1], into top[0]
    const int64_t a = top[0], b = top[op >= KPK_OP_ADD && op <= KPK_OP_SHR ? 1 : 0];
    switch (op) {
      case KPK_OP_END: return a;
      case KPK_OP_I8: *++top = operand<int8_t>(code); break;
      case KPK_OP_I64: *++top = operand<int64_t>(code); break;
      case KPK_OP_PARAM: *++top = static_cast<int64_t>(input.args[operand<uint16_t>(code)].bits); break;
      case KPK_OP_CONSTEXPR:
        *++top = follow<kpk_value>(input.variant->constexprs)[operand<uint16_t>(code)].bits;
        break;
      case KPK_OP_SIZEOF:
        *++top = element_bytes(follow<uint8_t>(input.overload->types)[operand<uint16_t>(code)]);
        break;
      case KPK_OP_NEG: overflow = __builtin_sub_overflow(int64_t{0}, a, top); break;
      case KPK_OP_NOT: *top = a == 0; break;
      case KPK_OP_ABS: overflow = a < 0 && __builtin_sub_overflow(int64_t{0}, a, top); break;
      case KPK_OP_NEXT_POWER_OF_2: *error = next_power_of_2(a, top); break;
      case KPK_OP_ADD: overflow = __builtin_add_overflow(a, b, top); break;
      case KPK_OP_SUB: overflow = __builtin_sub_overflow(a, b, top); break;
      case KPK_OP_MUL: overflow = __builtin_mul_overflow(a, b, top); break;
      case KPK_OP_FLOORDIV: *error = floor_divide(a, b, top); break;
      case KPK_OP_MOD: *error = modulo(a, b, top); break;
      case KPK_OP_CDIV: *error = ceiling_divide(a, b, top); break;
      case KPK_OP_MIN: *top = a < b ? a : b; break;
      case KPK_OP_MAX: *top = a > b ? a : b; break;
      case KPK_OP_EQ: *top = a == b; break;
      case KPK_OP_NE: *top = a != b; break;
      case KPK_OP_LT: *top = a < b; break;
      case KPK_OP_LE: *top = a <= b; break;
      case KPK_OP_GT: *top = a > b; break;
      case KPK_OP_GE: *top = a >= b; break;
      case KPK_OP_AND: *top = a & b; break;
      case KPK_OP_OR: *top = a | b; break;
      case KPK_OP_XOR: *top = a ^ b; break;
      case KPK_OP_SHL: *error = shift_left(a, b, top); break;
      case KPK_OP_SHR: *error = shift_right(a, b, top); break;
      case KPK_OP_JUMP: code += operand<uint16_t>(code); continue;
      case KPK_OP_JUMP_IF_ZERO: {
        const uint16_t skip = operand<uint16_t>(code);
        if (a == 0) code += skip;
        --top;
        continue;
      }
      default: return 0;  // not after is_program()
    }
    if (overflow) *error = ExprError::kOverflow;
    if (*error != ExprError::kNone) return 0;
  }
}

}  // namespace kpk
