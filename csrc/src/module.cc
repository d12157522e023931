#include "module.h"

#include <cstdlib>

#include "describe.h"
#include "expr.h"
#include "lock.h"
#include "message.h"

namespace kpk {
namespace {

Mutex g_mutex;  // guards the making of states and the `loading` flags; never held across a driver call
pthread_cond_t g_loaded = PTHREAD_COND_INITIALIZER;

template <class T>
T *zeroed(size_t count) {
  return static_cast<T *>(std::calloc(count == 0 ? 1 : count, sizeof(T)));
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

bool are_programs(const KernelView &view, const kpk_abi_variant &variant) {
  const uint8_t *end = view.exprs + view.kernel->expr_bytes;
  const uint32_t programs[] = {variant.guard, variant.grid[0], variant.grid[1], variant.grid[2],
                               variant.prefer};
  for (const uint32_t at : programs) {
    if (at == 0) continue;
    if (at >= view.kernel->expr_bytes ||
        !is_program(view.exprs + at, end, view.params.size(), view.constexprs.size())) {
      return false;
    }
  }
  return true;
}

kpk_status check_expressions(const KernelView &view) {
  const bool known = view.exprs == nullptr || view.exprs[0] == KPK_EXPR_VERSION;
  bool good = known;
  for (uint32_t v = 0; good && v < view.variants.size(); ++v) good = are_programs(view, view.variants[v]);
  if (good) return KPK_OK;
  return fail(KPK_ERROR_FORMAT,
              "%s: expected expressions of version %d, got ones that this runtime cannot run: %s",
              view.name(), KPK_EXPR_VERSION, known ? "the pack is damaged" : "use a newer one");
}

kpk_status out_of_memory(const char *kernel) {
  return fail(KPK_ERROR_MEMORY, "%s: out of host memory at first use", kernel);
}

KernelState *new_kernel_state(const kpk_kernel &kernel) {
  const KernelView view(kernel);
  KernelState *state = zeroed<KernelState>(1);
  if (state == nullptr) return nullptr;
  state->view = view;
  state->checks = zeroed<ParamCheck>(static_cast<size_t>(view.overloads.size()) * view.params.size());
  if (state->checks == nullptr) return std::free(state), nullptr;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    fill_checks(view, view.overloads[k], state->checks + static_cast<size_t>(k) * view.params.size());
  }
  return state;
}

void free_device_state(DeviceState *device) {
  std::free(device->images);
  std::free(device->candidates);
  std::free(device->lists);
  std::free(device->most);
  std::free(device->functions);
  std::free(device->loading);
  std::free(device);
}

DeviceState *new_device_state(const KernelView &view, const Device &on) {
  DeviceState *device = zeroed<DeviceState>(1);
  if (device == nullptr) return nullptr;
  const uint32_t count = view.variants.size();
  device->device = &on;
  device->images = zeroed<uint32_t>(count);
  device->candidates = zeroed<Candidate>(count);
  device->lists = zeroed<CandidateList>(view.overloads.size());
  device->most = zeroed<int64_t>(count);
  device->functions = zeroed<std::atomic<const Function *>>(count);
  device->loading = zeroed<bool>(count);
  if (device->images == nullptr || device->candidates == nullptr || device->lists == nullptr ||
      device->most == nullptr || device->functions == nullptr || device->loading == nullptr) {
    return free_device_state(device), nullptr;
  }
  for (uint32_t v = 0; v < count; ++v) device->images[v] = best_image(view, view.variants[v], on);
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    const kpk_abi_overload &overload = view.overloads[k];
    const uint32_t at = overload.first_variant;
    device->lists[k] =
        make_candidates(view, overload, device->images, device->most + at, device->candidates + at);
  }
  return device;
}

// What an image asks for and this runtime, or the device, does not have.
kpk_status check_needs(const LoadRequest &request) {
  const kpk_abi_image &image = *request.image;
  const char *symbol = text(image.symbol);
  const char *missing = image.codec != KPK_CODEC_RAW   ? "compressed images"
                        : image.tensordescs.count != 0 ? "host tensor descriptors"
                        : image.cluster[0] * image.cluster[1] * image.cluster[2] > 1 ? "clusters"
                        : (image.flags & KPK_IMAGE_COOPERATIVE) != 0                 ? "cooperative grids"
                        : (image.flags & KPK_IMAGE_PDL) != 0 ? "programmatic dependent launch"
                        : image.global_scratch_bytes + image.profile_scratch_bytes != 0 ? "scratch memory"
                                                                                        : nullptr;
  if (missing != nullptr) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: the image needs %s, which this runtime does not launch yet",
                symbol, missing);
  }
  const uint32_t threads = image.num_warps * image.warp_size;
  const uint32_t shared = image.shared_bytes + image.static_shared_bytes;
  const Device &device = *request.device;
  if (threads > device.max_threads) {
    return fail(KPK_ERROR_LIMIT, "%s: needs blocks of %u threads, %s takes %u", symbol, threads, device.arch,
                device.max_threads);
  }
  if (shared > device.max_shared_bytes) {
    return fail(KPK_ERROR_LIMIT, "%s: needs %u bytes of shared memory a block, %s has %u", symbol, shared,
                device.arch, device.max_shared_bytes);
  }
  return KPK_OK;
}

