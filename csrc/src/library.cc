#include "library.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace kpk {
namespace {

struct Owner {
  uintptr_t address;
  char *name;  // a copy, of the object that contains it; null or "" for the program
};

// One call an object, until one returns 1.
int find_owner(dl_phdr_info *object, size_t, void *into) {
  auto *owner = static_cast<Owner *>(into);
  for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr) &part = object->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || owner->address - object->dlpi_addr - part.p_vaddr >= part.p_memsz) continue;
    owner->name = strdup(object->dlpi_name);
    return 1;
  }
  return 0;
}

}  // namespace

void *library_pin(const void *address) {
  // By the program headers: dladdr would search all symbols of the object as well.
  Owner owner = {reinterpret_cast<uintptr_t>(address), nullptr};
  dl_iterate_phdr(find_owner, &owner);
  // Lazily: how the object binds its symbols stays as it is.
  const bool named = owner.name != nullptr && *owner.name != '\0';
  void *pin = named ? dlopen(owner.name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD) : nullptr;
  std::free(owner.name);
  return pin;
}

void library_unpin(void *pin) { dlclose(pin); }

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
