// The launch. A call like one before takes a shortcut (shortcut.h). Any other is chosen, in order: overload, checks,
// variant, function, grid, parameter block, driver. After the first launches of a variant in a context, which load it
// and learn the shortcut, it takes no lock and allocates nothing.

#include "launch.h"

#include <cstring>

#include "call.h"
#include "describe.h"
#include "driver.h"
#include "expr.h"
#include "fallback.h"
#include "message.h"
#include "module.h"
#include "observe.h"
#include "scratch.h"
#include "select.h"
#include "tensor.h"
#include "tune/tuning.h"

namespace kpk {
namespace {

// The call is not of the overload that the last one was of: finds its own.
[[gnu::noinline]] kpk_status other_overload(const DeviceState &device, const kpk_arg *args, uint32_t count,
                                            uint64_t signature, uint32_t looked_first, Choices **out) {
  KernelState &state = *device.kernel;
  uint32_t index = looked_first;
  if (const kpk_status status = find_overload(state.view, args, count, signature, &index)) return status;
  if (index != looked_first) state.overload.store(index, std::memory_order_relaxed);
  *out = device.overloads[index];
  return KPK_OK;
}

// What an image asks for beyond a plain launch.
[[gnu::noinline]] kpk_status launch_special(const LaunchRequest &request) {
  const kpk_abi_image &image = *request.plan->image;
  if (request.plan->tensors) {
    if (const kpk_status status = fill_tensors(request)) return status;
  }
  if (image.global_scratch_bytes != 0 || image.profile_scratch_bytes != 0)
    return launch_with_scratch(request);
  return request.plan->device->driver->launch(request);
}

kpk_status launch_filled(const LaunchRequest &request) {
  return request.plan->special ? launch_special(request) : request.plan->device->driver->launch(request);
}

// Everything about one launch that is the same all the way down, and what came of it.
struct Request {
  const kpk_kernel &kernel;
  const kpk_stream &stream;
  const kpk_arg *args;
  uint32_t count;
  uint64_t signature;
  const Function *launched;
};

kpk_status launch_and_remember(KernelState &state, const Chosen &chosen, Request &request) {
  StateSlot &slot = slot_of(request.kernel);
  std::atomic<const Function *> &recent = recent_at(state, chosen.function->place);
  const bool known = recent.load(std::memory_order_relaxed) == chosen.function;
  if (chosen.function->plan.device->driver->asks()) slot.asks.store(true, std::memory_order_relaxed);
  slot.last.store(chosen.function, std::memory_order_release);
  recent.store(chosen.function, std::memory_order_release);
  request.launched = chosen.function;
  return launch_chosen(chosen, request.stream.handle, known, &slot.shortcut);
}

kpk_status launch_at(KernelState &state, const Place &place, Request &request) {
  DeviceState *device = nullptr;
  if (const kpk_status status = device_state(state, *place.device, &device)) return status;
  Chosen chosen;
  if (const kpk_status status = choose_for(*device, place.context, request.stream.handle, request.args,
                                           request.count, request.signature, &chosen)) {
    return or_fall_back(status, *device, request.stream.handle, request.args, request.count);
  }
  return launch_and_remember(state, chosen, request);
}

// Asks where the stream is, and launches there.
[[gnu::noinline]] kpk_status launch_where_stream_is(Request &request) {
  KernelState *state = nullptr;
  if (const kpk_status status = kernel_state(request.kernel, &state)) return status;
  const char *name = state->view.name();
  Place place = {};
  if (is_dry()) {
    const kpk_status status = dry_device(state->view, &place.device);
    return status != KPK_OK ? status : launch_at(*state, place, request);
  }
  const Driver *driver = nullptr;
  if (const kpk_status status = driver_of(request.stream, name, &driver)) return status;
  void *before = nullptr;
  if (const kpk_status status = driver->enter(request.stream.handle, name, &place, &before)) return status;
  const kpk_status status = launch_at(*state, place, request);
  driver->leave(before);
  // It was where it is: then the driver's words say why not.
  return status == kElsewhere ? KPK_ERROR_DRIVER : status;
}

// The driver refused `from` for this stream. If it is launched in another place now, the kernel is used in several,
// and from now on is asked for.
[[gnu::cold]] kpk_status launch_elsewhere(const Function &from, Request &request) {
  message();  // of the refusal
  request.launched = nullptr;
  const kpk_status status = launch_where_stream_is(request);
  if (request.launched != nullptr && request.launched->place != from.place)
    slot_of(request.kernel).asks.store(true, std::memory_order_relaxed);
  return status;
}

// A call unlike the one before. If what it comes to is loaded where that one was, it is tried there; what is to be
// loaded, and what is to be refused, depends on where the stream is.
[[gnu::noinline]] kpk_status launch_anew(const Function &last, Request &request) {
  KernelState *state = nullptr;
  DeviceState *device = nullptr;
  if (const kpk_status status = kernel_state(request.kernel, &state)) return status;
  if (const kpk_status status = device_state(*state, *last.plan.device, &device)) return status;
  Chosen chosen;
  if (select_candidate(*device, request.args, request.count, request.signature, &chosen) != KPK_OK) {
    message();
    return launch_where_stream_is(request);
  }
  chosen.function =
      find_function(chosen.candidate->functions.load(std::memory_order_acquire), last.plan.context);
  if (chosen.function == nullptr || chosen.open) return launch_where_stream_is(request);
  const kpk_status status = launch_and_remember(*state, chosen, request);
  return status == kElsewhere ? launch_elsewhere(*chosen.function, request) : status;
}

// What was launched last where this launch goes, or null. Asks where that is if it has to.
const Function *last_launched(const kpk_kernel &kernel, const kpk_stream &stream) {
  const StateSlot &slot = slot_of(kernel);
  const Function *last = slot.last.load(std::memory_order_acquire);
  if (last == nullptr || !is_plain()) return nullptr;
  const Driver &driver = *last->plan.device->driver;
  if (!is_driver_of(stream, &driver)) return nullptr;
  if (!slot.asks.load(std::memory_order_relaxed)) return last;
  const uint64_t place = driver.here(stream.handle);
  last = recent_at(*slot.state.load(std::memory_order_acquire), place).load(std::memory_order_acquire);
  return last != nullptr && last->place == place && last->plan.device->driver == &driver ? last : nullptr;
}

// For a call of other types, or in another place. Asks nobody before the kernel has shortcuts.
[[gnu::noinline]] const Shortcut *other_shortcut(const kpk_kernel &kernel, const kpk_stream &stream,
                                                 uint64_t types) {
  if (slot_of(kernel).shortcut.load(std::memory_order_relaxed) == nullptr) return nullptr;
  const Function *last = last_launched(kernel, stream);
  return last == nullptr ? nullptr : find_shortcut(*last, types);
}

// The last shortcut is none for this call.
[[gnu::noinline]] kpk_status launch_otherwise(const kpk_kernel &kernel, kpk_stream stream,
                                              const kpk_arg *args, uint32_t count, uint64_t signature) {
  Request request{kernel, stream, some(args, count), count, signature, nullptr};
  const Function *last = last_launched(kernel, stream);
  if (last == nullptr) return launch_where_stream_is(request);
  const Shortcut *tried = last_shortcut(slot_of(kernel), stream);
  const Shortcut *shortcut = keep(slot_of(kernel).shortcut, *last, find_shortcut(*last, args, count));
  kpk_status status;
  if (shortcut == nullptr ||
      ((shortcut == tried || !launch_args(*shortcut, stream.handle, args, count, &status)) &&
       !launch_args_beside(*shortcut, stream.handle, args, count, &status))) {
    return launch_anew(*last, request);
  }
  return status == kElsewhere ? launch_elsewhere(*last, request) : status;
}

[[gnu::noinline]] kpk_status launch_refused(const kpk_kernel &kernel, kpk_stream stream, const kpk_arg *args,
                                            uint32_t count, uint64_t signature, const Shortcut &refused) {
  Request request{kernel, stream, some(args, count), count, signature, nullptr};
  return launch_elsewhere(*refused.function, request);
}

}  // namespace

kpk_status begin_choice(DeviceState &device, const kpk_arg *args, uint32_t count, uint64_t signature,
                        Chosen *out) {
  const KernelView &view = device.kernel->view;
  const uint32_t index = device.kernel->overload.load(std::memory_order_relaxed);
  if (signature == 0) signature = kpk_signature(args, count);
  Choices *choices = device.overloads[index];
  if (choices->signature != signature || choices->param_count != count ||
      (choices->has_selected && !selects(view, *choices->overload, args))) {
    if (const kpk_status status = other_overload(device, args, count, signature, index, &choices))
      return status;
  }
  out->device = &device;
  out->choices = choices;
  out->call = {some(args, count), count, 0, 0, 0};
  out->terms = {Terms::kFirst, nullptr, nullptr, nullptr};
  out->tuning = nullptr;
  out->version = device.version.load(std::memory_order_acquire);
  out->by_key = out->open = false;
  return check_arguments(view, *choices->overload, choices->checks, choices->ones_and_nulls, &out->call);
}

kpk_status select_candidate(DeviceState &device, const kpk_arg *args, uint32_t count, uint64_t signature,
                            Chosen *out) {
  if (const kpk_status status = begin_choice(device, args, count, signature, out)) return status;
  if (device.tuning.load(std::memory_order_acquire) != nullptr && select_tuned(device, out)) return KPK_OK;
  out->candidate = select(device.kernel->view, *out->choices, out->call);
  return out->candidate != nullptr ? KPK_OK : refuse_variant(device, *out->choices, out->call);
}

kpk_status choose(DeviceState &device, uint64_t context, const kpk_arg *args, uint32_t count,
                  uint64_t signature, Chosen *out) {
  if (const kpk_status status = select_candidate(device, args, count, signature, out)) return status;
  return function_of(device, *out->candidate, context, &out->function);
}

kpk_status choose_for(DeviceState &device, uint64_t context, void *stream, const kpk_arg *args,
                      uint32_t count, uint64_t signature, Chosen *out) {
  if (const kpk_status status = select_candidate(device, args, count, signature, out)) return status;
  if (out->open) search_for_launch(device, context, stream, out);
  return function_of(device, *out->candidate, context, &out->function);
}

kpk_status launch_function(const Plan &plan, const Call &call, void *stream) {
  LaunchRequest request{&plan, call.args, {}, stream, nullptr};
  bool empty;
  if (const kpk_status status = fill_grid(plan, call, request.grid, &empty)) return status;
  if (empty) return plan.device->driver->skip(*plan.device, plan.view->name());
  // 128: what a tensor map asks for; nothing in a parameter block asks for more.
  request.params = static_cast<unsigned char *>(__builtin_alloca_with_align(plan.param_bytes + 1, 128 * 8));
  std::memset(request.params, 0, plan.param_bytes);  // what lies between arguments is nobody's
  fill_params(plan, call.args, request.params);
  if ((g_switches.watched.load(std::memory_order_relaxed) & kObserved) != 0)
    return watch_launch(request, launch_filled);
  return launch_filled(request);
}

namespace {

// Of a tuned kernel, calls that change their keys in turns come by as often as those that do not.
bool has_come_by(Tuned &tuned) {
  if (tuned.seen.load(std::memory_order_relaxed)) return true;
  tuned.seen.store(true, std::memory_order_relaxed);
  return false;
}

// Is the shortcut found from the one that is looked at first?
bool is_beside(const Shortcut &learnt, const Shortcut *first) {
  return first != nullptr && first->keyed != nullptr && learnt.keyed->tuned->way.load() == &learnt &&
         first->keyed->tuning == learnt.keyed->tuning && first->types == learnt.types &&
         beside(*first, &learnt) != nullptr;
}

[[gnu::noinline]] void learn(const Chosen &chosen, First *first) {
  Terms terms = chosen.terms;
  if (chosen.tuning != nullptr && !complete_terms(chosen, &terms)) return;
  const Shortcut *learnt = learn_shortcut(*chosen.function, chosen.call, terms);
  if (learnt == nullptr || first == nullptr) return;
  const Shortcut *none = nullptr;
  if (terms.tuned != nullptr) terms.tuned->way.compare_exchange_strong(none, learnt);
  // What has none leaves the place to other calls of the kernel; and all threads read it.
  const Shortcut *before = first->load(std::memory_order_acquire);
  if (before != learnt && !(terms.tuned != nullptr && is_beside(*learnt, before)))
    publish(*first, *chosen.function, learnt);
  drop_overtaken(*chosen.device, chosen.version);
}

}  // namespace

kpk_status launch_chosen(const Chosen &chosen, void *stream, bool known, First *first) {
  const Function &function = *chosen.function;
  const kpk_status status = launch_function(function.plan, chosen.call, stream);
  // A dry launch has more to say than a shortcut knows.
  if (status != KPK_OK || is_dry_device(*function.plan.device)) return status;
  if (chosen.terms.tuned != nullptr ? has_come_by(*chosen.terms.tuned) : known) learn(chosen, first);
  return status;
}

kpk_status launch_packed_beside(const Shortcut &tried, void *stream, const kpk_packed &call) {
  const Shortcut *way = tried.keyed == nullptr ? nullptr : beside(tried, other_way(tried, call));
  kpk_status status;
  if (way == nullptr || way->types != call.types || !launch_packed(*way, stream, call, &status))
    return KPK_UNPACK;
  return status != kElsewhere ? status : KPK_UNPACK;
}

bool launch_args_beside(const Shortcut &tried, void *stream, const kpk_arg *args, uint32_t count,
                        kpk_status *status) {
  const Shortcut *way = tried.keyed == nullptr ? nullptr : beside(tried, other_way(tried, args));
  return way != nullptr && launch_args(*way, stream, args, count, status);
}

[[gnu::cold]] kpk_status refuse_variant(const DeviceState &device, const Choices &choices, const Call &call) {
  const KernelView &view = device.kernel->view;
  uint32_t with_image = 0;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) with_image += device.overloads[k]->count;
  Text why = message();
  if (with_image == 0) {
    add_no_image(view, *device.device, &why);
    return KPK_ERROR_NO_IMAGE;
  }
  add_no_variant(view, *device.device, &why);
  add_reasons(view, *choices.overload, call, *device.device, &why);
  return KPK_ERROR_NO_VARIANT;
}

