// Loading on NVIDIA: which image, the proof, captures, preloading, resets. Devices sm_86, sm_90 and sm_80. With the
// argument "old" the driver is CUDA 11.8's, whose contexts have no ids; with "12.3" one that says no layouts.

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>
#include <thread>

#include "check.h"
#include "edit.h"
#include "fake.h"
#include "view.h"

KPACK_KERNEL(ld, copy);
KPACK_KERNEL(ld, fill);

namespace {

fake::Fake cuda;
std::string driver;
bool old_driver;

constexpr int kOutOfMemory = 2, kNoBinaryForGpu = 209;

float *device(uintptr_t address) { return reinterpret_cast<float *>(address); }
constexpr const char *kLoad = "cuModuleLoadData";
uint64_t live() { return cuda.live("module"); }

void *set_device(int ordinal) {
  void *context = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, ordinal), 0);
  EXPECT_EQ(cuda.entry<int(void *)>("cuCtxSetCurrent")(context), 0);
  return context;
}
void *current_context() {
  void *context = nullptr;
  cuda.entry<int(void **)>("cuCtxGetCurrent")(&context);
  return context;
}
void *create_stream() {
  void *stream = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 1), 0);
  return stream;
}
int begin_capture(void *stream, int mode) {
  return cuda.entry<int(void *, int)>("cuStreamBeginCapture_v2")(stream, mode);
}
int end_capture(void *stream) {
  void *graph = nullptr;
  return cuda.entry<int(void *, void **)>("cuStreamEndCapture")(stream, &graph);
}
// Of this thread, as it is.
int capture_mode() {
  int mode = 2;
  cuda.entry<int(int *)>("cuThreadExchangeStreamCaptureMode")(&mode);
  int other = mode;
  cuda.entry<int(int *)>("cuThreadExchangeStreamCaptureMode")(&other);
  return mode;
}

fake_launch last_launch() {
  fake_launch launch = {};
  launch.function = "no launch";
  CHECK(cuda.launches() != 0 && cuda.launch(cuda.launches() - 1, &launch) != 0);
  return launch;
}

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
void expect_message(const std::string &text) { EXPECT_EQ(std::string(kpk_message()), text); }

kpack::Status copy(kpack::Stream stream = nullptr) {
  return ld::copy(stream, device(0x1000), device(0x2000), 100);
}

const kpk_kernel &native(const kpack::Kernel &kernel) { return kernel.native(); }

// The image of the variant that copy() runs.
const kpk_abi_image &image_of(const char *target) {
  const kpk::KernelView view(native(ld::copy));
  const std::string wanted = std::string("copy.fp32.BLOCK128.w4.") + target;
  for (uint32_t i = 0; i < view.images.size(); ++i) {
    if (wanted == kpk::text(view.images[i].symbol)) return view.images[i];
  }
  check::fail(__FILE__, __LINE__, "no image " + wanted);
}

// Which image the last launch ran: of the one kernel there is.
std::string last_target() {
  const kpk::KernelView view(native(ld::copy));
  const uint64_t checksum = last_launch().image;
  for (uint32_t i = 0; i < view.images.size(); ++i) {
    const kpk_abi_image &image = view.images[i];
    if (fake::checksum(kpk::follow<void>(image.data), image.raw_bytes) == checksum)
      return kpk::text(view.target(image).name);
  }
  return "none";
}

// ---- The proof ------------------------------------------------------------------------------------------

TEST(the_layout_of_machine_code_is_proved_without_the_driver) {
  start();
  CHECK(copy());
  EXPECT_EQ(cuda.calls("cuFuncGetParamInfo"), uint64_t{0});
  EXPECT_EQ(cuda.calls("cuFuncGetAttribute"), uint64_t{0});
  finish();
}

// PTX has no note of its own: what the driver made of it is asked for.
TEST(a_driver_that_sees_another_layout_is_believed) {
  if (!driver.empty()) return;  // these do not say the layout
  start();
  cuda.option("param_lie", 4);
  cuda.fail(kLoad, kNoBinaryForGpu, 0, 2);  // the cubins
  EXPECT_EQ(copy().code(), KPK_ERROR_FORMAT);
  expect_message(
      "copy.fp32.BLOCK128.w4.ptx_80: parameter layout: expected (in the archive) 0:8 8:8 16:4 24:8 32:8, got "
      "(from the driver) 0:8 8:8 16:4 24:8 32:12; build the archive again");
  EXPECT_EQ(live(), uint64_t{0});
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  cuda.option("param_lie", 0);
  CHECK(copy());
  finish();
}

