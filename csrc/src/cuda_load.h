// Images into libcuda and out of it.
#pragma once

#include "driver.h"

namespace kpk::cuda {

// What this driver is too old for is KPK_ERROR_NO_IMAGE.
kpk_status accepts(const LoadRequest &request);
kpk_status load(const LoadRequest &request, Loaded *out);
kpk_status unload(const Device &device, const Loaded &loaded, const char *kernel, uint64_t context);

}  // namespace kpk::cuda
