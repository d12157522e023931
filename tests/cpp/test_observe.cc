// Who watches: the observer's events, NVTX ranges, lines on stderr, and the fallback, on the fake drivers.
//
// What the environment asks for is read once in a process. So the program runs itself again, as
// `test_observe work`, for each KPACK_LOG.

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "fake.h"
#include "nvtx_tool.h"

KPACK_KERNEL(tk, scale);
KPACK_KERNEL(tk, choose);
KPACK_KERNEL(tk, nothing);

namespace {

fake::Fake cuda, hip;

float *device(uintptr_t address) { return reinterpret_cast<float *>(address); }
CUstream_st *const kDefault = nullptr;
constexpr int kOutOfMemory = 2;
constexpr const char *kImage = "scale.fp32.BLOCK128.w1.a16.sm_90";

int launch_scale(int n = 1000) {
  return tk::scale(kDefault, device(0x1000), device(0x2000), 1.0, 2, n).code();
}

void set_device(int ordinal) {
  void *context = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, ordinal), 0);
  EXPECT_EQ(cuda.entry<int(void *)>("cuCtxSetCurrent")(context), 0);
}

void start() {
  kpack::use_real_drivers();
  kpk_set_observer(nullptr, nullptr);
  kpk_set_fallback(nullptr, nullptr);
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) kpk_unload(&kernel.native());
  cuda.reset();
  hip.reset();
  set_device(0);
  nvtx_tool_reset();
}

// ---- The observer

std::vector<kpk_event> g_events;
void keep(void *user, const kpk_event *event) {
  EXPECT_EQ(event->size, sizeof(kpk_event));
  EXPECT_EQ(user, static_cast<void *>(&g_events));
  g_events.push_back(*event);
}

void watch() {
  g_events.clear();
  kpk_set_observer(keep, &g_events);
}

TEST(a_first_launch_is_a_load_and_a_launch) {
  start();
  watch();
  EXPECT_EQ(launch_scale(), 0);
  EXPECT_EQ(g_events.size(), size_t{2});
  const kpk_event &load = g_events[0], &launch = g_events[1];
  EXPECT_EQ(load.kind, uint32_t{KPK_EVENT_LOAD});
  EXPECT_EQ(launch.kind, uint32_t{KPK_EVENT_LAUNCH});
  for (const kpk_event &event : g_events) {
    EXPECT_EQ(event.status, KPK_OK);
    CHECK(event.kernel == &tk::scale.get().native());
    EXPECT_EQ(std::string(event.variant), "fp32.BLOCK128.w1.a16");
    EXPECT_EQ(std::string(event.image), kImage);
    EXPECT_EQ(std::string(event.target), "sm_90");
    EXPECT_EQ(event.device.vendor, int32_t{KPK_VENDOR_CUDA});
    EXPECT_EQ(event.device.ordinal, 0);
    CHECK(event.begin_ns != 0 && event.begin_ns <= event.end_ns);
  }
  CHECK(load.end_ns <= launch.begin_ns);
  EXPECT_EQ(launch.grid[0], 8u);
  EXPECT_EQ(launch.grid[1], 1u);
  EXPECT_EQ(launch.stream.vendor, int32_t{KPK_VENDOR_CUDA});
  EXPECT_EQ(launch_scale(), 0);
  EXPECT_EQ(g_events.size(), size_t{3});
  EXPECT_EQ(kpk_unload(&tk::scale.get().native()), KPK_OK);
  EXPECT_EQ(g_events.size(), size_t{4});
  EXPECT_EQ(g_events[3].kind, uint32_t{KPK_EVENT_UNLOAD});
  EXPECT_EQ(std::string(g_events[3].image), kImage);
}

TEST(the_times_are_those_of_the_drivers_work) {
  start();
  watch();
  cuda.delay_us("cuModuleLoadData", 2000);
  cuda.delay_us("cuLaunchKernelEx", 1000);
  EXPECT_EQ(launch_scale(), 0);
  CHECK(g_events[0].end_ns - g_events[0].begin_ns >= 2000000);
  CHECK(g_events[1].end_ns - g_events[1].begin_ns >= 1000000);
}

