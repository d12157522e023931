/* The fragment of docs/languages.md in a program, which runs dry. */
#include <kpack/kpack.h>
#include <stdio.h>

extern const kpk_kernel kpack_kernel_tk_softmax __attribute__((visibility("hidden")));

int main(void) {
  const kpk_stream stream = {NULL, KPK_VENDOR_ANY, 0};
  float *out = (float *)0x10000;
  const float *in = (const float *)0x20000;
  kpk_status status = kpk_use_dry_driver("sm_90", 0);
#include "rust-and-whatever-else-links.inc"
  if (status != KPK_DRY) printf("%s\n", kpk_message());
  return status != KPK_DRY;
}
