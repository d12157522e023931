// Tensor maps, encoded by libcuda.
#pragma once

#include "driver.h"

namespace kpk::cuda {

// Encodes `tensor`, which has been checked, as the compiler wants it: 128 bytes at `map`.
kpk_status encode(const kpk_tensor &tensor, const kpk_abi_tensordesc &wanted, const char *symbol, void *map);

}  // namespace kpk::cuda
