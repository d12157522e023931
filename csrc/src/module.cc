#include "module.h"

#include <cstdlib>
#include <cstring>

#include "describe.h"
#include "expr.h"
#include "library.h"
#include "lock.h"
#include "message.h"
#include "observe.h"
#include "tune/op.h"
#include "tune/tuning.h"
#include "ways.h"

namespace kpk {
namespace {

Mutex g_mutex;  // guards the making of states and the `loading` flags; never held across a driver call
pthread_cond_t g_loaded = PTHREAD_COND_INITIALIZER;

// Zeroed, and at a cache line's start; null if there is no memory.
template <class T>
T *zeroed(size_t bytes = sizeof(T)) {
  constexpr size_t line = 64;
  bytes = (bytes + line - 1) / line * line;
  void *block = std::aligned_alloc(line, bytes);
  return static_cast<T *>(block == nullptr ? nullptr : std::memset(block, 0, bytes));
}

kpk_status check_format(const kpk_kernel &kernel) {
  if (kernel.major > KPK_ABI_MAJOR) {
    return fail(KPK_ERROR_FORMAT,
                "%s: expected a pack of major version %d at most, got %d: use a newer runtime",
                text(kernel.name), KPK_ABI_MAJOR, kernel.major);
  }
  if (kernel.must_understand != 0) {
    return fail(KPK_ERROR_FORMAT,
                "%s: needs feature bits 0x%x that this runtime does not know: use a newer one",
                text(kernel.name), kernel.must_understand);
  }
  if (kernel.overloads.count == 0 || kernel.size < sizeof(kpk_kernel) ||
      kernel.state_bytes < sizeof(StateSlot)) {
    return fail(KPK_ERROR_FORMAT,
                "%s: expected a descriptor of %zu bytes at least and an overload, got %u bytes",
                text(kernel.name), sizeof(kpk_kernel), kernel.size);
  }
  return KPK_OK;
}

// At an offset in the pool; 0 is none.
bool is_program_at(const KernelView &view, uint32_t at) {
  const uint32_t bytes = view.kernel->expr_bytes;
  return at == 0 || (at < bytes && is_program(view.exprs + at, view.exprs + bytes, view.params.size(),
                                              view.constexprs.size()));
}

bool are_programs(const KernelView &view, const kpk_abi_variant &variant) {
  const uint32_t programs[] = {variant.guard, variant.grid[0], variant.grid[1], variant.grid[2],
                               variant.prefer};
  for (const uint32_t at : programs) {
    if (!is_program_at(view, at)) return false;
  }
  return true;
}

kpk_status check_expressions(const KernelView &view) {
  const bool known = view.exprs == nullptr || view.exprs[0] == KPK_EXPR_VERSION;
  bool good = known;
  for (uint32_t v = 0; good && v < view.variants.size(); ++v) good = are_programs(view, view.variants[v]);
  for (uint32_t i = 0; good && i < view.params.size(); ++i) good = is_program_at(view, view.params[i].extent);
  if (good) return KPK_OK;
  return fail(KPK_ERROR_FORMAT,
              "%s: expected expressions of version %d, got ones that this runtime cannot run: %s",
              view.name(), KPK_EXPR_VERSION, known ? "the pack is damaged" : "use a newer one");
}

kpk_status out_of_memory(const char *kernel) {
  return fail(KPK_ERROR_MEMORY, "%s: out of host memory at first use", kernel);
}

KernelState *new_kernel_state(const kpk_kernel &kernel) {
  auto *state = zeroed<KernelState>();
  if (state != nullptr) state->view = KernelView(kernel);
  return state;
}

DeviceState *new_device_state(KernelState &kernel, const Device &on) {
  const uint32_t count = kernel.view.overloads.size();
  auto *device = zeroed<DeviceState>(sizeof(DeviceState) + count * sizeof(Choices *));
  if (device == nullptr) return nullptr;
  device->device = &on;
  device->kernel = &kernel;
  device->overloads = reinterpret_cast<Choices **>(device + 1);
  device->tuning.store(&g_unread, std::memory_order_relaxed);
  for (uint32_t k = 0; k < count; ++k) {
    device->overloads[k] = make_choices(kernel.view, k, on);
    if (device->overloads[k] != nullptr) continue;
    while (k > 0) std::free(device->overloads[--k]);
    return std::free(device), nullptr;
  }
  return device;
}

// Where the load of one image begins and ends.
kpk_status load_image(const LoadRequest &request, Loaded *out) {
  Span span = begin_span(*request.image);
  const kpk_status status = request.device->driver->load(request, out);
  end_span(&span);
  note_load({status, request.view, request.plan->variant, request.image, request.device}, span);
  return status;
}

// Loads made->image, which is the candidate's first one or, where that is refused, another.
kpk_status fill_function(const DeviceState &device, const Candidate &candidate, const Function *others,
                         Function *made) {
  const KernelView &view = device.kernel->view;
  auto *stores = reinterpret_cast<Store *>(made + 1);
  if (const kpk_status status =
          prepare(view, candidate.variant, made->image, *device.device, stores, &made->plan)) {
    return status;
  }
  const LoadRequest request{&view, device.device, made->plan.image, &made->plan, made->plan.context};
  const kpk_status status = load_image(request, &made->loaded);
  made->plan.function = made->loaded.function;
  made->next = others;
  made->place = device.device->driver->place(*device.device, made->plan.context);
  made->choices = device.overloads[made->plan.variant->overload];
  made->candidate = &candidate;
  made->state = &device;
  return status;
}

// A function of `image` for `context`, in front of `others`: those of other contexts.
kpk_status new_function(const DeviceState &device, const Candidate &candidate, uint32_t image,
                        uint64_t context, const Function *others, Function **out) {
  const KernelView &view = device.kernel->view;
  auto *made = zeroed<Function>(sizeof(Function) + store_bytes(view.images[image]));
  if (made == nullptr) return out_of_memory(view.name());
  made->plan.context = context;
  made->image = image;
  const kpk_status status = fill_function(device, candidate, others, made);
  if (status != KPK_OK) return std::free(made), status;
  *out = made;
  return KPK_OK;
}

// The device, or its driver, does not take the image: it may take another one of the variant.
bool is_refusal(kpk_status status) { return status == KPK_ERROR_NO_IMAGE || status == KPK_ERROR_LIMIT; }

// None of the images that were tried is taken: `why` has a line on each.
kpk_status refuse_all(const DeviceState &device, const Candidate &candidate, kpk_status last,
                      const char *why) {
  const KernelView &view = device.kernel->view;
  return fail(last, "%s: no image of variant %s can be loaded on %s:%s", view.name(),
              text(view.variants[candidate.variant].name), device.device->arch, why);
}

// Tries the images of the candidate, best first, until one is taken.
kpk_status first_function(const DeviceState &device, const Candidate &candidate, uint64_t context,
                          const Function *others, Function **out) {
  const KernelView &view = device.kernel->view;
  const kpk_abi_variant &variant = view.variants[candidate.variant];
  char reasons[2048];
  Text why(reasons, sizeof reasons);
  uint32_t image = others == nullptr ? candidate.image : others->image;
  for (uint32_t tried = 1;; ++tried) {
    const kpk_status status = new_function(device, candidate, image, context, others, out);
    if (!is_refusal(status)) {
      if (status == KPK_OK && tried > 1) message();  // who asks for it now is not told of the ones before
      return status;
    }
    image = next_image(view, variant, *device.device, image);
    if (image == kNoImage && tried == 1) return status;
    why.add("\n  %s", kpk_message());
    if (image == kNoImage) return refuse_all(device, candidate, status, reasons);
  }
}

// Drivers keep pointers into images: the object that has them stays until they are unloaded. Nobody waits for this
// thread while it is in the dynamic loader, whose lock another one may hold, in a constructor that launches.
void pin(KernelState &state) {
  if (state.pin.load(std::memory_order_acquire) != nullptr) return;
  void *pinned = library_pin(state.view.kernel);
  void *before = nullptr;
  if (pinned != nullptr && !state.pin.compare_exchange_strong(before, pinned)) library_unpin(pinned);
}

// Unloads and frees a list of functions.
kpk_status free_functions(const KernelView &view, const Device &device, const Function *first) {
  kpk_status status = KPK_OK;
  while (first != nullptr) {
    const Function *next = first->next;
    Span span = begin_span(*first->plan.image);
    const kpk_status one = device.driver->unload(device, first->loaded, view.name(), first->plan.context);
    end_span(&span);
    tell_unload({one, &view, first->plan.variant, first->plan.image, &device}, span);
    if (status == KPK_OK) status = one;
    free_all_shortcuts(*first);
    std::free(const_cast<Function *>(first));
    first = next;
  }
  return status;
}

kpk_status forget_on(DeviceState &device) {
  const KernelView &view = device.kernel->view;
  kpk_status status = KPK_OK;
  device.last.store(nullptr, std::memory_order_relaxed);
  device.shortcut.store(nullptr, std::memory_order_relaxed);
  forget_ways_of(device.tuning);
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    Choices &choices = *device.overloads[k];
    for (uint32_t c = 0; c < choices.count; ++c) {
      const Function *first = choices.candidates[c].functions.exchange(nullptr);
      const kpk_status one = free_functions(view, *device.device, first);
      if (status == KPK_OK) status = one;
    }
  }
  return status;
}

}  // namespace

