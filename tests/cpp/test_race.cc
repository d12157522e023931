// 64 threads that race at first use: each image is loaded once for each device. Run under TSan.

#include <atomic>
#include <kpack/kpack.hpp>
#include <thread>
#include <vector>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(tk, scale);

namespace {

constexpr int kThreads = 64, kDevices = 2;

// All threads launch at once, half of them on each device; returns how many launches failed.
template <class Launch>
int race(Launch launch) {
  std::atomic<bool> go{false};
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      while (!go.load()) std::this_thread::yield();
      if (!launch(i % kDevices)) ++failed;
    });
  }
  go.store(true);
  for (std::thread &thread : threads) thread.join();
  return failed.load();
}

kpack::Status call(kpack::Stream stream) {
  float *in = reinterpret_cast<float *>(0x2000), *out = reinterpret_cast<float *>(0x1000);
  return tk::scale(stream, out, in, 2.0, 1, 100);
}

TEST(cuda_loads_each_image_once) {
  fake::Fake cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_90,sm_80;driver=12080");
  cuda.delay_us("cuLibraryLoadData", 2000);
  cuda.entry<int(unsigned)>("cuInit")(0);
  const int failed = race([&](int device) {
    void *context = nullptr;
    cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, device);
    cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
    return call(kpack::cuda_stream(nullptr));
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(cuda.launches(), uint64_t{kThreads});
  EXPECT_EQ(cuda.calls("cuLibraryLoadData"), uint64_t{kDevices});
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

TEST(hip_loads_each_image_once) {
  fake::Fake hip = fake::open("libamdhip64.so", "hip");
  hip.configure("gfx90a,gfx1100");
  hip.delay_us("hipModuleLoadData", 2000);
  const int failed = race([&](int device) {
    hip.entry<int(int)>("hipSetDevice")(device);
    return call(kpack::hip_stream(nullptr));
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(hip.launches(), uint64_t{kThreads});
  EXPECT_EQ(hip.calls("hipModuleLoadData"), uint64_t{kDevices});
  EXPECT_EQ(hip.violations(), uint64_t{0});
}

}  // namespace

int main() { return check::run(); }
