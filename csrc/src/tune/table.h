// Tuning tables: what was found to be fastest, in a text file that any number of processes read and merge into.
// docs/tuning.md has the format. A kill at any moment leaves the old file or the new one; what cannot be read is
// kept aside, line by line, and never destroyed.
#pragma once

#include <kpack/kpack.h>

#include <cstdint>

namespace kpk {

// One line of a table. Texts are never null, and live as long as the call that they are given to.
struct Entry {
  const char *kernel;  // its name; of an op "op:<name>"
  uint64_t hash;       // of what was tuned: a kernel's tuning hash
  const char *device;  // "sm_90/132"
  const char *overload;
  const char *call;
  const char *choice;    // a variant's name; in an op "<kernel>/<variant>" or "function:<name>"
  double median_us;      // of the choice; 0: nothing was timed
  double fixed_us;       // of what runs without tuning; 0: not timed
  const char *left_out;  // "name: wrong; name: failed (reason)", or ""
};

// Hands each entry of the file at `path` to `take`, in its order: a later one of the same kernel, hash, device,
// overload and call replaces an earlier. A line that is none is counted in `*rejected` and told under
// KPACK_LOG=info, once for this process. A file that is not there has no entries. On failure there is a message.
kpk_status read_table(const char *path, void (*take)(void *user, const Entry &entry), void *user,
                      uint32_t *rejected);

// Adds entries to the file at `path`, or replaces those of the same key there, whatever other threads and processes
// do meanwhile. Lines that cannot be read go to `<path>.rejected`, with the reason.
kpk_status merge_entries(const char *path, const Entry *entries, uint32_t count);

// The crash journal, `<path>.trying`: between the two calls this process runs `contender` for what `entry` is the key
// of. `choice`, figures and `left_out` of the entry are not looked at.
kpk_status begin_trial(const char *path, const Entry &entry, const char *contender);
void end_trial(const char *path, const Entry &entry, const char *contender);
// Whether a process ended before it ended this trial.
bool crashed_before(const char *path, const Entry &entry, const char *contender);

}  // namespace kpk
