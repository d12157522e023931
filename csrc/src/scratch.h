// Device memory that exists for one launch: how much, from where, and when it goes back.
#pragma once

#include "driver.h"

namespace kpk {

// Scratch memory of one kind as a launch needs it.
struct ScratchNeed {
  uint32_t kind;   // KPK_SCRATCH_...
  uint32_t each;   // bytes for one of `count`; 0: none is needed
  uint64_t count;  // blocks, or elements of the grid
  uint64_t bytes;  // of all
  uint64_t align;  // 1 or more
};
// KPK_ERROR_MEMORY if there are not so many addresses.
kpk_status scratch_need(const LaunchRequest &request, uint32_t kind, ScratchNeed *out);

// Gets the scratch memory that the image asks for, fills in its addresses, launches, and gives it back.
kpk_status launch_with_scratch(const LaunchRequest &request);

}  // namespace kpk
