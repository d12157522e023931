// What a launch would do, and why not something else: texts, and yes or no. Asked of fake devices and of dry ones.

#include <cstdint>
#include <cstring>
#include <kpack/kpack.hpp>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "edit.h"
#include "fake.h"
#include "view.h"

KPACK_KERNEL(tk, scale);
KPACK_KERNEL(tk, scalars);
KPACK_KERNEL(tk, choose);
KPACK_KERNEL(tk, product);
KPACK_KERNEL(tk, optional);
KPACK_KERNEL(tk, nothing);
KPACK_KERNEL(tk, clustered);
KPACK_KERNEL(tk, tensors);

namespace {

fake::Fake cuda, hip;

float *device(uintptr_t address) { return reinterpret_cast<float *>(address); }

std::vector<std::string> lines_of(const std::string &text) {
  std::vector<std::string> lines = {""};
  for (const char c : text) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  return lines;
}

// Exactly this line is in the text.
void expect_line(const std::string &text, const std::string &line) {
  for (const std::string &each : lines_of(text)) {
    if (each == line) return;
  }
  check::fail(__FILE__, __LINE__, "expected a line '" + line + "' in:\n" + text);
}

// ---- Texts

TEST(the_first_line_is_the_decision) {
  kpack::use_dry_driver("sm_90");
  const std::string text = tk::scale.explain({}, device(0x1000), device(0x2000), 1.0, 2, 1000);
  EXPECT_EQ(lines_of(text)[0],
            "scale on sm_90: runs fp32.BLOCK128.w1.a16, image scale.fp32.BLOCK128.w1.a16.sm_90 (exact), grid "
            "8 x 1 x 1, block 32, shared 0 bytes");
  EXPECT_EQ(lines_of(text)[1], "called with out_ptr=0x1000 in_ptr=0x2000 factor=1 stride=2 n=1000");
}

TEST(every_other_variant_has_its_reason) {
  kpack::use_dry_driver("sm_90");
  const std::string text = tk::scale.explain({}, device(0x1000), device(0x2004), 1.0, 2, 10000);
  expect_line(text, "other variants of (*fp32 out_ptr, const *fp32 in_ptr, fp32 factor, i32 stride, i32 n):");
  expect_line(text, "  fp32.BLOCK128.w1.a16: 'in_ptr' not divisible by 16");
  expect_line(text, "  fp32.BLOCK128.w1: guard n <= 64 * BLOCK does not hold (BLOCK=128)");
  expect_line(text, "  fp32.BLOCK1024.w4.one_stride: 'stride' not 1");
  expect_line(tk::scale.explain({}, device(0x1000), device(0x2000), 1.0, 1, 100),
              "  fp32.BLOCK1024.w4: eligible, but after the chosen one");
  expect_line(tk::optional.explain({}, device(0x1000), device(0x2000), 3),
              "  w4.none_bias_ptr: 'bias_ptr' not null");
}

TEST(a_variant_of_other_targets_is_told_as_one) {
  kpack::use_dry_driver("sm_90");
  const kpack::Pointer in = kpack::ptr(static_cast<const void *>(device(0x1000)), kpack::DType::fp16);
  expect_line(tk::product.explain({}, device(0x4000), in, in, 3), "  SIZE64.w4.s2: no image for sm_90");
}

TEST(every_other_image_has_its_reason) {
  kpack::use_dry_driver("sm_86");
  std::string text = tk::nothing.explain({});
  CHECK(text.find("image nothing.w4.sm_80 (same major version)") != std::string::npos);
  expect_line(text, "other images of w4:");
  expect_line(text, "  nothing.w4.sm_90: for newer devices");
  expect_line(text, "  nothing.w4.gfx90a: of another vendor");
  kpack::use_dry_driver("gfx90a:sramecc+:xnack-");
  text = tk::nothing.explain({});
  expect_line(text, "  nothing.w4.gfx1100: for another processor");
  expect_line(text, "  nothing.w4.sm_80: of another vendor");
  kpack::use_dry_driver("sm_90");
  expect_line(tk::nothing.explain({}), "  nothing.w4.sm_80: for another major version");
}

TEST(where_nothing_runs_the_text_begins_as_the_error_does) {
  kpack::use_dry_driver("sm_90");
  std::string text = tk::scale.explain({}, device(0x1000), device(0x2000), 1.0, 2, 1 << 20);
  const kpack::Status status = tk::scale(nullptr, device(0x1000), device(0x2000), 1.0, 2, 1 << 20);
  EXPECT_EQ(status.code(), KPK_ERROR_NO_VARIANT);
  EXPECT_EQ(lines_of(text)[0], lines_of(status.message())[0]);
  expect_line(text, "  fp32.BLOCK1024.w4: guard n <= 64 * BLOCK does not hold (BLOCK=1024)");

  kpack::use_dry_driver("gfx942");
  text = tk::nothing.explain({});
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_ERROR_NO_IMAGE);
  EXPECT_EQ(lines_of(text)[0], std::string(kpk_message()));
  expect_line(text, "  gfx90a: for another processor");
  expect_line(text, "  sm_80: of another vendor");
}

