// Device memory in a stream's order, from libcuda.
#pragma once

#include "driver.h"

namespace kpk::cuda {

kpk_status allocate(void *stream, size_t bytes, const char *symbol, uint64_t *address);
kpk_status give_back(void *stream, uint64_t address, const char *symbol);
kpk_status zero(void *stream, uint64_t address, size_t bytes, const char *symbol);
kpk_status reserve(const Device &device, size_t bytes);

}  // namespace kpk::cuda
