// Tuning a kernel: in a launch whose key nobody knows, and when the program asks for it.

#include <cstdlib>
#include <cstring>

#include "observe.h"
#include "session.h"

namespace kpk {
namespace {

const char *name_of(const DeviceState &device, const Candidate &candidate) {
  const KernelView &view = device.kernel->view;
  return text(view.variants[candidate.variant].name);
}

// The eligible variants of a call, the fixed choice first.
struct Alternatives {
  HostArray<Attempt> attempts;
  HostArray<Contender> contenders;
  HostArray<Region> regions;
  uint32_t count = 0;

  void add(const Chosen &chosen, Candidate *candidate, uint64_t context) {
    attempts[count] = {chosen.device, candidate, context, chosen.call};
    contenders[count] = {name_of(*chosen.device, *candidate), &attempts[count], run_attempt, false, nullptr};
    ++count;
  }
};

kpk_status find_alternatives(const Chosen &chosen, Candidate *fixed, uint64_t context, Alternatives *out) {
  const KernelView &view = chosen.device->kernel->view;
  const Choices &choices = *chosen.choices;
  if (!out->attempts.allocate(choices.count) || !out->contenders.allocate(choices.count) ||
      !out->regions.allocate(view.params.size())) {
    return fail(KPK_ERROR_MEMORY, "%s: out of host memory for a search", view.name());
  }
  out->add(chosen, fixed, context);
  for (uint32_t i = 0; i < choices.count; ++i) {
    Candidate *candidate = &choices.candidates[i];
    if (is_alternative(view, choices, *candidate, *fixed, chosen.call)) out->add(chosen, candidate, context);
  }
  return add_regions(view, *choices.overload, view.variants[fixed->variant], chosen.call,
                     out->regions.data());
}

// Looks for the best of several; `*best` null: none was timed.
kpk_status search_for(const Chosen &chosen, const KeyRule &rule, uint64_t context, void *stream,
                      Alternatives *among, const kpk_tune_options &options, Candidate **best) {
  const KernelView &view = chosen.device->kernel->view;
  const Session session = {view.name(),
                           tuning_hash(view),
                           view,
                           *chosen.choices,
                           rule,
                           chosen.call,
                           *chosen.device->device,
                           context,
                           stream,
                           among->regions.data(),
                           among->contenders.data(),
                           among->count};
  SearchResult result = {};
  *best = nullptr;
  if (const kpk_status status = search_session(session, options, &result)) return status;
  if (result.best_us > 0) *best = among->attempts[result.best].candidate;
  return KPK_OK;
}

kpk_status search_now(const Chosen &chosen, Candidate *fixed, uint64_t context, void *stream,
                      const KeyRule &rule, const kpk_tune_options &options, Candidate **best) {
  Alternatives among;
  *best = nullptr;
  if (const kpk_status status = find_alternatives(chosen, fixed, context, &among)) return status;
  if (among.count > 1) return search_for(chosen, rule, context, stream, &among, options, best);
  *best = fixed;
  tell_only(options, among.contenders[0].name, "no other variant may run this call");
  return KPK_OK;
}

kpk_status report_known(const DeviceState &device, const Tuned &tuned, const kpk_tune_options &options) {
  const auto *candidate =
      reinterpret_cast<const Candidate *>(tuned.choice.load(std::memory_order_acquire) & ~Tuned::kOrigin);
  tell_only(options, name_of(device, *candidate), "known: KPK_TUNE_AGAIN finds out again");
  return KPK_OK;
}

// Enters what was found. Shortcuts of calls that went by something else are gone then.
void enter(const Chosen &chosen, const Candidate *best) {
  {
    const Lock lock(g_tuning_mutex);
    enter_choice(chosen.tuning, chosen.key, choice_of(best, Origin::kFound));
  }
  drop_shortcuts(*chosen.device);
}

kpk_status tune_at(KernelState &state, const Place &place, void *stream, const kpk_arg *args, uint32_t count,
                   const kpk_tune_options &options) {
  DeviceState *device = nullptr;
  if (const kpk_status status = device_state(state, *place.device, &device)) return status;
  const KernelView &view = state.view;
  Tuning *tuning = need_tuning(*device);
  Chosen chosen;
  if (const kpk_status status = select_candidate(*device, args, count, 0, &chosen)) return status;
  const Tuned *known = tuning == nullptr ? nullptr : find_tuned(*tuning, chosen.key);
  if (known != nullptr && is_known(known->origin()) && (options.flags & KPK_TUNE_AGAIN) == 0)
    return report_known(*device, *known, options);
  const Choices &choices = *chosen.choices;
  Candidate *fixed = select(view, choices, chosen.call);
  KeyRule *rule = make_rule(view, *choices.overload, *place.device, nullptr);
  if (rule == nullptr) return fail(KPK_ERROR_MEMORY, "%s: out of host memory for a search", view.name());
  Candidate *best = nullptr;
  const kpk_status status = search_now(chosen, fixed, place.context, stream, *rule, options, &best);
  std::free(rule);
  if (status == KPK_OK && best != nullptr && chosen.tuning != nullptr) enter(chosen, best);
  return status;
}

}  // namespace

void search_for_launch(DeviceState &device, uint64_t context, void *stream, Chosen *out) {
  const Searching searching;
  if (!searching.taken()) return;
  const KeepMessage message;
  Candidate *fixed = out->candidate;
  if (!launches(*out, fixed, context)) return;
  bool first = false;
  if (Tuned *tuned = claim(out->tuning, out->key, &first)) {
    kpk_tune_options options = {};
    Candidate *best = nullptr;
    kpk_status status = read_options(nullptr, &options);
    if (status == KPK_OK) status = search_now(*out, fixed, context, stream, *out->terms.rule, options, &best);
    tuned->choice.store(outcome(status, device.kernel->view.name(), best, first), std::memory_order_release);
  }
  out->version = device.version.load(std::memory_order_acquire);
  if (!select_tuned(device, out)) out->candidate = fixed;
  out->open = false;
}

}  // namespace kpk

extern "C" kpk_status kpk_tune(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args,
                               uint32_t count, const kpk_tune_options *given) {
  using namespace kpk;
  if (kernel == nullptr) return refuse_null("kpk_tune", "a kernel");
  if (args == nullptr && count != 0) return refuse_null("kpk_tune", "arguments");
  kpk_tune_options options;
  if (const kpk_status status = read_options(given, &options)) return status;
  KernelState *state = nullptr;
  if (const kpk_status status = kernel_state(*kernel, &state)) return status;
  const char *name = state->view.name();
  if (is_dry()) return fail(KPK_ERROR_NO_DEVICE, "%s: tune: expected a device, got a dry run", name);
  const Searching searching(name);
  if (!searching.taken()) return KPK_ERROR_ARGUMENT;
  const Driver *driver = nullptr;
  if (const kpk_status status = driver_of(stream, name, &driver)) return status;
  Place place = {};
  void *before = nullptr;
  if (const kpk_status status = driver->enter(stream.handle, name, &place, &before)) return status;
  const kpk_status status = tune_at(*state, place, stream.handle, some(args, count), count, options);
  driver->leave(before);
  return status;
}
