// Device memory in a stream's order, from libcuda: from the device's default pool, or, once some is reserved,
// from a pool of the device's own.
#pragma once

#include "driver.h"

namespace kpk::cuda {

kpk_status allocate(const Device &device, void *stream, size_t bytes, const char *symbol, uint64_t *address);
kpk_status give_back(void *stream, uint64_t address, const char *symbol);
kpk_status zero(void *stream, uint64_t address, size_t bytes, const char *symbol);
kpk_status reserve(const Device &device, size_t bytes);

}  // namespace kpk::cuda
