// The exported entry points of the fake libamdhip64.so: each enters, checks its handles, and forwards.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "hip_state.h"

using namespace fakes;  // NOLINT: this file is the library's outside

namespace {

struct ErrorText {
  int code;
  const char *name;
  const char *text;
};
constexpr ErrorText kErrors[] = {
    {0, "hipSuccess", "no error"},
    {1, "hipErrorInvalidValue", "invalid argument"},
    {2, "hipErrorOutOfMemory", "out of memory"},
    {3, "hipErrorNotInitialized", "initialization error"},
    {9, "hipErrorInvalidConfiguration", "invalid configuration argument"},
    {100, "hipErrorNoDevice", "no ROCm-capable device is detected"},
    {101, "hipErrorInvalidDevice", "invalid device ordinal"},
    {200, "hipErrorInvalidImage", "device kernel image is invalid"},
    {201, "hipErrorInvalidContext", "invalid device context"},
    {209, "hipErrorNoBinaryForGpu", "no kernel image is available for execution on the device"},
    {301, "hipErrorFileNotFound", "file not found"},
    {400, "hipErrorInvalidHandle", "invalid resource handle"},
    {401, "hipErrorIllegalState", "the operation cannot be performed in the present state"},
    {500, "hipErrorNotFound", "named symbol not found"},
    {600, "hipErrorNotReady", "device not ready"},
    {700, "hipErrorIllegalAddress", "an illegal memory access was encountered"},
    {709, "hipErrorContextIsDestroyed", "context is destroyed"},
    {719, "hipErrorLaunchFailure", "unspecified launch failure"},
    {720, "hipErrorCooperativeLaunchTooLarge", "too many blocks in cooperative launch"},
    {801, "hipErrorNotSupported", "operation not supported"},
    {900, "hipErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {901, "hipErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
    {908, "hipErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {999, "hipErrorUnknown", "unknown error"},
};

const ErrorText &find_error(int code) {
  for (const ErrorText &row : kErrors) {
    if (row.code == code) return row;
  }
  return kErrors[sizeof kErrors / sizeof kErrors[0] - 1];
}

thread_local int t_last_error = kOk;

// Every entry point ends here: an error stays until hipGetLastError takes it.
int done(int code) {
  if (code != kOk) t_last_error = code;
  return code;
}

// The error an entry point shall fail with, or hipErrorNoDevice on a machine without one.
int enter(Call call) {
  const int fault = recorder().enter(call);
  if (fault != 0) return fault;
  if (const int broken = kernels().broken.load(std::memory_order_relaxed); broken != 0) return broken;
  return state().machine().devices.empty() ? kNoDevice : kOk;
}

int fill_properties(unsigned char *out, int ordinal, const PropertyOffsets &at) {
  const Device *device = state().device(ordinal);
  if (out == nullptr) return kInvalidValue;
  if (device == nullptr) return kInvalidDevice;
  const auto put = [out](size_t offset, auto value) { std::memcpy(out + offset, &value, sizeof value); };
  std::memset(out, 0, at.size);
  std::snprintf(reinterpret_cast<char *>(out), 256, "fake %s", device->arch_name.c_str());
  put(at.global_bytes, size_t{64} << 30);
  put(at.shared_bytes, size_t{device->shared_bytes});
  put(at.registers, 65536);
  put(at.warp_size, static_cast<int>(device->warp_size));
  put(at.max_threads, 1024);
  for (size_t i = 0; i < 3; ++i) {
    put(at.max_block + 4 * i, 1024);
    put(at.max_grid + 4 * i, i == 0 ? 0x7fffffff : 65536);
  }
  put(at.major, device->major);
  put(at.minor, device->minor);
  put(at.multiprocessors, static_cast<int>(device->multiprocessors));
  std::snprintf(reinterpret_cast<char *>(out) + at.gcn_arch_name, 256, "%s", device->arch_name.c_str());
  return kOk;
}

int device_attribute(const Device &device, int attribute, int *value) {
  switch (attribute) {
    case kDevL2: *value = kL2Bytes; return kOk;
    case kDevMajor: *value = device.major; return kOk;
    case kDevMinor: *value = device.minor; return kOk;
    case kDevWarpSize: *value = static_cast<int>(device.warp_size); return kOk;
    case kDevMultiprocessors: *value = static_cast<int>(device.multiprocessors); return kOk;
    case kDevMaxThreads:
    case kDevMaxBlockX:
    case kDevMaxBlockY:
    case kDevMaxBlockZ: *value = 1024; return kOk;
    case kDevMaxGridX: *value = 0x7fffffff; return kOk;
    case kDevMaxGridY:
    case kDevMaxGridZ: *value = 65536; return kOk;
    case kDevShared:
    case kDevSharedOptin:
    case kDevSharedPerMultiprocessor: *value = static_cast<int>(device.shared_bytes); return kOk;
    case kDevRegisters: *value = 65536; return kOk;
    case kDevCooperative:
    case kDevMemoryPools: *value = 1; return kOk;
    default: return kInvalidValue;
  }
}

int load_module(void **out, const void *data) {
  if (out == nullptr || data == nullptr) return kInvalidValue;
  const int64_t refused = state().file_backed_error.load();
  if (refused != 0 && file_backed(data)) return static_cast<int>(refused);
  Image image;
  if (parse_hip(data, &image) != Parsed::kOk) return kInvalidImage;
  const int ordinal = current_device();
  const auto address = reinterpret_cast<uintptr_t>(data);
  if (address % 64 != 0) {
    recorder().violate("hipModuleLoadData: the image at " + hex(address) + " is not aligned to 64 bytes");
  }
  if (address % 4096 != 0) recorder().loaded_unaligned();
  if (!runs_on(image.elf_flags, *state().device(ordinal))) return kNoBinaryForGpu;
  *out = state().create_module(ordinal, std::move(image));
  recorder().loaded(ordinal);
  return kOk;
}

// ROCm 6 aborts the process in a guarantee(): here it is a violation and an error.
int get_function(void **out, Module *module, const char *name) {
  if (const int error = check_handle(k_hipModuleGetFunction, "the module", module); error != kOk)
    return error;
  if (out == nullptr || name == nullptr) return kInvalidValue;
  if (module->device != current_device()) {
    recorder().violate("hipModuleGetFunction: '" + std::string(name) + "': the module was loaded on device " +
                       std::to_string(module->device) + " and the current device is " +
                       std::to_string(current_device()) + ": process abort in ROCm 6");
    return kInvalidHandle;
  }
  *out = state().function(module, name);
  return *out != nullptr ? kOk : kNotFound;
}

int unload(Module *module) {
  if (const int error = check_handle(k_hipModuleUnload, "the module", module); error != kOk) return error;
  if (state().captures.forbids_unsafe_call()) return kCaptureUnsupported;
  check_intact("hipModuleUnload", module->image);
  state().destroy(module);
  return kOk;
}

int function_attribute(const Function &function, int attribute, int *value) {
  const Kernel &kernel = *function.kernel;
  switch (attribute) {
    case kFnMaxThreads:
      *value = static_cast<int>(kernel.max_threads != 0 ? kernel.max_threads : 1024);
      return kOk;
    case kFnStaticShared: *value = static_cast<int>(kernel.static_shared_bytes); return kOk;
    case kFnLocal: *value = static_cast<int>(kernel.local_bytes); return kOk;
    case kFnRegisters: *value = static_cast<int>(kernel.registers); return kOk;
    case kFnMaxDynamicShared:
      *value = static_cast<int>(state().device(function.module->device)->shared_bytes -
                                kernel.static_shared_bytes);
      return kOk;
    default: *value = 0; return attribute >= 0 && attribute <= kFnLast ? kOk : kInvalidValue;
  }
}

int allocate(void **out, size_t bytes) {
  if (out == nullptr) return kInvalidValue;
  *out = nullptr;
  if (bytes == 0) return kOk;
  *out = state().memory.allocate(bytes);
  return *out != nullptr ? kOk : kOutOfMemory;
}

int create_stream(void **out) {
  if (out == nullptr) return kInvalidValue;
  *out = state().create_stream(current_device());
  return kOk;
}

// The stream behind a handle that is no special one.
int own_stream(Call call, void *handle, Stream **out) {
  StreamRef ref;
  if (const int error = resolve_stream(call, handle, &ref); error != kOk) return error;
  *out = ref.stream;
  return kOk;
}

}  // namespace

#define ENTER(name)                                                                \
  do {                                                                             \
    if (const int entered = enter(k_##name); entered != kOk) return done(entered); \
  } while (false)
#define TRY(expression)                                                   \
  do {                                                                    \
    if (const int tried = (expression); tried != kOk) return done(tried); \
  } while (false)

// ---- Devices ------------------------------------------------------------------------------------------

FAKE_API int hipInit(unsigned flags) {
  ENTER(hipInit);
  return done(flags == 0 ? kOk : kInvalidValue);
}

FAKE_API int hipRuntimeGetVersion(int *version) {
  if (const int fault = recorder().enter(k_hipRuntimeGetVersion); fault != 0) return done(fault);
  if (version == nullptr) return done(kInvalidValue);
  *version = state().machine().version;
  return kOk;
}

FAKE_API int hipDriverGetVersion(int *version) {
  if (const int fault = recorder().enter(k_hipDriverGetVersion); fault != 0) return done(fault);
  if (version == nullptr) return done(kInvalidValue);
  *version = state().machine().version;
  return kOk;
}

FAKE_API int hipGetDeviceCount(int *count) {
  if (count != nullptr) *count = 0;
  ENTER(hipGetDeviceCount);
  if (count == nullptr) return done(kInvalidValue);
  *count = static_cast<int>(state().machine().devices.size());
  return kOk;
}

FAKE_API int hipGetDevice(int *device) {
  ENTER(hipGetDevice);
  if (device == nullptr) return done(kInvalidValue);
  *device = current_device();
  return kOk;
}

FAKE_API int hipSetDevice(int device) {
  ENTER(hipSetDevice);
  if (state().device(device) == nullptr) return done(kInvalidDevice);
  current_device() = device;
  return kOk;
}

FAKE_API int hipDeviceGetName(char *name, int bytes, int device) {
  ENTER(hipDeviceGetName);
  if (name == nullptr || bytes <= 0) return done(kInvalidValue);
  if (state().device(device) == nullptr) return done(kInvalidDevice);
  std::snprintf(name, static_cast<size_t>(bytes), "fake %s", state().device(device)->arch_name.c_str());
  return kOk;
}

FAKE_API int hipDeviceGetAttribute(int *value, int attribute, int device) {
  ENTER(hipDeviceGetAttribute);
  if (value == nullptr) return done(kInvalidValue);
  if (state().device(device) == nullptr) return done(kInvalidDevice);
  return done(device_attribute(*state().device(device), attribute, value));
}

FAKE_API int hipGetDeviceProperties(void *properties, int device) {
  ENTER(hipGetDeviceProperties);
  return done(fill_properties(static_cast<unsigned char *>(properties), device, kPropertiesR0000));
}

FAKE_API_NEW int hipGetDevicePropertiesR0600(void *properties, int device) {
  ENTER(hipGetDevicePropertiesR0600);
  return done(fill_properties(static_cast<unsigned char *>(properties), device, kPropertiesR0600));
}

FAKE_API int hipDeviceSynchronize() {
  ENTER(hipDeviceSynchronize);
  return done(state().captures.forbids_unsafe_call() ? kCaptureUnsupported : kOk);
}

// ---- Streams and captures -----------------------------------------------------------------------------

FAKE_API int hipStreamCreate(void **stream) {
  ENTER(hipStreamCreate);
  return done(create_stream(stream));
}

FAKE_API int hipStreamCreateWithFlags(void **stream, unsigned flags) {
  ENTER(hipStreamCreateWithFlags);
  return done(flags > 1 ? static_cast<int>(kInvalidValue) : create_stream(stream));
}

FAKE_API int hipStreamDestroy(void *handle) {
  ENTER(hipStreamDestroy);
  Stream *stream = nullptr;
  TRY(own_stream(k_hipStreamDestroy, handle, &stream));
  if (stream == nullptr) return done(kInvalidHandle);
  stream->life.store(Life::kDead);
  return kOk;
}

FAKE_API int hipStreamSynchronize(void *handle) {
  ENTER(hipStreamSynchronize);
  Stream *stream = nullptr;
  TRY(own_stream(k_hipStreamSynchronize, handle, &stream));
  timeline().wait_all();
  if (stream == nullptr) return done(state().captures.forbids_unsafe_call() ? kCaptureUnsupported : kOk);
  if (stream->capture.status.load() == kNone) return kOk;
  state().captures.invalidate(&stream->capture);
  return done(kCaptureUnsupported);
}

FAKE_API int hipStreamGetDevice(void *handle, int *device) {
  ENTER(hipStreamGetDevice);
  if (device == nullptr) return done(kInvalidValue);
  StreamRef stream;
  TRY(resolve_stream(k_hipStreamGetDevice, handle, &stream));
  *device = stream.device;
  return kOk;
}

FAKE_API int hipStreamIsCapturing(void *handle, int *status) {
  ENTER(hipStreamIsCapturing);
  if (status == nullptr) return done(kInvalidValue);
  Stream *stream = nullptr;
  TRY(own_stream(k_hipStreamIsCapturing, handle, &stream));
  *status = stream != nullptr ? stream->capture.status.load() : static_cast<int>(kNone);
  return kOk;
}

FAKE_API int hipStreamBeginCapture(void *handle, int mode) {
  ENTER(hipStreamBeginCapture);
  Stream *stream = nullptr;
  TRY(own_stream(k_hipStreamBeginCapture, handle, &stream));
  if (stream == nullptr) return done(kCaptureUnsupported);
  return done(state().captures.begin(&stream->capture, mode));
}

FAKE_API int hipStreamEndCapture(void *handle, void **graph) {
  ENTER(hipStreamEndCapture);
  if (graph == nullptr) return done(kInvalidValue);
  *graph = nullptr;
  Stream *stream = nullptr;
  TRY(own_stream(k_hipStreamEndCapture, handle, &stream));
  if (stream == nullptr) return done(kIllegalState);
  TRY(state().captures.end(&stream->capture));
  *graph = stream;  // something that is not null; there are no graphs here
  return kOk;
}

FAKE_API int hipThreadExchangeStreamCaptureMode(int *mode) {
  ENTER(hipThreadExchangeStreamCaptureMode);
  return done(state().captures.exchange_mode(mode));
}

// ---- Modules ------------------------------------------------------------------------------------------

FAKE_API int hipModuleLoadData(void **module, const void *image) {
  ENTER(hipModuleLoadData);
  return done(load_module(module, image));
}

FAKE_API int hipModuleUnload(void *module) {
  ENTER(hipModuleUnload);
  return done(unload(static_cast<Module *>(module)));
}

FAKE_API int hipModuleGetFunction(void **function, void *module, const char *name) {
  ENTER(hipModuleGetFunction);
  return done(get_function(function, static_cast<Module *>(module), name));
}

FAKE_API int hipFuncGetAttribute(int *value, int attribute, void *handle) {
  ENTER(hipFuncGetAttribute);
  auto *function = static_cast<Function *>(handle);
  if (value == nullptr) return done(kInvalidValue);
  TRY(check_handle(k_hipFuncGetAttribute, "the function", function));
  return done(function_attribute(*function, attribute, value));
}

// ---- Launch -------------------------------------------------------------------------------------------

FAKE_API int hipModuleLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                   unsigned block_x, unsigned block_y, unsigned block_z,
                                   unsigned shared_bytes, void *stream, void **params, void **extra) {
  ENTER(hipModuleLaunchKernel);
  const LaunchConfig config = {
      {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, nullptr, 0};
  return done(launch(k_hipModuleLaunchKernel, config, function, params, extra));
}

FAKE_API int hipModuleLaunchCooperativeKernel(void *function, unsigned grid_x, unsigned grid_y,
                                              unsigned grid_z, unsigned block_x, unsigned block_y,
                                              unsigned block_z, unsigned shared_bytes, void *stream,
                                              void **params) {
  ENTER(hipModuleLaunchCooperativeKernel);
  const LaunchConfig config = {
      {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, nullptr, 0};
  return done(launch(k_hipModuleLaunchCooperativeKernel, config, function, params, nullptr));
}

FAKE_API_NEW int hipDrvLaunchKernelEx(const LaunchConfig *config, void *function, void **params,
                                      void **extra) {
  ENTER(hipDrvLaunchKernelEx);
  if (config == nullptr || (config->attribute_count != 0 && config->attributes == nullptr)) {
    return done(kInvalidValue);
  }
  return done(launch(k_hipDrvLaunchKernelEx, *config, function, params, extra));
}

// As many blocks as have their threads and their LDS.
FAKE_API int hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *handle, int threads,
                                                                size_t shared_bytes) {
  ENTER(hipModuleOccupancyMaxActiveBlocksPerMultiprocessor);
  auto *function = static_cast<Function *>(handle);
  TRY(check_handle(k_hipModuleOccupancyMaxActiveBlocksPerMultiprocessor, "the function", function));
  if (blocks == nullptr || threads <= 0) return done(kInvalidValue);
  // CLR looks the function up on the current device.
  if (function->module->device != current_device()) return done(kInvalidDevice);
  *blocks = static_cast<int>(blocks_at_once(*function->kernel, static_cast<uint32_t>(threads), shared_bytes,
                                            *state().device(function->module->device)));
  return kOk;
}

// ---- Memory -------------------------------------------------------------------------------------------

FAKE_API int hipMalloc(void **out, size_t bytes) {
  ENTER(hipMalloc);
  if (state().captures.forbids_unsafe_call()) return done(kCaptureUnsupported);
  return done(allocate(out, bytes));
}

FAKE_API int hipFree(void *address) {
  ENTER(hipFree);
  if (state().captures.forbids_unsafe_call()) return done(kCaptureUnsupported);
  return done(state().memory.release(address) ? kOk : kInvalidValue);
}

// Work for a stream: refused where its capture is lost.
static int work_on(Call call, void *handle, StreamRef *ref, bool *captured) {
  if (const int error = resolve_stream(call, handle, ref); error != kOk) return error;
  const int status = ref->stream != nullptr ? ref->stream->capture.status.load() : static_cast<int>(kNone);
  *captured = status != kNone;
  return status == kInvalidated ? kCaptureInvalidated : kOk;
}

// `pool` null: the one of the stream's device.
static int allocate_async(Call call, void **out, size_t bytes, void *handle, Pool *pool) {
  StreamRef ref;
  bool captured = false;
  if (const int error = work_on(call, handle, &ref, &captured); error != kOk) return error;
  if (out == nullptr) return kInvalidValue;
  *out = nullptr;
  if (const int64_t refused = state().capture_allocation_error.load(); captured && refused != 0) {
    state().captures.invalidate(&ref.stream->capture);
    return static_cast<int>(refused);
  }
  if (bytes == 0) return kOk;
  *out =
      state().memory.allocate_in_stream(bytes, pool != nullptr ? pool->device : ref.device, captured, pool);
  return *out != nullptr ? kOk : kOutOfMemory;
}

FAKE_API int hipMallocAsync(void **out, size_t bytes, void *stream) {
  ENTER(hipMallocAsync);
  return done(allocate_async(k_hipMallocAsync, out, bytes, stream, nullptr));
}

FAKE_API int hipMallocFromPoolAsync(void **out, size_t bytes, void *pool, void *stream) {
  ENTER(hipMallocFromPoolAsync);
  TRY(check_handle(k_hipMallocFromPoolAsync, "the pool", static_cast<Pool *>(pool), kInvalidValue));
  return done(allocate_async(k_hipMallocFromPoolAsync, out, bytes, stream, static_cast<Pool *>(pool)));
}

FAKE_API int hipFreeAsync(void *address, void *stream) {
  ENTER(hipFreeAsync);
  StreamRef ref;
  bool captured = false;
  TRY(work_on(k_hipFreeAsync, stream, &ref, &captured));
  const std::string fault = state().memory.release_in_stream(address, captured);
  if (fault.empty()) return kOk;
  recorder().violate("hipFreeAsync: " + fault);
  return done(kInvalidValue);
}

FAKE_API int hipMemsetAsync(void *address, int value, size_t bytes, void *stream) {
  ENTER(hipMemsetAsync);
  StreamRef ref;
  bool captured = false;
  TRY(work_on(k_hipMemsetAsync, stream, &ref, &captured));
  if (!captured) timeline().work(kAskNs, kFillNs + bytes / kBytesPerNs);
  const std::string fault = state().memory.fill(address, value, bytes);
  if (fault.empty()) return kOk;
  recorder().violate("hipMemsetAsync: " + fault);
  return done(kInvalidValue);
}

FAKE_API int hipMemPoolCreate(void **pool, const PoolProps *props) {
  ENTER(hipMemPoolCreate);
  if (pool == nullptr || props == nullptr) return done(kInvalidValue);
  if (!are_plain(*props, state().machine().devices.size())) return done(kInvalidValue);
  if (state().captures.forbids_unsafe_call()) return done(kCaptureUnsupported);
  *pool = state().memory.create_pool(props->location);
  return kOk;
}

FAKE_API int hipMemPoolSetAttribute(void *handle, int attribute, void *value) {
  ENTER(hipMemPoolSetAttribute);
  auto *pool = static_cast<Pool *>(handle);
  TRY(check_handle(k_hipMemPoolSetAttribute, "the pool", pool, kInvalidValue));
  if (attribute != kReleaseThreshold || value == nullptr) return done(kInvalidValue);
  state().memory.set_threshold(pool, *static_cast<const uint64_t *>(value));
  return kOk;
}

FAKE_API int hipMemPoolDestroy(void *handle) {
  ENTER(hipMemPoolDestroy);
  auto *pool = static_cast<Pool *>(handle);
  TRY(check_handle(k_hipMemPoolDestroy, "the pool", pool, kInvalidValue));
  pool->life.store(Life::kDead);
  return kOk;
}

FAKE_API int hipMemcpy(void *to, const void *from, size_t bytes, int kind) {
  ENTER(hipMemcpy);
  if (kind < 0 || kind > 4 || (bytes != 0 && (to == nullptr || from == nullptr))) return done(kInvalidValue);
  if (bytes != 0) std::memcpy(to, from, bytes);
  return kOk;
}

FAKE_API int hipMemGetInfo(size_t *left, size_t *total) {
  ENTER(hipMemGetInfo);
  if (left == nullptr || total == nullptr) return done(kInvalidValue);
  *left = state().memory.left();
  *total = state().memory.capacity();
  return kOk;
}

FAKE_API int hipMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *handle) {
  ENTER(hipMemcpyAsync);
  enum { kToDevice = 1, kToHost = 2, kOnDevice = 3 };
  if (kind < kToDevice || kind > kOnDevice) return done(kInvalidValue);
  StreamRef ref;
  bool captured = false;
  TRY(work_on(k_hipMemcpyAsync, handle, &ref, &captured));
  std::string fault;
  if (kind != kToHost) fault = state().memory.bounds(reinterpret_cast<uintptr_t>(to), bytes);
  if (fault.empty() && kind != kToDevice) {
    fault = state().memory.bounds(reinterpret_cast<uintptr_t>(from), bytes);
  }
  if (!fault.empty()) {
    recorder().violate("hipMemcpyAsync: " + fault);
    return done(kInvalidValue);
  }
  if (captured) return kOk;
  timeline().work(kAskNs, kCopyNs + bytes / kBytesPerNs);
  std::memmove(to, from, bytes);
  return kOk;
}

// ---- Events -------------------------------------------------------------------------------------------

FAKE_API int hipEventCreateWithFlags(void **event, unsigned flags) {
  ENTER(hipEventCreateWithFlags);
  if (event == nullptr || flags > 3) return done(kInvalidValue);
  *event = state().create_event(current_device());
  return kOk;
}

FAKE_API int hipEventDestroy(void *handle) {
  ENTER(hipEventDestroy);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_hipEventDestroy, "the event", event));
  event->life.store(Life::kDead);
  return kOk;
}

FAKE_API int hipEventRecord(void *handle, void *stream_handle) {
  ENTER(hipEventRecord);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_hipEventRecord, "the event", event));
  StreamRef ref;
  bool captured = false;
  TRY(work_on(k_hipEventRecord, stream_handle, &ref, &captured));
  if (event->device != ref.device) return done(kInvalidHandle);
  if (!captured) record_event(event);
  return kOk;
}

