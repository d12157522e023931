// What tuning means to a launch: what the program and the environment ask for, and what tables say of a kernel on a
// device, read when it is first chosen for.
#pragma once

#include <atomic>
#include <cstdint>

#include "launch.h"
#include "lock.h"
#include "module.h"
#include "table.h"
#include "tuned.h"

namespace kpk {

// See kpk_tuning. Texts may be null.
struct Settings {
  uint32_t mode;
  const char *table;
  const char *shapes;
  uint64_t budget_ns;
  double tolerance;
};
// Read from the environment, once, or as the program has set them.
const Settings &settings();

// Its address stands for what has not been read yet.
extern Tuning g_unread;
Tuning *read_tuning(DeviceState &device);
// What is known of this kernel on this device; null if nothing is, and nothing will be found out.
inline Tuning *tuning_of(DeviceState &device) {
  Tuning *tuning = device.tuning.load(std::memory_order_acquire);
  return tuning == &g_unread ? read_tuning(device) : tuning;
}
// For what is found out explicitly: makes one where there is none. Null if there is no memory, or tuning is off.
Tuning *need_tuning(DeviceState &device);

// What has been tuned for this call, if that is known and may run it. Fills all of `out` that is about keys.
bool pick_tuned(DeviceState &device, Chosen *out);
// The same for a launch, which may have to be recorded.
bool select_tuned(DeviceState &device, Chosen *out);
// What a chosen call's key is known to come to, in words: "tuned (baked into the archive) for n=1024 on sm_90/132".
void add_tuned_text(const Chosen &chosen, Text *out);
// The same for an op's tuning, whose choices are others': what is known of the key, or null.
Tuned *look_up(const KeyRule &rule, Tuning *tuning, Chosen *out);

// The terms of a shortcut for calls of the key of this one; false if it may have none now.
bool complete_terms(const Chosen &chosen, Terms *terms);

// Guards what Tuned are there, and what was read of the table file.
extern Mutex g_tuning_mutex;

// Entries of the table file, in its order. Under the lock; the file is read when it is first asked for.
struct FileEntry {
  Entry entry;
  FileEntry *next;
};
const FileEntry *file_entries();
// What was found is remembered as the file does. Under the lock.
void remember(const Entry &entry);

// Does an entry tell of this device, and of which overload? Its index, or -1.
int overload_of(const Tuning &tuning, const Entry &entry);
// Enters a choice for a key, as read. Under the lock.
void enter_choice(Tuning *tuning, uint64_t key, uintptr_t choice);

// Ways of what is about to be unloaded, or of what has been overtaken.
void forget_ways_of(const std::atomic<Tuning *> &tuning);

// May this thread look for what is fastest? Not while it does.
bool may_search();
// What a table says of another build of this is not used: said once, if `said` is not set.
void say_stale(const char *name, const char *table, uint64_t expected, uint64_t got, std::atomic<bool> *said);
// The candidate of this variant; null where the device has none.
Candidate *candidate_named(const DeviceState &device, const char *variant);
// Looks for what is fastest for a call that is open; whatever comes of it, `out` has what to launch.
void search_for_launch(DeviceState &device, uint64_t context, void *stream, Chosen *out);

}  // namespace kpk
