// The exported entry points of the fake libcuda.so.1: each enters, checks its handles, and forwards. Error
// codes are those that driver 580.159 gave on an H200 where it was asked (images, grids, blocks, shared memory,
// parameter blocks, clusters, threads without a context).
#include <cstdio>
#include <cstring>

#include "cuda_state.h"

using namespace fakes;  // NOLINT: this file is the library's outside

namespace {

struct ErrorText {
  int code;
  const char *name;
  const char *text;
};
constexpr ErrorText kErrors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE", "too many blocks in cooperative launch"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {912, "CUDA_ERROR_INVALID_CLUSTER_SIZE", "cluster misconfiguration"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const ErrorText *find_error(int code) {
  for (const ErrorText &row : kErrors) {
    if (row.code == code) return &row;
  }
  return nullptr;
}

// Reads an image to load it, which is a call that a capture may forbid.
int read_image(const void *data, Image *image) {
  if (data == nullptr) return kInvalidValue;
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  const int64_t refused = state().file_backed_error.load();
  if (refused != 0 && file_backed(data)) return static_cast<int>(refused);
  switch (parse_cuda(data, image)) {
    case Parsed::kInvalidImage: return kInvalidImage;
    case Parsed::kInvalidPtx: return kInvalidPtx;
    case Parsed::kOk: break;
  }
  if (reinterpret_cast<uintptr_t>(data) % 4096 != 0) recorder().loaded_unaligned();
  return kOk;
}

// The PTX version that a driver's compiler knows: CUDA 11.8 has 7.8, 12.0 to 12.9 have 8.0 to 8.8 with a
// step missing at 12.6, 13.0 has 9.0.
int newest_ptx(int driver) {
  const int major = driver / 1000;
  const int minor = driver % 1000 / 10;
  return (major - 4) * 10 + (major == 12 && minor >= 6 ? minor - 1 : minor);
}

int check_image(const Image &image, int arch) {
  if (image.kind == Kind::kPtx && image.ptx_version > newest_ptx(state().machine().driver_version)) {
    return kUnsupportedPtxVersion;
  }
  if (runs_on(image, arch)) return kOk;
  if (image.kind == Kind::kPtx) return kInvalidPtx;
  return kNoBinaryForGpu;
}

int function_attribute(Function *function, int attribute, int device, int *value) {
  const Kernel &kernel = *function->kernel;
  const uint32_t *required = kernel.required_block;
  switch (attribute) {
    case kFnMaxThreads:
      *value = 1024;
      if (required[0] != 0) *value = static_cast<int>(required[0] * required[1] * required[2]);
      if (kernel.max_threads != 0) *value = static_cast<int>(kernel.max_threads);
      return kOk;
    case kFnStaticShared: *value = static_cast<int>(kernel.static_shared_bytes); return kOk;
    case kFnLocal: *value = static_cast<int>(kernel.local_bytes); return kOk;
    case kFnRegisters: *value = static_cast<int>(kernel.registers); return kOk;
    case kFnPtxVersion:
    case kFnBinaryVersion: *value = function->image->arch; return kOk;
    case kFnMaxDynamicShared:
      *value = function->attributes().max_dynamic_shared[static_cast<size_t>(device)].load();
      return kOk;
    case kFnNonPortableCluster: *value = function->attributes().non_portable_cluster.load(); return kOk;
    default: *value = 0; return attribute >= 0 && attribute <= kFnLast ? kOk : kInvalidValue;
  }
}

int set_function_attribute(Function *function, int attribute, int device, int value) {
  if (attribute == kFnNonPortableCluster) {
    function->attributes().non_portable_cluster.store(value);
    return kOk;
  }
  if (attribute == kFnCarveout) return value >= -1 && value <= 100 ? kOk : kInvalidValue;
  if (attribute != kFnMaxDynamicShared || value < 0) return kInvalidValue;
  const auto most =
      state().device(device)->shared_optin_bytes - static_cast<int>(function->kernel->static_shared_bytes);
  if (value > most) return kInvalidValue;
  function->attributes().max_dynamic_shared[static_cast<size_t>(device)].store(value);
  return kOk;
}

int param_info(const Function &function, size_t index, size_t *offset, size_t *size) {
  const std::vector<fake_param> &params = function.kernel->params;
  if (index >= params.size() || offset == nullptr) return kInvalidValue;
  *offset = params[index].offset;
  const int64_t lie = index + 1 == params.size() ? state().param_lie.load() : 0;
  if (size != nullptr) *size = params[index].size + static_cast<size_t>(lie);
  return kOk;
}

// A CUfunction in the context it belongs to; a CUkernel in any.
int check_function(Call call, Function *function, Context **context) {
  if (const int error = current_context(context); error != kOk) return error;
  if (const int error = check_handle(call, "the function", function); error != kOk) return error;
  return function->context == nullptr || function->context == *context ? kOk : kInvalidHandle;
}

}  // namespace