TEST(an_archive_with_another_layout_is_refused) {
  start();
  const kpk::Table<kpk_abi_slot> layout(image_of("sm_86").layout);
  {
    const Edit<uint32_t> edit(layout[2].size, 8);
    EXPECT_EQ(copy().code(), KPK_ERROR_FORMAT);
    expect_message(
        "copy.fp32.BLOCK128.w4.sm_86: parameter layout: expected (in the archive) 0:8 8:8 16:8 24:8 32:8, "
        "got (from the image) 0:8 8:8 16:4 24:8 32:8; build the archive again");
  }
  {
    const Edit<uint32_t> edit(image_of("sm_86").param_bytes, 36);
    EXPECT_EQ(copy().code(), KPK_ERROR_FORMAT);
    CHECK(says("parameter block: expected (by its layout) 40 bytes at least, got 36"));
  }
  EXPECT_EQ(live(), uint64_t{0});
  CHECK(copy());
  finish();
}

TEST(a_dry_run_proves_by_the_image) {
  start();
  const kpk::Table<kpk_abi_slot> layout(image_of("gfx90a").layout);
  CHECK(kpack::use_dry_driver("gfx90a"));
  {
    const Edit<uint32_t> edit(layout[2].offset, 20);
    EXPECT_EQ(copy().code(), KPK_ERROR_FORMAT);
    CHECK(says("copy.fp32.BLOCK128.w4.gfx90a: parameter layout: expected (in the archive) 0:8 8:8 20:4 "));
    CHECK(says("got (from the image) 0:8 8:8 16:4 "));
  }
  EXPECT_EQ(copy().code(), KPK_DRY);
  CHECK(kpack::use_dry_driver("sm_86"));
  EXPECT_EQ(copy().code(), KPK_DRY);
  CHECK(kpack::use_real_drivers());
}

TEST(a_block_that_the_function_does_not_take_is_refused) {
  start();
  const Edit<uint32_t> sm_86(image_of("sm_86").num_warps, 8), sm_80(image_of("sm_80").num_warps, 8);
  const Edit<uint32_t> ptx_80(image_of("ptx_80").num_warps, 8), ptx_75(image_of("ptx_75").num_warps, 8);
  const kpack::Status status = copy();
  CHECK(!status);
  CHECK(says("no image of variant fp32.BLOCK128.w4 can be loaded on sm_86:"));
  CHECK(
      says("\n  copy.fp32.BLOCK128.w4.sm_86: block: expected (in the archive) 256 threads, got (from the "));
  EXPECT_EQ(live(), uint64_t{0});
  finish();
}

TEST(clusters_are_refused_where_there_are_none) {
  start();
  const Edit<uint32_t> cluster(image_of("sm_86").cluster[0], 2);
  CHECK(copy());
  EXPECT_EQ(last_target(), std::string("sm_80"));  // the next one
  EXPECT_EQ(live(), uint64_t{1});
  finish();
}

TEST(a_cluster_of_which_the_device_runs_none_is_refused) {
  if (old_driver) return;  // which has none
  start();
  set_device(1);
  const Edit<uint32_t> cluster(image_of("sm_90").cluster[0], 2);
  CHECK(ld::copy.preload(kpack::cuda_device(1), "fp32.*"));
  EXPECT_EQ(cuda.calls(kLoad), uint64_t{1});
  CHECK(kpack::Kernel(ld::copy).unload());
  cuda.option("max_clusters", 0);
  cuda.fail(kLoad, kNoBinaryForGpu, 1, 0);
  EXPECT_EQ(copy().code(), KPK_ERROR_NO_IMAGE);
  CHECK(says(
      "copy.fp32.BLOCK128.w4.sm_90: needs clusters of 2 x 1 x 1 blocks, of which sm_90 cannot run one\n"));
  EXPECT_EQ(live(), uint64_t{0});
  finish();
}

// ---- Which image ----------------------------------------------------------------------------------------

TEST(the_nearest_image_is_taken_first) {
  const char *const expected[] = {"sm_86", "sm_90", "sm_80"};
  for (int ordinal = 0; ordinal < 3; ++ordinal) {
    start();
    set_device(ordinal);
    CHECK(copy());
    EXPECT_EQ(last_target(), std::string(expected[ordinal]));
  }
  finish();
}

