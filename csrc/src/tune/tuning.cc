#include "tuning.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "observe.h"
#include "op.h"
#include "search.h"
#include "shapes.h"

namespace kpk {
namespace {

pthread_once_t g_once = PTHREAD_ONCE_INIT;
Settings g_settings;

// ---- What is asked for

char *copy_of(const char *text) { return text == nullptr || *text == '\0' ? nullptr : strdup(text); }

uint32_t mode_named(const char *name) {
  static const char *const kModes[] = {"off", "use", "tune", "record"};
  if (name == nullptr || *name == '\0') return KPK_TUNING_USE;
  for (uint32_t mode = 0; mode < 4; ++mode) {
    if (std::strcmp(name, kModes[mode]) == 0) return mode;
  }
  say("KPACK_TUNING: expected off, use, tune or record, got '%.64s': taken as use", name);
  return KPK_TUNING_USE;
}

uint64_t budget_named(const char *name) {
  if (name == nullptr || *name == '\0') return 0;
  char *end = nullptr;
  errno = 0;
  const unsigned long long ms = std::strtoull(name, &end, 10);
  if (*end == '\0' && *name != '-' && errno == 0 && ms != 0 && ms < UINT64_MAX / 1000000) return ms * 1000000;
  say("KPACK_TUNING_BUDGET_MS: expected milliseconds, got '%.64s': taken as the default", name);
  return 0;
}

void set(const Settings &to) {
  std::free(const_cast<char *>(g_settings.table));
  std::free(const_cast<char *>(g_settings.shapes));
  g_settings = to;
  set_recording(to.mode == KPK_TUNING_RECORD, to.shapes);
}

void read_environment() {
  const Settings read = {mode_named(std::getenv("KPACK_TUNING")), copy_of(std::getenv("KPACK_TUNING_TABLE")),
                         copy_of(std::getenv("KPACK_TUNING_SHAPES")),
                         budget_named(std::getenv("KPACK_TUNING_BUDGET_MS")), 0};
  set(read);
}

// ---- The table file

FileEntry *g_entries;  // in the order of the file
FileEntry **g_end = &g_entries;
bool g_file_read;

const char *put(char **at, const char *text) {
  const size_t bytes = std::strlen(text) + 1;
  char *begin = static_cast<char *>(std::memcpy(*at, text, bytes));
  *at += bytes;
  return begin;
}

void append(void *, const Entry &entry) {
  const char *const texts[] = {entry.kernel, entry.device, entry.overload,
                               entry.call,   entry.choice, entry.left_out};
  size_t bytes = sizeof(FileEntry);
  for (const char *text : texts) bytes += std::strlen(text) + 1;
  auto *made = static_cast<FileEntry *>(std::malloc(bytes));
  if (made == nullptr) return;
  char *at = reinterpret_cast<char *>(made + 1);
  made->entry = entry;
  made->entry.kernel = put(&at, entry.kernel);
  made->entry.device = put(&at, entry.device);
  made->entry.overload = put(&at, entry.overload);
  made->entry.call = put(&at, entry.call);
  made->entry.choice = put(&at, entry.choice);
  made->entry.left_out = put(&at, entry.left_out);
  made->next = nullptr;
  *g_end = made;
  g_end = &made->next;
}

void forget_file() {
  while (g_entries != nullptr) {
    FileEntry *next = g_entries->next;
    std::free(g_entries);
    g_entries = next;
  }
  g_end = &g_entries;
  g_file_read = false;
}

// ---- One kernel on one device

Candidate *candidate_of(const DeviceState &device, uint64_t variant_hash) {
  const KernelView &view = device.kernel->view;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    const Choices &choices = *device.overloads[k];
    for (uint32_t i = 0; i < choices.count; ++i) {
      if (view.variants[choices.candidates[i].variant].hash == variant_hash) return &choices.candidates[i];
    }
  }
  return nullptr;
}

bool is_of(const FileEntry &each, const char *kernel) { return std::strcmp(each.entry.kernel, kernel) == 0; }

// Is there anything that could be entered?
bool has_entries(const DeviceState &device) {
  const KernelView &view = device.kernel->view;
  if (view.kernel->tuning != 0) return true;
  for (const FileEntry *each = file_entries(); each != nullptr; each = each->next) {
    if (is_of(*each, view.name())) return true;
  }
  return false;
}

void enter_baked(const DeviceState &device, Tuning *tuning) {
  const auto *baked = follow<kpk_abi_tuning>(device.kernel->view.kernel->tuning);
  if (baked == nullptr) return;
  if (baked->kernel_hash != tuning->hash)
    return say_stale(device.kernel->view.name(), "its baked table", tuning->hash, baked->kernel_hash,
                     &device.kernel->stale);
  const Table<kpk_abi_tuned> entries(baked->entries);
  for (uint32_t i = 0; i < entries.size(); ++i) {
    // A variant that is gone, or that this device has no image of, is no choice.
    const Candidate *candidate = candidate_of(device, entries[i].variant);
    if (candidate != nullptr && entries[i].key != 0)
      enter_choice(tuning, entries[i].key, choice_of(candidate, Origin::kBaked));
  }
}

void enter_file(const DeviceState &device, Tuning *tuning) {
  const KernelView &view = device.kernel->view;
  for (const FileEntry *each = file_entries(); each != nullptr; each = each->next) {
    const Entry &entry = each->entry;
    if (!is_of(*each, view.name())) continue;
    if (entry.hash != tuning->hash) {
      say_stale(view.name(), settings().table, tuning->hash, entry.hash, &device.kernel->stale);
      continue;
    }
    const int overload = overload_of(*tuning, entry);
    if (overload < 0) continue;  // another device's
    uint64_t key = 0;
    if (!parse_call_text(view, *tuning->rules[overload], entry.call, &key)) {
      log_line("%s: %s: expected a call of its key parameters, got '%.200s'", view.name(), settings().table,
               entry.call);
      continue;
    }
    const Candidate *candidate = candidate_named(device, entry.choice);
    if (candidate != nullptr) enter_choice(tuning, key, choice_of(candidate, Origin::kFile));
  }
}

Tuning *make_tuning(DeviceState &device, uint32_t mode) {
  const KernelView &view = device.kernel->view;
  Tuning *made = new_tuning(view, *device.device, mode, nullptr, tuning_hash(view));
  if (made == nullptr) return nullptr;
  enter_baked(device, made);
  enter_file(device, made);
  // In use mode, nothing that is known is nothing to look up.
  if (mode == KPK_TUNING_USE && made->count == 0) return free_tuning(made), nullptr;
  return made;
}

// Nothing is measured in a dry run.
uint32_t mode_on(const Device &device) {
  const uint32_t mode = settings().mode;
  return mode == KPK_TUNING_TUNE && is_dry_device(device) ? uint32_t{KPK_TUNING_USE} : mode;
}

}  // namespace

