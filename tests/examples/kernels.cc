// What the examples' kernels compute, for a launch on the fake driver (FAKE_KERNELS, see fake.h): plain loops over
// the arguments that the launch brought. The grid must be what the kernel needs; the machine code is not run.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fake.h"

namespace {

// The arguments of a launch, by number; what is not there, or has another size, aborts.
struct Call {
  const fake_launch &launch;
  template <class T>
  T *pointer(uint32_t index) const {
    return reinterpret_cast<T *>(fake::argument<uint64_t>(launch, index));
  }
  int64_t i64(uint32_t index) const { return fake::argument<int64_t>(launch, index); }
  int32_t i32(uint32_t index) const { return fake::argument<int32_t>(launch, index); }
  float fp32(uint32_t index) const { return fake::argument<float>(launch, index); }
};

void expect_grid(const Call &call, int64_t programs) {
  if (call.launch.grid[0] == programs && call.launch.grid[1] == 1 && call.launch.grid[2] == 1) return;
  std::fprintf(stderr, "%s: expected a grid of %lld, got %u x %u x %u\n", call.launch.function,
               static_cast<long long>(programs), call.launch.grid[0], call.launch.grid[1],
               call.launch.grid[2]);
  std::abort();
}

// examples/c
void axpy(const Call &call) {
  auto *out = call.pointer<float>(0);
  const auto *x = call.pointer<float>(1), *y = call.pointer<float>(2);
  const int32_t n = call.i32(4);
  expect_grid(call, (n + 1023) / 1024);
  for (int32_t i = 0; i < n; ++i) out[i] = call.fp32(3) * x[i] + y[i];
}

// examples/rust
void row_sum(const Call &call) {
  auto *out = call.pointer<float>(0);
  const auto *x = call.pointer<float>(1);
  for (uint32_t row = 0; row < call.launch.grid[0]; ++row) {
    out[row] = 0;
    for (int32_t i = 0; i < call.i32(3); ++i) out[row] += x[row * call.i64(2) + i];
  }
}

// examples/plugin: the host's doubles, in blocks of 256; the plugin's, of the same name, adds 100.
void effect(const Call &call) {
  const bool is_host = std::strcmp(call.launch.function, "effect_BLOCK256_w4") == 0;
  auto *out = call.pointer<float>(0);
  const auto *x = call.pointer<float>(1);
  const int32_t n = call.i32(2), block = is_host ? 256 : 128;
  expect_grid(call, (n + block - 1) / block);
  for (int32_t i = 0; i < n; ++i) out[i] = is_host ? x[i] * 2 : x[i] + 100;
}

// kernels/softmax.py: float, and the two halves by way of it. Newer kernels compute several rows a program, and have the
// number of rows as an argument before the two pointers that Triton adds.
float widen(const uint16_t *at, bool is_bfloat) {
  if (!is_bfloat) {
    _Float16 half;
    std::memcpy(&half, at, sizeof half);
    return static_cast<float>(half);
  }
  const uint32_t bits = static_cast<uint32_t>(*at) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
void narrow(float value, uint16_t *at, bool is_bfloat) {
  const auto half = static_cast<_Float16>(value);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  if (is_bfloat) std::memcpy(at, &bits, sizeof *at);
  if (!is_bfloat) std::memcpy(at, &half, sizeof *at);
}

// Rows of the type that the function's name says, by argument and stride.
struct Rows {
  Rows(const Call &call, uint32_t argument, uint32_t stride_argument)
      : memory(call.pointer<unsigned char>(argument)), stride(call.i64(stride_argument)) {
    const std::string name = call.launch.function;
    is_float = name.find("_fp32_") != std::string::npos;
    is_bfloat = name.find("_bf16_") != std::string::npos;
  }
  unsigned char *at(int64_t row, int64_t column) const {
    return memory + (row * stride + column) * (is_float ? 4 : 2);
  }
  double get(int64_t row, int64_t column) const {
    if (is_float) return *reinterpret_cast<const float *>(at(row, column));
    return widen(reinterpret_cast<const uint16_t *>(at(row, column)), is_bfloat);
  }
  void set(int64_t row, int64_t column, double value) const {
    const auto rounded = static_cast<float>(value);
    if (is_float) std::memcpy(at(row, column), &rounded, sizeof rounded);
    if (!is_float) narrow(rounded, reinterpret_cast<uint16_t *>(at(row, column)), is_bfloat);
  }
  unsigned char *memory;
  int64_t stride;
  bool is_float, is_bfloat;
};

void softmax(const Call &call) {
  const Rows out(call, 0, 3), in(call, 1, 2);
  const int64_t columns = call.i32(4);
  const int64_t rows = call.launch.param_count == 8 ? call.i64(5) : call.launch.grid[0];
  for (int64_t row = 0; row < rows; ++row) {
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < columns; ++i) most = std::fmax(most, in.get(row, i));
    for (int64_t i = 0; i < columns; ++i) sum += std::exp(in.get(row, i) - most);
    for (int64_t i = 0; i < columns; ++i) out.set(row, i, std::exp(in.get(row, i) - most) / sum);
  }
}

// examples/torch_op
void softmax_backward(const Call &call) {
  const Rows dx(call, 0, 3), y(call, 1, 4), dy(call, 2, 5);
  const int64_t columns = call.i32(6);
  const int64_t rows = call.launch.param_count == 10 ? call.i64(7) : call.launch.grid[0];
  for (int64_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) sum += y.get(row, i) * dy.get(row, i);
    for (int64_t i = 0; i < columns; ++i) dx.set(row, i, y.get(row, i) * (dy.get(row, i) - sum));
  }
}

// examples/migration
void rms_norm(const Call &call) {
  auto *out = call.pointer<float>(0);
  const auto *x = call.pointer<float>(1), *weight = call.pointer<float>(2);
  const int64_t stride = call.i64(3);
  const int32_t columns = call.i32(4);
  for (uint32_t row = 0; row < call.launch.grid[0]; ++row) {
    double sum = 0;
    for (int32_t i = 0; i < columns; ++i)
      sum += static_cast<double>(x[row * stride + i]) * x[row * stride + i];
    const double scale = 1 / std::sqrt(sum / columns + call.fp32(5));
    for (int32_t i = 0; i < columns; ++i) {
      out[row * stride + i] = static_cast<float>(x[row * stride + i] * scale * weight[i]);
    }
  }
}

struct Computed {
  const char *name;  // which the device function's begins with
  void (*compute)(const Call &call);
};
constexpr Computed kComputed[] = {{"axpy_", axpy},
                                  {"effect_", effect},
                                  {"rms_norm_", rms_norm},
                                  {"row_sum_", row_sum},
                                  {"softmax_backward_", softmax_backward},
                                  {"softmax_", softmax}};

}  // namespace

extern "C" __attribute__((visibility("default"))) void fake_run(const fake_launch *launch) {
  const std::string function = launch->function;
  for (const Computed &row : kComputed) {
    if (function.rfind(row.name, 0) == 0) return row.compute(Call{*launch});
  }
  std::fprintf(stderr, "%s: no such kernel here\n", launch->function);
  std::abort();
}
