#include "cuda_api.h"

#include <pthread.h>

#include "library.h"
#include "message.h"

namespace kpk::cuda {

Api g_api;
int g_version;

namespace {

constexpr int kMaxThreadsPerBlock = 1, kMaxGridDimX = 5, kCapabilityMajor = 75, kCapabilityMinor = 76;
constexpr int kMaxSharedOptin = 97;  // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
constexpr int kMaxRegisters = 12;    // CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK
constexpr int kClusterLaunch = 120;  // CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH
constexpr int kMultiprocessors = 16, kL2Bytes = 38;

Device g_devices[kMaxDevices];
int g_device_count;
const char *g_why_not;  // null while CUDA can be used
pthread_once_t g_once = PTHREAD_ONCE_INIT;

const char *error_name(CUresult code) {
  const char *name = nullptr;
  return g_api.error_name(code, &name) == kSuccess && name != nullptr ? name : "unknown CUresult";
}

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
  device->driver = &kDriver;
  device->ordinal = ordinal;
  device->slot = static_cast<uint32_t>(ordinal);
  device->max_threads = static_cast<uint32_t>(attribute(kMaxThreadsPerBlock, native));
  device->max_shared_bytes = static_cast<uint32_t>(attribute(kMaxSharedOptin, native));
  device->max_registers = static_cast<uint32_t>(attribute(kMaxRegisters, native));
  device->has_clusters = attribute(kClusterLaunch, native) != 0;
  device->multiprocessors = static_cast<uint32_t>(attribute(kMultiprocessors, native));
  device->l2_bytes = static_cast<uint64_t>(attribute(kL2Bytes, native));
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
  const bool has_ids = library_function(library, "cuCtxGetId", &g_api.ctx_get_id);
  library_function(library, "cuLaunchKernelEx", &g_api.launch_kernel_ex);
  bool memory = true;
#define KPK_RESOLVE(name, symbol, params) memory = library_function(library, symbol, &g_api.name) && memory;
  KPK_CUDA_MEMORY(KPK_RESOLVE)
#undef KPK_RESOLVE
  bool bench = g_api.memset_async != nullptr && g_api.stream_synchronize != nullptr;
#define KPK_RESOLVE(name, symbol, params) bench = library_function(library, symbol, &g_api.name) && bench;
  KPK_CUDA_BENCH(KPK_RESOLVE)
#undef KPK_RESOLVE
  g_api.has_bench = bench;
  library_function(library, "cuThreadExchangeStreamCaptureMode", &g_api.exchange_capture_mode);
  library_function(library, "cuOccupancyMaxActiveBlocksPerMultiprocessor", &g_api.occupancy_blocks);
  library_function(library, "cuTensorMapEncodeTiled", &g_api.encode_tiled);
  library_function(library, "cuTensorMapEncodeIm2col", &g_api.encode_im2col);
  if (g_api.init(0) != kSuccess || g_api.driver_version(&g_version) != kSuccess) {
    g_why_not = "cuInit failed";
    return;
  }
  g_api.has_ids = has_ids && g_version >= 12000;
  g_api.has_memory = memory && g_version >= 11020;
  library_function(library, "cuOccupancyMaxActiveClusters", &g_api.occupancy_clusters);
  library_function(library, "cuModuleLoadDataEx", &g_api.module_load_ex);
  if (g_version >= 12040) library_function(library, "cuFuncGetParamInfo", &g_api.param_info);
  int count = 0;
  if (g_api.device_count(&count) != kSuccess || count == 0) {
    g_why_not = "libcuda.so.1 has no device";
    return;
  }
  const int most = static_cast<int>(kMaxDevices);
  for (int i = 0; i < count && i < most && describe_device(i, &g_devices[i]); ++i) g_device_count = i + 1;
  if (g_device_count == 0) g_why_not = "no device of libcuda.so.1 could be described";
}

}  // namespace

kpk_status failed(const char *subject, const char *call, CUresult code) {
  const char *words = nullptr;
  g_api.error_string(code, &words);
  if (code == kNotInitialized) words = "was this process forked from one that had used CUDA?";
  const kpk_status status = fail(KPK_ERROR_DRIVER, "%s: %s: %s (%d)%s%s", subject, call, error_name(code),
                                 code, words == nullptr ? "" : ": ", words == nullptr ? "" : words);
  set_driver_code(code);
  return status;
}

}  // namespace kpk::cuda

namespace kpk {

const Driver *cuda_driver(const char **why) {
  pthread_once(&cuda::g_once, cuda::open_driver);
  *why = cuda::g_why_not;
  return cuda::g_why_not == nullptr ? &cuda::kDriver : nullptr;
}

int cuda_device_count() {
  const char *why;
  return cuda_driver(&why) == nullptr ? 0 : cuda::g_device_count;
}

int cuda_version() {
  const char *why;
  cuda_driver(&why);
  return cuda::g_version;
}

const Device *cuda_device(int ordinal) {
  return ordinal >= 0 && ordinal < cuda_device_count() ? &cuda::g_devices[ordinal] : nullptr;
}

}  // namespace kpk
