// Calls by shortcut, as one block from C++ and from C and by their arguments, beside the same calls by choosing:
// whatever is called, all launch the same.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <random>
#include <string>
#include <vector>

#include "calls.h"
#include "check.h"
#include "fake.h"
#include "module.h"
#include "ways.h"

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
KPACK_KERNEL(tk, convertible);
KPACK_KERNEL(tk, unsigned_);
KPACK_KERNEL(tk, thirds);
KPACK_KERNEL(tk, sum2);
KPACK_KERNEL(tk, sum63);
KPACK_KERNEL(tk, sum64);
KPACK_KERNEL(tk, tensors);

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

const kpk_stream kStream = {nullptr, KPK_VENDOR_CUDA, 0};

uint32_t size(const std::vector<kpk_arg> &args) { return static_cast<uint32_t>(args.size()); }

// Launches that somebody watches are chosen.
template <class Launch>
Seen choose(Launch launch) {
  kpk_set_observer([](void *, const kpk_event *) {}, nullptr);
  const Seen seen = see(launch);
  kpk_set_observer(nullptr, nullptr);
  return seen;
}

const calls *const kLanguages[] = {&calls_c, &calls_cxx};

// The same argument by argument; and again, by the arguments that the call keeps.
void compare_calls(const kpack::Kernel &kernel, const kpack::Bound &bound, const std::vector<kpk_arg> &args,
                   const Seen &expected) {
  for (const calls *language : kLanguages) {
    kpk_call call;
    language->fill(&call, args.data(), size(args));
    for (int turn = 0; turn < 2; ++turn)
      CHECK(see([&] { return language->launch(&kernel.native(), kStream, &call); }) == expected);
    language->fill(&call, args.data(), size(args));
    for (int turn = 0; turn < 2; ++turn)
      CHECK(see([&] { return language->launch_bound(&bound.native(), kStream, &call); }) == expected);
  }
}

// By choosing and by arguments; again, when it has learnt how; and the same bound.
Seen compare(const kpack::Kernel &kernel, const std::vector<kpk_arg> &args) {
  const kpk_kernel *native = &kernel.native();
  const auto launch = [&] { return kpk_launch(native, kStream, args.data(), size(args), 0); };
  const Seen expected = choose(launch);
  const kpack::Bound bound = kernel.bind(kpack::cuda_device(0));
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(see(launch) == expected);
    CHECK(see([&] { return kpk_launch_bound(&bound.native(), kStream, args.data(), size(args), 0); }) ==
          expected);
    compare_calls(kernel, bound, args, expected);
  }
  return expected;
}

// C makes the block that C++ makes.
template <class... A>
void compare_blocks(const A &...arguments) {
  const std::vector<kpk_arg> args = {kpack::detail::arg(arguments)...};
  for (const calls *language : kLanguages) {
    kpk_call call;
    std::memset(&call, 0xcc, sizeof call);
    language->fill(&call, args.data(), size(args));
    EXPECT_EQ(call.count, size(args));
    EXPECT_EQ(language->end(&call) != 0, kpack::detail::is_packable<A...>());
    if constexpr (kpack::detail::is_packable<A...>()) {
      const kpack::detail::PackedCall<A...> packed(arguments...);
      EXPECT_EQ(call.packed.types, packed.call.types);
      EXPECT_EQ(call.packed.odd_16, packed.call.odd_16);
      EXPECT_EQ(call.packed.special, packed.call.special);
      EXPECT_EQ(call.packed.consts, packed.call.consts);
      EXPECT_EQ(call.packed.misaligned, packed.call.misaligned);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(call.packed.block) % 16, uintptr_t{0});
      EXPECT_EQ(call.block_bytes + 40, uint32_t{sizeof packed.block});
      EXPECT_EQ(std::memcmp(call.packed.block, packed.block, sizeof packed.block), 0);
    }
  }
}

