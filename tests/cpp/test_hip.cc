// Loading and launching on AMD: the runtime against the fake libamdhip64, two devices, gfx90a and gfx1100.

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(tk, scale);
KPACK_KERNEL(tk, scalars);
KPACK_KERNEL(tk, nothing);
KPACK_KERNEL(tk, choose);

namespace {

fake::Fake hip;
constexpr int kInvalidImage = 200, kFileNotFound = 301, kOutOfMemory = 2;

float *device(uintptr_t address) { return reinterpret_cast<float *>(address); }
void set_device(int ordinal) { hip.entry<int(int)>("hipSetDevice")(ordinal); }
int current_device() {
  int ordinal = -1;
  hip.entry<int(int *)>("hipGetDevice")(&ordinal);
  return ordinal;
}

fake_launch last_launch() {
  fake_launch launch = {};
  launch.function = "no launch";
  CHECK(hip.launches() != 0 && hip.launch(hip.launches() - 1, &launch) != 0);
  return launch;
}

void start() {
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) kpk_unload(&kernel.native());
  hip.reset();
  set_device(0);
}

void finish() {
  for (uint64_t i = 0; i < hip.violations(); ++i) std::printf("  violation: %s\n", hip.violation(i));
  EXPECT_EQ(hip.violations(), uint64_t{0});
}

bool says(const char *part) { return std::strstr(kpk_message(), part) != nullptr; }

TEST(a_launch_carries_arguments_and_the_wave_size_of_the_image) {
  start();
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2000), 2.5, 7, 5000));
  fake_launch launch = last_launch();
  EXPECT_EQ(std::string(launch.function), std::string("scale_fp32_BLOCK128_w1_a16"));
  EXPECT_EQ(launch.grid[0], 40u);
  EXPECT_EQ(launch.block[0], 64u);
  EXPECT_EQ(fake::argument<uint64_t>(launch, 1), uint64_t{0x2000});
  EXPECT_EQ(fake::argument<float>(launch, 2), 2.5f);
  EXPECT_EQ(fake::argument<int32_t>(launch, 4), 5000);
  set_device(1);
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2000), 2.5, 7, 5000));
  launch = last_launch();
  EXPECT_EQ(launch.device, 1);
  EXPECT_EQ(launch.block[0], 32u);
  finish();
}

TEST(every_scalar_type_arrives_as_the_kernel_reads_it) {
  start();
  CHECK(tk::scalars(nullptr, reinterpret_cast<double *>(0x1000), false, -1, -2, -3, -4, 1, 2, 3, 4, 0.5, 0.25,
                    0.1f, 0.1));
  const fake_launch launch = last_launch();
  EXPECT_EQ(int{fake::argument<uint8_t>(launch, 1)}, 0);
  EXPECT_EQ(int{fake::argument<int8_t>(launch, 2)}, -1);
  EXPECT_EQ(fake::argument<int64_t>(launch, 5), int64_t{-4});
  EXPECT_EQ(fake::argument<uint64_t>(launch, 9), uint64_t{4});
  EXPECT_EQ(int{fake::argument<uint16_t>(launch, 10)}, 0x3800);
  EXPECT_EQ(int{fake::argument<uint16_t>(launch, 11)}, 0x3e80);
  EXPECT_EQ(fake::argument<float>(launch, 12), 0.1f);
  EXPECT_EQ(fake::argument<double>(launch, 13), 0.1);
  finish();
}

TEST(the_stream_says_the_device) {
  start();
  set_device(1);
  void *stream = nullptr;
  hip.entry<int(void **)>("hipStreamCreate")(&stream);
  set_device(0);
  CHECK(tk::nothing(static_cast<ihipStream_t *>(stream)));
  EXPECT_EQ(last_launch().device, 1);
  EXPECT_EQ(last_launch().stream, stream);
  EXPECT_EQ(hip.loads(1), uint64_t{1});
  EXPECT_EQ(hip.loads(0), uint64_t{0});
  EXPECT_EQ(current_device(), 0);
  EXPECT_EQ(hip.calls("hipStreamGetDevice"), uint64_t{1});
  finish();
}

TEST(images_are_aligned_to_a_page) {
  start();
  CHECK(tk::nothing(nullptr));
  CHECK(tk::choose(nullptr, device(0x1000), 5, "single", false, 3, 4));
  EXPECT_EQ(hip.unaligned(), uint64_t{0});
  finish();
}

