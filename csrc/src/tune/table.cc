// The file is read whole, line by line: an entry never has a line break inside, so what garbles one line garbles no
// other. It is written whole, under a lock, to another file that then takes its name.
#include "tune/table.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "lock.h"
#include "message.h"
#include "tune/line.h"

namespace kpk {
namespace {

constexpr char kTitle[] = "# kpack tuning table ";
constexpr char kVersion[] = "1";
constexpr char kColumns[] = "kernel,hash,device,overload,call,choice,median_us,fixed_us,left_out";
constexpr uint32_t kColumnCount = 9;

kpk_status io_failed(const char *path, const char *wanted) {
  const int code = errno;
  return fail(KPK_ERROR_ARGUMENT, "tuning table %s: expected %s, got %s", path, wanted, std::strerror(code));
}

kpk_status no_memory(const char *path) {
  return fail(KPK_ERROR_MEMORY, "tuning table %s: expected memory to read it, got none", path);
}

// ---- lines

enum class Kind : uint8_t { kEntry, kKept, kNothing, kRejected };

// Why a line is none. Texts live as long as the buffer that the line was parsed into.
struct Reason {
  const char *expected;
  const char *got;
};

// Walks over the lines of a table. A title of another version makes foreign what follows it.
class Reader {
 public:
  // `scratch` has room for the longest line and its NUL.
  Reader(Bytes file, char *scratch) : lines_(file), scratch_(scratch) {}

  bool next() {
    if (!lines_.next(&line_)) return false;
    ++number_;
    kind_ = parse();
    return true;
  }
  Bytes line() const { return line_; }
  uint32_t number() const { return number_; }
  Kind kind() const { return kind_; }
  const Entry &entry() const { return entry_; }
  const Reason &reason() const { return reason_; }

 private:
  // Is the line `text` and then `more`, and nothing else?
  bool is(const char *text, const char *more) const {
    const size_t size = std::strlen(text);
    return line_.size == size + std::strlen(more) && std::memcmp(line_.data, text, size) == 0 &&
           std::memcmp(line_.data + size, more, line_.size - size) == 0;
  }

  Kind reject(const char *expected, const char *got) {
    reason_ = {expected, got};
    return Kind::kRejected;
  }

  Kind parse() {
    if (line_.size == 0) return Kind::kNothing;  // nothing: like a title, it is written anew or not at all
    std::memcpy(scratch_, line_.data, line_.size);
    scratch_[line_.size] = '\0';
    if (std::strncmp(scratch_, kTitle, sizeof kTitle - 1) == 0) {
      foreign_ = !is(kTitle, kVersion);
      return foreign_ ? reject("version 1", scratch_ + 2) : Kind::kNothing;
    }
    if (foreign_) return reject("an entry of version 1", "one of another version");
    if (scratch_[0] == '#') return Kind::kKept;  // a person's
    if (is(kColumns, "")) return Kind::kNothing;
    return parse_entry();
  }

  Kind parse_entry() {
    if (has_control(line_)) return reject("text", "a control character");
    char *fields[kColumnCount + 1];
    const uint32_t count = split_line(scratch_, fields, kColumnCount + 1);
    if (count == 0) return reject("quotes in pairs around whole values", "others");
    if (count != kColumnCount) return reject("9 values", count > kColumnCount ? "more" : "fewer");
    entry_ = {fields[0], 0, fields[2], fields[3], fields[4], fields[5], 0, 0, fields[8]};
    if (!read_hex(fields[1], &entry_.hash)) return reject("a hash of 16 hexadecimal digits", fields[1]);
    if (!read_decimal(fields[6], &entry_.median_us))
      return reject("median_us: microseconds as 12.345", fields[6]);
    if (!read_decimal(fields[7], &entry_.fixed_us))
      return reject("fixed_us: microseconds as 12.345", fields[7]);
    for (const char *needed : {entry_.kernel, entry_.device, entry_.overload, entry_.choice}) {
      if (*needed == '\0') return reject("a kernel, device, overload and choice", "an empty one");
    }
    return Kind::kEntry;
  }

