// NVIDIA: libcuda, by its C ABI (CUDA Driver API reference; the versioned names are the ABI). Declared here
// are only the entries used, so that no CUDA header is needed.
//
// Images are loaded through cuLibrary* where the driver has it (12.0): one load serves every context of
// every device. Older drivers load a module into each context.

#include <cstring>

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
#define KPK_CUDA_OPTIONAL(X)                                                     \
  X(library_load, "cuLibraryLoadData",                                           \
    (void **, const void *, int *, void **, unsigned, int *, void **, unsigned)) \
  X(library_unload, "cuLibraryUnload", (void *))                                 \
  X(library_kernel, "cuLibraryGetKernel", (void **, void *, const char *))       \
  X(kernel_set, "cuKernelSetAttribute", (int, int, void *, CUdevice))

struct Api {
#define KPK_FIELD(name, symbol, params) CUresult(*name) params;
  KPK_CUDA_REQUIRED(KPK_FIELD)
  KPK_CUDA_OPTIONAL(KPK_FIELD)
#undef KPK_FIELD
};

Api g_api;
Device g_devices[kMaxDevices];
int g_device_count;
bool g_has_library;     // cuLibrary* is there and the driver is new enough for it
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
    g_why_not = "libcuda.so.1 cannot be opened";
    return;
  }
#define KPK_RESOLVE(name, symbol, params) \
  if (!library_function(library, symbol, &g_api.name)) g_why_not = "libcuda.so.1 lacks " symbol;
  KPK_CUDA_REQUIRED(KPK_RESOLVE)
#undef KPK_RESOLVE
  if (g_why_not != nullptr) return;
  bool all = true;
#define KPK_RESOLVE(name, symbol, params) all = library_function(library, symbol, &g_api.name) && all;
  KPK_CUDA_OPTIONAL(KPK_RESOLVE)
#undef KPK_RESOLVE
  int version = 0;
  if (g_api.init(0) != kSuccess || g_api.driver_version(&version) != kSuccess) {
    g_why_not = "cuInit failed";
    return;
  }
  g_has_library = all && version >= 12000;
  int count = 0;
  if (g_api.device_count(&count) != kSuccess || count == 0) {
    g_why_not = "libcuda.so.1 has no device";
    return;
  }
  const int most = static_cast<int>(kMaxDevices);
  for (int i = 0; i < count && i < most && describe_device(i, &g_devices[i]); ++i) g_device_count = i + 1;
  if (g_device_count == 0) g_why_not = "no device of libcuda.so.1 could be described";
}

// A thread without a context gets one as the CUDA runtime would give it: the stream's, or the primary
// context of device 0. It stays current.
kpk_status adopt_context(void *stream, const char *kernel, CUdevice *device) {
  void *context = nullptr;
  const bool default_stream = reinterpret_cast<uintptr_t>(stream) <= 2;  // null, legacy, per-thread
  if (default_stream) {
    CUdevice first = 0;
    if (const CUresult code = g_api.device_get(&first, 0)) return failed(kernel, "cuDeviceGet", code);
    if (const CUresult code = g_api.primary_retain(&context, first)) {
      return failed(kernel, "cuDevicePrimaryCtxRetain", code);
    }
  } else if (const CUresult code = g_api.stream_get_ctx(stream, &context)) {
    return failed(kernel, "cuStreamGetCtx", code);
  }
  if (const CUresult code = g_api.ctx_set_current(context)) return failed(kernel, "cuCtxSetCurrent", code);
  if (const CUresult code = g_api.ctx_get_device(device)) return failed(kernel, "cuCtxGetDevice", code);
  return KPK_OK;
}

kpk_status device_of(void *stream, const char *kernel, const Device **out) {
  CUdevice device = 0;
  const CUresult code = g_api.ctx_get_device(&device);
  if (code == kInvalidContext || code == kNotInitialized) {
    if (const kpk_status status = adopt_context(stream, kernel, &device)) return status;
  } else if (code != kSuccess) {
    return failed(kernel, "cuCtxGetDevice", code);
  }
  if (device < 0 || device >= g_device_count) {
    return fail(KPK_ERROR_NO_DEVICE, "%s: expected a device below %d, the current context is of device %d",
                kernel, g_device_count, device);
  }
  *out = &g_devices[device];
  return KPK_OK;
}

void *current_context() {
  if (g_has_library) return nullptr;
  void *context = nullptr;
  g_api.ctx_get_current(&context);
  return context;
}

kpk_status load_library(const LoadRequest &request, const void *data, Function *out) {
  const kpk_abi_image &image = *request.image;
  int option = kBinaryIsPreserved;
  void *yes = reinterpret_cast<void *>(uintptr_t{1});
  CUresult code = g_api.library_load(&out->module, data, nullptr, nullptr, 0, &option, &yes, 1);
  if (code != kSuccess) return failed(text(image.symbol), "cuLibraryLoadData", code);
  const char *call = "cuLibraryGetKernel";
  code = g_api.library_kernel(&out->handle, out->module, text(image.entry));
  if (code == kSuccess && image.shared_bytes + image.static_shared_bytes > kDefaultSharedBytes) {
    call = "cuKernelSetAttribute";
    code = g_api.kernel_set(kFuncMaxDynamicShared, static_cast<int>(image.shared_bytes), out->handle,
                            request.device->ordinal);
  }
  if (code == kSuccess) return KPK_OK;
  g_api.library_unload(out->module);
  return failed(text(image.symbol), call, code);
}

kpk_status load_module(const LoadRequest &request, const void *data, Function *out) {
  const kpk_abi_image &image = *request.image;
  out->context = current_context();
  CUresult code = g_api.module_load(&out->module, data);
  if (code != kSuccess) return failed(text(image.symbol), "cuModuleLoadData", code);
  const char *call = "cuModuleGetFunction";
  code = g_api.module_function(&out->handle, out->module, text(image.entry));
  if (code == kSuccess && image.shared_bytes + image.static_shared_bytes > kDefaultSharedBytes) {
    call = "cuFuncSetAttribute";
    code = g_api.func_set(out->handle, kFuncMaxDynamicShared, static_cast<int>(image.shared_bytes));
  }
  if (code == kSuccess) return KPK_OK;
  g_api.module_unload(out->module);
  return failed(text(image.symbol), call, code);
}

kpk_status load(const LoadRequest &request, Function *out) {
  const void *data = follow<void>(request.image->data);
  return g_has_library ? load_library(request, data, out) : load_module(request, data, out);
}

void unload(const Device &, const Function &function) {
  if (g_has_library) {
    g_api.library_unload(function.module);
    return;
  }
  void *before = nullptr;
  g_api.ctx_get_current(&before);
  g_api.ctx_set_current(function.context);
  g_api.module_unload(function.module);
  g_api.ctx_set_current(before);
}

kpk_status launch(const LaunchRequest &request) {
  const kpk_abi_image &image = *request.image;
  size_t bytes = image.param_bytes;
  // CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
  void *extra[] = {reinterpret_cast<void *>(uintptr_t{1}), request.params,
                   reinterpret_cast<void *>(uintptr_t{2}), &bytes, nullptr};
  const CUresult code = g_api.launch_kernel(request.function->handle, request.grid[0], request.grid[1],
                                            request.grid[2], image.num_warps * image.warp_size, 1, 1,
                                            image.shared_bytes, request.stream, nullptr, extra);
  return code == kSuccess ? KPK_OK : failed(text(image.symbol), "cuLaunchKernel", code);
}

kpk_status skip(const Device &, const char *) { return KPK_OK; }

const Driver kCuda = {"CUDA", device_of, current_context, load, unload, launch, skip};

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
