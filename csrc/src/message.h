// What a thread was last told: one status, one text. Text is written into a fixed buffer of the thread,
// so reporting an error never allocates and cannot fail.
#pragma once

#include <kpack/kpack.h>

#include <cstdarg>
#include <cstddef>

namespace kpk {

// Text of bounded length; what does not fit is cut and ends in "...".
class Text {
 public:
  Text(char *data, size_t bytes) : data_(data), bytes_(bytes) { clear(); }
  // Takes what is added and keeps nothing of it, not even its length.
  static Text nowhere() {
    Text text(nullptr, 0);
    text.nowhere_ = true;
    return text;
  }
  void clear();
  [[gnu::format(printf, 2, 3)]] void add(const char *format, ...);
  [[gnu::format(printf, 2, 0)]] void add_list(const char *format, va_list args);
  // Length that the text has, or would have without the bound.
  size_t length() const { return length_; }

 private:
  char *data_;
  size_t bytes_;
  size_t length_ = 0;
  bool nowhere_ = false;
};

// The message of this thread, emptied. Its driver code is set back to 0. While the thread is quiet: text that goes
// nowhere.
Text message();
void set_driver_code(int code);

// Sets the message and returns `status`.
[[gnu::format(printf, 2, 3)]] kpk_status fail(kpk_status status, const char *format, ...);

// As long as it lives, statuses of this thread come without a message: nothing is formatted, and what the thread
// was told before stays. For questions, whose answer is the status.
class Quiet {
 public:
  Quiet();
  ~Quiet();
  Quiet(const Quiet &) = delete;
  Quiet &operator=(const Quiet &) = delete;

 private:
  bool before_;
};

constexpr size_t kMessageBytes = 4096;

// Keeps what this thread was told over calls that say something else.
class KeepMessage {
 public:
  KeepMessage();
  ~KeepMessage();
  KeepMessage(const KeepMessage &) = delete;
  KeepMessage &operator=(const KeepMessage &) = delete;

 private:
  char text_[kMessageBytes];
  int driver_code_;
};

}  // namespace kpk
