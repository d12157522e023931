// What the linked kernel is, and what a call of it would run on two GPUs that need not be here.
#include <cstdio>
#include <kpack/kpack.hpp>

KPACK_KERNEL(tk, scale);

int main() {
  float *y = reinterpret_cast<float *>(0x7f0000000000), *x = reinterpret_cast<float *>(0x7f0010000000);
  for (const char *arch : {"gfx90a", "sm_90"}) {
    kpack::use_dry_driver(arch);
    const kpack::Status status = tk::scale(nullptr, y, static_cast<const float *>(x), 2.0f, 1 << 20);
    std::printf("%s\n", status.message());
    if (!status.dry()) return 1;
  }
  return 0;
}
