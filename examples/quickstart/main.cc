// The quickstart: list what the linker brought in, launch softmax, compare it with a loop on the CPU.
// Without a GPU the dry driver shows what would be launched, for each arch in the archive.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <kpack/kpack.hpp>
#include <vector>

#include "gpu.h"

KPACK_KERNEL(tk, softmax);  // the linker symbol of kernel `softmax` in libtk.a

namespace {

void list_kernels() {
  std::printf("linked kernels\n");
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) {
    char prototype[512];
    kernel.prototype(prototype, sizeof prototype);
    std::printf("  %s\n", prototype);
  }
}

// Row by row, in double.
std::vector<float> reference(const std::vector<float> &in, int rows, int cols) {
  std::vector<float> out(in.size());
  for (int row = 0; row < rows; ++row) {
    const float *x = in.data() + static_cast<size_t>(row) * cols;
    const double most = *std::max_element(x, x + cols);
    double sum = 0;
    for (int i = 0; i < cols; ++i) sum += std::exp(x[i] - most);
    for (int i = 0; i < cols; ++i) {
      out[static_cast<size_t>(row) * cols + i] = static_cast<float>(std::exp(x[i] - most) / sum);
    }
  }
  return out;
}

bool launch(Gpu &gpu, int rows, int cols) {
  std::vector<float> in(static_cast<size_t>(rows) * cols), out(in.size());
  for (size_t i = 0; i < in.size(); ++i)
    in[i] = static_cast<float>((i * 2654435761u) % 2000) / 100.0f - 10.0f;
  const size_t bytes = in.size() * sizeof(float);
  float *x = gpu.allocate(bytes), *y = gpu.allocate(bytes);
  gpu.to_device(x, in.data(), bytes);

  const kpack::Status status = tk::softmax(nullptr, y, x, cols, cols, cols, rows);
  if (!status) {
    std::printf("  %5d x %-6d %s: %s\n", rows, cols, status.name(), status.message());
    return false;
  }
  gpu.to_host(out.data(), y, bytes);
  const std::vector<float> expected = reference(in, rows, cols);
  double worst = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    worst = std::max(worst, std::fabs(double{out[i]} - expected[i]) / std::fabs(double{expected[i]}));
  }
  const bool good = worst < 1e-4;  // false for NaN as well
  std::printf("  %5d x %-6d largest relative error %.1e  %s\n", rows, cols, worst, good ? "ok" : "WRONG");
  return good;
}

int launch_all() {
  const bool hip = kpk_device_count(KPK_VENDOR_CUDA) == 0;
  const char *arch = kpk_device_arch(hip ? kpack::hip_device(0) : kpack::cuda_device(0));
  std::printf("\nlaunching on %s\n", arch);
  Gpu gpu(hip);
  bool good = true;
  for (const int cols : {1, 127, 1000, 1024, 4097, 65536}) good = launch(gpu, 64, cols) && good;
  return good ? 0 : 1;
}

int show_dry() {
  std::printf("\nno GPU here: the dry driver shows what would be launched\n");
  float *out = reinterpret_cast<float *>(0x7f0000000000), *in = reinterpret_cast<float *>(0x7f0010000000);
  for (const char *arch : {"gfx90a", "sm_90"}) {
    if (const kpack::Status status = kpack::use_dry_driver(arch); !status) {
      std::printf("%s\n", status.message());
      return 1;
    }
    const kpack::Status status = tk::softmax(nullptr, out, in, 4096, 4096, 4000, 1 << 20);
    std::printf("\n%s\n  status   %s\n", status.message(), status.name());
    if (!status.dry()) return 1;
  }
  std::printf("\nand a call that is wrong\n");
  const kpack::Status wrong = tk::softmax(nullptr, out, reinterpret_cast<int32_t *>(in), 4096, 4096, 4000, 1);
  std::printf("  %s\n", wrong.message());
  return 0;
}

}  // namespace

int main() {
  list_kernels();
  return kpk_device_count(KPK_VENDOR_ANY) != 0 ? launch_all() : show_dry();
}
