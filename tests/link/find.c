/* Looks up each name that it is given in the first pack that is linked: prints the name of what was found, or -. */
#include <kpack/kpack.h>
#include <stdio.h>

int main(int count, char **names) {
  const kpk_pack *pack = kpk_pack_of(kpk_linked_begin());
  for (int i = 1; i < count; ++i) {
    const kpk_kernel *kernel = kpk_pack_find(pack, names[i]);
    puts(kernel == 0 ? "-" : kpk_kernel_name(kernel));
  }
  return 0;
}
