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
  bool is_program;
  char *name;  // of another object that contains it: a copy
};

char g_program;  // the pin of what is never unloaded

// One call an object, until one returns 1.
int find_owner(dl_phdr_info *object, size_t, void *into) {
  auto *owner = static_cast<Owner *>(into);
  for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr) &part = object->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || owner->address - object->dlpi_addr - part.p_vaddr >= part.p_memsz) continue;
    owner->is_program = object->dlpi_name == nullptr || *object->dlpi_name == '\0';
    if (!owner->is_program) owner->name = strdup(object->dlpi_name);
    return 1;
  }
  return 0;
}

}  // namespace

void *library_pin(const void *address) {
  // By the program headers: dladdr would search all symbols of the object as well.
  Owner owner = {reinterpret_cast<uintptr_t>(address), false, nullptr};
  dl_iterate_phdr(find_owner, &owner);
  if (owner.name == nullptr) return owner.is_program ? &g_program : nullptr;
  // Lazily: how the object binds its symbols stays as it is.
  void *pin = dlopen(owner.name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
  std::free(owner.name);
  return pin;
}

void library_unpin(void *pin) {
  if (pin != &g_program) dlclose(pin);
}

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
