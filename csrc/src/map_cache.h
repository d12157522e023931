// Encoded tensor maps, kept: a program passes the same few tensors again and again. One table for the
// process, bounded, in memory that costs nothing until it is used; readers take no lock and never wait.
#pragma once

#include <cstdint>

#include "device.h"

namespace kpk {

constexpr uint32_t kMapBytes = 128;  // sizeof(CUtensorMap)

// All that goes into a map, packed. The first word says how the others are laid out, so that keys of
// different lengths never agree.
struct MapKey {
  static constexpr uint32_t kMostWords = 15;
  uint64_t words[kMostWords];
  uint32_t count;
};

// Of a tensor that has been checked.
MapKey map_key(const Device &device, const kpk_tensor &tensor, const kpk_abi_tensordesc &wanted);

// Copies the map of this key to `map` (kMapBytes); false if it is not there, and `map` is anything then.
bool find_map(const MapKey &key, unsigned char *map);
// Keeps a map, in place of another if need be; nothing if another thread is at the same place.
void keep_map(const MapKey &key, const unsigned char *map);

}  // namespace kpk
