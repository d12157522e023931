// Tensor maps, encoded by libcuda.
#pragma once

#include "driver.h"

namespace kpk::cuda {

// Encodes `tensor`, which has been checked, as the compiler wants it: 128 bytes at `map`, aligned to 64. A
// context of `device` must be current, or it is kElsewhere: what a map looks like is for the device to know.
// `symbol`: the image's, for messages. In im2col mode `wanted.box` is how many pixels, and how many channels
// of each.
kpk_status encode(const Device &device, const kpk_tensor &tensor, const kpk_abi_tensordesc &wanted,
                  const char *symbol, void *map);

}  // namespace kpk::cuda