kpk_status load(const KernelView &view, const Device &device, uint32_t image, const Loaded *other,
                Loaded *out) {
  const kpk_abi_image &chosen = view.images[image];
  const LoadRequest request{view.name(), &device, &chosen, other};
  if (const kpk_status status = check_needs(request)) return status;
  return device.driver->load(request, out);
}

// A function for `context`, in front of `others`: the same image in other contexts.
kpk_status new_function(const KernelView &view, const DeviceState &device, uint32_t variant, uint64_t context,
                        const Function *others, Function **out) {
  Function *made = zeroed<Function>(1);
  if (made == nullptr) return out_of_memory(view.name());
  const uint32_t image = device.images[variant];
  kpk_status status = prepare(view, variant, image, &made->plan);
  const Loaded *other = others == nullptr ? nullptr : &others->loaded;
  if (status == KPK_OK) status = load(view, *device.device, image, other, &made->loaded);
  if (status != KPK_OK) {
    discard(&made->plan);
    std::free(made);
    return status;
  }
  made->context = context;
  made->next = others;
  *out = made;
  return KPK_OK;
}

// Unloads and frees a list of functions.
kpk_status free_functions(const char *kernel, const Device &device, const Function *first) {
  kpk_status status = KPK_OK;
  while (first != nullptr) {
    const Function *next = first->next;
    const bool last = next == nullptr || next->loaded.module != first->loaded.module;
    const kpk_status one = device.driver->unload(first->loaded, kernel, first->context, last);
    if (status == KPK_OK) status = one;
    auto *gone = const_cast<Function *>(first);
    discard(&gone->plan);
    std::free(gone);
    first = next;
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
  *out = new_device_state(state.view, device);
  if (*out == nullptr) return out_of_memory(state.view.name());
  slot.store(*out, std::memory_order_release);
  return KPK_OK;
}

kpk_status load_function(KernelState &state, DeviceState &device, uint32_t variant, uint64_t context,
                         const Function **out) {
  std::atomic<const Function *> &slot = device.functions[variant];
  const Function *others = nullptr;
  {
    const Lock lock(g_mutex);
    while (device.loading[variant]) pthread_cond_wait(&g_loaded, &g_mutex.native);
    others = slot.load(std::memory_order_relaxed);
    *out = find_function(others, context);
    if (*out != nullptr) return KPK_OK;
    device.loading[variant] = true;
  }
  Function *made = nullptr;
  const kpk_status status = new_function(state.view, device, variant, context, others, &made);
  const Lock lock(g_mutex);
  if (status == KPK_OK) {
    slot.store(made, std::memory_order_release);
    *out = made;
  }
  device.loading[variant] = false;
  pthread_cond_broadcast(&g_loaded);
  return status;
}

kpk_status forget(const kpk_kernel &kernel) {
  KernelState *state = slot_of(kernel).state.load(std::memory_order_acquire);
  kpk_status status = KPK_OK;
  if (state == nullptr) return status;
  for (std::atomic<DeviceState *> &slot : state->devices) {
    DeviceState *device = slot.load(std::memory_order_acquire);
    if (device == nullptr) continue;
    for (uint32_t v = 0; v < state->view.variants.size(); ++v) {
      const Function *first = device->functions[v].exchange(nullptr);
      const kpk_status one = free_functions(state->view.name(), *device->device, first);
      if (status == KPK_OK) status = one;
    }
  }
  return status;
}

}  // namespace kpk
