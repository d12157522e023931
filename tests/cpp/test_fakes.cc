// The fakes themselves: each rule they enforce, seen from a caller.
//
// test_fakes IMAGES FAKES [FILTER]: IMAGES holds sm_80.cubin, sm_90.cubin, gfx90a.hsaco and
// gfx1100.hsaco, the softmax kernel (out, in, i64, i64, i32 and two scratch pointers; 4 warps) as Triton
// compiled it; FAKES is the folder with libcuda.so.1 and libamdhip64.so.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "../fakes/fake.h"
#include "check.h"

namespace {

std::string g_images;
std::string g_fakes;

// ---- Images and arguments -----------------------------------------------------------------------------

std::string read_image(const std::string &name) {
  std::ifstream file(g_images + "/" + name, std::ios::binary);
  if (!file) check::fail(__FILE__, __LINE__, "cannot read " + g_images + "/" + name);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Bytes in anonymous memory at a page boundary plus `shift`, with a page of zeros behind them: drivers are
// not told a size, so a truncated image must be followed by something.
class Pages {
 public:
  explicit Pages(const std::string &bytes, size_t shift = 0) : bytes_(bytes.size() + shift + 8192) {
    base_ = static_cast<char *>(
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    data_ = base_ + shift;
    std::memcpy(data_, bytes.data(), bytes.size());
  }
  Pages(const Pages &) = delete;
  Pages &operator=(const Pages &) = delete;
  ~Pages() { unmap(); }
  void unmap() {
    if (base_ != nullptr) munmap(base_, bytes_);
    base_ = nullptr;
  }
  char *data() const { return data_; }

 private:
  size_t bytes_;
  char *base_;
  char *data_;
};

// The kernel's name: what follows ".nv.info." in a cubin, what precedes ".kd" in a code object.
std::string entry_of(const std::string &image) {
  const size_t info = image.find(".nv.info.");
  if (info != std::string::npos) return image.c_str() + info + 9;
  const size_t end = image.find(std::string(".kd\0", 4));
  size_t begin = end;
  while (begin > 0 &&
         (std::isalnum(static_cast<unsigned char>(image[begin - 1])) != 0 || image[begin - 1] == '_')) {
    --begin;
  }
  return image.substr(begin, end - begin);
}

std::string with_flags(std::string image, uint32_t flags) {
  std::memcpy(&image[48], &flags, sizeof flags);
  return image;
}

// The arguments of the softmax kernel, both ways.
struct Arguments {
  uint64_t out = 0x1000, in = 0x2000;
  int64_t in_stride = 1024, out_stride = -7;
  int32_t columns = 1000;
  uint64_t scratch = 0, profile = 0;
  void *pointers[7] = {&out, &in, &in_stride, &out_stride, &columns, &scratch, &profile};

  std::vector<unsigned char> packed(size_t bytes = 56) const {
    std::vector<unsigned char> block(56);
    const size_t offsets[] = {0, 8, 16, 24, 32, 40, 48};
    for (size_t i = 0; i < 7; ++i) std::memcpy(&block[offsets[i]], pointers[i], i == 4 ? 4 : 8);
    block.resize(bytes);
    return block;
  }
};

// `extra` as one driver wants it: CUDA ends with 0, HIP with 3.
struct Extra {
  Extra(std::vector<unsigned char> bytes, uintptr_t end) : block(std::move(bytes)), size(block.size()) {
    words[0] = reinterpret_cast<void *>(1);
    words[1] = block.data();
    words[2] = reinterpret_cast<void *>(2);
    words[3] = &size;
    words[4] = reinterpret_cast<void *>(end);
  }
  std::vector<unsigned char> block;
  size_t size;
  void *words[5];
};

struct Attribute {
  uint32_t id = 0, pad = 0;
  uint32_t value[16] = {};
};
struct Config {
  uint32_t grid[3] = {1, 1, 1}, block[3] = {128, 1, 1};
  uint32_t shared = 0;
  void *stream = nullptr;
  const Attribute *attributes = nullptr;
  uint32_t count = 0;
};

// CUmemPoolProps, hipMemPoolProps: pinned memory of a device.
struct PoolProps {
  int allocation_type = 1, handle_types = 0;
  int location_type = 1, location = 0;
  void *security = nullptr;
  unsigned char reserved[64] = {};
};

using LaunchFunction = int(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                           void *, void **, void **);

void expect_violation(const fake::Fake &fake, const std::string &words) {
  EXPECT_EQ(fake.violations(), 1U);
  if (std::string(fake.violation(0)).find(words) == std::string::npos) {
    check::fail(__FILE__, __LINE__,
                "expected a violation with '" + words + "', got '" + fake.violation(0) + "'");
  }
}

fake_launch last_launch(const fake::Fake &fake) {
  fake_launch launch;
  CHECK(fake.launches() > 0);
  CHECK(fake.launch(fake.launches() - 1, &launch) == 1);
  return launch;
}

// ---- CUDA ---------------------------------------------------------------------------------------------

struct Cuda : fake::Fake {
  explicit Cuda(const char *devices) : Fake(fake::open((g_fakes + "/libcuda.so.1").c_str(), "cuda")) {
    configure(devices);
    EXPECT_EQ(call<unsigned>("cuInit", 0), 0);
  }
  template <class... T>
  int call(const char *name, T... arguments) const {
    return entry<int(T...)>(name)(arguments...);
  }
  void *primary(int device) const {
    void *context = nullptr;
    EXPECT_EQ(call("cuDevicePrimaryCtxRetain", &context, device), 0);
    EXPECT_EQ(call("cuCtxSetCurrent", context), 0);
    return context;
  }
  void *context(int device) const {
    void *context = nullptr;
    EXPECT_EQ(call("cuCtxCreate_v2", &context, 0U, device), 0);
    return context;
  }
  void *stream(unsigned flags = 1) const {
    void *stream = nullptr;
    EXPECT_EQ(call("cuStreamCreate", &stream, flags), 0);
    return stream;
  }
  int load(const std::string &image, void **module) const {
    const Pages pages(image);
    return call<void **, const void *>("cuModuleLoadData", module, pages.data());
  }
  void *function(const std::string &image) const {
    void *module = nullptr, *function = nullptr;
    EXPECT_EQ(load(image, &module), 0);
    EXPECT_EQ(call("cuModuleGetFunction", &function, module, entry_of(image).c_str()), 0);
    return function;
  }
  void *kernel(const std::string &image) const {
    const Pages pages(image);
    void *loaded = nullptr, *kernel = nullptr;
    EXPECT_EQ(load_library(&loaded, pages.data()), 0);
    EXPECT_EQ(call("cuLibraryGetKernel", &kernel, loaded, entry_of(image).c_str()), 0);
    return kernel;
  }
  int load_library(void **out, const void *image, bool preserved = false) const {
    int binary_is_preserved = 1;
    void *yes = reinterpret_cast<void *>(1);
    return call<void **, const void *, int *, void **, unsigned, int *, void **, unsigned>(
        "cuLibraryLoadData", out, image, nullptr, nullptr, 0U, &binary_is_preserved, &yes,
        preserved ? 1U : 0U);
  }
  int launch_on(void *function, void *stream, unsigned shared = 0, unsigned grid = 1,
                unsigned block = 128) const {
    Arguments arguments;
    return entry<LaunchFunction>("cuLaunchKernel")(function, grid, 1, 1, block, 1, 1, shared, stream,
                                                   arguments.pointers, nullptr);
  }
};

const std::string kPtx =
    ".version 8.0\n.target sm_80 // a comment { .entry\n.address_size 64\n"
    ".extern .shared .align 16 .b8 global_smem[];\n"
    ".visible .entry k(.param .u8 a, .param .u64 .ptr .global .align 1 p, .param .u16 b,\n"
    "  .param .align 64 .b8 d[128])\n.maxntid 256, 1, 1\n"
    "{\n .shared .align 16 .b8 s[1000];\n ret;\n}\n";

TEST(cuda_refuses_everything_before_cuInit) {
  const fake::Fake cuda = fake::open((g_fakes + "/libcuda.so.1").c_str(), "cuda");
  cuda.configure("sm_90");
  int count = 0;
  EXPECT_EQ(cuda.entry<int(int *)>("cuDeviceGetCount")(&count), 3);
  EXPECT_EQ(cuda.entry<int(int *)>("cuDriverGetVersion")(&count), 0);
  EXPECT_EQ(count, 12080);
  cuda.configure("none");
  EXPECT_EQ(cuda.entry<int(unsigned)>("cuInit")(0), 100);
}

TEST(cuda_devices_are_those_configured) {
  const Cuda cuda("sm_80,sm_90;driver=12040");
  int value = 0;
  EXPECT_EQ(cuda.call("cuDeviceGetCount", &value), 0);
  EXPECT_EQ(value, 2);
  const struct {
    int attribute, device, expected;
  } rows[] = {{75, 0, 8},      {76, 0, 0},    {75, 1, 9}, {97, 0, 166912},
              {97, 1, 232448}, {8, 1, 49152}, {10, 1, 32}};
  for (const auto &row : rows) {
    EXPECT_EQ(cuda.call("cuDeviceGetAttribute", &value, row.attribute, row.device), 0);
    EXPECT_EQ(value, row.expected);
  }
  EXPECT_EQ(cuda.call("cuDeviceGetAttribute", &value, 75, 2), 101);
  EXPECT_EQ(cuda.call("cuDriverGetVersion", &value), 0);
  EXPECT_EQ(value, 12040);
}

TEST(cuda_needs_a_current_context_in_each_thread) {
  const Cuda cuda("sm_90");
  const std::string image = read_image("sm_90.cubin");
  void *module = nullptr;
  EXPECT_EQ(cuda.load(image, &module), 201);
  cuda.primary(0);
  void *function = cuda.function(image);
  void *stream = cuda.stream();
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
  int other = 0, device = 0, other_device = 0;
  std::thread([&] {
    other = cuda.launch_on(function, stream);
    other_device = cuda.call("cuCtxGetDevice", &device);
  }).join();
  EXPECT_EQ(other, 201);
  EXPECT_EQ(other_device, 201);
}

TEST(cuda_keeps_a_launch_with_its_arguments) {
  const Cuda cuda("sm_90");
  const std::string image = read_image("sm_90.cubin");
  cuda.primary(0);
  void *stream = cuda.stream();
  void *function = cuda.function(image);
  EXPECT_EQ(cuda.launch_on(function, stream, 64, 17), 0);
  const fake_launch launch = last_launch(cuda);
  EXPECT_EQ(std::string(launch.function), entry_of(image));
  EXPECT_EQ(launch.image, fake::checksum(image.data(), image.size()));
  EXPECT_EQ(launch.grid[0], 17U);
  EXPECT_EQ(launch.block[0], 128U);
  EXPECT_EQ(launch.shared_bytes, 64U);
  EXPECT_EQ(launch.stream, stream);
  EXPECT_EQ(launch.param_count, 7U);
  EXPECT_EQ(launch.param_bytes, 56U);
  EXPECT_EQ(launch.packed, 0);
  EXPECT_EQ(fake::argument<uint64_t>(launch, 1), 0x2000U);
  EXPECT_EQ(fake::argument<int64_t>(launch, 3), -7);
  EXPECT_EQ(fake::argument<int32_t>(launch, 4), 1000);
  EXPECT_EQ(cuda.calls("cuLaunchKernel"), 1U);
  EXPECT_EQ(cuda.loads(0), 1U);
  EXPECT_EQ(cuda.violations(), 0U);
}

TEST(cuda_takes_a_packed_block_of_exactly_the_parameter_size) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  auto *launch = cuda.entry<LaunchFunction>("cuLaunchKernel");
  Arguments arguments;
  Extra good(arguments.packed(), 0), small(arguments.packed(48), 0);
  EXPECT_EQ(launch(function, 1, 1, 1, 128, 1, 1, 0, nullptr, nullptr, good.words), 0);
  EXPECT_EQ(fake::argument<int32_t>(last_launch(cuda), 4), 1000);
  EXPECT_EQ(last_launch(cuda).packed, 1);
  EXPECT_EQ(launch(function, 1, 1, 1, 128, 1, 1, 0, nullptr, arguments.pointers, good.words), 1);
  EXPECT_EQ(cuda.violations(), 0U);
  EXPECT_EQ(launch(function, 1, 1, 1, 128, 1, 1, 0, nullptr, nullptr, small.words), 1);
  expect_violation(cuda, "expected a parameter buffer of 56 bytes, got 48");
}

TEST(cuda_calls_a_missing_argument_a_violation) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  Arguments arguments;
  arguments.pointers[3] = nullptr;
  auto *launch = cuda.entry<LaunchFunction>("cuLaunchKernel");
  EXPECT_EQ(launch(function, 1, 1, 1, 128, 1, 1, 0, nullptr, arguments.pointers, nullptr), 1);
  expect_violation(cuda, "a pointer in kernelParams is null");
}

TEST(cuda_refuses_what_is_no_image_for_the_device) {
  const Cuda cuda("sm_90,sm_89,sm_100");
  const std::string sm90 = read_image("sm_90.cubin"), sm80 = read_image("sm_80.cubin");
  std::string foreign = sm90, wild = sm90, cut = sm90;
  foreign[18] = 62;  // e_machine: x86-64
  std::memset(&wild[40], 0x7f, 8);
  cut.resize(cut.size() / 2);
  const struct {
    int device;
    std::string image;
    int expected;
  } rows[] = {{0, sm90, 0},
              {0, sm80, 209},
              {1, sm80, 0},
              {1, sm90, 209},
              {2, sm90, 209},
              {0, "garbage garbage", 200},
              {0, "", 200},
              {0, foreign, 200},
              {0, wild, 200},
              {0, cut, 200},
              {0, sm90.substr(0, 64), 200},
              {0, kPtx, 0},
              {1, kPtx, 0},
              {0, ".version 8.0\n", 218},
              {0, ".version 9.9\n.target sm_80\n", 222},
              {0, ".version 8.0\n.target sm_100\n", 218}};
  int index = 0;
  for (const auto &row : rows) {
    cuda.primary(row.device);
    void *module = nullptr;
    check::equal(__FILE__, __LINE__, ("row " + std::to_string(index++)).c_str(),
                 cuda.load(row.image, &module), row.expected);
  }
  void *module = nullptr, *function = nullptr;
  cuda.primary(0);
  EXPECT_EQ(cuda.load(sm90, &module), 0);
  EXPECT_EQ(cuda.call("cuModuleGetFunction", &function, module, "no_such_kernel"), 500);
}

TEST(cuda_reads_both_encodings_of_the_architecture) {
  const Cuda cuda("sm_90,sm_100");
  const std::string image = read_image("sm_90.cubin");
  std::string newer = with_flags(image, 0x6005a04);  // as ptxas 13 writes it
  newer[7] = 0x41;
  std::string blackwell = with_flags(newer, 0x600640a);
  void *module = nullptr;
  cuda.primary(0);
  EXPECT_EQ(cuda.load(newer, &module), 0);
  EXPECT_EQ(cuda.load(blackwell, &module), 209);
  cuda.primary(1);
  EXPECT_EQ(cuda.load(newer, &module), 209);
  EXPECT_EQ(cuda.load(blackwell, &module), 0);
}

TEST(cuda_functions_belong_to_their_context_and_kernels_to_none) {
  const Cuda cuda("sm_90");
  const std::string image = read_image("sm_90.cubin");
  cuda.context(0);
  void *function = cuda.function(image);
  void *stream = cuda.stream();
  void *kernel = cuda.kernel(image);
  void *in_first = nullptr, *in_second = nullptr;
  EXPECT_EQ(cuda.call("cuKernelGetFunction", &in_first, kernel), 0);
  cuda.context(0);
  EXPECT_EQ(cuda.launch_on(function, nullptr), 400);
  EXPECT_EQ(cuda.launch_on(function, stream), 400);
  EXPECT_EQ(cuda.launch_on(in_first, nullptr), 400);
  EXPECT_EQ(cuda.call("cuKernelGetFunction", &in_second, kernel), 0);
  CHECK(in_first != in_second);
  EXPECT_EQ(cuda.launch_on(in_second, nullptr), 0);
  EXPECT_EQ(cuda.launch_on(in_second, stream), 400);
  EXPECT_EQ(cuda.launch_on(kernel, nullptr), 0);
  EXPECT_EQ(cuda.launch_on(kernel, stream), 0);  // in the stream's context
  EXPECT_EQ(cuda.loads(0), 3U);                  // the module, and the library in two contexts
  EXPECT_EQ(cuda.violations(), 0U);
}

TEST(cuda_refuses_a_kernel_on_a_device_it_has_no_image_for) {
  const Cuda cuda("sm_80,sm_90");
  void *kernel = cuda.kernel(read_image("sm_90.cubin"));
  void *function = nullptr;
  cuda.primary(0);
  EXPECT_EQ(cuda.call("cuKernelGetFunction", &function, kernel), 209);
  EXPECT_EQ(cuda.launch_on(kernel, nullptr), 209);
  cuda.primary(1);
  EXPECT_EQ(cuda.launch_on(kernel, nullptr), 0);
  const Cuda older("sm_80");
  const Pages pages(read_image("sm_90.cubin"));
  void *library = nullptr;
  EXPECT_EQ(older.load_library(&library, pages.data()), 0);
  EXPECT_EQ(older.call("cuLibraryGetKernel", &kernel, library, entry_of(read_image("sm_90.cubin")).c_str()),
            209);
}

TEST(cuda_large_shared_memory_must_be_opted_into) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  EXPECT_EQ(cuda.launch_on(function, nullptr, 49152), 0);
  EXPECT_EQ(cuda.launch_on(function, nullptr, 49153), 1);
  EXPECT_EQ(cuda.call("cuFuncSetAttribute", function, 8, 232449), 1);
  EXPECT_EQ(cuda.call("cuFuncSetAttribute", function, 8, 232448), 0);
  EXPECT_EQ(cuda.launch_on(function, nullptr, 232448), 0);
  EXPECT_EQ(cuda.launch_on(function, nullptr, 232449), 1);

