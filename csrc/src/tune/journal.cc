// The crash journal: a line for each trial, "+" while it runs and "-" after. Whether who wrote a line still lives, the
// kernel knows: as long as a trial runs, its process holds a lock on one byte of the file, far behind its end. A
// process id would be another process's by the time that somebody asks, or of another machine or container.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "lock.h"
#include "message.h"
#include "tune/line.h"
#include "tune/table.h"

namespace kpk {
namespace {

constexpr char kSuffix[] = ".trying";
constexpr off_t kLockBase = off_t{1} << 40;
constexpr uint32_t kValues = 6;

struct flock byte_lock(short type, off_t line) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = kLockBase + line;
  lock.l_len = 1;
  return lock;
}

// Does a process that lives run the trial of the line at `offset`? The lock on the table is held, so that a line
// without a lock is not one of which the lock is still to come.
bool runs(int fd, off_t offset) {
  struct flock lock = byte_lock(F_WRLCK, offset);
  return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

struct Line {
  off_t offset;
  char *values[kValues + 1];  // kernel, hash, device, overload, call, contender
};

// The lines of trials that were begun and not ended.
class Open {
 public:
  explicit Open(const Content &content)
      : lines_(content.bytes()), start_(content.bytes().data), scratch_(content.scratch()) {}
  bool next(Line *out) {
    for (Bytes line; lines_.next(&line);) {
      if (line.size == 0 || line.data[0] != '+') continue;
      std::memcpy(scratch_, line.data, line.size);
      scratch_[line.size] = '\0';
      out->offset = line.data - start_;
      // A kill while the line was written leaves a part of it: nothing had run.
      if (split_line(scratch_ + 1, out->values, kValues + 1) == kValues) return true;
    }
    return false;
  }

 private:
  Lines lines_;
  const char *start_;
  char *scratch_;
};

bool is_of(const Line &line, const Entry &entry) {
  uint64_t hash = 0;
  return std::strcmp(line.values[0], entry.kernel) == 0 && read_hex(line.values[1], &hash) &&
         hash == entry.hash && std::strcmp(line.values[2], entry.device) == 0 &&
         std::strcmp(line.values[3], entry.overload) == 0 && std::strcmp(line.values[4], entry.call) == 0;
}

void write_line(Buffer *out, const Entry &entry, const char *contender) {
  out->add("+");
  out->add_value(entry.kernel);
  out->add_hex(entry.hash);
  for (const char *text : {entry.device, entry.overload, entry.call, contender}) out->add_value(text);
  out->end_line();
}

// A trial of this process that runs.
struct Trial {
  int fd;
  off_t offset;
  uint64_t line;  // hash of the path and what the line says
  Trial *next;
};
Mutex g_mutex;
Trial *g_trials;

uint64_t hash_of(const char *path, Bytes line) {
  return hash_bytes(hash_bytes(kHashSeed, {path, std::strlen(path)}), line);
}

// Appends the line and locks its byte; false, and errno, on failure.
bool append(int fd, Bytes line, off_t *offset) {
  Content content;
  if (!content.read(fd)) return false;
  Line open;
  const Bytes before = content.bytes();
  if (Open(content).next(&open)) {
    *offset = static_cast<off_t>(before.size);
    const bool torn = before.data[before.size - 1] != '\n';
    if (torn && pwrite(fd, "\n", 1, (*offset)++) != 1) return false;
  } else {
    *offset = 0;  // nothing of it is needed any more
    if (ftruncate(fd, 0) != 0) return false;
  }
  struct flock lock = byte_lock(F_WRLCK, *offset);
  return fcntl(fd, F_OFD_SETLK, &lock) == 0 && lseek(fd, *offset, SEEK_SET) == *offset &&
         write_all(fd, line) && fdatasync(fd) == 0;
}

void remember(int fd, off_t offset, uint64_t line) {
  auto *trial = static_cast<Trial *>(std::malloc(sizeof(Trial)));
  if (trial == nullptr) {  // then it ends now: a crash would not be remembered
    if (pwrite(fd, "-", 1, offset) == 1) close(fd);
    return;
  }
  const Lock lock(g_mutex);
  *trial = {fd, offset, line, g_trials};
  g_trials = trial;
}

}  // namespace

kpk_status begin_trial(const char *given, const Entry &entry, const char *contender) {
  const Name path(given);
  const Name journal(path.text, kSuffix);
  Buffer line;
  write_line(&line, entry, contender);
  if (journal.text == nullptr || line.failed())
    return fail(KPK_ERROR_MEMORY, "tuning table %s: expected memory for its journal, got none", given);
  const FileLock lock(path.text);
  const int fd = lock.held() ? open(journal.text, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
  off_t offset = 0;
  if (fd < 0 || !append(fd, line.bytes(), &offset)) {
    const int code = errno;
    if (fd >= 0) close(fd);
    return fail(KPK_ERROR_ARGUMENT, "%s: expected a file to note trials in, got %s", journal.text,
                std::strerror(code));
  }
  remember(fd, offset, hash_of(path.text, line.bytes()));
  return KPK_OK;
}

void end_trial(const char *given, const Entry &entry, const char *contender) {
  const Name path(given);
  Buffer line;
  write_line(&line, entry, contender);
  if (path.text == nullptr || line.failed()) return;
  const uint64_t hash = hash_of(path.text, line.bytes());
  const Lock lock(g_mutex);
  for (Trial **at = &g_trials; *at != nullptr; at = &(*at)->next) {
    Trial *trial = *at;
    if (trial->line != hash) continue;
    // While its line says "+", nobody cuts the file.
    if (pwrite(trial->fd, "-", 1, trial->offset) == 1) close(trial->fd);
    *at = trial->next;
    std::free(trial);
    return;
  }
}

bool crashed_before(const char *given, const Entry &entry, const char *contender) {
  const Name path(given);
  const Name journal(path.text, kSuffix);
  if (journal.text == nullptr || access(journal.text, R_OK) != 0) return false;
  const FileLock lock(path.text);
  const File file(open(journal.text, O_RDONLY | O_CLOEXEC));
  Content content;
  if (!lock.held() || file.fd < 0 || !content.read(file.fd)) return false;
  Open open(content);
  for (Line line; open.next(&line);) {
    if (is_of(line, entry) && std::strcmp(line.values[5], contender) == 0 && !runs(file.fd, line.offset))
      return true;
  }
  return false;
}

void forget_crashes(const char *path, const Entry *entries, uint32_t count) {
  const Name journal(path, kSuffix);
  if (journal.text == nullptr || access(journal.text, W_OK) != 0) return;
  const File file(open(journal.text, O_RDWR | O_CLOEXEC));
  Content content;
  if (file.fd < 0 || !content.read(file.fd)) return;
  Open open(content);
  for (Line line; open.next(&line);) {
    for (uint32_t i = 0; i < count; ++i) {
      const bool remembered =
          is_of(line, entries[i]) && std::strstr(entries[i].left_out, line.values[5]) != nullptr;
      if (!remembered || runs(file.fd, line.offset)) continue;
      if (pwrite(file.fd, "-", 1, line.offset) != 1) return;
      break;
    }
  }
}

}  // namespace kpk