FAKE_API int hipEventQuery(void *handle) {
  ENTER(hipEventQuery);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_hipEventQuery, "the event", event));
  if (state().captures.forbids_unsafe_call()) return done(kCaptureUnsupported);
  return timeline().reached(event->at_ns.load()) ? static_cast<int>(kOk) : done(kEventNotReady);
}

FAKE_API int hipEventSynchronize(void *handle) {
  ENTER(hipEventSynchronize);
  auto *event = static_cast<Event *>(handle);
  TRY(check_handle(k_hipEventSynchronize, "the event", event));
  if (state().captures.forbids_unsafe_call()) return done(kCaptureUnsupported);
  timeline().wait(event->at_ns.load());
  return kOk;
}

FAKE_API int hipEventElapsedTime(float *ms, void *begin_handle, void *end_handle) {
  ENTER(hipEventElapsedTime);
  auto *begin = static_cast<Event *>(begin_handle);
  auto *end = static_cast<Event *>(end_handle);
  TRY(check_handle(k_hipEventElapsedTime, "the event", begin));
  TRY(check_handle(k_hipEventElapsedTime, "the event", end));
  return done(ms == nullptr ? static_cast<int>(kInvalidValue) : event_elapsed(*begin, *end, ms));
}

// ---- Errors -------------------------------------------------------------------------------------------

FAKE_API const char *hipGetErrorName(int code) {
  recorder().enter(k_hipGetErrorName);
  return find_error(code).name;
}

FAKE_API const char *hipGetErrorString(int code) {
  recorder().enter(k_hipGetErrorString);
  return find_error(code).text;
}

FAKE_API int hipGetLastError() {
  recorder().enter(k_hipGetLastError);
  const int last = t_last_error;
  t_last_error = kOk;
  return last;
}

FAKE_DEFINE_CONTROLS(fake_hip_)
#define FAKE_X(result, name, arguments) FAKE_CHECK_CONTROL(fake_hip_##name, result, arguments);
FAKE_CONTROLS(FAKE_X)
#undef FAKE_X