  void *module = nullptr, *with_static = nullptr;
  EXPECT_EQ(cuda.load(kPtx, &module), 0);
  EXPECT_EQ(cuda.call("cuModuleGetFunction", &with_static, module, "k"), 0);
  int value = 0;
  EXPECT_EQ(cuda.call("cuFuncGetAttribute", &value, 1, with_static), 0);
  EXPECT_EQ(value, 1000);
  EXPECT_EQ(cuda.call("cuFuncSetAttribute", with_static, 8, 231449), 1);
  EXPECT_EQ(cuda.call("cuFuncSetAttribute", with_static, 8, 231448), 0);

  void *kernel = cuda.kernel(read_image("sm_90.cubin"));
  EXPECT_EQ(cuda.launch_on(kernel, nullptr, 50000), 1);
  EXPECT_EQ(cuda.call("cuKernelSetAttribute", 8, 50000, kernel, 0), 0);
  EXPECT_EQ(cuda.launch_on(kernel, nullptr, 50000), 0);
}

TEST(cuda_lays_out_the_parameters_of_ptx) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *module = nullptr, *function = nullptr;
  EXPECT_EQ(cuda.load(kPtx, &module), 0);
  EXPECT_EQ(cuda.call("cuModuleGetFunction", &function, module, "k"), 0);
  const size_t expected[][2] = {{0, 1}, {8, 8}, {16, 2}, {64, 128}};
  for (size_t i = 0; i < 4; ++i) {
    size_t offset = 0, size = 0;
    EXPECT_EQ(cuda.call("cuFuncGetParamInfo", function, i, &offset, &size), 0);
    EXPECT_EQ(offset, expected[i][0]);
    EXPECT_EQ(size, expected[i][1]);
  }
  size_t offset = 0;
  EXPECT_EQ(
      (cuda.call<void *, size_t, size_t *, size_t *>("cuFuncGetParamInfo", function, 4, &offset, nullptr)),
      1);
}

