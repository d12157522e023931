// What the runtime keeps of a kernel: made on first use, reached from the kernel's state slot, read without
// a lock afterwards, and laid out by who reads it when: a launch comes by after the driver has had the caches.
// One KernelState a linked kernel, one DeviceState a device it ran on, one Function a loaded image and context.
#pragma once

#include <atomic>
#include <cstdint>

#include "call.h"
#include "device.h"
#include "driver.h"
#include "plan.h"
#include "select.h"
#include "shortcut.h"
#include "view.h"

namespace kpk {

// One loaded image in one context, with all that launching it takes. Behind it, in the same block, lie the stores of
// its plan.
struct alignas(64) Function {
  Plan plan;
  uint64_t place;                                   // what Driver::here() says where it may be launched
  const Function *next;                             // the same image in another context
  mutable std::atomic<const Shortcut *> shortcuts;  // a list, by types
  const Choices *choices;
  const Candidate *candidate;  // one of them
  Loaded loaded;
  uint32_t image;  // in KernelView::images
};

struct KernelState;
struct alignas(64) DeviceState {
  const Device *device;
  KernelState *kernel;
  std::atomic<const Function *> last;      // launched through a bound handle
  std::atomic<const Shortcut *> shortcut;  // to it, or to an earlier one
  Choices **overloads;                     // of each overload
};

constexpr uint32_t kRecent = 16;
struct alignas(64) KernelState {
  std::atomic<uint32_t> overload;                 // found by the last call: where the next one looks first
  std::atomic<const Function *> recent[kRecent];  // launched, by place: of a kernel that is used in several
  std::atomic<DeviceState *> devices[kMaxDeviceSlots];
  std::atomic<void *> pin;  // of library_pin(): while something is loaded
  KernelView view;
};

// A place is the id of a context, its address, or the number of a device: all of its bits count.
inline std::atomic<const Function *> &recent_at(KernelState &state, uint64_t place) {
  return state.recent[place * UINT64_C(0x9e3779b97f4a7c15) >> 60];
}
static_assert(kRecent == 1 << 4, "recent_at() takes the upper four bits");

struct StateSlot {
  std::atomic<KernelState *> state;
  std::atomic<const Shortcut *> shortcut;  // where the next launch looks first
  std::atomic<const Function *> last;      // launched
  // The next launch asks where it goes: this kernel has been launched in several places, or by a driver that does not
  // refuse what goes elsewhere.
  std::atomic<bool> asks;
};
static_assert(sizeof(StateSlot) <= KPK_STATE_BYTES, "the state slot of the ABI is too small");

inline StateSlot &slot_of(const kpk_kernel &kernel) {
  // The descriptor is read-only, its slot is not: the reference, which is never null, leads to another section.
  return *reinterpret_cast<StateSlot *>(reinterpret_cast<intptr_t>(&kernel.state) + kernel.state);
}

// Made at first use. KPK_ERROR_FORMAT for a kernel that this runtime cannot read.
kpk_status make_kernel_state(const kpk_kernel &kernel, KernelState **out);
kpk_status make_device_state(KernelState &state, const Device &device, DeviceState **out);
// Loads an image; many threads may ask at once and one of them loads. No lock is held while the driver works.
kpk_status load_function(const DeviceState &device, Candidate &candidate, uint64_t context,
                         const Function **out);

inline kpk_status kernel_state(const kpk_kernel &kernel, KernelState **out) {
  *out = slot_of(kernel).state.load(std::memory_order_acquire);
  return *out != nullptr ? KPK_OK : make_kernel_state(kernel, out);
}

inline kpk_status device_state(KernelState &state, const Device &device, DeviceState **out) {
  *out = state.devices[device.slot].load(std::memory_order_acquire);
  return *out != nullptr ? KPK_OK : make_device_state(state, device, out);
}

// The function of a list that may be launched in `context`, or null.
inline const Function *find_function(const Function *first, uint64_t context) {
  while (first != nullptr && first->plan.context != 0 && first->plan.context != context) first = first->next;
  return first;
}

inline kpk_status function_of(const DeviceState &device, Candidate &candidate, uint64_t context,
                              const Function **out) {
  *out = find_function(candidate.functions.load(std::memory_order_acquire), context);
  return *out != nullptr ? KPK_OK : load_function(device, candidate, context, out);
}

// The shortcut to a function for calls like this one, or for kpk_packed::types; null if there is none.
const Shortcut *find_shortcut(const Function &function, const kpk_arg *args, uint32_t count);
const Shortcut *find_shortcut(const Function &function, uint64_t types);
// The same, made if need be. The call was chosen for the function.
const Shortcut *learn_shortcut(const Function &function, const kpk_arg *args, uint32_t count);

// Where the next launch looks first, if nothing is there yet: all threads read it.
inline const Shortcut *keep(std::atomic<const Shortcut *> &first, const Shortcut *found) {
  if (found != nullptr && first.load(std::memory_order_relaxed) == nullptr)
    first.store(found, std::memory_order_release);
  return found;
}

// Unloads what was loaded. The states stay, for handles that are bound to them; the next launch loads again.
kpk_status forget(const kpk_kernel &kernel);

}  // namespace kpk