#define ENTER(name)                                                          \
  do {                                                                       \
    if (const int entered = enter(k_##name); entered != kOk) return entered; \
  } while (false)
#define TRY(expression)                                             \
  do {                                                              \
    if (const int tried = (expression); tried != kOk) return tried; \
  } while (false)

// ---- Devices ------------------------------------------------------------------------------------------

FAKE_API int cuInit(unsigned flags) {
  if (const int fault = recorder().enter(k_cuInit); fault != 0) return fault;
  if (flags != 0) return kInvalidValue;
  if (state().forked.load()) return kNotInitialized;
  if (state().machine().devices.empty()) return kNoDevice;
  state().initialized.store(true, std::memory_order_release);
  return kOk;
}

FAKE_API int cuDriverGetVersion(int *version) {
  if (const int fault = recorder().enter(k_cuDriverGetVersion); fault != 0) return fault;
  if (version == nullptr) return kInvalidValue;
  *version = state().machine().driver_version;
  return kOk;
}

FAKE_API int cuDeviceGetCount(int *count) {
  ENTER(cuDeviceGetCount);
  if (count == nullptr) return kInvalidValue;
  *count = static_cast<int>(state().machine().devices.size());
  return kOk;
}

FAKE_API int cuDeviceGet(int *device, int ordinal) {
  ENTER(cuDeviceGet);
  if (device == nullptr) return kInvalidValue;
  if (state().device(ordinal) == nullptr) return kInvalidDevice;
  *device = ordinal;
  return kOk;
}

FAKE_API int cuDeviceGetName(char *name, int bytes, int device) {
  ENTER(cuDeviceGetName);
  if (name == nullptr || bytes <= 0) return kInvalidValue;
  if (state().device(device) == nullptr) return kInvalidDevice;
  std::snprintf(name, static_cast<size_t>(bytes), "%s", state().device(device)->name.c_str());
  return kOk;
}

FAKE_API int cuDeviceGetAttribute(int *value, int attribute, int ordinal) {
  ENTER(cuDeviceGetAttribute);
  if (value == nullptr) return kInvalidValue;
  const Device *device = state().device(ordinal);
  if (device == nullptr) return kInvalidDevice;
  switch (attribute) {
    case 1:  // threads per block
    case 2:  // block x
    case 3:  // block y
      *value = 1024;
      return kOk;
    case 4:  // block z
      *value = 64;
      return kOk;
    case 5:  // grid x
      *value = 0x7fffffff;
      return kOk;
    case 6:  // grid y
    case 7:  // grid z
      *value = 65535;
      return kOk;
    case 8:  // shared memory per block, without opting in
      *value = static_cast<int>(kSharedWithoutOptIn);
      return kOk;
    case 10:  // warp size
      *value = 32;
      return kOk;
    case 12:  // registers per block
    case 82:  // registers per multiprocessor
      *value = 65536;
      return kOk;
    case 16: *value = device->multiprocessors; return kOk;
    case 38: *value = kL2Bytes; return kOk;
    case 39: *value = device->threads_per_multiprocessor; return kOk;
    case 75: *value = device->arch / 10; return kOk;
    case 76: *value = device->arch % 10; return kOk;
    case 81: *value = device->shared_per_multiprocessor; return kOk;
    case 95:   // cooperative launch
    case 115:  // memory pools
      *value = 1;
      return kOk;
    case 97: *value = device->shared_optin_bytes; return kOk;
    case 106:  // blocks per multiprocessor
      *value = 32;
      return kOk;
    case 111:  // shared memory reserved per block
      *value = device->arch >= 80 ? 1024 : 0;
      return kOk;
    case 120:  // cluster launch
      *value = device->arch >= 90 ? 1 : 0;
      return kOk;
    default: *value = 0; return attribute > 0 && attribute < 160 ? kOk : kInvalidValue;
  }
}

// ---- Contexts -----------------------------------------------------------------------------------------

FAKE_API int cuCtxGetCurrent(void **context) {
  ENTER(cuCtxGetCurrent);
  if (context == nullptr) return kInvalidValue;
  *context = context_stack().top();
  return kOk;
}

FAKE_API int cuCtxSetCurrent(void *handle) {
  ENTER(cuCtxSetCurrent);
  ContextStack &stack = context_stack();
  auto *context = static_cast<Context *>(handle);
  if (context == nullptr) {
    if (stack.depth > 0) --stack.depth;
    return kOk;
  }
  if (context->life.load() != Life::kAlive) return kInvalidContext;
  if (stack.depth == 0) ++stack.depth;
  stack.items[stack.depth - 1] = context;
  return kOk;
}

FAKE_API int cuCtxGetDevice(int *device) {
  ENTER(cuCtxGetDevice);
  if (device == nullptr) return kInvalidValue;
  Context *context = nullptr;
  // Seen on an H200 (driver 580): also of a context that is gone.
  if (const int error = current_context(&context); error == kInvalidContext) return error;
  *device = context->device;
  return kOk;
}

FAKE_API_NEW int cuCtxGetId(void *handle, unsigned long long *id) {
  ENTER(cuCtxGetId);
  if (id == nullptr) return kInvalidValue;
  auto *context = static_cast<Context *>(handle);
  if (context == nullptr) TRY(current_context(&context));
  if (context->life.load() != Life::kAlive) return kInvalidContext;
  *id = context->id;
  return kOk;
}

FAKE_API int cuCtxPushCurrent_v2(void *handle) {
  ENTER(cuCtxPushCurrent_v2);
  ContextStack &stack = context_stack();
  auto *context = static_cast<Context *>(handle);
  if (context == nullptr || context->life.load() != Life::kAlive) return kInvalidContext;
  if (stack.depth == sizeof stack.items / sizeof stack.items[0]) {
    recorder().violate("cuCtxPushCurrent_v2: 32 contexts are pushed and none is popped");
    return kInvalidContext;
  }
  stack.items[stack.depth++] = context;
  return kOk;
}

FAKE_API int cuCtxPopCurrent_v2(void **context) {
  ENTER(cuCtxPopCurrent_v2);
  ContextStack &stack = context_stack();
  if (stack.depth == 0) return kInvalidContext;
  --stack.depth;
  if (context != nullptr) *context = stack.items[stack.depth];
  return kOk;
}

FAKE_API int cuCtxCreate_v2(void **context, unsigned, int device) {
  ENTER(cuCtxCreate_v2);
  if (context == nullptr) return kInvalidValue;
  if (state().device(device) == nullptr) return kInvalidDevice;
  ContextStack &stack = context_stack();
  if (stack.depth == sizeof stack.items / sizeof stack.items[0]) return kInvalidContext;
  Context *created = state().create_context(device, false);
  stack.items[stack.depth++] = created;
  *context = created;
  return kOk;
}

FAKE_API int cuCtxDestroy_v2(void *handle) {
  ENTER(cuCtxDestroy_v2);
  auto *context = static_cast<Context *>(handle);
  TRY(check_handle(k_cuCtxDestroy_v2, "the context", context));
  if (context->primary) return kInvalidContext;
  state().destroy(context);
  ContextStack &stack = context_stack();
  if (stack.top() == context) --stack.depth;
  return kOk;
}

FAKE_API int cuCtxSynchronize() {
  ENTER(cuCtxSynchronize);
  Context *context = nullptr;
  TRY(current_context(&context));
  return state().captures.forbids_unsafe_call() ? kCaptureUnsupported : kOk;
}

FAKE_API int cuDevicePrimaryCtxRetain(void **context, int ordinal) {
  ENTER(cuDevicePrimaryCtxRetain);
  if (context == nullptr) return kInvalidValue;
  const Device *device = state().device(ordinal);
  if (device == nullptr) return kInvalidDevice;
  const std::lock_guard<std::mutex> lock(state().mutex);
  ++device->primary->retained;
  state().revive(device->primary);
  *context = device->primary;
  return kOk;
}

FAKE_API int cuDevicePrimaryCtxRelease_v2(int ordinal) {
  ENTER(cuDevicePrimaryCtxRelease_v2);
  const Device *device = state().device(ordinal);
  if (device == nullptr) return kInvalidDevice;
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    if (device->primary->retained == 0) return kInvalidContext;
    if (--device->primary->retained != 0) return kOk;
  }
  state().destroy(device->primary);
  return kOk;
}

FAKE_API int cuDevicePrimaryCtxReset_v2(int ordinal) {
  ENTER(cuDevicePrimaryCtxReset_v2);
  const Device *device = state().device(ordinal);
  if (device == nullptr) return kInvalidDevice;
  state().destroy(device->primary);
  return kOk;
}

// ---- Streams and captures -----------------------------------------------------------------------------

FAKE_API int cuStreamCreate(void **stream, unsigned flags) {
  ENTER(cuStreamCreate);
  if (stream == nullptr || flags > 1) return kInvalidValue;
  Context *context = nullptr;
  TRY(current_context(&context));
  *stream = state().create_stream(context, flags == 0);
  return kOk;
}

FAKE_API int cuStreamDestroy_v2(void *handle) {
  ENTER(cuStreamDestroy_v2);
  auto *stream = static_cast<Stream *>(handle);
  TRY(check_handle(k_cuStreamDestroy_v2, "the stream", stream));
  stream->life.store(Life::kDead);
  return kOk;
}

FAKE_API int cuStreamSynchronize(void *handle) {
  ENTER(cuStreamSynchronize);
  StreamRef stream;
  TRY(resolve_stream(k_cuStreamSynchronize, handle, &stream));
  timeline().wait_all();
  if (stream.stream == nullptr) return state().captures.forbids_unsafe_call() ? kCaptureUnsupported : kOk;
  if (stream.stream->capture.status.load() == kNone) return kOk;
  state().captures.invalidate(&stream.stream->capture);
  return kCaptureUnsupported;
}

FAKE_API int cuStreamGetCtx(void *handle, void **context) {
  ENTER(cuStreamGetCtx);
  if (context == nullptr) return kInvalidValue;
  StreamRef stream;
  TRY(resolve_stream(k_cuStreamGetCtx, handle, &stream));
  *context = stream.context;
  return kOk;
}

FAKE_API int cuStreamIsCapturing(void *handle, int *status) {
  ENTER(cuStreamIsCapturing);
  if (status == nullptr) return kInvalidValue;
  StreamRef stream;
  TRY(resolve_stream(k_cuStreamIsCapturing, handle, &stream));
  *status = kNone;
  if (stream.stream == nullptr) return state().implicit_capture(stream.context) ? kCaptureImplicit : kOk;
  *status = stream.stream->capture.status.load();
  return kOk;
}

FAKE_API int cuStreamBeginCapture_v2(void *handle, int mode) {
  ENTER(cuStreamBeginCapture_v2);
  StreamRef stream;
  TRY(resolve_stream(k_cuStreamBeginCapture_v2, handle, &stream));
  if (stream.stream == nullptr) return kCaptureUnsupported;
  return state().captures.begin(&stream.stream->capture, mode);
}

FAKE_API int cuStreamEndCapture(void *handle, void **graph) {
  ENTER(cuStreamEndCapture);
  if (graph == nullptr) return kInvalidValue;
  *graph = nullptr;
  StreamRef stream;
  TRY(resolve_stream(k_cuStreamEndCapture, handle, &stream));
  if (stream.stream == nullptr) return kIllegalState;
  TRY(state().captures.end(&stream.stream->capture));
  *graph = stream.stream;  // something that is not null; there are no graphs here
  return kOk;
}

FAKE_API int cuThreadExchangeStreamCaptureMode(int *mode) {
  ENTER(cuThreadExchangeStreamCaptureMode);
  return state().captures.exchange_mode(mode);
}

// ---- Modules ------------------------------------------------------------------------------------------

static int load_module(void **module, const void *data) {
  if (module == nullptr) return kInvalidValue;
  Context *context = nullptr;
  TRY(current_context(&context));
  Image image;
  TRY(read_image(data, &image));
  TRY(check_image(image, state().device(context->device)->arch));
  *module = state().create_module(context, std::move(image));
  recorder().loaded(context->device);
  return kOk;
}

FAKE_API int cuModuleLoadData(void **module, const void *data) {
  ENTER(cuModuleLoadData);
  return load_module(module, data);
}

// Writes what the compiler has to say into the caller's buffer, if it gave one with its size.
static void write_jit_log(int error, unsigned count, const int *options, void **values) {
  char *log = nullptr;
  size_t bytes = 0;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == kJitErrorLog) log = static_cast<char *>(values[i]);
    if (options[i] == kJitErrorLogBytes) bytes = reinterpret_cast<size_t>(values[i]);
  }
  if (log == nullptr || bytes == 0) return;
  std::snprintf(log, bytes, "ptxas of the fake: line 1: %s\nptxas of the fake: line 2: given up\n",
                error == kInvalidPtx ? "this is no PTX" : "this version of PTX is too new");
}

