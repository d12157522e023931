// AMD: libamdhip64, opened on first use, and loading.
//
// HIP keeps the pointer to a raw image until the module is unloaded, ties a module to the device that was
// current when it was loaded, and in some releases refuses an image that lies in a file-backed mapping
// (a path with a space, a deleted file): then a private copy is loaded instead. KPACK_HIP_COPY=1 makes
// that copy always.

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "hip_api.h"
#include "hip_launch.h"
#include "hip_scratch.h"
#include "library.h"
#include "lock.h"
#include "message.h"
#include "proof.h"
#include "relaxed_capture.h"

namespace kpk::hip {

Api g_api;
int g_version;

namespace {

// hipDeviceAttribute_t, ROCm 6 and 7
constexpr int kMaxThreadsPerBlock = 56, kMaxSharedMemoryPerBlock = 74;
constexpr int kMultiprocessors = 63, kL2Bytes = 19;

// hipDeviceProp_tR0600: gcnArchName is 256 bytes at 1160 of 1472 (offsetof in ROCm 6's hip_runtime_api.h).
constexpr size_t kPropertiesBytes = 1472, kArchNameOffset = 1160, kArchNameBytes = 256;
constexpr size_t kRoomForNewer = 4096;  // a newer runtime may fill a longer struct

Device g_devices[kMaxDevices];
int g_device_count;
bool g_always_copy;
const char *g_why_not;
pthread_once_t g_once = PTHREAD_ONCE_INIT;
// hipSetDevice, load, hipModuleGetFunction and the way back belong together in one thread only; the lock
// keeps two loads from sharing HIP's own load lock in opposite orders.
Mutex g_load;

int attribute(int which, int ordinal, int otherwise) {
  int value = 0;
  return g_api.device_attribute(&value, which, ordinal) == kSuccess && value > 0 ? value : otherwise;
}

bool describe_device(int ordinal, Device *device) {
  alignas(16) char properties[kPropertiesBytes + kRoomForNewer] = {};
  if (g_api.properties(properties, ordinal) != kSuccess) return false;
  char *arch = properties + kArchNameOffset;
  arch[kArchNameBytes - 1] = '\0';
  if (!describe_arch(arch, device)) return false;
  device->driver = &kDriver;
  device->ordinal = ordinal;
  device->slot = kMaxDevices + static_cast<uint32_t>(ordinal);
  device->max_threads = static_cast<uint32_t>(attribute(kMaxThreadsPerBlock, ordinal, 1024));
  device->max_shared_bytes = static_cast<uint32_t>(
      attribute(kMaxSharedMemoryPerBlock, ordinal, static_cast<int>(device->max_shared_bytes)));
  device->multiprocessors = static_cast<uint32_t>(attribute(kMultiprocessors, ordinal, 0));
  device->l2_bytes = static_cast<uint64_t>(attribute(kL2Bytes, ordinal, 0));
  return true;
}

// The one that the program has, if it has one: two HIP runtimes in a process do not know each other's streams.
void *open_library(const char **error) {
  const char *const names[] = {"libamdhip64.so", "libamdhip64.so.7", "libamdhip64.so.6"};
  for (const char *name : names) {
    if (void *library = library_opened(name)) return library;
  }
  for (const char *name : names) {
    if (void *library = library_open(name, error)) return library;
  }
  return nullptr;
}

void open_driver() {
  const char *error = nullptr;
  void *library = open_library(&error);
  if (library == nullptr) {
    g_why_not = keep_error(error, "libamdhip64.so cannot be opened");
    return;
  }
#define KPK_RESOLVE(name, symbol, params) \
  if (!library_function(library, symbol, &g_api.name)) g_why_not = "libamdhip64.so lacks " symbol;
  KPK_HIP_REQUIRED(KPK_RESOLVE)
#undef KPK_RESOLVE
  if (!library_function(library, "hipGetErrorName", &g_api.error_name) ||
      !library_function(library, "hipGetErrorString", &g_api.error_string)) {
    g_why_not = "libamdhip64.so lacks hipGetErrorName";
  }
  if (g_why_not != nullptr) return;
#define KPK_RESOLVE(name, symbol, params) library_function(library, symbol, &g_api.name);
  KPK_HIP_OPTIONAL(KPK_RESOLVE)
#undef KPK_RESOLVE
  if (g_api.runtime_version(&g_version) != kSuccess) g_version = 0;
  const char *copy = std::getenv("KPACK_HIP_COPY");
  g_always_copy = copy != nullptr && std::strcmp(copy, "1") == 0;
  int count = 0;
  if (g_api.init(0) != kSuccess || g_api.device_count(&count) != kSuccess || count == 0) {
    g_why_not = "libamdhip64.so has no device";
    return;
  }
  const int most = static_cast<int>(kMaxDevices);
  for (int i = 0; i < count && i < most && describe_device(i, &g_devices[i]); ++i) g_device_count = i + 1;
  if (g_device_count == 0) g_why_not = "no device of libamdhip64.so could be described";
}

kpk_status place_of(void *stream, const char *kernel, Place *out) {
  int device = 0;
  // Null, legacy and per-thread streams (hipStreamLegacy 1, hipStreamPerThread 2) are the current device's.
  const bool default_stream = reinterpret_cast<uintptr_t>(stream) <= 2;
  const hipError code = default_stream ? g_api.get_device(&device) : g_api.stream_device(stream, &device);
  if (code != kSuccess) return failed(kernel, default_stream ? "hipGetDevice" : "hipStreamGetDevice", code);
  if (device < 0 || device >= g_device_count) {
    return fail(KPK_ERROR_NO_DEVICE, "%s: expected a device below %d, the stream is of device %d", kernel,
                g_device_count, device);
  }
  *out = {&g_devices[device], 0};
  return KPK_OK;
}

kpk_status context_of(const Device &, const char *, uint64_t *) { return KPK_OK; }

// An anonymous copy of the image: page-aligned, and in no file. Null if there is no memory.
void *copy_image(const kpk_abi_image &image) {
  void *copy = mmap(nullptr, image.raw_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (copy == MAP_FAILED) return nullptr;
  std::memcpy(copy, follow<void>(image.data), image.raw_bytes);
  return copy;
}

void drop_copy(Loaded *loaded) {
  if (loaded->copy != nullptr) munmap(loaded->copy, loaded->copy_bytes);
  loaded->copy = nullptr;
}

// A device that does not take this image may take another one.
[[gnu::cold]] kpk_status load_failed(const kpk_abi_image &image, const char *call, hipError code) {
  const kpk_status status = failed(text(image.symbol), call, code);
  if (code == kCaptureUnsupported) {
    char words[1024];
    Text(words, sizeof words).add("%s", kpk_message());
    return fail(status, "%s; load before the capture begins (kpk_preload)", words);
  }
  if (code != kInvalidImage && code != kNoBinaryForGpu && code != kFileNotFound) return status;
  g_api.get_last_error();  // answered by the next image, or by ours
  set_driver_code(0);
  return KPK_ERROR_NO_IMAGE;
}

kpk_status load_copy(const kpk_abi_image &image, Loaded *out) {
  out->copy = copy_image(image);
  out->copy_bytes = image.raw_bytes;
  if (out->copy == nullptr) {
    return fail(KPK_ERROR_MEMORY, "%s: no memory for a copy of its %llu bytes", text(image.symbol),
                static_cast<unsigned long long>(image.raw_bytes));
  }
  const hipError code = g_api.module_load(&out->module, out->copy);
  if (code == kSuccess) return KPK_OK;
  drop_copy(out);
  return load_failed(image, "hipModuleLoadData", code);
}

kpk_status load_module(const kpk_abi_image &image, Loaded *out) {
  if (g_always_copy) return load_copy(image, out);
  const hipError code = g_api.module_load(&out->module, follow<void>(image.data));
  if (code == kSuccess) return KPK_OK;
  if (code != kFileNotFound && code != kInvalidImage) return load_failed(image, "hipModuleLoadData", code);
  g_api.get_last_error();  // answered by the copy: nobody else is to find it
  return load_copy(image, out);
}

// What the image says itself: HIP has no word of its own on parameters.
kpk_status prove_image(const LoadRequest &request) {
  Note note;
  Word word;
  const uint8_t kind = request.view->target(*request.image).kind;
  if (const kpk_status status = word_of_image(*request.image, kind, &note, &word)) return status;
  return prove(*request.image, *request.device, word);
}

// With the image's device current.
kpk_status load_here(const kpk_abi_image &image, Loaded *out) {
  if (const kpk_status status = load_module(image, out)) return status;
  const hipError code = g_api.module_function(&out->function, out->module, text(image.entry));
  if (code == kSuccess) return KPK_OK;
  g_api.module_unload(out->module);
  drop_copy(out);
  return load_failed(image, "hipModuleGetFunction", code);
}

kpk_status load(const LoadRequest &request, Loaded *out) {
  if (const kpk_status status = check_entries(*request.image)) return status;
  if (const kpk_status status = prove_image(request)) return status;
  const char *symbol = text(request.image->symbol);
  const RelaxedCapture relaxed(g_api.exchange_capture_mode);
  const Lock lock(g_load);
  int before = 0;
  if (const hipError code = g_api.get_device(&before)) return failed(symbol, "hipGetDevice", code);
  const int here = request.device->ordinal;
  if (before != here) {
    if (const hipError code = g_api.set_device(here)) return failed(symbol, "hipSetDevice", code);
  }
  const kpk_status status = load_here(*request.image, out);
  if (before != here) g_api.set_device(before);
  return status;
}

kpk_status unload(const Device &, const Loaded &loaded, const char *kernel, uint64_t) {
  const Lock lock(g_load);
  // A module that stays loaded keeps its image.
  if (const hipError code = g_api.module_unload(loaded.module))
    return failed(kernel, "hipModuleUnload", code);
  Loaded gone = loaded;
  drop_copy(&gone);
  return KPK_OK;
}

kpk_status skip(const Device &, const char *) { return KPK_OK; }

// Not every release refuses a function in a stream of another device.
bool asks() { return true; }

// The device's number, so that 0 is none.
uint64_t here(void *stream) {
  int device = -1;
  const bool default_stream = reinterpret_cast<uintptr_t>(stream) <= 2;
  const hipError code = default_stream ? g_api.get_device(&device) : g_api.stream_device(stream, &device);
  return code == kSuccess ? static_cast<uint64_t>(device) + 1 : 0;
}

uint64_t place(const Device &device, uint64_t) { return static_cast<uint64_t>(device.ordinal) + 1; }

// Streams know their device: nobody is ever elsewhere.
kpk_status enter(void *stream, const char *kernel, Place *out, void **) {
  return place_of(stream, kernel, out);
}
void leave(void *) {}

}  // namespace

kpk_status failed(const char *subject, const char *call, hipError code) {
  const kpk_status status = fail(KPK_ERROR_DRIVER, "%s: %s: %s (%d): %s", subject, call,
                                 g_api.error_name(code), code, g_api.error_string(code));
  set_driver_code(code);
  return status;
}

const Driver kDriver = {"HIP",   enter,     leave,   asks,     here,      place, context_of,
                        load,    unload,    launch,  allocate, give_back, skip,  zero,
                        reserve, occupancy, nullptr, nullptr,  &kBench};

}  // namespace kpk::hip

namespace kpk {

const Driver *hip_driver(const char **why) {
  pthread_once(&hip::g_once, hip::open_driver);
  *why = hip::g_why_not;
  return hip::g_why_not == nullptr ? &hip::kDriver : nullptr;
}

int hip_device_count() {
  const char *why;
  return hip_driver(&why) == nullptr ? 0 : hip::g_device_count;
}

int hip_version() {
  const char *why;
  hip_driver(&why);
  return hip::g_version;
}

const Device *hip_device(int ordinal) {
  return ordinal >= 0 && ordinal < hip_device_count() ? &hip::g_devices[ordinal] : nullptr;
}

}  // namespace kpk
