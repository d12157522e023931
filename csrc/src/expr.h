// Guards and grids: evaluates the expression programs of the ABI. Pure.
#pragma once

#include <kpack/abi.h>

#include <cstdint>

namespace kpk {

enum class ExprError : uint8_t { kNone, kOverflow, kDivisionByZero, kNegative, kMalformed };
const char *expr_error_text(ExprError error);

// What an expression may ask for.
struct ExprInput {
  const int64_t *values;       // of each parameter
  const uint8_t *types;        // of each parameter
  const kpk_value *constexprs; // of the variant
};

// Runs the program at `code`. On an error the result is 0 and `*error` says which.
int64_t evaluate(const uint8_t *code, const ExprInput &input, ExprError *error);

}  // namespace kpk