TEST(the_stream_is_told_of_launches_through_any_handle) {
  start();
  void *stream = nullptr;
  kpack::Bound bound = tk::scale.bind(kpack::cuda_device(0));
  CHECK(bound.status());
  EXPECT_EQ(cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 1), 0);
  watch();
  CHECK(tk::scale(kpack::cuda_stream(stream), device(0x1000), device(0x2000), 1.0, 2, 10));
  CHECK(bound(kpack::cuda_stream(stream), device(0x1000), device(0x2000), 1.0, 2, 10));
  CHECK(bound(kpack::cuda_stream(stream), device(0x1000), device(0x2000), 1.0, 2, 10));
  EXPECT_EQ(g_events.size(), size_t{4});  // one of them is the load
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(g_events[i].kind, uint32_t{KPK_EVENT_LAUNCH});
    CHECK(g_events[i].stream.handle == stream);
  }
}

TEST(what_the_driver_refuses_is_told_with_its_status) {
  start();
  watch();
  cuda.fail("cuModuleLoadData", kOutOfMemory, 0, 1);
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_DRIVER});
  EXPECT_EQ(g_events.size(), size_t{1});
  EXPECT_EQ(g_events[0].kind, uint32_t{KPK_EVENT_LOAD});
  EXPECT_EQ(g_events[0].status, KPK_ERROR_DRIVER);
  cuda.fail("cuLaunchKernelEx", 700, 0, 1);
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_DRIVER});
  EXPECT_EQ(g_events.size(), size_t{3});
  EXPECT_EQ(g_events[2].status, KPK_ERROR_DRIVER);
}

// Launches itself, and fails at another: nobody waits for it, it is not told of that, and what it was told of keeps
// its message.
void busy(void *, const kpk_event *event) {
  g_events.push_back(*event);
  tk::scale(kDefault, device(0x1000), device(0x2000), 1.0, 2, 1000);
  tk::choose(kDefault, device(0x1000), 5, "triple", true, 1, 1);
}

TEST(an_observer_may_call_kpack) {
  start();
  g_events.clear();
  kpk_set_observer(busy, nullptr);
  EXPECT_EQ(launch_scale(), 0);
  EXPECT_EQ(g_events.size(), size_t{2});
  EXPECT_EQ(cuda.launches(), uint64_t{3});
  cuda.fail("cuLaunchKernelEx", 700, 0, 1);
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_DRIVER});
  CHECK(std::strstr(kpk_message(), "cuLaunchKernelEx") != nullptr);
  EXPECT_EQ(kpk_driver_code(), 700);
}

TEST(a_dry_launch_is_told_as_one) {
  start();
  watch();
  kpack::use_dry_driver("sm_90");
  EXPECT_EQ(launch_scale(), int{KPK_DRY});
  EXPECT_EQ(g_events.back().kind, uint32_t{KPK_EVENT_LAUNCH});
  EXPECT_EQ(g_events.back().status, KPK_DRY);
  CHECK(std::strstr(kpk_message(), "scale on sm_90 (dry)") != nullptr);
}

TEST(without_an_observer_nothing_is_told) {
  start();
  watch();
  EXPECT_EQ(launch_scale(), 0);
  kpk_set_observer(nullptr, nullptr);
  const size_t before = g_events.size();
  EXPECT_EQ(launch_scale(), 0);
  EXPECT_EQ(kpk_unload(&tk::scale.get().native()), KPK_OK);
  EXPECT_EQ(g_events.size(), before);
}