TEST(a_call_that_no_overload_takes_is_the_error_itself) {
  kpack::use_dry_driver("sm_90");
  const std::string mode = tk::choose.explain({}, device(0x1000), 5, "triple", true, 1, 1);
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "triple", true, 1, 1).code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(mode, std::string(kpk_message()));
  const std::string range = tk::nothing.explain({}, 1);
  EXPECT_EQ(tk::nothing(nullptr, 1).code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(range, std::string(kpk_message()));
}

TEST(a_grid_that_the_device_does_not_take_is_told_with_what_was_chosen) {
  kpack::use_dry_driver("sm_90");
  const std::string text = tk::choose.explain({}, device(0x1000), 5, "single", true, -1, 3);
  EXPECT_EQ(lines_of(text)[0],
            "choose: grid rows, columns: axis x is -1, expected 0 or more (at most 2147483647)");
  expect_line(text, "chosen was MODEsingle.FASTTrue.w4, image choose.MODEsingle.FASTTrue.w4.sm_90 (exact)");
  const std::string empty = tk::choose.explain({}, device(0x1000), 5, "single", true, 0, 3);
  CHECK(empty.find("choose on sm_90: launches nothing, for the grid is empty") == 0);
}

TEST(an_image_that_the_device_has_no_room_for_is_told_with_both_numbers) {
  kpack::use_dry_driver("sm_86");  // 99 KB of shared memory where sm_80 has 163
  const auto *half = reinterpret_cast<const uint16_t *>(0x1000);
  const kpack::Pointer in = kpack::ptr(half, kpack::DType::fp16);
  const std::string text = tk::product.explain({}, device(0x4000), in, in, 3);
  CHECK(text.find("product.SIZE128.w8.a16.sm_80") == 0 || text.find("product") == 0);
  CHECK(text.find("bytes of shared memory a block, sm_86 has 101376") != std::string::npos);
  CHECK(!tk::product.supports({}, device(0x4000), in, in, 3));
  EXPECT_EQ(tk::product(nullptr, device(0x4000), in, in, 3).code(), KPK_ERROR_LIMIT);
}

TEST(a_small_buffer_gets_what_fits_and_the_length) {
  kpack::use_dry_driver("sm_90");
  char text[32];
  std::memset(text, 'x', sizeof text);
  const size_t length = kpk_explain(&tk::nothing.get().native(), {}, nullptr, 0, text, 16);
  EXPECT_EQ(length, tk::nothing.explain({}).size());
  EXPECT_EQ(std::string(text), std::string("nothing on s..."));
  EXPECT_EQ(text[16], 'x');
  EXPECT_EQ(kpk_explain(&tk::nothing.get().native(), {}, nullptr, 0, nullptr, 0), length);
}

