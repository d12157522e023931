#include "library.h"

#include <dlfcn.h>

#include <cstring>

namespace kpk {

void *library_open(const char *path, const char **error) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) *error = dlerror();
  return library;
}

void *library_opened(const char *path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD); }

const char *keep_error(const char *error, const char *otherwise) {
  char *copy = error == nullptr ? nullptr : strdup(error);
  return copy == nullptr ? otherwise : copy;
}

void *library_symbol(void *library, const char *name) { return dlsym(library, name); }

}  // namespace kpk