TEST(a_launch_that_does_not_come_to_the_driver_is_no_event) {
  start();
  watch();
  CHECK(tk::choose(kDefault, device(0x1000), 5, "single", true, 0, 3));  // an empty grid
  EXPECT_EQ(tk::choose(kDefault, device(0x1000), 5, "triple", true, 1, 1).code(), KPK_ERROR_ARGUMENT);
  for (const kpk_event &event : g_events) EXPECT_EQ(event.kind, uint32_t{KPK_EVENT_LOAD});
}

TEST(devices_of_the_other_vendor_are_told_too) {
  start();
  watch();
  CHECK(tk::nothing(static_cast<ihipStream_t *>(nullptr)));
  EXPECT_EQ(g_events.size(), size_t{2});
  EXPECT_EQ(g_events[1].device.vendor, int32_t{KPK_VENDOR_HIP});
  EXPECT_EQ(std::string(g_events[1].image), "nothing.w4.gfx90a");
}

std::atomic<int> g_counts[4];
void count(void *, const kpk_event *event) { ++g_counts[event->kind]; }

TEST(each_of_many_threads_is_told_what_it_did) {
  start();
  for (std::atomic<int> &one : g_counts) one = 0;
  kpk_set_observer(count, nullptr);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([] {
      set_device(0);
      for (int k = 0; k < 50; ++k) EXPECT_EQ(launch_scale(), 0);
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(g_counts[KPK_EVENT_LOAD].load(), 1);
  EXPECT_EQ(g_counts[KPK_EVENT_LAUNCH].load(), 400);
}

// ---- NVTX

std::string ranges() {
  std::string text;
  for (unsigned i = 0; i < nvtx_tool_count(); ++i) text += std::string(nvtx_tool_line(i)) + "\n";
  return text;
}

std::string range(const std::string &name) { return "push " + name + "\npop\n"; }

TEST(each_load_and_each_launch_is_a_range_named_after_the_image) {
  start();
  EXPECT_EQ(launch_scale(), 0);
  EXPECT_EQ(ranges(), range(kImage) + range(kImage));
  EXPECT_EQ(launch_scale(), 0);
  EXPECT_EQ(ranges(), range(kImage) + range(kImage) + range(kImage));
}

TEST(ranges_end_where_the_driver_refuses) {
  start();
  cuda.fail("cuModuleLoadData", kOutOfMemory, 0, 1);
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_DRIVER});
  EXPECT_EQ(ranges(), range(kImage));
}

// A second copy of NVTX in the process, as a program's own header is one: it has slots of its own.
void *g_slots[16], *g_table[17];
int own_table(int module, void ***table, unsigned *size) {
  if (module < 1 || module > 6) return 0;
  const unsigned sizes[] = {0, 16, 9, 15, 7, 16, 7};
  if (module != 1) {  // only core is told apart here
    static void *other_slots[7][16], *other_tables[7][17];
    for (unsigned i = 1; i < sizes[module]; ++i) other_tables[module][i] = &other_slots[module][i];
    if (table != nullptr) *table = other_tables[module];
  } else {
    for (int i = 1; i < 16; ++i) g_table[i] = &g_slots[i];
    if (table != nullptr) *table = g_table;
  }
  if (size != nullptr) *size = sizes[module];
  return 1;
}
void set_version(uint32_t) {}
const void *own_export(uint32_t id) {
  static const struct {
    size_t size;
    int (*table)(int, void ***, unsigned *);
  } callbacks = {sizeof callbacks, own_table};
  static const struct {
    size_t size;
    uint32_t version, reserved;
    void (*set)(uint32_t);
  } version = {sizeof version, 3, 0, set_version};
  return id == 1 ? static_cast<const void *>(&callbacks) : id == 3 ? &version : nullptr;
}