TEST(what_the_driver_does_not_take_is_followed_by_the_next) {
  const char *const order[] = {"sm_86", "sm_80", "ptx_80", "ptx_75"};
  const size_t count = driver.empty() ? 4 : 2;  // older ones do not know the version of this PTX
  for (size_t refused = 0; refused < count; ++refused) {
    start();
    if (refused != 0) cuda.fail(kLoad, kNoBinaryForGpu, 0, refused);
    const kpack::Status status = copy();
    EXPECT_EQ(std::string(status.message()), std::string());
    if (refused != 0) EXPECT_EQ(std::string(kpk_message()), std::string());
    EXPECT_EQ(last_target(), std::string(order[refused]));
    EXPECT_EQ(cuda.calls(kLoad), refused + 1);
    EXPECT_EQ(live(), uint64_t{1});
    CHECK(copy());  // and once is enough
    EXPECT_EQ(cuda.calls(kLoad), refused + 1);
    finish();
  }
}

TEST(every_code_of_an_image_that_does_not_fit_is_followed_by_the_next) {
  for (const int code : {200, 209, 218, 221, 222, 223}) {
    start();
    cuda.fail(kLoad, code, 0, 1);
    CHECK(copy());
    EXPECT_EQ(last_target(), std::string("sm_80"));
    finish();
  }
}

TEST(an_image_that_no_context_takes_is_followed_by_the_next) {
  start();
  const char *call = "cuModuleGetFunction";
  cuda.fail(call, kNoBinaryForGpu, 0, 1);
  CHECK(copy());
  EXPECT_EQ(last_target(), std::string("sm_80"));
  EXPECT_EQ(live(), uint64_t{1});
  finish();
}

TEST(where_none_is_taken_the_message_has_them_all) {
  start();
  cuda.fail(kLoad, kNoBinaryForGpu, 0, 0);
  EXPECT_EQ(copy().code(), KPK_ERROR_NO_IMAGE);
  CHECK(says("copy: no image of variant fp32.BLOCK128.w4 can be loaded on sm_86:\n"));
  for (const char *target : {"sm_86", "sm_80"}) {
    CHECK(says((std::string("\n  copy.fp32.BLOCK128.w4.") + target + ": " + kLoad +
                ": CUDA_ERROR_NO_BINARY_FOR_GPU (209)")
                   .c_str()));
  }
  for (const char *target : {"ptx_80", "ptx_75"}) {
    const std::string line = std::string("\n  copy.fp32.BLOCK128.w4.") + target + ": ";
    CHECK(says((line + (driver.empty() ? kLoad : "needs a driver of CUDA 12.")).c_str()));
  }
  EXPECT_EQ(live(), uint64_t{0});
  finish();
}

TEST(what_is_not_about_the_image_ends_the_search) {
  start();
  cuda.fail(kLoad, kOutOfMemory, 0, 1);
  EXPECT_EQ(copy().code(), KPK_ERROR_DRIVER);
  EXPECT_EQ(kpk_driver_code(), kOutOfMemory);
  EXPECT_EQ(cuda.calls(kLoad), uint64_t{1});
  CHECK(copy());
  EXPECT_EQ(last_target(), std::string("sm_86"));
  finish();
}

TEST(an_image_for_a_newer_driver_is_followed_by_the_next) {
  start();
  const Edit<uint32_t> least(image_of("sm_86").least_driver, 99010);
  CHECK(copy());
  EXPECT_EQ(last_target(), std::string("sm_80"));
  EXPECT_EQ(cuda.calls(kLoad), uint64_t{1});
  start();
  const Edit<uint32_t> sm_80(image_of("sm_80").least_driver, 99020),
      ptx_80(image_of("ptx_80").least_driver, 99030), ptx_75(image_of("ptx_75").least_driver, 99040);
  EXPECT_EQ(copy().code(), KPK_ERROR_NO_IMAGE);
  for (const char *version : {"99.1", "99.2", "99.3", "99.4"})
    CHECK(says((std::string("needs a driver of CUDA ") + version + " at least, this one is of 1").c_str()));
  finish();
}