FAKE_API int cuModuleLoadDataEx(void **module, const void *data, unsigned count, int *options,
                                void **values) {
  ENTER(cuModuleLoadDataEx);
  if (count != 0 && (options == nullptr || values == nullptr)) return kInvalidValue;
  const int error = load_module(module, data);
  if (error == kInvalidPtx || error == kUnsupportedPtxVersion) write_jit_log(error, count, options, values);
  return error;
}

FAKE_API int cuModuleGetFunction(void **function, void *handle, const char *name) {
  ENTER(cuModuleGetFunction);
  auto *module = static_cast<Module *>(handle);
  Context *context = nullptr;
  TRY(current_context(&context));
  TRY(check_handle(k_cuModuleGetFunction, "the module", module));
  if (function == nullptr || name == nullptr) return kInvalidValue;
  if (module->context != context) return kInvalidHandle;
  *function = state().function(module, nullptr, name);
  return *function != nullptr ? kOk : kNotFound;
}

FAKE_API int cuModuleUnload(void *handle) {
  ENTER(cuModuleUnload);
  auto *module = static_cast<Module *>(handle);
  Context *context = nullptr;
  TRY(current_context(&context));
  TRY(check_handle(k_cuModuleUnload, "the module", module));
  if (module->context != context) return kInvalidHandle;
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  state().destroy(module);
  return kOk;
}

