// What the runtime keeps of a kernel: made on first use, reached from the kernel's state slot, read without
// a lock afterwards. One KernelState a linked kernel, one DeviceState a device it ran on, one Function a
// loaded image.
#pragma once

#include <atomic>
#include <cstdint>

#include "call.h"
#include "device.h"
#include "driver.h"
#include "plan.h"
#include "select.h"
#include "view.h"

namespace kpk {

// One loaded image in one context, with all that launching it takes.
struct Function {
  Plan plan;
  Loaded loaded;
  uint64_t context;      // 0: any context of the device
  const Function *next;  // the same image in another context
};

struct DeviceState {
  const Device *device;
  uint32_t *images;                          // of each variant: its best image here, or kNoImage
  CandidateList *lists;                      // of each overload: the variants that have an image here
  Candidate *candidates;                     // of all lists
  int64_t *most;                             // of all lists
  std::atomic<const Function *> *functions;  // of each variant: the loaded image, a list by context
  bool *loading;                             // of each variant: a thread is loading it (under the lock)
};

struct KernelState {
  KernelView view;
  ParamCheck *checks;              // of each overload, of each parameter
  std::atomic<uint32_t> overload;  // found by the last call: where the next one looks first
  std::atomic<DeviceState *> devices[kMaxDeviceSlots];
};

struct StateSlot {
  std::atomic<KernelState *> state;
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
kpk_status load_function(KernelState &state, DeviceState &device, uint32_t variant, uint64_t context,
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

inline kpk_status function_of(KernelState &state, DeviceState &device, uint32_t variant, uint64_t context,
                              const Function **out) {
  *out = find_function(device.functions[variant].load(std::memory_order_acquire), context);
  return *out != nullptr ? KPK_OK : load_function(state, device, variant, context, out);
}

// Unloads what was loaded. The states stay, for handles that are bound to them; the next launch loads again.
kpk_status forget(const kpk_kernel &kernel);

}  // namespace kpk
