// Launches on AMD.
#pragma once

#include "driver.h"

namespace kpk::hip {

// Whether this HIP has what the image is launched with.
kpk_status check_entries(const kpk_abi_image &image);
kpk_status launch(const LaunchRequest &request);
kpk_status occupancy(const Device &device, const Plan &plan, const char *symbol, int *blocks, int *clusters);

}  // namespace kpk::hip
