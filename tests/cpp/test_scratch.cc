// Scratch memory: how much, where from, and that all of it goes back. Both fake drivers are there, CUDA with sm_90
// and sm_80, HIP with gfx90a, gfx1100 and gfx1250. With an argument, one older driver: see main().

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(edited, profiled);
KPACK_KERNEL(edited, both);
KPACK_KERNEL(edited, odd);
KPACK_KERNEL(edited, wide);
KPACK_KERNEL(edited, marked);
KPACK_KERNEL(edited, huge);
KPACK_KERNEL(edited, orphan);
KPACK_KERNEL(edited, together);
KPACK_KERNEL(edited, team);
KPACK_KERNEL(edited, dependent_too);

namespace {

fake::Fake cuda, hip;

constexpr int kOutOfMemory = 2, kLaunchFailed = 719, kCaptureUnsupported = 900;
constexpr uint32_t kGlobalAt = 2, kProfileAt = 3;  // the hidden parameters of the kernels of edited.py
constexpr uint64_t kMiB = 1 << 20;

int32_t *const out = reinterpret_cast<int32_t *>(0x1000);
const kpack::Stream cuda_default = kpack::cuda_stream(nullptr), hip_default = kpack::hip_stream(nullptr);

bool says(const char *part) { return std::strstr(kpk_message(), part) != nullptr; }

std::string cuda_devices;

void configure_cuda() {
  cuda.configure(cuda_devices.c_str());
  cuda.entry<int(unsigned)>("cuInit")(0);
}

void set_cuda_device(int ordinal) {
  void *context = nullptr;
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, ordinal);
  cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
}
void set_hip_device(int ordinal) { hip.entry<int(int)>("hipSetDevice")(ordinal); }

void *cuda_stream_of(int ordinal) {
  void *stream = nullptr;
  set_cuda_device(ordinal);
  EXPECT_EQ(cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 1), 0);
  return stream;
}
void drop_cuda_stream(void *stream) { cuda.entry<int(void *)>("cuStreamDestroy_v2")(stream); }

fake_launch last(const fake::Fake &driver) {
  fake_launch launch = {};
  launch.function = "no launch";
  CHECK(driver.launches() != 0 && driver.launch(driver.launches() - 1, &launch) != 0);
  return launch;
}
uint64_t address(const fake_launch &launch, uint32_t index) {
  return fake::argument<uint64_t>(launch, index);
}

// Memory that was given back a moment ago stays readable in the fakes.
bool all_are(uint64_t at, uint64_t bytes, unsigned char value) {
  const auto *memory = reinterpret_cast<const unsigned char *>(at);
  for (uint64_t i = 0; i < bytes; ++i) {
    if (memory[i] != value) return false;
  }
  return true;
}

void start() {
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) kpk_unload(&kernel.native());
  for (const uint32_t kind : {KPK_SCRATCH_GLOBAL, KPK_SCRATCH_PROFILE}) kpk_set_scratch(kind, nullptr);
  for (int i = 0; i < kpk_device_count(KPK_VENDOR_CUDA); ++i) kpk_reserve_scratch(kpack::cuda_device(i), 0);
  for (int i = 0; i < kpk_device_count(KPK_VENDOR_HIP); ++i) kpk_reserve_scratch(kpack::hip_device(i), 0);
  cuda.reset();
  hip.reset();
  set_cuda_device(0);
  set_hip_device(0);
}

void finish() {
  for (const fake::Fake *driver : {&cuda, &hip}) {
    for (uint64_t i = 0; i < driver->violations(); ++i)
      std::printf("  violation: %s\n", driver->violation(i));
    EXPECT_EQ(driver->violations(), uint64_t{0});
    EXPECT_EQ(driver->live("memory"), uint64_t{0});
  }
}

// A hook that hands out aligned memory of its own and keeps what it was asked.
struct Hook {
  struct Asked {
    kpk_device device;
    kpk_stream stream;
    uint64_t bytes, align;
  };
  std::vector<Asked> asked;
  std::vector<uint64_t> released;
  uint64_t released_bytes = 0;
  uint64_t answer = 0x40000;

  static uint64_t allocate(void *user, kpk_device device, kpk_stream stream, uint64_t bytes, uint64_t align) {
    auto *self = static_cast<Hook *>(user);
    self->asked.push_back({device, stream, bytes, align});
    return self->answer;
  }
  static void release(void *user, kpk_device, kpk_stream, uint64_t memory, uint64_t bytes) {
    auto *self = static_cast<Hook *>(user);
    self->released.push_back(memory);
    self->released_bytes = bytes;
  }
  kpk_status use(uint32_t kind) {
    kpk_scratch_hook hook = {this, allocate, release};
    const kpk_status status = kpk_set_scratch(kind, &hook);
    hook = {};  // it was copied
    return status;
  }
};

// ---- How much, and what is in it

