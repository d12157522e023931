// A search: which of several ways to do one thing, contenders, is the fastest for one call, found out by running them.
// Generic: it knows nothing of kernels and variants. Nothing that the caller's pointers reach is written: contenders
// run on copies, and each one's results are compared with the others' before it is timed.
#pragma once

#include <kpack/kpack.h>

#include <cstdint>

#include "driver.h"

namespace kpk {

// Runs on the given stream with the given arguments, which differ from the call's only in what pointers (and
// descriptors) point at. It may load first. What it says is its status, and the thread's message.
struct Contender {
  const char *name;
  void *self;
  kpk_status (*run)(void *self, void *stream, const kpk_arg *args, uint32_t count);
  bool left_out;  // known to be no good: it is not run
  const char *left_out_reason;
};

// What a parameter of the call reaches.
struct Region {
  uint64_t bytes;     // from the pointer on; 0: not said. A descriptor says it itself
  uint8_t direction;  // KPK_DIRECTION_...
  bool written;       // or may be
  const char *name;   // of the parameter, for messages; null: it has none
};

constexpr uint64_t kDefaultBudgetNs = 2000000000;

struct SearchRequest {
  const Device *device;
  uint64_t context;  // of the device: current in this thread, as Driver::enter leaves it
  void *stream;
  const char *subject;  // the kernel or op, for messages
  const kpk_arg *args;
  uint32_t count;
  const Region *regions;  // `count` of them; of what is no pointer nothing is read
  Contender *contenders;  // the first is the fixed choice
  uint32_t contender_count;
  uint32_t flags;      // KPK_TUNE_...
  uint64_t budget_ns;  // of the whole search; 0: kDefaultBudgetNs
  double tolerance;    // factor of what results may differ by; 0: 1
  // Around the first run of a contender, until the device is done with it; or null. One that leaves the context unusable
  // has no end.
  void (*before)(void *user, uint32_t contender);
  void (*after)(void *user, uint32_t contender);
  kpk_trial_sink sink;   // told of each contender at the end, in order, also when the search fails; or null
  void *user;            // of all three
  uint64_t (*now_ns)();  // null: CLOCK_MONOTONIC
};

struct SearchResult {
  uint32_t best;    // the fixed choice (0) where none was timed
  double best_us;   // median; 0: none was timed, and there is nothing to remember
  double fixed_us;  // of the fixed choice; 0: it failed, was wrong, or was not timed
};

// One at a time in a process: two would measure each other. KPK_OK, also where the budget was too small to time any.
// Otherwise nothing is to be remembered and the message says why: KPK_ERROR_STREAM inside a stream capture;
// KPK_ERROR_ARGUMENT where what a kernel writes has no extent; KPK_ERROR_MEMORY; KPK_ERROR_UNSUPPORTED where the driver
// cannot measure; KPK_ERROR_DRIVER when a driver call failed, or a contender has left the context unusable;
// KPK_ERROR_NO_VARIANT when every contender failed.
kpk_status search(const SearchRequest &request, SearchResult *out);

}  // namespace kpk
