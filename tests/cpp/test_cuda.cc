// Loading and launching on NVIDIA: the runtime against the fake libcuda, two devices, sm_90 and sm_80.
// With the argument "old" the driver is CUDA 11.8's, whose contexts have no ids.

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>
#include <thread>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(tk, scale);
KPACK_KERNEL(tk, scalars);
KPACK_KERNEL(tk, choose);
KPACK_KERNEL(tk, product);
KPACK_KERNEL(tk, optional);
KPACK_KERNEL(tk, nothing);
KPACK_KERNEL(tk, clustered);
KPACK_KERNEL(tk, wide_cluster);
KPACK_KERNEL(tk, big_shared);
KPACK_KERNEL(tk, cooperative);
KPACK_KERNEL(tk, dependent);
KPACK_KERNEL(tk, described);

namespace {

fake::Fake cuda;
bool old_driver;

constexpr int kInvalidImage = 200, kOutOfMemory = 2;

float *device(uintptr_t address) { return reinterpret_cast<float *>(address); }

int set_device(int ordinal) {
  void *context = nullptr;
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, ordinal);
  return cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
}

fake_launch last_launch() {
  fake_launch launch = {};
  launch.function = "no launch";
  CHECK(cuda.launches() != 0 && cuda.launch(cuda.launches() - 1, &launch) != 0);
  return launch;
}

// Nothing loaded, nothing recorded, device 0 current.
void start() {
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) kpk_unload(&kernel.native());
  cuda.reset();
  set_device(0);
}

void finish() {
  for (uint64_t i = 0; i < cuda.violations(); ++i) std::printf("  violation: %s\n", cuda.violation(i));
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

bool says(const char *part) { return std::strstr(kpk_message(), part) != nullptr; }

TEST(a_launch_carries_arguments_grid_and_block) {
  start();
  const kpack::Status status = tk::scale(nullptr, device(0x1000), device(0x2000), 2.5, 7, 5000);
  EXPECT_EQ(std::string(status.message()), std::string());
  const fake_launch launch = last_launch();
  EXPECT_EQ(std::string(launch.function), std::string("scale_fp32_BLOCK128_w1_a16"));
  EXPECT_EQ(launch.grid[0], 40u);
  EXPECT_EQ(launch.grid[1], 1u);
  EXPECT_EQ(launch.block[0], 32u);
  EXPECT_EQ(fake::argument<uint64_t>(launch, 0), uint64_t{0x1000});
  EXPECT_EQ(fake::argument<uint64_t>(launch, 1), uint64_t{0x2000});
  EXPECT_EQ(fake::argument<float>(launch, 2), 2.5f);
  EXPECT_EQ(fake::argument<int32_t>(launch, 3), 7);
  EXPECT_EQ(fake::argument<int32_t>(launch, 4), 5000);
  finish();
}

TEST(hidden_scratch_arguments_are_null) {
  start();
  CHECK(tk::nothing(nullptr));
  const fake_launch launch = last_launch();
  EXPECT_EQ(launch.param_count, 2u);
  EXPECT_EQ(fake::argument<uint64_t>(launch, 0), uint64_t{0});
  EXPECT_EQ(fake::argument<uint64_t>(launch, 1), uint64_t{0});
  finish();
}

TEST(every_scalar_type_arrives_as_the_kernel_reads_it) {
  start();
  CHECK(tk::scalars(nullptr, reinterpret_cast<double *>(0x1000), true, -128, -32768, INT32_MIN, INT64_MIN,
                    255, 65535, 4294967295u, UINT64_MAX, 1.5f, -2.0, 0.1f, 0.1));
  const fake_launch launch = last_launch();
  EXPECT_EQ(int{fake::argument<uint8_t>(launch, 1)}, 1);
  EXPECT_EQ(int{fake::argument<int8_t>(launch, 2)}, -128);
  EXPECT_EQ(int{fake::argument<int16_t>(launch, 3)}, -32768);
  EXPECT_EQ(fake::argument<int32_t>(launch, 4), INT32_MIN);
  EXPECT_EQ(fake::argument<int64_t>(launch, 5), INT64_MIN);
  EXPECT_EQ(int{fake::argument<uint8_t>(launch, 6)}, 255);
  EXPECT_EQ(int{fake::argument<uint16_t>(launch, 7)}, 65535);
  EXPECT_EQ(fake::argument<uint32_t>(launch, 8), UINT32_MAX);
  EXPECT_EQ(fake::argument<uint64_t>(launch, 9), UINT64_MAX);
  EXPECT_EQ(int{fake::argument<uint16_t>(launch, 10)}, 0x3e00);
  EXPECT_EQ(int{fake::argument<uint16_t>(launch, 11)}, 0xc000);
  EXPECT_EQ(fake::argument<float>(launch, 12), 0.1f);
  EXPECT_EQ(fake::argument<double>(launch, 13), 0.1);
  finish();
}

TEST(alignment_and_one_choose_the_variant) {
  start();
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2000), 1.0, 1, 100));
  EXPECT_EQ(std::string(last_launch().function), std::string("scale_fp32_BLOCK128_w1_a16_one_stride"));
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2004), 1.0, 1, 100));
  EXPECT_EQ(std::string(last_launch().function), std::string("scale_fp32_BLOCK128_w1_one_stride"));
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2004), 1.0, 2, 60000));
  EXPECT_EQ(std::string(last_launch().function), std::string("scale_fp32_BLOCK1024_w4"));
  CHECK(tk::scale(nullptr, kpack::ptr(device(0x1000), kpack::DType::fp16),
                  kpack::ptr(device(0x2000), kpack::DType::fp16), 1.0, 2, 100));
  EXPECT_EQ(std::string(last_launch().function), std::string("scale_fp16_BLOCK128_w1_a16"));
  finish();
}