TEST(cuda_profile_memory_is_zeroed_aligned_and_given_back) {
  start();
  CHECK(edited::profiled(cuda_default, out, 5, 3, 2, 1));
  const fake_launch launch = last(cuda);
  const uint64_t at = address(launch, kProfileAt);
  EXPECT_EQ(at % 512, uint64_t{0});
  EXPECT_EQ(address(launch, kGlobalAt), uint64_t{0});
  CHECK(all_are(at, 64 * 3 * 2, 0));
  EXPECT_EQ(address(launch, 0), uint64_t{0x1000});
  EXPECT_EQ(fake::argument<int32_t>(launch, 1), 5);
  for (const char *call : {"cuMemAllocAsync", "cuMemsetD8Async", "cuMemFreeAsync"})
    EXPECT_EQ(cuda.calls(call), uint64_t{1});
  finish();
}

TEST(cuda_both_kinds_are_apart) {
  start();
  CHECK(edited::both(cuda_default, out, 5, 7, 1, 1));
  const uint64_t global = address(last(cuda), kGlobalAt), profile = address(last(cuda), kProfileAt);
  EXPECT_EQ(global % 1024, uint64_t{0});
  CHECK(profile != 0 && profile % 8 == 0);
  CHECK(global + 48 * 7 <= profile || profile + 40 * 7 <= global);
  CHECK(all_are(global, 48 * 7, 0xa5));  // as the driver gave it
  CHECK(all_are(profile, 40 * 7, 0));
  EXPECT_EQ(cuda.calls("cuMemFreeAsync"), uint64_t{2});
  finish();
}

TEST(cuda_any_alignment_is_kept) {
  start();
  CHECK(edited::odd(cuda_default, out, 5, 1, 1, 1));
  EXPECT_EQ(address(last(cuda), kGlobalAt) % 96, uint64_t{0});
  CHECK(all_are(address(last(cuda), kGlobalAt), 100, 0xa5));
  finish();
}

TEST(hip_memory_is_sized_by_grid_element_but_nvidia_memory_by_block) {
  start();
  Hook hook;
  hook.use(KPK_SCRATCH_GLOBAL);
  CHECK(edited::wide(cuda_default, out, 5, 3, 2, 1));
  EXPECT_EQ(last(cuda).grid[0], 6u);
  EXPECT_EQ(last(cuda).cluster[0], 2u);
  EXPECT_EQ(hook.asked.back().bytes, uint64_t{128 * 2 * 3 * 2});
  set_hip_device(2);  // gfx1250, which has clusters
  CHECK(edited::wide(hip_default, out, 5, 3, 2, 1));
  EXPECT_EQ(last(hip).grid[0], 6u);
  EXPECT_EQ(hook.asked.back().bytes, uint64_t{128 * 3 * 2});
  set_hip_device(0);
  CHECK(edited::wide(hip_default, out, 5, 3, 2, 1));
  EXPECT_EQ(last(hip).grid[0], 3u);
  EXPECT_EQ(hook.asked.back().bytes, uint64_t{128 * 3 * 2});
  finish();
}

TEST(cuda_more_memory_than_addresses_is_refused) {
  start();
  EXPECT_EQ(edited::huge(cuda_default, out, 5, INT32_MAX, 65535, 65535).code(), KPK_ERROR_MEMORY);
  CHECK(says(
      "huge.BLOCK256.w4.sm_90: needs more global scratch memory for this grid than there are addresses"));
  EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{0});
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  CHECK(edited::huge(cuda_default, out, 5, 0, 1, 1));  // nothing to launch needs nothing
  finish();
}

TEST(cuda_an_image_without_the_parameter_is_refused) {
  start();
  EXPECT_EQ(edited::orphan(cuda_default, out, 5, 1, 1, 1).code(), KPK_ERROR_FORMAT);
  CHECK(says(
      "orphan.BLOCK256.w4.sm_90: needs 64 bytes of scratch memory, but has no parameter for its address"));
  finish();
}

// ---- Failures

TEST(cuda_nothing_leaks_when_memory_is_refused) {
  for (const uint64_t before : {0, 1}) {
    start();
    cuda.fail("cuMemAllocAsync", kOutOfMemory, before, 1);
    EXPECT_EQ(edited::both(cuda_default, out, 5, 1, 1, 1).code(), KPK_ERROR_DRIVER);
    CHECK(says("both.BLOCK256.w4.sm_90: cuMemAllocAsync: CUDA_ERROR_OUT_OF_MEMORY (2)"));
    EXPECT_EQ(kpk_driver_code(), kOutOfMemory);
    EXPECT_EQ(cuda.calls("cuMemFreeAsync"), before);
    EXPECT_EQ(cuda.launches(), uint64_t{0});
    finish();
  }
}

