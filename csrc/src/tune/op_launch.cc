// Launches of ops. As those of a kernel (launch.cc): a shortcut, otherwise choosing, first where the last launch went.
// After the first launches of a choice it takes no lock and allocates nothing.

#include <cstring>

#include "fallback.h"
#include "message.h"
#include "op.h"
#include "shapes.h"

namespace kpk {
namespace {

// What a launch that was tried where the last one went comes to when it has to go the long way.
constexpr kpk_status kLater = KPK_UNPACK;

struct OpRequest {
  kpk_op &op;
  const kpk_stream &stream;
  const kpk_arg *args;
  uint32_t count;
  uint64_t signature;
};

// The variant that is known to be the best, of any of the kernels, if it may run this call.
bool take_variant(const OpChoice &choice, const kpk_arg *args, uint32_t count, uint64_t signature,
                  OpChosen *made) {
  Chosen *out = &made->chosen;
  const Quiet quiet;
  Chosen other;
  if (begin_choice(*choice.device, args, count, signature, &other) != KPK_OK) return false;
  const Choices &choices = *other.choices;
  const bool own =
      choice.candidate >= choices.candidates && choice.candidate < choices.candidates + choices.count;
  if (!own || !is_eligible(choice.device->kernel->view, choices, *choice.candidate, other.call)) return false;
  out->call = other.call;
  out->choices = other.choices;
  out->candidate = choice.candidate;
  out->terms.why = Terms::kTuned;
  made->device = choice.device;
  return true;
}

kpk_status launch_variant(const OpRequest &request, const Chosen &chosen, const Place &place) {
  kpk_op &op = request.op;
  if (place.device->driver->asks()) op.slot.asks.store(true, std::memory_order_relaxed);
  const bool known = op.slot.last.load(std::memory_order_relaxed) == chosen.function;
  if (!known) op.slot.last.store(chosen.function, std::memory_order_release);
  return launch_chosen(chosen, request.stream.handle, known, &op.slot.shortcut);
}

kpk_status run_function(const OpRequest &request, const OpFunction &function) {
  return function.run(function.user, request.stream, request.args, request.count);
}

// The function, which is loaded on first use if the context is `entered`.
kpk_status find_loaded(const Place &place, bool entered, OpChosen *made) {
  Chosen &chosen = made->chosen;
  if (entered) return function_of(*made->device, *chosen.candidate, place.context, &chosen.function);
  chosen.function = find_function(chosen.candidate->functions.load(std::memory_order_acquire), place.context);
  return chosen.function == nullptr ? kLater : KPK_OK;
}

// Does the stream go there? A variant that is launched elsewhere the driver refuses; of a function nobody would know.
bool goes_to(const Place &place, const kpk_stream &stream) {
  const Driver &driver = *place.device->driver;
  return driver.here(stream.handle) == driver.place(*place.device, place.context);
}

// `entered`: the stream's context is current; otherwise only what is loaded is launched.
kpk_status launch_at(const OpRequest &request, const Place &place, bool entered) {
  kpk_op &op = request.op;
  KernelState *state = nullptr;
  DeviceState *first = nullptr;
  if (const kpk_status status = kernel_state(*op.kernels[0], &state)) return status;
  if (const kpk_status status = device_state(*state, *place.device, &first)) return status;
  OpChosen made;
  kpk_status status = choose_in_op(op, *first, request.args, request.count, request.signature, &made);
  if (!entered && (status != KPK_OK || made.chosen.open)) return message(), kLater;
  if (status == KPK_OK && made.chosen.open)
    search_for_op(op, *first, place.context, request.stream.handle, &made);
  if (status == KPK_OK && made.function != nullptr) {
    if (!entered && !goes_to(place, request.stream)) return kLater;
    status = is_dry_device(*place.device) ? KPK_ERROR_UNSUPPORTED : run_function(request, *made.function);
    if (status != KPK_ERROR_UNSUPPORTED) return status;
    // It does not do this call of a key whose others it does.
    status = choose_first(*first, &made);
  }
  if (status == KPK_OK) status = find_loaded(place, entered, &made);
  if (status == kLater) return status;
  if (status != KPK_OK)
    return or_fall_back(status, *first, request.stream.handle, request.args, request.count);
  return launch_variant(request, made.chosen, place);
}

kpk_status launch_where_stream_is(const OpRequest &request) {
  kpk_op &op = request.op;
  const char *name = op.name;
  Place place = {};
  if (is_dry()) {
    const kpk_status status = dry_device(KernelView(*op.kernels[0]), &place.device);
    return status != KPK_OK ? status : launch_at(request, place, true);
  }
  const Driver *driver = nullptr;
  if (const kpk_status status = driver_of(request.stream, name, &driver)) return status;
  void *before = nullptr;
  if (const kpk_status status = driver->enter(request.stream.handle, name, &place, &before)) return status;
  const OpPlace *here = op_place(op, place), *last = op.last.exchange(here);
  // Launched in several places, it asks from now on.
  if (last != nullptr && last != here) op.slot.asks.store(true, std::memory_order_relaxed);
  if (here != nullptr) recent_at(op, here->number).store(here, std::memory_order_release);
  const kpk_status status = launch_at(request, place, true);
  driver->leave(before);
  return status == kElsewhere ? KPK_ERROR_DRIVER : status;
}

// Where this launch goes, if it has launched there; null if that is not known. Asks if it has to.
const OpPlace *place_of(kpk_op &op, const kpk_stream &stream) {
  const OpPlace *last = op.last.load(std::memory_order_acquire);
  if (last == nullptr || !is_plain()) return nullptr;
  const Driver &driver = *last->place.device->driver;
  if (!is_driver_of(stream, &driver)) return nullptr;
  if (!op.slot.asks.load(std::memory_order_relaxed)) return last;
  const uint64_t number = driver.here(stream.handle);
  last = recent_at(op, number).load(std::memory_order_acquire);
  return last != nullptr && last->number == number && last->place.device->driver == &driver ? last : nullptr;
}

// The shortcut that was taken last, if this launch goes where that one went.
inline const Shortcut *shortcut_of(const kpk_op &op, const kpk_stream &stream) {
  const Shortcut *shortcut = op.slot.shortcut.load(std::memory_order_acquire);
  if (shortcut == nullptr || !is_plain() || !is_driver_of(stream, shortcut->driver)) return nullptr;
  if (!op.slot.asks.load(std::memory_order_relaxed)) return shortcut;
  return shortcut->driver->here(stream.handle) == shortcut->function->place ? shortcut : nullptr;
}

[[gnu::noinline]] kpk_status launch_op_otherwise(const OpRequest &request) {
  const OpPlace *place = place_of(request.op, request.stream);
  const kpk_status status = place == nullptr ? kLater : launch_at(request, place->place, false);
  return status != kLater && status != kElsewhere ? status : launch_where_stream_is(request);
}

}  // namespace

kpk_status choose_first(DeviceState &first, OpChosen *made) {
  Chosen *out = &made->chosen;
  Chosen own;
  if (const kpk_status status = begin_choice(first, out->call.args, out->call.count, 0, &own)) return status;
  const bool tuned = first.tuning.load(std::memory_order_acquire) != nullptr && pick_tuned(first, &own);
  made->function = nullptr;
  made->device = &first;
  out->call = own.call;
  out->choices = own.choices;
  out->candidate = tuned ? own.candidate : select(first.kernel->view, *own.choices, own.call);
  out->terms.why = tuned ? Terms::kTuned : Terms::kFirst;
  out->by_key = false;
  return out->candidate != nullptr ? KPK_OK : refuse_variant(first, *own.choices, own.call);
}

kpk_status choose_in_op(kpk_op &op, DeviceState &first, const kpk_arg *args, uint32_t count,
                        uint64_t signature, OpChosen *out) {
  out->function = nullptr;
  Chosen &chosen = out->chosen;
  if (const kpk_status status = begin_choice(first, args, count, signature, &chosen)) return status;
  const KernelView &view = first.kernel->view;
  Tuning *tuning = op_tuning(op, first);
  if (tuning == nullptr) return choose_first(first, out);
  if (tuning->mode == KPK_TUNING_RECORD) record_call(view, op.name, chosen.call);
  const Tuned *tuned = look_up(*tuning->rules[chosen.choices->index], tuning, &chosen);
  const uintptr_t choice = tuned == nullptr ? 0 : tuned->choice.load(std::memory_order_acquire);
  if (!is_known(static_cast<Origin>(choice & Tuned::kOrigin))) return choose_first(first, out);
  const auto *known = reinterpret_cast<const OpChoice *>(choice & ~Tuned::kOrigin);
  out->function = known->function;
  out->device = &first;
  chosen.by_key = known->function != nullptr || take_variant(*known, args, count, signature, out);
  return chosen.by_key ? KPK_OK : choose_first(first, out);
}

}  // namespace kpk