TEST(null_chooses_the_variant_without_the_pointer) {
  start();
  CHECK(tk::optional(nullptr, device(0x1000), nullptr, 4));
  EXPECT_EQ(std::string(last_launch().function), std::string("optional_w4_none_bias_ptr"));
  CHECK(tk::optional(nullptr, device(0x1000), static_cast<const float *>(nullptr), 4));
  EXPECT_EQ(std::string(last_launch().function), std::string("optional_w4_none_bias_ptr"));
  CHECK(tk::optional(nullptr, device(0x1000), device(0x2000), 4));
  EXPECT_EQ(std::string(last_launch().function), std::string("optional_w4"));
  finish();
}

TEST(selected_constexprs_choose_the_overload) {
  start();
  CHECK(tk::choose(nullptr, device(0x1000), 5, "single", false, 3, 4));
  const fake_launch launch = last_launch();
  EXPECT_EQ(std::string(launch.function), std::string("choose_MODEsingle_FASTFalse_w4"));
  EXPECT_EQ(launch.grid[0], 3u);
  EXPECT_EQ(launch.grid[1], 4u);
  EXPECT_EQ(launch.param_count, 4u);
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "triple", false, 3, 4).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("argument 3 'MODE': expected 'double', 'single', got 'triple'"));
  finish();
}

TEST(more_than_48_kb_of_shared_memory_is_opted_into) {
  start();
  const auto *half = reinterpret_cast<const uint16_t *>(0x1000);
  CHECK(tk::product(nullptr, device(0x4000), kpack::ptr(half, kpack::DType::fp16),
                    kpack::ptr(half, kpack::DType::fp16), 3));
  CHECK(last_launch().shared_bytes > 48 * 1024);
  CHECK(tk::big_shared(nullptr, device(0x4000), kpack::ptr(half, kpack::DType::fp16),
                       kpack::ptr(half, kpack::DType::fp16), 20));
  CHECK(last_launch().shared_bytes > 200 * 1024);
  finish();
}

