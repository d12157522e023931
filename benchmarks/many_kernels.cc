// A program with many kernels linked, or, built from the same source, with none: what many_kernels.py times.
//
//   many_kernels           starts and ends
//   many_kernels wait      waits until standard input ends
//   many_kernels find      "<median ns> <10 %> <90 %>": one look-up by name, each kernel once a pass, in random order

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <kpack/kpack.hpp>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int kPasses = 201;

// Until standard input ends, for whoever looks at /proc/<pid>.
int wait_for_end() {
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  return 0;
}

// The names in random order, one behind the other: the caller's own strings are no part of the price.
std::string shuffled_names() {
  std::vector<const char *> names;
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) names.push_back(kernel.name());
  std::shuffle(names.begin(), names.end(), std::mt19937(1));
  std::string all;
  for (const char *name : names) all.append(name, std::strlen(name) + 1);
  return all;
}

// Looks each name up once, each when the one before is known; nanoseconds of one look-up.
double time_pass(const kpack::Pack &pack, const std::string &names, size_t *missed) {
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < names.size(); at += std::strlen(&names[at]) + 1 + *missed) {
    *missed += pack.find(&names[at]) == nullptr ? 1 : 0;
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  return took.count() / pack.size();
}

int print_find() {
  const kpack::Pack pack(*kpk_pack_of(kpk_linked_begin()));
  const std::string names = shuffled_names();
  std::vector<double> passes;
  size_t missed = 0;
  for (int i = 0; i < kPasses; ++i) passes.push_back(time_pass(pack, names, &missed));
  if (missed != 0) {
    std::fprintf(stderr, "look-up: expected each of %u kernels, got %zu that were not found\n", pack.size(),
                 missed);
    return 1;
  }
  passes.erase(passes.begin());  // the first one warms the caches
  std::sort(passes.begin(), passes.end());
  std::printf("%.1f %.1f %.1f\n", passes[passes.size() / 2], passes[passes.size() / 10],
              passes[passes.size() * 9 / 10]);
  return 0;
}

}  // namespace

int main(int count, char **arguments) {
  if (count < 2) return 0;
  if (kpk_linked_begin() == kpk_linked_end() && std::strcmp(arguments[1], "find") == 0) {
    std::fprintf(stderr, "look-up: expected a pack, got none\n");
    return 1;
  }
  return std::strcmp(arguments[1], "wait") == 0 ? wait_for_end() : print_find();
}
