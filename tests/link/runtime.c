/* A C program on the runtime: lists what is linked and launches one kernel by name. */
#include <kpack/kpack.h>
#include <stdio.h>

int main(void) {
  const kpk_abi_record *record;
  for (record = kpk_linked_begin(); record != kpk_linked_end(); ++record) {
    const kpk_pack *pack = kpk_pack_of(record);
    uint32_t i;
    for (i = 0; i < kpk_pack_size(pack); ++i) {
      char prototype[256];
      kpk_kernel_prototype(kpk_pack_kernel(pack, i), prototype, sizeof prototype);
      printf("%s %s\n", kpk_pack_name(pack), prototype);
    }
    const kpk_kernel *kernel = kpk_pack_find(pack, "twice");
    const kpk_arg args[] = {{0x1000, KPK_POINTER | KPK_FP16, 0, 0, 0},
                            {0x2000, KPK_POINTER | KPK_FP16, KPK_PARAM_CONST, 0, 0},
                            {1000, KPK_I32, 0, 0, 0}};
    const kpk_stream stream = {0, KPK_VENDOR_CUDA, 0};
    const kpk_status status = kpk_launch(kernel, stream, args, 3, 0);
    printf("%s\n%s\n", kpk_status_name(status), kpk_message());
  }
  return 0;
}
