// NVIDIA: libcuda, by its C ABI (CUDA Driver API reference; the versioned names are the ABI). Declared here
// are only the entries used, so that no CUDA header is needed.
//
// Images are loaded through cuLibrary* where the driver has it (12.0): one load serves every context of a
// device. Older drivers load a module into each context. A launch goes through the CUfunction of the current
// context either way, which the driver launches faster than the CUkernel of a library, with the parameter
// block ready made, and through cuLaunchKernelEx where it is: the fastest of the ways there are
// (benchmarks/README.md).

#include <atomic>

#include "driver.h"
#include "library.h"
#include "lock.h"
#include "message.h"

namespace kpk {
namespace {

using CUresult = int;
using CUdevice = int;
constexpr CUresult kSuccess = 0, kNotInitialized = 3, kInvalidContext = 201;
constexpr int kMaxThreadsPerBlock = 1, kMaxGridDimX = 5, kCapabilityMajor = 75, kCapabilityMinor = 76;
constexpr int kMaxSharedOptin = 97;       // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
constexpr int kFuncMaxDynamicShared = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr int kBinaryIsPreserved = 1;     // CU_LIBRARY_BINARY_IS_PRESERVED: .rodata never moves
constexpr uint32_t kDefaultSharedBytes = 48 * 1024;

// required(name, symbol, parameters); optional: absent in older drivers
#define KPK_CUDA_REQUIRED(X)                                                                        \
  X(init, "cuInit", (unsigned))                                                                     \
  X(driver_version, "cuDriverGetVersion", (int *))                                                  \
  X(device_count, "cuDeviceGetCount", (int *))                                                      \
  X(device_get, "cuDeviceGet", (CUdevice *, int))                                                   \
  X(device_attribute, "cuDeviceGetAttribute", (int *, int, CUdevice))                               \
  X(ctx_get_device, "cuCtxGetDevice", (CUdevice *))                                                 \
  X(ctx_get_current, "cuCtxGetCurrent", (void **))                                                  \
  X(ctx_set_current, "cuCtxSetCurrent", (void *))                                                   \
  X(primary_retain, "cuDevicePrimaryCtxRetain", (void **, CUdevice))                                \
  X(primary_release, "cuDevicePrimaryCtxRelease_v2", (CUdevice))                                    \
  X(stream_get_ctx, "cuStreamGetCtx", (void *, void **))                                            \
  X(module_load, "cuModuleLoadData", (void **, const void *))                                       \
  X(module_unload, "cuModuleUnload", (void *))                                                      \
  X(module_function, "cuModuleGetFunction", (void **, void *, const char *))                        \
  X(func_set, "cuFuncSetAttribute", (void *, int, int))                                             \
  X(launch_kernel, "cuLaunchKernel",                                                                \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, \
     void **))                                                                                      \
  X(error_name, "cuGetErrorName", (CUresult, const char **))                                        \
  X(error_string, "cuGetErrorString", (CUresult, const char **))
#define KPK_CUDA_LIBRARY(X)                                                      \
  X(library_load, "cuLibraryLoadData",                                           \
    (void **, const void *, int *, void **, unsigned, int *, void **, unsigned)) \
  X(library_unload, "cuLibraryUnload", (void *))                                 \
  X(library_kernel, "cuLibraryGetKernel", (void **, void *, const char *))       \
  X(kernel_function, "cuKernelGetFunction", (void **, void *))                   \
  X(ctx_get_id, "cuCtxGetId", (void *, unsigned long long *))

// CUlaunchConfig of cuda.h, 11.8 and later.
struct LaunchConfig {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  void *stream;
  void *attributes;
  unsigned attribute_count;
};

// CUlaunchAttribute: 72 bytes.
struct LaunchAttribute {
  int id;
  union {
    alignas(8) char bytes[64];
    unsigned cluster[3];
    int value;
  };
};
static_assert(sizeof(LaunchAttribute) == 72, "CUlaunchAttribute of cuda.h");
constexpr int kCooperative = 2, kClusterDimension = 4, kClusterSpread = 5, kStreamSerialization = 6;
constexpr int kSpread = 1;  // CU_CLUSTER_SCHEDULING_POLICY_SPREAD, as Triton launches clusters
constexpr int kFuncNonPortableCluster = 14;  // CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED

// In the order of use: what a launch reads lies in one cache line.
struct alignas(64) Api {
  CUresult (*launch_kernel_ex)(const LaunchConfig *, void *, void **, void **);  // null before 11.8
  CUresult (*alloc_async)(uint64_t *, size_t, void *);                           // null before 11.2
  CUresult (*free_async)(uint64_t, void *);
#define KPK_FIELD(name, symbol, params) CUresult(*name) params;
  KPK_CUDA_LIBRARY(KPK_FIELD)
  bool has_library;  // all of these are there, and the driver is new enough for them
  KPK_CUDA_REQUIRED(KPK_FIELD)
#undef KPK_FIELD
};

Api g_api;
Device g_devices[kMaxDevices];
int g_device_count;
int g_version;          // 1000 * major + 10 * minor
const char *g_why_not;  // null while CUDA can be used
pthread_once_t g_once = PTHREAD_ONCE_INIT;

const char *error_name(CUresult code) {
  const char *name = nullptr;
  return g_api.error_name(code, &name) == kSuccess && name != nullptr ? name : "unknown CUresult";
}

// Sets the message of a driver call that failed: "softmax: cuLaunchKernel: CUDA_ERROR_... (700): words".
kpk_status failed(const char *subject, const char *call, CUresult code) {
  const char *words = nullptr;
  g_api.error_string(code, &words);
  const kpk_status status = fail(KPK_ERROR_DRIVER, "%s: %s: %s (%d)%s%s", subject, call, error_name(code),
                                 code, words == nullptr ? "" : ": ", words == nullptr ? "" : words);
  set_driver_code(code);
  return status;
}

extern const Driver kCuda;

int attribute(int which, CUdevice device) {
  int value = 0;
  return g_api.device_attribute(&value, which, device) == kSuccess ? value : 0;
}

bool describe_device(int ordinal, Device *device) {
  CUdevice native = 0;
  if (g_api.device_get(&native, ordinal) != kSuccess) return false;
  const int capability = 10 * attribute(kCapabilityMajor, native) + attribute(kCapabilityMinor, native);
  char arch[16];
  Text(arch, sizeof arch).add("sm_%d", capability);
  if (!describe_arch(arch, device)) return false;
  device->driver = &kCuda;
  device->ordinal = ordinal;
  device->slot = static_cast<uint32_t>(ordinal);
  device->max_threads = static_cast<uint32_t>(attribute(kMaxThreadsPerBlock, native));
  device->max_shared_bytes = static_cast<uint32_t>(attribute(kMaxSharedOptin, native));
  for (int axis = 0; axis < 3; ++axis) {
    device->max_grid[axis] = static_cast<uint64_t>(attribute(kMaxGridDimX + axis, native));
  }
  return true;
}

void open_driver() {
  const char *error = nullptr;
  void *library = library_open("libcuda.so.1", &error);
  if (library == nullptr) {
    g_why_not = keep_error(error, "libcuda.so.1 cannot be opened");
    return;
  }
#define KPK_RESOLVE(name, symbol, params) \
  if (!library_function(library, symbol, &g_api.name)) g_why_not = "libcuda.so.1 lacks " symbol;
  KPK_CUDA_REQUIRED(KPK_RESOLVE)
#undef KPK_RESOLVE
  if (g_why_not != nullptr) return;
  bool all = true;
#define KPK_RESOLVE(name, symbol, params) all = library_function(library, symbol, &g_api.name) && all;
  KPK_CUDA_LIBRARY(KPK_RESOLVE)
#undef KPK_RESOLVE
  library_function(library, "cuLaunchKernelEx", &g_api.launch_kernel_ex);
  library_function(library, "cuMemAllocAsync", &g_api.alloc_async);
  library_function(library, "cuMemFreeAsync", &g_api.free_async);
  if (g_api.init(0) != kSuccess || g_api.driver_version(&g_version) != kSuccess) {
    g_why_not = "cuInit failed";
    return;
  }
  g_api.has_library = all && g_version >= 12000;
  int count = 0;
  if (g_api.device_count(&count) != kSuccess || count == 0) {
    g_why_not = "libcuda.so.1 has no device";
    return;
  }
  const int most = static_cast<int>(kMaxDevices);
  for (int i = 0; i < count && i < most && describe_device(i, &g_devices[i]); ++i) g_device_count = i + 1;
  if (g_device_count == 0) g_why_not = "no device of libcuda.so.1 could be described";
}

// ---- Contexts: named by their id, which no later context is given again, or, before 12.0, by address

constexpr uint32_t kMaxContexts = 256;  // contexts past these cost a second query a launch
struct alignas(64) KnownContexts {
  std::atomic<uint32_t> count;
  struct {
    std::atomic<uint64_t> id;
    const Device *device;
  } known[kMaxContexts];
};
KnownContexts g_contexts;
Mutex g_contexts_mutex;

const Device *device_of_context(uint64_t id) {
  const uint32_t count = g_contexts.count.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    if (g_contexts.known[i].id.load(std::memory_order_relaxed) == id) return g_contexts.known[i].device;
  }
  return nullptr;
}

