// From a call to a launch: by a shortcut, or by choosing.
#pragma once

#include <kpack/kpack.h>

#include <atomic>

#include "driver.h"
#include "module.h"
#include "ways.h"

namespace kpk {

// What a call came to.
struct Chosen {
  const Function *function;
  Call call;
  DeviceState *device;
  const Choices *choices;  // of its overload
  Candidate *candidate;    // one of them
  Terms terms;             // of its shortcut, as far as they are known
  Tuning *tuning;          // where the key is looked up; null: of any key
  uint64_t key;
  uint32_t version;  // of the device's state, before it was chosen
  bool by_key;       // what runs is what is known of the key
  bool open;         // nobody has looked for what is fastest yet, and this launch may
};

// Checks the arguments and finds the overload.
kpk_status begin_choice(DeviceState &device, const kpk_arg *args, uint32_t count, uint64_t signature,
                        Chosen *out);
// The same, and finds the variant: all of choosing but the function.
kpk_status select_candidate(DeviceState &device, const kpk_arg *args, uint32_t count, uint64_t signature,
                            Chosen *out);
// And the function, which is loaded on first use.
kpk_status choose(DeviceState &device, uint64_t context, const kpk_arg *args, uint32_t count,
                  uint64_t signature, Chosen *out);
// The same for a launch on this stream, whose context is current: it may look for what is fastest first.
kpk_status choose_for(DeviceState &device, uint64_t context, void *stream, const kpk_arg *args,
                      uint32_t count, uint64_t signature, Chosen *out);

// Grid, parameter block, launch.
kpk_status launch_function(const Plan &plan, const Call &call, void *stream);
// The same. If the function is `known`, because the launch before came to it, too, the next call like this one finds
// its shortcut in `*first` (null: of a pinned handle): a first launch has enough to do.
kpk_status launch_chosen(const Chosen &chosen, void *stream, bool known, First *first);

// No variant may run the call: says why, by the first of two reasons that explains it all.
kpk_status refuse_variant(const DeviceState &device, const Choices &choices, const Call &call);
kpk_status refuse_null(const char *call, const char *what);
// A kpk_call has room for KPK_CALL_MOST arguments.
kpk_status check_count(const kpk_kernel &kernel, const kpk_call &call);
// Where there are no arguments, an array with one that says nothing: an empty slice may have any address.
const kpk_arg *some(const kpk_arg *args, uint32_t count);

// No driver is dry and nobody watches: see Switches.
inline bool is_plain() {
  return g_switches.dry.load(std::memory_order_acquire) == Dry::kNo &&
         g_switches.watched.load(std::memory_order_relaxed) == 0;
}

// The shortcut that was taken last, if this launch goes where that one went, unasked; otherwise null.
inline const Shortcut *last_shortcut(const StateSlot &slot, const kpk_stream &stream) {
  const Shortcut *shortcut = slot.shortcut.load(std::memory_order_acquire);
  const bool good = shortcut != nullptr && is_plain() && is_driver_of(stream, shortcut->driver) &&
                    !slot.asks.load(std::memory_order_relaxed);
  return good ? shortcut : nullptr;
}

// `way`, if it goes where `tried` does: a launch that is there unasked stays there.
inline const Shortcut *beside(const Shortcut &tried, const Shortcut *way) {
  if (way == nullptr || way == &tried || way->plan->context != tried.plan->context ||
      way->driver != tried.driver) {
    return nullptr;
  }
  return way->plan->device == tried.plan->device ? way : nullptr;
}

// A call that is none of `tried`, which is of its types, by the way of its key; KPK_UNPACK where there is none.
kpk_status launch_packed_beside(const Shortcut &tried, void *stream, const kpk_packed &call);
// The same by arguments; false where there is none.
bool launch_args_beside(const Shortcut &tried, void *stream, const kpk_arg *args, uint32_t count,
                        kpk_status *status);

}  // namespace kpk