Candidate *candidate_named(const DeviceState &device, const char *variant) {
  const KernelView &view = device.kernel->view;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    const Choices &choices = *device.overloads[k];
    for (uint32_t i = 0; i < choices.count; ++i) {
      if (std::strcmp(text(view.variants[choices.candidates[i].variant].name), variant) == 0)
        return &choices.candidates[i];
    }
  }
  return nullptr;
}

void say_stale(const char *name, const char *table, uint64_t expected, uint64_t got,
               std::atomic<bool> *said) {
  if (said->exchange(true)) return;
  log_line("%s: %s was tuned for another build of it and is not used: expected hash %016llx, got %016llx",
           name, table, static_cast<unsigned long long>(expected), static_cast<unsigned long long>(got));
}

Tuning g_unread;
Mutex g_tuning_mutex;

const Settings &settings() {
  pthread_once(&g_once, read_environment);
  return g_settings;
}

Tuning *read_tuning(DeviceState &device) {
  const uint32_t mode = mode_on(*device.device);
  const Lock lock(g_tuning_mutex);
  Tuning *tuning = device.tuning.load(std::memory_order_relaxed);
  if (tuning != &g_unread) return tuning;
  const bool nothing = mode == KPK_TUNING_OFF || (mode == KPK_TUNING_USE && !has_entries(device));
  tuning = nothing ? nullptr : make_tuning(device, mode);
  device.tuning.store(tuning, std::memory_order_release);
  return tuning;
}

Tuning *need_tuning(DeviceState &device) {
  Tuning *tuning = tuning_of(device);
  if (tuning != nullptr || settings().mode == KPK_TUNING_OFF) return tuning;
  const KernelView &view = device.kernel->view;
  {
    const Lock lock(g_tuning_mutex);
    tuning = device.tuning.load(std::memory_order_relaxed);
    if (tuning != nullptr) return tuning;
    tuning = new_tuning(view, *device.device, mode_on(*device.device), nullptr, tuning_hash(view));
    if (tuning == nullptr) return nullptr;
    device.tuning.store(tuning, std::memory_order_release);
  }
  drop_shortcuts(device);  // which are for calls of any key
  return tuning;
}

