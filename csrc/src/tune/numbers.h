// Made-up data for a search that has none of the caller's (KPK_TUNE_ALLOCATE): floats about normally distributed, with
// mean 0 and deviation 1, the same in every run. Integers are 0, since they may be indices, lengths or offsets.
#pragma once

#include <cstdint>

namespace kpk {

// Fills `bytes` with elements of a type; what is left behind the last whole one is 0.
void make_numbers(uint8_t type, unsigned char *out, uint64_t bytes);

}  // namespace kpk
