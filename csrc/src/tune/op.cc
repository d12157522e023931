// What an op is made of, and what tables say of it.

#include "op.h"

#include <cstdlib>
#include <cstring>

#include "message.h"

namespace kpk {
namespace {

kpk_op *g_ops;  // all, under the lock of tuning.cc

char *joined(const char *before, const char *between, const char *name) {
  HostArray<char> text;
  if (!write_text(&text, [&](Text *out) { out->add("%s%s%s", before, between, name); })) return nullptr;
  return strdup(text.data());
}

kpk_status refuse_begun(const kpk_op &op) {
  return fail(KPK_ERROR_ARGUMENT, "%s: expected its members before its first launch, got one after it",
              op.name);
}

kpk_status refuse_full(const kpk_op &op) {
  return fail(KPK_ERROR_ARGUMENT, "%s: expected at most %u kernels and %u functions, got more", op.name,
              kMostMembers, kMostMembers);
}

kpk_status refuse_name(const kpk_op &op, const char *what, const char *name) {
  return fail(KPK_ERROR_ARGUMENT, "%s: expected each %s once, got a second '%s'", op.name, what, name);
}

// "softmax/fp16.BLOCK1024.w4.a16" or "function:cublas", on the device of `first`; null if the op has no such thing there.
OpChoice *choice_named(kpk_op &op, const DeviceState &first, const char *name) {
  constexpr size_t kPrefix = sizeof "function:" - 1;
  for (uint32_t i = 0; i < op.function_count && std::strncmp(name, "function:", kPrefix) == 0; ++i) {
    if (std::strcmp(op.functions[i].name, name + kPrefix) == 0)
      return op_choice(op, first.kernel->view, nullptr, nullptr, &op.functions[i]);
  }
  for (uint32_t i = 0; i < op.kernel_count; ++i) {
    const char *kernel = text(op.kernels[i]->name);
    const size_t length = std::strlen(kernel);
    if (std::strncmp(name, kernel, length) != 0 || name[length] != '/') continue;
    KernelState *state = nullptr;
    DeviceState *device = nullptr;
    if (kernel_state(*op.kernels[i], &state) != KPK_OK ||
        device_state(*state, *first.device, &device) != KPK_OK) {
      return nullptr;
    }
    Candidate *candidate = candidate_named(*device, name + length + 1);
    return candidate == nullptr ? nullptr : op_choice(op, state->view, device, candidate, nullptr);
  }
  return nullptr;
}

void enter_file(kpk_op &op, const DeviceState &first, Tuning *tuning) {
  for (const FileEntry *each = file_entries(); each != nullptr; each = each->next) {
    const Entry &entry = each->entry;
    if (std::strcmp(entry.kernel, op.name) != 0) continue;
    if (entry.hash != tuning->hash) {
      say_stale(op.name, settings().table, tuning->hash, entry.hash, &op.stale);
      continue;
    }
    const int overload = overload_of(*tuning, entry);
    uint64_t key = 0;
    if (overload < 0 || !parse_call_text(first.kernel->view, *tuning->rules[overload], entry.call, &key)) {
      continue;
    }
    const OpChoice *choice = choice_named(op, first, entry.choice);
    if (choice != nullptr) enter_choice(tuning, key, choice_of(choice, Origin::kFile));
  }
}

void forget_tunings(kpk_op &op) {
  for (std::atomic<Tuning *> &each : op.devices) {
    Tuning *tuning = each.exchange(nullptr);
    if (tuning != nullptr) free_tuning(tuning);
  }
}

void reset(kpk_op &op) {
  op.last.store(nullptr, std::memory_order_seq_cst);
  for (std::atomic<const OpPlace *> &each : op.recent) each.store(nullptr, std::memory_order_relaxed);
  for (const std::atomic<Tuning *> &each : op.devices) {
    Tuning *tuning = each.load(std::memory_order_acquire);
    if (tuning != nullptr) forget_ways(tuning);
  }
  op.slot.last.store(nullptr, std::memory_order_relaxed);
  op.slot.shortcut.store(nullptr, std::memory_order_seq_cst);
}

void free_op(kpk_op *op) {
  forget_tunings(*op);
  while (op->choices != nullptr) {
    OpChoice *next = op->choices->next;
    std::free(op->choices->name);
    std::free(op->choices);
    op->choices = next;
  }
  while (op->places != nullptr) {
    OpPlace *next = op->places->next;
    std::free(op->places);
    op->places = next;
  }
  for (uint32_t i = 0; i < op->function_count; ++i) std::free(op->functions[i].name);
  std::free(op->name);
  std::free(op);
}

}  // namespace

void reset_ops() {
  const Lock lock(g_tuning_mutex);
  for (kpk_op *op = g_ops; op != nullptr; op = op->next) reset(*op);
}

void reset_op_choices() {
  const Lock lock(g_tuning_mutex);
  for (kpk_op *op = g_ops; op != nullptr; op = op->next) {
    reset(*op);
    forget_tunings(*op);
    op->state.store(OpState::kUnread);
  }
}

bool is_tuned(kpk_op &op) {
  OpState state = op.state.load(std::memory_order_acquire);
  if (state != OpState::kUnread) return state == OpState::kTuned;
  const uint32_t mode = settings().mode;
  const Lock lock(g_tuning_mutex);
  state = mode == KPK_TUNING_TUNE || mode == KPK_TUNING_RECORD ? OpState::kTuned : OpState::kPlain;
  const FileEntry *each = mode == KPK_TUNING_USE ? file_entries() : nullptr;
  for (; each != nullptr; each = each->next) {
    if (std::strcmp(each->entry.kernel, op.name) == 0) state = OpState::kTuned;
  }
  op.state.store(state, std::memory_order_release);
  op.begun.store(true, std::memory_order_relaxed);
  return state == OpState::kTuned;
}

Tuning *op_tuning(kpk_op &op, DeviceState &first) {
  std::atomic<Tuning *> &slot = op.devices[first.device->slot];
  if (Tuning *known = slot.load(std::memory_order_acquire)) return known;
  const uint32_t mode = is_dry_device(*first.device) && settings().mode == KPK_TUNING_TUNE
                            ? uint32_t{KPK_TUNING_USE}
                            : settings().mode;
  const Lock lock(g_tuning_mutex);
  if (Tuning *known = slot.load(std::memory_order_acquire)) return known;
  Tuning *made = new_tuning(first.kernel->view, *first.device, mode, op.name, op_hash(op));
  if (made == nullptr) return nullptr;
  enter_file(op, first, made);
  slot.store(made, std::memory_order_release);
  return made;
}

uint64_t op_hash(const kpk_op &op) {
  uint64_t hash = kWordSeed;
  for (uint32_t i = 0; i < op.kernel_count; ++i) hash = mix(hash, tuning_hash(KernelView(*op.kernels[i])));
  for (uint32_t i = 0; i < op.function_count; ++i)
    hash = mix(mix(hash, hash_text(op.functions[i].name)), op.functions[i].version);
  return finish(hash);
}

OpChoice *op_choice(kpk_op &op, const KernelView &view, DeviceState *device, Candidate *candidate,
                    const OpFunction *function) {
  for (OpChoice *each = op.choices; each != nullptr; each = each->next) {
    if (each->function == function && each->device == device && each->candidate == candidate) return each;
  }
  auto *made = static_cast<OpChoice *>(std::aligned_alloc(alignof(OpChoice), sizeof(OpChoice)));
  if (made == nullptr) return nullptr;
  char *name = function != nullptr ? joined("function:", "", function->name)
                                   : joined(view.name(), "/", text(view.variants[candidate->variant].name));
  if (name == nullptr) return std::free(made), nullptr;
  *made = {name, function, device, candidate, op.choices};
  return op.choices = made;
}

const OpPlace *op_place(kpk_op &op, const Place &place) {
  const Lock lock(g_tuning_mutex);
  for (const OpPlace *each = op.places; each != nullptr; each = each->next) {
    if (each->place.device == place.device && each->place.context == place.context) return each;
  }
  auto *made = static_cast<OpPlace *>(std::malloc(sizeof(OpPlace)));
  if (made == nullptr) return nullptr;
  *made = {place, place.device->driver->place(*place.device, place.context), op.places};
  return op.places = made;
}

}  // namespace kpk

