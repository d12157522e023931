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
#include "view.h"

namespace kpk {

// One loaded image in one context, with all that launching it takes.
struct alignas(64) Function {
  uint64_t context;  // 0: any context of the device
  Plan plan;
  const Function *next;  // the same image in another context
  Loaded loaded;
};

struct KernelState;
struct alignas(64) DeviceState {
  const Device *device;
  KernelState *kernel;
  Choices **overloads;                 // of each overload
  std::atomic<const Function *> last;  // launched: for prefetch() alone
};

struct alignas(64) KernelState {
  std::atomic<uint32_t> overload;   // found by the last call: where the next one looks first
  std::atomic<DeviceState *> last;  // launched on: for prefetch() alone
  std::atomic<DeviceState *> devices[kMaxDeviceSlots];
  KernelView view;
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

// Asks for what a launch like the last one will read. Between two launches the driver has had the caches; this
// way the lines come while the launch is at something else.
inline void prefetch(const DeviceState &device, uint32_t overload) {
  const auto line = [](const void *at, int number) {
    __builtin_prefetch(static_cast<const char *>(at) + 64 * number);
  };
  const Choices *choices = device.overloads[overload];
  const Function *function = device.last.load(std::memory_order_relaxed);
  line(choices, 0);
  line(choices, 1);  // the checks, and behind them the bounds
  line(choices, 2);
  line(device.device, 0);
  if (function == nullptr) return;
  line(function, 0);
  line(function, 1);
  line(function + 1, 0);  // the stores
}

// Unloads what was loaded. The states stay, for handles that are bound to them; the next launch loads again.
kpk_status forget(const kpk_kernel &kernel);

}  // namespace kpk
