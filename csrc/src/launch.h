// From a call to a launch: by a shortcut, or by choosing.
#pragma once

#include <kpack/kpack.h>

#include <atomic>

#include "driver.h"
#include "module.h"

namespace kpk {

// What a call came to.
struct Chosen {
  const Function *function;
  Call call;
};

// Checks the arguments, finds overload and variant, loads on first use.
kpk_status choose(DeviceState &device, uint64_t context, const kpk_arg *args, uint32_t count,
                  uint64_t signature, Chosen *out);

// Grid, parameter block, launch. If the function is `known`, because the launch before came to it, too, the next call
// like this one finds its shortcut in `*shortcut`: a first launch has enough to do.
kpk_status launch_chosen(const Chosen &chosen, void *stream, bool known,
                         std::atomic<const Shortcut *> *shortcut);

kpk_status refuse_null(const char *call, const char *what);
// A kpk_call has room for KPK_CALL_MOST arguments.
kpk_status check_count(const kpk_kernel &kernel, const kpk_call &call);
// Where there are no arguments, an array with one that says nothing: an empty slice may have any address.
const kpk_arg *some(const kpk_arg *args, uint32_t count);

// No driver is dry and nobody watches: see Switches.
inline bool is_plain() {
  return g_switches.dry.load(std::memory_order_acquire) == Dry::kNo &&
         !g_switches.watched.load(std::memory_order_relaxed);
}

}  // namespace kpk