// Pointers across elements of all these types.
template <class... T>
void compare_elements() {
  for (const uintptr_t address : {0x100f, 0x1004, 0x1008, 0x1010}) {
    (compare_blocks(reinterpret_cast<T *>(address)), ...);
    (compare_blocks(reinterpret_cast<const T *>(address)), ...);
  }
}

// The same through C++, which packs where it can.
template <class... A>
void compare(const kpack::Kernel &kernel, const A &...arguments) {
  const Seen expected = compare(kernel, std::vector<kpk_arg>{kpack::detail::arg(arguments)...});
  compare_blocks(arguments...);
  const kpack::Bound bound = kernel.bind(kpack::cuda_device(0));
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(see([&] { return kernel(kpack::Stream(kStream), arguments...).code(); }) == expected);
    CHECK(see([&] { return bound(kpack::Stream(kStream), arguments...).code(); }) == expected);
  }
}

// Does the call go as one block?
template <class... A>
bool is_packed(const kpack::Kernel &kernel, const A &...arguments) {
  kpack::detail::PackedCall<A...> call(arguments...);
  return kpk_launch_packed(&kernel.native(), kpk_stream{}, &call.call) != KPK_UNPACK;
}

// Does it go by its arguments, and not by choosing?
bool is_short(const kpack::Kernel &kernel, const std::vector<kpk_arg> &args) {
  const kpk::Function *last = kpk::slot_of(kernel.native()).last.load();
  const kpk::Shortcut *shortcut =
      last == nullptr ? nullptr : kpk::find_shortcut(*last, args.data(), size(args));
  kpk_status status;
  return shortcut != nullptr && kpk::launch_args(*shortcut, nullptr, args.data(), size(args), &status);
}
template <class... A>
bool is_short(const kpack::Kernel &kernel, const A &...arguments) {
  return is_short(kernel, std::vector<kpk_arg>{kpack::detail::arg(arguments)...});
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
  // The first launch loads, the second one learns.
  for (int turn = 0; turn < 2; ++turn) {
    CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
    CHECK(tk::scale(nullptr, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
  }
  CHECK(is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
  CHECK(is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 8, 1));
  // Another variant, a range, an empty grid, a const that is written: all of these take a closer look.
  CHECK(!is_packed(tk::scale, device(0x1004), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 50000));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 0));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, -1));
  CHECK(!is_packed(tk::scale, static_cast<const float *>(device(0x1000)), device(0x2000), 2.5F, 7, 5000));
  CHECK(!is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5, 7, 5000));
  for (int turn = 0; turn < 2; ++turn) CHECK(tk::nothing(nullptr));
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

// ---- by arguments

kpk_arg integer(uint8_t type, int64_t value) { return {static_cast<uint64_t>(value), type, 0, 0, 0}; }
kpk_arg floating(uint8_t type, double value) {
  kpk_arg made = {0, type, 0, 0, 0};
  std::memcpy(&made.bits, &value, sizeof value);
  return made;
}
kpk_arg pointer(uint8_t type, uint64_t address, uint8_t flags = 0) {
  return {address, static_cast<uint8_t>(KPK_POINTER | type), flags, 0, 0};
}

TEST(a_call_by_its_arguments_is_learnt_when_it_is_made_again) {
  start();
  const std::vector<kpk_arg> args = {pointer(KPK_FP32, 0x1000), pointer(KPK_FP32, 0x2000),
                                     floating(KPK_FP32, 2.5), integer(KPK_I32, 7), integer(KPK_I32, 5000)};
  const kpk_kernel *scale = &kpack::Kernel(tk::scale).native();
  for (int turn = 0; turn < 2; ++turn) {
    CHECK(!is_short(tk::scale, args));
    EXPECT_EQ(kpk_launch(scale, kStream, args.data(), size(args), 0), KPK_OK);
  }
  CHECK(is_short(tk::scale, args));
  const float *in = device(0x2000);
  CHECK(is_packed(tk::scale, device(0x1000), in, 2.5F, 7, 5000));  // one shortcut serves both
  finish();
}

