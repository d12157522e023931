// The dry driver: everything but the driver call. A launch says what would have been launched and returns
// KPK_DRY, so that a program without a GPU cannot take it for a result.

#include <cstdlib>
#include <cstring>

#include "describe.h"
#include "driver.h"
#include "lock.h"
#include "message.h"
#include "observe.h"
#include "proof.h"
#include "scratch.h"

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
  Device device{};
  if (!describe_arch(arch, &device)) return nullptr;
  const Lock lock(g_mutex);
  for (uint32_t i = 0; i < g_device_count; ++i) {
    const Device &known = g_devices[i];
    if (std::strcmp(known.arch, device.arch) == 0 && known.multiprocessors == device.multiprocessors)
      return &known;
  }
  if (g_device_count == kMaxArchs) return nullptr;
  device.driver = &kDry;
  device.slot = 2 * kMaxDevices + g_device_count;
  g_devices[g_device_count] = device;
  return &g_devices[g_device_count++];
}

// KPACK_DRIVER: unset or "" for the real drivers, "dry", or "dry:<arch>".
void read_environment() {
  read_watchers();  // whoever launches has come by here
  const char *driver = std::getenv("KPACK_DRIVER");
  if (driver == nullptr || *driver == '\0') return;
  g_choice.dry = true;
  if (std::strcmp(driver, "dry") == 0) return;
  if (std::strncmp(driver, "dry:", 4) == 0) g_choice.device = device_named(driver + 4);
  if (g_choice.device == nullptr) g_choice.unknown = driver;
}

kpk_status context_of(const Device &, const char *, uint64_t *) { return KPK_OK; }
kpk_status load(const LoadRequest &request, Loaded *) {
  Note note;
  Word word;
  const uint8_t kind = request.view->target(*request.image).kind;
  if (const kpk_status status = word_of_image(*request.image, kind, &note, &word)) return status;
  return prove(*request.image, *request.device, word);
}
kpk_status unload(const Device &, const Loaded &, const char *, uint64_t) { return KPK_OK; }

kpk_status allocate(const Device &, void *, size_t, const char *, uint64_t *) { return KPK_OK; }
kpk_status give_back(void *, uint64_t, const char *) { return KPK_OK; }

kpk_status answer() { return g_choice.succeed ? KPK_OK : KPK_DRY; }

kpk_status skip(const Device &device, const char *kernel) {
  message().add("%s on %s (dry): the grid is empty, there is nothing to launch", kernel, device.arch);
  return answer();
}

// "  scratch  256 bytes x 8 = 2048 bytes, at a multiple of 128"
void add_scratch(const LaunchRequest &request, uint32_t kind, const char *title, Text *out) {
  ScratchNeed need;
  if (scratch_need(request, kind, &need) != KPK_OK || need.each == 0) return;
  out->add("  %s  %u bytes x %llu = %llu bytes, at a multiple of %llu\n", title, need.each,
           static_cast<unsigned long long>(need.count), static_cast<unsigned long long>(need.bytes),
           static_cast<unsigned long long>(need.align));
}

// What a launch asks for beyond the plain one: "  launch   clusters of 2 x 1 x 1, cooperative".
void add_attributes(const LaunchRequest &request, Text *out) {
  const kpk_abi_image &image = *request.plan->image;
  const char *between = "  launch   ";
  if (image.cluster[0] * image.cluster[1] * image.cluster[2] > 1) {
    out->add("%sclusters of %u x %u x %u", between, image.cluster[0], image.cluster[1], image.cluster[2]);
    between = ", ";
  }
  if ((image.flags & KPK_IMAGE_COOPERATIVE) != 0) {
    out->add("%scooperative", between);
    between = ", ";
  }
  if ((image.flags & KPK_IMAGE_PDL) != 0 && request.plan->device->vendor == KPK_VENDOR_CUDA) {
    out->add("%sprogrammatic dependent launch", between);
    between = ", ";
  }
  if (*between == ',') out->add("\n");
}

kpk_status launch(const LaunchRequest &request) {
  const kpk_abi_image &image = *request.plan->image;
  Text out = message();
  out.add("%s on %s (dry)\n", request.plan->view->name(), request.plan->device->arch);
  out.add("  variant  %s\n", text(request.plan->variant->name));
  out.add("  image    %s, %llu bytes, %u registers, %u bytes spilled\n", text(image.symbol),
          static_cast<unsigned long long>(image.raw_bytes), image.registers, image.spill_bytes);
  out.add("  grid     %u x %u x %u\n", request.grid[0], request.grid[1], request.grid[2]);
  out.add("  block    %u threads (%u warps of %u)\n", request.plan->block, image.num_warps, image.warp_size);
  out.add("  shared   %u bytes\n", image.shared_bytes + image.static_shared_bytes);
  add_scratch(request, KPK_SCRATCH_GLOBAL, "scratch", &out);
  add_scratch(request, KPK_SCRATCH_PROFILE, "profile", &out);
  add_attributes(request, &out);
  out.add("  args     ");
  add_call(*request.plan->view, request.args, &out);
  return answer();
}

kpk_status zero(void *, uint64_t, size_t, const char *) { return KPK_OK; }
kpk_status reserve(const Device &, size_t) { return KPK_OK; }
kpk_status occupancy(const Device &, const Plan &, const char *, int *, int *) { return KPK_OK; }
kpk_status encode(const Device &, const kpk_tensor &, const kpk_abi_tensordesc &, const char *, void *) {
  return KPK_OK;
}

bool asks() { return false; }
uint64_t here(void *) { return 0; }
uint64_t place(const Device &, uint64_t) { return 0; }
kpk_status enter(void *, const char *, Place *, void **) { return KPK_ERROR_NO_DEVICE; }
void leave(void *) {}

const Driver kDry = {"dry",  enter,    leave,     asks, here, place,   context_of, load,  unload,
                     launch, allocate, give_back, skip, zero, reserve, occupancy,  encode};

}  // namespace

bool is_dry_device(const Device &device) { return device.driver == &kDry; }

Dry read_dry() {
  pthread_once(&g_once, read_environment);
  const Dry dry = g_choice.dry ? Dry::kYes : Dry::kNo;
  g_switches.dry.store(dry, std::memory_order_release);
  return dry;
}

const Device *dry_device_of(const KernelView &view, const char *arch) {
  if (*arch != '\0') return device_named(arch);
  return view.targets.size() == 0 ? nullptr : device_named(text(view.targets[0].name));
}

kpk_status dry_device(const KernelView &view, const Device **out) {
  const Choice &choice = g_choice;
  if (choice.unknown != nullptr) {
    return fail(KPK_ERROR_NO_DRIVER, "KPACK_DRIVER: expected 'dry' or 'dry:<arch>', got '%s'",
                choice.unknown);
  }
  *out = choice.device != nullptr ? choice.device : dry_device_of(view, "");
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