void remember_context(uint64_t id, const Device *device) {
  const Lock lock(g_contexts_mutex);
  const uint32_t count = g_contexts.count.load(std::memory_order_relaxed);
  if (count == kMaxContexts || device_of_context(id) != nullptr) return;
  g_contexts.known[count].device = device;
  g_contexts.known[count].id.store(id, std::memory_order_relaxed);
  g_contexts.count.store(count + 1, std::memory_order_release);
}

// Of `context`, or, for null, of the thread's current one.
CUresult id_of(void *context, uint64_t *id) {
  if (g_api.has_library) {
    unsigned long long native = 0;
    const CUresult code = g_api.ctx_get_id(context, &native);
    *id = native + 1;
    return code;
  }
  CUresult code = kSuccess;
  if (context == nullptr) code = g_api.ctx_get_current(&context);
  *id = reinterpret_cast<uintptr_t>(context);
  return code == kSuccess && context == nullptr ? kInvalidContext : code;
}

// A thread without a context gets one as the CUDA runtime would give it: the stream's, or the primary
// context of device 0. It stays current.
kpk_status adopt_context(void *stream, const char *kernel) {
  static std::atomic<void *> primary{nullptr};  // retained once, for all threads, for the life of the process
  void *context = primary.load(std::memory_order_acquire);
  const bool default_stream = reinterpret_cast<uintptr_t>(stream) <= 2;  // null, legacy, per-thread
  if (default_stream && context == nullptr) {
    if (const CUresult code = g_api.primary_retain(&context, 0)) {
      return failed(kernel, "cuDevicePrimaryCtxRetain", code);
    }
    if (primary.exchange(context, std::memory_order_acq_rel) != nullptr) g_api.primary_release(0);
  }
  if (default_stream) {
    // the context is at hand
  } else if (const CUresult code = g_api.stream_get_ctx(stream, &context)) {
    return failed(kernel, "cuStreamGetCtx", code);
  }
  const CUresult code = g_api.ctx_set_current(context);
  return code == kSuccess ? KPK_OK : failed(kernel, "cuCtxSetCurrent", code);
}