TEST(what_is_not_certain_is_chosen) {
  start();
  const std::vector<kpk_arg> good = {pointer(KPK_FP32, 0x1000), pointer(KPK_FP32, 0x2000, KPK_PARAM_CONST),
                                     floating(KPK_FP32, 2.5), integer(KPK_I32, 7), integer(KPK_I32, 5000)};
  compare(tk::scale, good);
  const struct {
    uint32_t at;
    kpk_arg arg;
    kpk_status status;
  } others[] = {
      {0, pointer(KPK_FP32, 0x1004), KPK_OK},  // the variant for what is not aligned
      {0, pointer(KPK_FP32, 0x1002), KPK_ERROR_ARGUMENT},
      {0, pointer(KPK_FP32, 0x1000, KPK_PARAM_CONST), KPK_ERROR_ARGUMENT},
      {0, pointer(KPK_FP64, 0x1000), KPK_ERROR_ARGUMENT},
      {1, pointer(KPK_FP16, 0x2000), KPK_ERROR_ARGUMENT},
      {1, pointer(KPK_VOID, 0), KPK_OK},
      {1, integer(KPK_NONE, 0), KPK_OK},
      {2, integer(KPK_I32, 3), KPK_OK},
      {3, integer(KPK_I32, 1), KPK_OK},  // the variant for 1
      {3, integer(KPK_I32, int64_t{1} << 31), KPK_ERROR_ARGUMENT},
      {3, integer(KPK_I32, INT32_MIN - INT64_C(1)), KPK_ERROR_ARGUMENT},
      {3, integer(KPK_U64, -1), KPK_ERROR_ARGUMENT},
      {3, floating(KPK_FP32, 7), KPK_ERROR_ARGUMENT},
      {4, integer(KPK_I32, 50000), KPK_OK},  // the variant for more
      {4, integer(KPK_I32, 100000), KPK_ERROR_NO_VARIANT},
      {4, integer(KPK_I32, 0), KPK_OK},  // an empty grid
      {4, integer(KPK_I32, -1), KPK_OK},
  };
  for (const auto &other : others) {
    std::vector<kpk_arg> args = good;
    args[other.at] = other.arg;
    compare(tk::scale, good);
    CHECK(is_short(tk::scale, good));
    CHECK(!is_short(tk::scale, args));
    EXPECT_EQ(compare(tk::scale, args).status, other.status);
  }
  // As certain as it was.
  std::vector<kpk_arg> args = good;
  args[3] = integer(KPK_I32, -2), args[4] = integer(KPK_I32, 8192), args[2] = floating(KPK_FP32, -0.1);
  compare(tk::scale, good);
  CHECK(is_short(tk::scale, args));
  for (uint32_t count = 0; count < 5; ++count)
    EXPECT_EQ(kpk_launch(&kpack::Kernel(tk::scale).native(), kStream, good.data(), count, 0),
              KPK_ERROR_ARGUMENT);
  finish();
}

// A call of `convertible`: a pointer, nine integers from i1 to u64, fp32, fp64.
std::vector<kpk_arg> numbers(uint8_t integers, uint8_t floats) {
  std::vector<kpk_arg> made = {pointer(KPK_FP64, 0x1000)};
  for (int i = 0; i < 9; ++i) made.push_back(integer(integers, 1));
  for (int i = 0; i < 2; ++i) made.push_back(floating(floats, 1.5));
  return made;
}

