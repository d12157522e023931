// The dry driver: everything but the driver call. A launch says what would have been launched and returns
// KPK_DRY, so that a program without a GPU cannot take it for a result.

#include <cstdlib>
#include <cstring>

#include "describe.h"
#include "driver.h"
#include "lock.h"
#include "message.h"

namespace kpk {
namespace {

constexpr uint32_t kMaxArchs = kMaxDeviceSlots - 2 * kMaxDevices;
Mutex g_mutex;
Device g_devices[kMaxArchs];
uint32_t g_device_count;

struct Choice {
  bool dry;
  bool succeed;
  const Device *device;  // null: the first target that the kernel has
  const char *unknown;   // KPACK_DRIVER said something that does not exist
};
Choice g_choice;
pthread_once_t g_once = PTHREAD_ONCE_INIT;

extern const Driver kDry;

// The device of this arch, made on first use; null if there is no such arch, or too many were used.
const Device *device_named(const char *arch) {
  const Lock lock(g_mutex);
  for (uint32_t i = 0; i < g_device_count; ++i) {
    if (std::strcmp(g_devices[i].arch, arch) == 0) return &g_devices[i];
  }
  if (g_device_count == kMaxArchs) return nullptr;
  Device device{};
  if (!describe_arch(arch, &device)) return nullptr;
  device.driver = &kDry;
  device.slot = 2 * kMaxDevices + g_device_count;
  g_devices[g_device_count] = device;
  return &g_devices[g_device_count++];
}

// KPACK_DRIVER: unset or "" for the real drivers, "dry", or "dry:<arch>".
void read_environment() {
  const char *driver = std::getenv("KPACK_DRIVER");
  if (driver == nullptr || *driver == '\0') return;
  g_choice.dry = true;
  if (std::strcmp(driver, "dry") == 0) return;
  if (std::strncmp(driver, "dry:", 4) == 0) g_choice.device = device_named(driver + 4);
  if (g_choice.device == nullptr) g_choice.unknown = driver;
}

kpk_status place_of(void *, const char *, Place *) { return KPK_ERROR_NO_DEVICE; }
kpk_status context_of(const Device &, const char *, uint64_t *) { return KPK_OK; }
kpk_status load(const LoadRequest &, Loaded *) { return KPK_OK; }
kpk_status unload(const Loaded &, const char *, uint64_t, bool) { return KPK_OK; }

kpk_status allocate(void *, size_t, const char *, uint64_t *) { return KPK_OK; }
kpk_status give_back(void *, uint64_t, const char *) { return KPK_OK; }

kpk_status answer() { return g_choice.succeed ? KPK_OK : KPK_DRY; }

kpk_status skip(const Device &device, const char *kernel) {
  message().add("%s on %s (dry): the grid is empty, there is nothing to launch", kernel, device.arch);
  return answer();
}

kpk_status launch(const LaunchRequest &request) {
  const kpk_abi_image &image = *request.plan->image;
  Text out = message();
  out.add("%s on %s (dry)\n", request.view->name(), request.device->arch);
  out.add("  variant  %s\n", text(request.plan->variant->name));
  out.add("  image    %s, %llu bytes, %u registers, %u bytes spilled\n", text(image.symbol),
          static_cast<unsigned long long>(image.raw_bytes), image.registers, image.spill_bytes);
  out.add("  grid     %u x %u x %u\n", request.grid[0], request.grid[1], request.grid[2]);
  out.add("  block    %u threads (%u warps of %u)\n", request.plan->block, image.num_warps, image.warp_size);
  out.add("  shared   %u bytes\n", image.shared_bytes + image.static_shared_bytes);
  if (image.global_scratch_bytes != 0) {
    out.add("  scratch  %u bytes a block\n", image.global_scratch_bytes);
  }
  out.add("  args     ");
  add_call(*request.view, request.args, &out);
  return answer();
}

kpk_status zero(void *, uint64_t, size_t, const char *) { return KPK_OK; }
kpk_status reserve(const Device &, size_t) { return KPK_OK; }
kpk_status occupancy(const Plan &, const char *, int *, int *) { return KPK_OK; }
kpk_status encode(const kpk_tensor &, const kpk_abi_tensordesc &, const char *, void *) { return KPK_OK; }

const Driver kDry = {"dry",     place_of, context_of, load,    unload,    launch, allocate,
                     give_back, skip,     zero,       reserve, occupancy, encode};

}  // namespace

Dry read_dry() {
  pthread_once(&g_once, read_environment);
  const Dry dry = g_choice.dry ? Dry::kYes : Dry::kNo;
  g_switches.dry.store(dry, std::memory_order_release);
  return dry;
}

kpk_status dry_device(const KernelView &view, const Device **out) {
  const Choice &choice = g_choice;
  if (choice.unknown != nullptr) {
    return fail(KPK_ERROR_NO_DRIVER, "KPACK_DRIVER: expected 'dry' or 'dry:<arch>', got '%s'",
                choice.unknown);
  }
  *out = choice.device;
  if (*out != nullptr) return KPK_OK;
  *out = view.targets.size() == 0 ? nullptr : device_named(text(view.targets[0].name));
  return *out != nullptr ? KPK_OK : fail(KPK_ERROR_NO_IMAGE, "%s: has no target to run dry for", view.name());
}

}  // namespace kpk

extern "C" int kpk_is_dry(void) { return kpk::is_dry() ? 1 : 0; }

extern "C" kpk_status kpk_use_dry_driver(const char *arch, int succeed) {
  pthread_once(&kpk::g_once, kpk::read_environment);
  kpk::Choice choice{};
  if (arch != nullptr) {
    choice = {true, succeed != 0, *arch == '\0' ? nullptr : kpk::device_named(arch), nullptr};
    if (choice.device == nullptr && *arch != '\0') {
      return kpk::fail(KPK_ERROR_NO_DEVICE,
                       "dry driver: expected one of at most %u archs such as sm_90 or gfx90a, got '%s'",
                       kpk::kMaxArchs, arch);
    }
  }
  kpk::g_choice = choice;
  kpk::g_switches.dry.store(choice.dry ? kpk::Dry::kYes : kpk::Dry::kNo, std::memory_order_release);
  return KPK_OK;
}