TEST(clusters_cooperative_grids_and_dependent_launches_carry_their_attributes) {
  start();
  auto *out = reinterpret_cast<int32_t *>(0x1000);
  CHECK(tk::clustered(nullptr, out, 2560));
  fake_launch launch = last_launch();
  EXPECT_EQ(launch.cluster[0], 2u);
  EXPECT_EQ(launch.grid[0], 20u);               // ten clusters
  CHECK(tk::wide_cluster(nullptr, out, 2560));  // more CTAs than every device takes
  launch = last_launch();
  EXPECT_EQ(launch.cluster[0], 16u);
  EXPECT_EQ(launch.grid[0], 160u);
  CHECK(tk::cooperative(nullptr, out, 2560));
  launch = last_launch();
  EXPECT_EQ(launch.cooperative, 1);
  EXPECT_EQ(launch.grid[0], 10u);
  CHECK(tk::dependent(nullptr, out, 2560));
  launch = last_launch();
  EXPECT_EQ(launch.attributes, 1u << 6);
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(last_launch().attributes, 0u);
  EXPECT_EQ(tk::clustered(nullptr, out, -1).code(), KPK_OK);  // cdiv(-1, 256) is 0: nothing to launch
  EXPECT_EQ(cuda.launches(), uint64_t{5});
  finish();
}

TEST(scratch_memory_is_there_for_the_launch_and_given_back) {
  start();
  const auto *in = reinterpret_cast<const uint16_t *>(0x1000);
  const kpack::Pointer from = kpack::ptr(in, kpack::DType::fp16);
  auto *out = reinterpret_cast<uint16_t *>(0x2000);
  CHECK(tk::described(nullptr, kpack::ptr(out, kpack::DType::fp16), from, 64, 128));
  const fake_launch launch = last_launch();
  EXPECT_EQ(launch.grid[1], 4u);
  CHECK(fake::argument<uint64_t>(launch, launch.param_count - 2) != 0);
  EXPECT_EQ(fake::argument<uint64_t>(launch, launch.param_count - 1), uint64_t{0});
  EXPECT_EQ(cuda.calls("cuMemAllocAsync"), uint64_t{1});
  EXPECT_EQ(cuda.calls("cuMemFreeAsync"), uint64_t{1});
  EXPECT_EQ(cuda.live("memory"), uint64_t{0});
  cuda.fail("cuMemAllocAsync", kOutOfMemory, 0, 1);
  EXPECT_EQ(tk::described(nullptr, kpack::ptr(out, kpack::DType::fp16), from, 64, 128).code(),
            KPK_ERROR_DRIVER);
  CHECK(says("cuMemAllocAsync: CUDA_ERROR_OUT_OF_MEMORY (2)"));
  finish();
}

TEST(an_image_is_loaded_once_for_a_device) {
  start();
  for (int i = 0; i < 5; ++i) CHECK(tk::nothing(nullptr));
  EXPECT_EQ(cuda.loads(0), uint64_t{1});
  EXPECT_EQ(cuda.calls("cuModuleLoadData"), uint64_t{1});
  set_device(1);
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(last_launch().device, 1);
  EXPECT_EQ(cuda.loads(1), uint64_t{1});
  finish();
}

// Calls that ask where the thread is.
uint64_t queries() {
  return cuda.calls("cuCtxGetDevice") + cuda.calls("cuCtxGetCurrent") + cuda.calls("cuStreamGetCtx") +
         (old_driver ? 0 : cuda.calls("cuCtxGetId"));
}

// Where drivers refuse a function that is of another context than the stream, there is nothing to ask before.
TEST(a_launch_asks_the_driver_nothing) {
  start();
  CHECK(tk::nothing(nullptr));
  const uint64_t before = queries();
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(queries() - before, uint64_t{old_driver ? 1u : 0u});
  finish();
}

TEST(a_launch_asks_nothing_after_a_dry_one_either) {
  start();
  CHECK(kpack::use_dry_driver("sm_90", true));
  for (int turn = 0; turn < 3; ++turn) CHECK(tk::nothing(nullptr));
  CHECK(kpack::use_real_drivers());
  for (int turn = 0; turn < 3; ++turn) CHECK(tk::nothing(nullptr));
  const uint64_t before = queries();
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(queries() - before, uint64_t{old_driver ? 1u : 0u});
  finish();
}

