// Threads that launch while one finds out what is fastest, and while others change what is known. Run under TSan.

#include <atomic>
#include <cstdlib>
#include <kpack/kpack.hpp>
#include <thread>

#include "tuned.h"

KPACK_KERNEL(tuned, plain);
KPACK_KERNEL(tuned, other);

namespace {

using namespace tune_test;

constexpr int kThreads = 8;
constexpr uint64_t kBytes = 4096 * sizeof(float);

// Each in a thread with the context current; returns how many calls failed.
template <class Do>
int together(int count, Do act) {
  void *context = nullptr;
  cuda.entry<int(void **)>("cuCtxGetCurrent")(&context);
  std::atomic<int> failed{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
      while (!go.load()) std::this_thread::yield();
      failed += act(i);
    });
  }
  go.store(true);
  for (std::thread &thread : threads) thread.join();
  return failed.load();
}

struct Memory {
  float *in = memory(kBytes), *out = memory(kBytes);
  ~Memory() {
    cuda.entry<int(void *)>("cuMemFree_v2")(in);
    cuda.entry<int(void *)>("cuMemFree_v2")(out);
  }
};

template <class Callable>
int launch(const Callable &callable, const Memory &at, int32_t n) {
  const kpack::Status status = callable(kpack::Stream(kStream), at.out, static_cast<const float *>(at.in), n);
  if (!status) std::printf("  %s\n", status.message());
  return status ? 0 : 1;
}

TEST(each_key_is_searched_for_once) {
  start();
  const Folder folder;
  set(KPK_TUNING_TUNE, folder / "t");
  const Memory at;
  const Stderr said;
  const int failed = together(kThreads, [&](int) {
    int wrong = 0;
    for (int turn = 0; turn < 400; ++turn) wrong += launch(tuned::plain, at, 100 << turn % 5);
    return wrong;
  });
  EXPECT_EQ(failed, 0);
  const std::string text = file_text(folder / "t");
  EXPECT_EQ(count(text, "\n"), 7U);
  EXPECT_EQ(count(said.text(), "plain: tuned for"), 5U);
  finish();
}

TEST(what_is_known_changes_while_others_launch) {
  start();
  const Memory at;
  kpack::Op op("twice", tuned::plain);
  op.add(tuned::other);
  const kpk_tune_options again = options(nullptr, KPK_TUNE_AGAIN);
  const int failed = together(kThreads, [&](int thread) {
    int wrong = 0;
    for (int turn = 0; turn < (thread < 2 ? 6 : 3000); ++turn) {
      const int32_t n = 100 << turn % 4;
      if (thread == 0)
        wrong += !kpack::Kernel(tuned::plain)
                      .tune(kpack::Stream(kStream), again, at.out, static_cast<const float *>(at.in), n);
      if (thread == 1)
        wrong += !op.tune(kpack::Stream(kStream), again, at.out, static_cast<const float *>(at.in), n);
      if (thread % 3 == 0) wrong += launch(op, at, n);
      wrong += launch(tuned::plain, at, n);
    }
    return wrong;
  });
  EXPECT_EQ(failed, 0);
  // What has been found last is what runs, in no shortcut of earlier times.
  Way ways[6];
  const char *const variants[] = {"fp32.BLOCK64.w1",     "fp32.BLOCK128.w1",     "fp32.BLOCK256.w1",
                                  "fp32.BLOCK64.w1.a16", "fp32.BLOCK128.w1.a16", "fp32.BLOCK256.w1.a16"};
  for (int i = 0; i < 6; ++i) behave(ways[i], "plain", variants[i], i == 4 ? 10000 : 20000);
  const auto run_plain = [&] {
    return run([&] { return launch(tuned::plain, at, 400) == 0 ? KPK_OK : KPK_ERROR_DRIVER; });
  };
  CHECK(kpack::Kernel(tuned::plain)
            .tune(kpack::Stream(kStream), again, at.out, static_cast<const float *>(at.in), 400));
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_plain(), std::string("plain_fp32_BLOCK128_w1_a16"));
  finish();
}

TEST(calls_are_written_down_once_by_all) {
  start();
  const Folder folder;
  set(KPK_TUNING_RECORD, "", folder / "s");
  const Memory at;
  const int failed = together(kThreads, [&](int) {
    int wrong = 0;
    for (int turn = 0; turn < 200; ++turn) wrong += launch(tuned::plain, at, 1 + turn % 20);
    return wrong;
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(count(file_text(folder / "s"), "\n"), 22U);
  finish();
}

}  // namespace

int main(int count, char **arguments) {
  setenv("KPACK_LOG", "info", 1);
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_90,sm_80");
  cuda.entry<int(unsigned)>("cuInit")(0);
  return check::run(count > 1 ? arguments[1] : "");
}