  Lines lines_;
  char *scratch_;
  Bytes line_ = {};
  uint32_t number_ = 0;
  Kind kind_ = Kind::kNothing;
  bool foreign_ = false;
  Entry entry_ = {};
  Reason reason_ = {};
};

// ---- telling, once

Mutex g_mutex;
uint64_t g_told[64];  // hashes of path and line
uint32_t g_told_count;

bool first_time(const char *path, Bytes line) {
  const uint64_t hash = hash_bytes(hash_bytes(kHashSeed, {path, std::strlen(path)}), line);
  const Lock lock(g_mutex);
  for (uint32_t i = 0; i < g_told_count; ++i) {
    if (g_told[i] == hash) return false;
  }
  if (g_told_count == sizeof g_told / sizeof *g_told) return false;
  g_told[g_told_count++] = hash;
  return true;
}

void tell(const char *path, const Reader &reader) {
  const char *level = std::getenv("KPACK_LOG");
  if (level == nullptr || (std::strcmp(level, "info") != 0 && std::strcmp(level, "debug") != 0)) return;
  if (!first_time(path, reader.line())) return;
  char data[1024];
  Text text(data, sizeof data - 1);
  text.add("kpack: %s:%" PRIu32 ": expected %s, got %.200s; the line is kept aside", path, reader.number(),
           reader.reason().expected, reader.reason().got);
  const size_t length = std::strlen(data);
  data[length] = '\n';
  if (write(STDERR_FILENO, data, length + 1) < 0) return;  // a log that cannot be written is no error
}

// ---- which entries are of one key

uint64_t key_hash(const Entry &entry) {
  uint64_t hash = kHashSeed;
  for (const char *part : {entry.kernel, entry.device, entry.overload, entry.call}) {
    hash = hash_bytes(hash, {part, std::strlen(part) + 1});
  }
  return hash;
}

bool same_key(const Entry &a, const Entry &b) {
  return std::strcmp(a.kernel, b.kernel) == 0 && std::strcmp(a.device, b.device) == 0 &&
         std::strcmp(a.overload, b.overload) == 0 && std::strcmp(a.call, b.call) == 0;
}

// The entries to merge, by key; of several of one key the last.
class Newer {
 public:
  ~Newer() { std::free(slots_); }
  bool fill(const Entry *entries, uint32_t count) {
    entries_ = entries;
    while (size_ < 2 * static_cast<size_t>(count)) size_ *= 2;
    slots_ = static_cast<uint32_t *>(std::calloc(size_, sizeof *slots_));
    if (slots_ == nullptr) return false;
    for (uint32_t i = 0; i < count; ++i) *slot(entries[i]) = i + 1;
    return true;
  }
  bool has(const Entry &entry) const { return *slot(entry) != 0; }
  bool is_last(uint32_t i) const { return *slot(entries_[i]) == i + 1; }

 private:
  uint32_t *slot(const Entry &entry) const {
    size_t at = key_hash(entry) & (size_ - 1);
    while (slots_[at] != 0 && !same_key(entries_[slots_[at] - 1], entry)) at = (at + 1) & (size_ - 1);
    return &slots_[at];
  }

