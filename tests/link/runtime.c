/* A C program on the runtime: lists what is linked and launches one kernel by name, argument by argument and by an
 * array of them. */
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
    kpk_status status = kpk_launch(kernel, stream, args, 3, 0);
    printf("%s\n%s\n", kpk_status_name(status), kpk_message());
    kpk_call call;
    kpk_call_begin(&call);
    kpk_pass_pointer(&call, (void *)0x1000, KPK_FP16);
    kpk_pass_const_pointer(&call, (const void *)0x2000, KPK_FP16);
    kpk_pass_i32(&call, 1000);
    status = kpk_launch_call(kernel, stream, &call);
    printf("%s\n%s\n", kpk_status_name(status), kpk_message());
  }
  return 0;
}
