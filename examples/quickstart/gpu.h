// Device memory without a GPU SDK: the few driver calls that this example needs, by dlopen. A real program
// has its own allocator; kpack neither allocates nor copies.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

class Gpu {
 public:
  // Of the vendor of the first device; only call it where kpk_device_count() is not 0.
  explicit Gpu(bool hip) : hip_(hip), library_(dlopen(hip ? "libamdhip64.so" : "libcuda.so.1", RTLD_NOW)) {
    if (hip_) return;
    void *context = nullptr;
    check(call<int(unsigned)>("cuInit")(0), "cuInit");
    check(call<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0), "cuDevicePrimaryCtxRetain");
    check(call<int(void *)>("cuCtxSetCurrent")(context), "cuCtxSetCurrent");
  }

  float *allocate(size_t bytes) {
    uint64_t address = 0;
    check(hip_ ? call<int(uint64_t *, size_t)>("hipMalloc")(&address, bytes)
               : call<int(uint64_t *, size_t)>("cuMemAlloc_v2")(&address, bytes),
          "device memory");
    return reinterpret_cast<float *>(address);
  }
  void to_device(float *device, const float *host, size_t bytes) {
    const auto address = reinterpret_cast<uint64_t>(device);
    check(hip_ ? call<int(uint64_t, const void *, size_t, int)>("hipMemcpy")(address, host, bytes, 1)
               : call<int(uint64_t, const void *, size_t)>("cuMemcpyHtoD_v2")(address, host, bytes),
          "copy to the device");
  }
  // Waits for the launches before it.
  void to_host(float *host, const float *device, size_t bytes) {
    const auto address = reinterpret_cast<uint64_t>(device);
    check(hip_ ? call<int(void *, uint64_t, size_t, int)>("hipMemcpy")(host, address, bytes, 2)
               : call<int(void *, uint64_t, size_t)>("cuMemcpyDtoH_v2")(host, address, bytes),
          "copy to the host");
  }

 private:
  template <class F>
  F *call(const char *name) {
    return reinterpret_cast<F *>(dlsym(library_, name));
  }
  static void check(int code, const char *what) {
    if (code == 0) return;
    std::fprintf(stderr, "%s: the driver returned %d\n", what, code);
    std::exit(1);
  }
  bool hip_;
  void *library_;
};
