/* Opens a shared library and prints the pack that it exports, or calls what names a kernel inside it. */
#include <dlfcn.h>

#include "dump.h"

int main(int count, char **arguments) {
  void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!library || count < 3) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  void *found = dlsym(library, arguments[2]);
  if (!found) {
    fprintf(stderr, "%s: not exported\n", arguments[2]);
    return 1;
  }
  if (strncmp(arguments[2], "kpk_entry_", 10) == 0) {
    dump_record((const kpk_abi_record *)found);
  } else {
    void (*call)(void);
    memcpy(&call, &found, sizeof call);
    call();
  }
  return 0;
}