TEST(integers_of_any_type_convert_within_the_range_of_theirs) {
  start();
  const struct {
    int64_t least, most;
  } ranges[] = {{0, 1},
                {INT8_MIN, INT8_MAX},
                {INT16_MIN, INT16_MAX},
                {INT32_MIN, INT32_MAX},
                {INT64_MIN, INT64_MAX},
                {0, UINT8_MAX},
                {0, UINT16_MAX},
                {0, UINT32_MAX},
                {0, INT64_MAX}};
  for (const uint8_t given : {KPK_I64, KPK_U64, KPK_I32, KPK_I8}) {
    const std::vector<kpk_arg> good = numbers(given, KPK_FP64);
    for (uint32_t i = 0; i < 9; ++i) {
      compare(tk::convertible, good);
      CHECK(is_short(tk::convertible, good));
      std::vector<kpk_arg> args = good;
      for (const int64_t value :
           {ranges[i].least, ranges[i].most, INT64_C(-1), INT64_C(1) << 32, INT64_MIN}) {
        // And their neighbours.
        for (const uint64_t more : {UINT64_C(0), UINT64_C(1), UINT64_MAX}) {
          args[1 + i].bits = static_cast<uint64_t>(value) + more;
          const auto bits = static_cast<int64_t>(args[1 + i].bits);
          const bool sure =
              bits >= ranges[i].least && bits <= ranges[i].most && (given != KPK_U64 || bits >= 0);
          EXPECT_EQ(is_short(tk::convertible, args), sure);
          compare(tk::convertible, args);
        }
      }
    }
  }
  finish();
}

TEST(floats_are_rounded_to_theirs) {
  start();
  for (const uint8_t given : {KPK_FP64, KPK_FP32, KPK_FP16}) {
    std::vector<kpk_arg> args = numbers(KPK_I64, given);
    for (const double value :
         {0.1, -0.1, 1e-40, 1e-300, 1e300, -1e300, 16777217.0, -0.0, HUGE_VAL, std::nan("")}) {
      args[10] = args[11] = floating(given, value);
      compare(tk::convertible, args);
      CHECK(is_short(tk::convertible, args));
      fake_launch made;
      CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
      const auto narrow = fake::argument<float>(made, 10), rounded = static_cast<float>(value);
      EXPECT_EQ(std::memcmp(&narrow, &rounded, sizeof narrow), 0);
    }
  }
  finish();
}

TEST(what_the_image_folds_away_is_looked_at) {
  start();
  const float *in = device(0x2000), *none = nullptr;
  compare(tk::scale, device(0x1000), in, 0.1, 1, 5000);
  CHECK(is_short(tk::scale, device(0x1000), in, 0.1, 1, 4000));
  CHECK(!is_short(tk::scale, device(0x1000), in, 0.1, 2, 5000));
  compare(tk::scale, device(0x1000), in, 0.1, 2, 5000);
  CHECK(is_short(tk::scale, device(0x1000), in, 0.1, 3, 5000));
  CHECK(!is_short(tk::scale, device(0x1000), in, 0.1, 1, 5000));  // a variant in front
  compare(tk::scale, device(0x1000), in, 0.1F, 1, 5000);
  compare(tk::optional, device(0x1000), none, 4);
  CHECK(is_short(tk::optional, device(0x1000), none, 5));
  CHECK(!is_short(tk::optional, device(0x1000), in, 4));
  compare(tk::optional, device(0x1000), in, 4);
  CHECK(!is_short(tk::optional, device(0x1000), none, 4));
  finish();
}

