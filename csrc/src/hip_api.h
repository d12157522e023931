// libamdhip64 by its C ABI (HIP Runtime API reference). Declared are only the entries used, so that no HIP header
// is needed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver.h"

namespace kpk::hip {

using hipError = int;
constexpr hipError kSuccess = 0, kInvalidImage = 200, kNoBinaryForGpu = 209, kFileNotFound = 301,
                   kInvalidHandle = 400;
constexpr hipError kCaptureUnsupported = 900, kOutOfMemory = 2, kCaptureImplicit = 906;

#define KPK_HIP_REQUIRED(X)                                                                         \
  X(init, "hipInit", (unsigned))                                                                    \
  X(get_last_error, "hipGetLastError", ())                                                          \
  X(runtime_version, "hipRuntimeGetVersion", (int *))                                               \
  X(device_count, "hipGetDeviceCount", (int *))                                                     \
  X(get_device, "hipGetDevice", (int *))                                                            \
  X(set_device, "hipSetDevice", (int))                                                              \
  X(properties, "hipGetDevicePropertiesR0600", (void *, int))                                       \
  X(device_attribute, "hipDeviceGetAttribute", (int *, int, int))                                   \
  X(stream_device, "hipStreamGetDevice", (void *, int *))                                           \
  X(module_load, "hipModuleLoadData", (void **, const void *))                                      \
  X(module_unload, "hipModuleUnload", (void *))                                                     \
  X(module_function, "hipModuleGetFunction", (void **, void *, const char *))                       \
  X(launch_kernel, "hipModuleLaunchKernel",                                                         \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, \
     void **))

// What only newer releases have. Memory in a stream's order is there from ROCm 5.2 on.
#define KPK_HIP_OPTIONAL(X)                                                                        \
  X(malloc_async, "hipMallocAsync", (uint64_t *, size_t, void *))                                  \
  X(free_async, "hipFreeAsync", (uint64_t, void *))                                                \
  X(malloc_from_pool, "hipMallocFromPoolAsync", (uint64_t *, size_t, void *, void *))              \
  X(pool_create, "hipMemPoolCreate", (void **, const PoolProps *))                                 \
  X(pool_set, "hipMemPoolSetAttribute", (void *, int, void *))                                     \
  X(pool_destroy, "hipMemPoolDestroy", (void *))                                                   \
  X(memset_async, "hipMemsetAsync", (uint64_t, int, size_t, void *))                               \
  X(stream_create, "hipStreamCreateWithFlags", (void **, unsigned))                                \
  X(stream_synchronize, "hipStreamSynchronize", (void *))                                          \
  X(stream_destroy, "hipStreamDestroy", (void *))                                                  \
  X(exchange_capture_mode, "hipThreadExchangeStreamCaptureMode", (int *))                          \
  X(occupancy, "hipModuleOccupancyMaxActiveBlocksPerMultiprocessor", (int *, void *, int, size_t)) \
  X(stream_capturing, "hipStreamIsCapturing", (void *, int *))                                     \
  X(mem_info, "hipMemGetInfo", (size_t *, size_t *))                                               \
  X(mem_alloc, "hipMalloc", (uint64_t *, size_t))                                                  \
  X(mem_free, "hipFree", (uint64_t))                                                               \
  X(copy_async, "hipMemcpyAsync", (uint64_t, uint64_t, size_t, int, void *))                       \
  X(event_create, "hipEventCreateWithFlags", (void **, unsigned))                                  \
  X(event_destroy, "hipEventDestroy", (void *))                                                    \
  X(event_record, "hipEventRecord", (void *, void *))                                              \
  X(event_query, "hipEventQuery", (void *))                                                        \
  X(event_synchronize, "hipEventSynchronize", (void *))                                            \
  X(event_elapsed, "hipEventElapsedTime", (float *, void *, void *))                               \
  X(launch_kernel_ex, "hipDrvLaunchKernelEx", (const LaunchConfig *, void *, void **, void **))    \
  X(launch_cooperative, "hipModuleLaunchCooperativeKernel",                                        \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **))

// hipMemPoolProps of hip_runtime_api.h: 88 bytes.
struct PoolProps {
  int allocation_type;
  int handle_types;
  int location_type;
  int location;
  void *security;
  unsigned char reserved[64];  // 0 is the default of all
};
static_assert(sizeof(PoolProps) == 88, "hipMemPoolProps of hip_runtime_api.h");

// hipLaunchAttribute: 72 bytes.
struct LaunchAttribute {
  int id;
  union {
    alignas(8) char bytes[64];
    unsigned cluster[3];
    int value;
  };
};
static_assert(sizeof(LaunchAttribute) == 72, "hipLaunchAttribute of hip_runtime_api.h");
constexpr int kCooperative = 2, kClusterDimension = 4;

// HIP_LAUNCH_CONFIG of hip_runtime_api.h.
struct LaunchConfig {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  void *stream;
  LaunchAttribute *attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchConfig) == 56, "HIP_LAUNCH_CONFIG of hip_runtime_api.h");

struct Api {
#define KPK_FIELD(name, symbol, params) hipError(*name) params;
  KPK_HIP_REQUIRED(KPK_FIELD)
  KPK_HIP_OPTIONAL(KPK_FIELD)
#undef KPK_FIELD
  const char *(*error_name)(hipError);
  const char *(*error_string)(hipError);
};

extern Api g_api;
extern int g_version;  // 10^7 * major + 10^5 * minor

// Sets the message of a call that failed: "softmax: hipModuleLaunchKernel: hipErrorInvalidValue (1): words".
kpk_status failed(const char *subject, const char *call, hipError code);

extern const Driver kDriver;  // driver_hip.cc
extern const Bench kBench;    // hip_bench.cc

}  // namespace kpk::hip