TEST(cuda_refuses_grids_and_blocks_that_no_device_has) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  auto *launch = cuda.entry<LaunchFunction>("cuLaunchKernel");
  Arguments arguments;
  const struct {
    unsigned grid[3], block;
    int expected;
  } rows[] = {{{1, 1, 1}, 128, 0},        {{0, 1, 1}, 128, 1},     {{1, 1, 0}, 128, 1},
              {{1, 65535, 1}, 128, 0},    {{1, 65536, 1}, 128, 1}, {{0x7fffffff, 1, 1}, 128, 0},
              {{1U << 31, 1, 1}, 128, 1}, {{1, 1, 1}, 0, 1},       {{1, 1, 1}, 1025, 1},
              {{1, 1, 1}, 64, 1}};  // .reqntid is 128
  for (const auto &row : rows) {
    EXPECT_EQ(launch(function, row.grid[0], row.grid[1], row.grid[2], row.block, 1, 1, 0, nullptr,
                     arguments.pointers, nullptr),
              row.expected);
  }
  EXPECT_EQ(cuda.launch_on(nullptr, nullptr), 400);
}

TEST(cuda_checks_clusters_and_cooperative_grids) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  auto *launch = cuda.entry<int(const Config *, void *, void **, void **)>("cuLaunchKernelEx");
  Arguments arguments;
  Attribute attributes[2];
  Config config;
  config.attributes = attributes;
  config.count = 1;
  const auto go = [&](unsigned grid) {
    config.grid[0] = grid;
    return launch(&config, function, arguments.pointers, nullptr);
  };
  attributes[0].id = 2;  // cooperative
  attributes[0].value[0] = 1;
  EXPECT_EQ(go(100), 0);
  EXPECT_EQ(last_launch(cuda).cooperative, 1);
  EXPECT_EQ(go(1000000), 720);
  attributes[0].id = 4;  // cluster
  attributes[0].value[0] = 2;
  attributes[0].value[1] = attributes[0].value[2] = 1;
  EXPECT_EQ(go(6), 0);
  EXPECT_EQ(last_launch(cuda).cluster[0], 2U);
  EXPECT_EQ(last_launch(cuda).attributes, 1U << 4);
  EXPECT_EQ(go(7), 1);
  attributes[0].value[0] = 16;
  EXPECT_EQ(go(32), 912);
  EXPECT_EQ(cuda.call("cuFuncSetAttribute", function, 14, 1), 0);
  EXPECT_EQ(go(32), 0);
}

TEST(cuda_forbids_loads_in_a_capture_unless_the_thread_is_relaxed) {
  const Cuda cuda("sm_90");
  const std::string image = read_image("sm_90.cubin");
  cuda.primary(0);
  void *function = cuda.function(image);
  void *stream = cuda.stream();
  void *module = nullptr, *graph = nullptr, *context = nullptr;
  int status = 0;
  EXPECT_EQ(cuda.call("cuStreamBeginCapture_v2", stream, 0), 0);
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
  EXPECT_EQ(last_launch(cuda).captured, 1);
  int mode = 2;
  EXPECT_EQ(cuda.call("cuThreadExchangeStreamCaptureMode", &mode), 0);
  EXPECT_EQ(mode, 0);
  EXPECT_EQ(cuda.load(image, &module), 0);
  EXPECT_EQ(cuda.call("cuThreadExchangeStreamCaptureMode", &mode), 0);
  EXPECT_EQ(mode, 2);
  EXPECT_EQ(cuda.call("cuStreamIsCapturing", stream, &status), 0);
  EXPECT_EQ(status, 1);
  EXPECT_EQ(cuda.load(image, &module), 900);
  EXPECT_EQ(cuda.call("cuStreamIsCapturing", stream, &status), 0);
  EXPECT_EQ(status, 2);
  EXPECT_EQ(cuda.launch_on(function, stream), 901);
  EXPECT_EQ(cuda.call("cuStreamEndCapture", stream, &graph), 901);

  EXPECT_EQ(cuda.call("cuStreamBeginCapture_v2", stream, 0), 0);
  EXPECT_EQ(cuda.call("cuStreamGetCtx", stream, &context), 0);
  EXPECT_EQ(cuda.call("cuStreamEndCapture", stream, &graph), 0);
}

TEST(cuda_global_captures_concern_every_thread_and_local_ones_do_not) {
  const Cuda cuda("sm_90");
  const std::string image = read_image("sm_90.cubin");
  void *primary = cuda.primary(0);
  void *stream = cuda.stream();
  const auto load_elsewhere = [&] {
    int result = 0;
    std::thread([&] {
      void *module = nullptr;
      cuda.call("cuCtxSetCurrent", primary);
      result = cuda.load(image, &module);
    }).join();
    return result;
  };
  void *graph = nullptr;
  const int expected_load[] = {900, 0, 0}, expected_end[] = {901, 0, 0};
  for (int mode = 0; mode < 3; ++mode) {
    EXPECT_EQ(cuda.call("cuStreamBeginCapture_v2", stream, mode), 0);
    EXPECT_EQ(load_elsewhere(), expected_load[mode]);
    EXPECT_EQ(cuda.call("cuStreamEndCapture", stream, &graph), expected_end[mode]);
  }
}

TEST(cuda_null_stream_conflicts_with_a_capturing_blocking_stream) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  void *blocking = cuda.stream(0);
  int status = 0;
  EXPECT_EQ(cuda.call("cuStreamBeginCapture_v2", blocking, 2), 0);
  EXPECT_EQ((cuda.call<void *, int *>("cuStreamIsCapturing", nullptr, &status)), 906);
  EXPECT_EQ(cuda.launch_on(function, nullptr), 906);
}

TEST(cuda_knows_a_stale_handle) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *module = nullptr, *function = nullptr;
  const std::string image = read_image("sm_90.cubin");
  EXPECT_EQ(cuda.load(image, &module), 0);
  EXPECT_EQ(cuda.call("cuModuleGetFunction", &function, module, entry_of(image).c_str()), 0);
  EXPECT_EQ(cuda.live("module"), 1U);
  EXPECT_EQ(cuda.call("cuModuleUnload", module), 0);
  EXPECT_EQ(cuda.live("module"), 0U);
  EXPECT_EQ(cuda.launch_on(function, nullptr), 400);
  expect_violation(cuda, "cuLaunchKernel: the function");
  EXPECT_EQ(cuda.call("cuModuleUnload", module), 400);
  EXPECT_EQ(cuda.violations(), 2U);
}

TEST(cuda_releasing_the_primary_context_ends_its_modules) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  EXPECT_EQ(cuda.call("cuDevicePrimaryCtxRelease_v2", 0), 0);
  unsigned long long id = 0;
  EXPECT_EQ(cuda.call("cuCtxGetId", static_cast<void *>(nullptr), &id), 709);
  cuda.primary(0);
  EXPECT_EQ(cuda.launch_on(function, nullptr), 400);
  EXPECT_EQ(cuda.violations(), 0U);  // from 12.0 on it is a handle that is refused
}

TEST(cuda_watches_the_bytes_of_a_preserved_library) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  const std::string image = read_image("sm_90.cubin");
  const Pages pages(image);
  void *library = nullptr, *kernel = nullptr;
  EXPECT_EQ(cuda.load_library(&library, pages.data(), true), 0);
  EXPECT_EQ(cuda.call("cuLibraryGetKernel", &kernel, library, entry_of(image).c_str()), 0);
  EXPECT_EQ(cuda.launch_on(kernel, nullptr), 0);
  EXPECT_EQ(cuda.violations(), 0U);
  pages.data()[100] = static_cast<char>(pages.data()[100] + 1);
  EXPECT_EQ(cuda.launch_on(kernel, nullptr), 0);
  expect_violation(cuda, "are not those that were loaded");
}

TEST(cuda_older_drivers_lack_newer_entry_points) {
  const Cuda cuda("sm_80;driver=11080");
  void *address = nullptr;
  int status = -1;
  const auto find = [&](const char *name, int version) {
    return cuda.call<const char *, void **, int, uint64_t, int *>("cuGetProcAddress_v2", name, &address,
                                                                  version, 0, &status);
  };
  EXPECT_EQ(find("cuLibraryLoadData", 11080), 801);  // cuGetProcAddress_v2 itself is of 12.0
  expect_violation(cuda, "cuGetProcAddress_v2: called, but this driver does not have it");
  cuda.configure("sm_80;driver=12020");
  EXPECT_EQ(find("cuLibraryLoadData", 12000), 0);
  CHECK(address == dlsym(cuda.library, "cuLibraryLoadData"));
  EXPECT_EQ(find("cuMemAlloc", 12000), 0);
  CHECK(address == dlsym(cuda.library, "cuMemAlloc_v2"));
  EXPECT_EQ(find("cuKernelGetParamInfo", 12020), 0);
  CHECK(address == nullptr && status == 1);
  EXPECT_EQ(find("cuLibraryLoadData", 11000), 0);
  CHECK(address == nullptr && status == 2);
  EXPECT_EQ(find("cuNoSuchThing", 12000), 0);
  CHECK(address == nullptr && status == 1);
  EXPECT_EQ(find("cuInit", 13000), 1);
  cuda.hide("cuLibraryLoadData", 1);
  EXPECT_EQ(find("cuLibraryLoadData", 12000), 0);
  CHECK(address == nullptr && status == 1);
}

