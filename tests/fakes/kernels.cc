#include "kernels.h"

#include <algorithm>

namespace fakes {

Timeline &timeline() {
  static Timeline *const one = new Timeline();
  return *one;
}

Kernels &kernels() {
  static Kernels *const one = new Kernels();
  return *one;
}

void Timeline::work(uint64_t host_ns, uint64_t device_ns) {
  if (!running_.load(std::memory_order_relaxed)) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  host_ns_ += host_ns;
  device_ns_ = std::max(device_ns_, host_ns_) + device_ns;
}

uint64_t Timeline::mark() {
  const std::lock_guard<std::mutex> lock(mutex_);
  host_ns_ += kAskNs;
  return device_ns_ = std::max(device_ns_, host_ns_);
}

bool Timeline::reached(uint64_t device_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return host_ns_ >= device_ns;
}

void Timeline::wait(uint64_t device_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  host_ns_ = std::max(host_ns_, device_ns);
}

void Timeline::wait_all() {
  const std::lock_guard<std::mutex> lock(mutex_);
  host_ns_ = std::max(host_ns_, device_ns_);
}

uint64_t Timeline::host_ns() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return host_ns_;
}

void Timeline::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  running_.store(false);
  host_ns_ = device_ns_ = 0;
}

void Kernels::set(const char *function, const fake_kernel *kernel) {
  timeline().start();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (kernel == nullptr) {
    kernels_.erase(function);
  } else {
    kernels_[function] = *kernel;
  }
  any_.store(!kernels_.empty(), std::memory_order_release);
}

bool Kernels::find(const std::string &function, fake_kernel *out) {
  if (!any()) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = kernels_.find(function);
  if (found == kernels_.end()) return false;
  *out = found->second;
  return true;
}

void Kernels::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  kernels_.clear();
  any_.store(false);
  broken.store(0);
}

void record_event(Event *event) {
  event->at_ns.store(timeline().mark());
  event->recorded.store(true);
}

int event_elapsed(const Event &begin, const Event &end, float *ms) {
  if (!begin.recorded.load() || !end.recorded.load()) return kEventInvalid;
  const uint64_t from = begin.at_ns.load(), to = end.at_ns.load();
  if (!timeline().reached(from) || !timeline().reached(to)) return kEventNotReady;
  *ms = static_cast<float>(static_cast<int64_t>(to - from)) / 1e6f;
  return 0;
}

}  // namespace fakes
