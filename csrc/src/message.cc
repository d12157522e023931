#include "message.h"

#include <cstdio>
#include <cstring>

namespace kpk {
namespace {

thread_local char t_message[kMessageBytes];
thread_local int t_driver_code;
thread_local bool t_quiet;

}  // namespace

void Text::clear() {
  length_ = 0;
  if (bytes_ != 0) data_[0] = '\0';
}

void Text::add(const char *format, ...) {
  va_list args;
  va_start(args, format);
  add_list(format, args);
  va_end(args);
}

void Text::add_list(const char *format, va_list args) {
  if (nowhere_) return;
  const bool full = length_ >= bytes_;
  const int more =
      std::vsnprintf(full ? nullptr : data_ + length_, full ? 0 : bytes_ - length_, format, args);
  if (more > 0) length_ += static_cast<size_t>(more);
  if (length_ >= bytes_ && bytes_ > 4) std::memcpy(data_ + bytes_ - 4, "...", 4);
}

Text message() {
  if (t_quiet) return Text::nowhere();
  t_driver_code = 0;
  return Text(t_message, kMessageBytes);
}

void set_driver_code(int code) {
  if (!t_quiet) t_driver_code = code;
}

kpk_status fail(kpk_status status, const char *format, ...) {
  if (t_quiet) return status;
  t_driver_code = 0;
  va_list args;
  va_start(args, format);
  const int length = std::vsnprintf(t_message, kMessageBytes, format, args);
  va_end(args);
  if (length >= static_cast<int>(kMessageBytes)) std::memcpy(t_message + kMessageBytes - 4, "...", 4);
  return status;
}

Quiet::Quiet() : before_(t_quiet) { t_quiet = true; }
Quiet::~Quiet() { t_quiet = before_; }

KeepMessage::KeepMessage() : driver_code_(t_driver_code) {
  std::memcpy(text_, t_message, std::strlen(t_message) + 1);
}
KeepMessage::~KeepMessage() {
  std::memcpy(t_message, text_, std::strlen(text_) + 1);
  t_driver_code = driver_code_;
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
    case KPK_UNPACK: return "KPK_UNPACK";
  }
  return "unknown kpk_status";
}

}  // extern "C"
