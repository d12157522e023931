// What the program does where a kernel has no image: its own callback instead of an error.
#pragma once

#include "module.h"

namespace kpk {

// What a launch returns that could not choose an image because of `status`, with its message: where that is
// KPK_ERROR_NO_IMAGE and the program has a fallback, what this returns.
kpk_status or_fall_back(kpk_status status, const DeviceState &device, void *stream, const kpk_arg *args,
                        uint32_t count);

}  // namespace kpk