TEST(a_kernel_that_is_used_in_two_contexts_asks_once) {
  start();
  for (const int ordinal : {0, 1, 0, 1}) {
    set_device(ordinal);
    CHECK(tk::nothing(nullptr));
    EXPECT_EQ(last_launch().device, ordinal);
  }
  const uint64_t refused = cuda.calls("cuLaunchKernelEx") - cuda.launches();
  EXPECT_EQ(refused, uint64_t{old_driver ? 0u : 1u});
  const uint64_t before = queries();
  set_device(0);
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(queries() - before, uint64_t{1});
  finish();
}

TEST(a_bound_launch_asks_the_driver_nothing) {
  start();
  const kpack::Bound bound = tk::scale.bind(kpack::cuda_device(0));
  CHECK(bound.status());
  CHECK(bound(nullptr, device(0x1000), device(0x2000), 2.5, 7, 5000));
  const uint64_t before = queries();
  CHECK(bound(nullptr, device(0x1000), device(0x2000), 2.5, 7, 5000));
  EXPECT_EQ(queries() - before, uint64_t{0});
  EXPECT_EQ(tk::scale.bind(kpack::cuda_device(2)).status().code(), KPK_ERROR_NO_DEVICE);
  CHECK(says("expected one of 2 CUDA devices, got ordinal 2"));
  finish();
}

TEST(a_kernel_is_bound_to_the_primary_context_of_another_device) {
  start();
  const kpack::Bound bound = tk::nothing.bind(kpack::cuda_device(1));
  CHECK(bound.status());
  set_device(1);
  CHECK(bound(nullptr));
  EXPECT_EQ(last_launch().device, 1);
  EXPECT_EQ(std::string(last_launch().function), std::string("nothing_w4"));
  finish();
}

TEST(a_thread_without_a_context_gets_one) {
  start();
  std::thread([] {
    CHECK(tk::nothing(nullptr));
    EXPECT_EQ(last_launch().device, 0);
  }).join();
  finish();
}

TEST(a_thread_without_a_context_takes_the_streams) {
  start();
  set_device(1);
  void *stream = nullptr;
  cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 0);
  std::thread([stream] {
    CHECK(tk::nothing(kpack::cuda_stream(stream)));
    EXPECT_EQ(last_launch().device, 1);
    EXPECT_EQ(last_launch().stream, stream);
  }).join();
  finish();
}

TEST(an_empty_grid_launches_nothing) {
  start();
  CHECK(tk::choose(nullptr, device(0x1000), 5, "single", false, 0, 4));
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(a_grid_that_does_not_fit_is_refused) {
  start();
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "single", false, 1, 65536).code(), KPK_ERROR_GRID);
  CHECK(says("axis y is 65536"));
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "single", false, -1, 1).code(), KPK_ERROR_GRID);
  CHECK(says("axis x is -1, expected 0 or more"));
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(wrong_calls_are_refused_in_words) {
  start();
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), device(0x2000), 1.0, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(
      says("scale: expected 5 arguments, got 4: scale(*{fp16,fp32} out_ptr, const *{fp16,fp32} in_ptr, fp32 "
           "factor"));
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), 3, 1.0, 1, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("scale: argument 2 'in_ptr': expected const *{fp16,fp32}, got i32 3"));
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), device(0x2000), 1.0, 1.5, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("argument 4 'stride': expected i32, got fp64 1.5"));
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), device(0x2000), 1.0, 1, int64_t{1} << 31).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(says("argument 5 'n': expected i32 from -2147483648 to 2147483647, got 2147483648"));
  EXPECT_EQ(tk::scale(nullptr, static_cast<const float *>(device(0x1000)), device(0x2000), 1.0, 1, 1).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(says("argument 1 'out_ptr': expected *fp32, got const *fp32: the kernel writes it"));
  EXPECT_EQ(tk::scale(nullptr, reinterpret_cast<double *>(0x1000), device(0x2000), 1.0, 1, 1).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(says("argument 1 'out_ptr': expected *{fp16,fp32}, got *fp64"));
  EXPECT_EQ(
      tk::scale(nullptr, kpack::ptr(device(0x1000), kpack::DType::fp16), device(0x2000), 1.0, 1, 1).code(),
      KPK_ERROR_ARGUMENT);
  CHECK(says("no overload takes (*fp16, *fp32, fp64 1, i32 1, i32 1)"));
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(without_an_eligible_variant_each_says_why) {
  start();
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), device(0x2004), 1.0, 2, 1 << 20).code(), KPK_ERROR_NO_VARIANT);
  CHECK(says("fp32.BLOCK1024.w4.a16: 'in_ptr' not divisible by 16"));
  CHECK(says("fp32.BLOCK128.w1.one_stride: 'stride' not 1"));
  CHECK(says("guard n <= 64 * BLOCK does not hold (BLOCK=1024)"));
  const auto *half = reinterpret_cast<const uint16_t *>(0x1008);
  EXPECT_EQ(tk::product(nullptr, device(0x4000), kpack::ptr(half, kpack::DType::fp16),
                        kpack::ptr(half, kpack::DType::fp16), 3)
                .code(),
            KPK_ERROR_NO_VARIANT);
  CHECK(says("'a_ptr', 'b_ptr' not divisible by 16"));
  finish();
}

