// What the 8-bit type codes of the ABI mean.
#pragma once

#include <kpack/abi.h>

#include <cstdint>

namespace kpk {

struct Range {
  int64_t least;
  int64_t most;
};

inline bool is_pointer(uint8_t type) { return (type & KPK_POINTER) != 0; }
inline bool is_tensordesc(uint8_t type) { return (type & 0xc0) == KPK_TENSORDESC && type != KPK_VARIES; }
inline bool is_integer(uint8_t type) { return type >= KPK_I1 && type <= KPK_U64; }
inline bool is_float(uint8_t type) { return type >= KPK_FP16 && type <= KPK_FP8E4B15; }

// "fp16", without a pointer's star or what else it is the element of; "?" for a code this runtime does not know.
const char *type_name(uint8_t type);
// Of one element, bytes; 0 where there is none.
int64_t element_bytes(uint8_t type);
// Of an integer type; a u64 above INT64_MAX is outside and needs its own look.
Range integer_range(uint8_t type);
// `value` rounded to nearest even, as the `bytes` low bytes of the result.
uint64_t float_bits(uint8_t type, double value);

}  // namespace kpk
