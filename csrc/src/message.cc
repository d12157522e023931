#include "message.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace kpk {
namespace {

constexpr size_t kMessageBytes = 4096;
thread_local char t_message[kMessageBytes];
thread_local int t_driver_code;

}  // namespace

void Text::clear() {
  length_ = 0;
  if (bytes_ != 0) data_[0] = '\0';
}

void Text::add(const char *format, ...) {
  const bool full = length_ >= bytes_;
  va_list args;
  va_start(args, format);
  const int more =
      std::vsnprintf(full ? nullptr : data_ + length_, full ? 0 : bytes_ - length_, format, args);
  va_end(args);
  if (more > 0) length_ += static_cast<size_t>(more);
  if (length_ >= bytes_ && bytes_ > 4) std::memcpy(data_ + bytes_ - 4, "...", 4);
}

Text message() {
  t_driver_code = 0;
  return Text(t_message, kMessageBytes);
}

void set_driver_code(int code) { t_driver_code = code; }

kpk_status fail(kpk_status status, const char *format, ...) {
  t_driver_code = 0;
  va_list args;
  va_start(args, format);
  const int length = std::vsnprintf(t_message, kMessageBytes, format, args);
  va_end(args);
  if (length >= static_cast<int>(kMessageBytes)) std::memcpy(t_message + kMessageBytes - 4, "...", 4);
  return status;
}

}  // namespace kpk

extern "C" {

const char *kpk_message(void) { return kpk::t_message; }
int kpk_driver_code(void) { return kpk::t_driver_code; }

const char *kpk_status_name(kpk_status status) {
  switch (status) {
    case KPK_OK: return "KPK_OK";
    case KPK_DRY: return "KPK_DRY";
    case KPK_ERROR_ARGUMENT: return "KPK_ERROR_ARGUMENT";
    case KPK_ERROR_NO_VARIANT: return "KPK_ERROR_NO_VARIANT";
    case KPK_ERROR_NO_IMAGE: return "KPK_ERROR_NO_IMAGE";
    case KPK_ERROR_NO_DRIVER: return "KPK_ERROR_NO_DRIVER";
    case KPK_ERROR_NO_DEVICE: return "KPK_ERROR_NO_DEVICE";
    case KPK_ERROR_STREAM: return "KPK_ERROR_STREAM";
    case KPK_ERROR_GRID: return "KPK_ERROR_GRID";
    case KPK_ERROR_LIMIT: return "KPK_ERROR_LIMIT";
    case KPK_ERROR_DRIVER: return "KPK_ERROR_DRIVER";
    case KPK_ERROR_FORMAT: return "KPK_ERROR_FORMAT";
    case KPK_ERROR_MEMORY: return "KPK_ERROR_MEMORY";
    case KPK_ERROR_UNSUPPORTED: return "KPK_ERROR_UNSUPPORTED";
  }
  return "unknown kpk_status";
}

}  // extern "C"