TEST(more_shared_memory_than_there_is_is_followed_by_the_next) {
  start();
  const Edit<uint32_t> shared(image_of("sm_86").shared_bytes, 120000);
  CHECK(copy());
  EXPECT_EQ(last_target(), std::string("sm_80"));
  finish();
}

TEST(another_context_takes_the_image_that_was_taken) {
  start();
  cuda.fail(kLoad, kNoBinaryForGpu, 0, 1);
  CHECK(copy());
  void *other = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, unsigned, int)>("cuCtxCreate_v2")(&other, 0, 0), 0);
  CHECK(copy());
  EXPECT_EQ(last_launch().context, other);
  EXPECT_EQ(last_target(), std::string("sm_80"));
  EXPECT_EQ(cuda.calls(kLoad), uint64_t{3});
  finish();
  start();
  cuda.entry<int(void *)>("cuCtxDestroy_v2")(other);
}

TEST(the_compiler_in_the_driver_says_why) {
  if (!driver.empty()) return;  // older ones refuse this PTX for its version, before
  start();
  // Two PTX that no compiler takes.
  const char *newer = kpk::follow<char>(image_of("ptx_80").data),
             *older = kpk::follow<char>(image_of("ptx_75").data);
  const Edit<char> first(std::strstr(newer, ".target sm_")[8], 'x'),
      second(std::strstr(older, ".target sm_")[8], 'x');
  cuda.fail(kLoad, kNoBinaryForGpu, 0, 2);
  EXPECT_EQ(copy().code(), KPK_ERROR_NO_IMAGE);
  CHECK(says(
      "ptx_80: cuModuleLoadData: CUDA_ERROR_INVALID_PTX (218): a PTX JIT compilation failed: ptxas of the "
      "fake: line 1: this is no PTX\n  "));
  CHECK(says("ptx_75: cuModuleLoadData: CUDA_ERROR_INVALID_PTX (218)"));
  CHECK(!says("line 2"));
  EXPECT_EQ(cuda.live("module"), uint64_t{0});
  finish();
}

// ---- Captures ---------------------------------------------------------------------------------------------

TEST(first_use_inside_a_capture_of_any_mode) {
  for (int mode = 0; mode < 3; ++mode) {
    start();
    void *stream = create_stream();
    EXPECT_EQ(begin_capture(stream, mode), 0);
    const kpack::Status status = copy(kpack::cuda_stream(stream));
    EXPECT_EQ(std::string(status.message()), std::string());
    EXPECT_EQ(last_launch().captured, 1);
    EXPECT_EQ(end_capture(stream), 0);
    EXPECT_EQ(capture_mode(), 0);
    finish();
  }
}

TEST(first_use_while_another_thread_captures) {
  for (int mode = 0; mode < 3; ++mode) {
    start();
    void *stream = create_stream();
    EXPECT_EQ(begin_capture(stream, mode), 0);
    std::thread([] {
      set_device(0);
      CHECK(copy());
      EXPECT_EQ(last_launch().captured, 0);
    }).join();
    EXPECT_EQ(end_capture(stream), 0);
    finish();
  }
}

TEST(the_mode_of_the_thread_is_put_back) {
  for (int mode = 0; mode < 3; ++mode) {
    start();
    int before = mode;
    auto *exchange = cuda.entry<int(int *)>("cuThreadExchangeStreamCaptureMode");
    exchange(&before);
    CHECK(copy());
    EXPECT_EQ(capture_mode(), mode);
    kpk_unload(&native(ld::copy));
    cuda.fail(kLoad, kOutOfMemory, 0, 1);
    CHECK(!copy());
    EXPECT_EQ(capture_mode(), mode);
    exchange(&before);
    finish();
  }
}

TEST(a_driver_that_cannot_relax_says_to_preload) {
  start();
  void *stream = create_stream();
  cuda.fail("cuThreadExchangeStreamCaptureMode", kOutOfMemory, 0, 0);
  EXPECT_EQ(begin_capture(stream, 0), 0);
  EXPECT_EQ(copy(kpack::cuda_stream(stream)).code(), KPK_ERROR_DRIVER);
  CHECK(says("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)"));
  CHECK(says("; load before the capture begins (kpk_preload)"));
  EXPECT_EQ(end_capture(stream), 901);
  CHECK(ld::copy.preload(kpack::cuda_device(0)));
  EXPECT_EQ(begin_capture(stream, 0), 0);
  CHECK(copy(kpack::cuda_stream(stream)));
  EXPECT_EQ(end_capture(stream), 0);
  finish();
}