TEST(cuda_the_old_library_does_not_export_what_came_later) {
  const fake::Fake old = fake::open((g_fakes + "/old/libcuda.so.1").c_str(), "cuda");
  CHECK(dlsym(old.library, "cuLaunchKernel") != nullptr);
  for (const char *name : {"cuLibraryLoadData", "cuKernelGetFunction", "cuKernelGetParamInfo",
                           "cuGetProcAddress_v2", "cuTensorMapEncodeTiled", "cuTensorMapEncodeIm2col"}) {
    CHECK(dlsym(old.library, name) == nullptr);
  }
  int version = 0;
  old.configure(nullptr);
  EXPECT_EQ(old.entry<int(int *)>("cuDriverGetVersion")(&version), 0);
  EXPECT_EQ(version, 11080);
}

TEST(cuda_fails_on_demand) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  uint64_t address = 0;
  const auto allocate = [&] { return cuda.call<uint64_t *, size_t>("cuMemAlloc_v2", &address, 64); };
  cuda.fail("cuMemAlloc_v2", 2, 1, 2);
  const int expected[] = {0, 2, 2, 0};
  for (const int code : expected) EXPECT_EQ(allocate(), code);
  EXPECT_EQ(cuda.live("memory"), 2U);
  cuda.fail("cuMemAlloc_v2", 2, 0, 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(allocate(), 2);
  cuda.reset();
  EXPECT_EQ(allocate(), 0);
  EXPECT_EQ(cuda.calls("cuMemAlloc_v2"), 1U);
}

TEST(cuda_devices_come_from_the_environment) {
  setenv("FAKE_CUDA", "sm_86,sm_86,sm_75;driver=12010", 1);
  const Cuda cuda(nullptr);
  unsetenv("FAKE_CUDA");
  int value = 0;
  EXPECT_EQ(cuda.call("cuDeviceGetCount", &value), 0);
  EXPECT_EQ(value, 3);
  EXPECT_EQ(cuda.call("cuDeviceGetAttribute", &value, 76, 1), 0);
  EXPECT_EQ(value, 6);
  EXPECT_EQ(cuda.call("cuDriverGetVersion", &value), 0);
  EXPECT_EQ(value, 12010);
}

TEST(cuda_memory_copies_there_and_back) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  uint64_t address = 0;
  EXPECT_EQ((cuda.call<uint64_t *, size_t>("cuMemAlloc_v2", &address, 8)), 0);
  const char sent[8] = "seven..";
  char back[8] = {};
  EXPECT_EQ((cuda.call<uint64_t, const void *, size_t>("cuMemcpyHtoD_v2", address, sent, 8)), 0);
  EXPECT_EQ((cuda.call<void *, uint64_t, size_t>("cuMemcpyDtoH_v2", back, address, 8)), 0);
  EXPECT_EQ(std::string(back), std::string(sent));
  EXPECT_EQ(cuda.call("cuMemFree_v2", address), 0);
  EXPECT_EQ(cuda.call("cuMemFree_v2", address), 1);
}

TEST(cuda_memory_in_a_stream_is_garbage_and_goes_back_once) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *stream = cuda.stream();
  uint64_t address = 0;
  const auto allocate = [&](size_t bytes) {
    return cuda.call<uint64_t *, size_t, void *>("cuMemAllocAsync", &address, bytes, stream);
  };
  const auto give_back = [&](void *on) { return cuda.call<uint64_t, void *>("cuMemFreeAsync", address, on); };
  const auto set = [&](size_t bytes) {
    return cuda.call<uint64_t, unsigned char, size_t, void *>("cuMemsetD8Async", address, 0, bytes, stream);
  };
  EXPECT_EQ(allocate(0), 1);
  EXPECT_EQ(allocate(100), 0);
  EXPECT_EQ(address % 512, 256U);  // aligned to no more than 256
  const auto *bytes = reinterpret_cast<const unsigned char *>(address);
  EXPECT_EQ(int{bytes[99]}, 0xa5);
  EXPECT_EQ(set(100), 0);
  EXPECT_EQ(int{bytes[99]}, 0);
  EXPECT_EQ(cuda.violations(), 0U);
  EXPECT_EQ(set(101), 1);
  expect_violation(cuda, "cuMemsetD8Async: 101 bytes at");
  cuda.reset();
  EXPECT_EQ(give_back(nullptr), 0);  // another stream than it was allocated in
  EXPECT_EQ(cuda.violations(), 0U);
  EXPECT_EQ(set(1), 1);
  EXPECT_EQ(give_back(stream), 1);
  EXPECT_EQ(cuda.violations(), 2U);
}

TEST(cuda_launches_with_memory_that_is_there) {
  const Cuda cuda("sm_90,sm_90");
  const std::string image = read_image("sm_90.cubin");
  cuda.primary(1);
  void *other = cuda.function(image);
  cuda.primary(0);
  void *function = cuda.function(image), *stream = cuda.stream(), *graph = nullptr;
  Arguments arguments;
  const auto allocate = [&](void *on) {
    EXPECT_EQ((cuda.call<uint64_t *, size_t, void *>("cuMemAllocAsync", &arguments.scratch, 64, on)), 0);
  };
  const auto give_back = [&](void *on) {
    return cuda.call<uint64_t, void *>("cuMemFreeAsync", arguments.scratch, on);
  };
  const auto launch = [&](void *what) {
    return cuda.entry<LaunchFunction>("cuLaunchKernel")(what, 1, 1, 1, 128, 1, 1, 0, nullptr,
                                                        arguments.pointers, nullptr);
  };
  allocate(nullptr);
  EXPECT_EQ(launch(function), 0);
  EXPECT_EQ(cuda.violations(), 0U);
  cuda.primary(1);
  EXPECT_EQ(launch(other), 0);
  expect_violation(cuda, "is memory of device 0");
  cuda.reset();
  cuda.primary(0);
  EXPECT_EQ(give_back(nullptr), 0);
  EXPECT_EQ(launch(function), 0);
  expect_violation(cuda, "is memory that was given back");
  cuda.reset();
  EXPECT_EQ(cuda.call("cuStreamBeginCapture_v2", stream, 0), 0);
  allocate(stream);
  EXPECT_EQ(cuda.call("cuStreamEndCapture", stream, &graph), 0);
  EXPECT_EQ(launch(function), 0);
  expect_violation(cuda, "is memory of a graph");
  EXPECT_EQ(give_back(stream), 1);
  EXPECT_EQ(cuda.violations(), 2U);
}

TEST(cuda_pools_follow_the_rules) {
  const Cuda cuda("sm_90,sm_90");
  cuda.primary(0);
  void *pool = nullptr, *stream = cuda.stream(), *graph = nullptr;
  const auto create = [&](const PoolProps &props) {
    return cuda.call<void **, const PoolProps *>("cuMemPoolCreate", &pool, &props);
  };
  const auto allocate = [&](uint64_t *address) {
    return cuda.call<uint64_t *, size_t, void *, void *>("cuMemAllocFromPoolAsync", address, 4096, pool,
                                                         stream);
  };
  PoolProps props;
  props.location = 2;
  EXPECT_EQ(create(props), 1);
  props.location = 1;
  props.allocation_type = 0;
  EXPECT_EQ(create(props), 1);
  props.allocation_type = 1;
  EXPECT_EQ(create(props), 0);
  uint64_t address = 0, threshold = 1000;
  EXPECT_EQ((cuda.call<void *, int, void *>("cuMemPoolSetAttribute", pool, 5, &threshold)), 1);
  EXPECT_EQ((cuda.call<void *, int, void *>("cuMemPoolSetAttribute", pool, 4, &threshold)), 0);
  EXPECT_EQ(allocate(&address), 0);
  EXPECT_EQ(cuda.live("reserved"), 4096U);
  EXPECT_EQ((cuda.call<uint64_t, void *>("cuMemFreeAsync", address, stream)), 0);
  EXPECT_EQ(cuda.live("reserved"), 1000U);
  EXPECT_EQ(cuda.call("cuMemPoolDestroy", pool), 0);
  EXPECT_EQ(cuda.live("pool"), 0U);
  EXPECT_EQ(cuda.violations(), 0U);
  EXPECT_EQ(allocate(&address), 400);
  expect_violation(cuda, "cuMemAllocFromPoolAsync: the pool");
  for (const int mode : {0, 1, 2}) {
    EXPECT_EQ(cuda.call("cuStreamBeginCapture_v2", stream, mode), 0);
    EXPECT_EQ(create(props), mode == 2 ? 0 : 900);
    EXPECT_EQ((cuda.call<uint64_t *, size_t, void *>("cuMemAllocAsync", &address, 64, stream)),
              mode == 2 ? 0 : 901);
    EXPECT_EQ(cuda.call("cuStreamEndCapture", stream, &graph), mode == 2 ? 0 : 901);
  }
}

TEST(cuda_time_passes_by_calls_and_events_tell_it) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  const std::string image = read_image("sm_90.cubin");
  void *function = cuda.function(image), *stream = cuda.stream(), *begin = nullptr, *end = nullptr;
  const fake_kernel kernel = {1000000, 0, 0, nullptr, nullptr};
  cuda.Fake::kernel(entry_of(image).c_str(), &kernel);
  EXPECT_EQ(cuda.call("cuEventCreate", &begin, 0U), 0);
  EXPECT_EQ(cuda.call("cuEventCreate", &end, 0U), 0);
  float ms = 0;
  EXPECT_EQ((cuda.call<float *, void *, void *>("cuEventElapsedTime", &ms, begin, end)), 400);
  EXPECT_EQ(cuda.call("cuEventRecord", begin, stream), 0);
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
  EXPECT_EQ(cuda.call("cuEventRecord", end, stream), 0);
  EXPECT_EQ(cuda.call("cuEventQuery", end), 600);
  EXPECT_EQ((cuda.call<float *, void *, void *>("cuEventElapsedTime", &ms, begin, end)), 600);
  CHECK(cuda.live("host_ns") < 10000);
  EXPECT_EQ(cuda.call("cuEventSynchronize", end), 0);
  CHECK(cuda.live("host_ns") >= 1000000);
  EXPECT_EQ(cuda.call("cuEventQuery", end), 0);
  EXPECT_EQ((cuda.call<float *, void *, void *>("cuEventElapsedTime", &ms, begin, end)), 0);
  CHECK(ms > 0.999f && ms < 1.01f);
  cuda.context(0);
  void *other = cuda.stream();
  EXPECT_EQ(cuda.call("cuEventRecord", end, other), 400);
  EXPECT_EQ(cuda.live("event"), 2U);
  EXPECT_EQ(cuda.call("cuEventDestroy_v2", end), 0);
  EXPECT_EQ(cuda.violations(), 0U);
  EXPECT_EQ(cuda.call("cuEventQuery", end), 400);
  expect_violation(cuda, "cuEventQuery: the event");
}