TEST(cuda_nothing_leaks_when_memory_is_not_zeroed) {
  start();
  cuda.fail("cuMemsetD8Async", kOutOfMemory, 0, 1);
  EXPECT_EQ(edited::both(cuda_default, out, 5, 1, 1, 1).code(), KPK_ERROR_DRIVER);
  CHECK(says("cuMemsetD8Async"));
  EXPECT_EQ(cuda.calls("cuMemFreeAsync"), uint64_t{2});
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(cuda_nothing_leaks_when_the_launch_fails) {
  start();
  cuda.fail("cuLaunchKernelEx", kLaunchFailed, 0, 1);
  EXPECT_EQ(edited::both(cuda_default, out, 5, 1, 1, 1).code(), KPK_ERROR_DRIVER);
  CHECK(says("cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED (719)"));
  EXPECT_EQ(kpk_driver_code(), kLaunchFailed);
  EXPECT_EQ(cuda.calls("cuMemFreeAsync"), uint64_t{2});
  finish();
}

TEST(cuda_memory_that_does_not_go_back_is_reported) {
  start();
  cuda.fail("cuMemFreeAsync", kOutOfMemory, 0, 1);
  EXPECT_EQ(edited::both(cuda_default, out, 5, 1, 1, 1).code(), KPK_ERROR_DRIVER);
  CHECK(says("both.BLOCK256.w4.sm_90: cuMemFreeAsync"));
  EXPECT_EQ(cuda.calls("cuMemFreeAsync"), uint64_t{2});  // the other one all the same
  EXPECT_EQ(cuda.live("memory"), uint64_t{1});
  cuda.entry<int(uint64_t)>("cuMemFree_v2")(address(last(cuda), kProfileAt));
  finish();
}

TEST(cuda_the_first_of_two_failures_is_told) {
  start();
  cuda.fail("cuLaunchKernelEx", kLaunchFailed, 0, 1);
  cuda.fail("cuMemFreeAsync", kOutOfMemory, 0, 0);
  EXPECT_EQ(edited::odd(cuda_default, out, 5, 1, 1, 1).code(), KPK_ERROR_DRIVER);
  CHECK(says("cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED (719)"));
  EXPECT_EQ(kpk_driver_code(), kLaunchFailed);
  configure_cuda();  // what was not given back is gone with it
}

// ---- Hooks

TEST(cuda_a_hook_gives_and_takes) {
  start();
  Hook global, profile;
  EXPECT_EQ(global.use(KPK_SCRATCH_GLOBAL), KPK_OK);
  EXPECT_EQ(profile.use(KPK_SCRATCH_PROFILE), KPK_OK);
  profile.answer = 0x80000;
  void *stream = cuda_stream_of(1);
  CHECK(edited::both(kpack::cuda_stream(stream), out, 5, 3, 1, 1));
  EXPECT_EQ(address(last(cuda), kGlobalAt), uint64_t{0x40000});
  EXPECT_EQ(address(last(cuda), kProfileAt), uint64_t{0x80000});
  EXPECT_EQ(global.asked.size(), size_t{1});
  const Hook::Asked &asked = global.asked[0];
  EXPECT_EQ(asked.device.vendor, int32_t{KPK_VENDOR_CUDA});
  EXPECT_EQ(asked.device.ordinal, 1);
  EXPECT_EQ(asked.stream.handle, stream);
  EXPECT_EQ(asked.stream.vendor, int32_t{KPK_VENDOR_CUDA});
  EXPECT_EQ(asked.bytes, uint64_t{48 * 3});
  EXPECT_EQ(asked.align, uint64_t{1024});
  EXPECT_EQ(profile.asked[0].bytes, uint64_t{40 * 3});
  EXPECT_EQ(global.released.size(), size_t{1});
  EXPECT_EQ(global.released[0], uint64_t{0x40000});
  EXPECT_EQ(global.released_bytes, uint64_t{48 * 3});
  EXPECT_EQ(profile.released[0], uint64_t{0x80000});
  for (const char *call : {"cuMemAllocAsync", "cuMemsetD8Async", "cuMemFreeAsync"})
    EXPECT_EQ(cuda.calls(call), uint64_t{0});
  drop_cuda_stream(stream);
  finish();
}

TEST(cuda_a_hook_is_asked_once_and_of_the_streams_device) {
  start();
  Hook hook;
  hook.answer = 96 * 0x1000;
  hook.use(KPK_SCRATCH_GLOBAL);
  void *streams[] = {cuda_stream_of(0), cuda_stream_of(1)};
  set_cuda_device(0);
  for (size_t i = 0; i < 6; ++i) {
    CHECK(edited::odd(kpack::cuda_stream(streams[i % 2]), out, 5, 1, 1, 1));
    EXPECT_EQ(hook.asked.size(), i + 1);
    EXPECT_EQ(hook.asked.back().device.ordinal, static_cast<int32_t>(i % 2));
    EXPECT_EQ(hook.asked.back().stream.handle, streams[i % 2]);
  }
  for (void *stream : streams) drop_cuda_stream(stream);
  finish();
}

TEST(cuda_a_thread_without_a_context_gets_memory_too) {
  start();
  for (int i = 0; i < 2; ++i) {
    CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
    std::thread([] {
      const kpack::Status status = edited::both(cuda_default, out, 5, 1, 1, 1);
      EXPECT_EQ(std::string(status.message()), std::string());
      CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
    }).join();
  }
  finish();
}

TEST(cuda_a_hook_is_of_one_kind) {
  start();
  Hook hook;
  hook.use(KPK_SCRATCH_GLOBAL);
  CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
  EXPECT_EQ(hook.asked.size(), size_t{1});
  EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{1});
  EXPECT_EQ(kpk_set_scratch(KPK_SCRATCH_GLOBAL, nullptr), KPK_OK);
  CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
  EXPECT_EQ(hook.asked.size(), size_t{1});
  EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{3});
  finish();
}

