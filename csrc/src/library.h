// Shared libraries opened at run time. library.cc is the only file that calls dlopen and dlsym.
#pragma once

namespace kpk {

// Opens `path`, or adds a reference to it if it is already open; null and `*error` on failure.
void *library_open(const char *path, const char **error);
// Null if `library` does not define `name`.
void *library_symbol(void *library, const char *name);

}  // namespace kpk
