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

kpk_status enter(void *stream, const char *kernel, Place *out, void **before);
void leave(void *before);
// Makes a context current, by its id, if it is not: it must be the primary one of the device, then. `before` is what
// leave() puts back if `changed`.
kpk_status enter_context(const Device &device, uint64_t context, const char *subject, void **before,
                         bool *changed);
bool asks();
uint64_t here(void *stream);
uint64_t place(const Device &device, uint64_t context);
kpk_status context_of(const Device &device, const char *kernel, uint64_t *context);

}  // namespace kpk::cuda
