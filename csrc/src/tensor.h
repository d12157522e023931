// Host tensor descriptors: checked, and brought into the parameter block as the image wants them.
#pragma once

#include "driver.h"

namespace kpk {

// Fills what the image takes of the call's descriptors into request.params: encoded maps, or their parts. For
// plans that say so (Plan::tensors), after fill_params(), which zeroes them, and with the context of the
// launch current. KPK_ERROR_ARGUMENT for a tensor that no descriptor can be of; kElsewhere if the context is
// of another device. Without request.params they are checked and nothing else.
kpk_status fill_tensors(const LaunchRequest &request);

}  // namespace kpk
