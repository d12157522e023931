// The smallest harness that says what failed: TEST(a_sentence) { CHECK(x == 3); EXPECT_EQ(got, expected); }
// and `int main(int argc, char **argv) { return check::run(argc > 3 ? argv[3] : ""); }`. A failure ends its
// test, not the run.
#ifndef KPACK_TESTS_CHECK_H
#define KPACK_TESTS_CHECK_H

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Failure {
  std::string text;
};
struct Test {
  const char *name;
  void (*body)();
};
inline std::vector<Test> &tests() {
  static std::vector<Test> all;
  return all;
}
struct Register {
  Register(const char *name, void (*body)()) { tests().push_back({name, body}); }
};

[[noreturn]] inline void fail(const char *file, int line, const std::string &text) {
  throw Failure{std::string(file) + ":" + std::to_string(line) + ": " + text};
}

template <class Got, class Expected>
void equal(const char *file, int line, const char *text, const Got &got, const Expected &expected) {
  if (got == expected) return;
  std::ostringstream out;
  out << text << ": expected " << expected << ", got " << got;
  fail(file, line, out.str());
}

// Runs the tests whose names contain `filter`; the exit code.
inline int run(const std::string &filter = "") {
  int passed = 0, failed = 0;
  for (const Test &test : tests()) {
    if (std::string(test.name).find(filter) == std::string::npos) continue;
    try {
      test.body();
      ++passed;
    } catch (const Failure &failure) {
      std::printf("FAILED %s\n  %s\n", test.name, failure.text.c_str());
      ++failed;
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed != 0 ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                             \
  static void name();                                          \
  static const check::Register name##_registered(#name, name); \
  static void name()
#define CHECK(condition) ((condition) ? void() : check::fail(__FILE__, __LINE__, "expected " #condition))
#define EXPECT_EQ(got, expected) check::equal(__FILE__, __LINE__, #got, got, expected)

#endif
