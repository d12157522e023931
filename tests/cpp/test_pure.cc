// The parts of the runtime that know no driver: type codes, conversions, which image runs where, messages.

#include <cmath>
#include <cstring>
#include <kpack/kpack.hpp>
#include <limits>
#include <string>

#include "check.h"
#include "device.h"
#include "message.h"
#include "types.h"

namespace {

using kpk::Device;

struct Named {
  kpk_abi_target target;
  char processor[16];
};

// An image's target as it lies in memory, its reference leading to text beside it.
Named target(uint8_t vendor, uint8_t reach, uint32_t arch, const char *processor = "", uint32_t flags = 0) {
  Named named = {};
  named.target.vendor = vendor;
  named.target.reach = reach;
  named.target.arch = arch;
  named.target.elf_flags = flags;
  named.target.processor = offsetof(Named, processor) - offsetof(kpk_abi_target, processor);
  std::strncpy(named.processor, processor, sizeof named.processor - 1);
  return named;
}

int far(const Named &named, const char *arch) {
  Device device = {};
  CHECK(kpk::describe_arch(arch, &device));
  return kpk::distance(named.target, device);
}

Named cubin(uint32_t arch) {
  return target(KPK_VENDOR_CUDA, arch >= 90 ? KPK_REACH_EXACT : KPK_REACH_MAJOR, arch);
}
Named ptx(uint32_t arch) { return target(KPK_VENDOR_CUDA, KPK_REACH_FORWARD, arch); }
Named hsaco(const char *processor, uint32_t flags) {
  return target(KPK_VENDOR_HIP, KPK_REACH_EXACT, 0, processor, flags);
}

TEST(a_cubin_runs_on_later_minors_of_its_major) {
  CHECK(far(cubin(80), "sm_80") >= 0);
  CHECK(far(cubin(80), "sm_89") > far(cubin(86), "sm_89"));
  EXPECT_EQ(far(cubin(86), "sm_80"), -1);
  EXPECT_EQ(far(cubin(80), "sm_90"), -1);
}

TEST(an_exact_cubin_runs_on_its_arch_only) {
  EXPECT_EQ(far(cubin(90), "sm_90"), 0);
  EXPECT_EQ(far(cubin(100), "sm_103"), -1);
}

TEST(ptx_runs_on_everything_later_and_comes_last) {
  CHECK(far(ptx(80), "sm_120") > 0);
  CHECK(far(ptx(80), "sm_89") > far(cubin(80), "sm_89"));
  EXPECT_EQ(far(ptx(89), "sm_80"), -1);
}

TEST(features_of_an_amd_object_match_the_device) {
  const char *device = "gfx90a:sramecc+:xnack-";
  CHECK(far(hsaco("gfx90a", 0x53f), device) >= 0);                                   // both "any"
  CHECK(far(hsaco("gfx90a", 0x63f), device) >= 0);                                   // xnack off
  EXPECT_EQ(far(hsaco("gfx90a", 0x73f), device), -1);                                // xnack on
  EXPECT_EQ(far(hsaco("gfx90a", 0x93f), device), -1);                                // sramecc off
  CHECK(far(hsaco("gfx90a", 0xe3f), device) < far(hsaco("gfx90a", 0x53f), device));  // both by name is nearer
  EXPECT_EQ(far(hsaco("gfx90a", 0x53f), "gfx942"), -1);
  EXPECT_EQ(far(hsaco("gfx110", 0x41), "gfx1100"), -1);
  CHECK(far(hsaco("gfx1100", 0x41), "gfx1100") >= 0);
}

TEST(vendors_do_not_mix) {
  EXPECT_EQ(far(cubin(90), "gfx90a"), -1);
  EXPECT_EQ(far(hsaco("gfx90a", 0x53f), "sm_90"), -1);
}

TEST(an_arch_that_is_none_is_refused) {
  for (const char *arch : {"", "sm_", "sm_9", "vax", "gfx", "sm_90xy"}) {
    Device device = {};
    CHECK(!kpk::describe_arch(arch, &device));
  }
}

TEST(halves_round_to_nearest_even) {
  const struct {
    double value;
    uint64_t fp16, bf16;
  } cases[] = {
      {0.0, 0x0000, 0x0000},
      {-0.0, 0x8000, 0x8000},
      {1.0, 0x3c00, 0x3f80},
      {-1.5, 0xbe00, 0xbfc0},
      {65504.0, 0x7bff, 0x4780},
      {65519.99, 0x7bff, 0x4780},
      {65520.0, 0x7c00, 0x4780},
      {5.960464477539063e-08, 0x0001, 0x3380},
      {2.98e-08, 0x0000, 0x3300},
      {6.097555160522461e-05, 0x03ff, 0x3880},
      {1.0009765625, 0x3c01, 0x3f80},
      {1.00048828125, 0x3c00, 0x3f80},
      {1.00146484375, 0x3c02, 0x3f80},
      {1.00390625, 0x3c04, 0x3f80},
      {1.01171875, 0x3c0c, 0x3f82},
      {std::numeric_limits<double>::infinity(), 0x7c00, 0x7f80},
      {-std::numeric_limits<double>::infinity(), 0xfc00, 0xff80},
  };
  for (const auto &row : cases) {
    EXPECT_EQ(kpk::float_bits(KPK_FP16, row.value), row.fp16);
    EXPECT_EQ(kpk::float_bits(KPK_BF16, row.value), row.bf16);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(kpk::float_bits(KPK_FP16, nan) & 0x7fff, uint64_t{0x7e00});
  CHECK((kpk::float_bits(KPK_BF16, nan) & 0x7fff) > 0x7f80);
}

#if defined(KPK_HAS_FLOAT16)
TEST(halves_agree_with_the_compilers_own) {
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 4093) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    const _Float16 half = static_cast<_Float16>(value);
    uint16_t expected;
    std::memcpy(&expected, &half, sizeof expected);
    EXPECT_EQ(kpk::float_bits(KPK_FP16, static_cast<double>(value)), uint64_t{expected});
  }
}
#endif

