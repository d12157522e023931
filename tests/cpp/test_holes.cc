// Variants that did not compile: the archive names them, a program links all the same, and a launch that would have
// wanted one says so. Asked of dry devices.

#include <cstdint>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>

#include "check.h"

KPACK_KERNEL(holes, partly);
KPACK_KERNEL(holes, wide);
KPACK_KERNEL(holes, never);
KPACK_KERNEL(holes, elsewhere);

namespace {

float *out() { return reinterpret_cast<float *>(0x1000); }

// As lines, so that the end of the text is the end of one.
bool has_line(const std::string &text, const std::string &line) {
  return ("\n" + text + "\n").find("\n" + line + "\n") != std::string::npos;
}

void expect_line(const std::string &text, const std::string &line) {
  if (!has_line(text, line)) check::fail(__FILE__, __LINE__, "expected a line '" + line + "' in:\n" + text);
}

const std::string kTooManyThreads =
    "threads of a block: expected at most 1024, got 2048: 32 warps of 64; lower num_warps for gfx90a";
const std::string kTooLarge = "holes.py:11: in fill_kernel: BLOCK is too large";

TEST(what_did_compile_runs) {
  kpack::use_dry_driver("sm_90");
  EXPECT_EQ(holes::partly(nullptr, out(), 100).code(), KPK_DRY);
  CHECK(std::strstr(kpk_message(), "image    partly.fp32.BLOCK128.w8.sm_90") != nullptr);
  CHECK(holes::partly.supports({}, out(), 100));
}

TEST(a_call_that_only_a_missing_variant_would_run_is_told_of_it) {
  kpack::use_dry_driver("sm_90");
  EXPECT_EQ(holes::partly(nullptr, out(), 200).code(), KPK_ERROR_NO_VARIANT);
  const std::string text = kpk_message();
  CHECK(text.find("partly: no variant may run this call on sm_90\n") == 0);
  expect_line(text, "  fp32.BLOCK128.w8: guard n <= BLOCK does not hold (BLOCK=128)");
  expect_line(text, "  called with out_ptr=0x1000 n=200");
  expect_line(text, "  fp32.BLOCK256.w4: not built for sm_90: " + kTooLarge);
  CHECK(text.find("sm_80") == std::string::npos);
}

TEST(a_variant_that_is_missing_for_one_target_is_told_there_and_for_its_overload) {
  kpack::use_dry_driver("gfx90a");
  EXPECT_EQ(holes::wide(nullptr, out(), 200).code(), KPK_ERROR_NO_VARIANT);
  const std::string text = kpk_message();
  expect_line(text, "  fp32.BLOCK64.w32: not built for gfx90a: " + kTooManyThreads);
  CHECK(text.find("i32.BLOCK64.w32") == std::string::npos);
  kpack::use_dry_driver("sm_90");
  EXPECT_EQ(holes::wide(nullptr, out(), 200).code(), KPK_ERROR_NO_VARIANT);
  CHECK(std::strstr(kpk_message(), "BLOCK64.w32: not built") == nullptr);
}

TEST(what_was_packed_though_no_device_takes_it_says_so) {
  kpack::use_dry_driver("gfx90a");
  EXPECT_EQ(holes::wide(nullptr, out(), 100).code(), KPK_ERROR_LIMIT);
  CHECK(std::strcmp(kpk_message(),
                    "wide.fp32.BLOCK128.w32.gfx90a: needs blocks of 2048 threads, gfx90a takes 1024") == 0);
}

TEST(an_explanation_names_what_is_missing) {
  kpack::use_dry_driver("gfx90a");
  const std::string text = holes::wide.explain({}, out(), 10);
  CHECK(text.find("wide on gfx90a: runs fp32.BLOCK64.w2, image ") == 0);
  expect_line(text, "  fp32.BLOCK64.w32: no image for gfx90a");
  expect_line(text, "asked for, but not compiled:");
  expect_line(text, "  i32.BLOCK64.w32: not built for gfx90a: " + kTooManyThreads);
}

TEST(a_kernel_of_which_nothing_compiled_says_so) {
  kpack::use_dry_driver("sm_90");
  EXPECT_EQ(holes::never(nullptr, out(), 5).code(), KPK_ERROR_NO_IMAGE);
  const std::string text = kpk_message();
  CHECK(text.find("never: no image for sm_90; this archive has none\n") == 0);
  expect_line(text, "  fp32.BLOCK256.w1.s1: not built for sm_90: " + kTooLarge);
  expect_line(text, "  and 2 more that did not compile");
  CHECK(!holes::never.supports({}, out(), 5));
  uint32_t loaded = 0;
  EXPECT_EQ(kpk_preload(&holes::never.get().native(), {}, nullptr, &loaded), KPK_ERROR_NO_IMAGE);
  EXPECT_EQ(text, kpk_message());
}

TEST(an_explanation_of_such_a_kernel_has_each_reason_once) {
  kpack::use_dry_driver("sm_80");
  const std::string text = holes::never.explain({}, out(), 5);
  const std::string line = "\n  fp32.BLOCK256.w2.s5: not built for sm_80: " + kTooLarge;
  const size_t first = text.find(line);
  CHECK(first != std::string::npos && text.find(line, first + 1) == std::string::npos);
  CHECK(text.find("more that did not compile") == std::string::npos);
}

TEST(a_target_of_which_nothing_compiled_is_not_among_those_there_are) {
  kpack::use_dry_driver("sm_90");
  EXPECT_EQ(holes::elsewhere(nullptr, out(), 5).code(), KPK_ERROR_NO_IMAGE);
  const std::string text = kpk_message();
  CHECK(text.find("elsewhere: no image for sm_90; this archive has sm_80, gfx90a\n") == 0);
  expect_line(text, "  fp32.BLOCK512.w2: not built for sm_90: " + kTooLarge);
  const std::string explained = holes::elsewhere.explain({}, out(), 5);
  expect_line(explained, "  sm_80: for another major version");
  CHECK(!has_line(explained, "  sm_90: exact"));
}

TEST(a_device_that_nobody_asked_for_is_told_nothing_of_holes) {
  kpack::use_dry_driver("gfx1100");
  EXPECT_EQ(holes::elsewhere(nullptr, out(), 5).code(), KPK_ERROR_NO_IMAGE);
  EXPECT_EQ(std::string(kpk_message()), "elsewhere: no image for gfx1100; this archive has sm_80, gfx90a");
}

}  // namespace

int main() { return check::run(); }