extern "C" {

kpk_status kpk_op_launch(kpk_op *op, kpk_stream stream, const kpk_arg *args, uint32_t count,
                         uint64_t signature) {
  if (op == nullptr) return kpk::refuse_null("kpk_op_launch", "an op");
  if (args == nullptr && count != 0) return kpk::refuse_null("kpk_op_launch", "arguments");
  const kpk::Shortcut *shortcut = kpk::shortcut_of(*op, stream);
  kpk_status status;
  if (shortcut != nullptr &&
      (kpk::launch_args(*shortcut, stream.handle, args, count, &status) ||
       (kpk::is_for(*shortcut, args, count) &&
        kpk::launch_args_beside(*shortcut, stream.handle, args, count, &status))) &&
      status != kpk::kElsewhere) {
    return status;
  }
  if (!kpk::is_tuned(*op)) return kpk_launch(op->kernels[0], stream, args, count, signature);
  return kpk::launch_op_otherwise({*op, stream, kpk::some(args, count), count, signature});
}

kpk_status kpk_op_launch_packed(kpk_op *op, kpk_stream stream, const kpk_packed *call) {
  if (op == nullptr || call == nullptr) return kpk::refuse_null("kpk_op_launch_packed", "an op and a call");
  const kpk::Shortcut *shortcut = kpk::shortcut_of(*op, stream);
  if (shortcut == nullptr) {
    const bool plain = op->state.load(std::memory_order_acquire) == kpk::OpState::kPlain;
    return plain ? kpk_launch_packed(op->kernels[0], stream, call) : KPK_UNPACK;
  }
  kpk_status status;
  if (shortcut->types != call->types) return KPK_UNPACK;
  if (!kpk::launch_packed(*shortcut, stream.handle, *call, &status))
    return kpk::launch_packed_beside(*shortcut, stream.handle, *call);
  return status != kpk::kElsewhere ? status : KPK_UNPACK;
}

}  // extern "C"