FAKE_API int cuFuncGetAttribute(int *value, int attribute, void *handle) {
  ENTER(cuFuncGetAttribute);
  auto *function = static_cast<Function *>(handle);
  Context *context = nullptr;
  TRY(check_function(k_cuFuncGetAttribute, function, &context));
  if (value == nullptr) return kInvalidValue;
  return function_attribute(function, attribute, context->device, value);
}

FAKE_API int cuFuncSetAttribute(void *handle, int attribute, int value) {
  ENTER(cuFuncSetAttribute);
  auto *function = static_cast<Function *>(handle);
  Context *context = nullptr;
  TRY(check_function(k_cuFuncSetAttribute, function, &context));
  return set_function_attribute(function, attribute, context->device, value);
}

FAKE_API_NEW int cuFuncGetParamInfo(void *handle, size_t index, size_t *offset, size_t *size) {
  ENTER(cuFuncGetParamInfo);
  auto *function = static_cast<Function *>(handle);
  TRY(check_handle(k_cuFuncGetParamInfo, "the function", function));
  return param_info(*function, index, offset, size);
}

FAKE_API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *handle, int threads,
                                                         size_t shared_bytes) {
  ENTER(cuOccupancyMaxActiveBlocksPerMultiprocessor);
  auto *function = static_cast<Function *>(handle);
  Context *context = nullptr;
  TRY(check_function(k_cuOccupancyMaxActiveBlocksPerMultiprocessor, function, &context));
  if (blocks == nullptr) return kInvalidValue;
  return max_active_blocks(*function, threads, shared_bytes, *state().device(context->device), blocks);
}

