// The recorder's slow side: faults, the lists, and the log.
#include "recorder.h"

#include <dlfcn.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace fakes {
namespace {

std::string triple(const uint32_t (&v)[3]) {
  return std::to_string(v[0]) + "," + std::to_string(v[1]) + "," + std::to_string(v[2]);
}

// Arguments in hexadecimal as they lie in memory, one after the other with commas.
std::string arguments(const fake_launch &facts, const std::vector<unsigned char> &params) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (uint32_t i = 0; i < facts.param_count; ++i) {
    if (i != 0) out += ',';
    for (uint32_t b = 0; b < facts.layout[i].size; ++b) {
      const unsigned char byte = params[facts.layout[i].offset + b];
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

std::string log_line(const Launch &launch) {
  const fake_launch &f = launch.facts;
  return "launch " + launch.function + " device=" + std::to_string(f.device) + " grid=" + triple(f.grid) +
         " block=" + triple(f.block) + " cluster=" + triple(f.cluster) +
         " shared=" + std::to_string(f.shared_bytes) + " cooperative=" + std::to_string(f.cooperative) +
         " captured=" + std::to_string(f.captured) + " call=" + f.call + " image=" + hex(f.image) +
         " args=" + arguments(f, launch.params);
}

// What FAKE_KERNELS says of this process, asked once; null if it says nothing.
fake_kernel_function find_fake_kernel() {
  const char *path = std::getenv("FAKE_KERNELS");
  if (path == nullptr || *path == '\0') return nullptr;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void *found = library != nullptr ? dlsym(library, "fake_run") : nullptr;
  if (found == nullptr) {
    std::fprintf(stderr, "FAKE_KERNELS: %s\n", dlerror());
    std::abort();
  }
  return reinterpret_cast<fake_kernel_function>(found);
}

// As the caller of a control sees it.
fake_launch view(const Launch &launch) {
  fake_launch out = launch.facts;
  out.function = launch.function.c_str();
  out.params = launch.params.data();
  out.param_bytes = static_cast<uint32_t>(launch.params.size());
  return out;
}

}  // namespace

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIx64, value);
  return text;
}

Recorder::Recorder(const char *library, const Entry *entries, unsigned count)
    : library_(library),
      entries_(entries),
      count_(count),
      counts_(new std::atomic<uint64_t>[count]()),
      rules_(count) {}

unsigned Recorder::find(const char *name) const {
  for (unsigned i = 0; i < count_; ++i) {
    if (std::strcmp(entries_[i].name, name) == 0) return i;
  }
  std::fprintf(stderr, "fake %s: expected the name of an entry point, got '%s'\n", library_, name);
  std::abort();
}

int Recorder::interfere(unsigned call) {
  unsigned delay = 0;
  int code = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Rule &rule = rules_[call];
    delay = rule.delay_us;
    if (rule.hidden || rule.too_new) {
      code = kNotSupported;
    } else if (rule.fault.code != 0) {
      Fault &fault = rule.fault;
      if (fault.after > 0) {
        --fault.after;
      } else {
        code = fault.code;
        if (fault.times != 0 && --fault.times == 0) fault = Fault();
      }
    }
    if (code == kNotSupported && (rule.hidden || rule.too_new)) {
      violations_.push_back(std::string(name(call)) + ": called, but this driver does not have it");
      log("violation " + violations_.back());
    }
  }
  if (delay != 0) std::this_thread::sleep_for(std::chrono::microseconds(delay));
  return code;
}

// With the lock held.
void Recorder::rearm() {
  bool armed = false;
  for (const Rule &rule : rules_) {
    armed = armed || rule.fault.code != 0 || rule.delay_us != 0 || rule.hidden || rule.too_new;
  }
  armed_.store(armed, std::memory_order_release);
}

bool Recorder::hidden(unsigned call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return rules_[call].hidden || rules_[call].too_new;
}

void Recorder::set_version(int version) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (unsigned i = 0; i < count_; ++i) rules_[i].too_new = entries_[i].since > version;
  rearm();
}

void Recorder::add(Launch launch) {
  static const fake_kernel_function kernel = find_fake_kernel();
  if (kernel != nullptr && launch.facts.captured == 0) {
    const fake_launch seen = view(launch);
    kernel(&seen);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  log(log_line(launch));
  launches_.push_back(std::move(launch));
}

void Recorder::violate(const std::string &sentence) {
  const std::lock_guard<std::mutex> lock(mutex_);
  violations_.push_back(sentence);
  log("violation " + sentence);
}

void Recorder::loaded(int device) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++loads_[device];
}

void Recorder::reset() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (unsigned i = 0; i < count_; ++i) {
    counts_[i].store(0, std::memory_order_relaxed);
    const bool too_new = rules_[i].too_new;
    rules_[i] = Rule();
    rules_[i].too_new = too_new;
  }
  rearm();
  recording_.store(true, std::memory_order_relaxed);
  unaligned_.store(0, std::memory_order_relaxed);
  launches_.clear();
  violations_.clear();
  loads_.clear();
}

uint64_t Recorder::launches() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return launches_.size();
}

bool Recorder::launch(uint64_t index, fake_launch *out) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (index >= launches_.size()) return false;
  *out = view(launches_[index]);
  return true;
}

uint64_t Recorder::violations() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return violations_.size();
}

const char *Recorder::violation(uint64_t index) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return index < violations_.size() ? violations_[index].c_str() : "";
}

uint64_t Recorder::loads(int device) {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t sum = 0;
  for (const auto &[where, count] : loads_) {
    if (device < 0 || where == device) sum += count;
  }
  return sum;
}

void Recorder::fail(const char *name, int code, uint64_t after, uint64_t times) {
  const std::lock_guard<std::mutex> lock(mutex_);
  rules_[find(name)].fault = Fault{code, after, times};
  rearm();
}

void Recorder::delay_us(const char *name, unsigned us) {
  const std::lock_guard<std::mutex> lock(mutex_);
  rules_[find(name)].delay_us = us;
  rearm();
}

void Recorder::hide(const char *name, bool hidden) {
  const std::lock_guard<std::mutex> lock(mutex_);
  rules_[find(name)].hidden = hidden;
  rearm();
}

// With the lock held. Opened for each line, so that the file may be removed or renamed in between.
void Recorder::log(const std::string &line) {
  const char *path = std::getenv("FAKE_LOG");
  if (path == nullptr || *path == '\0') return;
  std::FILE *file = std::fopen(path, "a");
  if (file == nullptr) return;
  const std::string text = std::string(library_) + " " + line + "\n";
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

}  // namespace fakes
