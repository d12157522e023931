// A call as one block beside the same call by its arguments: whatever is called, both launch the same.

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(tk, scale);
KPACK_KERNEL(tk, scalars);
KPACK_KERNEL(tk, choose);
KPACK_KERNEL(tk, optional);
KPACK_KERNEL(tk, nothing);
KPACK_KERNEL(tk, args7);
KPACK_KERNEL(tk, args16);
KPACK_KERNEL(tk, args58);
KPACK_KERNEL(tk, ranged);
KPACK_KERNEL(tk, bigger);
KPACK_KERNEL(tk, zero_or_none);
KPACK_KERNEL(tk, minus_or_three);
KPACK_KERNEL(tk, one_or_three);

// Types that say they are what their memory is not.
template <>
struct kpack::type_of<long double> : kpack::is_type<kpack::DType::fp64> {};
template <>
struct kpack::type_of<char> : kpack::is_type<kpack::DType::i32> {};

namespace {

fake::Fake cuda;

float *device(uintptr_t address) { return reinterpret_cast<float *>(address); }

struct Seen {
  kpk_status status = KPK_OK;
  bool launched = false;
  std::string function;
  uint32_t grid[3] = {};
  std::vector<std::string> params;  // as bytes
  std::string message;
};

bool operator==(const Seen &a, const Seen &b) {
  return a.status == b.status && a.launched == b.launched && a.function == b.function &&
         std::memcmp(a.grid, b.grid, sizeof a.grid) == 0 && a.params == b.params && a.message == b.message;
}

template <class Launch>
Seen see(Launch launch) {
  const uint64_t before = cuda.launches();
  Seen seen;
  seen.status = launch();
  if (seen.status != KPK_OK) seen.message = kpk_message();
  seen.launched = cuda.launches() != before;
  fake_launch made;
  if (!seen.launched || cuda.launch(before, &made) == 0) return seen;
  seen.function = made.function;
  std::memcpy(seen.grid, made.grid, sizeof seen.grid);
  for (uint32_t i = 0; i < made.param_count; ++i) {
    const auto *bytes = reinterpret_cast<const char *>(made.params) + made.layout[i].offset;
    seen.params.emplace_back(bytes, made.layout[i].size);
  }
  return seen;
}

// By arguments, and through C++, which packs where it can; again, when it has learnt how; and the same bound.
template <class... A>
void compare(const kpack::Kernel &kernel, const A &...arguments) {
  const kpk_arg args[] = {kpack::detail::arg(arguments)..., kpk_arg{}};
  const kpk_stream stream = {nullptr, KPK_VENDOR_CUDA, 0};
  const Seen expected = see([&] {
    return kpk_launch(&kernel.native(), stream, args, sizeof...(A), kpk_signature(args, sizeof...(A)));
  });
  const kpack::Bound bound = kernel.bind(kpack::cuda_device(0));
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(see([&] { return kernel(kpack::Stream(stream), arguments...).code(); }) == expected);
    CHECK(see([&] { return bound(kpack::Stream(stream), arguments...).code(); }) == expected);
  }
}

// Does the last call go as one block?
template <class... A>
bool is_packed(const kpack::Kernel &kernel, const A &...arguments) {
  kpack::detail::PackedCall<A...> call(arguments...);
  return kpk_launch_packed(&kernel.native(), kpk_stream{}, &call.call) != KPK_UNPACK;
}

void start() {
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) kpk_unload(&kernel.native());
  cuda.reset();
  void *context = nullptr;
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
  cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
}

void finish() {
  for (uint64_t i = 0; i < cuda.violations(); ++i) std::printf("  violation: %s\n", cuda.violation(i));
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

TEST(a_call_of_the_kernels_own_types_goes_as_one_block) {
  start();
  CHECK(tk::scale(nullptr, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
  CHECK(is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
  CHECK(is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 8, 1));
  // Another variant, a range, an empty grid, a const that is written: all of these take a closer look.
  CHECK(!is_packed(tk::scale, device(0x1004), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 50000));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 0));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, -1));
  CHECK(!is_packed(tk::scale, static_cast<const float *>(device(0x1000)), device(0x2000), 2.5F, 7, 5000));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5, 7, 5000));
  CHECK(tk::nothing(nullptr));
  CHECK(is_packed(tk::nothing));
  finish();
}