TEST(integers_are_taken_for_floating_arguments) {
  start();
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2000), 3, 1, 100));
  EXPECT_EQ(fake::argument<float>(last_launch(), 2), 3.0f);
  finish();
}

TEST(a_failed_load_is_reported_and_tried_again) {
  start();
  const char *call = "cuModuleLoadData";
  cuda.fail(call, kInvalidImage, 0, 1);
  const kpack::Status status = tk::nothing(nullptr);
  EXPECT_EQ(status.code(), KPK_ERROR_NO_IMAGE);
  CHECK(says(call));
  CHECK(says("CUDA_ERROR_INVALID_IMAGE (200)"));
  CHECK(says("nothing.w4.sm_90"));
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  CHECK(tk::nothing(nullptr));
  finish();
}

TEST(a_failed_launch_is_reported) {
  start();
  CHECK(tk::nothing(nullptr));
  cuda.fail("cuLaunchKernelEx", kOutOfMemory, 0, 1);
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_ERROR_DRIVER);
  EXPECT_EQ(kpk_driver_code(), kOutOfMemory);
  CHECK(says("cuLaunchKernel"));
  finish();
}

TEST(unloading_gives_everything_back) {
  start();
  CHECK(tk::nothing(nullptr));
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2000), 1.0, 1, 100));
  EXPECT_EQ(cuda.live("module"), uint64_t{2});
  kpk_unload(&kpack::Kernel(tk::nothing).native());
  EXPECT_EQ(cuda.live("module"), uint64_t{1});
  CHECK(tk::nothing(nullptr));
  finish();
}

TEST(a_kernel_runs_in_every_context_of_its_device) {
  start();
  CHECK(tk::nothing(nullptr));
  void *other = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, unsigned, int)>("cuCtxCreate_v2")(&other, 0, 0), 0);
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(last_launch().context, other);
  EXPECT_EQ(cuda.calls("cuModuleLoadData"), uint64_t{2});
  set_device(0);
  CHECK(tk::nothing(nullptr));
  finish();
  start();  // the modules of `other` stay until it goes: it is not current
  cuda.entry<int(void *)>("cuCtxDestroy_v2")(other);
}

TEST(a_bound_handle_outlives_an_unload) {
  start();
  const kpack::Bound bound = tk::nothing.bind(kpack::cuda_device(0));
  CHECK(bound(nullptr));
  EXPECT_EQ(kpk_unload(&kpack::Kernel(tk::nothing).native()), KPK_OK);
  CHECK(bound(nullptr));
  EXPECT_EQ(cuda.launches(), uint64_t{2});
  EXPECT_EQ(bound(kpack::hip_stream(nullptr)).code(), KPK_ERROR_STREAM);
  finish();
}

