// What a thread was last told: one status, one text. Text is written into a fixed buffer of the thread,
// so reporting an error never allocates and cannot fail.
#pragma once

#include <kpack/kpack.h>

#include <cstddef>

namespace kpk {

// Text of bounded length; what does not fit is cut and ends in "...".
class Text {
 public:
  Text(char *data, size_t bytes) : data_(data), bytes_(bytes) { clear(); }
  void clear();
  [[gnu::format(printf, 2, 3)]] void add(const char *format, ...);
  // Length that the text has, or would have without the bound.
  size_t length() const { return length_; }

 private:
  char *data_;
  size_t bytes_;
  size_t length_ = 0;
};

// The message of this thread, emptied. Its driver code is set back to 0.
Text message();
void set_driver_code(int code);

// Sets the message and returns `status`.
[[gnu::format(printf, 2, 3)]] kpk_status fail(kpk_status status, const char *format, ...);

}  // namespace kpk