  const Entry *entries_ = nullptr;
  uint32_t *slots_ = nullptr;
  size_t size_ = 2;
};

// ---- writing

void add_entry(Buffer *out, const Entry &entry) {
  out->add_value(entry.kernel);
  out->add_hex(entry.hash);
  for (const char *text : {entry.device, entry.overload, entry.call, entry.choice}) out->add_value(text);
  out->add_decimal(entry.median_us);
  out->add_decimal(entry.fixed_us);
  out->add_value(entry.left_out);
  out->end_line();
}

void add_rejected(Buffer *out, const Reader &reader) {
  out->add("# expected ");
  out->add(reader.reason().expected);
  out->add(", got ");
  out->add_clean(reader.reason().got);
  out->add("\n");
  out->add(reader.line());
  out->add("\n");
}

// What a table becomes, and what is kept aside of it.
void merge(Reader reader, const Newer &newer, const Entry *entries, uint32_t count, Buffer *table,
           Buffer *rejected) {
  table->add(kTitle);
  table->add(kVersion);
  table->add("\n");
  table->add(kColumns);
  table->add("\n");
  while (reader.next()) {
    if (reader.kind() == Kind::kRejected) add_rejected(rejected, reader);
    const bool replaced = reader.kind() == Kind::kEntry && newer.has(reader.entry());
    if (reader.kind() == Kind::kKept || (reader.kind() == Kind::kEntry && !replaced)) {
      table->add(reader.line());
      table->add("\n");
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (newer.is_last(i)) add_entry(table, entries[i]);
  }
}

// Appends to what was kept aside before.
kpk_status append(const char *path, Bytes content) {
  if (content.size == 0) return KPK_OK;
  const File file(open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
  if (file.fd < 0 || !write_all(file.fd, content) || fsync(file.fd) != 0)
    return io_failed(path, "a file to keep lines aside in");
  return KPK_OK;
}

// The file at `path` becomes `content`, or stays. The lock is held, so that the name of the other one is free.
kpk_status replace(const char *path, Bytes content) {
  const Name partial(path, ".partial");
  if (partial.text == nullptr) return no_memory(path);
  struct stat before;
  const bool exists = stat(path, &before) == 0;
  const File file(open(partial.text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.fd < 0 || (exists && fchmod(file.fd, before.st_mode & 07777) != 0) ||
      !write_all(file.fd, content) || fsync(file.fd) != 0 || rename(partial.text, path) != 0) {
    const int code = errno;
    unlink(partial.text);
    errno = code;
    return io_failed(path, "a file that can be written");
  }
  sync_folder(path);
  return KPK_OK;
}

}  // namespace

kpk_status read_table(const char *path, void (*take)(void *user, const Entry &entry), void *user,
                      uint32_t *rejected) {
  *rejected = 0;
  Content content;
  if (!content.read(path)) {
    if (errno == ENOENT) return KPK_OK;
    return errno == ENOMEM ? no_memory(path) : io_failed(path, "a file that can be read");
  }
  Reader reader(content.bytes(), content.scratch());
  while (reader.next()) {
    if (reader.kind() == Kind::kEntry) take(user, reader.entry());
    if (reader.kind() != Kind::kRejected) continue;
    ++*rejected;
    tell(path, reader);
  }
  return KPK_OK;
}

kpk_status merge_entries(const char *given, const Entry *entries, uint32_t count) {
  const Name path(given);
  const Name aside(path.text, ".rejected");
  if (path.text == nullptr || aside.text == nullptr) return no_memory(given);
  const FileLock lock(path.text);
  if (!lock.held()) return io_failed(path.text, "a folder that can be written to, for its lock");
  Content content;
  if (!content.read(path.text) && errno != ENOENT)
    return errno == ENOMEM ? no_memory(path.text) : io_failed(path.text, "a file that can be read");
  Newer newer;
  if (!newer.fill(entries, count)) return no_memory(path.text);
  Buffer table, rejected;
  merge(Reader(content.bytes(), content.scratch()), newer, entries, count, &table, &rejected);
  if (table.failed() || rejected.failed()) return no_memory(path.text);
  // First aside, then out of the table: a kill in between leaves the lines in both.
  const kpk_status status = append(aside.text, rejected.bytes());
  if (status != KPK_OK) return status;
  const kpk_status replaced = replace(path.text, table.bytes());
  if (replaced == KPK_OK) forget_crashes(path.text, entries, count);
  return replaced;
}

}  // namespace kpk
