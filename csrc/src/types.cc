#include "types.h"

#include <cmath>
#include <cstring>

namespace kpk {
namespace {

struct Type {
  const char *name;
  int64_t bytes;
};
constexpr Type kTypes[] = {{"void", 0},  {"i1", 1},      {"i8", 1},       {"i16", 2},     {"i32", 4},
                           {"i64", 8},   {"u8", 1},      {"u16", 2},      {"u32", 4},     {"u64", 8},
                           {"fp16", 2},  {"bf16", 2},    {"fp32", 4},     {"fp64", 8},    {"fp8e4nv", 1},
                           {"fp8e5", 1}, {"fp8e4b8", 1}, {"fp8e5b16", 1}, {"fp8e4b15", 1}};

// double to fp32, rounded to odd: what a second rounding, to a half type, makes of it is as if there had been
// one (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
float to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  uint32_t bits;
  std::memcpy(&bits, &nearest, sizeof bits);
  if (back == value || value != value || (bits & 1) != 0) return nearest;
  // Even and inexact: of the two neighbours of `value` the other one is odd.
  const bool away = std::fabs(back) > std::fabs(value);  // infinity too: then the largest float, which is odd
  bits = away ? bits - 1 : bits + 1;
  float odd;
  std::memcpy(&odd, &bits, sizeof odd);
  return odd;
}

// fp32 to fp16, round to nearest even; overflow goes to infinity, subnormals are kept.
uint16_t half_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // normal: drop 13 bits of mantissa
    half = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  } else {  // subnormal: adding 0.5f leaves the rounded mantissa in the low bits
    float scaled;
    std::memcpy(&scaled, &magnitude, sizeof scaled);
    scaled += 0.5f;
    uint32_t shifted;
    std::memcpy(&shifted, &scaled, sizeof shifted);
    half = shifted - 0x3f000000u;
  }
  return static_cast<uint16_t>(sign | half);
}

uint16_t bfloat_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace

const char *type_name(uint8_t type) {
  const auto element = static_cast<uint8_t>(type & ~(is_tensordesc(type) ? KPK_TENSORDESC : KPK_POINTER));
  if (element < sizeof kTypes / sizeof *kTypes) return kTypes[element].name;
  switch (element) {
    case KPK_STRING: return "string";
    case KPK_NONE: return "none";
    case KPK_DTYPE: return "dtype";
    default: return "?";
  }
}

int64_t element_bytes(uint8_t type) {
  const auto element = static_cast<uint8_t>(type & ~(is_tensordesc(type) ? KPK_TENSORDESC : KPK_POINTER));
  return element < sizeof kTypes / sizeof *kTypes ? kTypes[element].bytes : 0;
}

Range integer_range(uint8_t type) {
  switch (type) {
    case KPK_I1: return {0, 1};
    case KPK_I8: return {INT8_MIN, INT8_MAX};
    case KPK_I16: return {INT16_MIN, INT16_MAX};
    case KPK_I32: return {INT32_MIN, INT32_MAX};
    case KPK_U8: return {0, UINT8_MAX};
    case KPK_U16: return {0, UINT16_MAX};
    case KPK_U32: return {0, UINT32_MAX};
    case KPK_U64: return {0, INT64_MAX};
    default: return {INT64_MIN, INT64_MAX};
  }
}

uint64_t float_bits(uint8_t type, double value) {
  if (type == KPK_FP64) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
  }
  if (type == KPK_FP16) return half_bits(to_odd(value));
  if (type == KPK_BF16) return bfloat_bits(to_odd(value));
  const float narrow = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  return bits;
}

}  // namespace kpk
