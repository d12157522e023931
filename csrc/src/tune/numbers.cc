#include "tune/numbers.h"

#include <kpack/abi.h>

#include <cmath>
#include <cstring>

#include "tune/compare.h"
#include "types.h"

namespace kpk {
namespace {

// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

// The sum of four uniform numbers, scaled to variance 1: within 3.5, and without a logarithm.
double next_normal(uint64_t *state) {
  const uint64_t bits = next_random(state);
  const uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
  constexpr double deviation = 65536 * 0.57735026918962576;  // of the sum: sqrt(4 / 12)
  return (static_cast<double>(sum) - 2 * 65535.0) / deviation;
}

constexpr int kSteps = 256;     // of a table of codes, over
constexpr double kReach = 4.0;  // -4 to 4

// The code of an 8-bit float that is nearest to each step.
void fill_codes(uint8_t type, uint8_t *codes) {
  for (int step = 0; step < kSteps; ++step) {
    const double wanted = (step + 0.5) * (2 * kReach / kSteps) - kReach;
    double best = 1e9;
    for (int code = 0; code < 256; ++code) {
      const auto byte = static_cast<unsigned char>(code);
      const double away = std::fabs(element(type, &byte) - wanted);
      if (!(away < best)) continue;
      best = away;
      codes[step] = byte;
    }
  }
}

void make_bytes(uint8_t type, unsigned char *out, uint64_t bytes, uint64_t *state) {
  uint8_t codes[kSteps] = {};
  fill_codes(type, codes);
  for (uint64_t i = 0; i < bytes; ++i) {
    const auto step = static_cast<int>((next_normal(state) + kReach) * (kSteps / (2 * kReach)));
    out[i] = codes[step];
  }
}

}  // namespace

void make_numbers(uint8_t type, unsigned char *out, uint64_t bytes) {
  std::memset(out, 0, bytes);
  if (!is_float(type)) return;
  uint64_t state = type;
  const auto width = static_cast<uint64_t>(element_bytes(type));
  if (width == 1) return make_bytes(type, out, bytes, &state);
  for (uint64_t at = 0; at + width <= bytes; at += width) {
    const uint64_t value = float_bits(type, next_normal(&state));
    std::memcpy(out + at, &value, width);
  }
}

}  // namespace kpk