kpk_status current_device(const char *kernel, const Device **out) {
  CUdevice device = 0;
  if (const CUresult code = g_api.ctx_get_device(&device)) return failed(kernel, "cuCtxGetDevice", code);
  if (device < 0 || device >= g_device_count) {
    return fail(KPK_ERROR_NO_DEVICE, "%s: expected a device below %d, the current context is of device %d",
                kernel, g_device_count, device);
  }
  *out = &g_devices[device];
  return KPK_OK;
}

kpk_status place_of(void *stream, const char *kernel, Place *out) {
  CUresult code = id_of(nullptr, &out->context);
  if (code == kInvalidContext || code == kNotInitialized) {
    if (const kpk_status status = adopt_context(stream, kernel)) return status;
    code = id_of(nullptr, &out->context);
  }
  if (code != kSuccess) return failed(kernel, "cuCtxGetId", code);
  out->device = g_api.has_library ? device_of_context(out->context) : nullptr;
  if (out->device != nullptr) return KPK_OK;
  if (const kpk_status status = current_device(kernel, &out->device)) return status;
  if (g_api.has_library) remember_context(out->context, out->device);
  return KPK_OK;
}

kpk_status context_of(const Device &device, const char *kernel, uint64_t *context) {
  const Device *current = nullptr;
  if (id_of(nullptr, context) == kSuccess && current_device(kernel, &current) == KPK_OK &&
      current == &device) {
    return KPK_OK;
  }
  void *primary = nullptr;
  if (const CUresult code = g_api.primary_retain(&primary, device.ordinal)) {
    return failed(kernel, "cuDevicePrimaryCtxRetain", code);
  }
  const CUresult code = id_of(primary, context);
  g_api.primary_release(device.ordinal);  // who launches keeps it, as for a bare launch
  return code == kSuccess ? KPK_OK : failed(kernel, "cuCtxGetId", code);
}