TEST(no_arguments_many_and_too_many) {
  start();
  compare(tk::nothing, std::vector<kpk_arg>());
  CHECK(is_short(tk::nothing, std::vector<kpk_arg>()));
  std::vector<kpk_arg> args = {pointer(KPK_FP64, 0x1000)};
  for (int i = 0; i < 9; ++i) args.push_back(pointer(KPK_FP32, 0x2000 + 16 * static_cast<uint64_t>(i)));
  for (int i = 0; i < 32; ++i) args.push_back(integer(i < 16 ? KPK_I32 : KPK_I64, -i));
  for (int i = 0; i < 16; ++i) args.push_back(floating(KPK_FP32, 0.1 * i));
  compare(tk::args58, args);
  CHECK(is_short(tk::args58, args));
  for (uint32_t count = 0; count < 58; ++count)
    EXPECT_EQ(kpk_launch(&kpack::Kernel(tk::args58).native(), kStream, args.data(), count, 0),
              KPK_ERROR_ARGUMENT);
  args[57] = integer(KPK_I64, 1), args[3].bits += 4;
  compare(tk::args58, args);
  args.assign(63, integer(KPK_I32, 1));
  EXPECT_EQ(compare(tk::sum63, args).grid[0], 63u);
  CHECK(is_short(tk::sum63, args));
  args.push_back(integer(KPK_I32, 2));
  EXPECT_EQ(compare(tk::sum64, args).grid[0], 65u);
  CHECK(!is_short(tk::sum64, args));
  finish();
}

TEST(grids_that_are_expressions_are_computed) {
  start();
  std::vector<kpk_arg> args(63, integer(KPK_I64, 1));
  for (const int64_t value :
       {INT64_C(5), INT64_C(0), INT64_C(-62), INT64_C(-63), INT64_C(1) << 31, INT64_MAX}) {
    args[62] = integer(KPK_I64, 1);
    compare(tk::sum63, args);
    args[62] = integer(KPK_I64, value);
    EXPECT_EQ(is_short(tk::sum63, args), value == 5 || value == 0);
    compare(tk::sum63, args);
  }
  for (const int value : {3, -5, 4}) compare(tk::sum2, 4, value);
  finish();
}

TEST(guards_are_looked_at_whatever_they_are) {
  start();
  auto *out = reinterpret_cast<int32_t *>(0x1000);
  for (const uint64_t n :
       {UINT64_C(5), UINT64_MAX, UINT64_C(128), UINT64_C(129), UINT64_C(1) << 63, UINT64_C(1025)}) {
    compare(tk::unsigned_, out, uint64_t{7});
    compare(tk::unsigned_, out, n);
  }
  for (const int n : {4, 3, 5, 6, -3}) compare(tk::thirds, out, n);
  finish();
}

TEST(where_guards_say_more_than_bounds_a_call_like_the_last_one_goes_as_one_block) {
  start();
  auto *out = reinterpret_cast<int32_t *>(0x1000);
  for (const int n : {3, 4, 6, 3}) {
    for (int turn = 0; turn < 3; ++turn) CHECK(tk::thirds(nullptr, out, n));
    // A driver that is asked first has the shortcut that was learnt last looked at, whatever the value.
    if (kpk::slot_of(kpack::Kernel(tk::thirds).native()).asks.load()) continue;
    CHECK(is_packed(tk::thirds, out, n));
    // Of another value nobody knows whether its variant is the same.
    for (const int other : {3, 4, 6, 9}) CHECK(other == n || !is_packed(tk::thirds, out, other));
  }
  // However many there are, each is chosen right.
  for (int turn = 0; turn < 3; ++turn) {
    for (int n = 1; n <= 100; ++n) {
      const Seen seen = see([&] { return tk::thirds(nullptr, out, n).code(); });
      CHECK(seen == choose([&] { return tk::thirds(nullptr, out, n).code(); }));
    }
  }
  finish();
}

