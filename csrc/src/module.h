// What the runtime keeps of a kernel: made on first use, reached from the kernel's state slot, read without
// a lock afterwards. One KernelState a linked kernel, one DeviceState a device it ran on, one Function a
// loaded image.
#pragma once

#include <atomic>
#include <cstdint>

#include "call.h"
#include "device.h"
#include "driver.h"
#include "select.h"
#include "view.h"

namespace kpk {

struct DeviceState {
  const Device *device;
  uint32_t *images;                          // of each variant: its best image here, or kNoImage
  Candidate *candidates;                     // the variants that have an image here, by overload
  uint32_t *first_candidate;                 // of each overload, and the end
  std::atomic<const Function *> *functions;  // of each variant: the loaded image, a list by context
  bool *loading;                             // of each variant: a thread is loading it (under the lock)
};

struct KernelState {
  KernelView view;
  ParamCheck *checks;              // of each overload, of each parameter
  std::atomic<uint32_t> overload;  // found by the last call: where the next one looks first
  std::atomic<DeviceState *> devices[kMaxDeviceSlots];
};

// The state of `kernel`, made if this is its first use. KPK_ERROR_FORMAT if this runtime cannot read it.
kpk_status kernel_state(const kpk_kernel &kernel, KernelState **out);
kpk_status device_state(KernelState &state, const Device &device, DeviceState **out);

// The function of `variant`, loaded if need be; many threads may ask at once and one of them loads. No
// lock is held while the driver works.
kpk_status function_of(KernelState &state, DeviceState &device, uint32_t variant, void *context,
                       const Function **out);

void forget(const kpk_kernel &kernel);

}  // namespace kpk