kpk_status make_kernel_state(const kpk_kernel &kernel, KernelState **out) {
  if (const kpk_status status = check_format(kernel)) return status;
  if (const kpk_status status = check_expressions(KernelView(kernel))) return status;
  StateSlot &slot = slot_of(kernel);
  const Lock lock(g_mutex);
  *out = slot.state.load(std::memory_order_relaxed);
  if (*out != nullptr) return KPK_OK;
  *out = new_kernel_state(kernel);
  if (*out == nullptr) return out_of_memory(text(kernel.name));
  slot.state.store(*out, std::memory_order_release);
  return KPK_OK;
}

kpk_status make_device_state(KernelState &state, const Device &device, DeviceState **out) {
  std::atomic<DeviceState *> &slot = state.devices[device.slot];
  const Lock lock(g_mutex);
  *out = slot.load(std::memory_order_relaxed);
  if (*out != nullptr) return KPK_OK;
  *out = new_device_state(state, device);
  if (*out == nullptr) return out_of_memory(state.view.name());
  enlist(*out);
  slot.store(*out, std::memory_order_release);
  return KPK_OK;
}

kpk_status load_function(const DeviceState &device, Candidate &candidate, uint64_t context,
                         const Function **out) {
  const Function *others = nullptr;
  {
    const Lock lock(g_mutex);
    while (candidate.loading) pthread_cond_wait(&g_loaded, &g_mutex.native);
    others = candidate.functions.load(std::memory_order_relaxed);
    *out = find_function(others, context);
    if (*out != nullptr) return KPK_OK;
    candidate.loading = true;
  }
  Function *made = nullptr;
  const kpk_status status = first_function(device, candidate, context, others, &made);
  {
    const Lock lock(g_mutex);
    if (status == KPK_OK) {
      candidate.functions.store(made, std::memory_order_release);
      *out = made;
    }
    candidate.loading = false;
    pthread_cond_broadcast(&g_loaded);
  }
  if (status == KPK_OK) pin(*device.kernel);
  tell_loads();
  return status;
}

kpk_status forget(const kpk_kernel &kernel) {
  KernelState *state = slot_of(kernel).state.load(std::memory_order_acquire);
  kpk_status status = KPK_OK;
  if (state == nullptr) return status;
  slot_of(kernel).last.store(nullptr, std::memory_order_relaxed);
  slot_of(kernel).shortcut.store(nullptr, std::memory_order_relaxed);
  slot_of(kernel).asks.store(false, std::memory_order_relaxed);
  for (std::atomic<const Function *> &recent : state->recent)
    recent.store(nullptr, std::memory_order_relaxed);
  reset_ops();
  for (std::atomic<DeviceState *> &slot : state->devices) {
    DeviceState *device = slot.load(std::memory_order_acquire);
    const kpk_status one = device == nullptr ? KPK_OK : forget_on(*device);
    if (status == KPK_OK) status = one;
  }
  // What a driver refused to give back may still be read.
  void *pinned = status == KPK_OK ? state->pin.exchange(nullptr) : nullptr;
  if (pinned != nullptr) library_unpin(pinned);
  return status;
}

}  // namespace kpk