FAKE_API int cuOccupancyMaxActiveClusters(int *clusters, void *handle, const LaunchConfig *config) {
  ENTER(cuOccupancyMaxActiveClusters);
  auto *function = static_cast<Function *>(handle);
  Context *context = nullptr;
  TRY(check_function(k_cuOccupancyMaxActiveClusters, function, &context));
  if (clusters == nullptr || config == nullptr) return kInvalidValue;
  return max_active_clusters(*config, *function, *state().device(context->device), clusters);
}

// ---- Libraries ----------------------------------------------------------------------------------------

FAKE_API_NEW int cuLibraryLoadData(void **library, const void *code, int *, void **, unsigned, int *options,
                                   void **values, unsigned count) {
  ENTER(cuLibraryLoadData);
  if (library == nullptr || (count != 0 && (options == nullptr || values == nullptr))) return kInvalidValue;
  bool preserved = false;
  for (unsigned i = 0; i < count; ++i) preserved |= options[i] == kBinaryIsPreserved && values[i] != nullptr;
  Image image;
  TRY(read_image(code, &image));
  // A library belongs to no context: that no device runs it is found out when its kernel is asked for.
  *library = state().create_library(std::move(image), preserved);
  return kOk;
}

FAKE_API_NEW int cuLibraryUnload(void *handle) {
  ENTER(cuLibraryUnload);
  auto *library = static_cast<Library *>(handle);
  TRY(check_handle(k_cuLibraryUnload, "the library", library));
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  if (library->preserved) check_intact("cuLibraryUnload", library->image);
  state().destroy(library);
  return kOk;
}

FAKE_API_NEW int cuLibraryGetKernel(void **kernel, void *handle, const char *name) {
  ENTER(cuLibraryGetKernel);
  auto *library = static_cast<Library *>(handle);
  TRY(check_handle(k_cuLibraryGetKernel, "the library", library));
  if (kernel == nullptr || name == nullptr) return kInvalidValue;
  int error = kNoBinaryForGpu;
  for (const Device &device : state().machine().devices) {
    if (error != kOk) error = check_image(library->image, device.arch);
  }
  TRY(error);
  *kernel = state().function(nullptr, library, name);
  return *kernel != nullptr ? kOk : kNotFound;
}

// The kernel behind a CUkernel: a CUfunction is none.
static int check_kernel(Call call, Function *kernel) {
  TRY(check_handle(call, "the kernel", kernel));
  return kernel->context == nullptr ? kOk : kInvalidHandle;
}