TEST(cuda_a_hook_that_has_nothing_fails_the_launch) {
  start();
  Hook hook;
  hook.use(KPK_SCRATCH_PROFILE);
  hook.answer = 0;
  EXPECT_EQ(edited::both(cuda_default, out, 5, 2, 1, 1).code(), KPK_ERROR_MEMORY);
  CHECK(says("both.BLOCK256.w4.sm_90: expected 80 bytes of profile scratch memory from the hook, got none"));
  EXPECT_EQ(hook.released.size(), size_t{0});
  EXPECT_EQ(cuda.calls("cuMemFreeAsync"), uint64_t{1});  // the global memory
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(cuda_a_hook_that_aligns_too_little_is_told_so) {
  start();
  Hook hook;
  hook.use(KPK_SCRATCH_GLOBAL);
  hook.answer = 0x40200;
  EXPECT_EQ(edited::both(cuda_default, out, 5, 2, 1, 1).code(), KPK_ERROR_MEMORY);
  CHECK(says("expected global scratch memory from the hook at a multiple of 1024, got 0x40200"));
  EXPECT_EQ(hook.released.size(), size_t{1});
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(cuda_hooks_that_are_none_are_refused) {
  start();
  Hook hook;
  EXPECT_EQ(hook.use(2), KPK_ERROR_ARGUMENT);
  CHECK(says("kpk_set_scratch: expected KPK_SCRATCH_..., got kind 2"));
  const kpk_scratch_hook half = {&hook, Hook::allocate, nullptr};
  EXPECT_EQ(kpk_set_scratch(KPK_SCRATCH_GLOBAL, &half), KPK_ERROR_ARGUMENT);
  CHECK(says("expected allocate and release, got null for release"));
  CHECK(edited::odd(cuda_default, out, 5, 1, 1, 1));
  EXPECT_EQ(hook.asked.size(), size_t{0});
  finish();
}

// A hook that launches, and one whose launch fails: in the middle of a launch.
uint64_t launch_inside(void *user, kpk_device, kpk_stream stream, uint64_t, uint64_t) {
  const kpack::Status status = edited::profiled(kpack::cuda_stream(stream.handle), out, 5, 1, 1, 1);
  return status ? *static_cast<uint64_t *>(user) : 0;
}
void fail_inside(void *, kpk_device, kpk_stream stream, uint64_t, uint64_t) {
  CHECK(!edited::profiled(kpack::cuda_stream(stream.handle), out, 5));
}

TEST(cuda_a_hook_may_call_kpack) {
  start();
  uint64_t memory = 0x40000;
  const kpk_scratch_hook hook = {&memory, launch_inside, fail_inside};
  EXPECT_EQ(kpk_set_scratch(KPK_SCRATCH_GLOBAL, &hook), KPK_OK);
  CHECK(edited::both(cuda_default, out, 7, 1, 1, 1));
  EXPECT_EQ(cuda.launches(), uint64_t{2});
  EXPECT_EQ(std::string(last(cuda).function), std::string("both_BLOCK256_w4"));
  EXPECT_EQ(address(last(cuda), kGlobalAt), uint64_t{0x40000});
  EXPECT_EQ(fake::argument<int32_t>(last(cuda), 1), 7);
  // What failed is the outer launch: the hook's own failure does not take its place.
  cuda.fail("cuLaunchKernelEx", kLaunchFailed, 1, 1);
  EXPECT_EQ(edited::both(cuda_default, out, 7, 1, 1, 1).code(), KPK_ERROR_DRIVER);
  CHECK(says("both.BLOCK256.w4.sm_90: cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED (719)"));
  EXPECT_EQ(kpk_driver_code(), kLaunchFailed);
  finish();
}

// ---- Pools

TEST(cuda_reserved_memory_comes_from_a_pool) {
  start();
  const kpk_device device = kpack::cuda_device(0);
  EXPECT_EQ(kpk_reserve_scratch(device, 4 * kMiB), KPK_OK);
  EXPECT_EQ(cuda.live("pool"), uint64_t{1});
  EXPECT_EQ(cuda.live("reserved"), 4 * kMiB);  // nothing went back to the driver
  EXPECT_EQ(cuda.live("stream"), uint64_t{0});
  EXPECT_EQ(cuda.live("memory"), uint64_t{0});
  const uint64_t before = cuda.calls("cuMemAllocFromPoolAsync");
  CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
  EXPECT_EQ(cuda.calls("cuMemAllocFromPoolAsync"), before + 2);
  EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{0});
  set_cuda_device(1);  // has no pool
  CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
  EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{2});
  EXPECT_EQ(kpk_reserve_scratch(device, 8 * kMiB), KPK_OK);  // it grows,
  EXPECT_EQ(cuda.live("reserved"), 8 * kMiB);
  EXPECT_EQ(kpk_reserve_scratch(device, kMiB), KPK_OK);  // and has enough
  EXPECT_EQ(cuda.live("reserved"), 8 * kMiB);
  EXPECT_EQ(cuda.live("pool"), uint64_t{1});
  EXPECT_EQ(kpk_reserve_scratch(device, 0), KPK_OK);
  EXPECT_EQ(cuda.live("pool"), uint64_t{0});
  EXPECT_EQ(kpk_reserve_scratch(device, 0), KPK_OK);
  set_cuda_device(0);
  CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
  EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{4});
  finish();
}

