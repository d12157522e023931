// What a stream capture forbids in older drivers, loading and making pools, done all the same. Both vendors have
// the function, with the same numbers.
#pragma once

namespace kpk {

// While it lives, this thread may do it. `exchange` is cuThreadExchangeStreamCaptureMode, or HIP's; null: there is none.
class RelaxedCapture {
 public:
  explicit RelaxedCapture(int (*exchange)(int *)) : exchange_(exchange) { relaxed_ = swap(); }
  ~RelaxedCapture() {
    if (relaxed_) swap();
  }
  RelaxedCapture(const RelaxedCapture &) = delete;
  RelaxedCapture &operator=(const RelaxedCapture &) = delete;

 private:
  bool swap() { return exchange_ != nullptr && exchange_(&mode_) == 0; }
  int (*exchange_)(int *);
  int mode_ = 2;  // relaxed; in between, what it was before
  bool relaxed_;
};

}  // namespace kpk