extern "C" {

kpk_status kpk_op_create(const char *name, const kpk_kernel *first, kpk_op **out) {
  using namespace kpk;
  if (out == nullptr) return refuse_null("kpk_op_create", "room for the op");
  *out = nullptr;
  if (name == nullptr || first == nullptr) return refuse_null("kpk_op_create", "a name and a kernel");
  KernelState *state = nullptr;
  if (const kpk_status status = kernel_state(*first, &state)) return status;
  auto *made = static_cast<kpk_op *>(std::aligned_alloc(64, (sizeof(kpk_op) + 63) / 64 * 64));
  if (made != nullptr) std::memset(static_cast<void *>(made), 0, sizeof *made);
  if (made == nullptr || (made->name = joined("op:", "", name)) == nullptr) {
    std::free(made);
    return fail(KPK_ERROR_MEMORY, "op:%s: out of host memory", name);
  }
  made->kernels[made->kernel_count++] = first;
  const Lock lock(g_tuning_mutex);
  made->next = g_ops;
  g_ops = made;
  *out = made;
  return KPK_OK;
}

kpk_status kpk_op_add_kernel(kpk_op *op, const kpk_kernel *kernel) {
  using namespace kpk;
  if (op == nullptr || kernel == nullptr) return refuse_null("kpk_op_add_kernel", "an op and a kernel");
  if (op->begun.load(std::memory_order_relaxed)) return refuse_begun(*op);
  if (op->kernel_count == kMostMembers) return refuse_full(*op);
  KernelState *state = nullptr;
  if (const kpk_status status = kernel_state(*kernel, &state)) return status;
  for (uint32_t i = 0; i < op->kernel_count; ++i) {
    if (std::strcmp(text(op->kernels[i]->name), state->view.name()) == 0)
      return refuse_name(*op, "kernel", state->view.name());
  }
  op->kernels[op->kernel_count++] = kernel;
  return KPK_OK;
}

kpk_status kpk_op_add_function(kpk_op *op, const char *name, uint64_t version, kpk_op_function function,
                               void *user) {
  using namespace kpk;
  if (op == nullptr || name == nullptr || function == nullptr)
    return refuse_null("kpk_op_add_function", "an op, a name and a function");
  if (op->begun.load(std::memory_order_relaxed)) return refuse_begun(*op);
  if (op->function_count == kMostMembers) return refuse_full(*op);
  for (uint32_t i = 0; i < op->function_count; ++i) {
    if (std::strcmp(op->functions[i].name, name) == 0) return refuse_name(*op, "function", name);
  }
  char *copy = strdup(name);
  if (copy == nullptr) return fail(KPK_ERROR_MEMORY, "%s: out of host memory", op->name);
  op->functions[op->function_count++] = {copy, version, function, user};
  return KPK_OK;
}

void kpk_op_free(kpk_op *op) {
  using namespace kpk;
  if (op == nullptr) return;
  // Functions know shortcuts that look its keys up.
  for (uint32_t i = 0; i < op->kernel_count; ++i) drop_all_shortcuts(*op->kernels[i]);
  {
    const Lock lock(g_tuning_mutex);
    kpk_op **at = &g_ops;
    while (*at != op) at = &(*at)->next;
    *at = op->next;
  }
  free_op(op);
}

}  // extern "C"