kpk_status refuse_null(const char *call, const char *what) {
  return fail(KPK_ERROR_ARGUMENT, "%s: expected %s, got null", call, what);
}

kpk_status check_count(const kpk_kernel &kernel, const kpk_call &call) {
  if (call.count <= KPK_CALL_MOST) return KPK_OK;
  return fail(KPK_ERROR_ARGUMENT,
              "%s: expected at most %d arguments in a kpk_call, got %u: kpk_launch takes any number",
              kpk_kernel_name(&kernel), KPK_CALL_MOST, call.count);
}

const kpk_arg *some(const kpk_arg *args, uint32_t count) {
  static const kpk_arg none = {};
  return count == 0 ? &none : args;
}

}  // namespace kpk

extern "C" {

kpk_status kpk_launch(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args, uint32_t count,
                      uint64_t signature) {
  if (kernel == nullptr) return kpk::refuse_null("kpk_launch", "a kernel");
  if (args == nullptr && count != 0) return kpk::refuse_null("kpk_launch", "arguments");
  const kpk::Shortcut *shortcut = kpk::last_shortcut(kpk::slot_of(*kernel), stream);
  kpk_status status;
  if (shortcut == nullptr || !kpk::launch_args(*shortcut, stream.handle, args, count, &status))
    return kpk::launch_otherwise(*kernel, stream, args, count, signature);
  if (status == kpk::kElsewhere)
    return kpk::launch_refused(*kernel, stream, args, count, signature, *shortcut);
  return status;
}

kpk_status kpk_launch_packed(const kpk_kernel *kernel, kpk_stream stream, const kpk_packed *call) {
  if (kernel == nullptr || call == nullptr)
    return kpk::refuse_null("kpk_launch_packed", "a kernel and a call");
  const kpk::Shortcut *shortcut = kpk::last_shortcut(kpk::slot_of(*kernel), stream);
  if (shortcut == nullptr || shortcut->types != call->types) {
    shortcut = kpk::other_shortcut(*kernel, stream, call->types);
    if (shortcut == nullptr) return KPK_UNPACK;
  }
  kpk_status status;
  if (!kpk::launch_packed(*shortcut, stream.handle, *call, &status))
    return kpk::launch_packed_beside(*shortcut, stream.handle, *call);
  return status != kpk::kElsewhere ? status : KPK_UNPACK;
}

kpk_status kpk_launch_args(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args, uint32_t count,
                           uint64_t signature, uint64_t types) {
  if (kernel == nullptr) return kpk::refuse_null("kpk_launch_args", "a kernel");
  const kpk::Shortcut *tried = kpk::slot_of(*kernel).shortcut.load(std::memory_order_acquire);
  if (types == 0 || tried == nullptr || tried->types != types)
    return kpk_launch(kernel, stream, args, count, signature);
  if (args == nullptr && count != 0) return kpk::refuse_null("kpk_launch_args", "arguments");
  return kpk::launch_otherwise(*kernel, stream, args, count, signature);
}

kpk_status kpk_launch_call_args(const kpk_kernel *kernel, kpk_stream stream, const kpk_call *call,
                                uint64_t types) {
  if (kernel == nullptr) return kpk::refuse_null("kpk_launch_call", "a kernel");
  if (const kpk_status status = kpk::check_count(*kernel, *call)) return status;
  return kpk_launch_args(kernel, stream, call->args, call->count, 0, types);
}

uint64_t kpk_signature(const kpk_arg *args, uint32_t count) {
  uint64_t hash = KPK_SIGNATURE_SEED;
  for (uint32_t i = 0; i < count; ++i) hash = (hash ^ KPK_CLASS(args[i].type)) * KPK_SIGNATURE_PRIME;
  return hash;
}

kpk_status kpk_unload(const kpk_kernel *kernel) { return kernel == nullptr ? KPK_OK : kpk::forget(*kernel); }

}  // extern "C"
