// Host time of one launch of kernels with 0, 7, 16 and 58 arguments: through kpack's C++ API with all its checks,
// through its C API argument by argument and by an array of them, through handles bound to the device and pinned to a
// variant, and a bare cuLaunchKernelEx of the same CUfunction, in turns, in one loop. Then a kernel without alternatives
// beside the same one tuned, with calls of one key of its table and of two keys in turns. Heap allocations of each are
// counted.
//
// Prints JSON: launch_overhead.py makes a table of several processes. Knows no CUDA header.
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <kpack/kpack.hpp>
#include <string>
#include <utility>
#include <vector>

#include "launch_overhead_c.h"
#include "two_keys.h"

KPACK_KERNEL(tests, nothing);
KPACK_KERNEL(tests, args7);
KPACK_KERNEL(tests, args16);
KPACK_KERNEL(tests, args58);
KPACK_KERNEL(tests, fixed7);
KPACK_KERNEL(tests, tuned7);

// ---- every allocation of the process, libcuda's too: what counts is the difference to the bare launch

namespace {
unsigned long allocations = 0;  // one thread measures
}
extern "C" {
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *malloc(size_t bytes) { return ++allocations, __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) { return ++allocations, __libc_calloc(count, bytes); }
void *realloc(void *memory, size_t bytes) { return ++allocations, __libc_realloc(memory, bytes); }
}

namespace {

constexpr int kBatches = 500;   // of each way
constexpr int kLaunches = 200;  // a batch: well under the depth of a driver's queue, which is drained between

[[noreturn]] void stop(const char *format, ...) {
  va_list values;
  va_start(values, format);
  std::vfprintf(stderr, format, values);
  va_end(values);
  std::fputc('\n', stderr);
  std::exit(1);
}

// ---- the driver: what cuda.h says of the functions used here

struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  CUstream_st *stream;
  void *attributes;
  unsigned attribute_count;
};

struct Cuda {
  int (*init)(unsigned);
  int (*driver_version)(int *);
  int (*device_get)(int *, int);
  int (*device_name)(char *, int, int);
  int (*context_retain)(void **, int);
  int (*context_set)(void *);
  int (*allocate)(uint64_t *, size_t);
  int (*fill32)(uint64_t, unsigned, size_t);
  int (*copy_to_host)(void *, uint64_t, size_t);
  int (*stream_create)(CUstream_st **, unsigned);
  int (*stream_wait)(CUstream_st *);
  int (*param_info)(void *, size_t, size_t *, size_t *);
  int (*launch)(const LaunchConfig *, void *, void **, void **);
};

template <class F>
void resolve(void *library, const char *name, F *function) {
  *function = reinterpret_cast<F>(dlsym(library, name));
  if (*function == nullptr) stop("libcuda.so.1: expected %s, got a driver without it", name);
}

Cuda open_driver() {
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) stop("no NVIDIA driver, so nothing to measure: %s", dlerror());
  Cuda cuda;
  resolve(library, "cuInit", &cuda.init);
  resolve(library, "cuDriverGetVersion", &cuda.driver_version);
  resolve(library, "cuDeviceGet", &cuda.device_get);
  resolve(library, "cuDeviceGetName", &cuda.device_name);
  resolve(library, "cuDevicePrimaryCtxRetain", &cuda.context_retain);
  resolve(library, "cuCtxSetCurrent", &cuda.context_set);
  resolve(library, "cuMemAlloc_v2", &cuda.allocate);
  resolve(library, "cuMemsetD32_v2", &cuda.fill32);
  resolve(library, "cuMemcpyDtoH_v2", &cuda.copy_to_host);
  resolve(library, "cuStreamCreate", &cuda.stream_create);
  resolve(library, "cuStreamSynchronize", &cuda.stream_wait);
  resolve(library, "cuFuncGetParamInfo", &cuda.param_info);
  resolve(library, "cuLaunchKernelEx", &cuda.launch);
  return cuda;
}

void check(int result, const char *what) {
  if (result != 0) stop("%s: the driver returned %d", what, result);
}

void check(kpack::Status status, const char *what) {
  if (!status) stop("%s: %s: %s", what, status.name(), status.message());
}

