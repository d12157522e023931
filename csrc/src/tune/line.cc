#include "tune/line.h"

#include <errno.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cstring>

namespace kpk {

uint64_t hash_bytes(uint64_t hash, Bytes bytes) {
  for (size_t i = 0; i < bytes.size; ++i) {
    hash = (hash ^ static_cast<unsigned char>(bytes.data[i])) * 0x100000001b3u;
  }
  return hash;
}

// ---- reading

Lines::Lines(Bytes text) : at_(text.data), end_(text.data + text.size) {
  if (text.size >= 3 && std::memcmp(at_, "\xef\xbb\xbf", 3) == 0) at_ += 3;
}

bool Lines::next(Bytes *line) {
  if (at_ == end_) return false;
  const void *found = std::memchr(at_, '\n', static_cast<size_t>(end_ - at_));
  const char *stop = found == nullptr ? end_ : static_cast<const char *>(found);
  line->data = at_;
  line->size = static_cast<size_t>(stop - at_);
  if (line->size != 0 && stop[-1] == '\r') --line->size;
  at_ = found == nullptr ? end_ : stop + 1;
  return true;
}

uint32_t split_line(char *line, char **values, uint32_t most) {
  uint32_t count = 0;
  for (char *in = line;;) {
    char *out = in;
    values[count++] = out;
    if (*in == '"') {
      for (++in; *in != '"' || in[1] == '"'; ++in) {
        if (*in == '\0') return 0;
        if (*in == '"') ++in;
        *out++ = *in;
      }
      ++in;
      if (*in != ',' && *in != '\0') return 0;
    } else {
      for (; *in != ',' && *in != '\0'; ++in) {
        if (*in == '"') return 0;
      }
      out = in;
    }
    const bool last = *in == '\0';
    *out = '\0';
    if (last || count == most) return count;
    ++in;
  }
}

bool has_control(Bytes line) {
  for (size_t i = 0; i < line.size; ++i) {
    const auto each = static_cast<unsigned char>(line.data[i]);
    if (each < ' ' || each == 0x7f) return true;
  }
  return false;
}

bool read_hex(const char *text, uint64_t *out) {
  *out = 0;
  for (uint32_t i = 0; i < 16; ++i) {
    const char *digits = "0123456789abcdef";
    const char *found = text[i] == '\0' ? nullptr : std::strchr(digits, text[i]);
    if (found == nullptr) return false;
    *out = *out << 4 | static_cast<uint64_t>(found - digits);
  }
  return text[16] == '\0';
}

bool read_decimal(const char *text, double *out) {
  // Beyond 15 digits nothing is measured, and a double could not say it.
  double value = 0, scale = 1;
  uint32_t digits = 0;
  bool point = false;
  for (; *text != '\0'; ++text) {
    if (*text == '.' && !point && digits != 0) {
      point = true;
      continue;
    }
    if (*text < '0' || *text > '9' || ++digits > 15) return false;
    value = value * 10 + (*text - '0');
    if (point) scale *= 10;
  }
  *out = value / scale;
  return digits != 0 && text[-1] != '.';
}

// ---- writing

void Buffer::add(Bytes bytes) {
  if (failed_ || bytes.size == 0) return;
  if (size_ + bytes.size > room_) {
    const size_t room = 2 * (size_ + bytes.size);
    void *grown = std::realloc(data_, room);
    if (grown == nullptr) {
      failed_ = true;
      return;
    }
    data_ = static_cast<char *>(grown);
    room_ = room;
  }
  std::memcpy(data_ + size_, bytes.data, bytes.size);
  size_ += bytes.size;
}

void Buffer::add(const char *text) { add({text, std::strlen(text)}); }

void Buffer::add_clean(const char *text) {
  for (; *text != '\0'; ++text) add(has_control({text, 1}) ? Bytes{" ", 1} : Bytes{text, 1});
}

void Buffer::separate() {
  if (in_line_) add(",");
  in_line_ = true;
}

void Buffer::add_value(const char *text) {
  separate();
  if (std::strpbrk(text, ",\"") == nullptr) return add_clean(text);
  add("\"");
  for (; *text != '\0'; ++text) {
    const char each[] = {*text, '\0'};
    if (*text == '"') add("\"");
    add_clean(each);
  }
  add("\"");
}

void Buffer::add_hex(uint64_t value) {
  char digits[16];
  for (uint32_t i = 0; i < 16; ++i) digits[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
  separate();
  add({digits, sizeof digits});
}

void Buffer::add_number(uint64_t value) {
  char digits[20];
  char *at = digits + sizeof digits;
  for (; value > 9; value /= 10) *--at = static_cast<char>('0' + value % 10);
  *--at = static_cast<char>('0' + value);
  separate();
  add({at, static_cast<size_t>(digits + sizeof digits - at)});
}

void Buffer::add_decimal(double value) {
  // Thousandths, half up; what a line may say ends at 15 digits.
  const bool fits = value >= 0 && value < 1e11;
  const uint64_t thousandths = fits ? static_cast<uint64_t>(value * 1000 + 0.5) : 0;
  add_number(thousandths / 1000);
  const uint64_t rest = thousandths % 1000;
  const char digits[] = {'.', static_cast<char>('0' + rest / 100), static_cast<char>('0' + rest / 10 % 10),
                         static_cast<char>('0' + rest % 10)};
  add({digits, sizeof digits});
}

void Buffer::end_line() {
  in_line_ = false;
  add("\n");
}

// ---- files

bool write_all(int fd, Bytes bytes) {
  while (bytes.size != 0) {
    const ssize_t written = write(fd, bytes.data, bytes.size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.data += written;
    bytes.size -= static_cast<size_t>(written);
  }
  return true;
}

void sync_folder(const char *path) {
  const Name folder(path, "");
  if (folder.text == nullptr) return;
  char *slash = std::strrchr(folder.text, '/');
  if (slash != nullptr) slash[slash == folder.text ? 1 : 0] = '\0';
  const File file(open(slash == nullptr ? "." : folder.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.fd < 0 || fsync(file.fd) != 0) return;
}

bool Content::read(const char *path) {
  const File file(open(path, O_RDONLY | O_CLOEXEC));
  return file.fd >= 0 && read(file.fd);
}

bool Content::read(int fd) {
  struct stat about;
  if (fstat(fd, &about) != 0) return false;
  if (!S_ISREG(about.st_mode)) {
    errno = S_ISDIR(about.st_mode) ? EISDIR : EINVAL;
    return false;
  }
  const auto size = static_cast<size_t>(about.st_size);
  data_ = static_cast<char *>(std::malloc(2 * size + 1));
  if (data_ == nullptr) {
    errno = ENOMEM;
    return false;
  }
  while (size_ < size) {
    const ssize_t got = pread(fd, data_ + size_, size - size_, static_cast<off_t>(size_));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    size_ += static_cast<size_t>(got);
  }
  return true;
}

Name::Name(const char *base, const char *suffix) : text(nullptr) {
  if (base == nullptr) return;
  const size_t length = std::strlen(base), more = std::strlen(suffix) + 1;
  text = static_cast<char *>(std::malloc(length + more));
  if (text == nullptr) return;
  std::memcpy(text, base, length);
  std::memcpy(text + length, suffix, more);
}

Name::Name(const char *path) : text(realpath(path, nullptr)) {
  if (text == nullptr) text = strdup(path);
}

namespace {

int open_lock(const char *path) {
  const Name name(path, ".lock");
  // Readable is enough for flock(), and another user's lock may be no more.
  return name.text == nullptr ? -1 : open(name.text, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
}

bool lock_file(int fd) {
  if (fd < 0) return false;
  while (flock(fd, LOCK_EX) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

}  // namespace

FileLock::FileLock(const char *path) : file_(open_lock(path)), held_(lock_file(file_.fd)) {}

}  // namespace kpk