TEST(what_is_no_call_is_explained_too) {
  kpack::use_dry_driver("sm_90");
  char text[128];
  kpk_explain(nullptr, {}, nullptr, 0, text, sizeof text);
  EXPECT_EQ(std::string(text), std::string("kpk_explain: expected a kernel, got null"));
  EXPECT_EQ(kpk_supports(nullptr, {}, nullptr, 0, 0), 0);
  EXPECT_EQ(kpk_supports(&tk::choose.get().native(), {}, nullptr, 3, 0), 0);
}

// The image of kernel `nothing` for this target.
const kpk_abi_image &image_for(const char *target) {
  const kpk::KernelView view(tk::nothing.get().native());
  for (uint32_t i = 0; i < view.images.size(); ++i) {
    if (std::strcmp(kpk::text(view.target(view.images[i]).name), target) == 0) return view.images[i];
  }
  check::fail(__FILE__, __LINE__, std::string("no image for ") + target);
}

// A reference from `field` to `what`.
template <class T>
kpk_ref to(const T &what, const kpk_ref &field) {
  return static_cast<kpk_ref>(reinterpret_cast<intptr_t>(&what) - reinterpret_cast<intptr_t>(&field));
}

TEST(what_did_not_compile_is_told_where_the_device_would_have_run_it) {
  const kpk_abi_kernel &kernel = tk::nothing.get().native();
  static const char name[] = "w8", reason[] = "out of resources: shared memory";
  static kpk_abi_hole holes[2];
  for (uint32_t i = 0; i < 2; ++i) {
    holes[i] = {KPK_HOLE_NO_VARIANT, i == 0 ? image_for("sm_80").target : image_for("gfx90a").target, 0, 0};
    holes[i].name = to(name, holes[i].name);
    holes[i].reason = to(reason, holes[i].reason);
  }
  const Edit<kpk_table> edit(kernel.holes, {to(holes, kernel.holes.data), 2, sizeof(kpk_abi_hole)});
  kpack::use_dry_driver("sm_80");
  std::string text = tk::nothing.explain({});
  expect_line(text, "asked for, but not compiled:");
  expect_line(text, "  w8: not built for sm_80: out of resources: shared memory");
  CHECK(text.find("for gfx90a") == std::string::npos);
  kpack::use_dry_driver("gfx1100");
  CHECK(tk::nothing.explain({}).find("w8") == std::string::npos);
}

// Makes the sm_90 image one that an sm_86 device would take too, after its own.
struct Near {
  const kpk_abi_target &target = kpk::KernelView(tk::nothing.get().native()).target(image_for("sm_90"));
  Edit<uint32_t> arch{target.arch, 86};
  Edit<uint8_t> reach{target.reach, KPK_REACH_MAJOR};
};

TEST(an_image_that_is_refused_leaves_its_place_to_the_next) {
  const Near near;
  kpack::use_dry_driver("sm_87");  // no other test has asked for it: what is chosen for a device is kept
  std::string text = tk::nothing.explain({});
  expect_line(text, "  nothing.w4.sm_80: sm_90 is nearer");
  const Edit<uint32_t> shared(image_for("sm_90").shared_bytes, 200000);
  text = tk::nothing.explain({});
  CHECK(lines_of(text)[0].find("runs w4, image nothing.w4.sm_80 (same major version)") != std::string::npos);
  expect_line(text, "  nothing.w4.sm_90: needs 200000 bytes of shared memory a block, sm_87 has 166912");
  CHECK(tk::nothing.supports({}));
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_DRY);
  CHECK(std::strstr(kpk_message(), "image    nothing.w4.sm_80") != nullptr);
  kpk_unload(&tk::nothing.get().native());
}

TEST(where_every_image_is_refused_each_has_its_reason) {
  const Near near;
  kpack::use_dry_driver("sm_87");
  const Edit<uint32_t> shared(image_for("sm_90").shared_bytes, 200000);
  const Edit<uint32_t> warps(image_for("sm_80").num_warps, 64);
  const std::string text = tk::nothing.explain({});
  EXPECT_EQ(lines_of(text)[0], "nothing: no image of variant w4 can be loaded on sm_87");
  expect_line(text, "images of w4:");
  expect_line(text, "  nothing.w4.sm_90: needs 200000 bytes of shared memory a block, sm_87 has 166912");
  expect_line(text, "  nothing.w4.sm_80: needs blocks of 2048 threads, sm_87 takes 1024");
  CHECK(!tk::nothing.supports({}));
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_ERROR_LIMIT);
  EXPECT_EQ(lines_of(kpk_message())[0], lines_of(text)[0] + ":");
}

