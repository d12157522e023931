// Who watches: a callback of the program, NVTX, KPACK_LOG. Off, it costs a launch nothing.
#pragma once

#include "driver.h"

namespace kpk {

// Makes the launch and tells of it.
kpk_status watch_launch(const LaunchRequest &request, kpk_status (*launch)(const LaunchRequest &));

}  // namespace kpk