TEST(cuda_reserving_leaves_the_current_context) {
  start();
  void *before = nullptr, *after = nullptr;
  const auto current = cuda.entry<int(void **)>("cuCtxGetCurrent");
  current(&before);
  EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(1), kMiB), KPK_OK);
  current(&after);
  EXPECT_EQ(after, before);
  std::thread([&] {
    EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(0), kMiB), KPK_OK);
    void *none = &before;
    current(&none);
    CHECK(none == nullptr);
  }).join();
  EXPECT_EQ(cuda.live("pool"), uint64_t{2});
  start();
  EXPECT_EQ(cuda.live("pool"), uint64_t{0});
  finish();
}

TEST(cuda_reserving_fails_in_words_and_leaves_nothing) {
  start();
  const kpk_device device = kpack::cuda_device(0);
  for (const char *call : {"cuMemPoolCreate", "cuMemPoolSetAttribute", "cuStreamCreate",
                           "cuMemAllocFromPoolAsync", "cuStreamSynchronize"}) {
    cuda.fail(call, kOutOfMemory, 0, 1);
    EXPECT_EQ(kpk_reserve_scratch(device, kMiB), KPK_ERROR_DRIVER);
    CHECK(says((std::string("sm_90: ") + call + ": CUDA_ERROR_OUT_OF_MEMORY (2)").c_str()));
    EXPECT_EQ(cuda.live("pool"), uint64_t{0});
    EXPECT_EQ(cuda.live("stream"), uint64_t{0});
  }
  EXPECT_EQ(kpk_reserve_scratch(device, kMiB), KPK_OK);
  cuda.fail("cuMemAllocFromPoolAsync", kOutOfMemory, 0, 1);
  EXPECT_EQ(kpk_reserve_scratch(device, 2 * kMiB), KPK_ERROR_DRIVER);
  EXPECT_EQ(cuda.live("reserved"), kMiB);  // as it was
  cuda.fail("cuMemPoolDestroy", kOutOfMemory, 0, 1);
  EXPECT_EQ(kpk_reserve_scratch(device, 0), KPK_ERROR_DRIVER);
  CHECK(says("cuMemPoolDestroy"));
  EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(7), kMiB), KPK_ERROR_NO_DEVICE);
  CHECK(says("kpk_reserve_scratch: expected one of 2 CUDA devices, got ordinal 7"));
  EXPECT_EQ(kpk_reserve_scratch({KPK_VENDOR_ANY, 0}, kMiB), KPK_ERROR_NO_DEVICE);
  CHECK(says("expected KPK_VENDOR_CUDA or KPK_VENDOR_HIP, got vendor 0"));
  configure_cuda();  // the pool that was not destroyed is gone with it
}

// ---- Captures

TEST(cuda_memory_of_a_capture_is_the_graphs) {
  for (const uint64_t reserved : {uint64_t{0}, kMiB}) {
    for (const int mode : {0, 1, 2}) {
      start();
      EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(0), reserved), KPK_OK);
      CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));  // loaded by now
      void *stream = cuda_stream_of(0), *graph = nullptr;
      EXPECT_EQ(cuda.entry<int(void *, int)>("cuStreamBeginCapture_v2")(stream, mode), 0);
      CHECK(edited::both(kpack::cuda_stream(stream), out, 5, 1, 1, 1));
      EXPECT_EQ(last(cuda).captured, 1);
      EXPECT_EQ(cuda.entry<int(void *, void **)>("cuStreamEndCapture")(stream, &graph), 0);
      EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{reserved == 0 ? 4u : 0u});
      drop_cuda_stream(stream);
      finish();
    }
  }
}

TEST(cuda_memory_can_be_reserved_in_a_capture) {
  for (const int mode : {0, 1, 2}) {
    start();
    void *stream = cuda_stream_of(0), *graph = nullptr;
    EXPECT_EQ(cuda.entry<int(void *, int)>("cuStreamBeginCapture_v2")(stream, mode), 0);
    EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(0), kMiB), KPK_OK);
    EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(0), 0), KPK_OK);
    EXPECT_EQ(cuda.entry<int(void *, void **)>("cuStreamEndCapture")(stream, &graph), 0);
    int thread_mode = 0;
    cuda.entry<int(int *)>("cuThreadExchangeStreamCaptureMode")(&thread_mode);
    EXPECT_EQ(thread_mode, 0);  // as it was
    drop_cuda_stream(stream);
    finish();
  }
}

// ---- Together

TEST(cuda_memory_is_of_the_streams_device) {
  for (const uint64_t reserved : {uint64_t{0}, kMiB}) {
    start();
    void *stream = cuda_stream_of(1);
    set_cuda_device(0);
    for (const int device : {0, 1}) kpk_reserve_scratch(kpack::cuda_device(device), reserved);
    for (int i = 0; i < 2; ++i) CHECK(edited::both(kpack::cuda_stream(stream), out, 5, 1, 1, 1));
    EXPECT_EQ(last(cuda).device, 1);
    drop_cuda_stream(stream);
    finish();
  }
}