FAKE_API_NEW int cuKernelGetFunction(void **function, void *handle) {
  ENTER(cuKernelGetFunction);
  auto *kernel = static_cast<Function *>(handle);
  TRY(check_kernel(k_cuKernelGetFunction, kernel));
  if (function == nullptr) return kInvalidValue;
  Context *context = nullptr;
  TRY(current_context(&context));
  TRY(check_image(*kernel->image, state().device(context->device)->arch));
  // The first function of a library in a context loads it there.
  if (!state().uses(kernel->library, context) && state().captures.forbids_unsafe_call()) {
    return kCaptureUnsupported;
  }
  if (state().first_use(kernel->library, context)) recorder().loaded(context->device);
  *function = state().function_in(kernel, context);
  return kOk;
}

FAKE_API_NEW int cuKernelGetAttribute(int *value, int attribute, void *handle, int device) {
  ENTER(cuKernelGetAttribute);
  auto *kernel = static_cast<Function *>(handle);
  TRY(check_kernel(k_cuKernelGetAttribute, kernel));
  if (state().device(device) == nullptr) return kInvalidDevice;
  if (value == nullptr) return kInvalidValue;
  return function_attribute(kernel, attribute, device, value);
}

FAKE_API_NEW int cuKernelSetAttribute(int attribute, int value, void *handle, int device) {
  ENTER(cuKernelSetAttribute);
  auto *kernel = static_cast<Function *>(handle);
  TRY(check_kernel(k_cuKernelSetAttribute, kernel));
  if (state().device(device) == nullptr) return kInvalidDevice;
  return set_function_attribute(kernel, attribute, device, value);
}

FAKE_API_NEW int cuKernelGetParamInfo(void *handle, size_t index, size_t *offset, size_t *size) {
  ENTER(cuKernelGetParamInfo);
  auto *kernel = static_cast<Function *>(handle);
  TRY(check_kernel(k_cuKernelGetParamInfo, kernel));
  return param_info(*kernel, index, offset, size);
}

// ---- Launch -------------------------------------------------------------------------------------------

FAKE_API int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                            unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                            void *stream, void **params, void **extra) {
  ENTER(cuLaunchKernel);
  const LaunchConfig config = {
      {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, nullptr, 0};
  return launch(k_cuLaunchKernel, config, function, params, extra);
}

FAKE_API int cuLaunchKernelEx(const LaunchConfig *config, void *function, void **params, void **extra) {
  ENTER(cuLaunchKernelEx);
  if (config == nullptr || (config->attribute_count != 0 && config->attributes == nullptr))
    return kInvalidValue;
  return launch(k_cuLaunchKernelEx, *config, function, params, extra);
}

// ---- Memory -------------------------------------------------------------------------------------------

static int allocate(uint64_t *address, size_t bytes) {
  if (address == nullptr || bytes == 0) return kInvalidValue;
  void *block = state().memory.allocate(bytes);
  if (block == nullptr) return kOutOfMemory;
  *address = reinterpret_cast<uintptr_t>(block);
  return kOk;
}

FAKE_API int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  ENTER(cuMemAlloc_v2);
  Context *context = nullptr;
  TRY(current_context(&context));
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  return allocate(address, bytes);
}

FAKE_API int cuMemFree_v2(uint64_t address) {
  ENTER(cuMemFree_v2);
  Context *context = nullptr;
  TRY(current_context(&context));
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  return state().memory.release(reinterpret_cast<void *>(address)) ? kOk : kInvalidValue;
}

// Work for a stream: refused where its capture is lost, and on the default stream beside one.
static int work_on(Call call, void *handle, StreamRef *stream, bool *captured) {
  TRY(resolve_stream(call, handle, stream));
  *captured = false;
  if (stream->stream == nullptr) return state().implicit_capture(stream->context) ? kCaptureImplicit : kOk;
  const int status = stream->stream->capture.status.load();
  *captured = status != kNone;
  return status == kInvalidated ? kCaptureInvalidated : kOk;
}

// `pool` null: the one of the stream's device.
static int allocate_async(Call call, uint64_t *address, size_t bytes, void *handle, Pool *pool) {
  StreamRef stream;
  bool captured = false;
  TRY(work_on(call, handle, &stream, &captured));
  if (address == nullptr || bytes == 0) return kInvalidValue;
  const int device = pool != nullptr ? pool->device : stream.context->device;
  void *block = state().memory.allocate_in_stream(bytes, device, captured, pool);
  if (block == nullptr) return kOutOfMemory;
  *address = reinterpret_cast<uintptr_t>(block);
  return kOk;
}

FAKE_API int cuMemAllocAsync(uint64_t *address, size_t bytes, void *handle) {
  ENTER(cuMemAllocAsync);
  return allocate_async(k_cuMemAllocAsync, address, bytes, handle, nullptr);
}

