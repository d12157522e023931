// What is known of the keys of one kernel, or op, on one device: a table that launches probe without a lock, while
// others add to it. What is in it stays where it is until the settings change, when nobody launches.
#pragma once

#include <atomic>
#include <cstdint>

#include "key.h"

namespace kpk {

struct Shortcut;     // shortcut.h
struct DeviceState;  // module.h

// From where it is known what runs.
enum class Origin : uintptr_t {
  kFixed,      // nobody knows: the fixed choice, whose launches are alike
  kOpen,       // it could not be found out then: the fixed choice, until somebody tries again
  kSearching,  // a thread is finding out: the fixed choice
  kRefused,    // it could not be found out: the fixed choice
  kBaked,
  kFile,
  kFound  // in this process
};

// What is known of one key. Choices are addresses of multiples of 64: a Candidate, or an op's OpChoice.
struct Tuned {
  std::atomic<uintptr_t> choice;      // | Origin
  std::atomic<const Shortcut *> way;  // for calls of this key
  std::atomic<bool> seen;             // a launch has come by
  uint64_t key;
  Tuned *next;

  static constexpr uintptr_t kOrigin = 63;
  Origin origin() const { return static_cast<Origin>(choice.load(std::memory_order_acquire) & kOrigin); }
};
// What runs, if somebody knows; and the address of it.
inline bool is_known(Origin origin) { return origin >= Origin::kBaked; }
inline uintptr_t choice_of(const void *address, Origin origin) {
  return reinterpret_cast<uintptr_t>(address) | static_cast<uintptr_t>(origin);
}

struct TunedCell {
  std::atomic<uint64_t> key;  // 0: free, and it ends the search
  std::atomic<Tuned *> tuned;
};
struct TunedIndex {
  uint32_t mask;  // of cells, one of which at least is free
  TunedIndex *before;
  TunedCell *cells() { return reinterpret_cast<TunedCell *>(this + 1); }
  const TunedCell *cells() const { return reinterpret_cast<const TunedCell *>(this + 1); }
};

struct Tuning {
  std::atomic<TunedIndex *> index;
  uint32_t mode;  // KPK_TUNING_..., not off
  uint32_t overloads;
  KeyRule **rules;  // of each overload
  uint64_t hash;    // tuning_hash()
  const char *op;   // the name of the op whose it is, or null
  // The rest is under the lock of tuning.cc.
  Tuned *all;
  uint32_t count;
  uint32_t fixed;  // of them for nothing but ways
};

inline Tuned *find_tuned(const Tuning &tuning, uint64_t key) {
  const TunedIndex *index = tuning.index.load(std::memory_order_acquire);
  const TunedCell *cells = index->cells();
  for (uint64_t i = key;; ++i) {
    const TunedCell &cell = cells[i & index->mask];
    const uint64_t found = cell.key.load(std::memory_order_acquire);
    if (found == key) return cell.tuned.load(std::memory_order_relaxed);
    if (found == 0) return nullptr;
  }
}

// An empty one; null if there is no memory. Freed by free_tuning(), when nobody launches.
Tuning *new_tuning(const KernelView &view, const Device &device, uint32_t mode, const char *op,
                   uint64_t hash);
void free_tuning(Tuning *tuning);

// What is known of the key, added with `choice` if there is nothing; `*added` says so. Null if there is no memory, or
// of Origin::kFixed too many. Under the lock of tuning.cc.
Tuned *add_tuned(Tuning *tuning, uint64_t key, uintptr_t choice, bool *added);

// All ways are gone: their functions are about to be.
void forget_ways(Tuning *tuning);

}  // namespace kpk
