// Processes that fork before and after first use. Each test is a process of its own: `test_fork NAME`.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(ld, copy);

namespace {

fake::Fake cuda;

kpack::Status copy() {
  return ld::copy(nullptr, reinterpret_cast<float *>(0x1000), reinterpret_cast<float *>(0x2000), 100);
}

// Runs `body` in a child; true if it returned true there.
template <class Body>
bool in_child(Body body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  return status == 0;
}

TEST(before_first_use_parent_and_children_launch) {
  for (int i = 0; i < 2; ++i) CHECK(in_child([] { return copy().ok() && cuda.launches() == 1; }));
  CHECK(copy());
  EXPECT_EQ(cuda.launches(), uint64_t{1});
}

TEST(after_first_use_a_child_is_told_and_the_parent_goes_on) {
  CHECK(copy());
  CHECK(in_child([] {
    const kpack::Status status = copy();
    return status.code() == KPK_ERROR_DRIVER && kpk_driver_code() == 3 &&
           std::strstr(status.message(), "was this process forked from one that had used CUDA?") != nullptr;
  }));
  CHECK(copy());
  EXPECT_EQ(cuda.calls("cuModuleLoadData"), uint64_t{1});
}

}  // namespace

int main(int argc, char **argv) {
  setenv("FAKE_HIP", "none", 1);
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_86;driver=12080");
  return check::run(argc > 1 ? argv[1] : "");
}
