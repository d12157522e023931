#include "tuned.h"

#include <cstdlib>
#include <cstring>

namespace kpk {
namespace {

constexpr uint32_t kFirstCells = 64;
// Keys that no table knows: calls of more shapes than that are chosen each time.
constexpr uint32_t kMostFixed = 4096;

TunedIndex *new_index(uint32_t cells) {
  auto *made = static_cast<TunedIndex *>(std::calloc(1, sizeof(TunedIndex) + cells * sizeof(TunedCell)));
  if (made != nullptr) made->mask = cells - 1;
  return made;
}

void enter(TunedIndex *index, Tuned *tuned) {
  uint64_t i = tuned->key;
  while (index->cells()[i & index->mask].key.load(std::memory_order_relaxed) != 0) ++i;
  TunedCell &cell = index->cells()[i & index->mask];
  cell.tuned.store(tuned, std::memory_order_relaxed);
  cell.key.store(tuned->key, std::memory_order_release);
}

// At most half of the cells are taken. The index before this one stays: somebody may be reading it.
bool make_room(Tuning *tuning) {
  TunedIndex *index = tuning->index.load(std::memory_order_relaxed);
  const uint32_t cells = index->mask + 1;
  if (2 * (tuning->count + 1) <= cells) return true;
  TunedIndex *larger = new_index(2 * cells);
  if (larger == nullptr) return false;
  for (Tuned *each = tuning->all; each != nullptr; each = each->next) enter(larger, each);
  larger->before = index;
  tuning->index.store(larger, std::memory_order_release);
  return true;
}

}  // namespace

Tuning *new_tuning(const KernelView &view, const Device &device, uint32_t mode, const char *op,
                   uint64_t hash) {
  auto *made = static_cast<Tuning *>(std::calloc(1, sizeof(Tuning)));
  if (made == nullptr) return nullptr;
  made->mode = mode;
  made->op = op;
  made->hash = hash;
  made->overloads = view.overloads.size();
  made->rules = static_cast<KeyRule **>(std::calloc(made->overloads, sizeof *made->rules));
  TunedIndex *index = new_index(kFirstCells);
  made->index.store(index, std::memory_order_relaxed);
  bool whole = made->rules != nullptr && index != nullptr;
  for (uint32_t k = 0; whole && k < made->overloads; ++k) {
    made->rules[k] = make_rule(view, view.overloads[k], device, op);
    whole = made->rules[k] != nullptr;
  }
  if (whole) return made;
  return free_tuning(made), nullptr;
}

void free_tuning(Tuning *tuning) {
  while (tuning->all != nullptr) {
    Tuned *next = tuning->all->next;
    std::free(tuning->all);
    tuning->all = next;
  }
  for (TunedIndex *index = tuning->index.load(std::memory_order_relaxed); index != nullptr;) {
    TunedIndex *before = index->before;
    std::free(index);
    index = before;
  }
  for (uint32_t k = 0; tuning->rules != nullptr && k < tuning->overloads; ++k) std::free(tuning->rules[k]);
  std::free(tuning->rules);
  std::free(tuning);
}

Tuned *add_tuned(Tuning *tuning, uint64_t key, uintptr_t choice, bool *added) {
  *added = false;
  if (Tuned *found = find_tuned(*tuning, key)) return found;
  const bool fixed = (choice & Tuned::kOrigin) == static_cast<uintptr_t>(Origin::kFixed);
  if ((fixed && tuning->fixed == kMostFixed) || !make_room(tuning)) return nullptr;
  auto *made = static_cast<Tuned *>(std::calloc(1, sizeof(Tuned)));
  if (made == nullptr) return nullptr;
  made->key = key;
  made->choice.store(choice, std::memory_order_relaxed);
  made->next = tuning->all;
  tuning->all = made;
  ++tuning->count;
  tuning->fixed += fixed;
  enter(tuning->index.load(std::memory_order_relaxed), made);
  *added = true;
  return made;
}

void forget_ways(Tuning *tuning) {
  for (Tuned *each = tuning->all; each != nullptr; each = each->next)
    each->way.store(nullptr, std::memory_order_seq_cst);
}

}  // namespace kpk
