// When two results are the same, though computed in another order. Pure.
#pragma once

#include <cstdint>

namespace kpk {

// What a pointer to elements of a type code of the ABI reads them as: all integers, and types that have no number,
// are compared byte by byte.
struct Difference {
  uint64_t first;  // element that differs
  uint64_t count;  // of elements that differ; 0: the two agree
  double expected, got;
};

// By how much elements of this type may differ, for a kernel that rounds as it should:
// |a - b| <= tolerance * (max(|a|, |b|) + mean |expected|). 0: they are the same.
double tolerance_of(uint8_t type);

// The mean of |x| over elements that are finite numbers; of many elements, over some.
double magnitude(uint8_t type, const unsigned char *data, uint64_t bytes);

// NaN is like NaN, infinity like itself alone. `factor` is what tolerance_of() is multiplied by, `mean` is
// magnitude(). Bytes behind the last whole element must be the same.
Difference compare(uint8_t type, const unsigned char *expected, const unsigned char *got, uint64_t bytes,
                   double factor, double mean);

// One element as a number; of an integer too.
double element(uint8_t type, const unsigned char *data);

}  // namespace kpk