TEST(cuda_threads_launch_while_a_pool_comes_and_goes) {
  start();
  CHECK(edited::both(cuda_default, out, 5, 1, 1, 1));
  cuda.delay_us("cuMemAllocFromPoolAsync", 200);  // time enough to lose the pool
  constexpr int kThreads = 4, kLaunches = 200;
  std::atomic<int> failed{0}, running{kThreads};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      void *stream = cuda_stream_of(i % 2);
      for (int k = 0; k < kLaunches; ++k) {
        if (!edited::both(kpack::cuda_stream(stream), out, 5, 1 + k % 5, 1, 1)) ++failed;
      }
      drop_cuda_stream(stream);
      --running;
    });
  }
  while (running.load() != 0) {
    for (const uint64_t bytes : {kMiB, uint64_t{0}}) {
      for (const int device : {0, 1}) {
        if (kpk_reserve_scratch(kpack::cuda_device(device), bytes) != KPK_OK) ++failed;
      }
    }
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failed.load(), 0);
  EXPECT_EQ(cuda.launches(), uint64_t{kThreads * kLaunches + 1});
  EXPECT_EQ(cuda.live("pool"), uint64_t{0});
  finish();
}

TEST(cuda_threads_may_reserve_at_once) {
  start();
  cuda.delay_us("cuMemPoolCreate", 2000);
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 1; i <= 4; ++i) {
    threads.emplace_back([&failed, i] {
      const uint64_t bytes = static_cast<uint64_t>(i) * kMiB;
      if (kpk_reserve_scratch(kpack::cuda_device(0), bytes) != KPK_OK) ++failed;
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failed.load(), 0);
  EXPECT_EQ(cuda.live("pool"), uint64_t{1});
  CHECK(cuda.live("reserved") >= 4 * kMiB);  // the largest wish
  finish();
}

TEST(cuda_a_dry_run_has_no_memory_and_shows_what_it_would_be) {
  start();
  Hook hook;
  hook.use(KPK_SCRATCH_GLOBAL);
  CHECK(kpack::use_dry_driver("sm_90"));
  EXPECT_EQ(edited::both(cuda_default, out, 5, 3, 1, 1).code(), KPK_DRY);
  CHECK(says("  scratch  48 bytes x 3 = 144 bytes, at a multiple of 1024\n"));
  CHECK(says("  profile  40 bytes x 3 = 120 bytes, at a multiple of 8\n"));
  EXPECT_EQ(edited::wide(cuda_default, out, 5, 3, 1, 1).code(), KPK_DRY);
  CHECK(says("  grid     6 x 1 x 1\n"));
  CHECK(says("  scratch  128 bytes x 6 = 768 bytes, at a multiple of 128\n"));
  CHECK(says("  launch   clusters of 2 x 1 x 1\n"));
  EXPECT_EQ(edited::team(cuda_default, out, 5, 3, 1, 1).code(), KPK_DRY);
  CHECK(says("  launch   clusters of 2 x 1 x 1, cooperative\n"));
  EXPECT_EQ(edited::dependent_too(cuda_default, out, 5, 3, 1, 1).code(), KPK_DRY);
  CHECK(says("  launch   programmatic dependent launch\n"));
  EXPECT_EQ(edited::huge(cuda_default, out, 5, INT32_MAX, 65535, 65535).code(), KPK_ERROR_MEMORY);
  EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(0), kMiB), KPK_OK);
  CHECK(kpack::use_dry_driver("gfx1250"));
  EXPECT_EQ(edited::wide(hip_default, out, 5, 3, 1, 1).code(), KPK_DRY);
  CHECK(says("  scratch  128 bytes x 3 = 384 bytes, at a multiple of 128\n"));
  CHECK(kpack::use_real_drivers());
  EXPECT_EQ(hook.asked.size(), size_t{0});
  EXPECT_EQ(cuda.calls("cuMemAllocAsync") + cuda.calls("cuMemPoolCreate"), uint64_t{0});
  finish();
}

// ---- HIP

TEST(hip_profile_memory_is_zeroed_aligned_and_given_back) {
  start();
  CHECK(edited::both(hip_default, out, 5, 3, 2, 1));
  const uint64_t global = address(last(hip), kGlobalAt), profile = address(last(hip), kProfileAt);
  EXPECT_EQ(global % 1024, uint64_t{0});
  CHECK(all_are(global, 48 * 6, 0xa5));
  CHECK(all_are(profile, 40 * 6, 0));
  EXPECT_EQ(hip.calls("hipMallocAsync"), uint64_t{2});
  EXPECT_EQ(hip.calls("hipMemsetAsync"), uint64_t{1});
  EXPECT_EQ(hip.calls("hipFreeAsync"), uint64_t{2});
  finish();
}

TEST(hip_nothing_leaks) {
  struct Case {
    const char *call;
    uint64_t after, freed;
  };
  for (const Case &one : {Case{"hipMallocAsync", 0, 0}, Case{"hipMallocAsync", 1, 1},
                          Case{"hipMemsetAsync", 0, 2}, Case{"hipModuleLaunchKernel", 0, 2}}) {
    start();
    hip.fail(one.call, kOutOfMemory, one.after, 1);
    EXPECT_EQ(edited::both(hip_default, out, 5, 1, 1, 1).code(), KPK_ERROR_DRIVER);
    CHECK(says(one.call));
    EXPECT_EQ(hip.calls("hipFreeAsync"), one.freed);
    EXPECT_EQ(hip.launches(), uint64_t{0});
    finish();
  }
}

