// Host tensor descriptors on the fake libcuda, sm_90 (maps) and sm_80 (their parts). The argument is the
// driver's version: 13000 needs small tensors' maps mended, 13020 does not, 11080 has no maps at all.

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>
#include <vector>

#include "check.h"
#include "cuda_tensor.h"
#include "fake.h"
#include "tensor.h"

KPACK_KERNEL(tk, tensors);
KPACK_KERNEL(tk, tensors3);
KPACK_KERNEL(tk, matmul);

namespace {

using kpack::DType;
using kpack::TensorDescriptor;

fake::Fake cuda, hip;
int version;
bool has_maps() { return version >= 12000; }

// Both vendors have devices.
const kpack::Stream kCuda = kpack::cuda_stream(nullptr);
constexpr uint64_t kSmallBit = uint64_t{1} << 21;
constexpr uintptr_t kOut = 0x10000, kIn = 0x20000;

kpack::Pointer half(uintptr_t address) { return kpack::ptr(reinterpret_cast<void *>(address), DType::fp16); }
float *single(uintptr_t address) { return reinterpret_cast<float *>(address); }

void set_device(int ordinal) {
  void *context = nullptr;
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, ordinal);
  cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
}

// Nothing recorded, device 0, the sm_90 one, current.
void start() {
  cuda.reset();
  set_device(0);
}