FAKE_API int cuMemAllocFromPoolAsync(uint64_t *address, size_t bytes, void *pool, void *handle) {
  ENTER(cuMemAllocFromPoolAsync);
  TRY(check_handle(k_cuMemAllocFromPoolAsync, "the pool", static_cast<Pool *>(pool)));
  return allocate_async(k_cuMemAllocFromPoolAsync, address, bytes, handle, static_cast<Pool *>(pool));
}

FAKE_API int cuMemFreeAsync(uint64_t address, void *handle) {
  ENTER(cuMemFreeAsync);
  StreamRef stream;
  bool captured = false;
  TRY(work_on(k_cuMemFreeAsync, handle, &stream, &captured));
  const std::string fault = state().memory.release_in_stream(reinterpret_cast<void *>(address), captured);
  if (fault.empty()) return kOk;
  recorder().violate("cuMemFreeAsync: " + fault);
  return kInvalidValue;
}

FAKE_API int cuMemsetD8Async(uint64_t address, unsigned char value, size_t bytes, void *handle) {
  ENTER(cuMemsetD8Async);
  StreamRef stream;
  bool captured = false;
  TRY(work_on(k_cuMemsetD8Async, handle, &stream, &captured));
  if (!captured) timeline().work(kAskNs, kFillNs + bytes / kBytesPerNs);
  const std::string fault = state().memory.fill(reinterpret_cast<void *>(address), value, bytes);
  if (fault.empty()) return kOk;
  recorder().violate("cuMemsetD8Async: " + fault);
  return kInvalidValue;
}

// Like a load, it is refused in a capture whose mode is not relaxed.
FAKE_API int cuMemPoolCreate(void **pool, const PoolProps *props) {
  ENTER(cuMemPoolCreate);
  if (pool == nullptr || props == nullptr) return kInvalidValue;
  if (!are_plain(*props, state().machine().devices.size())) return kInvalidValue;
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  *pool = state().memory.create_pool(props->location);
  return kOk;
}

FAKE_API int cuMemPoolSetAttribute(void *handle, int attribute, void *value) {
  ENTER(cuMemPoolSetAttribute);
  auto *pool = static_cast<Pool *>(handle);
  TRY(check_handle(k_cuMemPoolSetAttribute, "the pool", pool));
  if (attribute != kReleaseThreshold || value == nullptr) return kInvalidValue;
  state().memory.set_threshold(pool, *static_cast<const uint64_t *>(value));
  return kOk;
}

// Memory that is still in use stays until it is given back.
FAKE_API int cuMemPoolDestroy(void *handle) {
  ENTER(cuMemPoolDestroy);
  auto *pool = static_cast<Pool *>(handle);
  TRY(check_handle(k_cuMemPoolDestroy, "the pool", pool));
  pool->life.store(Life::kDead);
  return kOk;
}

FAKE_API int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
  ENTER(cuMemcpyHtoD_v2);
  Context *context = nullptr;
  TRY(current_context(&context));
  if (bytes != 0) std::memcpy(reinterpret_cast<void *>(to), from, bytes);
  return kOk;
}

FAKE_API int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
  ENTER(cuMemcpyDtoH_v2);
  Context *context = nullptr;
  TRY(current_context(&context));
  if (bytes != 0) std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
  return kOk;
}

FAKE_API int cuMemGetInfo_v2(size_t *left, size_t *total) {
  ENTER(cuMemGetInfo_v2);
  Context *context = nullptr;
  TRY(current_context(&context));
  if (left == nullptr || total == nullptr) return kInvalidValue;
  *left = state().memory.left();
  *total = state().memory.capacity();
  return kOk;
}

// A copy in a stream's order, at once. `to_device`, `from_device`: the driver's memory, not the host's.
static int copy_async(Call call, uint64_t to, bool to_device, uint64_t from, bool from_device, size_t bytes,
                      void *handle) {
  StreamRef stream;
  bool captured = false;
  TRY(work_on(call, handle, &stream, &captured));
  std::string fault = to_device ? state().memory.bounds(to, bytes) : "";
  if (fault.empty() && from_device) fault = state().memory.bounds(from, bytes);
  if (!fault.empty()) {
    recorder().violate(std::string(recorder().name(call)) + ": " + fault);
    return kInvalidValue;
  }
  if (captured) return kOk;
  timeline().work(kAskNs, kCopyNs + bytes / kBytesPerNs);
  std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
  return kOk;
}

FAKE_API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  ENTER(cuMemcpyDtoDAsync_v2);
  return copy_async(k_cuMemcpyDtoDAsync_v2, to, true, from, true, bytes, stream);
}

FAKE_API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  ENTER(cuMemcpyDtoHAsync_v2);
  return copy_async(k_cuMemcpyDtoHAsync_v2, reinterpret_cast<uintptr_t>(to), false, from, true, bytes,
                    stream);
}