TEST(cuda_kernels_do_what_they_are_told) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  const std::string image = read_image("sm_90.cubin");
  void *function = cuda.function(image), *stream = cuda.stream(), *graph = nullptr;
  const std::string name = entry_of(image);
  int32_t columns = 0;
  fake_kernel kernel = {};
  kernel.user = &columns;
  kernel.body = [](void *user, const fake_launch *launch) {
    *static_cast<int32_t *>(user) += fake::argument<int32_t>(*launch, 4);
  };
  cuda.Fake::kernel(name.c_str(), &kernel);
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
  cuda.record(0);
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
  EXPECT_EQ(columns, 2000);
  EXPECT_EQ(cuda.launches(), 1U);
  EXPECT_EQ(cuda.call("cuStreamBeginCapture_v2", stream, 0), 0);
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
  EXPECT_EQ(cuda.call("cuStreamEndCapture", stream, &graph), 0);
  EXPECT_EQ(columns, 2000);  // what is captured does not run
  kernel.error = 701;
  cuda.Fake::kernel(name.c_str(), &kernel);
  EXPECT_EQ(cuda.launch_on(function, stream), 701);
  kernel.error = 0;
  kernel.breaks = 700;
  cuda.Fake::kernel(name.c_str(), &kernel);
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
  EXPECT_EQ(cuda.call("cuStreamSynchronize", stream), 700);
  EXPECT_EQ(cuda.launch_on(function, stream), 700);
  cuda.reset();
  EXPECT_EQ(cuda.launch_on(function, stream), 0);
}

TEST(cuda_copies_in_a_stream_stay_in_their_memory) {
  const Cuda cuda("sm_90;memory=4096");
  cuda.primary(0);
  void *stream = cuda.stream();
  uint64_t one = 0, two = 0;
  size_t left = 0, total = 0;
  EXPECT_EQ((cuda.call<uint64_t *, size_t>("cuMemAlloc_v2", &one, 3000)), 0);
  EXPECT_EQ((cuda.call<uint64_t *, size_t>("cuMemAlloc_v2", &two, 1097)), 2);
  EXPECT_EQ((cuda.call<uint64_t *, size_t>("cuMemAlloc_v2", &two, 1000)), 0);
  EXPECT_EQ(cuda.call("cuMemGetInfo_v2", &left, &total), 0);
  EXPECT_EQ(left, 96U);
  EXPECT_EQ(total, 4096U);
  const char sent[8] = "kpack";
  char back[8] = {};
  EXPECT_EQ((cuda.call<uint64_t, const void *, size_t, void *>("cuMemcpyHtoDAsync_v2", one, sent, 8, stream)),
            0);
  EXPECT_EQ((cuda.call<uint64_t, uint64_t, size_t, void *>("cuMemcpyDtoDAsync_v2", two, one, 8, stream)), 0);
  EXPECT_EQ((cuda.call<void *, uint64_t, size_t, void *>("cuMemcpyDtoHAsync_v2", back, two, 8, stream)), 0);
  EXPECT_EQ(std::string(back), std::string(sent));
  EXPECT_EQ(cuda.violations(), 0U);
  EXPECT_EQ((cuda.call<uint64_t, uint64_t, size_t, void *>("cuMemcpyDtoDAsync_v2", two, one, 1001, stream)),
            1);
  expect_violation(cuda, "cuMemcpyDtoDAsync_v2: 1001 bytes at");
  EXPECT_EQ(cuda.call("cuMemFree_v2", one), 0);
  EXPECT_EQ(cuda.call("cuMemFree_v2", two), 0);
  EXPECT_EQ(cuda.call("cuMemGetInfo_v2", &left, &total), 0);
  EXPECT_EQ(left, 4096U);
}

TEST(cuda_keeps_nothing_while_recording_is_off) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  void *function = cuda.function(read_image("sm_90.cubin"));
  cuda.record(0);
  EXPECT_EQ(cuda.launch_on(function, nullptr), 0);
  EXPECT_EQ(cuda.launch_on(function, nullptr, 49153), 1);
  cuda.record(1);
  EXPECT_EQ(cuda.launches(), 0U);
  EXPECT_EQ(cuda.calls("cuLaunchKernel"), 2U);
}

TEST(cuda_writes_one_line_a_launch_to_the_log) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("fakes." + std::to_string(getpid()) + ".log");
  const Cuda cuda("sm_90");
  cuda.primary(0);
  const std::string image = read_image("sm_90.cubin");
  void *function = cuda.function(image);
  setenv("FAKE_LOG", path.c_str(), 1);
  EXPECT_EQ(cuda.launch_on(function, nullptr, 0, 3), 0);
  unsetenv("FAKE_LOG");
  std::ifstream file(path);
  std::string line, more;
  std::getline(file, line);
  CHECK(!std::getline(file, more));
  unlink(path.c_str());
  EXPECT_EQ(line.substr(0, line.find(" image=")),
            "cuda launch " + entry_of(image) +
                " device=0 grid=3,1,1 block=128,1,1 cluster=1,1,1 shared=0 cooperative=0 captured=0 "
                "call=cuLaunchKernel");
  CHECK(line.find("args=0010000000000000,0020000000000000,") != std::string::npos);
}

// What a tensor map is encoded from; each test changes one thing.
struct TensorMap {
  alignas(64) unsigned char bytes[sizeof(fake_map) + 64] = {};
  size_t shift = 0;
  int type = 6;
  uint32_t rank = 2;
  uint64_t address = 0x1000;
  uint64_t shape[5] = {200, 100, 30, 20, 10}, strides[4] = {400, 40000, 1200000, 24000000};
  uint32_t box[5] = {64, 128, 2, 1, 1}, steps[5] = {1, 1, 1, 1, 1};
  int lower[3] = {}, upper[3] = {};
  int interleave = 0, swizzle = 3, promotion = 2, fill = 0;

  int tiled(const fake::Fake &cuda) {
    return cuda.entry<int(void *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const uint32_t *,
                          const uint32_t *, int, int, int, int)>("cuTensorMapEncodeTiled")(
        bytes + shift, type, rank, reinterpret_cast<void *>(address), shape, strides, box, steps, interleave,
        swizzle, promotion, fill);
  }
  int im2col(const fake::Fake &cuda) {
    return cuda.entry<int(void *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const int *,
                          const int *, uint32_t, uint32_t, const uint32_t *, int, int, int, int)>(
        "cuTensorMapEncodeIm2col")(bytes + shift, type, rank, reinterpret_cast<void *>(address), shape,
                                   strides, lower, upper, box[0], box[1], steps, interleave, swizzle,
                                   promotion, fill);
  }
  fake_map map() const {
    fake_map out;
    std::memcpy(&out, bytes, sizeof out);
    return out;
  }
};

TEST(cuda_tensor_maps_hold_what_they_were_encoded_from) {
  const Cuda cuda("sm_90");
  TensorMap map;
  EXPECT_EQ(map.tiled(cuda), 201);  // needs a context
  cuda.primary(0);
  EXPECT_EQ(map.tiled(cuda), 0);
  EXPECT_EQ(map.map().magic, FAKE_MAP_MAGIC);
  EXPECT_EQ(map.map().address, 0x1000U);
  EXPECT_EQ(map.map().last[1], 99U);
  EXPECT_EQ(map.map().strides[0], 400U);
  EXPECT_EQ(map.map().strides[1], 0U);  // of a rank of 2 there is one
  EXPECT_EQ(map.map().box[1], 128);
  EXPECT_EQ(map.map().word1, uint64_t{1} << 21);
  map.rank = 4;
  map.lower[1] = -128;
  map.upper[0] = 127;
  map.box[1] = 1024;
  EXPECT_EQ(map.im2col(cuda), 0);
  EXPECT_EQ(int{map.map().im2col}, 1);
  EXPECT_EQ(map.map().lower_corner[1], -128);
  EXPECT_EQ(map.map().box[1], 1024);
  EXPECT_EQ(cuda.violations(), 0U);
}