TEST(calls_of_several_types_take_turns) {
  start();
  auto *out = reinterpret_cast<double *>(0x1000);
  const float *p = device(0x2000);
  compare(tk::args7, out, p, p, 1, 2, int64_t{3}, 4.0F);
  compare(tk::args7, out, p, p, 1, 2, 3, 4.0);
  compare(tk::args7, out, p, p, uint8_t{1}, int64_t{2}, 3U, 4.0F);
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(is_packed(tk::args7, out, p, p, 1, 2, int64_t{3}, 4.0F));
    CHECK(!is_packed(tk::args7, out, p, p, 1, 2, 3, 4.0));
    CHECK(is_short(tk::args7, out, p, p, 1, 2, 3, 4.0));
    CHECK(is_short(tk::args7, out, p, p, uint8_t{1}, int64_t{2}, 3U, 4.0F));
    compare(tk::args7, out, p, p, 1, 2, 3, 4.0);
    compare(tk::args7, out, p, p, 1, 2, int64_t{3}, 4.0F);
  }
  // More of them than are learnt.
  for (const uint8_t first : {KPK_I8, KPK_I16, KPK_I32, KPK_I64, KPK_U8}) {
    for (const uint8_t second : {KPK_I8, KPK_I16, KPK_I32, KPK_I64, KPK_U8}) {
      compare(tk::args7, {pointer(KPK_FP64, 0x1000), pointer(KPK_FP32, 0x2000), pointer(KPK_FP32, 0x2000),
                          integer(first, 1), integer(second, 2), integer(KPK_I64, 3), floating(KPK_FP32, 4)});
    }
  }
  finish();
}

TEST(a_watched_launch_is_told_of) {
  start();
  const kpk_kernel *bigger = &kpack::Kernel(tk::bigger).native();
  const std::vector<kpk_arg> call = {pointer(KPK_I32, 0x1000), integer(KPK_I32, 3)};
  compare(tk::bigger, call);
  CHECK(is_short(tk::bigger, call));
  const kpack::Bound bound = tk::bigger.bind(kpack::cuda_device(0));
  int told = 0;
  kpk_set_observer([](void *count, const kpk_event *) { ++*static_cast<int *>(count); }, &told);
  EXPECT_EQ(kpk_launch(bigger, kStream, call.data(), size(call), 0), KPK_OK);
  EXPECT_EQ(kpk_launch_bound(&bound.native(), kStream, call.data(), size(call), 0), KPK_OK);
  kpk_set_observer(nullptr, nullptr);
  EXPECT_EQ(told, 2);
  finish();
}

// ---- argument by argument, from C

TEST(a_call_from_c_goes_as_one_block) {
  start();
  const kpk_kernel *args7 = &kpack::Kernel(tk::args7).native();
  auto *out = reinterpret_cast<double *>(0x1000);
  const float *p = device(0x2000);
  for (int turn = 0; turn < 2; ++turn)
    EXPECT_EQ(calls_c.launch_7(args7, kStream, out, p, p, 1, 2, 3, 4.0F), KPK_OK);
  const std::vector<kpk_arg> args = {
      kpack::detail::arg(out), kpack::detail::arg(p),          kpack::detail::arg(p),   kpack::detail::arg(1),
      kpack::detail::arg(2),   kpack::detail::arg(int64_t{3}), kpack::detail::arg(4.0F)};
  for (const calls *language : kLanguages) {
    kpk_call call;
    language->fill(&call, args.data(), size(args));
    CHECK(language->end(&call) != 0);
    EXPECT_EQ(kpk_launch_packed(args7, kStream, &call.packed), KPK_OK);
    CHECK(language->end(&call) == 0);  // the block was written to
    EXPECT_EQ(kpk_launch(args7, kStream, call.args, call.count, 0), KPK_OK);
  }
  finish();
}

