// What a launch would do, asked without doing it: the stages of launch.cc up to the grid, without loading.
#pragma once

#include "call.h"
#include "device.h"
#include "launch.h"
#include "module.h"
#include "plan.h"

namespace kpk {

// How far a call comes. What a stage that was not reached would have filled in is null.
struct Answer {
  const KernelState *kernel;
  const DeviceState *device;
  const Choices *choices;  // of the overload that takes the call
  Call call;
  const Candidate *candidate;  // that runs
  Chosen tuned;                // what tuning says; of any key where it says nothing
  Plan plan;  // of the image that would be loaded, without what loading brings and the stores
  uint32_t grid[3];
  bool empty;  // the grid: nothing is launched
};

// Where a call is asked about: the device that the caller names, or a dry one of `arch` ("": the first target that
// the kernel has), if that is not null.
struct Where {
  kpk_device device;
  const char *arch;
};

// KPK_OK if the call would be launched; else what the launch would return, with its message.
kpk_status ask(const kpk_kernel *kernel, const Where &where, const kpk_arg *args, uint32_t count,
               uint64_t signature, Answer *out);

// kpk_explain and kpk_supports, for any such place.
size_t explain(const kpk_kernel *kernel, const Where &where, const kpk_arg *args, uint32_t count, char *text,
               size_t bytes);
bool supports(const kpk_kernel *kernel, const Where &where, const kpk_arg *args, uint32_t count,
              uint64_t signature);

}  // namespace kpk
