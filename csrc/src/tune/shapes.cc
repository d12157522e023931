#include "shapes.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "driver.h"
#include "key.h"
#include "lock.h"
#include "observe.h"

namespace kpk {
namespace {

constexpr char kHead[] = "# kpack shapes 1\nkernel,call\n";
constexpr uint32_t kMostRows =
    100000;  // that one process writes: a program whose calls are all new is not followed
constexpr uint64_t kMostAlignment = 256;

// Hashes, none of which is 0: open addressing, at most half full.
class Hashes {
 public:
  bool has(uint64_t hash) const { return cells_ != nullptr && *cell(hash) == hash; }
  // False if there is no memory.
  bool add(uint64_t hash) {
    if (has(hash)) return true;
    if (2 * (count_ + 1) > size_ && !grow()) return false;
    *cell(hash) = hash;
    ++count_;
    return true;
  }
  void clear() {
    std::free(cells_);
    cells_ = nullptr;
    size_ = count_ = 0;
  }

 private:
  uint64_t *cell(uint64_t hash) const {
    uint64_t i = hash;
    while (cells_[i & (size_ - 1)] != 0 && cells_[i & (size_ - 1)] != hash) ++i;
    return &cells_[i & (size_ - 1)];
  }
  bool grow() {
    Hashes larger;
    larger.size_ = size_ == 0 ? 1024 : 2 * size_;
    larger.cells_ = static_cast<uint64_t *>(std::calloc(larger.size_, sizeof *cells_));
    if (larger.cells_ == nullptr) return false;
    for (uint64_t i = 0; i < size_; ++i) {
      if (cells_[i] != 0) *larger.cell(cells_[i]) = cells_[i];
    }
    larger.count_ = count_;
    std::free(cells_);
    *this = larger;
    return true;
  }
  uint64_t *cells_ = nullptr;
  uint64_t size_ = 0, count_ = 0;
};

// Under the lock.
Mutex g_mutex;
char *g_path;
Hashes g_calls;  // seen in this process, by what makes them new
Hashes g_rows;   // in the file, as text
off_t g_read;    // so far the file is read
uint32_t g_written;
bool g_failed;  // it has been said why

uint64_t aligned(uint64_t address) { return ((address | kMostAlignment) & -(address | kMostAlignment)); }

// What makes a call new: all of it but floats and where memory is.
uint64_t hash_of(const char *kernel, const Call &call) {
  uint64_t hash = mix(kWordSeed, hash_text(kernel));
  for (uint32_t i = 0; i < call.count; ++i) {
    const kpk_arg &arg = call.args[i];
    hash = mix(hash, arg.type);
    if (is_pointer(arg.type)) {
      hash = mix(hash, arg.bits == 0 ? 0 : aligned(arg.bits));
    } else if (arg.type == KPK_STRING && arg.bits != 0) {
      hash = mix(hash, hash_text(reinterpret_cast<const char *>(arg.bits)));
    } else if (is_tensordesc(arg.type) && arg.bits != 0) {
      HostArray<char> text;
      if (write_text(&text, [&](Text *out) { add_shape(arg, out); }))
        hash = mix(hash, hash_text(text.data()));
    } else if (!is_float(arg.type)) {
      hash = mix(hash, arg.bits);
    }
  }
  return finish(hash);
}

void add_sizes(const int64_t *sizes, uint32_t rank, Text *out) {
  constexpr uint32_t most = sizeof(kpk_tensor::shape) / sizeof(int64_t);
  out->add("[");
  for (uint32_t i = 0; i < rank && i < most; ++i)
    out->add("%s%lld", i == 0 ? "" : ",", static_cast<long long>(sizes[i]));
  out->add("]");
}

void add_tensor(uint8_t type, const kpk_tensor &tensor, Text *out) {
  add_type_text(type, out);
  add_sizes(tensor.shape, tensor.rank, out);
  add_sizes(tensor.strides, tensor.rank, out);
  out->add(":%llu", static_cast<unsigned long long>(aligned(tensor.address)));
  if ((tensor.flags & KPK_TENSOR_NAN_PADDING) != 0) out->add("+nan");
  if ((tensor.flags & KPK_TENSOR_ROUND_TF32) != 0) out->add("+tf32");
}

// With something in it that no integer has.
void add_float(uint8_t type, uint64_t bits, Text *out) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  if (value != value) return out->add("nan");
  char number[40];
  Text text(number, sizeof number);
  text.add(type == KPK_FP64 ? "%.17g" : "%.9g", value);
  out->add("%s%s", number, std::strpbrk(number, ".ein") == nullptr ? ".0" : "");
}

// One field of CSV, in quotes if it needs them.
void add_field(const char *text, Text *out) {
  if (std::strpbrk(text, ",\"\r\n") == nullptr) return out->add("%s", text);
  out->add("\"");
  for (; *text != '\0'; ++text) out->add("%s%c", *text == '"' ? "\"" : "", *text);
  out->add("\"");
}

bool write_row(const KernelView &view, const char *kernel, const Call &call, HostArray<char> *out) {
  HostArray<char> text;
  const bool written = write_text(&text, [&](Text *to) {
    for (uint32_t i = 0; i < call.count; ++i) {
      to->add("%s%s=", i == 0 ? "" : " ", kpk::text(view.params[i].name));
      add_shape(call.args[i], to);
    }
  });
  return written && write_text(out, [&](Text *to) {
           add_field(kernel, to);
           to->add(",");
           add_field(text.data(), to);
         });
}

uint64_t hash_row(const char *text, size_t bytes) {
  uint64_t hash = KPK_SIGNATURE_SEED;
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<uint8_t>(text[i])) * KPK_SIGNATURE_PRIME;
  return finish(hash);
}

