// 64 threads that race at first use: each image is loaded once for each device. Run under TSan.

#include <atomic>
#include <cstring>
#include <kpack/kpack.hpp>
#include <thread>
#include <vector>

#include "check.h"
#include "fake.h"
#include "map_cache.h"

KPACK_KERNEL(tk, scale);
KPACK_KERNEL(tk, described);
KPACK_KERNEL(tk, tensors);

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
  cuda.delay_us("cuModuleLoadData", 2000);
  cuda.entry<int(unsigned)>("cuInit")(0);
  const int failed = race([&](int device) {
    void *context = nullptr;
    cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, device);
    cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
    return call(kpack::cuda_stream(nullptr));
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(cuda.launches(), uint64_t{kThreads});
  EXPECT_EQ(cuda.calls("cuModuleLoadData"), uint64_t{kDevices});
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

// ---- shortcuts

TEST(calls_of_several_types_are_learnt_while_they_are_made) {
  fake::Fake cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_90,sm_80;driver=12080");
  cuda.entry<int(unsigned)>("cuInit")(0);
  constexpr int kLaunches = 40;
  const kpk_kernel &scale = kpack::Kernel(tk::scale).native();
  EXPECT_EQ(kpk_unload(&scale), KPK_OK);
  const int failed = race([&](int device) {
    void *context = nullptr;
    cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, device);
    cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
    float *in = reinterpret_cast<float *>(0x2000), *out = reinterpret_cast<float *>(0x1000);
    const kpack::Stream stream = kpack::cuda_stream(nullptr);
    const kpk_arg args[] = {kpack::detail::arg(out), kpack::detail::arg(in), kpack::detail::arg(2.0F),
                            kpack::detail::arg(int64_t{1}), kpack::detail::arg(100)};
    bool good = true;
    for (int i = 0; good && i < kLaunches; i += 4) {
      good = tk::scale(stream, out, in, 2.0F, 2, 100) && tk::scale(stream, out, in, 2.0F, 1, 100) &&
             tk::scale(stream, out, in, 2.0, 2, uint64_t{100}) &&
             kpk_launch(&scale, stream.native(), args, 5, 0) == KPK_OK;
    }
    return good;
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(cuda.launches(), uint64_t{kThreads * kLaunches});
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

// ---- scratch memory

TEST(scratch_memory_comes_from_a_pool_that_comes_and_goes) {
  fake::Fake cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_90;driver=12080");
  cuda.entry<int(unsigned)>("cuInit")(0);
  constexpr int kLaunches = 20;
  const int failed = race([&](int number) {
    void *context = nullptr, *stream = nullptr;
    cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
    cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
    cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 1);
    const kpack::Pointer out = kpack::ptr(reinterpret_cast<void *>(0x1000), kpack::DType::fp16);
    bool good = true;
    for (int i = 0; good && i < kLaunches; ++i) {
      good = tk::described(kpack::cuda_stream(stream), out, out, 64, 64).ok();
      const uint64_t bytes = number == 0 ? uint64_t{1} << 20 : 0;
      if (i % 8 == 0) good = good && kpk_reserve_scratch(kpack::cuda_device(0), bytes) == KPK_OK;
    }
    return good;
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(cuda.launches(), uint64_t{kThreads * kLaunches});
  EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(0), 0), KPK_OK);
  EXPECT_EQ(cuda.live("pool") + cuda.live("memory"), uint64_t{0});
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

// ---- encoded tensor maps

// A key for each number, of one of four lengths.
kpk::MapKey key_of(uint64_t number) {
  kpk::MapKey key = {};
  key.count = 6 + static_cast<uint32_t>(number % 4);
  key.words[0] = key.count;
  for (uint32_t i = 1; i < key.count; ++i) key.words[i] = number + i;
  return key;
}

struct Map {
  alignas(64) unsigned char bytes[kpk::kMapBytes];
};
Map map_of(uint64_t number) {
  Map map;
  for (uint32_t i = 0; i < sizeof map.bytes; ++i) map.bytes[i] = static_cast<unsigned char>(number * 31 + i);
  return map;
}

// Numbers whose maps are kept in the same place as that of 0: written twice, they leave it no room.
std::vector<uint64_t> rivals() {
  std::vector<uint64_t> found = {0};
  Map map;
  for (uint64_t number = 1; found.size() < 6; ++number) {
    kpk::keep_map(key_of(0), map_of(0).bytes);
    for (int i = 0; i < 2; ++i) kpk::keep_map(key_of(number), map_of(number).bytes);
    if (!kpk::find_map(key_of(0), map.bytes)) found.push_back(number);
  }
  return found;
}

TEST(a_map_that_is_found_is_the_one_that_was_kept) {
  const std::vector<uint64_t> numbers = rivals();
  std::atomic<uint64_t> found{0}, others{0};
  race([&](int) {
    Map map;
    for (uint64_t i = 0; i < 5000; ++i) {
      const uint64_t number = numbers[i * i % 31 % numbers.size()];
      if (!kpk::find_map(key_of(number), map.bytes)) {
        kpk::keep_map(key_of(number), map_of(number).bytes);
        continue;
      }
      ++found;
      others += std::memcmp(map.bytes, map_of(number).bytes, sizeof map.bytes) != 0;
    }
    return true;
  });
  CHECK(found.load() != 0);
  EXPECT_EQ(others.load(), uint64_t{0});
}

TEST(every_launch_gets_the_maps_of_its_own_tensors) {
  fake::Fake cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_90;driver=13000");
  cuda.entry<int(unsigned)>("cuInit")(0);
  constexpr uint64_t kTensors = 3000, kBase = 0x100000;  // more than are kept
  const int failed = race([&](int) {
    void *context = nullptr;
    cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
    cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
    for (uint64_t i = 0; i < 100; ++i) {
      const uint64_t number = (i * 31) % kTensors;
      const auto rows = static_cast<int64_t>(number + 1);
      const kpack::Pointer data =
          kpack::ptr(reinterpret_cast<void *>(kBase + number * 0x1000), kpack::DType::fp16);
      const kpack::TensorDescriptor tensor(data, {rows, 64});
      if (!tk::tensors(kpack::cuda_stream(nullptr), tensor, tensor, 0, rows, 64)) return false;
    }
    return true;
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(cuda.violations(), uint64_t{0});
  EXPECT_EQ(cuda.launches(), uint64_t{kThreads * 100});
  for (uint64_t i = 0; i < cuda.launches(); ++i) {
    fake_launch launch = {};
    CHECK(cuda.launch(i, &launch) != 0);
    for (const uint32_t at : {0u, 5u}) {
      const auto map = fake::argument<fake_map>(launch, at);
      EXPECT_EQ(map.address, kBase + uint64_t{map.last[1]} * 0x1000);
      EXPECT_EQ(fake::argument<int32_t>(launch, at + 1), static_cast<int32_t>(map.last[1] + 1));
    }
  }
}

}  // namespace

int main() { return check::run(); }
