// What a fake remembers: calls, launches, violations, loads; and what it was told to do wrong. One
// Recorder a library. enter() is the first line of every entry point; without faults, delays or hidden
// names it is one atomic add.
#ifndef KPACK_TESTS_FAKES_RECORDER_H
#define KPACK_TESTS_FAKES_RECORDER_H

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fake.h"

namespace fakes {

constexpr int kNotSupported = 801;  // of CUDA and of HIP

// An entry point: since which driver version it is there (the driver's own numbering).
struct Entry {
  const char *name;
  int since;
};

// A launch that passed all checks, with its own copy of what the caller may take back.
struct Launch {
  fake_launch facts = {};
  std::string function;
  std::vector<unsigned char> params;
};

class Recorder {
 public:
  // `library`: "cuda" or "hip", the first word of each line of the log.
  Recorder(const char *library, const Entry *entries, unsigned count);

  // Counts the call; returns the error it shall fail with, or 0.
  int enter(unsigned call) {
    counts_[call].fetch_add(1, std::memory_order_relaxed);
    return armed_.load(std::memory_order_acquire) ? interfere(call) : 0;
  }
  const char *name(unsigned call) const { return entries_[call].name; }
  bool hidden(unsigned call);
  // Hides every entry point that a driver of this version does not have yet.
  void set_version(int version);

  bool recording() const { return recording_.load(std::memory_order_relaxed); }
  void add(Launch launch);
  void violate(const std::string &sentence);
  void loaded(int device);
  void loaded_unaligned() { unaligned_.fetch_add(1, std::memory_order_relaxed); }

  // The controls of fake.h.
  void reset();
  void record(bool on) { recording_.store(on, std::memory_order_relaxed); }
  uint64_t calls(const char *name) const { return counts_[find(name)].load(std::memory_order_relaxed); }
  uint64_t launches();
  bool launch(uint64_t index, fake_launch *out);
  uint64_t violations();
  const char *violation(uint64_t index);
  uint64_t loads(int device);
  uint64_t unaligned() const { return unaligned_.load(std::memory_order_relaxed); }
  void fail(const char *name, int code, uint64_t after, uint64_t times);
  void delay_us(const char *name, unsigned us);
  void hide(const char *name, bool hidden);

 private:
  struct Fault {
    int code = 0;
    uint64_t after = 0;
    uint64_t times = 0;  // 0: for ever
  };
  struct Rule {
    Fault fault;
    unsigned delay_us = 0;
    bool hidden = false;
    bool too_new = false;  // for the driver version
  };

  unsigned find(const char *name) const;
  int interfere(unsigned call);
  void rearm();
  void log(const std::string &line);

  const char *library_;
  const Entry *entries_;
  unsigned count_;
  std::unique_ptr<std::atomic<uint64_t>[]> counts_;
  std::atomic<bool> armed_{false};
  std::atomic<bool> recording_{true};
  std::atomic<uint64_t> unaligned_{0};

  std::mutex mutex_;  // of all that follows
  std::vector<Rule> rules_;
  std::deque<Launch> launches_;
  std::deque<std::string> violations_;
  std::map<int, uint64_t> loads_;
};

// "0x1f": for sentences.
std::string hex(uint64_t value);

}  // namespace fakes
#endif
