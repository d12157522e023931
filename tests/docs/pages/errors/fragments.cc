// The fragment of docs/errors.md in a program, which runs dry.

#include <cstdint>
#include <cstdio>
#include <kpack/kpack.hpp>

KPACK_KERNEL(tk, softmax);

int main() {
  float *const out = reinterpret_cast<float *>(0x10000);
  const int32_t *const wrong = reinterpret_cast<const int32_t *>(0x20000);
  const kpack::Stream stream = nullptr;
  if (!kpack::use_dry_driver("sm_90")) return 1;
#include "errors.inc"
}
