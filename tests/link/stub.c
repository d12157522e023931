/* Stands where the archive would: what a link without it looks like. */
#include <kpack/abi.h>

__attribute__((visibility("hidden")))
const kpk_abi_kernel kpack_kernel_tk_softmax = {.size = sizeof(kpk_abi_kernel)};