// ---- Real devices

TEST(a_driver_that_is_too_old_is_told_with_both_versions) {
  kpack::use_real_drivers();
  const kpk_device first = kpack::cuda_device(0);
  CHECK(tk::nothing.supports(first));
  const Edit<uint32_t> least(image_for("sm_90").least_driver, 99020);
  const std::string text = tk::nothing.explain(first);
  CHECK(lines_of(text)[0].find("nothing.w4.sm_90: needs a driver of CUDA 99.2 at least, this one is of 1") ==
        0);
  CHECK(!tk::nothing.supports(first));
  EXPECT_EQ(tk::nothing(static_cast<CUstream_st *>(nullptr)).code(), KPK_ERROR_NO_IMAGE);
  EXPECT_EQ(lines_of(text)[0], lines_of(kpk_message())[0]);
}

TEST(asking_loads_nothing_and_makes_no_context) {
  kpack::use_real_drivers();
  cuda.reset();
  hip.reset();
  const uint64_t before = cuda.loads(-1) + hip.loads(-1);
  const uint64_t retained = cuda.calls("cuDevicePrimaryCtxRetain");
  for (int ordinal = 0; ordinal < 2; ++ordinal) {
    for (const kpk_device on : {kpack::cuda_device(ordinal), kpack::hip_device(ordinal)}) {
      const std::string text = kpack::explain(tk::scale, on, device(0x1000), device(0x2000), 1.0, 2, 100);
      EXPECT_EQ(lines_of(text)[0].find("scale on " + std::string(kpk_device_arch(on)) + ": runs "),
                size_t{0});
      CHECK(kpack::supports(tk::scale, on, device(0x1000), device(0x2000), 1.0, 2, 100));
      CHECK(!kpack::supports(tk::scale, on, device(0x1000), device(0x2000), 1.0, 2, 1 << 20));
    }
  }
  EXPECT_EQ(cuda.loads(-1) + hip.loads(-1), before);
  EXPECT_EQ(cuda.calls("cuDevicePrimaryCtxRetain"), retained);
  EXPECT_EQ(cuda.violations() + hip.violations(), uint64_t{0});
}

TEST(a_device_that_is_not_there_is_named) {
  kpack::use_real_drivers();
  const std::string text = tk::nothing.explain(kpack::cuda_device(7));
  EXPECT_EQ(text, std::string("nothing: explain: expected one of 2 CUDA devices, got ordinal 7"));
  CHECK(!tk::nothing.supports(kpack::cuda_device(7)));
  CHECK(!tk::nothing.supports({9, 0}));
}

// ---- Yes or no, and the launch

TEST(asking_leaves_the_threads_message_alone) {
  kpack::use_dry_driver("sm_90");
  EXPECT_EQ(tk::choose(nullptr, device(0x1000), 5, "triple", true, 1, 1).code(), KPK_ERROR_ARGUMENT);
  const std::string told = kpk_message();
  CHECK(!told.empty());
  CHECK(!tk::choose.supports({}, device(0x1000), 5, "single", true, -1, 1));  // the grid
  CHECK(!tk::choose.supports({}, device(0x1000), 5, "treble", true, 1, 1));   // the overload
  CHECK(!tk::choose.supports({}, device(0x1001), 5, "single", true, 1, 1));   // an argument
  CHECK(tk::choose.supports({}, device(0x1000), 5, "single", true, 1, 1));
  CHECK(!tk::scale.supports({}, device(0x1000), device(0x1000), 1.0, 1, 1 << 20));  // the guard
  kpack::use_dry_driver("gfx942");
  CHECK(!tk::nothing.supports({}));  // the image
  tk::nothing.explain({});
  EXPECT_EQ(std::string(kpk_message()), told);
}

