// What the runtime keeps of a kernel: made on first use, reached from the kernel's state slot, read without
// a lock afterwards, and laid out by who reads it when: a launch comes by after the driver has had the caches.
// One KernelState a linked kernel, one DeviceState a device it ran on, one Function a loaded image and context.
#pragma once

#include <atomic>
#include <cstdint>

#include "call.h"
#include "device.h"
#include "driver.h"
#include "memo.h"
#include "packed.h"
#include "plan.h"
#include "select.h"
#include "view.h"

namespace kpk {

// One loaded image in one context, with all that launching it takes. Its memo and plan are read by every launch;
// behind it, in the same block, lie the arrays that they point to.
struct alignas(64) Function {
  Memo memo;
  Plan plan;
  uint64_t context;  // 0: any context of the device
  const Device *device;
  const KernelView *view;                      // for messages
  const Function *next;                        // the same image in another context
  mutable std::atomic<const Packed *> packed;  // ways to call it as a block, a list
  Loaded loaded;
  uint32_t image;  // in KernelView::images
};

struct KernelState;
struct alignas(64) DeviceState {
  const Device *device;
  KernelState *kernel;
  std::atomic<const Function *> last;  // launched through a bound handle
  std::atomic<const Packed *> packed;  // the same, for a call as one block
  Choices **overloads;                 // of each overload
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
  std::atomic<const Function *> last;  // launched: where the next launch looks first
  std::atomic<const Packed *> packed;  // the same, for a call as one block
  std::atomic<bool> moves;             // it has been launched in several places: the next launch asks where
};
static_assert(sizeof(StateSlot) <= KPK_STATE_BYTES, "the state slot of the ABI is too small");

inline StateSlot &slot_of(const kpk_kernel &kernel) {
  // The descriptor is read-only, its slot is not: the reference leads to another section.
  return *const_cast<StateSlot *>(follow<StateSlot>(kernel.state));
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
  while (first != nullptr && first->context != 0 && first->context != context) first = first->next;
  return first;
}

inline kpk_status function_of(const DeviceState &device, Candidate &candidate, uint64_t context,
                              const Function **out) {
  *out = find_function(candidate.functions.load(std::memory_order_acquire), context);
  return *out != nullptr ? KPK_OK : load_function(device, candidate, context, out);
}

// The way to launch such a call as a block, made at its first launch by `args`; null if there is none.
const Packed *find_packed(const Function &function, const kpk_arg *args, uint32_t count, uint64_t types);

// Unloads what was loaded. The states stay, for handles that are bound to them; the next launch loads again.
kpk_status forget(const kpk_kernel &kernel);

}  // namespace kpk
