// The part of HIP's C ABI that the fake exports, by its own minimal declarations: handles as void *,
// numbers and offsets measured with offsetof in ROCm 7.1's hip_runtime_api.h and hip_deprecated.h.
#ifndef KPACK_TESTS_FAKES_HIP_ABI_H
#define KPACK_TESTS_FAKES_HIP_ABI_H

#include <cstddef>
#include <cstdint>

// Every entry point, and the runtime version that brought it: 10^7 * major + 10^5 * minor.
#define HIP_CALLS(X)                                              \
  X(hipInit, 0)                                                   \
  X(hipRuntimeGetVersion, 0)                                      \
  X(hipDriverGetVersion, 0)                                       \
  X(hipGetDeviceCount, 0)                                         \
  X(hipGetDevice, 0)                                              \
  X(hipSetDevice, 0)                                              \
  X(hipDeviceGetName, 0)                                          \
  X(hipDeviceGetAttribute, 0)                                     \
  X(hipGetDeviceProperties, 0)                                    \
  X(hipGetDevicePropertiesR0600, 60000000)                        \
  X(hipDeviceSynchronize, 0)                                      \
  X(hipStreamCreate, 0)                                           \
  X(hipStreamCreateWithFlags, 0)                                  \
  X(hipStreamDestroy, 0)                                          \
  X(hipStreamSynchronize, 0)                                      \
  X(hipStreamGetDevice, 50600000)                                 \
  X(hipStreamIsCapturing, 50000000)                               \
  X(hipStreamBeginCapture, 40300000)                              \
  X(hipStreamEndCapture, 40300000)                                \
  X(hipThreadExchangeStreamCaptureMode, 50300000)                 \
  X(hipModuleLoadData, 0)                                         \
  X(hipModuleUnload, 0)                                           \
  X(hipModuleGetFunction, 0)                                      \
  X(hipFuncGetAttribute, 0)                                       \
  X(hipModuleLaunchKernel, 0)                                     \
  X(hipModuleLaunchCooperativeKernel, 50500000)                   \
  X(hipDrvLaunchKernelEx, 70000000)                               \
  X(hipMalloc, 0)                                                 \
  X(hipFree, 0)                                                   \
  X(hipMallocAsync, 50200000)                                     \
  X(hipFreeAsync, 50200000)                                       \
  X(hipMallocFromPoolAsync, 50200000)                             \
  X(hipMemPoolCreate, 50200000)                                   \
  X(hipMemPoolSetAttribute, 50200000)                             \
  X(hipMemPoolDestroy, 50200000)                                  \
  X(hipMemsetAsync, 0)                                            \
  X(hipModuleOccupancyMaxActiveBlocksPerMultiprocessor, 30500000) \
  X(hipMemcpy, 0)                                                 \
  X(hipMemGetInfo, 0)                                             \
  X(hipMemcpyAsync, 0)                                            \
  X(hipEventCreateWithFlags, 0)                                   \
  X(hipEventDestroy, 0)                                           \
  X(hipEventRecord, 0)                                            \
  X(hipEventQuery, 0)                                             \
  X(hipEventSynchronize, 0)                                       \
  X(hipEventElapsedTime, 0)                                       \
  X(hipGetErrorName, 0)                                           \
  X(hipGetErrorString, 0)                                         \
  X(hipGetLastError, 0)

namespace fakes {

enum Call : unsigned {
#define FAKE_X(name, since) k_##name,
  HIP_CALLS(FAKE_X)
#undef FAKE_X
};

// Codes that CUDA does not share or numbers otherwise.
enum HipError : int {
  kInvalidConfiguration = 9,
  kContextIsDestroyed = 709,
  kLaunchFailure = 719,
};

enum DeviceAttribute : int {
  kDevCooperative = 10,
  kDevL2 = 19,
  kDevMajor = 23,
  kDevMaxBlockX = 26,
  kDevMaxBlockY = 27,
  kDevMaxBlockZ = 28,
  kDevMaxGridX = 29,
  kDevMaxGridY = 30,
  kDevMaxGridZ = 31,
  kDevMaxThreads = 56,
  kDevMinor = 61,
  kDevMultiprocessors = 63,
  kDevRegisters = 71,
  kDevShared = 74,
  kDevSharedOptin = 75,
  kDevWarpSize = 87,
  kDevMemoryPools = 88,
  kDevSharedPerMultiprocessor = 10002,
};

enum FunctionAttribute : int {
  kFnMaxThreads = 0,
  kFnStaticShared = 1,
  kFnConst = 2,
  kFnLocal = 3,
  kFnRegisters = 4,
  kFnMaxDynamicShared = 8,
  kFnLast = 9,
};

// Where the members of hipDeviceProp_t lie, bytes. The struct was laid out anew in ROCm 6; the plain
// symbol hipGetDeviceProperties still fills the old one (hip_deprecated.h: hipDeviceProp_tR0000).
struct PropertyOffsets {
  size_t size;
  size_t global_bytes;  // size_t
  size_t shared_bytes;  // size_t
  size_t registers;     // int, as all that follow
  size_t warp_size;
  size_t max_threads;
  size_t max_block;  // int[3]
  size_t max_grid;   // int[3]
  size_t major;
  size_t minor;
  size_t multiprocessors;
  size_t gcn_arch_name;  // char[256]
};
constexpr PropertyOffsets kPropertiesR0600 = {1472, 288, 296, 304, 308, 320, 324, 336, 360, 364, 388, 1160};
constexpr PropertyOffsets kPropertiesR0000 = {792, 256, 264, 272, 276, 280, 284, 296, 328, 332, 336, 396};

enum LaunchAttributeId : unsigned { kLaunchCooperative = 2, kLaunchCluster = 4 };

struct LaunchAttribute {
  uint32_t id;
  uint32_t pad;
  union {
    int32_t flag;
    uint32_t cluster[3];
    unsigned char bytes[64];
  } value;
};
static_assert(sizeof(LaunchAttribute) == 72, "hipLaunchAttribute");

struct LaunchConfig {
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t shared_bytes;
  void *stream;
  const LaunchAttribute *attributes;
  uint32_t attribute_count;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, attributes) == 40, "HIP_LAUNCH_CONFIG");

}  // namespace fakes
#endif
