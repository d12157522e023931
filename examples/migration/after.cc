// After, in C++: the same launches without Python.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <kpack/kpack.hpp>
#include <vector>

#include "../gpu.h"

KPACK_KERNEL(norms, rms_norm);

namespace {

void check(int code, const char *what) {
  if (code == 0) return;
  std::fprintf(stderr, "%s: %d\n", what, code);
  std::exit(1);
}

// As inputs.py makes them.
std::vector<float> values(int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(i * 2654435761u % 2000) / 100.0f - 10.0f;
  }
  return out;
}

float *upload(const gpu &device, const std::vector<float> &from) {
  void *memory = nullptr;
  check(gpu_allocate(&device, &memory, from.size() * sizeof(float)), "device memory");
  check(gpu_to_device(&device, memory, from.data(), from.size() * sizeof(float)), "copy to the device");
  return static_cast<float *>(memory);
}

std::vector<float> rms_norm(const gpu &device, int64_t rows, int64_t columns, float eps = 1e-6f) {
  std::vector<float> out(static_cast<size_t>(rows * columns));
  float *y = upload(device, out), *x = upload(device, values(rows * columns)),
        *weight = upload(device, values(columns));
  const kpack::Status status = norms::rms_norm(nullptr, y, x, weight, columns, columns, eps, rows);
  if (!status) {
    std::fprintf(stderr, "%s\n", status.message());
    std::exit(1);
  }
  check(gpu_to_host(&device, out.data(), y, out.size() * sizeof(float)), "copy to the host");
  for (float *memory : {y, x, weight}) check(gpu_release(&device, memory), "releasing device memory");
  return out;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  if (kpk_device_count(KPK_VENDOR_ANY) == 0) {
    std::fprintf(stderr, "after: expected a GPU, got none\n");
    return 1;
  }
  gpu device;
  check(gpu_open(&device, kpk_device_count(KPK_VENDOR_CUDA) == 0), "opening the device");
  std::FILE *file = std::fopen(argv[1], "wb");
  if (file == nullptr) return 1;
  const int64_t shapes[][2] = {{64, 256}, {37, 1000}, {3, 4096}};
  for (const auto &[rows, columns] : shapes) {
    const std::vector<float> out = rms_norm(device, rows, columns);
    std::fwrite(out.data(), sizeof(float), out.size(), file);
  }
  return std::fclose(file);
}