uint64_t bits_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Arguments that kernels take, nearly take, and do not take.
kpk_arg any_argument(std::mt19937 &random) {
  const auto pick = [&](const std::vector<uint64_t> &from) { return from[random() % from.size()]; };
  const auto constant = static_cast<uint8_t>(random() % 4 == 0 ? KPK_PARAM_CONST : 0);
  const auto pointer = [&](int type) {
    return kpk_arg{pick({0x1000, 0x1004, 0x1001, 0}), static_cast<uint8_t>(KPK_POINTER | type), constant, 0,
                   0};
  };
  switch (random() % 10) {
    case 0:
    case 1:
    case 2: return pointer(KPK_FP32);
    case 3: return pointer(static_cast<int>(pick({KPK_FP16, KPK_FP64, KPK_VOID, KPK_I32})));
    case 4: return {bits_of(random() % 2 == 0 ? 1.5 : 2.0), KPK_FP64, 0, 0, 0};
    case 5: return {reinterpret_cast<uint64_t>(random() % 4 == 0 ? "triple" : "single"), KPK_STRING, 0, 0, 0};
    case 6: return {random() % 2, KPK_I1, 0, 0, 0};
    case 7: return {0, KPK_NONE, 0, 0, 0};
    default:
      return {pick({0, 1, 2, 16, 100, 10000, 1 << 20, uint64_t{1} << 31, uint64_t{1} << 40, ~uint64_t{0},
                    uint64_t{1} << 63}),
              static_cast<uint8_t>(random() % 5 == 0 ? KPK_U64 : KPK_I64), 0, 0, 0};
  }
}

// Tensors that a descriptor can be of, and others.
kpk_arg any_tensor(std::mt19937 &random) {
  using kpack::TensorDescriptor;
  static const TensorDescriptor tensors[] = {{device(0x1000), {100, 200}},
                                             {device(0x1000), {64, 64}},
                                             {device(0x1004), {100, 200}},
                                             {device(0x1000), {100, 201}},
                                             {device(0x1000), {100, 200}, {8, 1}},
                                             {device(0x1000), {100}},
                                             {device(0x1000), {100, 0}},
                                             {device(0), {100, 200}},
                                             {kpack::ptr(device(0x1000), kpack::DType::fp16), {100, 200}}};
  const size_t count = sizeof tensors / sizeof *tensors;
  return tensors[random() % 2 == 0 ? random() % 2 : random() % count].arg();
}

// A call that `kernel` takes, of which each argument is then left or replaced.
std::vector<kpk_arg> any_call(const kpk_arg *good, uint32_t count, std::mt19937 &random) {
  std::vector<kpk_arg> call(good, good + count);
  for (kpk_arg &arg : call) {
    if ((arg.type & KPK_TENSORDESC) != 0) {
      arg = any_tensor(random);
    } else if (random() % 4 == 0) {
      arg = any_argument(random);
    }
  }
  if (random() % 50 == 0) call.pop_back();
  return call;
}

struct Sample {
  const kpk_kernel *kernel;
  std::vector<kpk_arg> good;
};

std::vector<Sample> samples() {
  using kpack::detail::arg;
  std::mt19937 random(0);
  const kpk_arg tensor = any_tensor(random);
  const auto *text = "single";
  return {
      {&tk::scale.get().native(),
       {arg(device(0x1000)), arg(device(0x2000)), arg(1.0), arg(int64_t{2}), arg(int64_t{100})}},
      {&tk::choose.get().native(),
       {arg(device(0x1000)), arg(5), arg(text), arg(true), arg(int64_t{3}), arg(int64_t{4})}},
      {&tk::optional.get().native(), {arg(device(0x1000)), arg(device(0x2000)), arg(4)}},
      {&tk::product.get().native(),
       {arg(device(0x1000)), arg(kpack::ptr(device(0x2000), kpack::DType::fp16)),
        arg(kpack::ptr(device(0x2000), kpack::DType::fp16)), arg(1)}},
      {&tk::clustered.get().native(), {arg(reinterpret_cast<int32_t *>(0x1000)), arg(2560)}},
      {&tk::tensors.get().native(), {tensor, tensor, arg(3), arg(100), arg(200)}},
  };
}