const FileEntry *file_entries() {
  if (g_file_read || settings().table == nullptr) return g_entries;
  g_file_read = true;
  const KeepMessage message;
  uint32_t rejected = 0;
  if (read_table(settings().table, append, nullptr, &rejected) != KPK_OK) log_line("%s", kpk_message());
  return g_entries;
}

void remember(const Entry &entry) { append(nullptr, entry); }

int overload_of(const Tuning &tuning, const Entry &entry) {
  uint64_t seed = mix(kWordSeed, hash_text(entry.device));
  if (tuning.op != nullptr) seed = mix(seed, hash_text(entry.kernel));  // "op:<name>"
  seed = mix(seed, hash_text(entry.overload));
  for (uint32_t k = 0; k < tuning.overloads; ++k) {
    if (tuning.rules[k]->seed == seed) return static_cast<int>(k);
  }
  return -1;
}

void enter_choice(Tuning *tuning, uint64_t key, uintptr_t choice) {
  bool added;
  Tuned *tuned = add_tuned(tuning, key, choice, &added);
  if (tuned != nullptr && !added) tuned->choice.store(choice, std::memory_order_release);
}

bool complete_terms(const Chosen &chosen, Terms *terms) {
  if (terms->tuned == nullptr) {
    if (chosen.tuning->mode == KPK_TUNING_TUNE) return false;  // it is found out soon
    const Lock lock(g_tuning_mutex);
    bool added;
    terms->tuned = add_tuned(chosen.tuning, chosen.key, choice_of(nullptr, Origin::kFixed), &added);
    if (terms->tuned == nullptr) return false;
  }
  // What is about to be known, and a choice that this call alone may not run, are looked at each time.
  const Origin origin = terms->tuned->origin();
  if (origin == Origin::kSearching || origin == Origin::kOpen) return false;
  return is_known(origin) == chosen.by_key;
}

void add_tuned_text(const Chosen &chosen, Text *out) {
  static const char *const kFrom[] = {"baked into the archive", "from the table file", "in this process"};
  const DeviceState &device = *chosen.device;
  const KernelView &view = device.kernel->view;
  const uintptr_t choice = chosen.terms.tuned == nullptr ? 0 : chosen.terms.tuned->choice.load();
  const auto origin = static_cast<Origin>(choice & Tuned::kOrigin);
  out->add(is_known(origin) ? "tuned" : "not tuned");
  if (is_known(origin)) {
    const auto from = static_cast<uintptr_t>(origin) - static_cast<uintptr_t>(Origin::kBaked);
    out->add(", %s,", kFrom[from]);
  }
  out->add(" for ");
  add_call_text(view, *chosen.terms.rule, chosen.call, out);
  out->add(" on ");
  add_device_text(*device.device, out);
  if (!is_known(origin) || chosen.by_key || chosen.tuning->op != nullptr) return;
  const auto *candidate = reinterpret_cast<const Candidate *>(choice & ~Tuned::kOrigin);
  out->add(" to %s, which may not run this call", text(view.variants[candidate->variant].name));
}

void forget_ways_of(const std::atomic<Tuning *> &tuning) {
  const Lock lock(g_tuning_mutex);
  Tuning *known = tuning.load(std::memory_order_relaxed);
  if (known != nullptr && known != &g_unread) forget_ways(known);
}

}  // namespace kpk

extern "C" kpk_status kpk_set_tuning(const kpk_tuning *tuning) {
  using namespace kpk;
  settings();  // so that the environment is not read after this
  if (tuning == nullptr) {
    read_environment();
  } else {
    constexpr uint32_t first_bytes = offsetof(kpk_tuning, tolerance) + sizeof tuning->tolerance;
    if (tuning->size < first_bytes || tuning->mode > KPK_TUNING_RECORD) {
      return fail(KPK_ERROR_ARGUMENT,
                  "kpk_set_tuning: expected a mode from %d to %d in a struct of %u bytes at least, got mode "
                  "%u and %u bytes",
                  KPK_TUNING_OFF, KPK_TUNING_RECORD, first_bytes, tuning->mode, tuning->size);
    }
    set({tuning->mode, copy_of(tuning->table), copy_of(tuning->shapes), tuning->budget_ns,
         tuning->tolerance});
  }
  {
    const Lock lock(g_tuning_mutex);
    forget_file();
  }
  reset_op_choices();
  reset_choices();
  return KPK_OK;
}