TEST(another_copy_of_nvtx_has_ranges_of_its_own) {
  start();
  EXPECT_EQ(launch_scale(), 0);
  nvtx_tool_reset();
  const unsigned copies = nvtx_tool_copies();
  void *tool = dlopen(std::getenv("NVTX_INJECTION64_PATH"), RTLD_NOW | RTLD_LOCAL);
  CHECK(tool != nullptr);
  auto *initialize =
      reinterpret_cast<int (*)(const void *(*)(uint32_t))>(dlsym(tool, "InitializeInjectionNvtx2"));
  EXPECT_EQ(initialize(own_export), 1);
  EXPECT_EQ(nvtx_tool_copies(), copies + 1);
  reinterpret_cast<int (*)(const char *)>(g_slots[9])("step");
  EXPECT_EQ(launch_scale(), 0);
  reinterpret_cast<int (*)()>(g_slots[11])();
  EXPECT_EQ(ranges(), "push step\n" + range(kImage) + "pop\n");
}

// ---- The fallback

struct Fallen {
  int calls = 0;
  kpk_status result = KPK_OK;
  kpk_device device = {};
  void *stream = nullptr;
  uint32_t count = 0;
  const kpk_kernel *kernel = nullptr;
};
kpk_status fall(void *user, const kpk_kernel *kernel, kpk_device on, kpk_stream stream, const kpk_arg *args,
                uint32_t count) {
  auto &fallen = *static_cast<Fallen *>(user);
  ++fallen.calls;
  fallen.device = on;
  fallen.stream = stream.handle;
  fallen.count = count;
  fallen.kernel = kernel;
  EXPECT_EQ(stream.vendor, on.vendor);
  if (count != 0) EXPECT_EQ(args[0].bits, uint64_t{0x1000});
  return fallen.result;
}

TEST(where_no_image_is_for_the_device_the_fallback_is_called) {
  start();
  set_device(1);  // sm_75
  Fallen fallen;
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_NO_IMAGE});
  kpk_set_fallback(fall, &fallen);
  EXPECT_EQ(launch_scale(), 0);
  EXPECT_EQ(fallen.calls, 1);
  CHECK(fallen.kernel == &tk::scale.get().native());
  EXPECT_EQ(fallen.count, 5u);
  EXPECT_EQ(fallen.device.vendor, int32_t{KPK_VENDOR_CUDA});
  EXPECT_EQ(fallen.device.ordinal, 1);
  fallen.result = KPK_ERROR_LIMIT;
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_LIMIT});
  CHECK(std::strstr(kpk_message(), "scale: no image for sm_75; this archive has") != nullptr);
  kpk_set_fallback(nullptr, nullptr);
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_NO_IMAGE});
  set_device(0);
}

TEST(a_bound_kernel_falls_back_too) {
  start();
  set_device(1);
  Fallen fallen;
  kpk_set_fallback(fall, &fallen);
  const kpack::Bound bound = tk::scale.bind(kpack::cuda_device(1));
  CHECK(bound.status());
  CHECK(bound(kDefault, device(0x1000), device(0x2000), 1.0, 2, 10));
  EXPECT_EQ(fallen.calls, 1);
  EXPECT_EQ(fallen.device.ordinal, 1);
  set_device(0);
}