struct Machine {
  Cuda cuda;
  CUstream_st *stream = nullptr;
  uint64_t memory = 0;  // the result, then what the pointers point at
  char gpu[128] = "";
  int driver = 0;
};

constexpr uint64_t kPitch = 256;  // bytes from one pointer to the next

void prepare(Machine *machine) {
  machine->cuda = open_driver();
  const Cuda &cuda = machine->cuda;
  check(cuda.init(0), "cuInit");
  check(cuda.driver_version(&machine->driver), "cuDriverGetVersion");
  int device = 0;
  check(cuda.device_get(&device, 0), "cuDeviceGet");
  check(cuda.device_name(machine->gpu, sizeof machine->gpu, device), "cuDeviceGetName");
  void *context = nullptr;
  check(cuda.context_retain(&context, device), "cuDevicePrimaryCtxRetain");
  check(cuda.context_set(context), "cuCtxSetCurrent");
  check(cuda.stream_create(&machine->stream, 1 /* non-blocking */), "cuStreamCreate");
  check(cuda.allocate(&machine->memory, 64 * kPitch), "cuMemAlloc");
  check(cuda.fill32(machine->memory, 0x3f800000 /* 1.0f */, 64 * kPitch / 4), "cuMemsetD32");
}

// ---- calls of every size: the result, pointers, i32, i64, fp32, as tests/cpp/kernels.py has them

template <size_t pointers, size_t ints, size_t longs, size_t floats>
struct Call {
  static constexpr size_t kCount = 1 + pointers + ints + longs + floats;
  double *out;
  std::array<const float *, pointers> p;
  std::array<int32_t, ints> i;
  std::array<int64_t, longs> l;
  std::array<float, floats> f;

  explicit Call(const Machine &machine) : out(reinterpret_cast<double *>(machine.memory)) {
    for (size_t k = 0; k < pointers; ++k)
      p[k] = reinterpret_cast<const float *>(machine.memory + (k + 1) * kPitch);
    for (size_t k = 0; k < ints; ++k) i[k] = static_cast<int32_t>(k) + 10;
    for (size_t k = 0; k < longs; ++k) l[k] = static_cast<int64_t>(k) + 1000;
    for (size_t k = 0; k < floats; ++k) f[k] = 0.5F * static_cast<float>(k + 1);
  }
  c_values values() const { return {out, p.data(), i.data(), l.data(), f.data()}; }
  double expected() const {
    double sum = static_cast<double>(pointers);
    for (const int32_t value : i) sum += value;
    for (const int64_t value : l) sum += static_cast<double>(value);
    for (const float value : f) sum += static_cast<double>(value);
    return sum;
  }
  template <class F>
  auto with(F function) const {
    return apply(function, std::make_index_sequence<pointers>(), std::make_index_sequence<ints>(),
                 std::make_index_sequence<longs>(), std::make_index_sequence<floats>());
  }
  template <class F, size_t... P, size_t... I, size_t... L, size_t... R>
  auto apply(F function, std::index_sequence<P...>, std::index_sequence<I...>, std::index_sequence<L...>,
             std::index_sequence<R...>) const {
    return function(out, p[P]..., i[I]..., l[L]..., f[R]...);
  }
};

struct NoArguments {
  static constexpr size_t kCount = 0;
  explicit NoArguments(const Machine &) {}
  c_values values() const { return {}; }
  template <class F>
  auto with(F function) const {
    return function();
  }
};

double expected_of(const NoArguments &) { return 0; }
template <class C>
double expected_of(const C &call) {
  return call.expected();
}

// ---- measuring

struct Way {
  const char *name;
  std::vector<double> nanoseconds;  // of one launch, a value a batch
  unsigned long allocated = 0;
};

template <class Launch>
void measure(const Machine &machine, Way *way, Launch launch) {
  const unsigned long before = allocations;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kLaunches; ++i) launch();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  way->allocated += allocations - before;
  check(machine.cuda.stream_wait(machine.stream), "cuStreamSynchronize");
  way->nanoseconds.push_back(took.count() / kLaunches);  // room was made: not an allocation of a launch
}