// ---- Preloading -------------------------------------------------------------------------------------------

TEST(preloading_loads_what_the_pattern_names) {
  start();
  const kpk_kernel *kernel = &native(ld::copy);
  uint32_t loaded = 99;
  EXPECT_EQ(kpk_preload(kernel, kpack::cuda_device(0), "fp32.*", &loaded), KPK_OK);
  EXPECT_EQ(loaded, 1u);
  EXPECT_EQ(live(), uint64_t{1});
  EXPECT_EQ(kpk_preload(kernel, kpack::cuda_device(0), "bf16.*", &loaded), KPK_OK);
  EXPECT_EQ(loaded, 0u);
  EXPECT_EQ(kpk_preload(kernel, kpack::cuda_device(0), nullptr, &loaded), KPK_OK);
  EXPECT_EQ(loaded, 2u);
  EXPECT_EQ(live(), uint64_t{2});
  CHECK(copy());
  EXPECT_EQ(cuda.calls(kLoad), uint64_t{2});
  finish();
}

TEST(preloading_a_pack_names_kernel_and_variant) {
  start();
  const kpk_pack *pack = kpk_pack_of(kpk_linked_begin());
  uint32_t loaded = 0;
  EXPECT_EQ(kpk_preload_pack(pack, kpack::cuda_device(0), "copy.fp16.*", &loaded), KPK_OK);
  EXPECT_EQ(loaded, 1u);
  EXPECT_EQ(kpk_preload_pack(pack, kpack::cuda_device(0), nullptr, nullptr), KPK_OK);
  EXPECT_EQ(live(), uint64_t{3});
  EXPECT_EQ(kpk_unload_pack(pack), KPK_OK);
  EXPECT_EQ(live(), uint64_t{0});
  CHECK(kpack::preload(kpack::cuda_device(2), "*.BLOCK128.*"));
  EXPECT_EQ(live(), uint64_t{3});
  CHECK(kpack::Pack(*pack).unload());
  EXPECT_EQ(live(), uint64_t{0});
  EXPECT_EQ(kpk_preload_pack(nullptr, kpack::cuda_device(0), nullptr, nullptr), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_unload_pack(nullptr), KPK_OK);
  finish();
}

TEST(preloading_goes_to_the_primary_context_of_another_device) {
  start();
  void *here = current_context();
  CHECK(ld::copy.preload(kpack::cuda_device(2), "fp32.*"));
  EXPECT_EQ(current_context(), here);
  EXPECT_EQ(cuda.loads(2), uint64_t{1});
  EXPECT_EQ(cuda.loads(0), uint64_t{0});
  set_device(2);
  CHECK(copy());
  EXPECT_EQ(cuda.loads(2), uint64_t{1});
  EXPECT_EQ(last_launch().device, 2);
  finish();
}

TEST(a_thread_without_a_context_may_preload) {
  start();
  std::thread([] {
    CHECK(ld::copy.preload(kpack::cuda_device(1), "fp32.*"));
    EXPECT_EQ(current_context(), static_cast<void *>(nullptr));
  }).join();
  EXPECT_EQ(cuda.loads(1), uint64_t{1});
  finish();
}