// ---- Loading and launching

kpk_status load_library(const LoadRequest &request, Loaded *out) {
  const kpk_abi_image &image = *request.image;
  if (request.other != nullptr) {
    out->module = request.other->module;
  } else {
    int option = kBinaryIsPreserved;
    void *yes = reinterpret_cast<void *>(uintptr_t{1});
    const void *data = follow<void>(image.data);
    const CUresult code = g_api.library_load(&out->module, data, nullptr, nullptr, 0, &option, &yes, 1);
    if (code != kSuccess) return failed(text(image.symbol), "cuLibraryLoadData", code);
  }
  void *kernel = nullptr;
  const char *call = "cuLibraryGetKernel";
  CUresult code = g_api.library_kernel(&kernel, out->module, text(image.entry));
  if (code == kSuccess) {
    call = "cuKernelGetFunction";
    code = g_api.kernel_function(&out->function, kernel);
  }
  if (code == kSuccess) return KPK_OK;
  if (request.other == nullptr) g_api.library_unload(out->module);
  return failed(text(image.symbol), call, code);
}

kpk_status load_module(const LoadRequest &request, Loaded *out) {
  const kpk_abi_image &image = *request.image;
  CUresult code = g_api.module_load(&out->module, follow<void>(image.data));
  if (code != kSuccess) return failed(text(image.symbol), "cuModuleLoadData", code);
  code = g_api.module_function(&out->function, out->module, text(image.entry));
  if (code == kSuccess) return KPK_OK;
  g_api.module_unload(out->module);
  return failed(text(image.symbol), "cuModuleGetFunction", code);
}

kpk_status unload(const Loaded &loaded, const char *kernel, uint64_t context, bool last) {
  CUresult code = kSuccess;
  if (g_api.has_library) {
    if (last) code = g_api.library_unload(loaded.module);
    return code == kSuccess ? KPK_OK : failed(kernel, "cuLibraryUnload", code);
  }
  void *before = nullptr;
  g_api.ctx_get_current(&before);
  if (g_api.ctx_set_current(reinterpret_cast<void *>(context)) != kSuccess)
    return KPK_OK;  // gone, module and all
  code = g_api.module_unload(loaded.module);
  g_api.ctx_set_current(before);
  return code == kSuccess ? KPK_OK : failed(kernel, "cuModuleUnload", code);
}

kpk_status load(const LoadRequest &request, Loaded *out) {
  const auto least = static_cast<int>(request.image->least_driver);
  if (g_version < least) {
    return fail(KPK_ERROR_LIMIT, "%s: needs a driver of CUDA %d.%d at least, this one is of %d.%d",
                text(request.image->symbol), least / 1000, least % 1000 / 10, g_version / 1000,
                g_version % 1000 / 10);
  }
  if (request.plan->special && g_api.launch_kernel_ex == nullptr) {
    return fail(KPK_ERROR_LIMIT, "%s: needs launch attributes, which drivers have from CUDA 11.8 on",
                text(request.image->symbol));
  }
  if (const kpk_status status = g_api.has_library ? load_library(request, out) : load_module(request, out))
    return status;
  const kpk_abi_image &image = *request.image;
  CUresult code = kSuccess;
  if (image.shared_bytes + image.static_shared_bytes > kDefaultSharedBytes) {
    code = g_api.func_set(out->function, kFuncMaxDynamicShared, static_cast<int>(image.shared_bytes));
  }
  if (code == kSuccess && (image.flags & KPK_IMAGE_NONPORTABLE_CLUSTER) != 0) {
    code = g_api.func_set(out->function, kFuncNonPortableCluster, 1);
  }
  if (code == kSuccess) return KPK_OK;
  const bool last = request.other == nullptr;
  if (g_api.has_library && last) g_api.library_unload(out->module);
  if (!g_api.has_library) g_api.module_unload(out->module);
  return failed(text(image.symbol), "cuFuncSetAttribute", code);
}

