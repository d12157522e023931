// What launches do on the fakes, where a test says so, and how long work takes: in a time of the fake's own, in which
// the host and the device go side by side, and which passes only by calls.
#ifndef KPACK_TESTS_FAKES_KERNELS_H
#define KPACK_TESTS_FAKES_KERNELS_H

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "fake.h"
#include "memory.h"

namespace fakes {

// Costs nothing until the first event or rule.
class Timeline {
 public:
  void start() { running_.store(true, std::memory_order_relaxed); }
  // The host takes `host_ns` to ask for work that the device does for `device_ns`, after what it has to do already.
  void work(uint64_t host_ns, uint64_t device_ns);
  // When the device is done with what it was asked for so far.
  uint64_t mark();
  bool reached(uint64_t device_ns);
  void wait(uint64_t device_ns);  // the host, until then
  void wait_all();
  uint64_t host_ns();
  void clear();

 private:
  std::atomic<bool> running_{false};
  std::mutex mutex_;
  uint64_t host_ns_ = 0, device_ns_ = 0;
};

// How long things take, nanoseconds.
constexpr uint64_t kLaunchNs = 2000, kAskNs = 500, kKernelNs = 3000, kFillNs = 20000, kCopyNs = 1000;
constexpr uint64_t kBytesPerNs = 3;
// What a device says its L2 has: little, so that what flushes it is quick.
constexpr int kL2Bytes = 65536;

class Kernels {
 public:
  // What the launches of a device function do from now on; null: nothing.
  void set(const char *function, const fake_kernel *kernel);
  bool any() const { return any_.load(std::memory_order_acquire); }
  bool find(const std::string &function, fake_kernel *out);
  void clear();
  // What every call gives since a kernel broke its context; 0: none has.
  std::atomic<int> broken{0};

 private:
  std::atomic<bool> any_{false};
  std::mutex mutex_;
  std::map<std::string, fake_kernel> kernels_;
};

// CUevent, hipEvent_t.
struct Event {
  std::atomic<Life> life{Life::kAlive};
  const void *context = nullptr;  // CUDA: that it was created in
  int device = 0;
  std::atomic<bool> recorded{false};
  std::atomic<uint64_t> at_ns{0};
};

Timeline &timeline();
Kernels &kernels();

// What an event call comes to, alike in both fakes.
enum { kEventInvalid = 400, kEventNotReady = 600 };
void record_event(Event *event);
int event_elapsed(const Event &begin, const Event &end, float *ms);

}  // namespace fakes
#endif
