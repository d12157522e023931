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
#include "tune/tuned.h"
#include "view.h"

namespace kpk {

// Shortcuts that are none any more. A thread may be on its way through one: they go with the function.
struct Dropped {
  const Shortcut *shortcuts;
  Dropped *next;
};

struct DeviceState;
// One loaded image in one context, with all that launching it takes. Behind it, in the same block, lie the stores of
// its plan.
struct alignas(64) Function {
  Plan plan;
  uint64_t place;                                   // what Driver::here() says where it may be launched
  const Function *next;                             // the same image in another context
  mutable std::atomic<const Shortcut *> shortcuts;  // a list, by types: calls that come here by choosing
  mutable std::atomic<const Shortcut *> pinned;     // likewise, of handles that are pinned to it
  mutable std::atomic<const Shortcut *> keyed;      // a list, by types and key: of a tuned kernel, and of ops
  const Choices *choices;
  const Candidate *candidate;  // one of them
  const DeviceState *state;
  Loaded loaded;
  mutable Dropped *dropped;  // a list, under the lock of ways.cc
  uint32_t image;            // in KernelView::images
};

struct KernelState;
struct alignas(64) DeviceState {
  const Device *device;
  KernelState *kernel;
  std::atomic<const Function *> last;      // launched through a bound handle
  std::atomic<const Shortcut *> shortcut;  // to it, or to an earlier one
  Choices **overloads;                     // of each overload
  std::atomic<Tuning *> tuning;            // null: nothing of it is tuned; see tuning_of()
  std::atomic<uint32_t> version;           // of what choosing goes by: drop_shortcuts() counts
  DeviceState *next;                       // of all that there are, see ways.cc
};

constexpr uint32_t kRecent = 16;
struct alignas(64) KernelState {
  std::atomic<uint32_t> overload;                 // found by the last call: where the next one looks first
  std::atomic<const Function *> recent[kRecent];  // launched, by place: of a kernel that is used in several
  std::atomic<DeviceState *> devices[kMaxDeviceSlots];
  std::atomic<void *> pin;  // of library_pin(): while something is loaded
  std::atomic<bool> stale;  // it has been said that a table is of another build
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

// Unloads what was loaded. The states stay, for handles that are bound to them; the next launch loads again.
kpk_status forget(const kpk_kernel &kernel);

}  // namespace kpk
