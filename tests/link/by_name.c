/* One kernel, named. Built into a program, or into a shared library that a program opens. */
#include "dump.h"

#ifndef KERNEL
#define KERNEL kpack_kernel_tk_softmax
#endif

extern const kpk_abi_kernel KERNEL __attribute__((visibility("hidden")));

__attribute__((visibility("default"))) void dump_by_name(void) { dump_kernel(&KERNEL); }

int main(void) {
  dump_by_name();
  return 0;
}
