#include "tune/compare.h"

#include <kpack/abi.h>

#include <cmath>
#include <cstring>

#include "types.h"

namespace kpk {
namespace {

constexpr uint64_t kMeanOf = 8192;  // elements, at most about twice as many
constexpr uint64_t kBlock = 256;    // bytes that are compared at once: most results agree bit by bit

template <class T>
T load(const unsigned char *data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

template <class To, class From>
To as(From bits) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// 2^n of a float, for the small n of small floats.
float power_of_2(int n) { return as<float>(static_cast<uint32_t>(n + 127) << 23); }

float half(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffu;
  // The exponent moves from bias 15 to 127: a multiplication, which takes subnormals along.
  const float value = as<float>(magnitude << 13) * power_of_2(112);
  const float finite = magnitude >= 0x7c00u ? as<float>(magnitude << 13 | 0x7f800000u) : value;
  return (bits & 0x8000u) != 0 ? -finite : finite;
}

// A float of 8 bits: what has no number is told apart by element_8().
float small_float(uint8_t bits, int mantissa_bits, int bias) {
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int exponent = (bits & 0x7f) >> mantissa_bits;
  const int implied = exponent == 0 ? 0 : 1 << mantissa_bits;
  const int scale = (exponent == 0 ? 1 : exponent) - bias - mantissa_bits;
  const float value = static_cast<float>(mantissa + implied) * power_of_2(scale);
  return (bits & 0x80) != 0 ? -value : value;
}

float element_8(uint8_t type, uint8_t bits) {
  constexpr float nan = __builtin_nanf(""), infinity = __builtin_inff();
  switch (type) {
    case KPK_FP8E4NV: return (bits & 0x7f) == 0x7f ? nan : small_float(bits, 3, 7);
    case KPK_FP8E5:
      if ((bits & 0x7f) > 0x7c) return nan;
      if ((bits & 0x7f) == 0x7c) return (bits & 0x80) != 0 ? -infinity : infinity;
      return small_float(bits, 2, 15);
    case KPK_FP8E4B8: return bits == 0x80 ? nan : small_float(bits, 3, 8);
    case KPK_FP8E5B16: return bits == 0x80 ? nan : small_float(bits, 2, 16);
    default: return small_float(bits, 3, 15);  // KPK_FP8E4B15: every code is a number
  }
}

template <uint8_t type>
double decode(const unsigned char *data) {
  if constexpr (type == KPK_FP64) {
    return load<double>(data);
  } else if constexpr (type == KPK_FP32) {
    return static_cast<double>(load<float>(data));
  } else if constexpr (type == KPK_FP16) {
    return static_cast<double>(half(load<uint16_t>(data)));
  } else if constexpr (type == KPK_BF16) {
    return static_cast<double>(as<float>(static_cast<uint32_t>(load<uint16_t>(data)) << 16));
  } else {
    return static_cast<double>(element_8(type, *data));
  }
}

bool same(double a, double b, double tolerance, double mean) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return true;
  if (!std::isfinite(a) || !std::isfinite(b)) return false;
  const double larger = std::fabs(a) > std::fabs(b) ? std::fabs(a) : std::fabs(b);
  return std::fabs(a - b) <= tolerance * (larger + mean);
}

void note(uint64_t index, double expected, double got, Difference *out) {
  if (out->count++ != 0) return;
  out->first = index;
  out->expected = expected;
  out->got = got;
}

// Calls body(offset, bytes) for each block in which the two differ in some bit; all blocks but the last are kBlock.
template <class Body>
void each_unlike(const unsigned char *a, const unsigned char *b, uint64_t bytes, Body body) {
  for (uint64_t at = 0; at < bytes; at += kBlock) {
    const uint64_t length = bytes - at < kBlock ? bytes - at : kBlock;
    if (std::memcmp(a + at, b + at, length) != 0) body(at, length);
  }
}

template <uint8_t type>
void compare_floats(const unsigned char *a, const unsigned char *b, uint64_t bytes, double tolerance,
                    double mean, Difference *out) {
  const auto width = static_cast<uint64_t>(element_bytes(type));
  each_unlike(a, b, bytes / width * width, [&](uint64_t begin, uint64_t length) {
    for (uint64_t at = begin; at < begin + length; at += width) {
      const double expected = decode<type>(a + at), got = decode<type>(b + at);
      if (!same(expected, got, tolerance, mean)) note(at / width, expected, got, out);
    }
  });
}

void compare_exactly(uint8_t type, const unsigned char *a, const unsigned char *b, uint64_t bytes,
                     Difference *out) {
  const auto known = static_cast<uint64_t>(element_bytes(type));
  const uint64_t width = known == 0 ? 1 : known;
  each_unlike(a, b, bytes / width * width, [&](uint64_t begin, uint64_t length) {
    for (uint64_t at = begin; at < begin + length; at += width) {
      if (std::memcmp(a + at, b + at, width) != 0) {
        note(at / width, element(type, a + at), element(type, b + at), out);
      }
    }
  });
}

}  // namespace

double element(uint8_t type, const unsigned char *data) {
  switch (type) {
    case KPK_FP64: return decode<KPK_FP64>(data);
    case KPK_FP32: return decode<KPK_FP32>(data);
    case KPK_FP16: return decode<KPK_FP16>(data);
    case KPK_BF16: return decode<KPK_BF16>(data);
    case KPK_I8: return static_cast<double>(load<int8_t>(data));
    case KPK_I16: return static_cast<double>(load<int16_t>(data));
    case KPK_U16: return static_cast<double>(load<uint16_t>(data));
    case KPK_I32: return static_cast<double>(load<int32_t>(data));
    case KPK_U32: return static_cast<double>(load<uint32_t>(data));
    case KPK_I64: return static_cast<double>(load<int64_t>(data));
    case KPK_U64: return static_cast<double>(load<uint64_t>(data));
    default: return is_float(type) ? static_cast<double>(element_8(type, *data)) : static_cast<double>(*data);
  }
}

double tolerance_of(uint8_t type) {
  switch (type) {
    case KPK_FP64: return 1e-9;
    case KPK_FP32: return 2e-3;  // it may have gone through tf32
    case KPK_FP16: return 1e-2;
    case KPK_BF16: return 5e-2;
    default: return is_float(type) ? 0.3 : 0.0;
  }
}

double magnitude(uint8_t type, const unsigned char *data, uint64_t bytes) {
  if (!is_float(type)) return 0;
  const auto width = static_cast<uint64_t>(element_bytes(type));
  const uint64_t count = bytes / width;
  // An odd step, so that it meets every column of most shapes.
  const uint64_t step = count <= kMeanOf ? 1 : (count / kMeanOf) | 1;
  double sum = 0;
  uint64_t finite = 0;
  for (uint64_t i = 0; i < count; i += step) {
    const double value = element(type, data + i * width);
    if (!std::isfinite(value)) continue;
    sum += std::fabs(value);
    ++finite;
  }
  return finite == 0 ? 0 : sum / static_cast<double>(finite);
}

Difference compare(uint8_t type, const unsigned char *expected, const unsigned char *got, uint64_t bytes,
                   double factor, double mean) {
  Difference out{};
  const double tolerance = tolerance_of(type) * factor;
  switch (type) {
    case KPK_FP64: compare_floats<KPK_FP64>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_FP32: compare_floats<KPK_FP32>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_FP16: compare_floats<KPK_FP16>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_BF16: compare_floats<KPK_BF16>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_FP8E4NV: compare_floats<KPK_FP8E4NV>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_FP8E5: compare_floats<KPK_FP8E5>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_FP8E4B8: compare_floats<KPK_FP8E4B8>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_FP8E5B16: compare_floats<KPK_FP8E5B16>(expected, got, bytes, tolerance, mean, &out); break;
    case KPK_FP8E4B15: compare_floats<KPK_FP8E4B15>(expected, got, bytes, tolerance, mean, &out); break;
    default: compare_exactly(type, expected, got, bytes, &out); break;
  }
  const int64_t known = element_bytes(type);
  const uint64_t rest = known <= 1 ? 0 : bytes % static_cast<uint64_t>(known);
  const uint64_t whole = bytes - rest;
  if (rest != 0 && std::memcmp(expected + whole, got + whole, rest) != 0) {
    note(whole / static_cast<uint64_t>(known), 0, 0, &out);
  }
  return out;
}

}  // namespace kpk
