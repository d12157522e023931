// Which code runs on which AMD device by its features and generic processors, and what comes first.

#include <cstring>

#include "check.h"
#include "device.h"

namespace {

constexpr uint32_t kXnackAny = 0x100, kXnackOff = 0x200, kXnackOn = 0x300;
constexpr uint32_t kSrameccAny = 0x400, kSrameccOff = 0x800, kSrameccOn = 0xc00;

struct Named {
  kpk_abi_target target;
  char processor[24];
};

int far(const Named &image, const char *arch) {
  kpk::Device device = {};
  CHECK(kpk::describe_arch(arch, &device));
  return kpk::distance(image.target, device);
}

Named hsaco(const char *processor, uint32_t flags = 0, uint8_t reach = KPK_REACH_EXACT) {
  Named image = {};
  image.target.vendor = KPK_VENDOR_HIP;
  image.target.kind = KPK_IMAGE_HSACO;
  image.target.reach = reach;
  image.target.elf_flags = flags;
  image.target.processor = offsetof(Named, processor) - offsetof(kpk_abi_target, processor);
  std::strncpy(image.processor, processor, sizeof image.processor - 1);
  return image;
}

Named generic(const char *processor, uint32_t flags = 0) { return hsaco(processor, flags, KPK_REACH_FAMILY); }

Named cuda(uint8_t kind, uint8_t reach, uint32_t arch) {
  Named image = {};
  image.target.vendor = KPK_VENDOR_CUDA;
  image.target.kind = kind;
  image.target.reach = reach;
  image.target.arch = arch;
  return image;
}

TEST(generic_code_runs_on_what_it_stands_for) {
  const struct {
    const char *generic, *runs, *never;
  } cases[] = {
      {"gfx9-generic", "gfx906:sramecc+:xnack-", "gfx908:sramecc+:xnack-"},
      {"gfx9-generic", "gfx90c:xnack-", "gfx90a:sramecc+:xnack-"},
      {"gfx9-4-generic", "gfx942:sramecc+:xnack-", "gfx90a:sramecc+:xnack-"},
      {"gfx9-4-generic", "gfx950:sramecc+:xnack-", "gfx940"},
      {"gfx10-1-generic", "gfx1013:xnack-", "gfx1030"},
      {"gfx10-3-generic", "gfx1036", "gfx1013:xnack-"},
      {"gfx11-generic", "gfx1100", "gfx1200"},
      {"gfx11-generic", "gfx1153", "gfx1170"},
      {"gfx12-generic", "gfx1201", "gfx1250"},
      {"gfx12-generic", "gfx1200", "gfx120"},
  };
  for (const auto &each : cases) {
    CHECK(far(generic(each.generic), each.runs) >= 0);
    EXPECT_EQ(far(generic(each.generic), each.never), -1);
  }
}

TEST(generic_code_that_nobody_knows_runs_nowhere) {
  EXPECT_EQ(far(generic("gfx13-generic"), "gfx1100"), -1);
  EXPECT_EQ(far(generic("gfx1100"), "gfx1100"), -1);
  // What an archive says to be exact is no generic processor.
  EXPECT_EQ(far(hsaco("gfx11-generic"), "gfx1100"), -1);
}

TEST(generic_code_asks_for_its_features) {
  const char *device = "gfx942:sramecc+:xnack-";
  CHECK(far(generic("gfx9-4-generic", kXnackAny | kSrameccAny), device) >= 0);
  CHECK(far(generic("gfx9-4-generic", kXnackOff | kSrameccAny), device) >= 0);
  EXPECT_EQ(far(generic("gfx9-4-generic", kXnackOn | kSrameccAny), device), -1);
  EXPECT_EQ(far(generic("gfx9-4-generic", kXnackAny | kSrameccOff), device), -1);
}

TEST(the_order_is_exact_with_features_exact_generic_with_features_generic) {
  const char *device = "gfx942:sramecc+:xnack-";
  const Named nearest_first[] = {
      hsaco("gfx942", kXnackOff | kSrameccOn),           hsaco("gfx942", kXnackOff | kSrameccAny),
      hsaco("gfx942", kXnackAny | kSrameccAny),          generic("gfx9-4-generic", kXnackOff | kSrameccOn),
      generic("gfx9-4-generic", kXnackAny | kSrameccOn), generic("gfx9-4-generic", kXnackAny | kSrameccAny),
  };
  for (size_t i = 1; i < sizeof nearest_first / sizeof *nearest_first; ++i) {
    CHECK(far(nearest_first[i - 1], device) >= 0);
    CHECK(far(nearest_first[i - 1], device) < far(nearest_first[i], device));
  }
}

TEST(a_feature_that_the_device_does_not_name_is_neither_on_nor_off) {
  EXPECT_EQ(far(hsaco("gfx1100", kXnackOff), "gfx1100"), -1);
  EXPECT_EQ(far(hsaco("gfx1100", kXnackOn), "gfx1100"), -1);
  CHECK(far(hsaco("gfx1100", kXnackAny), "gfx1100") >= 0);
}

TEST(a_processor_is_its_whole_name) {
  EXPECT_EQ(far(hsaco("gfx90"), "gfx90a"), -1);
  EXPECT_EQ(far(hsaco("gfx115"), "gfx1151"), -1);
  EXPECT_EQ(far(generic("gfx11-generic"), "gfx110"), -1);
}

TEST(machine_code_comes_before_text_however_far_it_reaches) {
  const Named nearest_first[] = {
      cuda(KPK_IMAGE_CUBIN, KPK_REACH_EXACT, 103),  cuda(KPK_IMAGE_CUBIN, KPK_REACH_FAMILY, 103),
      cuda(KPK_IMAGE_CUBIN, KPK_REACH_FAMILY, 100), cuda(KPK_IMAGE_CUBIN, KPK_REACH_MAJOR, 100),
      cuda(KPK_IMAGE_PTX, KPK_REACH_EXACT, 103),    cuda(KPK_IMAGE_PTX, KPK_REACH_FAMILY, 100),
      cuda(KPK_IMAGE_PTX, KPK_REACH_FORWARD, 100),  cuda(KPK_IMAGE_PTX, KPK_REACH_FORWARD, 80),
  };
  for (size_t i = 1; i < sizeof nearest_first / sizeof *nearest_first; ++i) {
    CHECK(far(nearest_first[i - 1], "sm_103") >= 0);
    CHECK(far(nearest_first[i - 1], "sm_103") < far(nearest_first[i], "sm_103"));
  }
}

TEST(code_of_a_family_runs_on_its_later_minors) {
  CHECK(far(cuda(KPK_IMAGE_CUBIN, KPK_REACH_FAMILY, 120), "sm_121") >= 0);
  EXPECT_EQ(far(cuda(KPK_IMAGE_CUBIN, KPK_REACH_FAMILY, 103), "sm_100"), -1);
  EXPECT_EQ(far(cuda(KPK_IMAGE_CUBIN, KPK_REACH_FAMILY, 100), "sm_120"), -1);
  EXPECT_EQ(far(cuda(KPK_IMAGE_PTX, KPK_REACH_FAMILY, 100), "sm_110"), -1);
}

TEST(a_device_by_name_has_the_shared_memory_of_its_kind) {
  const struct {
    const char *arch;
    uint32_t bytes;
  } cases[] = {{"sm_70", 96 << 10},  {"sm_75", 64 << 10},   {"sm_86", 99 << 10},   {"sm_107", 227 << 10},
               {"gfx90a", 64 << 10}, {"gfx950", 160 << 10}, {"gfx1250", 320 << 10}};
  for (const auto &each : cases) {
    kpk::Device device = {};
    CHECK(kpk::describe_arch(each.arch, &device));
    EXPECT_EQ(device.max_shared_bytes, each.bytes);
  }
}

}  // namespace

int main() { return check::run(); }
