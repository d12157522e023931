// Two kernels one after the other, compared with the CPU. Without a GPU, what would be launched.
#include <cmath>
#include <cstdio>
#include <kpack/kpack.hpp>
#include <vector>

#include "../quickstart/gpu.h"  // device memory without a GPU SDK: a real program has its own

KPACK_KERNEL(tk, gelu);
KPACK_KERNEL(tk, scale);

static kpack::Status run(float *y, const float *x, int n) {
  if (const kpack::Status status = tk::gelu(nullptr, y, x, n); !status.ok()) return status;
  return tk::scale(nullptr, y, static_cast<const float *>(y), 2.0f, n);
}

static int launch(int n) {
  Gpu gpu(kpk_device_count(KPK_VENDOR_CUDA) == 0);
  std::vector<float> x(n), y(n);
  for (int i = 0; i < n; ++i) x[i] = static_cast<float>(i % 800) / 100 - 4;
  float *device_x = gpu.allocate(n * sizeof(float)), *device_y = gpu.allocate(n * sizeof(float));
  gpu.to_device(device_x, x.data(), n * sizeof(float));
  if (const kpack::Status status = run(device_y, device_x, n); !status.ok()) {
    std::printf("%s: %s\n", status.name(), status.message());
    return 1;
  }
  gpu.to_host(y.data(), device_y, n * sizeof(float));
  double worst = 0;
  for (int i = 0; i < n; ++i) {
    worst = std::fmax(worst, std::fabs(y[i] - x[i] * (1 + std::erf(x[i] * 0.7071067811865476))));
  }
  std::printf("largest error %.1e\n", worst);
  return worst < 1e-5 ? 0 : 1;
}

static int show(int n) {
  float *y = reinterpret_cast<float *>(0x7f0000000000), *x = reinterpret_cast<float *>(0x7f0010000000);
  for (const char *arch : {"gfx90a", "sm_90"}) {
    kpack::use_dry_driver(arch);
    for (const kpack::Status status : {tk::gelu(nullptr, y, x, n), tk::scale(nullptr, y, x, 2.0f, n)}) {
      if (!status.dry()) return std::printf("%s: %s\n", status.name(), status.message()), 1;
    }
    std::printf("%s\n", kpk_message());
  }
  return 0;
}

int main() { return kpk_device_count(KPK_VENDOR_ANY) != 0 ? launch(1 << 20) : show(1 << 20); }
