// Shortcuts, as they hang on functions: found, learnt, looked at first, and dropped when choosing has changed its mind.
#pragma once

#include "module.h"

namespace kpk {

// The shortcut to a function for calls like this one, or for kpk_packed::types; null if there is none. Of a tuned kernel
// that of some key.
const Shortcut *find_shortcut(const Function &function, const kpk_arg *args, uint32_t count);
const Shortcut *find_shortcut(const Function &function, uint64_t types);
// The same of pinned handles.
const Shortcut *find_pinned(const Function &function, const kpk_arg *args, uint32_t count);
const Shortcut *find_pinned(const Function &function, uint64_t types);
// The shortcut for calls like this one, which came to the function, made if need be.
const Shortcut *learn_shortcut(const Function &function, const Call &call, const Terms &terms);

// Where the next launch looks first.
using First = std::atomic<const Shortcut *>;
// Puts a shortcut of the function there that has been found just now. Nobody has dropped it meanwhile, or it is taken
// back: who drops shortcuts empties lists first, and then places like this one.
void publish(First &first, const Function &function, const Shortcut *found);
// The same if nothing is there yet: all threads read it.
inline const Shortcut *keep(First &first, const Function &function, const Shortcut *found) {
  if (found != nullptr && first.load(std::memory_order_relaxed) == nullptr) publish(first, function, found);
  return found;
}

// What choosing goes by has changed on this device: shortcuts are made anew, whoever launches meanwhile.
void drop_shortcuts(DeviceState &device);
void drop_all_shortcuts(const kpk_kernel &kernel);  // of all devices
// Who has learnt a shortcut from a choice that has been overtaken drops it again.
inline void drop_overtaken(DeviceState &device, uint32_t version) {
  if (device.version.load(std::memory_order_seq_cst) != version) drop_shortcuts(device);
}
// The same for all kernels, when nobody launches: not even places where the next launch looks first keep one, which
// may be in objects that are gone. What is tuned is read again.
void reset_choices();

// Those of a function that is about to go.
void free_all_shortcuts(const Function &function);
// Of a new state: reset_choices() knows of it from now on.
void enlist(DeviceState *device);

}  // namespace kpk