TEST(cuda_refuses_tensor_maps_that_no_device_can_read) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  const auto refused = [&](void (*spoil)(TensorMap *)) {
    TensorMap map;
    spoil(&map);
    return map.tiled(cuda) == 1;
  };
  const auto taken = [&](void (*change)(TensorMap *)) {
    TensorMap map;
    change(&map);
    return map.tiled(cuda) == 0;
  };
  CHECK(refused([](TensorMap *map) { map->address = 0x1008; }));
  CHECK(taken([](TensorMap *map) { map->address = 0; }));
  CHECK(refused([](TensorMap *map) { map->rank = 0; }));
  CHECK(refused([](TensorMap *map) { map->rank = 6; }));
  CHECK(refused([](TensorMap *map) { map->type = 16; }));
  CHECK(refused([](TensorMap *map) { map->type = 1, map->fill = 1; }));
  CHECK(taken([](TensorMap *map) { map->fill = 1; }));
  CHECK(refused([](TensorMap *map) { map->strides[0] = 408; }));
  CHECK(refused([](TensorMap *map) { map->strides[0] = uint64_t{1} << 40; }));
  CHECK(taken([](TensorMap *map) { map->strides[0] = 0; }));
  CHECK(refused([](TensorMap *map) { map->shape[1] = 0; }));
  CHECK(taken([](TensorMap *map) { map->shape[1] = uint64_t{1} << 32; }));
  CHECK(refused([](TensorMap *map) { map->shape[1] = (uint64_t{1} << 32) + 1; }));
  CHECK(refused([](TensorMap *map) { map->box[1] = 0; }));
  CHECK(refused([](TensorMap *map) { map->box[1] = 257; }));
  CHECK(refused([](TensorMap *map) { map->box[0] = 128; }));  // 256 bytes, with a swizzle of 128
  CHECK(taken([](TensorMap *map) { map->box[0] = 128, map->swizzle = 0; }));
  CHECK(refused([](TensorMap *map) { map->box[0] = 12; }));  // 24 bytes
  CHECK(refused([](TensorMap *map) { map->swizzle = 7; }));
  CHECK(refused([](TensorMap *map) { map->steps[1] = 9; }));
  CHECK(refused([](TensorMap *map) { map->steps[1] = 0; }));
  CHECK(refused([](TensorMap *map) { map->type = 14, map->box[0] = 128; }));  // rows of 200 fp4
  CHECK(taken(
      [](TensorMap *map) { map->type = 14, map->box[0] = 128, map->shape[0] = 256, map->strides[0] = 416; }));
  CHECK(refused([](TensorMap *map) { map->type = 14, map->box[0] = 64, map->shape[0] = 256; }));
  EXPECT_EQ(cuda.violations(), 0U);
}

TEST(cuda_im2col_maps_have_bounds_of_their_own) {
  const Cuda cuda("sm_90");
  cuda.primary(0);
  const auto encode = [&](uint32_t rank, int lower, int upper, uint32_t channels, uint32_t pixels) {
    TensorMap map;
    map.rank = rank;
    map.lower[0] = lower;
    map.upper[0] = upper;
    map.box[0] = channels;
    map.box[1] = pixels;
    return map.im2col(cuda);
  };
  EXPECT_EQ(encode(2, 0, 0, 64, 64), 1);
  EXPECT_EQ(encode(4, -128, 127, 64, 1024), 0);
  EXPECT_EQ(encode(4, -129, 0, 64, 64), 1);
  EXPECT_EQ(encode(4, 0, 128, 64, 64), 1);
  EXPECT_EQ(encode(3, -32768, 32767, 64, 64), 0);
  EXPECT_EQ(encode(5, -17, 0, 64, 64), 1);
  EXPECT_EQ(encode(4, 0, 0, 64, 1025), 1);
  EXPECT_EQ(encode(4, 0, 0, 128, 64), 1);  // 256 bytes, with a swizzle of 128
  EXPECT_EQ(cuda.violations(), 0U);
}

TEST(cuda_tensor_maps_are_encoded_at_64_bytes_for_devices_that_have_them) {
  const Cuda cuda("sm_90,sm_80");
  cuda.primary(0);
  TensorMap map;
  map.shift = 16;
  EXPECT_EQ(map.tiled(cuda), 1);
  expect_violation(cuda, "expected the map at a multiple of 64");
  cuda.reset();
  cuda.primary(1);
  map.shift = 0;
  EXPECT_EQ(map.tiled(cuda), 1);
  expect_violation(cuda, "the current device has no tensor maps");
}

TEST(cuda_launches_with_the_maps_that_its_driver_needs) {
  const Cuda cuda("sm_90;driver=13010");
  cuda.primary(0);
  const std::string ptx =
      ".version 8.0\n.target sm_90\n.address_size 64\n"
      ".visible .entry k(.param .align 64 .b8 d[128])\n{\n ret;\n}\n";
  const std::string image(ptx.c_str(), ptx.size() + 1);
  void *module = nullptr, *function = nullptr;
  EXPECT_EQ(cuda.load(image, &module), 0);
  EXPECT_EQ(cuda.call("cuModuleGetFunction", &function, module, "k"), 0);
  TensorMap map;
  void *params[] = {map.bytes};
  const auto launch = [&] {
    return cuda.entry<LaunchFunction>("cuLaunchKernel")(function, 1, 1, 1, 128, 1, 1, 0, nullptr, params,
                                                        nullptr);
  };
  EXPECT_EQ(launch(), 0);
  expect_violation(cuda, "expected an encoded tensor map, got other bytes");
  cuda.reset();
  EXPECT_EQ(map.tiled(cuda), 0);  // 40 KB
  EXPECT_EQ(launch(), 0);
  expect_violation(cuda, "expected bit 21 of word 1 cleared in the map of a tensor below 128 KiB");
  cuda.reset();
  map.bytes[8 + 2] = 0;
  EXPECT_EQ(launch(), 0);
  EXPECT_EQ(cuda.violations(), 0U);
  map.shape[1] = 328;  // 130,800 bytes to its last row
  EXPECT_EQ(map.tiled(cuda), 0);
  map.bytes[8 + 2] = 0;
  EXPECT_EQ(launch(), 0);
  expect_violation(cuda, "expected the map as the driver encoded it");
}

TEST(cuda_race_of_loads_and_launches_is_counted_exactly) {
  const Cuda cuda("sm_90,sm_90");
  const std::string image = read_image("sm_90.cubin");
  void *kernel = cuda.kernel(image);
  cuda.delay_us("cuModuleLoadData", 200);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      cuda.primary(i % 2);
      void *function = cuda.function(image);
      void *stream = cuda.stream();
      for (int n = 0; n < 50; ++n) {
        cuda.launch_on(function, stream);
        cuda.launch_on(kernel, stream);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(cuda.launches(), 800U);
  EXPECT_EQ(cuda.loads(-1), 10U);  // eight modules; the library once on each device
  EXPECT_EQ(cuda.violations(), 0U);
}

// ---- HIP ----------------------------------------------------------------------------------------------

constexpr char kBoth[] = "gfx90a:sramecc+:xnack-,gfx1100";

struct Hip : fake::Fake {
  explicit Hip(const char *devices) : Fake(fake::open((g_fakes + "/libamdhip64.so").c_str(), "hip")) {
    configure(devices);
  }
  template <class... T>
  int call(const char *name, T... arguments) const {
    return entry<int(T...)>(name)(arguments...);
  }
  int load(const Pages &pages, void **module) const {
    return call<void **, const void *>("hipModuleLoadData", module, pages.data());
  }
  void *function(const Pages &pages, const std::string &entry) const {
    void *module = nullptr, *function = nullptr;
    EXPECT_EQ(load(pages, &module), 0);
    EXPECT_EQ(call("hipModuleGetFunction", &function, module, entry.c_str()), 0);
    return function;
  }
  void *stream() const {
    void *stream = nullptr;
    EXPECT_EQ(call("hipStreamCreate", &stream), 0);
    return stream;
  }
  int launch_on(void *function, void *stream, unsigned block = 256, unsigned shared = 0,
                unsigned grid = 1) const {
    Arguments arguments;
    return entry<LaunchFunction>("hipModuleLaunchKernel")(function, grid, 1, 1, block, 1, 1, shared, stream,
                                                          arguments.pointers, nullptr);
  }
};

TEST(hip_devices_are_those_configured) {
  const Hip hip(kBoth);
  int count = 0;
  EXPECT_EQ(hip.call("hipGetDeviceCount", &count), 0);
  EXPECT_EQ(count, 2);
  std::vector<char> properties(1472 + 1, 'x');
  EXPECT_EQ((hip.call<void *, int>("hipGetDevicePropertiesR0600", properties.data(), 0)), 0);
  EXPECT_EQ(std::string(&properties[1160]), "gfx90a:sramecc+:xnack-");
  EXPECT_EQ(properties[1472], 'x');
  int warp = 0;
  std::memcpy(&warp, &properties[308], sizeof warp);
  EXPECT_EQ(warp, 64);
  properties.assign(792 + 1, 'x');
  EXPECT_EQ((hip.call<void *, int>("hipGetDeviceProperties", properties.data(), 1)), 0);
  EXPECT_EQ(std::string(&properties[396]), "gfx1100");
  EXPECT_EQ(properties[792], 'x');
  EXPECT_EQ(hip.call("hipDeviceGetAttribute", &warp, 87, 1), 0);
  EXPECT_EQ(warp, 32);
  EXPECT_EQ(hip.call("hipSetDevice", 2), 101);
  EXPECT_EQ(hip.call("hipGetLastError"), 101);
  EXPECT_EQ(hip.call("hipGetLastError"), 0);
  hip.configure("none");
  EXPECT_EQ(hip.call("hipGetDeviceCount", &count), 100);
  EXPECT_EQ(count, 0);
}

TEST(hip_keeps_a_launch_with_its_arguments) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image);
  void *function = hip.function(pages, entry_of(image));
  void *stream = hip.stream();
  EXPECT_EQ(hip.launch_on(function, stream, 256, 4096, 17), 0);
  const fake_launch launch = last_launch(hip);
  EXPECT_EQ(std::string(launch.function), entry_of(image));
  EXPECT_EQ(launch.image, fake::checksum(image.data(), image.size()));
  EXPECT_EQ(launch.grid[0], 17U);
  EXPECT_EQ(launch.shared_bytes, 4096U);
  EXPECT_EQ(launch.stream, stream);
  EXPECT_EQ(launch.param_count, 7U);
  EXPECT_EQ(fake::argument<int64_t>(launch, 3), -7);
  EXPECT_EQ(fake::argument<int32_t>(launch, 4), 1000);
  EXPECT_EQ(hip.loads(0), 1U);
  EXPECT_EQ(hip.loads(1), 0U);
  EXPECT_EQ(hip.unaligned(), 0U);
  EXPECT_EQ(hip.violations(), 0U);
}