TEST(a_failed_unload_is_reported) {
  start();
  CHECK(tk::nothing(nullptr));
  cuda.fail("cuModuleUnload", kInvalidImage, 0, 1);
  EXPECT_EQ(kpk_unload(&kpack::Kernel(tk::nothing).native()), KPK_ERROR_DRIVER);
  CHECK(says("nothing: cu"));
}

TEST(the_stream_says_where_a_launch_goes) {
  start();
  set_device(1);
  void *stream = nullptr;
  cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 0);
  set_device(0);
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(last_launch().device, 0);
  CHECK(tk::nothing(kpack::cuda_stream(stream)));
  EXPECT_EQ(last_launch().device, 1);
  EXPECT_EQ(std::string(last_launch().function), std::string("nothing_w4"));
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(last_launch().device, 0);
  finish();
}

TEST(a_bound_handle_refuses_a_stream_of_another_context) {
  start();
  set_device(1);
  void *stream = nullptr;
  cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 0);
  set_device(0);
  const kpack::Bound bound = tk::nothing.bind(kpack::cuda_device(0));
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_EQ(bound(kpack::cuda_stream(stream)).code(), KPK_ERROR_STREAM);
    CHECK(says("nothing: expected a stream of the context of sm_90 (device 0) to which it is bound"));
    CHECK(bound(nullptr));
  }
}

TEST(a_stream_that_is_none_is_refused) {
  start();
  CHECK(tk::nothing(nullptr));
  int none = 0;
  EXPECT_EQ(tk::nothing(kpack::cuda_stream(&none)).code(), KPK_ERROR_DRIVER);
  CHECK(says("CUDA_ERROR_INVALID_HANDLE (400)"));
  CHECK(tk::nothing(nullptr));
}

// ---- pinned handles

TEST(a_pinned_handle_launches_its_variant_and_no_other) {
  start();
  const kpack::Bound pinned =
      tk::scale.pin(kpack::cuda_device(0), device(0x1000), device(0x2000), 2.5f, 7, 5000);
  CHECK(pinned.status());
  kpk_function function = {};
  CHECK(pinned.function(&function));
  EXPECT_EQ(std::string(function.variant), std::string("fp32.BLOCK128.w1.a16"));
  EXPECT_EQ(std::string(function.image), std::string("scale.fp32.BLOCK128.w1.a16.sm_90"));
  EXPECT_EQ(std::string(function.target), std::string("sm_90"));
  EXPECT_EQ(function.block[0], 32u);
  EXPECT_EQ(function.cluster[0], 1u);
  CHECK(function.native != nullptr && function.registers != 0 && function.param_bytes >= 28);
  const uint64_t before = queries();
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(pinned(nullptr, device(0x1000), device(0x2000), 2.5f, 7, 5000));
    EXPECT_EQ(std::string(last_launch().function), std::string("scale_fp32_BLOCK128_w1_a16"));
    EXPECT_EQ(pinned(nullptr, device(0x1004), device(0x2000), 2.5f, 7, 5000).code(), KPK_ERROR_NO_VARIANT);
    CHECK(says("scale: the handle is pinned to fp32.BLOCK128.w1.a16, which may not run this call"));
    CHECK(says("'out_ptr' not divisible by 16"));
    EXPECT_EQ(pinned(nullptr, device(0x1000), device(0x2000), 2.5f, 7, 9000).code(), KPK_ERROR_NO_VARIANT);
    EXPECT_EQ(pinned(nullptr, device(0x1000), device(0x2000), 2.5f, 7).code(), KPK_ERROR_ARGUMENT);
  }
  // Although specialised variants would go first.
  CHECK(pinned(nullptr, device(0x1000), device(0x2000), 2.5f, 1, 5000));
  EXPECT_EQ(std::string(last_launch().function), std::string("scale_fp32_BLOCK128_w1_a16"));
  EXPECT_EQ(queries() - before, uint64_t{0});
  const kpack::Bound none = tk::scale.pin(kpack::cuda_device(0), device(0x1000));
  EXPECT_EQ(none.status().code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(none(nullptr, device(0x1000)).code(), KPK_ERROR_ARGUMENT);
  finish();
}

