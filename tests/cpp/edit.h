// What is linked, changed for a while: how a test gets an archive that nobody has written.
#ifndef KPACK_TESTS_EDIT_H
#define KPACK_TESTS_EDIT_H

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "check.h"

// Changes a field, read-only as it is, while it lives.
template <class T>
class Edit {
 public:
  Edit(const T &field, T value) : field_(const_cast<T *>(&field)), before_(field) {
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t begin = reinterpret_cast<uintptr_t>(field_) / page * page;
    const size_t bytes = reinterpret_cast<uintptr_t>(field_ + 1) - begin;
    CHECK(mprotect(reinterpret_cast<void *>(begin), bytes, PROT_READ | PROT_WRITE) == 0);
    *field_ = value;
  }
  ~Edit() { *field_ = before_; }
  Edit(const Edit &) = delete;
  Edit &operator=(const Edit &) = delete;

 private:
  T *field_;
  T before_;
};

#endif