TEST(the_fallback_is_not_for_calls_that_are_wrong) {
  start();
  Fallen fallen;
  kpk_set_fallback(fall, &fallen);
  EXPECT_EQ(launch_scale(1 << 20), int{KPK_ERROR_NO_VARIANT});
  set_device(1);
  EXPECT_EQ(tk::scale(kDefault, device(0x1000)).code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(fallen.calls, 0);
  set_device(0);
}

// What a fallback's own kpack call says stays the thread's message.
kpk_status fall_and_fail(void *, const kpk_kernel *, kpk_device, kpk_stream, const kpk_arg *, uint32_t) {
  return tk::choose(kDefault, device(0x1000), 5, "triple", true, 1, 1).code();
}

TEST(the_message_is_the_fallbacks) {
  start();
  set_device(1);
  kpk_set_fallback(fall_and_fail, nullptr);
  EXPECT_EQ(launch_scale(), int{KPK_ERROR_ARGUMENT});
  CHECK(std::strstr(kpk_message(), "'MODE': expected 'double', 'single', got 'triple'") != nullptr);
  set_device(0);
}

// ---- KPACK_LOG

// A load, two launches, one that the driver refuses, an unload.
int work() {
  launch_scale();
  launch_scale();
  cuda.fail("cuLaunchKernelEx", 700, 0, 1);
  launch_scale();
  kpk_unload(&tk::scale.get().native());
  return 0;
}

// What work() writes on stderr, in a process with this environment.
std::string log_of(const std::string &environment) {
  char self[4096] = {};
  CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
  const char *emulator = std::getenv("TEST_EMULATOR");  // of another host's programs
  const std::string by = emulator == nullptr ? "" : emulator;
  FILE *pipe = popen((environment + " " + by + " '" + self + "' work 2>&1").c_str(), "r");
  CHECK(pipe != nullptr);
  std::string text;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text += static_cast<char>(c);
  EXPECT_EQ(pclose(pipe), 0);
  return text;
}

void expect_match(const std::string &text, const std::string &pattern) {
  if (std::regex_match(text, std::regex(pattern))) return;
  check::fail(__FILE__, __LINE__, "expected " + pattern + ", got:\n" + text);
}

const std::string kWhere = " scale\\.fp32\\.BLOCK128\\.w1\\.a16\\.sm_90 on CUDA device 0";
const std::string kLoad = "kpack: load" + kWhere + ": [0-9]+\\.[0-9] us\n";
const std::string kUnload = "kpack: unload" + kWhere + ": [0-9]+\\.[0-9] us\n";
const std::string kLaunch =
    "kpack: launch" + kWhere + ", grid 8 x 1 x 1, stream (0x0|\\(nil\\)): [0-9]+\\.[0-9] us";

TEST(without_kpack_log_nothing_is_written) {
  EXPECT_EQ(log_of("KPACK_LOG="), std::string());
  EXPECT_EQ(log_of("env -u KPACK_LOG -u NVTX_INJECTION64_PATH"), std::string());
}

TEST(info_writes_a_line_for_each_load_and_unload) { expect_match(log_of("KPACK_LOG=info"), kLoad + kUnload); }

TEST(debug_writes_a_line_for_each_launch_too) {
  expect_match(log_of("KPACK_LOG=debug"), kLoad + kLaunch + "\n" + kLaunch + "\n" + kLaunch +
                                              ", KPK_ERROR_DRIVER: .*cuLaunchKernelEx.*\n" + kUnload);
}

TEST(an_unknown_level_is_told_once) {
  EXPECT_EQ(log_of("KPACK_LOG=verbose"),
            std::string("kpack: KPACK_LOG: expected info (loads) or debug (launches, too), got 'verbose'\n"));
}

TEST(a_tool_that_does_not_open_is_told_in_the_log_alone) {
  const std::string absent = "NVTX_INJECTION64_PATH=/absent/tool.so";
  EXPECT_EQ(log_of(absent), std::string());
  expect_match(log_of(absent + " KPACK_LOG=info"),
               "kpack: NVTX_INJECTION64_PATH: expected the library of a tool, got .*/absent/tool\\.so.*\n" +
                   kLoad + kUnload);
}

TEST(a_library_that_is_no_tool_is_told_in_the_log_alone) {
  expect_match(log_of("NVTX_INJECTION64_PATH=libcuda.so.1 KPACK_LOG=info"),
               "kpack: NVTX_INJECTION64_PATH: .*no InitializeInjectionNvtx2\n" + kLoad + kUnload);
}

}  // namespace

int main(int argc, char **argv) {
  cuda = fake::open("libcuda.so.1", "cuda");
  hip = fake::open("libamdhip64.so", "hip");
  cuda.configure("sm_90,sm_75");
  hip.configure("gfx90a:sramecc+:xnack-");
  cuda.entry<int(unsigned)>("cuInit")(0);
  if (argc > 1 && std::strcmp(argv[1], "work") == 0) return work();
  return check::run(argc > 1 ? argv[1] : "");
}
