#include "session.h"

#include <cstring>

#include "expr.h"
#include "observe.h"

namespace kpk {
namespace {

Mutex g_search_mutex;
thread_local bool t_searching;

// What a search tells while it runs.
struct Listener {
  const Session &session;
  const kpk_tune_options &options;
  Entry *entry;
  const char *table;
  Text left_out;
};

// The reason that "name: wrong; other: failed (reason)" has for a contender, cut off there; or null.
const char *reason_in(char *left_out, const char *name) {
  const size_t length = std::strlen(name);
  for (char *at = left_out; at != nullptr && *at != '\0';) {
    char *end = std::strstr(at, "; ");
    if (std::strncmp(at, name, length) == 0 && std::strncmp(at + length, ": ", 2) == 0) {
      if (end != nullptr) *end = '\0';
      return at + length + 2;
    }
    at = end == nullptr ? nullptr : end + 2;
  }
  return nullptr;
}

bool is_same(const Entry &a, const Entry &b) {
  return a.hash == b.hash && std::strcmp(a.kernel, b.kernel) == 0 && std::strcmp(a.device, b.device) == 0 &&
         std::strcmp(a.overload, b.overload) == 0 && std::strcmp(a.call, b.call) == 0;
}

// Of each contender its own copy of what an earlier search said of all: reasons are cut off in it.
bool copy_left_out(const Entry &entry, uint32_t copies, HostArray<char> *out, size_t *bytes) {
  const Lock lock(g_tuning_mutex);
  const char *left_out = "";
  for (const FileEntry *each = file_entries(); each != nullptr; each = each->next) {
    if (is_same(each->entry, entry)) left_out = each->entry.left_out;
  }
  *bytes = std::strlen(left_out) + 1;
  if (!out->allocate(copies * *bytes)) return false;
  for (uint32_t i = 0; i < copies; ++i) std::memcpy(out->data() + i * *bytes, left_out, *bytes);
  return true;
}

void leave_out(const Session &session, const Entry &entry, const char *table, char *known, size_t bytes) {
  for (uint32_t i = 0; i < session.count; ++i) {
    Contender &contender = session.contenders[i];
    contender.left_out_reason = reason_in(known + i * bytes, contender.name);
    if (contender.left_out_reason == nullptr && table != nullptr &&
        crashed_before(table, entry, contender.name))
      contender.left_out_reason = "crashed";
    contender.left_out = contender.left_out_reason != nullptr;
  }
}

// "name: failed (reason); ": the first line of the reason, without what separates.
void add_left_out(const char *name, const char *what, const char *reason, Text *out) {
  out->add("%s%s: %s", out->length() == 0 ? "" : "; ", name, what);
  if (reason == nullptr || *reason == '\0') return;
  out->add(" (");
  for (uint32_t i = 0; i < 200 && reason[i] != '\0' && reason[i] != '\n'; ++i)
    out->add("%c", reason[i] == ';' ? ',' : reason[i]);
  out->add(")");
}

void begin(void *user, uint32_t contender) {
  auto &listener = *static_cast<Listener *>(user);
  const char *name = listener.session.contenders[contender].name;
  if (listener.table == nullptr) return;
  if (begin_trial(listener.table, *listener.entry, name) != KPK_OK) log_line("%s", kpk_message());
}

void end(void *user, uint32_t contender) {
  auto &listener = *static_cast<Listener *>(user);
  if (listener.table != nullptr)
    end_trial(listener.table, *listener.entry, listener.session.contenders[contender].name);
}

void tell(void *user, const kpk_trial *trial) {
  auto &listener = *static_cast<Listener *>(user);
  const Session &session = listener.session;
  if (trial->outcome == KPK_TRIAL_WRONG) add_left_out(trial->name, "wrong", nullptr, &listener.left_out);
  if (trial->outcome == KPK_TRIAL_FAILED)
    add_left_out(trial->name, "failed", trial->reason, &listener.left_out);
  for (uint32_t i = 0; i < session.count; ++i) {
    const Contender &contender = session.contenders[i];
    if (contender.left_out && std::strcmp(contender.name, trial->name) == 0)
      add_left_out(contender.name, contender.left_out_reason, nullptr, &listener.left_out);
  }
  if (listener.options.sink != nullptr) listener.options.sink(listener.options.user, trial);
}

void keep_entry(const Entry &entry, const char *table) {
  if (table != nullptr && merge_entries(table, &entry, 1) != KPK_OK) log_line("%s", kpk_message());
  const Lock lock(g_tuning_mutex);
  remember(entry);
}

}  // namespace

kpk_status search_session(const Session &session, const kpk_tune_options &options, SearchResult *out) {
  const char *table = settings().table;
  HostArray<char> device, overload, call, left_out, known;
  size_t known_bytes = 0;
  const bool written =
      write_text(&device, [&](Text *text) { add_device_text(session.device, text); }) &&
      write_text(&overload,
                 [&](Text *text) { add_overload_text(session.view, *session.choices.overload, text); }) &&
      write_text(&call, [&](Text *text) { add_call_text(session.view, session.rule, session.call, text); }) &&
      left_out.allocate(kMessageBytes);
  Entry entry = {session.kernel, session.hash, device.data(), overload.data(), call.data(), "", 0, 0, ""};
  if (!written || !copy_left_out(entry, session.count, &known, &known_bytes))
    return fail(KPK_ERROR_MEMORY, "%s: out of host memory for a search", session.kernel);
  leave_out(session, entry, table, known.data(), known_bytes);
  Listener listener = {session, options, &entry, table, Text(left_out.data(), left_out.size())};
  SearchRequest request = {};
  request.device = &session.device;
  request.context = session.context;
  request.stream = session.stream;
  request.subject = session.kernel;
  request.args = session.call.args;
  request.count = session.call.count;
  request.regions = session.regions;
  request.contenders = session.contenders;
  request.contender_count = session.count;
  request.flags = options.flags;
  request.budget_ns = options.budget_ns;
  request.tolerance = options.tolerance;
  request.before = begin;
  request.after = end;
  request.sink = tell;
  request.user = &listener;
  if (const kpk_status status = search(request, out)) return status;
  if (out->best_us == 0) return KPK_OK;
  entry.choice = session.contenders[out->best].name;
  entry.median_us = out->best_us;
  entry.fixed_us = out->fixed_us;
  entry.left_out = left_out.data();
  log_line("%s: tuned for %s on %s: %s, %.2f us (%s: %.2f us)", session.kernel, call.data(), device.data(),
           entry.choice, entry.median_us, session.contenders[0].name, entry.fixed_us);
  keep_entry(entry, table);
  return KPK_OK;
}

kpk_status read_options(const kpk_tune_options *given, kpk_tune_options *out) {
  *out = {sizeof *out, 0, 0, 0, nullptr, nullptr};
  if (given != nullptr) {
    if (given->size < sizeof *out) {
      return fail(KPK_ERROR_ARGUMENT, "kpk_tune: expected options of %zu bytes at least, got %u", sizeof *out,
                  given->size);
    }
    *out = *given;
  }
  if (out->budget_ns == 0) out->budget_ns = settings().budget_ns;
  if (out->tolerance == 0) out->tolerance = settings().tolerance;
  return KPK_OK;
}

Searching::Searching() : taken_(!t_searching && pthread_mutex_trylock(&g_search_mutex.native) == 0) {
  if (taken_) t_searching = true;
}

Searching::Searching(const char *subject) : taken_(!t_searching) {
  if (!taken_) {
    fail(KPK_ERROR_ARGUMENT, "%s: expected to be tuned outside of a search, got one that a contender began",
         subject);
    return;
  }
  pthread_mutex_lock(&g_search_mutex.native);
  t_searching = true;
}

Searching::~Searching() {
  if (!taken_) return;
  t_searching = false;
  pthread_mutex_unlock(&g_search_mutex.native);
}

bool may_search() { return !t_searching; }

kpk_status add_regions(const KernelView &view, const kpk_abi_overload &overload,
                       const kpk_abi_variant &variant, const Call &call, Region *regions) {
  const uint8_t *types = view.types(overload);
  for (uint32_t i = 0; i < view.params.size(); ++i) {
    if (!is_pointer(types[i]) && !is_tensordesc(types[i])) continue;
    const kpk_abi_param &param = view.params[i];
    Region &region = regions[i];
    if (region.name == nullptr) {
      region.name = text(param.name);
      region.direction = param.direction;
    }
    region.written =
        region.written || ((param.flags & KPK_PARAM_CONST) == 0 && param.direction != KPK_DIRECTION_IN);
    if (param.extent == 0) continue;
    ExprError error;
    const int64_t bytes = evaluate(view.exprs + param.extent, {call.args, &overload, &variant}, &error);
    if (error != ExprError::kNone || bytes < 0) {
      return fail(KPK_ERROR_ARGUMENT, "%s: extent of '%s': expected a number of bytes, got %s", view.name(),
                  text(param.name), error == ExprError::kNone ? "a negative one" : expr_error_text(error));
    }
    if (static_cast<uint64_t>(bytes) > region.bytes) region.bytes = static_cast<uint64_t>(bytes);
  }
  return KPK_OK;
}

kpk_status run_attempt(void *self, void *stream, const kpk_arg *args, uint32_t count) {
  const auto &attempt = *static_cast<Attempt *>(self);
  const Function *function = nullptr;
  if (const kpk_status status = function_of(*attempt.device, *attempt.candidate, attempt.context, &function))
    return status;
  Call call = attempt.call;
  call.args = args;
  call.count = count;
  const kpk_status status = launch_function(function->plan, call, stream);
  return status != kElsewhere ? status : KPK_ERROR_DRIVER;
}

bool launches(const Chosen &chosen, Candidate *fixed, uint64_t context) {
  const Function *function = nullptr;
  if (function_of(*chosen.device, *fixed, context, &function) != KPK_OK) return false;
  uint32_t grid[3];
  bool empty = false;
  return fill_grid(function->plan, chosen.call, grid, &empty) == KPK_OK && !empty;
}

Tuned *claim(Tuning *tuning, uint64_t key, bool *first) {
  const Lock lock(g_tuning_mutex);
  Tuned *tuned = add_tuned(tuning, key, choice_of(nullptr, Origin::kSearching), first);
  if (tuned == nullptr || (!*first && tuned->origin() != Origin::kOpen)) return nullptr;
  tuned->choice.store(choice_of(nullptr, Origin::kSearching), std::memory_order_release);
  return tuned;
}

uintptr_t outcome(kpk_status status, const char *kernel, const void *best, bool first) {
  if (status == KPK_OK && best != nullptr) return choice_of(best, Origin::kFound);
  if (first && status != KPK_OK) log_line("%s: not tuned: %s", kernel, kpk_message());
  if (first && status == KPK_OK) log_line("%s: not tuned: nothing could be timed within the budget", kernel);
  return choice_of(nullptr, status == KPK_ERROR_STREAM ? Origin::kOpen : Origin::kRefused);
}

void tell_only(const kpk_tune_options &options, const char *name, const char *reason) {
  if (options.sink == nullptr) return;
  const kpk_trial trial = {sizeof trial, KPK_TRIAL_NOT_RUN, name, reason, 0, 0, 1};
  options.sink(options.user, &trial);
}

}  // namespace kpk
