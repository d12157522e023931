// After, in C++: the same launches without Python.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <kpack/kpack.hpp>
#include <vector>

#include "../quickstart/gpu.h"

KPACK_KERNEL(norms, rms_norm);

namespace {

// As inputs.py makes them.
std::vector<float> values(int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(i * 2654435761u % 2000) / 100.0f - 10.0f;
  }
  return out;
}

float *upload(Gpu &gpu, const std::vector<float> &from) {
  const size_t bytes = from.size() * sizeof(float);
  float *memory = gpu.allocate(bytes);
  gpu.to_device(memory, from.data(), bytes);
  return memory;
}

std::vector<float> rms_norm(Gpu &gpu, int64_t rows, int64_t columns, float eps = 1e-6f) {
  std::vector<float> out(static_cast<size_t>(rows * columns));
  float *y = upload(gpu, out), *x = upload(gpu, values(rows * columns)),
        *weight = upload(gpu, values(columns));
  const kpack::Status status = norms::rms_norm(nullptr, y, x, weight, columns, columns, eps, rows);
  if (!status) {
    std::fprintf(stderr, "%s\n", status.message());
    std::exit(1);
  }
  gpu.to_host(out.data(), y, out.size() * sizeof(float));
  return out;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  if (kpk_device_count(KPK_VENDOR_ANY) == 0) {
    std::fprintf(stderr, "after: expected a GPU, got none\n");
    return 1;
  }
  Gpu gpu(kpk_device_count(KPK_VENDOR_CUDA) == 0);
  std::FILE *file = std::fopen(argv[1], "wb");
  if (file == nullptr) return 1;
  const int64_t shapes[][2] = {{64, 256}, {37, 1000}, {3, 4096}};
  for (const auto &[rows, columns] : shapes) {
    const std::vector<float> out = rms_norm(gpu, rows, columns);
    std::fwrite(out.data(), sizeof(float), out.size(), file);
  }
  return std::fclose(file);
}
