// Ops: several kernels and functions that do the same, tuned as alternatives. Calls are checked, and keys made, as the
// first kernel's are; shortcuts hang on the functions that they launch, and on the op's own slot and keys.
#pragma once

#include <kpack/kpack.h>

#include <atomic>

#include "launch.h"
#include "tuning.h"

namespace kpk {

constexpr uint32_t kMostMembers = 32;  // kernels, and as many functions

struct OpFunction {
  char *name;
  uint64_t version;
  kpk_op_function run;
  void *user;
};

// What an op may come to on a device. Never freed before the op.
struct alignas(64) OpChoice {
  char *name;  // "softmax/fp16.BLOCK1024.w4.a16", "function:cublas"
  const OpFunction *function;
  DeviceState *device;  // of a variant
  Candidate *candidate;
  OpChoice *next;
};

// Where it has launched.
struct OpPlace {
  Place place;
  uint64_t number;  // Driver::place()
  OpPlace *next;
};

// Does it know anything that its first kernel does not know by itself?
enum class OpState : uint8_t { kUnread, kPlain, kTuned };

}  // namespace kpk

// The op of the C API.
struct kpk_op {
  char *name;  // "op:softmax"
  const kpk_kernel *kernels[kpk::kMostMembers];
  kpk::OpFunction functions[kpk::kMostMembers];
  uint32_t kernel_count;
  uint32_t function_count;
  std::atomic<kpk::OpState> state;
  std::atomic<bool> begun;  // launched or tuned: nothing is added any more
  std::atomic<bool> stale;  // it has been said that a table is of another build
  kpk::StateSlot slot;      // its own shortcut, and whether it asks; of no kernel
  std::atomic<const kpk::OpPlace *> last;
  std::atomic<const kpk::OpPlace *> recent[kpk::kRecent];  // by number: of an op that asks
  std::atomic<kpk::Tuning *> devices[kpk::kMaxDeviceSlots];
  // The rest is under the lock of tuning.cc.
  kpk::OpChoice *choices;
  kpk::OpPlace *places;
  kpk_op *next;  // of all ops
};

namespace kpk {

// Ops forget where they launched, and how: shortcuts that they know may be gone, or overtaken.
void reset_ops();
// And what is tuned, when nobody launches.
void reset_op_choices();

// Reads the table file for it. Is there something in it, or to be found out?
bool is_tuned(kpk_op &op);
// What is known of it on a device, which is not plain. Null if there is no memory.
Tuning *op_tuning(kpk_op &op, DeviceState &first);
uint64_t op_hash(const kpk_op &op);
// The choice of a variant, or a function; null if there is no memory. Under the lock of tuning.cc.
OpChoice *op_choice(kpk_op &op, const KernelView &view, DeviceState *device, Candidate *candidate,
                    const OpFunction *function);

// Where numbers of places are looked up.
inline std::atomic<const OpPlace *> &recent_at(kpk_op &op, uint64_t number) {
  return op.recent[number * UINT64_C(0x9e3779b97f4a7c15) >> 60];
}
// The place among those where it has launched, added if it is new; null if there is no memory.
const OpPlace *op_place(kpk_op &op, const Place &place);

// What one call of an op comes to: a function, or a variant.
struct OpChosen {
  const OpFunction *function;
  DeviceState *device;  // of the variant's kernel
  Chosen chosen;        // whose own device is that of the first kernel, which counts versions
};
kpk_status choose_in_op(kpk_op &op, DeviceState &first, const kpk_arg *args, uint32_t count,
                        uint64_t signature, OpChosen *out);
// The same without regard to what is tuned: what runs where a function refuses.
kpk_status choose_first(DeviceState &first, OpChosen *out);
// Looks for what is fastest for a call that is open; whatever comes of it, `out` has what to launch.
void search_for_op(kpk_op &op, DeviceState &first, uint64_t context, void *stream, OpChosen *out);

}  // namespace kpk
