// Contexts, and which device each is of. A context goes by its id, which no later one is given again, or, with
// drivers before 12.0, by its address.
#pragma once

#include <cstdint>

#include "cuda_api.h"

namespace kpk::cuda {

// The device of a context that a launch has been in, or null.
const Device *device_of_context(uint64_t id);
// Of `context`, or, for null, of the thread's current one.
CUresult id_of(void *context, uint64_t *id);

kpk_status place_of(void *stream, const char *kernel, Place *out);
kpk_status context_of(const Device &device, const char *kernel, uint64_t *context);

}  // namespace kpk::cuda
