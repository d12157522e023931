// Files of lines of comma-separated values (RFC 4180, but no value has a line break inside), and files that several
// processes write: what tuning tables and their crash journal are made of. No locale: a point is a point.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "tune/table.h"

namespace kpk {

struct Bytes {
  const char *data;
  size_t size;
};

constexpr uint64_t kHashSeed = 0xcbf29ce484222325u;
uint64_t hash_bytes(uint64_t hash, Bytes bytes);  // FNV-1a, going on from `hash`

// ---- reading

// The lines of a text, without their ends (LF or CRLF) and without the mark of UTF-8 before the first.
class Lines {
 public:
  explicit Lines(Bytes text);
  bool next(Bytes *line);

 private:
  const char *at_, *end_;
};

// Cuts `line` into values where it lies, quotes taken off. How many: at most `most`, more are not looked for;
// 0 where quotes are not in pairs around whole values.
uint32_t split_line(char *line, char **values, uint32_t most);
bool has_control(Bytes line);                      // a character below space, or DEL
bool read_hex(const char *text, uint64_t *out);    // 16 digits
bool read_decimal(const char *text, double *out);  // "12" or "12.345", not negative

// ---- writing

// Text that grows. Once memory has failed it stays what it was.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  void add(Bytes bytes);
  void add(const char *text);
  void add_clean(const char *text);  // a space for each control character
  // The next value of a line.
  void add_value(const char *text);  // quoted where it must be, a space for each control character
  void add_hex(uint64_t value);      // 16 digits
  void add_number(uint64_t value);
  void add_decimal(double value);  // three digits behind the point; 0 for what is no number of them
  void end_line();
  bool failed() const { return failed_; }
  Bytes bytes() const { return {data_, size_}; }

 private:
  void separate();

  char *data_ = nullptr;
  size_t size_ = 0, room_ = 0;
  bool failed_ = false, in_line_ = false;
};

// ---- files

struct File {
  explicit File(int descriptor) : fd(descriptor) {}
  ~File() {
    if (fd >= 0) close(fd);
  }
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  const int fd;
};

bool write_all(int fd, Bytes bytes);  // errno on failure
void sync_folder(const char *path);   // that the file is in; a file system that cannot is no error

// All of a file, and room to take one of its lines apart. errno on failure.
class Content {
 public:
  Content() = default;
  ~Content() { std::free(data_); }
  Content(const Content &) = delete;
  Content &operator=(const Content &) = delete;
  bool read(const char *path);
  bool read(int fd);
  Bytes bytes() const { return {data_, size_}; }
  char *scratch() const { return data_ + size_; }

 private:
  char *data_ = nullptr;
  size_t size_ = 0;
};

// `base` with `suffix` behind it; null where there is no memory, or no base.
struct Name {
  Name(const char *base, const char *suffix);
  explicit Name(
      const char *path);  // of a file that is there, without symbolic links: what links to a table stays
  ~Name() { std::free(text); }
  Name(const Name &) = delete;
  Name &operator=(const Name &) = delete;
  char *text;
};

// Holds `<path>.lock` against other processes and threads. The file stays: who removes it removes it under another.
class FileLock {
 public:
  explicit FileLock(const char *path);
  bool held() const { return held_; }

 private:
  File file_;
  bool held_;
};

// journal.cc: after these entries were written, crashes that they remember are needed no more. The lock is held.
void forget_crashes(const char *path, const Entry *entries, uint32_t count);

}  // namespace kpk
