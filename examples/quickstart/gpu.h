/* Device memory without a GPU SDK: the few driver calls that the examples need, by dlopen, of CUDA or HIP. For C, and at
 * the end a class for C++ programs. A real program has an allocator of its own; kpack neither allocates nor copies.
 * Every function returns 0, or the driver's code. */
#ifndef KPACK_EXAMPLES_GPU_H
#define KPACK_EXAMPLES_GPU_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct gpu_cuda {
  int (*init)(unsigned flags);
  int (*retain)(void **context, int device);
  int (*set_current)(void *context);
  int (*allocate)(uint64_t *address, size_t bytes);
  int (*release)(uint64_t address);
  int (*to_device)(uint64_t to, const void *from, size_t bytes);
  int (*to_host)(void *to, uint64_t from, size_t bytes);
};
struct gpu_hip {
  int (*set_device)(int device);
  int (*allocate)(void **address, size_t bytes);
  int (*release)(void *address);
  int (*copy)(void *to, const void *from, size_t bytes, int direction);
};
struct gpu {
  int is_hip;
  void *context; /* CUDA's, of device 0 */
  struct gpu_cuda cuda;
  struct gpu_hip hip;
};

static inline int gpu_symbol(void *library, const char *name, void *function) {
  void *found = dlsym(library, name);
  memcpy(function, &found, sizeof found); /* ISO C converts no void* to a function */
  return found == NULL;
}

/* Makes the device current in this thread. */
static inline int gpu_enter(const struct gpu *gpu) {
  return gpu->is_hip ? gpu->hip.set_device(0) : gpu->cuda.set_current(gpu->context);
}

/* Device 0 of the vendor: call it where kpk_device_count() of that vendor is not 0. -1: no such driver. */
static inline int gpu_open(struct gpu *gpu, int is_hip) {
  void *library = dlopen(is_hip ? "libamdhip64.so" : "libcuda.so.1", RTLD_NOW);
  int code = library == NULL;
  memset(gpu, 0, sizeof *gpu);
  gpu->is_hip = is_hip;
  if (code != 0) return -1;
  if (is_hip) {
    code |= gpu_symbol(library, "hipSetDevice", &gpu->hip.set_device);
    code |= gpu_symbol(library, "hipMalloc", &gpu->hip.allocate);
    code |= gpu_symbol(library, "hipFree", &gpu->hip.release);
    code |= gpu_symbol(library, "hipMemcpy", &gpu->hip.copy);
    return code != 0 ? -1 : gpu_enter(gpu);
  }
  code |= gpu_symbol(library, "cuInit", &gpu->cuda.init);
  code |= gpu_symbol(library, "cuDevicePrimaryCtxRetain", &gpu->cuda.retain);
  code |= gpu_symbol(library, "cuCtxSetCurrent", &gpu->cuda.set_current);
  code |= gpu_symbol(library, "cuMemAlloc_v2", &gpu->cuda.allocate);
  code |= gpu_symbol(library, "cuMemFree_v2", &gpu->cuda.release);
  code |= gpu_symbol(library, "cuMemcpyHtoD_v2", &gpu->cuda.to_device);
  code |= gpu_symbol(library, "cuMemcpyDtoH_v2", &gpu->cuda.to_host);
  if (code != 0) return -1;
  if ((code = gpu->cuda.init(0)) != 0) return code;
  if ((code = gpu->cuda.retain(&gpu->context, 0)) != 0) return code;
  return gpu_enter(gpu);
}

static inline int gpu_allocate(const struct gpu *gpu, void **address, size_t bytes) {
  uint64_t found = 0;
  int code;
  if (gpu->is_hip) return gpu->hip.allocate(address, bytes);
  code = gpu->cuda.allocate(&found, bytes);
  *address = (void *)(uintptr_t)found;
  return code;
}
static inline int gpu_release(const struct gpu *gpu, void *address) {
  return gpu->is_hip ? gpu->hip.release(address) : gpu->cuda.release((uint64_t)(uintptr_t)address);
}
static inline int gpu_to_device(const struct gpu *gpu, void *to, const void *from, size_t bytes) {
  return gpu->is_hip ? gpu->hip.copy(to, from, bytes, 1)
                     : gpu->cuda.to_device((uint64_t)(uintptr_t)to, from, bytes);
}
/* Waits for the launches before it. */
static inline int gpu_to_host(const struct gpu *gpu, void *to, const void *from, size_t bytes) {
  return gpu->is_hip ? gpu->hip.copy(to, from, bytes, 2)
                     : gpu->cuda.to_host(to, (uint64_t)(uintptr_t)from, bytes);
}

#ifdef __cplusplus
#include <cstdio>
#include <cstdlib>

// Of the vendor of the first device; only make it where kpk_device_count() is not 0. What fails ends the program.
class Gpu {
 public:
  explicit Gpu(bool hip) { check(gpu_open(&gpu_, hip), "opening the device"); }
  float *allocate(size_t bytes) {
    void *address = nullptr;
    check(gpu_allocate(&gpu_, &address, bytes), "device memory");
    return static_cast<float *>(address);
  }
  void to_device(float *device, const float *host, size_t bytes) {
    check(gpu_to_device(&gpu_, device, host, bytes), "copy to the device");
  }
  // Waits for the launches before it.
  void to_host(float *host, const float *device, size_t bytes) {
    check(gpu_to_host(&gpu_, host, device, bytes), "copy to the host");
  }

 private:
  static void check(int code, const char *what) {
    if (code == 0) return;
    std::fprintf(stderr, "%s: the driver returned %d\n", what, code);
    std::exit(1);
  }
  gpu gpu_;
};
#endif

#endif