TEST(hip_matches_processor_and_features) {
  const std::string image = read_image("gfx90a.hsaco");
  const struct {
    const char *device;
    uint32_t flags;
    int expected;
  } rows[] = {{"gfx90a:sramecc+:xnack-", 0x53f, 0},
              {"gfx90a:sramecc+:xnack-", 0x03f, 0},
              {"gfx90a:sramecc+:xnack-", 0xe3f, 0},
              {"gfx90a:sramecc+:xnack-", 0xf3f, 209},
              {"gfx90a:sramecc+:xnack+", 0xf3f, 0},
              {"gfx90a:sramecc-:xnack-", 0xe3f, 209},
              {"gfx942:sramecc+:xnack-", 0x53f, 209},
              {"gfx1100", 0x41, 0},
              {"gfx1101", 0x41, 209}};
  for (const auto &row : rows) {
    const Hip hip(row.device);
    const Pages pages(with_flags(image, row.flags));
    void *module = nullptr;
    EXPECT_EQ(hip.load(pages, &module), row.expected);
  }
}

TEST(hip_refuses_what_is_no_code_object) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx90a.hsaco");
  std::string abi = image, note = image;
  abi[7] = 0;  // EI_OSABI
  note[note.find("amdhsa.kernels")] = 'b';
  const std::string rows[] = {"garbage garbage",         "",  image.substr(0, image.size() / 2),
                              image.substr(0, 64),       abi, note,
                              "__CLANG_OFFLOAD_BUNDLE__"};
  for (const std::string &bytes : rows) {
    const Pages pages(bytes);
    void *module = nullptr;
    EXPECT_EQ(hip.load(pages, &module), 200);
  }
  const Pages pages(image);
  void *module = nullptr, *function = nullptr;
  EXPECT_EQ(hip.load(pages, &module), 0);
  EXPECT_EQ(hip.call("hipModuleGetFunction", &function, module, "no_such_kernel"), 500);
}

TEST(hip_watches_the_bytes_of_a_loaded_image) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image);
  void *module = nullptr, *function = nullptr;
  EXPECT_EQ(hip.load(pages, &module), 0);
  EXPECT_EQ(hip.call("hipModuleGetFunction", &function, module, entry_of(image).c_str()), 0);
  pages.data()[image.size() - 1] = static_cast<char>(image.back() + 1);
  EXPECT_EQ(hip.launch_on(function, nullptr), 0);
  expect_violation(hip, "hipModuleLaunchKernel: the " + std::to_string(image.size()) + " bytes of the image");
  hip.reset();
  EXPECT_EQ(hip.call("hipModuleUnload", module), 0);
  expect_violation(hip, "hipModuleUnload");

  hip.reset();
  Pages gone(image);
  EXPECT_EQ(hip.load(gone, &module), 0);
  gone.unmap();
  EXPECT_EQ(hip.call("hipModuleUnload", module), 0);
  expect_violation(hip, "are unmapped");
}

TEST(hip_looks_at_the_alignment_of_an_image) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx90a.hsaco");
  void *module = nullptr;
  const Pages by_64(image, 64), by_8(image, 8);
  EXPECT_EQ(hip.load(by_64, &module), 0);
  EXPECT_EQ(hip.unaligned(), 1U);
  EXPECT_EQ(hip.violations(), 0U);
  EXPECT_EQ(hip.load(by_8, &module), 0);
  expect_violation(hip, "is not aligned to 64 bytes");
}

TEST(hip_refuses_a_file_backed_image_on_demand) {
  const Hip hip("gfx90a;file_backed=301");
  const std::string path = g_images + "/gfx90a.hsaco";
  const int file = open(path.c_str(), O_RDONLY);
  const size_t bytes = read_image("gfx90a.hsaco").size();
  void *mapping = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  CHECK(mapping != MAP_FAILED);
  void *module = nullptr;
  EXPECT_EQ((hip.call<void **, const void *>("hipModuleLoadData", &module, mapping)), 301);
  const Pages copy(std::string(static_cast<const char *>(mapping), bytes));
  EXPECT_EQ(hip.load(copy, &module), 0);
  hip.option("file_backed", 200);
  EXPECT_EQ((hip.call<void **, const void *>("hipModuleLoadData", &module, mapping)), 200);
  hip.option("file_backed", 0);
  EXPECT_EQ((hip.call<void **, const void *>("hipModuleLoadData", &module, mapping)), 0);
  EXPECT_EQ(hip.call("hipModuleUnload", module), 0);
  munmap(mapping, bytes);
}

TEST(hip_modules_belong_to_the_device_that_was_current) {
  const Hip hip("gfx90a,gfx90a");
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image);
  void *module = nullptr, *function = nullptr;
  EXPECT_EQ(hip.load(pages, &module), 0);
  EXPECT_EQ(hip.call("hipModuleGetFunction", &function, module, entry_of(image).c_str()), 0);
  void *stream = hip.stream();
  EXPECT_EQ(hip.call("hipSetDevice", 1), 0);
  EXPECT_EQ(hip.launch_on(function, stream), 400);  // the stream's device is not the current one
  EXPECT_EQ(hip.violations(), 0U);
  EXPECT_EQ(hip.launch_on(function, nullptr), 101);
  expect_violation(hip, "loaded on device 0, launched on device 1");
  hip.reset();
  EXPECT_EQ(hip.call("hipModuleGetFunction", &function, module, entry_of(image).c_str()), 400);
  expect_violation(hip, "process abort in ROCm 6");
  int device = -1;
  EXPECT_EQ(hip.call("hipStreamGetDevice", stream, &device), 0);
  EXPECT_EQ(device, 0);
  EXPECT_EQ((hip.call<void *, int *>("hipStreamGetDevice", nullptr, &device)), 0);
  EXPECT_EQ(device, 1);
}

TEST(hip_a_new_thread_starts_on_device_0) {
  const Hip hip("gfx90a,gfx90a");
  EXPECT_EQ(hip.call("hipSetDevice", 1), 0);
  int device = -1;
  std::thread([&] { hip.call("hipGetDevice", &device); }).join();
  EXPECT_EQ(device, 0);
}

TEST(hip_refuses_what_no_device_can_run) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image);
  void *function = hip.function(pages, entry_of(image));
  auto *launch = hip.entry<LaunchFunction>("hipModuleLaunchKernel");
  Arguments arguments;
  const struct {
    unsigned grid[3], block, shared;
    int expected;
  } rows[] = {{{1, 1, 1}, 256, 65536, 0},    {{1, 1, 1}, 256, 65537, 1}, {{0, 1, 1}, 256, 0, 1},
              {{1, 65536, 1}, 256, 0, 0},    {{1, 65537, 1}, 256, 0, 9}, {{16777215, 1, 1}, 256, 0, 0},
              {{16777216, 1, 1}, 256, 0, 9}, {{1, 1, 1}, 512, 0, 719},   {{1, 1, 1}, 1088, 0, 1},
              {{1, 1, 1}, 0, 0, 1}};
  for (const auto &row : rows) {
    EXPECT_EQ(launch(function, row.grid[0], row.grid[1], row.grid[2], row.block, 1, 1, row.shared, nullptr,
                     arguments.pointers, nullptr),
              row.expected);
  }
  EXPECT_EQ(hip.violations(), 0U);
  EXPECT_EQ(hip.launch_on(function, nullptr, 32), 0);
  expect_violation(hip, "no multiple of the image's 64 threads of a wavefront");
}

TEST(hip_takes_a_packed_block_in_one_order_and_size) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx1100.hsaco");
  const Pages pages(image);
  EXPECT_EQ(hip.call("hipSetDevice", 1), 0);
  void *function = hip.function(pages, entry_of(image));
  auto *launch = hip.entry<LaunchFunction>("hipModuleLaunchKernel");
  Arguments arguments;
  const auto go = [&](Extra &extra, void **pointers = nullptr) {
    return launch(function, 1, 1, 1, 128, 1, 1, 0, nullptr, pointers, extra.words);
  };
  Extra good(arguments.packed(), 3), large(arguments.packed(64), 3), small(arguments.packed(52), 3);
  EXPECT_EQ(go(good), 0);
  EXPECT_EQ(last_launch(hip).packed, 1);
  EXPECT_EQ(last_launch(hip).device, 1);
  EXPECT_EQ(fake::argument<uint64_t>(last_launch(hip), 1), 0x2000U);
  EXPECT_EQ(go(good, arguments.pointers), 1);
  EXPECT_EQ(hip.violations(), 0U);
  EXPECT_EQ(go(large), 1);
  expect_violation(hip, "expected an argument buffer of 56 to 56 bytes, got 64");
  EXPECT_EQ(go(small), 1);
  Extra swapped(arguments.packed(), 3);
  std::swap(swapped.words[0], swapped.words[2]);
  std::swap(swapped.words[1], swapped.words[3]);
  EXPECT_EQ(go(swapped), 1);
  EXPECT_EQ(hip.violations(), 3U);
}

TEST(hip_launches_cooperatively_and_with_attributes) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image);
  void *function = hip.function(pages, entry_of(image));
  Arguments arguments;
  auto *cooperative = hip.entry<int(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                    unsigned, void *, void **)>("hipModuleLaunchCooperativeKernel");
  EXPECT_EQ(cooperative(function, 8, 1, 1, 256, 1, 1, 0, nullptr, arguments.pointers), 0);
  EXPECT_EQ(last_launch(hip).cooperative, 1);
  EXPECT_EQ(cooperative(function, 1000000, 1, 1, 256, 1, 1, 0, nullptr, arguments.pointers), 720);
}