TEST(a_refused_file_backed_image_is_loaded_from_a_copy) {
  for (const int code : {kFileNotFound, kInvalidImage}) {
    start();
    hip.option("file_backed", code);
    CHECK(tk::nothing(nullptr));
    EXPECT_EQ(hip.calls("hipModuleLoadData"), uint64_t{2});
    EXPECT_EQ(hip.entry<int()>("hipGetLastError")(), 0);
    CHECK(tk::nothing(nullptr));
    EXPECT_EQ(hip.unaligned(), uint64_t{0});
    finish();
  }
}

TEST(other_load_failures_are_reported) {
  start();
  hip.fail("hipModuleLoadData", kOutOfMemory, 0, 1);
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_ERROR_DRIVER);
  EXPECT_EQ(kpk_driver_code(), kOutOfMemory);
  CHECK(says("nothing.w4.gfx90a: hipModuleLoadData: hipErrorOutOfMemory (2)"));
  CHECK(tk::nothing(nullptr));
  finish();
}

TEST(a_grid_of_too_many_threads_is_refused) {
  start();
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "single", false, 1 << 24, 1).code(), KPK_ERROR_GRID);
  CHECK(says("axis x is 16777216, more threads than the device takes (at most 16777215)"));
  CHECK(tk::choose(nullptr, device(0x1000), 5, "single", false, (1 << 24) - 1, 1));
  CHECK(tk::choose(nullptr, device(0x1000), 5, "single", false, 0, 1));
  EXPECT_EQ(hip.launches(), uint64_t{1});
  finish();
}

TEST(a_bound_launch_asks_the_driver_nothing) {
  start();
  const kpack::Bound bound = tk::nothing.bind(kpack::hip_device(1));
  set_device(1);
  CHECK(bound(nullptr));
  const uint64_t before = hip.calls("hipGetDevice");
  CHECK(bound(nullptr));
  EXPECT_EQ(hip.calls("hipGetDevice"), before);
  EXPECT_EQ(last_launch().device, 1);
  finish();
}

TEST(a_module_that_stays_loaded_keeps_its_image) {
  start();
  hip.option("file_backed", kFileNotFound);
  CHECK(tk::nothing(nullptr));
  hip.fail("hipModuleUnload", kOutOfMemory, 0, 1);
  EXPECT_EQ(kpk_unload(&kpack::Kernel(tk::nothing).native()), KPK_ERROR_DRIVER);
  CHECK(says("nothing: hipModuleUnload"));
  EXPECT_EQ(hip.live("module"), uint64_t{1});
  hip.configure("gfx90a:sramecc+:xnack-,gfx1100");
}

TEST(a_pinned_handle_says_how_many_blocks_run_at_once) {
  start();
  kpk_bound bound;
  int blocks = 0, clusters = -1;
  // Of a device that is not the current one.
  EXPECT_EQ(kpk_bind_call(&kpack::Kernel(tk::nothing).native(), kpack::hip_device(1), nullptr, 0, 0, &bound),
            KPK_OK);
  EXPECT_EQ(kpk_bound_occupancy(&bound, &blocks, &clusters), KPK_OK);
  EXPECT_EQ(blocks, 2048 / 128);
  EXPECT_EQ(clusters, 0);
  EXPECT_EQ(current_device(), 0);
  hip.fail("hipModuleOccupancyMaxActiveBlocksPerMultiprocessor", kOutOfMemory, 0, 1);
  EXPECT_EQ(kpk_bound_occupancy(&bound, &blocks, &clusters), KPK_ERROR_DRIVER);
  CHECK(says("hipModuleOccupancyMaxActiveBlocksPerMultiprocessor: hipErrorOutOfMemory (2)"));
  EXPECT_EQ(current_device(), 0);
  finish();
}

TEST(unloading_gives_everything_back) {
  start();
  hip.option("file_backed", kFileNotFound);
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(hip.live("module"), uint64_t{1});
  start();
  EXPECT_EQ(hip.live("module"), uint64_t{0});
  finish();
}

}  // namespace

int main() {
  setenv("FAKE_CUDA", "none", 1);
  hip = fake::open("libamdhip64.so", "hip");
  hip.configure("gfx90a:sramecc+:xnack-,gfx1100");
  return check::run();
}
