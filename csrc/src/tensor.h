// Host tensor descriptors: checked, and brought into the parameter block as the image wants them.
#pragma once

#include "driver.h"

namespace kpk {

// Fills what the image takes of the call's descriptors into request.params: encoded maps, or their parts.
kpk_status fill_tensors(const LaunchRequest &request);

}  // namespace kpk