FAKE_API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  ENTER(cuMemcpyHtoDAsync_v2);
  return copy_async(k_cuMemcpyHtoDAsync_v2, to, true, reinterpret_cast<uintptr_t>(from), false, bytes,
                    stream);
}

// ---- Events -------------------------------------------------------------------------------------------

FAKE_API int cuEventCreate(void **event, unsigned flags) {
  ENTER(cuEventCreate);
  if (event == nullptr || flags > 3) return kInvalidValue;
  Context *context = nullptr;
  TRY(current_context(&context));
  *event = state().create_event(context);
  return kOk;
}

FAKE_API int cuEventDestroy_v2(void *handle) {
  ENTER(cuEventDestroy_v2);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_cuEventDestroy_v2, "the event", event));
  event->life.store(Life::kDead);
  return kOk;
}

FAKE_API int cuEventRecord(void *handle, void *stream_handle) {
  ENTER(cuEventRecord);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_cuEventRecord, "the event", event));
  StreamRef stream;
  bool captured = false;
  TRY(work_on(k_cuEventRecord, stream_handle, &stream, &captured));
  if (event->context != stream.context) return kInvalidHandle;
  if (!captured) record_event(event);
  return kOk;
}

FAKE_API int cuEventQuery(void *handle) {
  ENTER(cuEventQuery);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_cuEventQuery, "the event", event));
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  return timeline().reached(event->at_ns.load()) ? static_cast<int>(kOk) : static_cast<int>(kEventNotReady);
}

FAKE_API int cuEventSynchronize(void *handle) {
  ENTER(cuEventSynchronize);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_cuEventSynchronize, "the event", event));
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  timeline().wait(event->at_ns.load());
  return kOk;
}

FAKE_API int cuEventElapsedTime(float *ms, void *begin_handle, void *end_handle) {
  ENTER(cuEventElapsedTime);
  auto *begin = static_cast<Event *>(begin_handle);
  auto *end = static_cast<Event *>(end_handle);
  TRY(check_handle(k_cuEventElapsedTime, "the event", begin));
  TRY(check_handle(k_cuEventElapsedTime, "the event", end));
  return ms == nullptr ? static_cast<int>(kInvalidValue) : event_elapsed(*begin, *end, ms);
}

// ---- Errors and addresses -----------------------------------------------------------------------------

FAKE_API int cuGetErrorName(int code, const char **text) {
  if (const int fault = recorder().enter(k_cuGetErrorName); fault != 0) return fault;
  if (text == nullptr) return kInvalidValue;
  const ErrorText *row = find_error(code);
  *text = row != nullptr ? row->name : nullptr;
  return row != nullptr ? kOk : kInvalidValue;
}

FAKE_API int cuGetErrorString(int code, const char **text) {
  if (const int fault = recorder().enter(k_cuGetErrorString); fault != 0) return fault;
  if (text == nullptr) return kInvalidValue;
  const ErrorText *row = find_error(code);
  *text = row != nullptr ? row->text : nullptr;
  return row != nullptr ? kOk : kInvalidValue;
}

// By base name: "cuMemAlloc" is cuMemAlloc_v2. Not finding one is no error: the address is null.
FAKE_API_NEW int cuGetProcAddress_v2(const char *symbol, void **address, int version, uint64_t, int *status) {
  enum { kFound = 0, kSymbolNotFound = 1, kVersionNotSufficient = 2 };
  struct Address {
    const char *name;
    int since;
    void *address;
  };
  static const Address kAddresses[] = {
#define FAKE_X(name, since) {#name, since, reinterpret_cast<void *>(&name)},
      CUDA_CALLS(FAKE_X)
#undef FAKE_X
  };
  if (const int fault = recorder().enter(k_cuGetProcAddress_v2); fault != 0) return fault;
  if (symbol == nullptr || address == nullptr) return kInvalidValue;
  if (version > state().machine().driver_version) return kInvalidValue;
  *address = nullptr;
  int found = kSymbolNotFound;
  unsigned call = 0;
  for (const Address &row : kAddresses) {
    const size_t length = std::strlen(symbol);
    const bool same = std::strncmp(row.name, symbol, length) == 0 &&
                      (std::strcmp(row.name + length, "_v2") == 0 ||
                       (row.name[length] == '\0' && std::strstr(row.name, "_v2") == nullptr));
    if (same && !recorder().hidden(call)) {
      found = row.since <= version ? kFound : kVersionNotSufficient;
      if (found == kFound) *address = row.address;
    }
    ++call;
  }
  if (status != nullptr) *status = found;
  return kOk;
}

FAKE_DEFINE_CONTROLS(fake_cuda_)
#define FAKE_X(result, name, arguments) FAKE_CHECK_CONTROL(fake_cuda_##name, result, arguments);
FAKE_CONTROLS(FAKE_X)
#undef FAKE_X