// supports() and a launch of the same, both ways round: the first of them makes the states.
bool agree(const Sample &sample, const std::vector<kpk_arg> &call, kpk_device on, kpk_stream stream,
           bool *yes) {
  const auto count = static_cast<uint32_t>(call.size());
  const uint64_t signature = kpk_signature(call.data(), count);
  const int before = kpk_supports(sample.kernel, on, call.data(), count, signature);
  const kpk_status status = kpk_launch(sample.kernel, stream, call.data(), count, signature);
  const int after = kpk_supports(sample.kernel, on, call.data(), count, 0);
  *yes = status == KPK_OK || status == KPK_DRY;
  return before == after && (before == 1) == *yes;
}

void compare(kpk_device on, kpk_stream stream, uint32_t *yes, uint32_t *no, bool *every) {
  std::mt19937 random(1);
  for (const Sample &sample : samples()) {
    uint32_t launches = 0;
    for (int i = 0; i < 2000; ++i) {
      const std::vector<kpk_arg> call =
          any_call(sample.good.data(), static_cast<uint32_t>(sample.good.size()), random);
      bool launched = false;
      if (!agree(sample, call, on, stream, &launched)) {
        std::string text(4096, '\0');
        text.resize(kpk_explain(sample.kernel, on, call.data(), static_cast<uint32_t>(call.size()), &text[0],
                                text.size()));
        check::fail(
            __FILE__, __LINE__,
            std::string(launched ? "launched, but not supported: " : "supported, but not launched: ") +
                kpk_message() + "\n" + text);
      }
      ++*(launched ? yes : no);
      launches += launched;
    }
    // Each kernel in its turn: a sample that never runs would say nothing.
    if (*every) *every = launches > 50 && launches < 1950;
  }
}

TEST(supports_says_what_a_dry_launch_does) {
  for (const char *arch :
       {"sm_75", "sm_80", "sm_86", "sm_90", "gfx90a:sramecc+:xnack-", "gfx1100", "gfx942"}) {
    kpack::use_dry_driver(arch);
    uint32_t yes = 0, no = 0;
    bool every = true;
    compare({}, {}, &yes, &no, &every);
    const bool has_images = std::strcmp(arch, "sm_75") != 0 && std::strcmp(arch, "gfx942") != 0;
    CHECK(has_images ? yes > 500 : yes == 0);
    CHECK(no > 500);
  }
}

TEST(supports_says_what_a_launch_on_a_device_does) {
  kpack::use_real_drivers();
  cuda.reset();
  uint32_t yes = 0, no = 0;
  bool every = true;
  compare(kpack::cuda_device(0), {nullptr, KPK_VENDOR_CUDA, 0}, &yes, &no, &every);
  CHECK(every && no > 500);
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

TEST(explain_and_supports_agree) {
  kpack::use_dry_driver("sm_90");
  std::mt19937 random(2);
  for (const Sample &sample : samples()) {
    const auto count = static_cast<uint32_t>(sample.good.size());
    for (int i = 0; i < 500; ++i) {
      const std::vector<kpk_arg> call = any_call(sample.good.data(), count, random);
      const auto given = static_cast<uint32_t>(call.size());
      std::string text(8192, '\0');
      text.resize(kpk_explain(sample.kernel, {}, call.data(), given, &text[0], text.size()));
      const bool runs = text.find(" on sm_90: runs ") != std::string::npos ||
                        text.find(" on sm_90: launches nothing") != std::string::npos;
      EXPECT_EQ(runs, kpk_supports(sample.kernel, {}, call.data(), given, 0) == 1);
    }
  }
}

}  // namespace

int main() {
  cuda = fake::open("libcuda.so.1", "cuda");
  hip = fake::open("libamdhip64.so", "hip");
  cuda.configure("sm_90,sm_80");
  hip.configure("gfx90a:sramecc+:xnack-,gfx1100");
  return check::run();
}