TEST(all_scalar_types_and_many_arguments) {
  start();
  auto *out = reinterpret_cast<double *>(0x1000);
  for (const int i : {0, 1, -1, 5}) {
    compare(tk::scalars, out, i > 0, static_cast<int8_t>(i), static_cast<int16_t>(i), i, int64_t{i},
            static_cast<uint8_t>(i), static_cast<uint16_t>(i), static_cast<uint32_t>(i),
            static_cast<uint64_t>(i), 1.5F, 2.5F, 0.1F, 0.1);
  }
  const auto *p = static_cast<const float *>(device(0x2000));
  compare(tk::args7, out, p, p, 1, 2, int64_t{3}, 4.0F);
  CHECK(is_packed(tk::args7, out, p, p, 1, 2, int64_t{3}, 4.0F));
  compare(tk::args7, out, p, p + 1, 1, 2, int64_t{3}, 4.0F);
  compare(tk::args7, out, p, p, 1, 2, 3, 4.0F);
  compare(tk::args7, out, p, p, int64_t{1} << 40, 2, 3, 4.0F);
  compare(tk::args16, out, p, p, p, 1, 2, 3, 4, int64_t{1}, int64_t{-2}, int64_t{3}, int64_t{4}, 1.0F, 2.0F,
          3.0F, 4.0F);
  finish();
}

TEST(selected_values_and_launch_only_parameters_of_any_width) {
  start();
  for (const bool fast : {true, false, true}) {
    compare(tk::choose, device(0x1000), 5, "single", fast, 3, 4);
    compare(tk::choose, device(0x1000), 5, "double", fast, int64_t{3}, 4);
  }
  compare(tk::choose, device(0x1000), 5, "double", true, 70000, 70000);
  finish();
}

TEST(null_is_a_variant_of_its_own) {
  start();
  const float *none = nullptr;
  compare(tk::optional, device(0x1000), none, 4);
  compare(tk::optional, device(0x1000), static_cast<const float *>(device(0x2000)), 4);
  compare(tk::optional, device(0x1000), none, 4);
  compare(tk::optional, device(0x1000), nullptr, 4);
  finish();
}

TEST(launch_only_parameters_keep_their_bounds) {
  start();
  auto *out = reinterpret_cast<int32_t *>(0x1000);
  for (const int rows : {5, 100, 101, 5000, 1, 0, -1}) compare(tk::ranged, out, 7, rows);
  for (const uint64_t rows : {uint64_t{5}, uint64_t{5000}, UINT64_MAX}) compare(tk::ranged, out, 7, rows);
  finish();
}

TEST(selected_values_of_like_bits_are_told_apart) {
  start();
  auto *out = reinterpret_cast<double *>(0x1000);
  for (int turn = 0; turn < 2; ++turn) {
    compare(tk::zero_or_none, out, 3, 0, 2);
    compare(tk::zero_or_none, out, 3, nullptr, 2);
    compare(tk::zero_or_none, out, int8_t{3}, 0, int64_t{2});
    compare(tk::zero_or_none, out, UINT64_C(0xffffffffffffff81), 0, 2);
    compare(tk::minus_or_three, out, 3, -1, 2);
    compare(tk::minus_or_three, out, 3, UINT64_MAX, 2);
    compare(tk::minus_or_three, out, UINT64_C(0xffffffff80000001), -1, 2);
    compare(tk::minus_or_three, out, uint64_t{3}, uint64_t{3}, 2);
    compare(tk::one_or_three, out, 3, 1.0, 2);
    compare(tk::one_or_three, out, 3, int64_t{1}, 2);
    compare(tk::one_or_three, out, 3, INT64_C(0x3ff0000000000000), 2);
    compare(tk::one_or_three, out, 3, 3, size_t{2});
  }
  finish();
}