TEST(hip_memory_is_of_the_streams_device) {
  start();
  void *stream = nullptr;
  set_hip_device(1);
  hip.entry<int(void **)>("hipStreamCreate")(&stream);
  set_hip_device(0);
  EXPECT_EQ(kpk_reserve_scratch(kpack::hip_device(1), kMiB), KPK_OK);
  const uint64_t before = hip.calls("hipMallocFromPoolAsync");
  CHECK(edited::both(kpack::hip_stream(stream), out, 5, 1, 1, 1));
  EXPECT_EQ(last(hip).device, 1);
  EXPECT_EQ(hip.calls("hipMallocFromPoolAsync"), before + 2);
  hip.entry<int(void *)>("hipStreamDestroy")(stream);
  finish();
}

TEST(hip_reserved_memory_comes_from_a_pool) {
  start();
  int current = -1;
  EXPECT_EQ(kpk_reserve_scratch(kpack::hip_device(2), kMiB), KPK_OK);
  EXPECT_EQ(hip.live("reserved"), kMiB);
  hip.entry<int(int *)>("hipGetDevice")(&current);
  EXPECT_EQ(current, 0);
  CHECK(edited::odd(hip_default, out, 5, 1, 1, 1));  // of device 0, which has none
  EXPECT_EQ(hip.calls("hipMallocAsync"), uint64_t{1});
  EXPECT_EQ(kpk_reserve_scratch(kpack::hip_device(2), 2 * kMiB), KPK_OK);
  EXPECT_EQ(hip.live("reserved"), 2 * kMiB);
  EXPECT_EQ(hip.live("pool"), uint64_t{1});
  for (const char *call : {"hipMemPoolCreate", "hipMemPoolSetAttribute", "hipStreamCreateWithFlags",
                           "hipMallocFromPoolAsync", "hipStreamSynchronize"}) {
    hip.fail(call, kOutOfMemory, 0, 1);
    EXPECT_EQ(kpk_reserve_scratch(kpack::hip_device(0), kMiB), KPK_ERROR_DRIVER);
    CHECK(says((std::string("gfx90a:sramecc+:xnack-: ") + call).c_str()));
    EXPECT_EQ(hip.live("pool"), uint64_t{1});
    EXPECT_EQ(hip.live("stream"), uint64_t{0});
  }
  EXPECT_EQ(kpk_reserve_scratch(kpack::hip_device(2), 0), KPK_OK);
  EXPECT_EQ(hip.live("pool"), uint64_t{0});
  finish();
}

void *begin_hip_capture() {
  void *stream = nullptr;
  hip.entry<int(void **)>("hipStreamCreate")(&stream);
  EXPECT_EQ(hip.entry<int(void *, int)>("hipStreamBeginCapture")(stream, 0), 0);
  return stream;
}
int end_hip_capture(void *stream) {
  void *graph = nullptr;
  const int code = hip.entry<int(void *, void **)>("hipStreamEndCapture")(stream, &graph);
  hip.entry<int(void *)>("hipStreamDestroy")(stream);
  return code;
}

TEST(hip_a_capture_without_allocations_needs_a_hook) {
  start();
  CHECK(edited::odd(hip_default, out, 5, 1, 1, 1));
  hip.option("capture_allocation", kCaptureUnsupported);
  void *stream = begin_hip_capture();
  EXPECT_EQ(edited::odd(kpack::hip_stream(stream), out, 5, 1, 1, 1).code(), KPK_ERROR_DRIVER);
  CHECK(says("odd.BLOCK256.w4.gfx90a: hipMallocAsync: hipErrorStreamCaptureUnsupported (900)"));
  CHECK(says("give it some with kpk_set_scratch"));
  EXPECT_EQ(kpk_driver_code(), kCaptureUnsupported);
  end_hip_capture(stream);
  Hook hook;
  hook.answer = 96 * 0x1000;
  hook.use(KPK_SCRATCH_GLOBAL);
  stream = begin_hip_capture();
  CHECK(edited::odd(kpack::hip_stream(stream), out, 5, 1, 1, 1));
  EXPECT_EQ(last(hip).captured, 1);
  EXPECT_EQ(end_hip_capture(stream), 0);
  finish();
}

TEST(hip_a_capture_with_allocations_takes_them) {
  start();
  CHECK(edited::both(hip_default, out, 5, 1, 1, 1));
  void *stream = begin_hip_capture();
  CHECK(edited::both(kpack::hip_stream(stream), out, 5, 1, 1, 1));
  EXPECT_EQ(kpk_reserve_scratch(kpack::hip_device(0), kMiB), KPK_OK);
  EXPECT_EQ(end_hip_capture(stream), 0);
  int thread_mode = 0;
  hip.entry<int(int *)>("hipThreadExchangeStreamCaptureMode")(&thread_mode);
  EXPECT_EQ(thread_mode, 0);  // as it was
  finish();
}