TEST(a_call_in_one_function_launches_the_same) {
  start();
  auto *out = reinterpret_cast<double *>(0x1000);
  const kpk_kernel *convertible = &kpack::Kernel(tk::convertible).native(),
                   *args7 = &kpack::Kernel(tk::args7).native();
  for (const int i : {0, 1, -1, 16, -128, 127}) {
    const number_args given = {out,
                               i,
                               static_cast<int8_t>(i),
                               static_cast<int16_t>(i * 200),
                               i * 30000,
                               -(INT64_C(1) << 40),
                               static_cast<uint8_t>(i),
                               static_cast<uint16_t>(i),
                               static_cast<uint32_t>(i),
                               static_cast<uint64_t>(i) >> 1,
                               0.1F * static_cast<float>(i),
                               0.1 * i};
    const std::vector<kpk_arg> args = {
        kpack::detail::arg(out),       kpack::detail::arg(i != 0),     kpack::detail::arg(given.i8),
        kpack::detail::arg(given.i16), kpack::detail::arg(given.i32),  kpack::detail::arg(given.i64),
        kpack::detail::arg(given.u8),  kpack::detail::arg(given.u16),  kpack::detail::arg(given.u32),
        kpack::detail::arg(given.u64), kpack::detail::arg(given.fp32), kpack::detail::arg(given.fp64)};
    const Seen expected = compare(tk::convertible, args);
    for (const calls *language : kLanguages)
      CHECK(see([&] { return language->launch_numbers(convertible, kStream, &given); }) == expected);
  }
  for (const uintptr_t address : {0x2000, 0x2004, 0x2002, 0x0}) {
    const float *p = device(address), *q = device(0x2010);
    compare(tk::args7, out, p, q, 1, 2, int64_t{3}, 4.0F);
    const Seen expected = see([&] { return tk::args7(nullptr, out, p, q, 1, 2, int64_t{3}, 4.0F).code(); });
    for (const calls *language : kLanguages) {
      CHECK(see([&] { return language->launch_7(args7, kStream, out, p, q, 1, 2, 3, 4.0F); }) == expected);
    }
  }
  finish();
}

TEST(blocks_from_c_are_those_of_cxx) {
  float *out = device(0x1008);
  const auto *text = "single";
  compare_blocks();
  compare_blocks(true, int8_t{-1}, int16_t{1}, true, int64_t{16}, uint8_t{255}, 1.5, uint16_t{1}, 1.5F,
                 uint32_t{32}, int8_t{16}, uint64_t{1});
  compare_blocks(int8_t{1}, out, false, 0.1F, int8_t{-16}, 0.1, uint16_t{3});
  compare_blocks(static_cast<const float *>(nullptr), out);
  compare_elements<bool, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, __half,
                   __nv_bfloat16, float, double>();
  compare_blocks(out, nullptr, 3);
  compare_blocks(out, text, 3);
  compare_blocks(out, kpack::DType::fp16, 3);
  compare_blocks(kpack::ptr(out, kpack::DType::fp16).arg().bits);
}