TEST(halves_are_rounded_once) {
  // In two steps, by way of float, these would be ties and go to even.
  EXPECT_EQ(kpk::float_bits(KPK_FP16, 1.0 + std::ldexp(1, -11) + std::ldexp(1, -40)), uint64_t{0x3c01});
  EXPECT_EQ(kpk::float_bits(KPK_FP16, 1.0 + std::ldexp(3, -11) - std::ldexp(1, -40)), uint64_t{0x3c01});
  EXPECT_EQ(kpk::float_bits(KPK_BF16, -1.0 - std::ldexp(1, -8) - std::ldexp(1, -40)), uint64_t{0xbf81});
  EXPECT_EQ(kpk::float_bits(KPK_FP16, 1e300), uint64_t{0x7c00});
  EXPECT_EQ(kpk::float_bits(KPK_FP32, 0.1), uint64_t{0x3dcccccd});
}

TEST(a_long_message_is_cut_and_says_so) {
  char text[16];
  kpk::Text out(text, sizeof text);
  out.add("%s", "0123456789");
  EXPECT_EQ(std::string(text), std::string("0123456789"));
  out.add("%s", "0123456789");
  out.add("%s", "more");
  EXPECT_EQ(std::string(text), std::string("01234567890") + "1...");
  EXPECT_EQ(out.length(), size_t{24});
}

TEST(every_status_has_a_name) {
  for (int i = KPK_OK; i <= KPK_ERROR_UNSUPPORTED; ++i) {
    EXPECT_EQ(std::strncmp(kpk_status_name(static_cast<kpk_status>(i)), "KPK_", 4), 0);
  }
}

}  // namespace

int main() { return check::run(); }
