// A tuning table with two keys of one kernel, each with a variant of its own: what budget.cc counts, and
// benchmarks/launch_overhead.cc measures, a tuned launch with.
#ifndef KPACK_TESTS_TWO_KEYS_H
#define KPACK_TESTS_TWO_KEYS_H

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <kpack/kpack.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace two_keys {

[[noreturn]] inline void stop(const char *what) {
  std::fprintf(stderr, "%s: %s\n", what, kpk_message());
  std::exit(1);
}

inline std::string text_of(const std::string &path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

inline void use_table(const std::string &path) {
  kpk_tuning tuning = {sizeof tuning, KPK_TUNING_USE, path.c_str(), nullptr, 0, 0};
  if (kpk_set_tuning(&tuning) != KPK_OK) stop("kpk_set_tuning");
}

struct Trials {
  std::vector<std::string> names;
  std::string chosen;
  static void tell(void *user, const kpk_trial *trial) {
    auto &self = *static_cast<Trials *>(user);
    self.names.emplace_back(trial->name);
    if (trial->chosen != 0) self.chosen = trial->name;
  }
};

// The line of a table that says that calls like this one run the contender of this number.
inline std::string entry(const std::string &path, const kpk_kernel &kernel, kpk_stream stream,
                         const std::vector<kpk_arg> &args, size_t contender) {
  use_table(path);
  Trials trials;
  const kpk_tune_options options = {sizeof options, KPK_TUNE_SCRATCH, 0, 0, Trials::tell, &trials};
  if (kpk_tune(&kernel, stream, args.data(), static_cast<uint32_t>(args.size()), &options) != KPK_OK)
    stop("kpk_tune");
  std::string text = text_of(path);
  std::remove(path.c_str());
  const size_t choice = text.find("," + trials.chosen + ",");
  if (trials.names.size() <= contender || choice == std::string::npos)
    stop(("expected two contenders and an entry, got " + std::to_string(trials.names.size()) +
          " contenders and\n" + text)
             .c_str());
  return text.replace(choice + 1, trials.chosen.size(), trials.names[contender]);
}

// From now on calls like `first` run the kernel's first variant, and those like `second`, of another key, its second.
inline void tune(const kpk_kernel &kernel, kpk_stream stream, const std::vector<kpk_arg> &first,
                 const std::vector<kpk_arg> &second) {
  char folder[] = "/tmp/kpack-two-keys-XXXXXX";
  if (mkdtemp(folder) == nullptr) stop("mkdtemp");
  const std::string path = std::string(folder) + "/table.csv";
  const std::string one = entry(path, kernel, stream, first, 0), two = entry(path, kernel, stream, second, 1);
  std::ofstream(path) << one << two.substr(two.rfind('\n', two.size() - 2) + 1);
  use_table(path);
  // It is read by the first launch.
  if (kpk_launch(&kernel, stream, first.data(), static_cast<uint32_t>(first.size()), 0) != KPK_OK)
    stop("kpk_launch");
  std::remove(path.c_str());
  std::remove((path + ".lock").c_str());
  rmdir(folder);
}

}  // namespace two_keys
#endif
