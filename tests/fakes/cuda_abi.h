// The part of the CUDA driver's C ABI that the fake exports, by its own minimal declarations: numbers
// and layouts as in cuda.h, handles as void *.
#ifndef KPACK_TESTS_FAKES_CUDA_ABI_H
#define KPACK_TESTS_FAKES_CUDA_ABI_H

#include <cstddef>
#include <cstdint>

// Every entry point, and the driver version that brought it.
#define CUDA_CALLS(X)                                  \
  X(cuInit, 2000)                                      \
  X(cuDriverGetVersion, 2020)                          \
  X(cuDeviceGetCount, 2000)                            \
  X(cuDeviceGet, 2000)                                 \
  X(cuDeviceGetName, 2000)                             \
  X(cuDeviceGetAttribute, 2000)                        \
  X(cuCtxGetCurrent, 4000)                             \
  X(cuCtxSetCurrent, 4000)                             \
  X(cuCtxGetDevice, 2000)                              \
  X(cuCtxGetId, 12000)                                 \
  X(cuCtxPushCurrent_v2, 4000)                         \
  X(cuCtxPopCurrent_v2, 4000)                          \
  X(cuCtxCreate_v2, 3020)                              \
  X(cuCtxDestroy_v2, 4000)                             \
  X(cuCtxSynchronize, 2000)                            \
  X(cuDevicePrimaryCtxRetain, 7000)                    \
  X(cuDevicePrimaryCtxRelease_v2, 11000)               \
  X(cuDevicePrimaryCtxReset_v2, 11000)                 \
  X(cuStreamCreate, 2000)                              \
  X(cuStreamDestroy_v2, 4000)                          \
  X(cuStreamSynchronize, 2000)                         \
  X(cuStreamGetCtx, 9020)                              \
  X(cuStreamIsCapturing, 10000)                        \
  X(cuStreamBeginCapture_v2, 10010)                    \
  X(cuStreamEndCapture, 10000)                         \
  X(cuThreadExchangeStreamCaptureMode, 10010)          \
  X(cuModuleLoadData, 2000)                            \
  X(cuModuleLoadDataEx, 2010)                          \
  X(cuModuleGetFunction, 2000)                         \
  X(cuModuleUnload, 2000)                              \
  X(cuFuncGetAttribute, 2020)                          \
  X(cuFuncSetAttribute, 9000)                          \
  X(cuFuncGetParamInfo, 12040)                         \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor, 6050) \
  X(cuOccupancyMaxActiveClusters, 11080)               \
  X(cuLibraryLoadData, 12000)                          \
  X(cuLibraryUnload, 12000)                            \
  X(cuLibraryGetKernel, 12000)                         \
  X(cuKernelGetFunction, 12000)                        \
  X(cuKernelGetAttribute, 12000)                       \
  X(cuKernelSetAttribute, 12000)                       \
  X(cuKernelGetParamInfo, 12040)                       \
  X(cuLaunchKernel, 4000)                              \
  X(cuLaunchKernelEx, 11060)                           \
  X(cuMemAlloc_v2, 3020)                               \
  X(cuMemFree_v2, 3020)                                \
  X(cuMemAllocAsync, 11020)                            \
  X(cuMemFreeAsync, 11020)                             \
  X(cuMemAllocFromPoolAsync, 11020)                    \
  X(cuMemPoolCreate, 11020)                            \
  X(cuMemPoolSetAttribute, 11020)                      \
  X(cuMemPoolDestroy, 11020)                           \
  X(cuMemsetD8Async, 3020)                             \
  X(cuMemcpyHtoD_v2, 3020)                             \
  X(cuMemcpyDtoH_v2, 3020)                             \
  X(cuMemGetInfo_v2, 3020)                             \
  X(cuMemcpyDtoDAsync_v2, 3020)                        \
  X(cuMemcpyDtoHAsync_v2, 3020)                        \
  X(cuMemcpyHtoDAsync_v2, 3020)                        \
  X(cuEventCreate, 2000)                               \
  X(cuEventDestroy_v2, 4000)                           \
  X(cuEventRecord, 2000)                               \
  X(cuEventQuery, 2000)                                \
  X(cuEventSynchronize, 2000)                          \
  X(cuEventElapsedTime, 2000)                          \
  X(cuTensorMapEncodeTiled, 12000)                     \
  X(cuTensorMapEncodeIm2col, 12000)                    \
  X(cuGetErrorName, 6000)                              \
  X(cuGetErrorString, 6000)                            \
  X(cuGetProcAddress_v2, 12000)

namespace fakes {

enum Call : unsigned {
#define FAKE_X(name, since) k_##name,
  CUDA_CALLS(FAKE_X)
#undef FAKE_X
};

// Codes that HIP does not share or numbers otherwise.
enum CudaError : int {
  kInvalidContext = 201,
  kInvalidPtx = 218,
  kUnsupportedPtxVersion = 222,
  kOutOfResources = 701,
  kContextIsDestroyed = 709,
  kInvalidClusterSize = 912,
};

enum FunctionAttribute : int {
  kFnMaxThreads = 0,
  kFnStaticShared = 1,
  kFnConst = 2,
  kFnLocal = 3,
  kFnRegisters = 4,
  kFnPtxVersion = 5,
  kFnBinaryVersion = 6,
  kFnMaxDynamicShared = 8,
  kFnCarveout = 9,
  kFnNonPortableCluster = 14,
  kFnLast = 15,
};

enum JitOption : int { kJitErrorLog = 5, kJitErrorLogBytes = 6 };
enum LibraryOption : int { kBinaryIsPreserved = 1 };

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
static_assert(sizeof(LaunchAttribute) == 72, "CUlaunchAttribute");

struct LaunchConfig {
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t shared_bytes;
  void *stream;
  const LaunchAttribute *attributes;
  uint32_t attribute_count;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, attributes) == 40, "CUlaunchConfig");

}  // namespace fakes
#endif
