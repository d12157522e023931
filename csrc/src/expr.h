// Guards and grids: the expression programs of the ABI, checked once and then run without checks. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstdint>

namespace kpk {

enum class ExprError : uint8_t { kNone, kOverflow, kDivisionByZero, kNegative };
const char *expr_error_text(ExprError error);

// What an expression may ask for.
struct ExprInput {
  const kpk_arg *args;
  const kpk_abi_overload *overload;  // for the parameters' types
  const kpk_abi_variant *variant;    // for its constexprs
};

// Is the program at `code`, which must end before `end`, one that evaluate() can run: known instructions,
// operands in range, jumps forward to instructions, a stack that neither underflows nor grows past
// KPK_EXPR_STACK, one result?
bool is_program(const uint8_t *code, const uint8_t *end, uint32_t params, uint32_t constexprs);

// Does a program that is_program() has passed read parameter `param`?
bool reads(const uint8_t *code, uint16_t param);

// Runs a program that is_program() has passed. On an error the result is 0 and `*error` says which.
int64_t evaluate(const uint8_t *code, const ExprInput &input, ExprError *error);

}  // namespace kpk
