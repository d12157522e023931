// Tuning an op: the variants of all its kernels, and its functions, as alternatives.

#include <cstdlib>
#include <cstring>

#include "message.h"
#include "op.h"
#include "session.h"

namespace kpk {
namespace {

// What a function is run with.
struct FunctionAttempt {
  const OpFunction *function;
  int32_t vendor;
};

kpk_status run_function_attempt(void *self, void *stream, const kpk_arg *args, uint32_t count) {
  const auto &attempt = *static_cast<FunctionAttempt *>(self);
  return attempt.function->run(attempt.function->user, {stream, attempt.vendor, 0}, args, count);
}

// All that may do the call, what runs without tuning first.
struct OpAlternatives {
  HostArray<Attempt> attempts;
  HostArray<FunctionAttempt> functions;
  HostArray<Contender> contenders;
  HostArray<OpChoice *> choices;  // of each contender
  HostArray<Region> regions;
  uint32_t variant_count = 0;
  uint32_t count = 0;
  bool whole = true;

  void add(OpChoice *choice, void *self, kpk_status (*run)(void *, void *, const kpk_arg *, uint32_t)) {
    if (choice == nullptr) return void(whole = false);
    choices[count] = choice;
    contenders[count++] = {choice->name, self, run, false, nullptr};
  }
  void add_variant(kpk_op &op, const Chosen &of, DeviceState *device, Candidate *candidate,
                   uint64_t context) {
    Attempt &attempt = attempts[variant_count++];
    attempt = {device, candidate, context, of.call};
    add(op_choice(op, device->kernel->view, device, candidate, nullptr), &attempt, run_attempt);
  }
};

// One kernel on the device of `first`, and what it makes of the call; false if it does not take it.
bool begin_member(const kpk_kernel &kernel, const DeviceState &first, const Call &call, Chosen *out) {
  const Quiet quiet;
  KernelState *state = nullptr;
  DeviceState *device = nullptr;
  return kernel_state(kernel, &state) == KPK_OK && device_state(*state, *first.device, &device) == KPK_OK &&
         begin_choice(*device, call.args, call.count, 0, out) == KPK_OK;
}

uint32_t most_variants(const kpk_op &op) {
  uint32_t most = 0;
  for (uint32_t i = 0; i < op.kernel_count; ++i) most += KernelView(*op.kernels[i]).variants.size();
  return most;
}

kpk_status find_alternatives(kpk_op &op, DeviceState &first, const Chosen &chosen, Candidate *fixed,
                             uint64_t context, OpAlternatives *out) {
  const uint32_t most = most_variants(op);
  if (!out->attempts.allocate(most) || !out->functions.allocate(op.function_count) ||
      !out->contenders.allocate(most + op.function_count) ||
      !out->choices.allocate(most + op.function_count) || !out->regions.allocate(chosen.call.count)) {
    return fail(KPK_ERROR_MEMORY, "%s: out of host memory for a search", op.name);
  }
  for (uint32_t k = 0; k < op.kernel_count; ++k) {
    Chosen member;
    if (!begin_member(*op.kernels[k], first, chosen.call, &member)) continue;
    const KernelView &view = member.device->kernel->view;
    const Choices &choices = *member.choices;
    Candidate *front = k == 0 ? fixed : select(view, choices, member.call);
    if (front == nullptr) continue;
    if (const kpk_status status = add_regions(view, *choices.overload, view.variants[front->variant],
                                              member.call, out->regions.data())) {
      return status;
    }
    const Lock lock(g_tuning_mutex);
    out->add_variant(op, member, member.device, front, context);
    for (uint32_t i = 0; i < choices.count; ++i) {
      Candidate *candidate = &choices.candidates[i];
      if (is_alternative(view, choices, *candidate, *front, member.call))
        out->add_variant(op, member, member.device, candidate, context);
    }
  }
  const Lock lock(g_tuning_mutex);
  for (uint32_t i = 0; i < op.function_count; ++i) {
    out->functions[i] = {&op.functions[i], first.device->vendor};
    out->add(op_choice(op, first.kernel->view, nullptr, nullptr, &op.functions[i]), &out->functions[i],
             run_function_attempt);
  }
  return out->whole ? KPK_OK : fail(KPK_ERROR_MEMORY, "%s: out of host memory for a search", op.name);
}

// Looks for the best; `*best` null: none was timed.
kpk_status search_now(kpk_op &op, DeviceState &first, const Chosen &chosen, Candidate *fixed,
                      uint64_t context, void *stream, const KeyRule &rule, const kpk_tune_options &options,
                      const OpChoice **best) {
  *best = nullptr;
  OpAlternatives among;
  if (const kpk_status status = find_alternatives(op, first, chosen, fixed, context, &among)) return status;
  if (among.count == 1) {
    *best = among.choices[0];
    tell_only(options, among.contenders[0].name, "nothing else may run this call");
    return KPK_OK;
  }
  const Session session = {op.name, op_hash(op),          first.kernel->view,      *chosen.choices,
                           rule,    chosen.call,          *first.device,           context,
                           stream,  among.regions.data(), among.contenders.data(), among.count};
  SearchResult result = {};
  if (const kpk_status status = search_session(session, options, &result)) return status;
  if (result.best_us > 0) *best = among.choices[result.best];
  return KPK_OK;
}

// The call as the first kernel takes it, and its fixed choice.
kpk_status begin_fixed(DeviceState &first, const kpk_arg *args, uint32_t count, Chosen *out,
                       Candidate **fixed) {
  if (const kpk_status status = begin_choice(first, args, count, 0, out)) return status;
  *fixed = select(first.kernel->view, *out->choices, out->call);
  return *fixed != nullptr ? KPK_OK : refuse_variant(first, *out->choices, out->call);
}

// From now on it looks its keys up.
Tuning *need_op_tuning(kpk_op &op, DeviceState &first) {
  if (settings().mode == KPK_TUNING_OFF) return nullptr;
  is_tuned(op);
  op.state.store(OpState::kTuned, std::memory_order_release);
  return op_tuning(op, first);
}

void enter(DeviceState &first, Tuning *tuning, uint64_t key, const OpChoice *best) {
  {
    const Lock lock(g_tuning_mutex);
    enter_choice(tuning, key, choice_of(best, Origin::kFound));
  }
  drop_shortcuts(first);  // and what ops know
}

kpk_status tune_at(kpk_op &op, const Place &place, void *stream, const kpk_arg *args, uint32_t count,
                   const kpk_tune_options &options) {
  KernelState *state = nullptr;
  DeviceState *first = nullptr;
  if (const kpk_status status = kernel_state(*op.kernels[0], &state)) return status;
  if (const kpk_status status = device_state(*state, *place.device, &first)) return status;
  Chosen chosen;
  Candidate *fixed = nullptr;
  if (const kpk_status status = begin_fixed(*first, args, count, &chosen, &fixed)) return status;
  KeyRule *rule = make_rule(state->view, *chosen.choices->overload, *place.device, op.name);
  if (rule == nullptr) return fail(KPK_ERROR_MEMORY, "%s: out of host memory for a search", op.name);
  const uint64_t key = key_of(*rule, chosen.call);
  Tuning *tuning = need_op_tuning(op, *first);
  const Tuned *known = tuning == nullptr ? nullptr : find_tuned(*tuning, key);
  kpk_status status = KPK_OK;
  if (known != nullptr && is_known(known->origin()) && (options.flags & KPK_TUNE_AGAIN) == 0) {
    const uintptr_t choice = known->choice.load(std::memory_order_acquire);
    tell_only(options, reinterpret_cast<const OpChoice *>(choice & ~Tuned::kOrigin)->name,
              "known: KPK_TUNE_AGAIN finds out again");
  } else {
    const OpChoice *best = nullptr;
    status = search_now(op, *first, chosen, fixed, place.context, stream, *rule, options, &best);
    if (status == KPK_OK && best != nullptr && tuning != nullptr) enter(*first, tuning, key, best);
  }
  std::free(rule);
  return status;
}

}  // namespace

void search_for_op(kpk_op &op, DeviceState &first, uint64_t context, void *stream, OpChosen *out) {
  const Searching searching;
  if (!searching.taken()) return;
  const KeepMessage message;
  Chosen chosen;
  Candidate *fixed = nullptr;
  const kpk_arg *args = out->chosen.call.args;
  const uint32_t count = out->chosen.call.count;
  if (begin_fixed(first, args, count, &chosen, &fixed) != KPK_OK || !launches(chosen, fixed, context)) return;
  bool untried = false;
  if (Tuned *tuned = claim(out->chosen.tuning, out->chosen.key, &untried)) {
    kpk_tune_options options = {};
    const OpChoice *best = nullptr;
    kpk_status status = read_options(nullptr, &options);
    if (status == KPK_OK) {
      status = search_now(op, first, chosen, fixed, context, stream, *out->chosen.terms.rule, options, &best);
    }
    tuned->choice.store(outcome(status, op.name, best, untried), std::memory_order_release);
  }
  choose_in_op(op, first, args, count, 0, out);  // which it has been once
  out->chosen.open = false;
}

}  // namespace kpk