// Takes in the rows that others have added. A row in quotes may have line ends in it, but never of ours.
bool read_rows(int file, bool *ends) {
  const off_t end = lseek(file, 0, SEEK_END);
  if (end < g_read) g_read = 0;  // it was written anew
  HostArray<char> text;
  const auto bytes = static_cast<size_t>(end - g_read);
  *ends = true;
  if (end < 0 || !text.allocate(bytes + 1)) return false;
  if (bytes != 0 && pread(file, text.data(), bytes, g_read) != static_cast<ssize_t>(bytes)) return false;
  size_t begin = 0;
  for (size_t i = 0; i < bytes; ++i) {
    if (text[i] != '\n') continue;
    if (!g_rows.add(hash_row(&text[begin], i - begin))) return false;
    begin = i + 1;
  }
  *ends = begin == bytes;  // else a crash has cut the last one
  g_read += static_cast<off_t>(begin);
  return true;
}

bool append(int file, const HostArray<char> &row) {
  HostArray<char> line;
  bool ends = true;
  if (!read_rows(file, &ends)) return false;
  const size_t row_bytes = std::strlen(row.data());
  if (g_rows.has(hash_row(row.data(), row_bytes))) return true;
  const bool empty = lseek(file, 0, SEEK_END) == 0;
  const bool written = write_text(
      &line, [&](Text *out) { out->add("%s%s%s\n", ends ? "" : "\n", empty ? kHead : "", row.data()); });
  if (!written) return false;
  const size_t bytes = std::strlen(line.data());
  if (write(file, line.data(), bytes) != static_cast<ssize_t>(bytes)) return false;
  ++g_written;
  return read_rows(file, &ends);
}

bool write_down(const HostArray<char> &row) {
  const int file = open(g_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return false;
  const bool done = flock(file, LOCK_EX) == 0 && append(file, row);
  const int code = errno;
  close(file);
  errno = code;
  return done;
}

}  // namespace

void add_shape(const kpk_arg &arg, Text *out) {
  if (is_pointer(arg.type)) {
    if (arg.bits == 0) return out->add("null");
    add_type_text(arg.type, out);
    return out->add(":%llu", static_cast<unsigned long long>(aligned(arg.bits)));
  }
  if (is_tensordesc(arg.type)) {
    const auto *tensor = reinterpret_cast<const kpk_tensor *>(arg.bits);
    return tensor == nullptr ? out->add("null") : add_tensor(arg.type, *tensor, out);
  }
  if (is_float(arg.type)) return add_float(arg.type, arg.bits, out);
  const auto *string = reinterpret_cast<const char *>(arg.bits);
  switch (arg.type) {
    case KPK_I1: return out->add(arg.bits != 0 ? "true" : "false");
    case KPK_U64: return out->add("%llu", static_cast<unsigned long long>(arg.bits));
    case KPK_STRING: return string == nullptr ? out->add("null") : add_quoted(string, out);
    case KPK_DTYPE: return out->add("%s", type_name(static_cast<uint8_t>(arg.bits)));
    case KPK_NONE: return out->add("none");
    default: return out->add("%lld", static_cast<long long>(arg.bits));
  }
}

void set_recording(bool on, const char *path) {
  const Lock lock(g_mutex);
  std::free(g_path);
  g_path = on ? strdup(path == nullptr ? "kpack_shapes.csv" : path) : nullptr;
  g_calls.clear();
  g_rows.clear();
  g_read = 0;
  g_written = 0;
  g_failed = false;
  if (on) {
    g_switches.watched.fetch_or(kRecorded, std::memory_order_release);
  } else {
    g_switches.watched.fetch_and(static_cast<uint8_t>(~kRecorded), std::memory_order_release);
  }
}

void record_call(const KernelView &view, const char *kernel, const Call &call) {
  const uint64_t hash = hash_of(kernel, call);
  const Lock lock(g_mutex);
  if (g_path == nullptr || g_failed || g_calls.has(hash)) return;
  if (g_written == kMostRows) {
    g_failed = true;
    return log_line("%s: %u calls are written down, and no more", g_path, kMostRows);
  }
  HostArray<char> row;
  errno = ENOMEM;
  if (g_calls.add(hash) && write_row(view, kernel, call, &row) && write_down(row)) return;
  g_failed = true;
  say("%s: expected to write calls down there, got: %s", g_path, std::strerror(errno));
}

}  // namespace kpk