TEST(hip_launches_clusters_where_the_device_has_them) {
  const Hip hip("gfx90a,gfx1250");
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image), other_pages(with_flags(image, 0x449));
  void *function = hip.function(pages, entry_of(image));
  EXPECT_EQ(hip.call("hipSetDevice", 1), 0);
  void *other = hip.function(other_pages, entry_of(image));
  Arguments arguments;
  Attribute attribute;
  attribute.id = 4;
  attribute.value[0] = 2;
  attribute.value[1] = attribute.value[2] = 1;
  Config config;
  config.grid[0] = 4;
  config.block[0] = 256;
  config.attributes = &attribute;
  config.count = 1;
  auto *launch = hip.entry<int(const Config *, void *, void **, void **)>("hipDrvLaunchKernelEx");
  EXPECT_EQ(launch(&config, other, arguments.pointers, nullptr), 0);
  EXPECT_EQ(last_launch(hip).cluster[0], 2U);
  config.grid[0] = 3;
  EXPECT_EQ(launch(&config, other, arguments.pointers, nullptr), 9);
  EXPECT_EQ(hip.call("hipSetDevice", 0), 0);
  EXPECT_EQ(launch(&config, function, arguments.pointers, nullptr), 801);
}

TEST(hip_occupancy_is_of_the_current_device) {
  const Hip hip(kBoth);
  const Pages pages(read_image("gfx90a.hsaco"));
  void *function = hip.function(pages, entry_of(read_image("gfx90a.hsaco")));
  const auto ask = [&](int threads, size_t shared, int *blocks) {
    return hip.call<int *, void *, int, size_t>("hipModuleOccupancyMaxActiveBlocksPerMultiprocessor", blocks,
                                                function, threads, shared);
  };
  int blocks = 0;
  EXPECT_EQ(ask(256, 0, &blocks), 0);
  EXPECT_EQ(blocks, 8);
  EXPECT_EQ(ask(256, 32768, &blocks), 0);
  EXPECT_EQ(blocks, 2);
  EXPECT_EQ(ask(0, 0, &blocks), 1);
  EXPECT_EQ(hip.call("hipSetDevice", 1), 0);
  EXPECT_EQ(ask(256, 0, &blocks), 101);
}

TEST(hip_memory_in_a_stream_follows_the_rules) {
  const Hip hip(kBoth);
  void *memory = nullptr, *pool = nullptr, *graph = nullptr;
  PoolProps props;
  props.location = 1;
  EXPECT_EQ((hip.call<void **, PoolProps *>("hipMemPoolCreate", &pool, &props)), 0);
  EXPECT_EQ((hip.call<void **, size_t, void *, void *>("hipMallocFromPoolAsync", &memory, 64, pool, nullptr)),
            0);
  EXPECT_EQ((hip.call<void *, int, size_t, void *>("hipMemsetAsync", memory, 7, 64, nullptr)), 0);
  EXPECT_EQ(int{static_cast<char *>(memory)[63]}, 7);
  EXPECT_EQ(hip.violations(), 0U);
  EXPECT_EQ((hip.call<void *, int, size_t, void *>("hipMemsetAsync", memory, 7, 65, nullptr)), 1);
  expect_violation(hip, "hipMemsetAsync: 65 bytes at");
  EXPECT_EQ((hip.call<void *, void *>("hipFreeAsync", memory, nullptr)), 0);
  hip.reset();
  EXPECT_EQ((hip.call<void *, void *>("hipFreeAsync", memory, nullptr)), 1);
  expect_violation(hip, "was given back before");
  EXPECT_EQ(hip.call("hipMemPoolDestroy", pool), 0);
  hip.reset();
  EXPECT_EQ((hip.call<void **, size_t, void *, void *>("hipMallocFromPoolAsync", &memory, 64, pool, nullptr)),
            1);
  expect_violation(hip, "the pool");
  void *stream = hip.stream();
  hip.option("capture_allocation", 900);
  EXPECT_EQ(hip.call("hipStreamBeginCapture", stream, 2), 0);
  EXPECT_EQ((hip.call<void **, size_t, void *>("hipMallocAsync", &memory, 64, stream)), 900);
  EXPECT_EQ(hip.call("hipStreamEndCapture", stream, &graph), 901);
  EXPECT_EQ(hip.call("hipStreamBeginCapture", stream, 1), 0);
  EXPECT_EQ((hip.call<void **, PoolProps *>("hipMemPoolCreate", &pool, &props)), 900);
  EXPECT_EQ(hip.call("hipStreamEndCapture", stream, &graph), 901);
}

TEST(hip_events_belong_to_a_device_and_tell_the_time) {
  const Hip hip(kBoth);
  void *stream = hip.stream(), *begin = nullptr, *end = nullptr, *memory = nullptr;
  EXPECT_EQ(hip.call("hipEventCreateWithFlags", &begin, 0U), 0);
  EXPECT_EQ(hip.call("hipEventCreateWithFlags", &end, 0U), 0);
  EXPECT_EQ((hip.call<void **, size_t>("hipMalloc", &memory, 3000)), 0);
  EXPECT_EQ(hip.call("hipEventRecord", begin, stream), 0);
  EXPECT_EQ((hip.call<void *, int, size_t, void *>("hipMemsetAsync", memory, 7, 3000, stream)), 0);
  EXPECT_EQ(hip.call("hipEventRecord", end, stream), 0);
  EXPECT_EQ(hip.call("hipEventQuery", end), 600);
  EXPECT_EQ(hip.call("hipEventSynchronize", end), 0);
  float ms = 0;
  EXPECT_EQ((hip.call<float *, void *, void *>("hipEventElapsedTime", &ms, begin, end)), 0);
  CHECK(ms > 0.02f && ms < 0.025f);
  char back = 0;
  EXPECT_EQ(
      (hip.call<void *, const void *, size_t, int, void *>("hipMemcpyAsync", &back, memory, 1, 2, stream)),
      0);
  EXPECT_EQ(int{back}, 7);
  EXPECT_EQ(
      (hip.call<void *, const void *, size_t, int, void *>("hipMemcpyAsync", &back, memory, 3001, 2, stream)),
      1);
  expect_violation(hip, "hipMemcpyAsync: 3001 bytes at");
  EXPECT_EQ(hip.call("hipSetDevice", 1), 0);
  EXPECT_EQ(hip.call("hipEventRecord", end, hip.stream()), 400);
  EXPECT_EQ(hip.call("hipEventDestroy", begin), 0);
  EXPECT_EQ(hip.live("event"), 1U);
  EXPECT_EQ(hip.call("hipFree", memory), 0);
}

TEST(hip_forbids_unloading_and_hipMalloc_in_a_capture) {
  const Hip hip(kBoth);
  const Pages pages(read_image("gfx90a.hsaco"));
  void *module = nullptr, *graph = nullptr, *memory = nullptr;
  void *stream = hip.stream();
  EXPECT_EQ(hip.load(pages, &module), 0);
  EXPECT_EQ(hip.call("hipStreamBeginCapture", stream, 0), 0);
  EXPECT_EQ(hip.call("hipModuleUnload", module), 900);
  EXPECT_EQ(hip.call("hipStreamEndCapture", stream, &graph), 901);
  EXPECT_EQ(hip.call("hipStreamBeginCapture", stream, 0), 0);
  EXPECT_EQ((hip.call<void **, size_t>("hipMalloc", &memory, 64)), 900);
  EXPECT_EQ(hip.call("hipStreamEndCapture", stream, &graph), 901);
  EXPECT_EQ(hip.call("hipModuleUnload", module), 0);
}

TEST(hip_runs_out_of_memory_on_demand) {
  const Hip hip(kBoth);
  const Pages pages(read_image("gfx90a.hsaco"));
  void *module = nullptr, *memory = nullptr;
  hip.fail("hipModuleLoadData", 2, 0, 1);
  hip.fail("hipMalloc", 2, 0, 1);
  EXPECT_EQ(hip.load(pages, &module), 2);
  EXPECT_EQ(hip.load(pages, &module), 0);
  EXPECT_EQ((hip.call<void **, size_t>("hipMalloc", &memory, 64)), 2);
  EXPECT_EQ((hip.call<void **, size_t>("hipMalloc", &memory, 64)), 0);
  EXPECT_EQ(hip.call("hipFree", memory), 0);
  EXPECT_EQ(hip.live("memory"), 0U);
}

TEST(hip_knows_a_stale_handle) {
  const Hip hip(kBoth);
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image);
  void *function = hip.function(pages, entry_of(image));
  void *stream = hip.stream();
  EXPECT_EQ(hip.call("hipStreamDestroy", stream), 0);
  EXPECT_EQ(hip.launch_on(function, stream), 709);
  expect_violation(hip, "hipModuleLaunchKernel: the stream");
}

TEST(hip_the_old_library_does_not_export_what_came_later) {
  const fake::Fake old = fake::open((g_fakes + "/old/libamdhip64.so").c_str(), "hip");
  CHECK(dlsym(old.library, "hipGetDeviceProperties") != nullptr);
  CHECK(dlsym(old.library, "hipGetDevicePropertiesR0600") == nullptr);
  CHECK(dlsym(old.library, "hipDrvLaunchKernelEx") == nullptr);
}

TEST(hip_race_of_loads_and_launches_is_counted_exactly) {
  const Hip hip("gfx90a,gfx90a");
  const std::string image = read_image("gfx90a.hsaco");
  const Pages pages(image);
  hip.delay_us("hipModuleLoadData", 200);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      hip.call("hipSetDevice", i % 2);
      void *function = hip.function(pages, entry_of(image));
      void *stream = hip.stream();
      for (int n = 0; n < 50; ++n) hip.launch_on(function, stream);
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(hip.launches(), 400U);
  EXPECT_EQ(hip.loads(0), 4U);
  EXPECT_EQ(hip.violations(), 0U);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s IMAGES FAKES [FILTER]\n", argv[0]);
    return 2;
  }
  g_images = argv[1];
  g_fakes = argv[2];
  unsetenv("FAKE_LOG");
  return check::run(argc > 3 ? argv[3] : "");
}