TEST(a_node_is_a_launch_as_data) {
  start();
  const kpack::Bound pinned =
      tk::scale.pin(kpack::cuda_device(0), device(0x1000), device(0x2000), 2.5f, 7, 5000);
  alignas(128) unsigned char params[256] = {};
  kpk_node node = {};
  CHECK(pinned.node(params, sizeof params, &node, device(0x1000), device(0x2000), 2.5f, 7, 5000));
  CHECK(tk::scale(nullptr, device(0x1000), device(0x2000), 2.5f, 7, 5000));
  const fake_launch launch = last_launch();
  EXPECT_EQ(node.grid[0], launch.grid[0]);
  EXPECT_EQ(node.block[0], launch.block[0]);
  EXPECT_EQ(node.shared_bytes, launch.shared_bytes);
  EXPECT_EQ(node.param_bytes, size_t{launch.param_bytes});
  CHECK(std::memcmp(params, launch.params, launch.param_bytes) == 0);
  kpk_function function = {};
  CHECK(pinned.function(&function));
  EXPECT_EQ(node.function, function.native);
  EXPECT_EQ(pinned.node(params, 8, &node, device(0x1000), device(0x2000), 2.5f, 7, 5000).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(says("bytes of parameters at a multiple of 128, got 8"));
  EXPECT_EQ(pinned.node(params, sizeof params, &node, device(0x1000), device(0x2000), 2.5f, 7, 0).code(),
            KPK_ERROR_GRID);
  const kpack::Bound bound = tk::scale.bind(kpack::cuda_device(0));
  EXPECT_EQ(bound.node(params, sizeof params, &node, device(0x1000), device(0x2000), 2.5f, 7, 5000).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(says("expected a handle pinned to a variant (kpk_bind_call)"));
  finish();
}

TEST(a_pinned_handle_says_how_much_runs_at_once) {
  start();
  const kpack::Bound pinned = tk::nothing.pin(kpack::cuda_device(0));
  int blocks = 0, clusters = 0;
  CHECK(pinned.occupancy(&blocks, &clusters));
  CHECK(blocks > 0);
  EXPECT_EQ(clusters, 0);
  const kpack::Bound clustered =
      tk::clustered.pin(kpack::cuda_device(0), reinterpret_cast<int32_t *>(0x1000), 2560);
  CHECK(clustered.status());
  CHECK(clustered.occupancy(&blocks, &clusters));
  CHECK(blocks > 0 && clusters > 0);
  finish();
}

TEST(nothing_is_followed_that_is_null) {
  start();
  const kpk_stream stream = {nullptr, KPK_VENDOR_CUDA, 0};
  EXPECT_EQ(kpk_launch(nullptr, stream, nullptr, 0, 0), KPK_ERROR_ARGUMENT);
  CHECK(says("expected a kernel, got null"));
  const kpk_kernel *kernel = &kpack::Kernel(tk::scale).native();
  EXPECT_EQ(kpk_launch(kernel, stream, nullptr, 5, 0), KPK_ERROR_ARGUMENT);
  CHECK(says("expected arguments, got null"));
  EXPECT_EQ(kpk_launch(kernel, {nullptr, 7, 0}, nullptr, 0, 0), KPK_ERROR_STREAM);
  EXPECT_EQ(kpk_launch(&kpack::Kernel(tk::nothing).native(), stream, nullptr, 0, 0), KPK_OK);
  EXPECT_EQ(kpk_launch_bound(nullptr, stream, nullptr, 0, 0), KPK_ERROR_ARGUMENT);
  kpk_bound bound;
  EXPECT_EQ(kpk_bind(nullptr, kpack::cuda_device(0), &bound), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_bind(kernel, {KPK_VENDOR_ANY, 0}, &bound), KPK_ERROR_NO_DEVICE);
  EXPECT_EQ(kpk_unload(nullptr), KPK_OK);
  CHECK(kpk_pack_of(nullptr) == nullptr);
}

TEST(a_pointer_to_char_is_not_read) {
  start();
  char *const on_device = reinterpret_cast<char *>(0x1000);
  EXPECT_EQ(tk::scale(nullptr, on_device, device(0x2000), 1.0, 1, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("argument 1 'out_ptr': expected *{fp16,fp32}, got string"));
  finish();
}

TEST(an_address_across_elements_is_refused) {
  start();
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), device(0x2002), 1.0, 1, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("argument 2 'in_ptr': expected the address of a fp32, a multiple of 4, got 0x2002"));
  finish();
}

TEST(what_the_device_does_not_have_is_named) {
  start();
  const auto *half = reinterpret_cast<const uint16_t *>(0x1000);
  const kpack::Pointer a = kpack::ptr(half, kpack::DType::fp16);
  CHECK(kpack::use_dry_driver("sm_86"));  // runs sm_80's images, with less shared memory
  EXPECT_EQ(tk::product(nullptr, device(0x4000), a, a, 3).code(), KPK_ERROR_LIMIT);
  CHECK(says("product.SIZE128.w8.s3.sm_80: needs 131072 bytes of shared memory a block, sm_86 has 101376"));
  CHECK(kpack::use_real_drivers());
}

TEST(a_huge_u64_is_never_taken_for_a_negative_number) {
  start();
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), device(0x2000), UINT64_MAX, 1, 1).code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(tk::scale(nullptr, device(0x1000), device(0x2000), 1.0, 1, UINT64_MAX).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(says("got 18446744073709551615"));
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "single", false, UINT64_MAX, 1).code(),
            KPK_ERROR_ARGUMENT);
  finish();
}