TEST(hip_a_cooperative_grid_takes_pointers) {
  start();
  CHECK(edited::together(hip_default, out, 77, 3, 2, 1));
  const fake_launch launch = last(hip);
  EXPECT_EQ(std::string(launch.call), std::string("hipModuleLaunchCooperativeKernel"));
  EXPECT_EQ(launch.packed, 0);
  EXPECT_EQ(launch.cooperative, 1);
  EXPECT_EQ(launch.grid[1], 2u);
  EXPECT_EQ(address(launch, 0), uint64_t{0x1000});
  EXPECT_EQ(fake::argument<int32_t>(launch, 1), 77);
  EXPECT_EQ(edited::together(hip_default, out, 77, 1 << 20, 1, 1).code(), KPK_ERROR_DRIVER);
  CHECK(says("hipModuleLaunchCooperativeKernel: hipErrorCooperativeLaunchTooLarge (720)"));
  finish();
}

TEST(hip_a_stream_of_another_device_takes_special_launches) {
  start();
  void *stream = nullptr;
  set_hip_device(1);
  hip.entry<int(void **)>("hipStreamCreate")(&stream);
  set_hip_device(0);
  CHECK(edited::together(kpack::hip_stream(stream), out, 77, 1, 1, 1));
  EXPECT_EQ(last(hip).device, 1);
  EXPECT_EQ(hip.entry<int()>("hipGetLastError")(), 0);
  hip.entry<int(void *)>("hipStreamDestroy")(stream);
  finish();
}

TEST(hip_clusters_carry_their_attribute) {
  start();
  set_hip_device(2);
  CHECK(edited::wide(hip_default, out, 77, 3, 1, 1));
  fake_launch launch = last(hip);
  EXPECT_EQ(std::string(launch.call), std::string("hipDrvLaunchKernelEx"));
  EXPECT_EQ(launch.cluster[0], 2u);
  EXPECT_EQ(launch.grid[0], 6u);
  EXPECT_EQ(launch.cooperative, 0);
  EXPECT_EQ(fake::argument<int32_t>(launch, 1), 77);
  CHECK(address(launch, kGlobalAt) != 0);
  CHECK(edited::team(hip_default, out, 77, 3, 1, 1));
  launch = last(hip);
  EXPECT_EQ(launch.cluster[0], 2u);
  EXPECT_EQ(launch.cooperative, 1);
  set_hip_device(0);
  EXPECT_EQ(edited::marked(hip_default, out, 77, 3, 1, 1).code(), KPK_ERROR_LIMIT);
  CHECK(says("gfx90a: needs clusters of 2 blocks, gfx90a:sramecc+:xnack- has none"));
  finish();
}

TEST(hip_dependent_launches_are_plain) {
  start();
  CHECK(edited::dependent_too(hip_default, out, 77, 3, 1, 1));
  EXPECT_EQ(std::string(last(hip).call), std::string("hipModuleLaunchKernel"));
  EXPECT_EQ(last(hip).attributes, 0u);
  CHECK(edited::dependent_too(cuda_default, out, 77, 3, 1, 1));
  EXPECT_EQ(last(cuda).attributes, 1u << 6);
  finish();
}

// ---- Older drivers

TEST(before_11_2_there_is_no_memory_in_a_stream) {
  start();
  EXPECT_EQ(edited::odd(cuda_default, out, 5, 1, 1, 1).code(), KPK_ERROR_LIMIT);
  CHECK(says(
      "odd.BLOCK256.w4.sm_80: needs stream-ordered memory, which drivers have from CUDA 11.2 on, this one "
      "is of 11.1"));
  EXPECT_EQ(kpk_reserve_scratch(kpack::cuda_device(0), kMiB), KPK_ERROR_LIMIT);
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(before_7_0_there_are_no_clusters) {
  start();
  set_hip_device(2);
  EXPECT_EQ(edited::wide(hip_default, out, 77, 3, 1, 1).code(), KPK_ERROR_LIMIT);
  CHECK(says("gfx1250: needs clusters, which HIP launches from ROCm 7.0 on, this one is of HIP 6.3"));
  EXPECT_EQ(hip.live("module"), uint64_t{0});
  finish();
}

}  // namespace

// `old`: CUDA 11.8. `11.1`, `rocm`: drivers that lack what some images need.
int main(int argc, char **argv) {
  const std::string driver = argc > 1 ? argv[1] : "";
  cuda = fake::open("libcuda.so.1", "cuda");
  hip = fake::open("libamdhip64.so", "hip");
  cuda_devices = driver == "old"    ? "sm_90,sm_80;driver=11080"
                 : driver == "11.1" ? "sm_80;driver=11010"
                                    : "sm_90,sm_80;driver=12080";
  configure_cuda();
  hip.configure(driver == "rocm" ? "gfx90a:sramecc+:xnack-,gfx1100,gfx1250;driver=60300000"
                                 : "gfx90a:sramecc+:xnack-,gfx1100,gfx1250");
  if (driver == "11.1") return check::run("before_11_2");
  if (driver == "rocm") return check::run("before_7_0");
  const int cuda_failed = check::run("cuda_");
  return driver == "old" ? cuda_failed : cuda_failed | check::run("hip_");
}