// What was launched last through one handle is not what another one launches.
TEST(pinned_and_bound_handles_keep_apart) {
  start();
  auto *out = reinterpret_cast<double *>(0x1000);
  const kpack::Bound bound = tk::zero_or_none.bind(kpack::cuda_device(0));
  const kpack::Bound pinned = tk::zero_or_none.pin(kpack::cuda_device(0), out, 3, 0, 2);
  fake_launch made;
  for (int turn = 0; turn < 4; ++turn) {
    for (const bool none : {true, false}) {
      CHECK(none ? bound(nullptr, out, 3, nullptr, 2) : bound(nullptr, out, 3, 0, 2));
      CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
      EXPECT_EQ(std::string(made.function),
                std::string(none ? "zero_or_none_MASKNone_w4" : "zero_or_none_MASK0_w4"));
      CHECK(pinned(nullptr, out, 3, 0, 2));
      CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
      EXPECT_EQ(std::string(made.function), std::string("zero_or_none_MASK0_w4"));
      EXPECT_EQ(pinned(nullptr, out, 3, nullptr, 2).code(), KPK_ERROR_NO_VARIANT);
    }
  }
  finish();
}

TEST(what_only_converting_brings_to_its_type_is_converted) {
  start();
  auto *out = reinterpret_cast<double *>(0x1000);
  const auto scalars = [&](auto i, auto wide) {
    return tk::scalars(nullptr, out, true, int8_t{1}, int16_t{1}, i, int64_t{1}, uint8_t{1}, uint16_t{1}, 1U,
                       uint64_t{1}, 1.5F, 2.5F, 0.1F, wide);
  };
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(scalars(static_cast<char>(-1), 2.5L));
    fake_launch made;
    CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
    EXPECT_EQ(fake::argument<int32_t>(made, 4), static_cast<int32_t>(static_cast<char>(-1)));
    EXPECT_EQ(fake::argument<double>(made, 13), 2.5);
  }
  finish();
}

TEST(empty_slices_have_any_address_and_wrong_counts_are_refused) {
  start();
  const kpk_stream stream = {nullptr, KPK_VENDOR_CUDA, 0};
  const auto *nowhere = reinterpret_cast<const kpk_arg *>(uintptr_t{8});
  const kpk_kernel &nothing = kpack::Kernel(tk::nothing).native(),
                   &choose = kpack::Kernel(tk::choose).native();
  CHECK(tk::choose(nullptr, device(0x1000), 5, "single", false, 3, 4));
  const std::vector<kpk_arg> many(255, kpack::detail::arg(1));
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_EQ(kpk_launch(&nothing, stream, nowhere, 0, 0), KPK_OK);
    EXPECT_EQ(kpk_launch(&choose, stream, many.data(), 255, 0), KPK_ERROR_ARGUMENT);
  }
  kpk_bound bound;
  EXPECT_EQ(kpk_bind_call(&nothing, kpack::cuda_device(0), nowhere, 0, 0, &bound), KPK_OK);
  EXPECT_EQ(kpk_launch_bound(&bound, stream, nowhere, 0, 0), KPK_OK);
  finish();
}

// ---- Elsewhere

int set_device(int ordinal) {
  void *context = nullptr;
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, ordinal);
  return cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
}

// The variant for the wide call is on sm_90 alone; what the kernel ran on last says nothing of it.
TEST(another_device_may_have_a_variant_that_the_last_one_lacks) {
  start();
  auto *out = reinterpret_cast<int32_t *>(0x1000);
  set_device(1);  // sm_80
  CHECK(tk::bigger(nullptr, out, 100));
  set_device(0);
  CHECK(tk::bigger(nullptr, out, 1000));
  EXPECT_EQ(kpk_driver_code(), 0);
  set_device(1);
  EXPECT_EQ(tk::bigger(nullptr, out, 1000).code(), KPK_ERROR_NO_VARIANT);
  EXPECT_EQ(cuda.loads(0), uint64_t{1});  // nothing is loaded where it does not run
  EXPECT_EQ(cuda.loads(1), uint64_t{1});
  finish();
}