TEST(a_call_with_too_many_arguments_is_refused) {
  start();
  const kpack::Kernel sum64 = tk::sum64;
  const kpack::Bound bound = sum64.bind(kpack::cuda_device(0));
  for (const uint32_t count : {65u, 66u, 200u}) {
    const std::vector<kpk_arg> args(count, integer(KPK_I64, 1));
    for (const calls *language : kLanguages) {
      kpk_call call;
      language->fill(&call, args.data(), count);
      EXPECT_EQ(call.count, count);
      const std::string expected = "sum64: expected at most 64 arguments in a kpk_call, got " +
                                   std::to_string(count) + ": kpk_launch takes any number";
      EXPECT_EQ(language->launch(&sum64.native(), kStream, &call), KPK_ERROR_ARGUMENT);
      EXPECT_EQ(std::string(kpk_message()), expected);
      EXPECT_EQ(language->launch_bound(&bound.native(), kStream, &call), KPK_ERROR_ARGUMENT);
      EXPECT_EQ(std::string(kpk_message()), expected);
    }
  }
  kpk_call call;
  const kpk_bound unbound = {};
  calls_c.fill(&call, nullptr, 0);
  EXPECT_EQ(calls_c.launch(nullptr, kStream, &call), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(calls_c.launch_bound(&unbound, kStream, &call), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(calls_c.launch_bound(nullptr, kStream, &call), KPK_ERROR_ARGUMENT);
  finish();
}

TEST(tensor_descriptors_from_c) {
  start();
  const kpack::TensorDescriptor out(device(0x1000), {100, 200});
  const kpack::TensorDescriptor in(static_cast<const float *>(device(0x20000)), {100, 200});
  int version = 0;
  cuda.entry<int(int *)>("cuDriverGetVersion")(&version);
  EXPECT_EQ(compare(tk::tensors,
                    {out.arg(), in.arg(), integer(KPK_I32, 3), integer(KPK_I32, 100), integer(KPK_I32, 200)})
                .status,
            version >= 12000 ? KPK_OK : KPK_ERROR_LIMIT);  // of older ones none has tensor maps
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
  compare(tk::ranged, out, 7, 5);
  CHECK(is_packed(tk::ranged, out, 7, 100) && is_short(tk::ranged, out, 7, 1));
  CHECK(!is_packed(tk::ranged, out, 7, 101) && !is_short(tk::ranged, out, 7, 101));
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
    compare(tk::minus_or_three, out, 3, 3, 2);
    compare(tk::minus_or_three, out, 3, -1, 2);
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

TEST(handles_of_two_contexts_keep_apart) {
  start();
  const float *in = device(0x2000);
  void *contexts[2] = {};
  cuda.entry<int(void **)>("cuCtxGetCurrent")(&contexts[0]);
  EXPECT_EQ(cuda.entry<int(void **, unsigned, int)>("cuCtxCreate_v2")(&contexts[1], 0, 0), 0);
  const kpack::Bound there = tk::scale.bind(kpack::cuda_device(0));
  cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[0]);
  const kpack::Bound here = tk::scale.bind(kpack::cuda_device(0));
  fake_launch made;
  for (const int at : {0, 0, 0, 1, 1, 1, 0, 1}) {
    cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[at]);
    const kpack::Bound &bound = at == 0 ? here : there;
    CHECK(bound(nullptr, device(0x1000), in, 1.5F, 2, 100));
    CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
    EXPECT_EQ(made.context, contexts[at]);
    const std::vector<kpk_arg> args = {pointer(KPK_FP32, 0x1000), pointer(KPK_FP32, 0x2000),
                                       floating(KPK_FP32, 1.5), integer(KPK_I32, 2), integer(KPK_I32, 100)};
    EXPECT_EQ(kpk_launch_bound(&bound.native(), kStream, args.data(), size(args), 0), KPK_OK);
  }
  finish();
  start();
  cuda.entry<int(void *)>("cuCtxDestroy_v2")(contexts[1]);
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
TEST(random_calls_launch_the_same_all_ways) {
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
  // Asked where it goes, it takes the shortcut of that place.
  for (const int current : {0, 1, 0, 1}) {
    cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[current]);
    CHECK(is_packed(tk::scale, device(0x1000), static_cast<const float *>(device(0x2000)), 2.5F, 7, 5000));
    CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
    EXPECT_EQ(made.device, current);
  }
  finish();
}

// The refusal comes after the block was written to.
TEST(a_call_from_c_goes_where_the_stream_is) {
  start();
  void *contexts[2] = {}, *streams[2] = {};
  for (int i = 0; i < 2; ++i) {
    cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&contexts[i], i);
    cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[i]);
    cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&streams[i], 1);
  }
  const std::vector<kpk_arg> args = {pointer(KPK_I32, 0x1000), integer(KPK_I32, 7), integer(KPK_I32, 5)};
  fake_launch made;
  for (const int at : {0, 0, 0, 1, 1, 1, 0, 1}) {
    cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[at]);
    for (const calls *language : kLanguages) {
      kpk_call call;
      language->fill(&call, args.data(), size(args));
      EXPECT_EQ(language->launch(&kpack::Kernel(tk::ranged).native(),
                                 kpk_stream{streams[at], KPK_VENDOR_CUDA, 0}, &call),
                KPK_OK);
      CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
      EXPECT_EQ(made.device, at);
      EXPECT_EQ(made.grid[0], 5u);
    }
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
