// Loading on AMD: the proof by the image's note, refusals, captures, preloading. Devices gfx90a, gfx90a and gfx1100,
// of which the last has no image.

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>

#include "check.h"
#include "edit.h"
#include "fake.h"
#include "view.h"

KPACK_KERNEL(ld, copy);

namespace {

fake::Fake hip;

kpack::Status copy(kpack::Stream stream = nullptr) {
  return ld::copy(stream, reinterpret_cast<float *>(0x1000), reinterpret_cast<float *>(0x2000), 100);
}
void set_device(int ordinal) { hip.entry<int(int)>("hipSetDevice")(ordinal); }
int current_device() {
  int ordinal = -1;
  hip.entry<int(int *)>("hipGetDevice")(&ordinal);
  return ordinal;
}
int last_error() { return hip.entry<int()>("hipGetLastError")(); }
bool says(const char *part) { return std::strstr(kpk_message(), part) != nullptr; }

void start() {
  CHECK(kpack::Kernel(ld::copy).unload());
  hip.reset();
  set_device(0);
}
void finish() {
  for (uint64_t i = 0; i < hip.violations(); ++i) std::printf("  violation: %s\n", hip.violation(i));
  EXPECT_EQ(hip.violations(), uint64_t{0});
  EXPECT_EQ(last_error(), 0);
}

const kpk_abi_image &image() {
  const kpk::KernelView view(kpack::Kernel(ld::copy).native());
  for (uint32_t i = 0; i < view.images.size(); ++i) {
    if (std::strcmp(kpk::text(view.images[i].symbol), "copy.fp32.BLOCK128.w4.gfx90a") == 0)
      return view.images[i];
  }
  check::fail(__FILE__, __LINE__, "no image for gfx90a");
}

void expect_refused(const uint32_t &field, uint32_t value, kpk_status status, const char *words) {
  start();
  {
    const Edit<uint32_t> edit(field, value);
    EXPECT_EQ(copy().code(), status);
    CHECK(says(words));
    EXPECT_EQ(hip.live("module"), uint64_t{0});
    EXPECT_EQ(hip.launches(), uint64_t{0});
  }
  CHECK(copy());
  finish();
}

TEST(an_archive_that_says_otherwise_than_its_image_is_refused) {
  const kpk::Table<kpk_abi_slot> layout(image().layout);
  expect_refused(
      layout[2].size, 8, KPK_ERROR_FORMAT,
      "copy.fp32.BLOCK128.w4.gfx90a: parameter layout: expected (in the archive) 0:8 8:8 16:8 24:8 32:8, "
      "got (from the image) 0:8 8:8 16:4 24:8 32:8; build the archive again");
  expect_refused(image().param_bytes, 48, KPK_ERROR_FORMAT,
                 "bytes of parameters: expected (in the archive) 48, got (from the image) 40");
  expect_refused(image().num_warps, 8, KPK_ERROR_LIMIT,
                 "block: expected (in the archive) 512 threads, got (from the image) at most 256");
  expect_refused(image().cluster[0], 2, KPK_ERROR_LIMIT,
                 "needs clusters of 2 blocks, gfx90a:sramecc+:xnack- has none");
}

TEST(an_image_that_hip_does_not_take_is_no_image) {
  for (const int code : {200, 209, 301}) {
    start();
    hip.fail("hipModuleLoadData", code, 0, 2);
    EXPECT_EQ(copy().code(), KPK_ERROR_NO_IMAGE);
    CHECK(says("copy.fp32.BLOCK128.w4.gfx90a: hipModuleLoadData: hipError"));
    EXPECT_EQ(last_error(), 0);
    hip.reset();
    CHECK(copy());
    finish();
  }
}

TEST(a_load_is_in_relaxed_mode_and_puts_the_mode_back) {
  for (int mode = 0; mode < 3; ++mode) {
    start();
    int before = mode;
    auto *exchange = hip.entry<int(int *)>("hipThreadExchangeStreamCaptureMode");
    exchange(&before);
    CHECK(copy());
    EXPECT_EQ(hip.calls("hipThreadExchangeStreamCaptureMode"), uint64_t{3});
    exchange(&before);
    EXPECT_EQ(before, mode);
    finish();
  }
}

TEST(a_load_that_a_capture_forbids_says_to_preload) {
  start();
  hip.fail("hipModuleLoadData", 900, 0, 1);
  EXPECT_EQ(copy().code(), KPK_ERROR_DRIVER);
  CHECK(says("(900)"));
  CHECK(says("; load before the capture begins (kpk_preload)"));
  last_error();
}

TEST(preloading_leaves_the_device) {
  start();
  CHECK(ld::copy.preload(kpack::hip_device(1), "fp32.*"));
  EXPECT_EQ(current_device(), 0);
  EXPECT_EQ(hip.loads(1), uint64_t{1});
  set_device(1);
  CHECK(copy());
  EXPECT_EQ(hip.loads(1), uint64_t{1});
  EXPECT_EQ(ld::copy.preload(kpack::hip_device(2)).code(), KPK_ERROR_NO_IMAGE);
  CHECK(says("copy: no image for gfx1100; this archive has "));
  finish();
}

}  // namespace

int main() {
  setenv("FAKE_CUDA", "none", 1);
  hip = fake::open("libamdhip64.so", "hip");
  hip.configure("gfx90a:sramecc+:xnack-,gfx90a:sramecc+:xnack-,gfx1100");
  return check::run();
}
