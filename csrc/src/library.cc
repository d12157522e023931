#include "library.h"

#include <dlfcn.h>

namespace kpk {

void *library_open(const char *path, const char **error) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) *error = dlerror();
  return library;
}

void *library_symbol(void *library, const char *name) { return dlsym(library, name); }

}  // namespace kpk
