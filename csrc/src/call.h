// A call: its arguments, checked and brought to the form that guards, grids and images read. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstddef>
#include <cstdint>

#include "types.h"
#include "view.h"

namespace kpk {

constexpr uint32_t kInlineParams = 64;  // the masks of a variant reach so far

// Without KPACK_UNCHECKED (CMake: -DKPACK_CHECKS=OFF) every launch checks ranges, constness and alignment.
#if defined(KPACK_UNCHECKED)
constexpr bool kChecked = false;
#else
constexpr bool kChecked = true;
#endif

// How an argument is checked in every call of one overload, in four bytes: a launch reads them all.
struct ParamCheck {
  static constexpr uint8_t kExact = 128;  // of `flags`: nothing is sure
  uint8_t sure_bits;                      // of an integer: from 0 to 2^sure_bits - 1 all is well
  uint8_t flags;                          // KPK_PARAM_CONST where a pointer to const may be given, kExact
  int8_t integer;                         // all bits, or none
  uint8_t low_bits;                       // of a pointer: those that are 0 at an element's start
};

struct Call {
  const kpk_arg *args;
  uint32_t count;
  uint64_t divisible_16;  // bit i: argument i is
  uint64_t equal_1;
  uint64_t null;
};

// Which overload `args` call: by signature and selected values, otherwise argument by argument. `*first` is
// where to look first, and is moved to what was found. KPK_ERROR_ARGUMENT if there is none.
kpk_status find_overload(const KernelView &view, const kpk_arg *args, uint32_t count, uint64_t signature,
                         uint32_t *first);

// Are the selected arguments what this overload is for?
bool selects(const KernelView &view, const kpk_abi_overload &overload, const kpk_arg *args);

// Fills the masks of `call`, those of ones and nulls where a variant asks for them, and checks ranges and
// constness.
kpk_status check_arguments(const KernelView &view, const kpk_abi_overload &overload, const ParamCheck *checks,
                           bool ones_and_nulls, Call *call);

void fill_checks(const KernelView &view, const kpk_abi_overload &overload, ParamCheck *checks);

// What the kernel accepts for an integer parameter: what it declares, within its type.
Range range_of(const KernelView &view, const kpk_abi_overload &overload, uint32_t param);

// The value of a floating parameter, for which an integer may have been given.
double number(const kpk_arg &arg);

}  // namespace kpk