// Once each, to see that each of them computes.
template <class C, class Launch>
void try_out(const Machine &machine, const C &call, const char *name, Launch launch) {
  check(machine.cuda.fill32(machine.memory, 0, 2), "cuMemsetD32");
  launch();
  check(machine.cuda.stream_wait(machine.stream), name);
  double result = 0;
  check(machine.cuda.copy_to_host(&result, machine.memory, sizeof result), "cuMemcpyDtoH");
  if (result != expected_of(call)) stop("%s: expected %g, got %g", name, expected_of(call), result);
}

// A bare launch: the function of the pinned handle, and what its node says of it.
struct Bare {
  alignas(128) unsigned char block[1024] = {};
  void *pointers[128] = {};
  kpk_node node = {};
  LaunchConfig config = {};
};

void prepare(const Machine &machine, const kpk_node &node, Bare *bare) {
  bare->node = node;
  bare->config = {{node.grid[0], node.grid[1], node.grid[2]},
                  {node.block[0], node.block[1], node.block[2]},
                  node.shared_bytes,
                  machine.stream,
                  nullptr,
                  0};
  size_t offset = 0, bytes = 0;
  for (size_t i = 0; machine.cuda.param_info(node.function, i, &offset, &bytes) == 0; ++i)
    bare->pointers[i] = bare->block + offset;
}

using Ways = std::vector<Way>;
using CLaunch = kpk_status (*)(const kpk_kernel *, kpk_stream, const c_values *);

Ways named(std::initializer_list<const char *> names) {
  Ways ways;
  for (const char *name : names) {
    ways.push_back({name, {}});
    ways.back().nanoseconds.reserve(kBatches);
  }
  return ways;
}

template <class C>
Ways run(const Machine &machine, const kpack::Kernel &kernel, CLaunch launch_c) {
  const C call(machine);
  const c_values values = call.values();
  const kpk_device device = kpack::cuda_device(0);
  const kpack::Bound bound = kernel.bind(device);
  check(bound.status(), "bind");
  const kpack::Bound pinned = call.with([&](auto... a) { return kernel.pin(device, a...); });
  check(pinned.status(), "pin");
  Bare bare;
  kpk_node node = {};
  check(call.with([&](auto... a) { return pinned.node(bare.block, sizeof bare.block, &node, a...); }),
        "node");
  prepare(machine, node, &bare);
  void *extra[] = {reinterpret_cast<void *>(uintptr_t{1}), bare.block, reinterpret_cast<void *>(uintptr_t{2}),
                   &bare.node.param_bytes, nullptr};
  kpk_arg args[C::kCount + 1];
  call.with([&](auto... a) {
    const kpk_arg made[] = {kpack::detail::arg(a)..., kpk_arg{}};
    std::copy(made, made + C::kCount + 1, args);
  });
  const uint64_t signature = kpk_signature(args, C::kCount);

  const auto by_pointers = [&] {
    check(machine.cuda.launch(&bare.config, node.function, bare.pointers, nullptr), "cuLaunchKernelEx");
  };
  const auto by_block = [&] {
    check(machine.cuda.launch(&bare.config, node.function, nullptr, extra), "cuLaunchKernelEx");
  };
  const auto cpp = [&] { check(call.with([&](auto... a) { return kernel(machine.stream, a...); }), "C++"); };
  const auto c = [&] {
    check(kpk_launch(&kernel.native(), {machine.stream, KPK_VENDOR_CUDA, 0}, args, C::kCount, signature),
          "C");
  };
  const auto c_call = [&] {
    check(launch_c(&kernel.native(), {machine.stream, KPK_VENDOR_CUDA, 0}, &values), "C, one by one");
  };
  const auto by_bound = [&] {
    check(call.with([&](auto... a) { return bound(machine.stream, a...); }), "bound");
  };
  const auto by_pinned = [&] {
    check(call.with([&](auto... a) { return pinned(machine.stream, a...); }), "pinned");
  };
  Ways ways =
      named({"bare cuLaunchKernelEx", "the same, parameters in a block", "C++", "C, passed one by one",
             "C, arguments ready made", "C++, bound to the device", "C++, pinned to the variant"});
  const auto each = [&](auto act) {
    act(0, by_pointers), act(1, by_block), act(2, cpp), act(3, c_call), act(4, c), act(5, by_bound),
        act(6, by_pinned);
  };
  each([&](size_t, auto launch) { launch(), launch(); });  // the first one loads, the second one learns
  if (C::kCount != 0) each([&](size_t way, auto launch) { try_out(machine, call, ways[way].name, launch); });
  for (int batch = 0; batch < kBatches; ++batch)
    each([&](size_t way, auto launch) { measure(machine, &ways[way], launch); });
  return ways;
}