TEST(volatile_and_foreign_doubles_stay_doubles) {
  start();
  const volatile double tenth = 0.1;
  CHECK(tk::scalars(nullptr, reinterpret_cast<double *>(0x1000), true, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0,
                    tenth));
  EXPECT_EQ(fake::argument<double>(last_launch(), 13), 0.1);
  finish();
}

TEST(linked_kernels_are_found_by_name) {
  unsigned count = 0;
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) count += std::strlen(kernel.name()) != 0;
  EXPECT_EQ(count, kpk_pack_size(kpk_pack_of(kpk_linked_begin())));
  CHECK(count > 10);
  EXPECT_EQ(kpack::find("tk", "scale"), &kpack::Kernel(tk::scale).native());
  CHECK(kpack::find("tk", "absent") == nullptr);
  CHECK(kpack::find("kt", "scale") == nullptr);
}

TEST(the_dry_driver_shows_what_would_run_and_is_no_success) {
  start();
  CHECK(kpack::use_dry_driver("gfx90a"));
  const kpack::Status status = tk::scale(nullptr, device(0x1000), device(0x2000), 2.5, 7, 5000);
  EXPECT_EQ(status.code(), KPK_DRY);
  CHECK(!status && status.dry());
  for (const char *part : {"scale on gfx90a (dry)", "fp32.BLOCK128.w1.a16", "grid     40 x 1 x 1",
                           "64 threads (1 warps of 64)", "factor=2.5 stride=7 n=5000"}) {
    CHECK(says(part));
  }
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "single", false, 0, 4).code(), KPK_DRY);
  CHECK(kpack::use_dry_driver("sm_89"));
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_DRY);
  CHECK(says("nothing.w4.sm_80"));
  CHECK(kpack::use_dry_driver("sm_120"));
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_ERROR_NO_IMAGE);
  CHECK(says("nothing: no image for sm_120; this archive has "));
  CHECK(kpack::use_dry_driver("sm_90", true));
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(kpack::use_dry_driver("vax").code(), KPK_ERROR_NO_DEVICE);
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  CHECK(kpack::use_real_drivers());
  CHECK(tk::nothing(nullptr));
  EXPECT_EQ(cuda.launches(), uint64_t{1});
  finish();
}

}  // namespace

int main(int argc, char **argv) {
  old_driver = argc > 1 && std::strcmp(argv[1], "old") == 0;
  setenv("FAKE_HIP", "none", 1);
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure(old_driver ? "sm_90,sm_80;driver=11080" : "sm_90,sm_80;driver=12080");
  return check::run();
}