TEST(preloading_where_nothing_fits_is_an_error) {
  start();
  uint32_t loaded = 99;
  EXPECT_EQ(kpk_preload(nullptr, kpack::cuda_device(0), nullptr, &loaded), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(loaded, 0u);
  EXPECT_EQ(kpk_preload(&native(ld::copy), kpack::cuda_device(3), nullptr, nullptr), KPK_ERROR_NO_DEVICE);
  CHECK(says("got ordinal 3"));
  CHECK(kpack::use_dry_driver("gfx1100"));
  EXPECT_EQ(kpk_preload(&native(ld::copy), {KPK_VENDOR_HIP, 0}, nullptr, nullptr), KPK_ERROR_NO_IMAGE);
  CHECK(says("copy: no image for gfx1100; this archive has "));
  EXPECT_EQ(kpk_preload_pack(kpk_pack_of(kpk_linked_begin()), {KPK_VENDOR_HIP, 0}, nullptr, &loaded), KPK_OK);
  EXPECT_EQ(loaded, 0u);
  CHECK(kpack::use_real_drivers());
  cuda.fail(kLoad, kOutOfMemory, 1, 1);
  EXPECT_EQ(kpk_preload(&native(ld::copy), kpack::cuda_device(0), nullptr, &loaded), KPK_ERROR_DRIVER);
  EXPECT_EQ(loaded, 1u);
  EXPECT_EQ(live(), uint64_t{1});
  finish();
}

TEST(a_bound_kernel_loads_into_its_own_context_only) {
  start();
  const kpack::Bound bound = kpack::Kernel(ld::copy).bind(kpack::cuda_device(0));
  CHECK(bound.status());
  void *other = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, unsigned, int)>("cuCtxCreate_v2")(&other, 0, 0), 0);
  // Another context of the same device: the image goes to the primary one, in which it cannot be launched now.
  EXPECT_EQ(bound(nullptr, device(0x1000), device(0x2000), 100).code(), KPK_ERROR_STREAM);
  const kpack::Bound second = kpack::Kernel(ld::copy).bind(kpack::cuda_device(0));
  CHECK(second(nullptr, device(0x1000), device(0x2000), 100));
  EXPECT_EQ(last_launch().context, other);
  kpk_unload(&native(ld::copy));
  set_device(1);
  EXPECT_EQ(second(nullptr, device(0x1000), device(0x2000), 100).code(), KPK_ERROR_STREAM);
  CHECK(says("expected the context that it is bound to to be current"));
  start();
  cuda.entry<int(void *)>("cuCtxDestroy_v2")(other);
}

// ---- Contexts that come and go ------------------------------------------------------------------------------

int reset_device(int ordinal) { return cuda.entry<int(int)>("cuDevicePrimaryCtxReset_v2")(ordinal); }

// `renewed`: the program makes the context current again; else the one that is gone still is.
void launch_over_a_reset(bool renewed) {
  start();
  CHECK(copy());
  EXPECT_EQ(reset_device(0), 0);
  if (renewed) set_device(0);
  CHECK(copy());
  EXPECT_EQ(cuda.loads(0), uint64_t{2});
  EXPECT_EQ(cuda.calls(kLoad), uint64_t{2});
  CHECK(copy());
  EXPECT_EQ(kpk_unload(&native(ld::copy)), KPK_OK);
  EXPECT_EQ(live(), uint64_t{0});
  finish();
}

TEST(after_a_reset_the_next_launch_loads_again) {
  if (old_driver) return;  // whose contexts go by their address: unload before a reset
  launch_over_a_reset(true);
  launch_over_a_reset(false);
}

TEST(after_a_reset_a_thread_without_a_context_gets_a_new_one) {
  if (old_driver) return;
  start();
  const auto launch_elsewhere = [] { std::thread([] { CHECK(copy()); }).join(); };
  launch_elsewhere();
  EXPECT_EQ(reset_device(0), 0);
  launch_elsewhere();
  launch_elsewhere();
  EXPECT_EQ(cuda.loads(0), uint64_t{2});
  finish();
}

TEST(default_streams_are_of_the_current_context) {
  void *legacy = reinterpret_cast<void *>(uintptr_t{1}), *per_thread = reinterpret_cast<void *>(uintptr_t{2});
  for (void *stream : {static_cast<void *>(nullptr), legacy, per_thread}) {
    start();
    for (int ordinal = 0; ordinal < 3; ++ordinal) {
      void *context = set_device(ordinal);
      CHECK(copy(kpack::cuda_stream(stream)));
      EXPECT_EQ(last_launch().context, context);
      EXPECT_EQ(last_launch().stream, stream);
      EXPECT_EQ(last_launch().device, ordinal);
    }
    std::thread([stream] {
      CHECK(copy(kpack::cuda_stream(stream)));
      EXPECT_EQ(last_launch().device, 0);
    }).join();
    finish();
  }
}

}  // namespace

int main(int argc, char **argv) {
  driver = argc > 1 ? argv[1] : "";
  old_driver = driver == "old";
  setenv("FAKE_HIP", "none", 1);
  cuda = fake::open("libcuda.so.1", "cuda");
  const char *version = old_driver ? "11080" : driver == "12.3" ? "12030" : "12090";
  cuda.configure((std::string("sm_86,sm_90,sm_80;driver=") + version).c_str());
  cuda.entry<int(unsigned)>("cuInit")(0);
  return check::run();
}