// What tuning adds. Of the pairs of calls, the second one's first i32 is another bucket's where keys change in turns.
Ways run_tuned(const Machine &machine) {
  Call<2, 2, 1, 1> call(machine), beside(machine), other(machine);
  call.i[0] = 1000, beside.i[0] = 1020, other.i[0] = 2000;
  const auto args = [](const auto &of) {
    return of.with([](auto... a) { return std::vector<kpk_arg>{kpack::detail::arg(a)...}; });
  };
  two_keys::tune(kpack::Kernel(tests::tuned7).native(), {machine.stream, KPK_VENDOR_CUDA, 0}, args(call),
                 args(other));
  // An early way's turn must not be a later one's: each has a count of its own.
  const auto in_turns = [&](const kpack::Kernel &kernel, const Call<2, 2, 1, 1> &second) {
    return [&, kernel, number = 0]() mutable {
      const auto &now = ++number % 2 != 0 ? call : second;
      check(now.with([&](auto... a) { return kernel(machine.stream, a...); }), "tuned");
    };
  };
  auto fixed = in_turns(tests::fixed7, other);
  auto one_key = in_turns(tests::tuned7, beside);
  auto two_keys = in_turns(tests::tuned7, other);
  Ways ways = named({"C++, a kernel without alternatives", "C++, the same tuned, calls of one key",
                     "C++, the same tuned, calls of two keys in turns"});
  for (int turn = 0; turn < 6; ++turn) fixed(), one_key(), two_keys();  // load and learn
  for (int batch = 0; batch < kBatches; ++batch) {
    measure(machine, &ways[0], [&] { fixed(); });
    measure(machine, &ways[1], [&] { one_key(); });
    measure(machine, &ways[2], [&] { two_keys(); });
  }
  return ways;
}

// ---- what came of it

double quantile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

// Median of the differences within a turn: what drifts between turns is in neither.
double over(const Way &way, const Way &bare) {
  std::vector<double> difference;
  for (size_t i = 0; i < way.nanoseconds.size(); ++i)
    difference.push_back(way.nanoseconds[i] - bare.nanoseconds[i]);
  return quantile(difference, 0.5);
}

std::string today() {
  char date[16];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  return date;
}

struct Result {
  size_t arguments;
  Ways ways;
};

void print_ways(const char *name, const std::vector<Result> &results) {
  std::printf("  \"%s\": [", name);
  const char *separator = "\n";
  for (const Result &result : results) {
    for (const Way &way : result.ways) {
      std::printf(
          "%s    {\"arguments\": %zu, \"name\": \"%s\", \"median_ns\": %.1f, \"over_bare_ns\": %.1f, "
          "\"allocations\": %lu}",
          separator, result.arguments, way.name, quantile(way.nanoseconds, 0.5), over(way, result.ways[0]),
          way.allocated);
      separator = ",\n";
    }
  }
  std::printf("\n  ]");
}

// What is tuned is over the kernel without alternatives.
void print_json(const Machine &machine, const std::vector<Result> &results, const Result &tuned) {
  std::printf(
      "{\n  \"date\": \"%s\",\n  \"gpu\": \"%s\",\n  \"driver\": %d,\n  \"batches\": %d,\n"
      "  \"launches_per_batch\": %d,\n",
      today().c_str(), machine.gpu, machine.driver, kBatches, kLaunches);
  print_ways("ways", results);
  std::printf(",\n");
  print_ways("tuned", {tuned});
  std::printf("\n}\n");
}

}  // namespace

int main() {
  Machine machine;
  prepare(&machine);
  print_json(machine,
             {{0, run<NoArguments>(machine, tests::nothing, launch_c_0)},
              {7, run<Call<2, 2, 1, 1>>(machine, tests::args7, launch_c_7)},
              {16, run<Call<3, 4, 4, 4>>(machine, tests::args16, launch_c_16)},
              {58, run<Call<9, 16, 16, 16>>(machine, tests::args58, launch_c_58)}},
             {7, run_tuned(machine)});
  return 0;
}
