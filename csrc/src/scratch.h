// Device memory that exists for one launch: how much, from where, and when it goes back.
#pragma once

#include "driver.h"

namespace kpk {

// Gets the scratch memory that the image asks for, fills in its addresses, launches, and gives it back.
kpk_status launch_with_scratch(const LaunchRequest &request);

}  // namespace kpk
