// What test_tuning and test_op share: a machine with fake devices, kernels whose variants take as long as the test
// says, and which of them a launch came to.
#ifndef KPACK_TESTS_TUNED_H
#define KPACK_TESTS_TUNED_H

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <kpack/kpack.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "fake.h"

namespace tune_test {

inline fake::Fake cuda;

inline const kpk_stream kStream = {nullptr, KPK_VENDOR_CUDA, 0};

// out[i] = 2 * in[i], which takes as long as `takes_ns` says, and is off by `off`.
struct Way {
  std::string function;
  float off = 0;
  uint64_t runs = 0;
  static void run(void *user, const fake_launch *launch) {
    auto &way = *static_cast<Way *>(user);
    ++way.runs;
    auto *out = reinterpret_cast<float *>(fake::argument<uint64_t>(*launch, 0));
    const auto *in = reinterpret_cast<const float *>(fake::argument<uint64_t>(*launch, 1));
    const auto n = fake::argument<int32_t>(*launch, 2);
    if (reinterpret_cast<uintptr_t>(out) < 0x100000) return;  // an address of nobody's
    for (int32_t i = 0; i < n; ++i) out[i] = 2 * in[i] + way.off;
  }
};

// The device function of a variant.
inline std::string function_of(const std::string &kernel, const std::string &variant) {
  std::string name = kernel + "." + variant;
  for (char &letter : name) letter = letter == '.' ? '_' : letter;
  return name;
}

// From now on launches of this variant take so long, and fail with `error` if that is not 0.
inline void behave(Way &way, const std::string &kernel, const std::string &variant, uint64_t takes_ns,
                   float off = 0, int error = 0) {
  way.function = function_of(kernel, variant);
  way.off = off;
  const fake_kernel does = {takes_ns, error, 0, Way::run, &way};
  cuda.kernel(way.function.c_str(), &does);
}

inline float *memory(uint64_t bytes) {
  uint64_t address = 0;
  EXPECT_EQ(cuda.entry<int(uint64_t *, size_t)>("cuMemAlloc_v2")(&address, bytes), 0);
  return reinterpret_cast<float *>(address);
}

// The device functions that `launch` launched, in order; and its status is KPK_OK.
template <class Launch>
std::vector<std::string> all_of(Launch launch) {
  const uint64_t before = cuda.launches();
  const kpk_status status = launch();
  if (status != KPK_OK)
    check::fail(__FILE__, __LINE__, std::string(kpk_status_name(status)) + ": " + kpk_message());
  std::vector<std::string> seen;
  for (uint64_t i = before; i < cuda.launches(); ++i) {
    fake_launch made;
    if (cuda.launch(i, &made) != 0) seen.emplace_back(made.function);
  }
  return seen;
}
// The last of them; what came before was a search.
template <class Launch>
std::string run(Launch launch) {
  const std::vector<std::string> seen = all_of(launch);
  return seen.empty() ? "" : seen.back();
}
// The only one; "" if there were none, or several.
template <class Launch>
std::string only(Launch launch) {
  const std::vector<std::string> seen = all_of(launch);
  return seen.size() == 1 ? seen.front() : "";
}

inline std::string file_text(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}
inline void write_file(const std::string &path, const std::string &text) { std::ofstream(path) << text; }

// A folder that goes with it.
class Folder {
 public:
  Folder() { CHECK(mkdtemp(path_) != nullptr); }
  ~Folder() {
    if (std::system(("rm -r " + std::string(path_)).c_str()) != 0) std::printf("%s stays\n", path_);
  }
  std::string operator/(const std::string &name) const { return std::string(path_) + "/" + name; }

 private:
  char path_[32] = "/tmp/kpack-tuning-XXXXXX";
};

inline void set(uint32_t mode, const std::string &table = "", const std::string &shapes = "") {
  const kpk_tuning tuning = {sizeof tuning,
                             mode,
                             table.empty() ? nullptr : table.c_str(),
                             shapes.empty() ? nullptr : shapes.c_str(),
                             0,
                             0};
  EXPECT_EQ(kpk_set_tuning(&tuning), KPK_OK);
}

// What is said on stderr while it lives.
class Stderr {
 public:
  Stderr() : file_(std::tmpfile()), before_(dup(2)) {
    CHECK(file_ != nullptr && before_ >= 0);
    dup2(fileno(file_), 2);
  }
  ~Stderr() {
    dup2(before_, 2);
    close(before_);
    std::fclose(file_);
  }
  std::string text() const {
    std::string out(65536, '\0');
    const ssize_t bytes = pread(fileno(file_), &out[0], out.size(), 0);
    out.resize(bytes < 0 ? 0 : static_cast<size_t>(bytes));
    return out;
  }

 private:
  std::FILE *file_;
  int before_;
};

inline bool has(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}
inline uint32_t count(const std::string &text, const std::string &part) {
  uint32_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

inline void start() {
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) kpk_unload(&kernel.native());
  cuda.reset();
  void *context = nullptr;
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
  cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
  set(KPK_TUNING_USE);
}

inline void finish() {
  set(KPK_TUNING_USE);
  for (uint64_t i = 0; i < cuda.violations(); ++i) std::printf("  violation: %s\n", cuda.violation(i));
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

struct Told {
  std::string name, reason;
  uint32_t outcome, chosen;
  double median_us;
};
inline void tell(void *user, const kpk_trial *trial) {
  static_cast<std::vector<Told> *>(user)->push_back(
      {trial->name, trial->reason, trial->outcome, trial->chosen, trial->median_us});
}
inline kpk_tune_options options(std::vector<Told> *told, uint32_t flags = 0) {
  return {sizeof(kpk_tune_options), flags, 0, 0, told == nullptr ? nullptr : tell, told};
}

}  // namespace tune_test
#endif
