#include "module.h"

#include <cstdlib>

#include "describe.h"
#include "expr.h"
#include "lock.h"
#include "message.h"

namespace kpk {
namespace {

struct Slot {
  std::atomic<KernelState *> state;
};
static_assert(sizeof(Slot) <= KPK_STATE_BYTES, "the state slot of the ABI is too small");

Mutex g_mutex;  // guards the making of states and the `loading` flags; never held across a driver call
pthread_cond_t g_loaded = PTHREAD_COND_INITIALIZER;

template <class T>
T *zeroed(size_t count) {
  return static_cast<T *>(std::calloc(count == 0 ? 1 : count, sizeof(T)));
}

Slot &slot_of(const kpk_kernel &kernel) {
  // The descriptor is read-only, its slot is not: the reference leads to another section.
  return *const_cast<Slot *>(follow<Slot>(kernel.state));
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
  if (kernel.size < sizeof(kpk_kernel) || kernel.state_bytes < sizeof(Slot)) {
    return fail(KPK_ERROR_FORMAT, "%s: expected a descriptor of %zu bytes at least, got %u",
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

KernelState *make_state(const kpk_kernel &kernel) {
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
  std::free(device->first_candidate);
  std::free(device->functions);
  std::free(device->loading);
  std::free(device);
}

void find_candidates(const KernelView &view, DeviceState *device) {
  uint32_t count = 0;
  for (uint32_t k = 0; k < view.overloads.size(); ++k) {
    const kpk_abi_overload &overload = view.overloads[k];
    device->first_candidate[k] = count;
    for (uint32_t v = overload.first_variant; v < overload.first_variant + overload.variant_count; ++v) {
      if (device->images[v] != kNoImage) device->candidates[count++] = make_candidate(view, v);
    }
  }
  device->first_candidate[view.overloads.size()] = count;
}

DeviceState *make_device_state(const KernelView &view, const Device &on) {
  DeviceState *device = zeroed<DeviceState>(1);
  if (device == nullptr) return nullptr;
  const uint32_t count = view.variants.size();
  device->device = &on;
  device->images = zeroed<uint32_t>(count);
  device->candidates = zeroed<Candidate>(count);
  device->first_candidate = zeroed<uint32_t>(view.overloads.size() + 1);
  device->functions = zeroed<std::atomic<const Function *>>(count);
  device->loading = zeroed<bool>(count);
  if (device->images == nullptr || device->candidates == nullptr || device->first_candidate == nullptr ||
      device->functions == nullptr || device->loading == nullptr) {
    return free_device_state(device), nullptr;
  }
  for (uint32_t v = 0; v < count; ++v) device->images[v] = best_image(view, view.variants[v], on);
  find_candidates(view, device);
  return device;
}

const Function *find(const Function *first, const void *context) {
  while (first != nullptr && first->context != nullptr && first->context != context) first = first->next;
  return first;
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

kpk_status load(const KernelView &view, const Device &device, uint32_t image, Function *out) {
  const kpk_abi_image &chosen = view.images[image];
  const LoadRequest request{view.name(), &device, &chosen, &view.target(chosen)};
  if (const kpk_status status = check_needs(request)) return status;
  return device.driver->load(request, out);
}

}  // namespace

kpk_status kernel_state(const kpk_kernel &kernel, KernelState **out) {
  Slot &slot = slot_of(kernel);
  *out = slot.state.load(std::memory_order_acquire);
  if (*out != nullptr) return KPK_OK;
  if (const kpk_status status = check_format(kernel)) return status;
  if (const kpk_status status = check_expressions(KernelView(kernel))) return status;
  const Lock lock(g_mutex);
  *out = slot.state.load(std::memory_order_relaxed);
  if (*out != nullptr) return KPK_OK;
  *out = make_state(kernel);
  if (*out == nullptr) return out_of_memory(text(kernel.name));
  slot.state.store(*out, std::memory_order_release);
  return KPK_OK;
}

kpk_status device_state(KernelState &state, const Device &device, DeviceState **out) {
  std::atomic<DeviceState *> &slot = state.devices[device.slot];
  *out = slot.load(std::memory_order_acquire);
  if (*out != nullptr) return KPK_OK;
  const Lock lock(g_mutex);
  *out = slot.load(std::memory_order_relaxed);
  if (*out != nullptr) return KPK_OK;
  *out = make_device_state(state.view, device);
  if (*out == nullptr) return out_of_memory(state.view.name());
  slot.store(*out, std::memory_order_release);
  return KPK_OK;
}

kpk_status function_of(KernelState &state, DeviceState &device, uint32_t variant, void *context,
                       const Function **out) {
  std::atomic<const Function *> &slot = device.functions[variant];
  *out = find(slot.load(std::memory_order_acquire), context);
  if (*out != nullptr) return KPK_OK;
  {
    const Lock lock(g_mutex);
    while (device.loading[variant]) pthread_cond_wait(&g_loaded, &g_mutex.native);
    *out = find(slot.load(std::memory_order_relaxed), context);
    if (*out != nullptr) return KPK_OK;
    device.loading[variant] = true;
  }
  Function *made = zeroed<Function>(1);
  kpk_status status = made == nullptr ? out_of_memory(state.view.name())
                                      : load(state.view, *device.device, device.images[variant], made);
  const Lock lock(g_mutex);
  if (status == KPK_OK) {
    made->next = slot.load(std::memory_order_relaxed);
    slot.store(made, std::memory_order_release);
    *out = made;
  } else {
    std::free(made);
  }
  device.loading[variant] = false;
  pthread_cond_broadcast(&g_loaded);
  return status;
}

void forget(const kpk_kernel &kernel) {
  KernelState *state = slot_of(kernel).state.exchange(nullptr);
  if (state == nullptr) return;
  for (std::atomic<DeviceState *> &slot : state->devices) {
    DeviceState *device = slot.load();
    if (device == nullptr) continue;
    for (uint32_t v = 0; v < state->view.variants.size(); ++v) {
      for (const Function *f = device->functions[v].load(); f != nullptr;) {
        const Function *next = f->next;
        device->device->driver->unload(*device->device, *f);
        std::free(const_cast<Function *>(f));
        f = next;
      }
    }
    free_device_state(device);
  }
  std::free(state->checks);
  std::free(state);
}

}  // namespace kpk
