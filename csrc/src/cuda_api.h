// libcuda by its C ABI (CUDA Driver API reference; the versioned names are the ABI), opened on first use.
// Declared are only the entries used, so that no CUDA header is needed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device.h"
#include "driver.h"

namespace kpk::cuda {

using CUresult = int;
using CUdevice = int;
constexpr CUresult kSuccess = 0, kNotInitialized = 3, kInvalidContext = 201, kInvalidHandle = 400,
                   kContextDestroyed = 709, kOutOfMemory = 2, kCaptureImplicit = 906;

// X(field, symbol, parameters). What every driver has.
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
  X(func_get, "cuFuncGetAttribute", (int *, int, void *))                                           \
  X(launch_kernel, "cuLaunchKernel",                                                                \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, \
     void **))                                                                                      \
  X(error_name, "cuGetErrorName", (CUresult, const char **))                                        \
  X(error_string, "cuGetErrorString", (CUresult, const char **))

// What all have from 11.2 on: memory in a stream's order, and what filling a pool takes.
#define KPK_CUDA_MEMORY(X)                                                            \
  X(alloc_async, "cuMemAllocAsync", (uint64_t *, size_t, void *))                     \
  X(free_async, "cuMemFreeAsync", (uint64_t, void *))                                 \
  X(alloc_from_pool, "cuMemAllocFromPoolAsync", (uint64_t *, size_t, void *, void *)) \
  X(pool_create, "cuMemPoolCreate", (void **, const PoolProps *))                     \
  X(pool_set, "cuMemPoolSetAttribute", (void *, int, void *))                         \
  X(pool_destroy, "cuMemPoolDestroy", (void *))                                       \
  X(memset_async, "cuMemsetD8Async", (uint64_t, unsigned char, size_t, void *))       \
  X(stream_create, "cuStreamCreate", (void **, unsigned))                             \
  X(stream_synchronize, "cuStreamSynchronize", (void *))                              \
  X(stream_destroy, "cuStreamDestroy_v2", (void *))

// What measuring takes beyond these.
#define KPK_CUDA_BENCH(X)                                                        \
  X(stream_capturing, "cuStreamIsCapturing", (void *, int *))                    \
  X(mem_info, "cuMemGetInfo_v2", (size_t *, size_t *))                           \
  X(mem_alloc, "cuMemAlloc_v2", (uint64_t *, size_t))                            \
  X(mem_free, "cuMemFree_v2", (uint64_t))                                        \
  X(copy_dtod, "cuMemcpyDtoDAsync_v2", (uint64_t, uint64_t, size_t, void *))     \
  X(copy_dtoh, "cuMemcpyDtoHAsync_v2", (void *, uint64_t, size_t, void *))       \
  X(copy_htod, "cuMemcpyHtoDAsync_v2", (uint64_t, const void *, size_t, void *)) \
  X(event_create, "cuEventCreate", (void **, unsigned))                          \
  X(event_destroy, "cuEventDestroy_v2", (void *))                                \
  X(event_record, "cuEventRecord", (void *, void *))                             \
  X(event_query, "cuEventQuery", (void *))                                       \
  X(event_synchronize, "cuEventSynchronize", (void *))                           \
  X(event_elapsed, "cuEventElapsedTime", (float *, void *, void *))

// CUmemPoolProps of cuda.h: 88 bytes.
struct PoolProps {
  int allocation_type;
  int handle_types;
  int location_type;
  int location;
  void *security;
  unsigned char reserved[64];  // some of it has names by now; 0 is the default of all
};
static_assert(sizeof(PoolProps) == 88, "CUmemPoolProps of cuda.h");

// CUlaunchConfig of cuda.h, 11.8 and later.
struct LaunchConfig {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  void *stream;
  void *attributes;
  unsigned attribute_count;
};

// In the order of use: what a launch reads lies in one cache line.
struct alignas(64) Api {
  CUresult (*launch_kernel_ex)(const LaunchConfig *, void *, void **, void **);  // null before 11.8
  CUresult (*ctx_get_id)(void *, unsigned long long *);
  bool has_ids;  // contexts go by their ids: from 12.0 on
#define KPK_FIELD(name, symbol, params) CUresult(*name) params;
  KPK_CUDA_REQUIRED(KPK_FIELD)
  KPK_CUDA_MEMORY(KPK_FIELD)
  KPK_CUDA_BENCH(KPK_FIELD)
#undef KPK_FIELD
  bool has_memory;                           // all of KPK_CUDA_MEMORY
  bool has_bench;                            // all of KPK_CUDA_BENCH, and what it takes of the above
  CUresult (*exchange_capture_mode)(int *);  // null before 10.1
  CUresult (*param_info)(void *, size_t, size_t *, size_t *);  // cuFuncGetParamInfo: null before 12.4
  CUresult (*module_load_ex)(void **, const void *, unsigned, int *, void **);  // for the log of the JIT
  CUresult (*occupancy_blocks)(int *, void *, int, size_t);
  CUresult (*occupancy_clusters)(int *, void *, const LaunchConfig *);  // null before 11.8
  // Null before 12.0: cuTensorMapEncodeTiled, cuTensorMapEncodeIm2col.
  CUresult (*encode_tiled)(void *, int, uint32_t, void *, const uint64_t *, const uint64_t *,
                           const uint32_t *, const uint32_t *, int, int, int, int);
  CUresult (*encode_im2col)(void *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const int *,
                            const int *, uint32_t, uint32_t, const uint32_t *, int, int, int, int);
};

extern Api g_api;
extern int g_version;  // 1000 * major + 10 * minor

// Sets the message of a driver call that failed: "softmax: cuLaunchKernel: CUDA_ERROR_... (700): words".
kpk_status failed(const char *subject, const char *call, CUresult code);

// Null, legacy and per-thread: of whatever context is current.
inline bool is_default_stream(const void *stream) { return reinterpret_cast<uintptr_t>(stream) <= 2; }

extern const Driver kDriver;  // driver_cuda.cc
extern const Bench kBench;    // cuda_bench.cc
// How many clusters of the plan's image the device runs at once; `*clusters` stays where it has none, or the driver
// does not say.
kpk_status clusters_at_once(const Plan &plan, const char *symbol, int *clusters);

}  // namespace kpk::cuda
