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
constexpr CUresult kSuccess = 0, kNotInitialized = 3, kInvalidContext = 201;

// X(field, symbol, parameters). What every driver has; then what all have from 12.0 on.
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
  X(ctx_get_id, "cuCtxGetId", (void *, unsigned long long *))                    \
  X(library_load, "cuLibraryLoadData",                                           \
    (void **, const void *, int *, void **, unsigned, int *, void **, unsigned)) \
  X(library_unload, "cuLibraryUnload", (void *))                                 \
  X(library_kernel, "cuLibraryGetKernel", (void **, void *, const char *))       \
  X(kernel_function, "cuKernelGetFunction", (void **, void *))

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
#define KPK_FIELD(name, symbol, params) CUresult(*name) params;
  KPK_CUDA_LIBRARY(KPK_FIELD)
  bool has_library;  // all of these are there, and the driver is new enough for them
  KPK_CUDA_REQUIRED(KPK_FIELD)
#undef KPK_FIELD
  CUresult (*alloc_async)(uint64_t *, size_t, void *);  // null before 11.2
  CUresult (*free_async)(uint64_t, void *);
  CUresult (*occupancy_blocks)(int *, void *, int, size_t);
};

extern Api g_api;
extern int g_version;  // 1000 * major + 10 * minor

// Sets the message of a driver call that failed: "softmax: cuLaunchKernel: CUDA_ERROR_... (700): words".
kpk_status failed(const char *subject, const char *call, CUresult code);

// Null, legacy and per-thread: of whatever context is current.
inline bool is_default_stream(const void *stream) { return reinterpret_cast<uintptr_t>(stream) <= 2; }

extern const Driver kDriver;  // driver_cuda.cc

}  // namespace kpk::cuda
