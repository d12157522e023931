// Tensor maps of the fake CUDA driver: the rules of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col as
// driver 580.159 gave them on an H200 (and, where it was not asked, as cuda.h of 13.0 documents them), and a
// map that a test can read back: fake_map of fake.h. What launches with a map is looked at again.
#include <algorithm>
#include <cstring>

#include "cuda_state.h"

static_assert(sizeof(fake_map) == 128, "CUtensorMap");

namespace fakes {
namespace {

constexpr uint64_t kMostShape = uint64_t{1} << 32, kStrideBound = uint64_t{1} << 40;
constexpr uint32_t kMostBox = 256, kMostPixels = 1024, kMostStep = 8;
constexpr int kSixteenU4In16 = 14, kTypes = 16, kSwizzles = 7;
constexpr int kLastDriverWithBadBit = 13010;
constexpr uint64_t kSmallBit = uint64_t{1} << 21, kSmallBytes = 128 * 1024;

// Of CUtensorMapDataType; 14 and 15 are packed.
constexpr uint32_t kTypeBits[kTypes] = {8, 16, 32, 32, 64, 64, 16, 32, 64, 16, 32, 32, 32, 4, 4, 6};

struct Request {
  Call call;
  void *map;
  int type;
  uint32_t rank;
  uint64_t address;
  const uint64_t *shape;
  const uint64_t *strides;
  const uint32_t *element_strides;
  int interleave;
  int swizzle;
  int promotion;
  int fill;
};

// The first line of both.
int enter_encode(const Request &request) {
  if (const int error = enter(request.call); error != kOk) return error;
  Context *context = nullptr;
  if (const int error = current_context(&context); error != kOk) return error;
  const std::string name = recorder().name(request.call);
  if (state().device(context->device)->arch < 90) {
    recorder().violate(name + ": the current device has no tensor maps");
    return kInvalidValue;
  }
  if (reinterpret_cast<uintptr_t>(request.map) % 64 == 0 && request.map != nullptr) return kOk;
  recorder().violate(name + ": expected the map at a multiple of 64, got " +
                     hex(reinterpret_cast<uintptr_t>(request.map)));
  return kInvalidValue;
}

bool is_floating(int type) { return type >= 6 && type <= 12; }

bool good_enums(const Request &request) {
  if (request.type < 0 || request.type >= kTypes || request.swizzle < 0 || request.swizzle >= kSwizzles)
    return false;
  if (request.promotion < 0 || request.promotion > 3 || request.fill < 0 || request.fill > 1) return false;
  if (request.interleave != 0) {
    recorder().violate(std::string(recorder().name(request.call)) + ": the fake knows no interleaved layout");
    return false;
  }
  return request.fill == 0 || is_floating(request.type);
}

bool good_tensor(const Request &request) {
  const uint64_t align = request.type == kSixteenU4In16 ? 32 : 16;
  if (request.address % align != 0) return false;
  if (request.shape == nullptr || request.element_strides == nullptr) return false;
  for (uint32_t i = 0; i < request.rank; ++i) {
    if (request.shape[i] == 0 || request.shape[i] > kMostShape) return false;
    if (request.element_strides[i] == 0 || request.element_strides[i] > kMostStep) return false;
  }
  if (request.rank > 1 && request.strides == nullptr) return false;
  for (uint32_t i = 0; i + 1 < request.rank; ++i) {
    if (request.strides[i] % align != 0 || request.strides[i] >= kStrideBound) return false;
  }
  return request.type != kSixteenU4In16 || request.shape[0] % 128 == 0;
}

// The innermost side of a box: whole 16 bytes, and within the span of the swizzle.
bool good_side(const Request &request, uint32_t side) {
  static const uint32_t kSpans[kSwizzles] = {UINT32_MAX, 32, 64, 128, 128, 128, 128};
  const uint32_t bytes = side * kTypeBits[request.type] / 8;
  if (bytes % 16 != 0 || bytes > kSpans[request.swizzle]) return false;
  if (request.type != kSixteenU4In16) return true;
  return side == 128 && (request.swizzle == 0 || request.swizzle == 3 || request.swizzle == 4);
}

bool good_corners(uint32_t rank, const int *lower, const int *upper) {
  static const int kBounds[] = {1 << 15, 1 << 7, 1 << 4};  // of rank 3, 4, 5
  if (lower == nullptr || upper == nullptr) return false;
  const int bound = kBounds[rank - 3];
  const auto within = [bound](int corner) { return corner >= -bound && corner < bound; };
  return std::all_of(lower, lower + rank - 2, within) && std::all_of(upper, upper + rank - 2, within);
}

// All that both kinds of map have.
fake_map describe(const Request &request) {
  fake_map map = {};
  map.magic = FAKE_MAP_MAGIC;
  map.word1 = kSmallBit;
  map.type = static_cast<uint8_t>(request.type);
  map.rank = static_cast<uint8_t>(request.rank);
  map.swizzle = static_cast<uint8_t>(request.swizzle);
  map.fill = static_cast<uint8_t>(request.fill);
  map.interleave = static_cast<uint8_t>(request.interleave);
  map.promotion = static_cast<uint8_t>(request.promotion);
  map.address = request.address;
  for (uint32_t i = 0; i < request.rank; ++i) {
    map.last[i] = static_cast<uint32_t>(request.shape[i] - 1);
    map.element_strides[i] = static_cast<uint8_t>(request.element_strides[i]);
    if (i + 1 < request.rank) map.strides[i] = request.strides[i];
  }
  return map;
}

int encode_tiled(const Request &request, const uint32_t *box) {
  if (const int error = enter_encode(request); error != kOk) return error;
  if (request.rank == 0 || request.rank > 5 || box == nullptr) return kInvalidValue;
  if (!good_enums(request) || !good_tensor(request) || !good_side(request, box[0])) return kInvalidValue;
  fake_map map = describe(request);
  for (uint32_t i = 0; i < request.rank; ++i) {
    if (box[i] == 0 || box[i] > kMostBox) return kInvalidValue;
    map.box[i] = static_cast<uint16_t>(box[i]);
  }
  std::memcpy(request.map, &map, sizeof map);
  return kOk;
}

int encode_im2col(const Request &request, const int *lower, const int *upper, uint32_t channels,
                  uint32_t pixels) {
  if (const int error = enter_encode(request); error != kOk) return error;
  if (request.rank < 3 || request.rank > 5) return kInvalidValue;
  if (!good_enums(request) || !good_tensor(request) || !good_side(request, channels)) return kInvalidValue;
  if (!good_corners(request.rank, lower, upper)) return kInvalidValue;
  if (channels == 0 || channels > kMostBox || pixels == 0 || pixels > kMostPixels) return kInvalidValue;
  fake_map map = describe(request);
  map.im2col = 1;
  map.box[0] = static_cast<uint16_t>(channels);
  map.box[1] = static_cast<uint16_t>(pixels);
  for (uint32_t i = 0; i + 2 < request.rank; ++i) {
    map.lower_corner[i] = static_cast<int16_t>(lower[i]);
    map.upper_corner[i] = static_cast<int16_t>(upper[i]);
  }
  std::memcpy(request.map, &map, sizeof map);
  return kOk;
}

// Do all bytes of the tensor lie within 128 KiB?
bool is_small(const fake_map &map) {
  using Wide = unsigned __int128;
  Wide last = Wide{map.last[0] + uint64_t{1}} * kTypeBits[map.type] / 8 - kTypeBits[map.type] / 8;
  if (map.type == kSixteenU4In16) last = (map.last[0] + uint64_t{1}) / 2 - 1;
  for (uint32_t i = 1; i < map.rank; ++i) last += Wide{map.last[i]} * map.strides[i - 1];
  return last + 1 < kSmallBytes;
}

}  // namespace

std::string map_fault(const unsigned char *bytes) {
  fake_map map;
  std::memcpy(&map, bytes, sizeof map);
  if (map.magic != FAKE_MAP_MAGIC) return "expected an encoded tensor map, got other bytes";
  const bool fixed = (map.word1 & kSmallBit) == 0;
  const bool to_fix = state().machine().driver_version <= kLastDriverWithBadBit && is_small(map);
  if (fixed == to_fix) return "";
  return to_fix ? "expected bit 21 of word 1 cleared in the map of a tensor below 128 KiB, as drivers up to "
                  "CUDA "
                  "13.1 need it"
                : "expected the map as the driver encoded it, got it without bit 21 of word 1";
}

}  // namespace fakes

using namespace fakes;  // NOLINT: what follows is the library's outside

int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address, const uint64_t *shape,
                           const uint64_t *strides, const uint32_t *box, const uint32_t *element_strides,
                           int interleave, int swizzle, int promotion, int fill) {
  return encode_tiled({k_cuTensorMapEncodeTiled, map, type, rank, reinterpret_cast<uintptr_t>(address), shape,
                       strides, element_strides, interleave, swizzle, promotion, fill},
                      box);
}

int cuTensorMapEncodeIm2col(void *map, int type, uint32_t rank, void *address, const uint64_t *shape,
                            const uint64_t *strides, const int *lower, const int *upper, uint32_t channels,
                            uint32_t pixels, const uint32_t *element_strides, int interleave, int swizzle,
                            int promotion, int fill) {
  return encode_im2col({k_cuTensorMapEncodeIm2col, map, type, rank, reinterpret_cast<uintptr_t>(address),
                        shape, strides, element_strides, interleave, swizzle, promotion, fill},
                       lower, upper, channels, pixels);
}