TEST(another_context_loads_what_the_last_one_had_not) {
  start();
  const float *in = device(0x2000);
  void *other = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, unsigned, int)>("cuCtxCreate_v2")(&other, 0, 0), 0);
  CHECK(tk::scale(nullptr, device(0x1000), in, 1.5F, 2, 100));
  set_device(0);
  CHECK(tk::scale(nullptr, device(0x1000), in, 1.5F, 2, 60000));
  CHECK(tk::scale(nullptr, device(0x1000), in, 1.5F, 2, 100));
  fake_launch made;
  CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
  CHECK(made.context != other);
  finish();
  start();
  cuda.entry<int(void *)>("cuCtxDestroy_v2")(other);
}

TEST(handles_follow_the_dry_driver) {
  start();
  const float *in = device(0x2000);
  const auto call = [&](const kpack::Bound &bound) {
    return bound(nullptr, device(0x1000), in, 1.5F, 2, 100).code();
  };
  const kpack::Bound bound = tk::scale.bind(kpack::cuda_device(0));
  EXPECT_EQ(call(bound), KPK_OK);
  CHECK(kpack::use_dry_driver("sm_80", true));
  const kpack::Bound dry = tk::scale.bind(kpack::cuda_device(0));
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(call(dry), KPK_OK);
  CHECK(kpack::use_dry_driver("sm_90"));
  const uint64_t before = cuda.launches();
  EXPECT_EQ(call(bound), KPK_DRY);
  EXPECT_EQ(cuda.launches(), before);
  CHECK(kpack::use_real_drivers());
  for (int turn = 0; turn < 3; ++turn) call(dry);
  EXPECT_EQ(cuda.launches(), before);
  EXPECT_EQ(call(bound), KPK_OK);
  EXPECT_EQ(cuda.launches(), before + 1);
  finish();
}

// Whatever is called: aligned or not, in range or not, one or not.
TEST(random_calls_launch_the_same_both_ways) {
  start();
  std::mt19937 random(20260101);
  const auto pick = [&](auto... values) {
    const int64_t all[] = {values...};
    return all[random() % (sizeof all / sizeof *all)];
  };
  for (int i = 0; i < 3000; ++i) {
    float *out = device(static_cast<uintptr_t>(pick(0x1000, 0x1010, 0x1004, 0x1008, 0x1002)));
    const float *in = device(static_cast<uintptr_t>(pick(0x2000, 0x2000, 0x2004, 0x2001)));
    const auto stride = static_cast<int32_t>(pick(1, 1, 2, 16, 0, -1));
    const auto n = static_cast<int32_t>(pick(0, 1, 127, 128, 129, 8192, 8193, 65536, 65537, -1, INT32_MIN));
    compare(tk::scale, out, in, 1.5F, stride, n);
    if (i % 8 == 0) compare(tk::scale, out, in, 1.5F, int64_t{stride}, n);
    if (i % 8 == 1) compare(tk::scale, out, in, 1.5, stride, n);
    if (i % 8 == 2) compare(tk::scale, in, in, 1.5F, stride, n);
    if (i % 64 == 3) CHECK(kpk_unload(&kpack::Kernel(tk::scale).native()) == KPK_OK);
  }
  finish();
}

TEST(a_packed_launch_goes_where_the_stream_is) {
  start();
  const auto call = [](kpack::Stream stream) {
    return tk::scale(stream, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000);
  };
  void *contexts[2] = {}, *streams[2] = {};
  for (int i = 0; i < 2; ++i) {
    cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&contexts[i], i);
    cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[i]);
    cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&streams[i], 1);
  }
  fake_launch made;
  for (int turn = 0; turn < 8; ++turn) {
    const int current = turn & 1, at = turn >> 1 & 1;
    cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[current]);
    CHECK(call(kpack::cuda_stream(streams[at])));
    CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
    EXPECT_EQ(made.device, at);
    CHECK(call(nullptr));
    CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
    EXPECT_EQ(made.device, current);
    void *still = nullptr;
    cuda.entry<int(void **)>("cuCtxGetCurrent")(&still);
    EXPECT_EQ(still, contexts[current]);
  }
  finish();
}

}  // namespace

int main() {
  setenv("FAKE_HIP", "none", 1);
  setenv("FAKE_CUDA", "sm_90,sm_80", 1);
  cuda = fake::open("libcuda.so.1", "cuda");
  return check::run();
}