extern "C" {

kpk_status kpk_op_tune(kpk_op *op, kpk_stream stream, const kpk_arg *args, uint32_t count,
                       const kpk_tune_options *given) {
  using namespace kpk;
  if (op == nullptr) return refuse_null("kpk_op_tune", "an op");
  if (args == nullptr && count != 0) return refuse_null("kpk_op_tune", "arguments");
  kpk_tune_options options;
  if (const kpk_status status = read_options(given, &options)) return status;
  op->begun.store(true, std::memory_order_relaxed);
  if (is_dry()) return fail(KPK_ERROR_NO_DEVICE, "%s: tune: expected a device, got a dry run", op->name);
  const Searching searching(op->name);
  if (!searching.taken()) return KPK_ERROR_ARGUMENT;
  const Driver *driver = nullptr;
  if (const kpk_status status = driver_of(stream, op->name, &driver)) return status;
  Place place = {};
  void *before = nullptr;
  if (const kpk_status status = driver->enter(stream.handle, op->name, &place, &before)) return status;
  const kpk_status status = tune_at(*op, place, stream.handle, some(args, count), count, options);
  driver->leave(before);
  return status;
}

size_t kpk_op_explain(kpk_op *op, kpk_device device, const kpk_arg *args, uint32_t count, char *text,
                      size_t bytes) {
  using namespace kpk;
  Text out(text, bytes);
  if (op == nullptr) return out.add("kpk_op_explain: expected an op, got null"), out.length();
  const KeepMessage message;
  KernelState *state = nullptr;
  DeviceState *first = nullptr;
  const Device *on = nullptr;
  kpk_status status = kernel_state(*op->kernels[0], &state);
  if (status == KPK_OK) status = find_device(state->view, "explain", device, &on);
  if (status == KPK_OK) status = device_state(*state, *on, &first);
  Chosen chosen;
  if (status == KPK_OK) status = begin_choice(*first, some(args, count), count, 0, &chosen);
  if (status != KPK_OK) return out.add("%s", kpk_message()), out.length();
  out.add("%s on %s: ", op->name, on->arch);
  Tuning *tuning = is_tuned(*op) ? op_tuning(*op, *first) : nullptr;
  const Tuned *tuned =
      tuning == nullptr ? nullptr : look_up(*tuning->rules[chosen.choices->index], tuning, &chosen);
  if (tuned != nullptr && is_known(tuned->origin())) {
    const uintptr_t choice = tuned->choice.load(std::memory_order_acquire);
    out.add("runs %s where that may run the call\n",
            reinterpret_cast<const OpChoice *>(choice & ~Tuned::kOrigin)->name);
  } else {
    out.add("runs as its first kernel\n");
  }
  if (tuning != nullptr) {
    add_tuned_text(chosen, &out);
    out.add("\n");
  }
  const size_t length = out.length();
  const bool room = length < bytes;
  return length + kpk_explain(op->kernels[0], device, args, count, room ? text + length : nullptr,
                              room ? bytes - length : 0);
}

}  // extern "C"
