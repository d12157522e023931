// Shared libraries opened at run time. library.cc is the only file that calls dlopen and dlsym.
#pragma once

#include <cstring>

namespace kpk {

// Opens `path`, or adds a reference to it if it is already open; null and `*error` on failure.
void *library_open(const char *path, const char **error);
// Adds a reference to a library that is already open; null if it is not.
void *library_opened(const char *path);
// `error` kept for the life of the process (dlerror's own text does not live), or `otherwise`.
const char *keep_error(const char *error, const char *otherwise);
// Keeps the shared object that contains `address` mapped until library_unpin(); of the program itself there is nothing
// to keep. Null if it cannot be kept. Call neither with a lock held: the dynamic loader has its own, which is held
// while constructors run, and what the last reference to an object calls when it goes is the object's own code.
void *library_pin(const void *address);
void library_unpin(void *pin);
// Null if `library` does not define `name`.
void *library_symbol(void *library, const char *name);

// The function `name` as what `*out` points to; false, and null, if `library` does not define it.
template <class Function>
bool library_function(void *library, const char *name, Function *out) {
  void *found = library_symbol(library, name);
  static_assert(sizeof found == sizeof *out, "a function pointer is a pointer here");
  std::memcpy(out, &found, sizeof found);
  return found != nullptr;
}

}  // namespace kpk
