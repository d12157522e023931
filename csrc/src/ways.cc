#include "ways.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "conditions.h"
#include "lock.h"
#include "tune/op.h"
#include "tune/tuning.h"

namespace kpk {
namespace {

Mutex g_mutex;                 // guards these, and what is dropped
DeviceState *g_device_states;  // all, the newest first

// Zeroed, and at a cache line's start.
Shortcut *new_shortcut(size_t bytes) {
  bytes = (bytes + alignof(Shortcut) - 1) / alignof(Shortcut) * alignof(Shortcut);
  void *block = std::aligned_alloc(alignof(Shortcut), bytes);
  return static_cast<Shortcut *>(block == nullptr ? nullptr : std::memset(block, 0, bytes));
}

void free_shortcuts(const Shortcut *shortcut) {
  while (shortcut != nullptr) {
    const Shortcut *next = shortcut->next;
    std::free(const_cast<Shortcut *>(shortcut));
    shortcut = next;
  }
}

// The first one of a list that is as asked for, of this kernel's own (an op's are not).
template <class Is>
const Shortcut *find_in(const First &list, const Function &function, Is is) {
  const Shortcut *found = list.load(std::memory_order_seq_cst);
  for (; found != nullptr; found = found->next) {
    if (!is(*found)) continue;
    if (found->keyed == nullptr) return found;
    const Tuning *own = function.state->tuning.load(std::memory_order_relaxed);
    if (found->keyed->tuning == own) return found;
  }
  return nullptr;
}

auto of_types(uint64_t types) {
  return [types](const Shortcut &shortcut) { return shortcut.types == types; };
}
auto of_args(const kpk_arg *args, uint32_t count) {
  return [args, count](const Shortcut &shortcut) {
    return is_for(shortcut, args, count) && (shortcut.keyed == nullptr || shortcut.plan != nullptr);
  };
}
const Shortcut *usable(const Shortcut *found) {
  return found == nullptr || found->plan == nullptr ? nullptr : found;
}

First &list_of(const Function &function, const Terms &terms) {
  return terms.rule != nullptr         ? function.keyed
         : terms.why == Terms::kPinned ? function.pinned
                                       : function.shortcuts;
}

// Whether the shortcut is what these terms come to, or says that they come to none.
bool is_of(const Shortcut &shortcut, const Call &call, const Terms &terms) {
  const Tuned *tuned = shortcut.keyed == nullptr ? nullptr : shortcut.keyed->tuned;
  if (tuned != terms.tuned || !is_for(shortcut, call.args, call.count)) return false;
  return shortcut.values == 0 || shortcut.values == hash_values(*shortcut.function->choices, call);
}

// Empties a list; what was in it stays until its function goes.
void drop_list(const Function &function, First *list) {
  auto *dropped = static_cast<Dropped *>(std::calloc(1, sizeof(Dropped)));
  if (dropped == nullptr) return;  // then they stay, which costs time and is not wrong
  dropped->shortcuts = list->exchange(nullptr, std::memory_order_seq_cst);
  dropped->next = function.dropped;
  if (dropped->shortcuts == nullptr) return std::free(dropped);
  function.dropped = dropped;
}

template <class Do>
void for_each_function(const DeviceState &device, Do act) {
  for (uint32_t k = 0; k < device.kernel->view.overloads.size(); ++k) {
    const Choices &choices = *device.overloads[k];
    for (uint32_t c = 0; c < choices.count; ++c) {
      const Function *each = choices.candidates[c].functions.load(std::memory_order_acquire);
      for (; each != nullptr; each = each->next) act(*each);
    }
  }
}

// No driver's: what has it is nobody's shortcut.
const Driver kNobody = {};

void void_shortcuts(const Shortcut *shortcut) {
  for (; shortcut != nullptr; shortcut = shortcut->next) {
    auto *gone = const_cast<Shortcut *>(shortcut);
    gone->driver = &kNobody;
    gone->types = 0;
  }
}

}  // namespace

const Shortcut *find_shortcut(const Function &function, uint64_t types) {
  const Shortcut *found = find_in(function.shortcuts, function, of_types(types));
  return found != nullptr ? found : find_in(function.keyed, function, of_types(types));
}

const Shortcut *find_shortcut(const Function &function, const kpk_arg *args, uint32_t count) {
  const Shortcut *found = find_in(function.shortcuts, function, of_args(args, count));
  return usable(found != nullptr ? found : find_in(function.keyed, function, of_args(args, count)));
}

const Shortcut *find_pinned(const Function &function, uint64_t types) {
  return find_in(function.pinned, function, of_types(types));
}

const Shortcut *find_pinned(const Function &function, const kpk_arg *args, uint32_t count) {
  return usable(find_in(function.pinned, function, of_args(args, count)));
}

const Shortcut *learn_shortcut(const Function &function, const Call &call, const Terms &terms) {
  // Of one function: calls of other types, or keys, are chosen each time.
  const Choices &choices = *function.choices;
  const uint32_t most = terms.rule != nullptr                                 ? 1024
                        : goes_by_values(choices, *function.candidate, terms) ? 64
                                                                              : 8;
  First &list = list_of(function, terms);
  const Shortcut *first = list.load(std::memory_order_acquire);
  uint32_t known = 0;
  for (const Shortcut *found = first; found != nullptr; found = found->next, ++known) {
    if (is_of(*found, call, terms)) return usable(found);
  }
  if (known >= most || call.count > kMostShortParams) return nullptr;
  auto *made = new_shortcut(shortcut_bytes(function, call.count, terms));
  if (made == nullptr) return nullptr;
  make_shortcut(function, call, terms, made);
  made->next = first;
  // Who comes second leaves it to the next call.
  if (!list.compare_exchange_strong(first, made, std::memory_order_seq_cst)) return std::free(made), nullptr;
  return usable(made);
}

void publish(First &first, const Function &function, const Shortcut *found) {
  first.store(found, std::memory_order_seq_cst);
  for (const First *list : {&function.shortcuts, &function.pinned, &function.keyed}) {
    const Shortcut *each = list->load(std::memory_order_seq_cst);
    for (; each != nullptr; each = each->next) {
      if (each == found) return;
    }
  }
  first.compare_exchange_strong(found, nullptr);
}

void drop_shortcuts(DeviceState &device) {
  device.version.fetch_add(1, std::memory_order_seq_cst);
  {
    const Lock lock(g_mutex);
    for_each_function(device, [](const Function &function) {
      drop_list(function, &function.shortcuts);
      drop_list(function, &function.keyed);
    });
  }
  forget_ways_of(device.tuning);
  device.shortcut.store(nullptr, std::memory_order_seq_cst);
  slot_of(*device.kernel->view.kernel).shortcut.store(nullptr, std::memory_order_seq_cst);
  reset_ops();
}

void drop_all_shortcuts(const kpk_kernel &kernel) {
  KernelState *state = slot_of(kernel).state.load(std::memory_order_acquire);
  if (state == nullptr) return;
  for (std::atomic<DeviceState *> &slot : state->devices) {
    if (DeviceState *device = slot.load(std::memory_order_acquire)) drop_shortcuts(*device);
  }
}

void reset_choices() {
  const Lock lock(g_mutex);
  for (DeviceState *device = g_device_states; device != nullptr; device = device->next) {
    for_each_function(*device, [](const Function &function) {
      for (First *list : {&function.shortcuts, &function.keyed}) {
        void_shortcuts(list->load(std::memory_order_relaxed));
        drop_list(function, list);
      }
    });
    device->shortcut.store(nullptr, std::memory_order_relaxed);
    Tuning *tuning = device->tuning.exchange(&g_unread);
    if (tuning != &g_unread && tuning != nullptr) free_tuning(tuning);
  }
}

void free_all_shortcuts(const Function &function) {
  for (const First *list : {&function.shortcuts, &function.pinned, &function.keyed})
    free_shortcuts(list->load(std::memory_order_relaxed));
  while (function.dropped != nullptr) {
    Dropped *next = function.dropped->next;
    free_shortcuts(function.dropped->shortcuts);
    std::free(function.dropped);
    function.dropped = next;
  }
}

void enlist(DeviceState *device) {
  const Lock lock(g_mutex);
  device->next = g_device_states;
  g_device_states = device;
}

}  // namespace kpk
