// What lets a call that is like the one before skip the choosing: under which conditions this function is what
// choosing would come to, and what the call brings into its parameter block. Made when the image is loaded, never
// changed, and laid out in the order of reading: between two launches the driver has had the caches. Pure.
#pragma once

#include <kpack/kpack.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "call.h"
#include "plan.h"
#include "select.h"
#include "view.h"

namespace kpk {

struct Driver;  // driver.h

// What is known of arguments by their values: bit i is of argument i.
struct Masks {
  uint64_t divisible_16;
  uint64_t equal_1;
  uint64_t null;
};
inline bool holds(const Masks &needs, const Masks &have) {
  return ((needs.divisible_16 & ~have.divisible_16) | (needs.equal_1 & ~have.equal_1) |
          (needs.null & ~have.null)) == 0;
}

// How one argument is checked, and where its eight bytes go: over what comes next, which is filled later.
struct Step {
  uint64_t least;  // of an integer
  uint64_t span;   // how far above `least` it may be; of what is no integer: all the way
  uint16_t offset;
  uint8_t low_bits;  // 0 where the address, or the integer, is as divisible as the function needs it
  uint8_t no_flags;  // of kpk_arg::flags: KPK_PARAM_CONST where a pointer to const is none to give
  uint32_t reserved;
};

// An fp32 argument: passed as a double, stored as a float.
struct ShortFloat {
  uint16_t argument;
  uint16_t offset;
};

struct SelectedBits {
  uint64_t bits;
  uint64_t argument;
};

constexpr uint32_t kMemoBlockBytes = 1024;  // of a parameter block that a memo fills
constexpr uint32_t kMemoSlackBytes = 16;    // behind it: steps write eight bytes each
constexpr uint32_t kMemoRivals = 2;

struct alignas(64) Memo {
  uint64_t place;  // what Driver::here() says where the function may be launched; never 0
  uint64_t signature;
  uint8_t count;     // of arguments
  uint8_t bounded;   // the argument that the guards are about
  uint8_t rivals;    // variants that go first where their masks hold
  uint8_t floats;    // of fp32
  uint8_t selected;  // values that are part of the question
  bool simple;       // recall_rest() has nothing to add
  uint16_t hidden;   // offset of two null pointers, or of slack
  int64_t least;     // bounds within which no variant in front of this one has its guard hold
  int64_t most;
  const Step *steps;  // null: this function is always chosen anew
  const Driver *driver;
  bool asks;  // this driver does not refuse what is not of the stream's place: it is asked before each launch
  // Up to here every call reads.
  Masks needs;
  Masks rival[kMemoRivals];
  const ShortFloat *short_floats;
  const SelectedBits *selected_bits;
};

// How many bytes of arrays the memo of a function needs.
size_t memo_bytes(const KernelView &view);
// `candidate` is one of `choices`, `plan` is of its image; arrays go to `arrays`. A function whose choice cannot be
// said in a memo gets one that admits no call.
void make_memo(const KernelView &view, const Choices &choices, const Candidate &candidate, const Plan &plan,
               const Device &device, uint64_t context, void *arrays, Memo *out);

// The uncommon half of recall().
bool recall_rest(const Memo &memo, const kpk_arg *args);

// Would choosing come to this function for a call of the memo's signature and count? Then `block`
// (kMemoBlockBytes) is filled. False also for what only a closer look can tell.
inline bool recall(const Memo &memo, const kpk_arg *args, unsigned char *block) {
  uint64_t unsure = 0;
  const uint32_t count = memo.count;
  const Step *steps = memo.steps;
  for (uint32_t i = 0; i < count; ++i) {
    const Step &step = steps[i];
    const uint64_t bits = args[i].bits;
    unsure |= bits & step.low_bits;
    if (kChecked) {
      unsure |= uint64_t{bits - step.least > step.span};
      unsure |= uint64_t{args[i].flags} & step.no_flags;
      unsure |= (bits >> 63) & uint64_t{args[i].type == KPK_U64};  // not to be taken for a negative number
    }
    std::memcpy(block + step.offset, &bits, sizeof bits);
  }
  const auto bounded = static_cast<int64_t>(args[memo.bounded].bits);
  if (unsure != 0 || bounded < memo.least || bounded > memo.most) return false;
  std::memset(block + memo.hidden, 0, 16);
  for (uint32_t i = 0; i < memo.floats; ++i) {
    const ShortFloat &store = memo.short_floats[i];
    double wide;
    std::memcpy(&wide, &args[store.argument].bits, sizeof wide);
    const auto narrow = static_cast<float>(wide);
    std::memcpy(block + store.offset, &narrow, sizeof narrow);
  }
  return memo.simple || recall_rest(memo, args);
}

}  // namespace kpk
