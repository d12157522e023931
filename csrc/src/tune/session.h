// A search with all that is around it: what is known to be no good is left out, what may crash is written down first,
// and what was found goes into the table.
#pragma once

#include "key.h"
#include "search.h"
#include "table.h"
#include "tuning.h"

namespace kpk {

// What is searched for: the fastest contender for a call.
struct Session {
  const char *kernel;  // as tables name it; of an op "op:<name>"
  uint64_t hash;
  const KernelView &view;  // of the kernel, of an op's first one
  const Choices &choices;
  const KeyRule &rule;
  const Call &call;
  const Device &device;
  uint64_t context;
  void *stream;
  const Region *regions;
  Contender *contenders;  // the first is the fixed choice
  uint32_t count;
};

// KPK_OK with the best one, if `best_us` is not 0 (it is in the table then); else why there is none.
kpk_status search_session(const Session &session, const kpk_tune_options &options, SearchResult *out);

// Options as the caller gave them, or as the settings say.
kpk_status read_options(const kpk_tune_options *given, kpk_tune_options *out);

// One search at a time: others would be in the way of what it measures. Its thread looks for nothing else meanwhile.
class Searching {
 public:
  // Does not wait: taken() says whether it is this thread's.
  Searching();
  // Waits; not if this thread is searching.
  explicit Searching(const char *subject);
  ~Searching();
  Searching(const Searching &) = delete;
  Searching &operator=(const Searching &) = delete;
  bool taken() const { return taken_; }

 private:
  bool taken_;
};

// What the parameters of an overload reach in this call; KPK_ERROR_ARGUMENT where an extent has no value.
kpk_status add_regions(const KernelView &view, const kpk_abi_overload &overload,
                       const kpk_abi_variant &variant, const Call &call, Region *regions);

// A contender that is a variant: `self` is one of these.
struct Attempt {
  DeviceState *device;
  Candidate *candidate;
  uint64_t context;
  Call call;  // its masks
};
kpk_status run_attempt(void *self, void *stream, const kpk_arg *args, uint32_t count);

// Would the fixed choice launch something at all? What is wrong with it, its launch says.
bool launches(const Chosen &chosen, Candidate *fixed, uint64_t context);
// Takes a key for this thread; null if it is another's, or known by now. `*first`: nobody has tried before.
Tuned *claim(Tuning *tuning, uint64_t key, bool *first);
// What a search that nobody asked for leaves of a key: `best`, if it is not null. Why there is none is said the first
// time.
uintptr_t outcome(kpk_status status, const char *kernel, const void *best, bool first);

// Tells a sink that there was nothing to choose from.
void tell_only(const kpk_tune_options &options, const char *name, const char *reason);

}  // namespace kpk