void finish() {
  for (uint64_t i = 0; i < cuda.violations(); ++i) std::printf("  violation: %s\n", cuda.violation(i));
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

bool says(const char *part) {
  const bool found = std::strstr(kpk_message(), part) != nullptr;
  if (!found) std::printf("  message: %s\n", kpk_message());
  return found;
}

fake_launch last_launch() {
  fake_launch launch = {};
  CHECK(cuda.launches() != 0 && cuda.launch(cuda.launches() - 1, &launch) != 0);
  return launch;
}

fake_map map_at(const fake_launch &launch, uint32_t index) {
  const auto map = fake::argument<fake_map>(launch, index);
  EXPECT_EQ(map.magic, FAKE_MAP_MAGIC);
  return map;
}

kpack::Status launch_halves(const TensorDescriptor &out, const TensorDescriptor &in, int n = 0) {
  return tk::tensors(kCuda, out, in, n, 100, 200);
}
kpack::Status launch_half(const TensorDescriptor &in) {
  return launch_halves(TensorDescriptor(half(kOut), {100, 200}), in);
}

// An address that no map was encoded for yet.
uintptr_t fresh() {
  static uintptr_t next = 0x1000000;
  return next += 0x1000;
}

// ---- maps

TEST(a_map_carries_the_tensor_and_what_the_compiler_decided) {
  if (!has_maps()) return;
  start();
  const uintptr_t in = fresh();
  const kpack::Status status = launch_halves(TensorDescriptor(half(kOut), {100, 200}),
                                             TensorDescriptor(half(in), {100, 200}, {208, 1}), 7);
  EXPECT_EQ(std::string(status.message()), std::string());
  const fake_launch launch = last_launch();
  EXPECT_EQ(launch.grid[0], 2u);
  EXPECT_EQ(launch.grid[1], 4u);
  const fake_map map = map_at(launch, 5);
  EXPECT_EQ(int{map.type}, 6);  // FLOAT16
  EXPECT_EQ(int{map.rank}, 2);
  EXPECT_EQ(map.address, uint64_t{in});
  EXPECT_EQ(map.last[0], 199u);
  EXPECT_EQ(map.last[1], 99u);
  EXPECT_EQ(map.strides[0], uint64_t{416});
  EXPECT_EQ(int{map.box[0]}, 64);
  EXPECT_EQ(int{map.box[1]}, 64);
  EXPECT_EQ(int{map.element_strides[0]}, 1);
  EXPECT_EQ(int{map.element_strides[1]}, 1);
  EXPECT_EQ(int{map.swizzle}, 3);
  EXPECT_EQ(int{map.fill}, 0);
  EXPECT_EQ(int{map.promotion}, 2);
  EXPECT_EQ(int{map.im2col}, 0);
  EXPECT_EQ(fake::argument<int32_t>(launch, 6), 100);
  EXPECT_EQ(fake::argument<int32_t>(launch, 7), 200);
  EXPECT_EQ(fake::argument<int64_t>(launch, 8), int64_t{208});
  EXPECT_EQ(fake::argument<int64_t>(launch, 9), int64_t{1});
  EXPECT_EQ(fake::argument<int32_t>(launch, 10), 7);
  EXPECT_EQ(map_at(launch, 0).address, uint64_t{kOut});
  EXPECT_EQ(map_at(launch, 0).strides[0], uint64_t{400});  // contiguous
  finish();
}

TEST(a_map_of_three_dimensions_is_innermost_first) {
  if (!has_maps()) return;
  start();
  CHECK(tk::tensors3(kCuda, TensorDescriptor(single(kOut), {3, 20, 40}),
                     TensorDescriptor(single(fresh()), {3, 20, 40}, {1600, 80, 1}), 1, 3, 20, 40));
  const fake_map map = map_at(last_launch(), 7);
  EXPECT_EQ(int{map.type}, 7);
  EXPECT_EQ(int{map.rank}, 3);
  for (const auto &[index, last] : std::vector<std::pair<int, uint32_t>>{{0, 39}, {1, 19}, {2, 2}})
    EXPECT_EQ(map.last[index], last);
  EXPECT_EQ(map.strides[0], uint64_t{320});
  EXPECT_EQ(map.strides[1], uint64_t{6400});
  EXPECT_EQ(int{map.box[0]}, 32);
  EXPECT_EQ(int{map.box[1]}, 8);
  EXPECT_EQ(int{map.box[2]}, 2);
  finish();
}

TEST(the_box_is_the_compilers_and_not_the_signatures) {
  if (!has_maps()) return;
  start();
  const auto tensor = [](uintptr_t address) { return TensorDescriptor(half(address), {256, 256}); };
  CHECK(tk::matmul(kCuda, tensor(fresh()), tensor(fresh()), tensor(fresh()), 256, 256, 256));
  const fake_map out = map_at(last_launch(), 0);  // [128, 128] in the signature
  EXPECT_EQ(int{out.box[0]}, 64);
  EXPECT_EQ(int{out.box[1]}, 128);
  finish();
}

TEST(padding_and_rounding_are_in_the_map) {
  if (!has_maps()) return;
  start();
  const uintptr_t in = fresh();
  CHECK(launch_half(TensorDescriptor(half(in), {100, 200}).pad_with_nan()));
  EXPECT_EQ(int{map_at(last_launch(), 5).fill}, 1);
  CHECK(launch_half(TensorDescriptor(half(in), {100, 200})));
  EXPECT_EQ(int{map_at(last_launch(), 5).fill}, 0);
  const TensorDescriptor out(single(kOut), {100, 200});
  CHECK(tk::tensors(kCuda, out, TensorDescriptor(single(in), {100, 200}).round_to_tf32(), 0, 100, 200));
  EXPECT_EQ(int{map_at(last_launch(), 5).type}, 11);
  CHECK(tk::tensors(kCuda, out, TensorDescriptor(single(in), {100, 200}), 0, 100, 200));
  EXPECT_EQ(int{map_at(last_launch(), 5).type}, 7);
  finish();
}

// The fake's launch looks at the bit, too: a violation either way.
TEST(maps_of_tensors_below_128_kib_are_mended_for_drivers_up_to_13_1) {
  if (!has_maps()) return;
  start();
  const auto bit_of = [](int64_t rows, int64_t columns) {
    CHECK(launch_half(TensorDescriptor(half(fresh()), {rows, columns})));
    return (map_at(last_launch(), 5).word1 & kSmallBit) != 0;
  };
  const bool old_driver = version <= 13010;
  EXPECT_EQ(bit_of(8, 8), !old_driver);
  EXPECT_EQ(bit_of(256, 256), !old_driver);  // its last element begins below 128 KiB
  EXPECT_EQ(bit_of(257, 256), true);
  // What is 2^32 and 2^64 bytes away is not small, though it is where numbers wrap around.
  CHECK(launch_half(TensorDescriptor(half(fresh()), {65537, 8}, {32768, 1})));
  CHECK((map_at(last_launch(), 5).word1 & kSmallBit) != 0);
  CHECK(launch_half(TensorDescriptor(half(fresh()), {(1 << 28) + 1, 8}, {int64_t{1} << 35, 1})));
  CHECK((map_at(last_launch(), 5).word1 & kSmallBit) != 0);
  finish();
}

TEST(tensors_beyond_32_bits_of_bytes_are_encoded_as_they_are) {
  if (!has_maps()) return;
  start();
  constexpr int64_t rows = INT32_MAX, stride = (int64_t{1} << 39) - 8;  // 2^40 - 16 bytes
  CHECK(launch_half(TensorDescriptor(half(fresh()), {rows, INT32_MAX}, {stride, 1})));
  const fake_launch launch = last_launch();
  const fake_map map = map_at(launch, 5);
  EXPECT_EQ(map.last[0], uint32_t{INT32_MAX} - 1);
  EXPECT_EQ(map.last[1], uint32_t{INT32_MAX} - 1);
  EXPECT_EQ(map.strides[0], (uint64_t{1} << 40) - 16);
  EXPECT_EQ(fake::argument<int32_t>(launch, 6), INT32_MAX);
  EXPECT_EQ(fake::argument<int64_t>(launch, 8), stride);
  finish();
}

// ---- the decomposed form

TEST(a_device_without_maps_gets_the_parts_from_the_same_archive) {
  start();
  set_device(1);
  const kpack::Status status =
      launch_halves(TensorDescriptor(half(kOut), {100, 200}),
                    TensorDescriptor(half(kIn), {100, 200}, {208, 1}).pad_with_nan(), 7);
  EXPECT_EQ(std::string(status.message()), std::string());
  const fake_launch launch = last_launch();
  EXPECT_EQ(launch.device, 1);
  EXPECT_EQ(launch.param_count, 25u);  // 11 of each tensor, n, two of scratch memory
  const uint32_t in = 11;
  EXPECT_EQ(fake::argument<uint64_t>(launch, in), uint64_t{kIn});
  const int64_t sizes[] = {100, 200, 208, 1};
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(fake::argument<int64_t>(launch, in + 1 + i), sizes[i]);
  EXPECT_EQ(int{fake::argument<uint8_t>(launch, in + 5)}, 1);  // NaN padding
  EXPECT_EQ(int{fake::argument<uint8_t>(launch, in + 6)}, 0);  // rounding to tf32
  EXPECT_EQ(fake::argument<int32_t>(launch, in + 7), 100);
  EXPECT_EQ(fake::argument<int32_t>(launch, in + 8), 200);
  EXPECT_EQ(fake::argument<int64_t>(launch, in + 9), int64_t{208});
  EXPECT_EQ(fake::argument<int64_t>(launch, in + 10), int64_t{1});
  EXPECT_EQ(fake::argument<int32_t>(launch, 22), 7);
  EXPECT_EQ(int{fake::argument<uint8_t>(launch, 5)}, 0);
  if (has_maps()) EXPECT_EQ(cuda.calls("cuTensorMapEncodeTiled"), uint64_t{0});
  CHECK(tk::tensors(kCuda, TensorDescriptor(single(kOut), {100, 200}),
                    TensorDescriptor(single(kIn), {100, 200}).round_to_tf32(), 0, 100, 200));
  EXPECT_EQ(int{fake::argument<uint8_t>(last_launch(), in + 6)}, 1);
  finish();
}

TEST(amd_gets_the_parts) {
  if (!has_maps()) return;  // beside the old fake lies that of ROCm 5.2, which is too old
  start();
  hip.reset();
  const kpack::Status status =
      tk::tensors(kpack::hip_stream(nullptr), TensorDescriptor(half(kOut), {100, 200}),
                  TensorDescriptor(half(kIn), {100, 200}, {208, 1}), 7, 100, 200);
  EXPECT_EQ(std::string(status.message()), std::string());
  fake_launch launch = {};
  CHECK(hip.launch(0, &launch) != 0);
  EXPECT_EQ(fake::argument<uint64_t>(launch, 11), uint64_t{kIn});
  EXPECT_EQ(fake::argument<int64_t>(launch, 14), int64_t{208});
  EXPECT_EQ(hip.violations(), uint64_t{0});
}

TEST(an_old_driver_has_no_maps) {
  if (has_maps()) return;
  start();
  EXPECT_EQ(launch_half(TensorDescriptor(half(kIn), {100, 200})).code(), KPK_ERROR_LIMIT);
  CHECK(says("takes tensor maps, for which it needs a driver of CUDA 12.0, got 11.8"));
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(the_dry_driver_shows_the_tensors) {
  start();
  for (const char *arch : {"sm_90", "sm_80", "gfx90a"}) {
    CHECK(kpack::use_dry_driver(arch));
    EXPECT_EQ(launch_half(TensorDescriptor(half(kIn), {100, 200})).code(), KPK_DRY);
    CHECK(says("out=0x10000[100, 200] source=0x20000[100, 200] n=0"));
    EXPECT_EQ(launch_half(TensorDescriptor(half(kIn + 8), {100, 200})).code(), KPK_ERROR_ARGUMENT);
  }
  CHECK(kpack::use_real_drivers());
}

// ---- what is refused: on both devices, in the same words

void refuses(const TensorDescriptor &in, const char *part) {
  for (const int device : {0, 1}) {
    if (device == 0 && !has_maps()) continue;
    set_device(device);
    EXPECT_EQ(launch_half(in).code(), KPK_ERROR_ARGUMENT);
    CHECK(says("tensors: argument 2 'source': "));
    CHECK(says(part));
  }
}

TEST(tensors_that_no_descriptor_can_be_of_are_refused_by_name) {
  start();
  refuses({half(kIn + 8), {100, 200}}, "address: expected device memory at a multiple of 16, got 0x20008");
  refuses({half(0), {100, 200}}, "address: expected device memory at a multiple of 16, got 0x0");
  refuses({half(kIn), {100}}, "expected a tensor of rank 2, got rank 1");
  refuses({half(kIn), {1, 100, 200}}, "expected a tensor of rank 2, got rank 3");
  refuses({half(kIn), {1, 1, 1, 1, 1, 1, 1}}, "expected a tensor of rank 2, got rank 7");
  refuses({half(kIn), {0, 200}}, "shape[0]: expected 1 to 2147483647 elements, got 0");
  refuses({half(kIn), {100, -1}}, "shape[1]: expected 1 to 2147483647 elements, got -1");
  refuses({half(kIn), {100, int64_t{1} << 31}, {0, 1}},
          "shape[1]: expected 1 to 2147483647 elements, got 2147483648");
  refuses({half(kIn), {100, 200}, {201, 1}},
          "strides[0]: expected 0 to 549755813887 elements of fp16, a multiple of 16 bytes, got 201");
  refuses({half(kIn), {100, 200}, {-200, 1}}, "strides[0]: expected 0 to 549755813887 elements of fp16");
  refuses({half(kIn), {100, 200}, {int64_t{1} << 39, 1}}, "got 549755813888");
  refuses({half(kIn), {100, 200}, {INT64_MAX, 1}}, "got 9223372036854775807");
  refuses({half(kIn), {100, 200}, {200, 2}},
          "strides[1]: expected 1, for the last dimension is contiguous, got 2");
  refuses({half(kIn), {100, 199}}, "strides[0]: expected 0 to");  // contiguous, but not by 16 bytes
  refuses(TensorDescriptor(half(kIn), {100, 200}).round_to_tf32(),
          "rounding to tf32: expected a tensor of fp32, got fp16");
  refuses(TensorDescriptor(half(kIn), {100, 200}).im2col({1}, {0}),
          "lower_corner[0]: expected 0 to 0, got 1");
  refuses(TensorDescriptor(half(kIn), {100, 200}).im2col({0, 0}, {0, -1}),
          "upper_corner[1]: expected 0 to 0, got -1");
  refuses(TensorDescriptor(half(kIn), {100, 200}).im2col({}, {}, {1, 2}),
          "element_strides[1]: expected at most 1, for the kernel does not read in im2col mode, got 2");
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

TEST(shape_and_strides_of_different_lengths_are_refused) {
  start();
  refuses({half(kIn), {100, 200}, {200}},
          "strides[1]: expected 1, for the last dimension is contiguous, got 0");
  refuses({half(kIn), {100, 200}, {1, 200, 1}}, "expected a tensor of rank 2, got rank 3");
  // The product of the sizes is no 64-bit number, and must not come back as a small one.
  const int64_t shape[] = {4, int64_t{1} << 62, 1 << 30};
  const TensorDescriptor huge(half(kIn), shape, 3);
  EXPECT_EQ(huge.native().strides[1], int64_t{1} << 30);
  EXPECT_EQ(huge.native().strides[0], int64_t{-1});
  finish();
}

TEST(what_is_no_tensor_of_the_kernels_types_is_refused) {
  start();
  set_device(1);
  const TensorDescriptor out(half(kOut), {100, 200});
  EXPECT_EQ(tk::tensors(kCuda, out, half(kIn), 0, 1, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("tensors: argument 2 'source': expected tensordesc<{fp16,fp32}>, got *fp16"));
  EXPECT_EQ(tk::tensors(kCuda, out, nullptr, 0, 1, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("expected tensordesc<{fp16,fp32}>, got null"));
  EXPECT_EQ(
      tk::tensors(kCuda, out, TensorDescriptor(reinterpret_cast<double *>(kIn), {4, 4}), 0, 1, 1).code(),
      KPK_ERROR_ARGUMENT);
  CHECK(says("expected tensordesc<{fp16,fp32}>, got tensordesc<fp64>"));
  EXPECT_EQ(tk::tensors(kCuda, out, TensorDescriptor(single(kIn), {4, 4}), 0, 1, 1).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(says("no overload takes (tensordesc<fp16>, tensordesc<fp32>, i32 0, i32 1, i32 1)"));
  EXPECT_EQ(tk::tensors3(kCuda, out, out, 0, 1, 1, 1).code(), KPK_ERROR_ARGUMENT);
  CHECK(says("tensors3: argument 1 'out': expected tensordesc<fp32>, got tensordesc<fp16>"));
  kpk_arg args[] = {
      out.arg(), out.arg(), {0, KPK_I32, 0, 0, 0}, {1, KPK_I32, 0, 0, 0}, {1, KPK_I32, 0, 0, 0}};
  args[1].bits = 0;
  EXPECT_EQ(kpk_launch(&kpack::Kernel(tk::tensors).native(), {nullptr, KPK_VENDOR_CUDA, 0}, args, 5, 0),
            KPK_ERROR_ARGUMENT);
  CHECK(says("tensors: argument 2 'source': expected a tensor, got null"));
  kpk_tensor tensor = out.native();
  tensor.flags = 4;
  args[1].bits = reinterpret_cast<uintptr_t>(&tensor);
  EXPECT_EQ(kpk_launch(&kpack::Kernel(tk::tensors).native(), {nullptr, KPK_VENDOR_CUDA, 0}, args, 5, 0),
            KPK_ERROR_ARGUMENT);
  CHECK(says("flags: expected KPK_TENSOR_..., got 4: use a newer runtime"));
  EXPECT_EQ(cuda.launches(), uint64_t{0});
  finish();
}

// ---- images that Triton makes for other devices, or that are none: by hand

struct Encoded {
  alignas(64) unsigned char bytes[sizeof(fake_map)];
  kpk_status status;
  fake_map map() const {
    fake_map out;
    std::memcpy(&out, bytes, sizeof out);
    return out;
  }
};

Encoded encode(const TensorDescriptor &tensor, const kpk_abi_tensordesc &wanted) {
  Encoded out = {};
  const char *why = nullptr;
  CHECK(kpk::cuda_driver(&why) != nullptr);
  out.status = kpk::cuda::encode(*kpk::cuda_device(0), tensor.native(), wanted, "an image", out.bytes);
  return out;
}

kpk_abi_tensordesc wanted_of(DType type, uint8_t bytes, uint8_t flags, std::initializer_list<uint32_t> box) {
  kpk_abi_tensordesc out = {};
  out.type = static_cast<uint8_t>(type);
  out.element_bytes = bytes;
  out.flags = flags;
  out.swizzle = 3;
  for (const uint32_t side : box) out.box[out.rank++] = side;
  return out;
}

TEST(every_type_is_encoded_as_triton_does) {
  if (!has_maps()) return;
  start();
  const struct {
    DType type;
    uint8_t bytes;
    int expected;
  } rows[] = {{DType::i8, 1, 0},   {DType::u8, 1, 0},   {DType::fp8e4nv, 1, 0}, {DType::fp8e5, 1, 0},
              {DType::i16, 2, 1},  {DType::u16, 2, 1},  {DType::u32, 4, 2},     {DType::i32, 4, 3},
              {DType::u64, 8, 4},  {DType::i64, 8, 5},  {DType::fp16, 2, 6},    {DType::fp32, 4, 7},
              {DType::fp64, 8, 8}, {DType::bf16, 2, 9}, {DType::i1, 1, 0},      {DType::fp8e4b15, 1, 0}};
  for (const auto &row : rows) {
    const TensorDescriptor tensor(kpack::ptr(reinterpret_cast<void *>(kIn), row.type), {64, 128});
    const Encoded made = encode(tensor, wanted_of(row.type, row.bytes, 0, {16, 16u}));
    EXPECT_EQ(made.status, KPK_OK);
    EXPECT_EQ(int{made.map().type}, row.expected);
    EXPECT_EQ(made.map().strides[0], uint64_t{128} * row.bytes);
  }
  finish();
}

TEST(fp4_counts_two_numbers_a_byte_in_the_map_alone) {
  if (!has_maps()) return;
  start();
  const auto *bytes = reinterpret_cast<const uint8_t *>(kIn);
  const kpk_abi_tensordesc wanted = wanted_of(DType::u8, 1, KPK_DESC_FP4_PADDED, {32, 128});
  const Encoded made = encode(TensorDescriptor(bytes, {64, 256}, {512, 1}), wanted);
  EXPECT_EQ(made.status, KPK_OK);
  EXPECT_EQ(int{made.map().type}, 14);
  EXPECT_EQ(made.map().last[0], 511u);
  EXPECT_EQ(made.map().last[1], 63u);
  EXPECT_EQ(made.map().strides[0], uint64_t{512});
  EXPECT_EQ((made.map().word1 & kSmallBit) != 0, version > 13010);
  EXPECT_EQ(encode(TensorDescriptor(bytes, {64, 100}, {512, 1}), wanted).status, KPK_ERROR_ARGUMENT);
  CHECK(says(
      "an image: fp4: expected address and strides at multiples of 32 bytes and rows of a multiple of 128 "
      "numbers, got address 0x20000 and rows of 200"));
  EXPECT_EQ(encode(TensorDescriptor(bytes + 16, {64, 256}, {512, 1}), wanted).status, KPK_ERROR_ARGUMENT);
  EXPECT_EQ(encode(TensorDescriptor(bytes, {64, 256}, {528, 1}), wanted).status, KPK_ERROR_ARGUMENT);
  finish();
}

TEST(im2col_takes_corners_and_steps_innermost_first) {
  if (!has_maps()) return;
  start();
  TensorDescriptor tensor(half(kIn), {2, 30, 40, 64});
  tensor.im2col({-1, -2}, {3, 4}, {1, 2, 3, 1});
  const Encoded made = encode(tensor, wanted_of(DType::fp16, 2, KPK_DESC_IM2COL, {128, 64}));
  EXPECT_EQ(made.status, KPK_OK);
  const fake_map map = made.map();
  EXPECT_EQ(int{map.im2col}, 1);
  EXPECT_EQ(int{map.rank}, 4);
  EXPECT_EQ(map.last[0], 63u);
  EXPECT_EQ(map.last[1], 39u);
  EXPECT_EQ(map.last[3], 1u);
  EXPECT_EQ(map.strides[0], uint64_t{128});
  EXPECT_EQ(map.strides[2], uint64_t{128 * 40 * 30});
  EXPECT_EQ(int{map.box[0]}, 64);   // channels
  EXPECT_EQ(int{map.box[1]}, 128);  // pixels
  EXPECT_EQ(int{map.lower_corner[0]}, -2);
  EXPECT_EQ(int{map.lower_corner[1]}, -1);
  EXPECT_EQ(int{map.upper_corner[0]}, 4);
  EXPECT_EQ(int{map.upper_corner[1]}, 3);
  const int steps[] = {1, 3, 2, 1};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(int{map.element_strides[i]}, steps[i]);
  EXPECT_EQ(
      encode(TensorDescriptor(half(kIn), {64, 64}), wanted_of(DType::fp16, 2, KPK_DESC_IM2COL, {64, 64}))
          .status,
      KPK_ERROR_ARGUMENT);
  CHECK(says("im2col: expected a tensor of rank 3 to 5, got rank 2"));
  finish();
}

TEST(fp8_has_no_nan_padding_in_a_map) {
  if (!has_maps()) return;
  start();
  const kpack::Pointer data = kpack::ptr(reinterpret_cast<void *>(kIn), DType::fp8e5);
  TensorDescriptor tensor(data, {64, 128});
  EXPECT_EQ(encode(tensor.pad_with_nan(), wanted_of(DType::fp8e5, 1, 0, {16, 64})).status,
            KPK_ERROR_ARGUMENT);
  CHECK(says("NaN padding: expected a tensor of fp16, bf16, fp32 or fp64, got fp8e5, which is 1 bytes"));
  finish();
}

TEST(a_refusal_prints_every_field_that_the_driver_was_given) {
  if (!has_maps()) return;
  start();
  TensorDescriptor tensor(half(kIn), {100, 200});
  EXPECT_EQ(encode(tensor, wanted_of(DType::fp16, 2, 0, {300, 64})).status, KPK_ERROR_DRIVER);
  CHECK(says(
      "an image: cuTensorMapEncodeTiled(innermost first: type 6, rank 2, address 0x20000, shape [200, 100], "
      "strides in bytes [400], box [64, 300], element strides [1, 1], interleave 0, swizzle 3, L2 promotion "
      "2, fill 0): CUDA_ERROR_INVALID_VALUE (1): invalid argument"));
  EXPECT_EQ(kpk_driver_code(), 1);
  TensorDescriptor image(half(kIn), {2, 30, 40, 64});
  EXPECT_EQ(
      encode(image.im2col({-1, -2}, {3, 200}), wanted_of(DType::fp16, 2, KPK_DESC_IM2COL, {128, 64})).status,
      KPK_ERROR_DRIVER);
  CHECK(
      says("cuTensorMapEncodeIm2col(innermost first: type 6, rank 4, address 0x20000, shape [64, 40, 30, 2], "
           "strides in bytes [128, 5120, 153600], lower corner [-2, -1], upper corner [200, 3], channels 64, "
           "pixels 128, element strides [1, 1, 1, 1], interleave 0, swizzle 3, L2 promotion 2, fill 0)"));
  finish();
}

// A kernel of one descriptor, and an image that takes it as a map, all made by hand.
struct ByHand {
  struct Block {
    char name[8] = "made";
    char argument[8] = "d";
    kpk_abi_kernel kernel = {};
    kpk_abi_param param = {};
    kpk_abi_slot slots[6] = {};
    kpk_abi_tensordesc wanted = {};
    kpk_abi_image image = {};
    kpk_abi_variant variant = {};
  } block;
  alignas(128) unsigned char params[256] = {};

  static void refer(kpk_ref *ref, const void *to) {
    *ref = reinterpret_cast<intptr_t>(to) - reinterpret_cast<intptr_t>(ref);
  }
  template <class T>
  static void refer(kpk_table *table, const T *to, uint32_t count) {
    refer(&table->data, to);
    table->count = count;
    table->stride = sizeof(T);
  }

  ByHand(const kpk_abi_tensordesc &wanted, uint32_t rank) {
    block.wanted = wanted;
    block.slots[0] = {KPK_SLOT_DESC_MAP, 0, 0, 48, 128, 0};
    for (uint32_t i = 0; i < rank; ++i)
      block.slots[1 + i] = {KPK_SLOT_DESC_SHAPE, KPK_I32, 0, 176 + 4 * i, 4, i};
    refer(&block.kernel.name, block.name);
    refer(&block.param.name, block.argument);
    refer(&block.kernel.params, &block.param, 1);
    refer(&block.image.layout, block.slots, 1 + rank);
    refer(&block.image.tensordescs, &block.wanted, 1);
    refer(&block.image.symbol, block.name);
  }

  kpk_status fill(const TensorDescriptor &tensor) {
    const kpk::KernelView view(block.kernel);
    kpk::Plan plan = {};
    plan.image = &block.image;
    plan.variant = &block.variant;
    plan.view = &view;
    plan.device = kpk::cuda_device(0);
    const kpk_arg arg = tensor.arg();
    kpk::LaunchRequest request = {};
    request.plan = &plan;
    request.args = &arg;
    request.params = params;
    return kpk::fill_tensors(request);
  }
  fake_map map() const {
    fake_map out;
    std::memcpy(&out, params + 48, sizeof out);
    return out;
  }
};

TEST(corners_and_steps_have_their_bounds_by_rank) {
  if (!has_maps()) return;
  start();
  ByHand image(wanted_of(DType::fp16, 2, KPK_DESC_IM2COL, {128, 64}), 4);
  const auto tensor = [] { return TensorDescriptor(half(kIn), {2, 30, 40, 64}); };
  EXPECT_EQ(image.fill(tensor().im2col({-128, 127}, {127, -128}, {1, 8, 0, 1})), KPK_OK);
  EXPECT_EQ(int{image.map().lower_corner[1]}, -128);
  EXPECT_EQ(int{image.map().element_strides[2]}, 8);
  EXPECT_EQ(int{image.map().element_strides[1]}, 1);
  EXPECT_EQ(image.fill(tensor().im2col({-129, 0}, {0, 0})), KPK_ERROR_ARGUMENT);
  CHECK(says("made: argument 1 'd': lower_corner[0]: expected -128 to 127, got -129"));
  EXPECT_EQ(image.fill(tensor().im2col({0, 0}, {0, 128})), KPK_ERROR_ARGUMENT);
  CHECK(says("upper_corner[1]: expected -128 to 127, got 128"));
  EXPECT_EQ(image.fill(tensor().im2col({0, 0, 1}, {0, 0})), KPK_ERROR_ARGUMENT);
  CHECK(says("lower_corner[2]: expected 0 to 0, got 1"));
  EXPECT_EQ(image.fill(tensor().im2col({}, {}, {1, 9})), KPK_ERROR_ARGUMENT);
  CHECK(says("element_strides[1]: expected at most 8, got 9"));
  ByHand line(wanted_of(DType::fp16, 2, KPK_DESC_IM2COL, {128, 64}), 3);
  EXPECT_EQ(line.fill(TensorDescriptor(half(kIn), {2, 40, 64}).im2col({-32768}, {32767})), KPK_OK);
  EXPECT_EQ(int{line.map().lower_corner[0]}, -32768);
  ByHand volume(wanted_of(DType::fp16, 2, KPK_DESC_IM2COL, {128, 64}), 5);
  EXPECT_EQ(volume.fill(TensorDescriptor(half(kIn), {2, 9, 30, 40, 64}).im2col({-16, 0, 15}, {})), KPK_OK);
  EXPECT_EQ(volume.fill(TensorDescriptor(half(kIn), {2, 9, 30, 40, 64}).im2col({0, 16, 0}, {})),
            KPK_ERROR_ARGUMENT);
  CHECK(says("lower_corner[1]: expected -16 to 15, got 16"));
  finish();
}

TEST(integers_have_no_nan_padding) {
  if (!has_maps()) return;
  start();
  ByHand image(wanted_of(DType::i32, 4, 0, {16, 32}), 2);
  TensorDescriptor tensor(reinterpret_cast<const int32_t *>(kIn), {64, 64});
  EXPECT_EQ(image.fill(tensor), KPK_OK);
  EXPECT_EQ(image.fill(tensor.pad_with_nan()), KPK_ERROR_ARGUMENT);
  CHECK(says("made: argument 1 'd': NaN padding: expected a tensor of a floating type, got i32"));
  finish();
}

TEST(a_damaged_image_is_named) {
  if (!has_maps()) return;
  start();
  ByHand image(wanted_of(DType::fp16, 2, 0, {16, 64}), 2);
  image.block.wanted.param = 1;
  EXPECT_EQ(image.fill(TensorDescriptor(half(kIn), {64, 64})), KPK_ERROR_FORMAT);
  CHECK(says("made: descriptor 'd': expected to know how it is encoded, got no word of it"));
}

// ---- the cache

TEST(a_map_is_encoded_once) {
  if (!has_maps()) return;
  start();
  const TensorDescriptor out(half(fresh()), {100, 200}), in(half(fresh()), {100, 200});
  for (int i = 0; i < 5; ++i) CHECK(launch_halves(out, in));
  EXPECT_EQ(cuda.calls("cuTensorMapEncodeTiled"), uint64_t{2});
  EXPECT_EQ(map_at(last_launch(), 0).address, out.native().address);
  EXPECT_EQ(map_at(last_launch(), 5).address, in.native().address);
  // Whatever goes into a map makes another one.
  const uintptr_t at = in.native().address;
  const TensorDescriptor others[] = {{half(at + 16), {100, 200}},
                                     {half(at), {101, 200}},
                                     {half(at), {100, 192}, {200, 1}},
                                     {half(at), {100, 200}, {208, 1}},
                                     TensorDescriptor(half(at), {100, 200}).pad_with_nan()};
  uint64_t calls = 2;
  for (const TensorDescriptor &other : others) {
    CHECK(launch_halves(out, other));
    EXPECT_EQ(cuda.calls("cuTensorMapEncodeTiled"), ++calls);
    EXPECT_EQ(map_at(last_launch(), 5).last[0], static_cast<uint32_t>(other.native().shape[1] - 1));
  }
  kpk_unload(&kpack::Kernel(tk::tensors).native());
  CHECK(launch_halves(out, in));
  EXPECT_EQ(map_at(last_launch(), 5).address, uint64_t{at});
  finish();
}

TEST(a_map_is_of_the_device_that_it_was_encoded_on) {
  if (!has_maps()) return;
  start();
  const TensorDescriptor out(half(kOut), {100, 200}), in(half(fresh()), {100, 200});
  const kpack::Bound bound = tk::tensors.bind(kpack::cuda_device(0));
  CHECK(bound.status());
  CHECK(bound(kCuda, out, out, 0, 100, 200));
  set_device(1);
  const uint64_t calls = cuda.calls("cuTensorMapEncodeTiled");
  EXPECT_EQ(bound(kCuda, out, in, 0, 100, 200).code(), KPK_ERROR_STREAM);
  EXPECT_EQ(cuda.calls("cuTensorMapEncodeTiled"), calls);
  set_device(0);
  CHECK(bound(kCuda, out, in, 0, 100, 200));
  EXPECT_EQ(map_at(last_launch(), 5).address, in.native().address);
  finish();
}

TEST(a_node_of_a_graph_has_its_maps) {
  if (!has_maps()) return;
  start();
  const TensorDescriptor out(half(kOut), {100, 200}), in(half(fresh()), {100, 200});
  const auto number = [](uint64_t bits) { return kpk_arg{bits, KPK_I32, 0, 0, 0}; };
  const kpk_arg args[] = {out.arg(), in.arg(), number(0), number(100), number(200)};
  kpk_bound bound;
  EXPECT_EQ(kpk_bind_call(&kpack::Kernel(tk::tensors).native(), kpack::cuda_device(0), args, 5, 0, &bound),
            KPK_OK);
  kpk_function function;
  EXPECT_EQ(kpk_bound_function(&bound, &function), KPK_OK);
  alignas(128) unsigned char params[1024];
  kpk_node node;
  EXPECT_EQ(kpk_bound_node(&bound, args, 5, 0, params, sizeof params, &node), KPK_OK);
  CHECK(launch_halves(out, in));
  const fake_launch launch = last_launch();
  EXPECT_EQ(node.param_bytes, size_t{launch.param_bytes});
  for (uint32_t i = 0; i < launch.param_count; ++i) {
    const fake_param &param = launch.layout[i];
    CHECK(std::memcmp(params + param.offset, launch.params + param.offset, param.size) == 0);
  }
  set_device(1);
  const TensorDescriptor other(half(fresh()), {100, 200});
  const kpk_arg others[] = {out.arg(), other.arg(), args[2], args[3], args[4]};
  EXPECT_EQ(kpk_bound_node(&bound, others, 5, 0, params, sizeof params, &node), KPK_ERROR_STREAM);
  set_device(0);
  finish();
}

TEST(maps_in_im2col_mode_are_told_apart_by_their_corners) {
  if (!has_maps()) return;
  start();
  ByHand image(wanted_of(DType::fp16, 2, KPK_DESC_IM2COL, {128, 64}), 4);
  const auto fill = [&, at = fresh()](int32_t lower, uint32_t step) {
    TensorDescriptor tensor(half(at), {2, 30, 40, 64});
    EXPECT_EQ(image.fill(tensor.im2col({0, lower}, {0, 0}, {1, step})), KPK_OK);
    EXPECT_EQ(int{image.map().lower_corner[0]}, lower);
    EXPECT_EQ(uint32_t{image.map().element_strides[2]}, step);
    return cuda.calls("cuTensorMapEncodeIm2col");
  };
  EXPECT_EQ(fill(-1, 1), uint64_t{1});
  EXPECT_EQ(fill(-1, 1), uint64_t{1});
  EXPECT_EQ(fill(-2, 1), uint64_t{2});
  EXPECT_EQ(fill(-2, 2), uint64_t{3});
  finish();
}

TEST(more_maps_than_are_kept_are_all_right) {
  if (!has_maps()) return;
  start();
  cuda.record(0);
  std::vector<TensorDescriptor> all;
  for (int i = 0; i < 2000; ++i) all.emplace_back(half(fresh()), TensorDescriptor::Sizes{64 + i, 64});
  ByHand image(wanted_of(DType::fp16, 2, 0, {16, 64}), 2);
  for (int round = 0; round < 3; ++round) {
    for (const TensorDescriptor &tensor : all) {
      EXPECT_EQ(image.fill(tensor), KPK_OK);
      EXPECT_EQ(image.map().address, tensor.native().address);
      EXPECT_EQ(image.map().last[1], static_cast<uint32_t>(tensor.native().shape[0] - 1));
    }
  }
  cuda.record(1);
  finish();
}

TEST(a_failed_encoding_is_reported_and_tried_again) {
  if (!has_maps()) return;
  start();
  const TensorDescriptor in(half(fresh()), {100, 200});
  CHECK(launch_half(TensorDescriptor(half(fresh()), {100, 200})));
  cuda.fail("cuTensorMapEncodeTiled", 201, 0, 1);
  EXPECT_EQ(launch_half(in).code(), KPK_ERROR_DRIVER);
  CHECK(says("CUDA_ERROR_INVALID_CONTEXT (201)"));
  EXPECT_EQ(kpk_driver_code(), 201);
  CHECK(launch_half(in));
  finish();
}

}  // namespace

int main(int argc, char **argv) {
  const std::string driver = argc > 1 ? argv[1] : "13000";
  version = std::atoi(driver.c_str());
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure(("sm_90,sm_80;driver=" + driver).c_str());
  cuda.entry<int(unsigned)>("cuInit")(0);
  hip = fake::open("libamdhip64.so", "hip");
  hip.configure("gfx90a");
  return check::run(argc > 2 ? argv[2] : "");
}
