// Captures, arguments and configurations.
#include "common.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace fakes {
namespace {

thread_local int t_mode = kGlobal;

}  // namespace

std::string configuration_text(const char *text, const char *variable, const char *otherwise) {
  if (text != nullptr && *text != '\0') return text;
  const char *environment = std::getenv(variable);
  return environment != nullptr && *environment != '\0' ? environment : otherwise;
}

Configuration parse_configuration(const std::string &text) {
  Configuration out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find_first_of(",;", at), text.size());
    const std::string word = text.substr(at, end - at);
    const size_t equals = word.find('=');
    if (equals != std::string::npos) {
      out.settings[word.substr(0, equals)] = std::strtoll(word.c_str() + equals + 1, nullptr, 0);
    } else if (!word.empty() && word != "none") {
      out.devices.push_back(word);
    }
    at = end + 1;
  }
  return out;
}

int Captures::begin(Capture *capture, int mode) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (mode < kGlobal || mode > kRelaxed) return kInvalidValue;
  if (capture->status.load() != kNone) return kIllegalState;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->status.store(kActive);
  active_.push_back(capture);
  count_.store(static_cast<int>(active_.size()));
  return kOk;
}

int Captures::end(Capture *capture) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int status = capture->status.load();
  if (status == kNone) return kIllegalState;
  if (capture->mode != kRelaxed && capture->thread != std::this_thread::get_id()) return kCaptureWrongThread;
  capture->status.store(kNone);
  active_.erase(std::find(active_.begin(), active_.end(), capture));
  count_.store(static_cast<int>(active_.size()));
  return status == kInvalidated ? kCaptureInvalidated : kOk;
}

bool Captures::forbids_unsafe_call() {
  if (!any() || t_mode == kRelaxed) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  bool forbidden = false;
  for (Capture *capture : active_) {
    const bool own = capture->thread == std::this_thread::get_id() && capture->mode != kRelaxed;
    const bool foreign = t_mode == kGlobal && capture->mode == kGlobal;
    if (!own && !foreign) continue;
    capture->status.store(kInvalidated);
    forbidden = true;
  }
  return forbidden;
}

void Captures::invalidate(Capture *capture) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (capture->status.load() == kActive) capture->status.store(kInvalidated);
}

int Captures::exchange_mode(int *mode) {
  if (mode == nullptr || *mode < kGlobal || *mode > kRelaxed) return kInvalidValue;
  std::swap(*mode, t_mode);
  return kOk;
}

void Captures::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Capture *capture : active_) capture->status.store(kNone);
  active_.clear();
  count_.store(0);
}

bool read_extra(void **extra, bool any_order, uintptr_t end, Arguments *out) {
  const auto word = [&](unsigned i) { return reinterpret_cast<uintptr_t>(extra[i]); };
  if (!any_order && (word(0) != 1 || word(2) != 2 || word(4) != end)) return false;
  bool sized = false;
  for (unsigned i = 0; extra[i] != nullptr && word(i) != end; i += 2) {
    if (word(i) == 1) {
      out->block = static_cast<const unsigned char *>(extra[i + 1]);
    } else if (word(i) == 2) {
      if (extra[i + 1] == nullptr) return false;
      out->block_bytes = *static_cast<const size_t *>(extra[i + 1]);
      sized = true;
    } else {
      return false;
    }
  }
  return sized && (out->block != nullptr || out->block_bytes == 0);
}

bool copy_arguments(const Kernel &kernel, const Arguments &arguments, std::vector<unsigned char> *out) {
  out->assign(kernel.param_bytes, 0);
  if (arguments.pointers == nullptr) {
    if (arguments.block_bytes != 0) std::memcpy(out->data(), arguments.block, arguments.block_bytes);
    return true;
  }
  for (size_t i = 0; i < kernel.params.size(); ++i) {
    const void *value = arguments.pointers[i];
    if (value == nullptr) return false;
    std::memcpy(out->data() + kernel.params[i].offset, value, kernel.params[i].size);
  }
  return true;
}

int kernel_error(const std::string &function) {
  fake_kernel kernel;
  return kernels().find(function, &kernel) ? kernel.error : 0;
}

int run_kernel(Launch launch) {
  fake_kernel kernel{};
  const bool runs = launch.facts.captured == 0;
  const bool said = runs && kernels().find(launch.function, &kernel);
  if (runs) timeline().work(kLaunchNs, kernel.takes_ns != 0 ? kernel.takes_ns : kKernelNs);
  if (said && kernel.body != nullptr) {
    fake_launch facts = launch.facts;
    facts.function = launch.function.c_str();
    facts.params = launch.params.data();
    facts.param_bytes = static_cast<uint32_t>(launch.params.size());
    kernel.body(kernel.user, &facts);
  }
  if (said && kernel.breaks != 0) kernels().broken.store(kernel.breaks);
  if (recorder().recording()) recorder().add(std::move(launch));
  return kOk;
}

void check_intact(const char *call, const Image &image) {
  const char *what = nullptr;
  if (!mapped(image.data, image.size)) {
    what = " are unmapped";
  } else if (fake::checksum(image.data, image.size) != image.checksum) {
    what = " are not those that were loaded";
  }
  if (what == nullptr) return;
  recorder().violate(std::string(call) + ": the " + std::to_string(image.size) + " bytes of the image at " +
                     hex(reinterpret_cast<uintptr_t>(image.data)) + what +
                     ", and the driver still needs them");
}

}  // namespace fakes
