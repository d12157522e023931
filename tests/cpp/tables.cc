// Reads a tuning table and prints its entries and how many lines are none; merges entries that it reads from standard
// input, a value a line. tests/python/test_tuning_table.py compares what it does with Python.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iostream>
#include <string>
#include <vector>

#include "tune/table.h"

namespace {

void print(void *, const kpk::Entry &each) {
  std::printf("%s\x1f%016" PRIx64 "\x1f%s\x1f%s\x1f%s\x1f%s\x1f%.17g\x1f%.17g\x1f%s\n", each.kernel,
              each.hash, each.device, each.overload, each.call, each.choice, each.median_us, each.fixed_us,
              each.left_out);
}

int read(const char *path) {
  uint32_t rejected = 0;
  if (kpk::read_table(path, print, nullptr, &rejected) != KPK_OK) return 1;
  std::printf("%" PRIu32 "\n", rejected);
  return 0;
}

int merge(const char *path) {
  std::deque<std::string> texts;
  for (std::string line; std::getline(std::cin, line);) texts.push_back(line);
  std::vector<kpk::Entry> entries;
  for (size_t i = 0; i + 9 <= texts.size(); i += 9) {
    const auto text = [&](size_t n) { return texts[i + n].c_str(); };
    entries.push_back({text(0), std::strtoull(text(1), nullptr, 16), text(2), text(3), text(4), text(5),
                       std::strtod(text(6), nullptr), std::strtod(text(7), nullptr), text(8)});
  }
  return kpk::merge_entries(path, entries.data(), static_cast<uint32_t>(entries.size())) == KPK_OK ? 0 : 1;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  return std::strcmp(argv[1], "read") == 0 ? read(argv[2]) : merge(argv[2]);
}