// A launch failed: if the stream is of another context than the current one, that is why.
kpk_status refused(const LaunchRequest &request, const char *call, CUresult code) {
  const char *symbol = text(request.plan->image->symbol);
  void *context = nullptr;
  uint64_t here = 0, there = 0;
  const bool default_stream = reinterpret_cast<uintptr_t>(request.stream) <= 2;
  if (default_stream || g_api.stream_get_ctx(request.stream, &context) != kSuccess ||
      id_of(nullptr, &here) != kSuccess || id_of(context, &there) != kSuccess || here == there) {
    return failed(symbol, call, code);
  }
  const Device *device = device_of_context(there);
  return fail(KPK_ERROR_STREAM,
              "%s: expected a stream of the thread's current context (device %d), got one of another (device "
              "%s): make "
              "the stream's context current",
              symbol, request.device->ordinal, device == nullptr ? "unknown" : device->arch);
}

// Fills what the image asks for beyond a plain launch; how many.
unsigned fill_attributes(const kpk_abi_image &image, LaunchAttribute *out) {
  unsigned count = 0;
  if (image.cluster[0] * image.cluster[1] * image.cluster[2] > 1) {
    LaunchAttribute &dimension = out[count++];
    dimension.id = kClusterDimension;
    for (int axis = 0; axis < 3; ++axis) dimension.cluster[axis] = image.cluster[axis];
    out[count].id = kClusterSpread;
    out[count++].value = kSpread;
  }
  if ((image.flags & KPK_IMAGE_COOPERATIVE) != 0) {
    out[count].id = kCooperative;
    out[count++].value = 1;
  }
  if ((image.flags & KPK_IMAGE_PDL) != 0) {
    out[count].id = kStreamSerialization;
    out[count++].value = 1;
  }
  return count;
}

// Apart, so that a plain launch does not make room for attributes.
[[gnu::noinline]] CUresult launch_special(const kpk_abi_image &image, LaunchConfig *config, void *function,
                                          void **extra) {
  LaunchAttribute attributes[4] = {};
  config->attributes = attributes;
  config->attribute_count = fill_attributes(image, attributes);
  return g_api.launch_kernel_ex(config, function, nullptr, extra);
}

kpk_status launch(const LaunchRequest &request) {
  const Plan &plan = *request.plan;
  size_t bytes = plan.param_bytes;
  // CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
  void *extra[] = {reinterpret_cast<void *>(uintptr_t{1}), request.params,
                   reinterpret_cast<void *>(uintptr_t{2}), &bytes, nullptr};
  const uint32_t *grid = request.grid;
  if (g_api.launch_kernel_ex != nullptr) {
    LaunchConfig config = {
        {grid[0], grid[1], grid[2]}, {plan.block, 1, 1}, plan.shared_bytes, request.stream, nullptr, 0};
    const CUresult code = plan.special ? launch_special(*plan.image, &config, plan.function, extra)
                                       : g_api.launch_kernel_ex(&config, plan.function, nullptr, extra);
    return code == kSuccess ? KPK_OK : refused(request, "cuLaunchKernelEx", code);
  }
  const CUresult code = g_api.launch_kernel(plan.function, grid[0], grid[1], grid[2], plan.block, 1, 1,
                                            plan.shared_bytes, request.stream, nullptr, extra);
  return code == kSuccess ? KPK_OK : refused(request, "cuLaunchKernel", code);
}

kpk_status allocate(void *stream, size_t bytes, const char *symbol, uint64_t *address) {
  if (g_api.alloc_async == nullptr || g_api.free_async == nullptr) {
    return fail(KPK_ERROR_LIMIT, "%s: needs stream-ordered memory, which drivers have from CUDA 11.2 on",
                symbol);
  }
  const CUresult code = g_api.alloc_async(address, bytes, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "cuMemAllocAsync", code);
}

kpk_status give_back(void *stream, uint64_t address, const char *symbol) {
  const CUresult code = g_api.free_async(address, stream);
  return code == kSuccess ? KPK_OK : failed(symbol, "cuMemFreeAsync", code);
}

kpk_status skip(const Device &, const char *) { return KPK_OK; }

const Driver kCuda = {"CUDA", place_of, context_of, load, unload, launch, allocate, give_back, skip};

}  // namespace

const Driver *cuda_driver(const char **why) {
  pthread_once(&g_once, open_driver);
  *why = g_why_not;
  return g_why_not == nullptr ? &kCuda : nullptr;
}

int cuda_device_count() {
  const char *why;
  return cuda_driver(&why) == nullptr ? 0 : g_device_count;
}

const Device *cuda_device(int ordinal) {
  return ordinal >= 0 && ordinal < cuda_device_count() ? &g_devices[ordinal] : nullptr;
}

}  // namespace kpk
