// From a call to a launch: choosing, and the shortcut for a call that is like the one before.
#pragma once

#include <kpack/kpack.h>

#include <atomic>

#include "driver.h"
#include "memo.h"
#include "module.h"

namespace kpk {

// What a call came to.
struct Chosen {
  const Function *function;
  const kpk_abi_overload *overload;
  Call call;
};

// Checks the arguments, finds overload and variant, loads on first use.
kpk_status choose(DeviceState &device, uint64_t context, const kpk_arg *args, uint32_t count,
                  uint64_t signature, Chosen *out);

// Grid, parameter block, launch.
kpk_status launch_chosen(const Chosen &chosen, void *stream);

kpk_status refuse_null(const char *call, const char *what);
// Where there are no arguments, an array with one that says nothing: an empty slice may have any address.
const kpk_arg *some(const kpk_arg *args, uint32_t count);
// Notes how such a call goes as one block, which `function` was launched for (null: nothing was).
void learn(std::atomic<const Packed *> &packed, const Function *function, const kpk_arg *args, uint32_t count,
           uint64_t types);

// Asks for what relaunch() will read. Between two launches the driver has had the caches; this way the lines come
// all at once, while the driver is asked where the launch goes.
inline void prefetch(const Function &function) {
  const auto line = [](const void *at) { __builtin_prefetch(at); };
  line(&function.memo);
  line(&function.plan);
  line(&function.plan.axes);
  line(&function + 1);  // the steps of the memo
  line(reinterpret_cast<const char *>(&function + 1) + 64);
}

// Launches `function` again if choosing would come to it for this call; false if that is not certain.
inline bool relaunch(const Function &function, void *stream, const kpk_arg *args, uint32_t count,
                     uint64_t signature, kpk_status *status) {
  const Memo &memo = function.memo;
  if (memo.signature != signature || memo.count != count || memo.steps == nullptr) return false;
  alignas(16) unsigned char block[kMemoBlockBytes];
  LaunchRequest request;
  if (!recall(memo, args, block)) return false;
  if (!quick_grid(*function.view, function.plan, args, request.grid)) return false;
  request.view = function.view;
  request.device = function.device;
  request.plan = &function.plan;
  request.args = args;
  request.stream = stream;
  request.params = block;
  *status = memo.driver->launch(request);
  return true;
}

// No driver is dry and nobody watches: see Switches.
inline bool is_plain() {
  return g_switches.dry.load(std::memory_order_acquire) == Dry::kNo &&
         !g_switches.watched.load(std::memory_order_relaxed);
}

}  // namespace kpk
