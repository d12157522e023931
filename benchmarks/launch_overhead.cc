// Host time of one launch: tk::softmax(...) with all its checks, the same through a bound handle, and a bare
// cuLaunchKernel of the same machine code, in turns, in one loop. Heap allocations of each are counted.
//
// Usage: launch_overhead [folder for launch_overhead.json and launch_overhead.md]. Knows no CUDA header.
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
#include <vector>

KPACK_KERNEL(tk, softmax);

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

constexpr int kBatches = 2000;  // of each kind
constexpr int kLaunches = 200;  // a batch: well under the depth of a driver's queue, which is drained between
constexpr int kColumns = 1024;
constexpr uint16_t kExpected = 0x1400;  // 1/1024 in fp16: the softmax of equal numbers

[[noreturn]] void stop(const char *format, ...) {
  va_list values;
  va_start(values, format);
  std::vfprintf(stderr, format, values);
  va_end(values);
  std::fputc('\n', stderr);
  std::exit(1);
}

// ---- the driver: what cuda.h says of the functions used here

struct Cuda {
  int (*init)(unsigned);
  int (*driver_version)(int *);
  int (*device_get)(int *, int);
  int (*device_name)(char *, int, int);
  int (*device_attribute)(int *, int, int);
  int (*context_retain)(void **, int);
  int (*context_set)(void *);
  int (*allocate)(uint64_t *, size_t);
  int (*fill16)(uint64_t, unsigned short, size_t);
  int (*copy_to_host)(void *, uint64_t, size_t);
  int (*module_load)(void **, const void *);
  int (*module_function)(void **, void *, const char *);
  int (*stream_create)(CUstream_st **, unsigned);
  int (*stream_wait)(CUstream_st *);
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream_st *,
                void **, void **);
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
  resolve(library, "cuDeviceGetAttribute", &cuda.device_attribute);
  resolve(library, "cuDevicePrimaryCtxRetain", &cuda.context_retain);
  resolve(library, "cuCtxSetCurrent", &cuda.context_set);
  resolve(library, "cuMemAlloc_v2", &cuda.allocate);
  resolve(library, "cuMemsetD16_v2", &cuda.fill16);
  resolve(library, "cuMemcpyDtoH_v2", &cuda.copy_to_host);
  resolve(library, "cuModuleLoadData", &cuda.module_load);
  resolve(library, "cuModuleGetFunction", &cuda.module_function);
  resolve(library, "cuStreamCreate", &cuda.stream_create);
  resolve(library, "cuStreamSynchronize", &cuda.stream_wait);
  resolve(library, "cuLaunchKernel", &cuda.launch);
  return cuda;
}

void check(int result, const char *what) {
  if (result != 0) stop("%s: the driver returned %d", what, result);
}

void check(kpack::Status status, const char *what) {
  if (!status) stop("%s: %s: %s", what, status.name(), status.message());
}

// ---- the machine code behind tk::softmax, found in the descriptor as the runtime finds it

template <class T>
const T *follow(const kpk_ref &reference) {
  return reinterpret_cast<const T *>(reinterpret_cast<const char *>(&reference) + reference);
}

template <class T>
const T &row(const kpk_table &table, uint32_t index) {
  return *reinterpret_cast<const T *>(follow<char>(table.data) + size_t{index} * table.stride);
}

// fp16, aligned, in a block of kColumns?
bool is_wanted(const kpk_abi_kernel &kernel, const kpk_abi_variant &variant) {
  const auto &overload = row<kpk_abi_overload>(kernel.overloads, variant.overload);
  if (follow<uint8_t>(overload.types)[0] != (KPK_POINTER | KPK_FP16) || variant.divisible_16 == 0)
    return false;
  for (uint32_t i = 0; i < kernel.constexprs.count; ++i) {
    if (std::string(follow<char>(row<kpk_abi_constexpr>(kernel.constexprs, i).name)) != "BLOCK") continue;
    return follow<kpk_value>(variant.constexprs)[i].bits == kColumns;
  }
  return false;
}

const kpk_abi_image &find_image(const kpk_abi_kernel &kernel, uint32_t arch) {
  for (uint32_t v = 0; v < kernel.variants.count; ++v) {
    const auto &variant = row<kpk_abi_variant>(kernel.variants, v);
    if (!is_wanted(kernel, variant)) continue;
    for (uint32_t i = 0; i < variant.image_count; ++i) {
      const auto &image = row<kpk_abi_image>(kernel.images, variant.first_image + i);
      const auto &target = row<kpk_abi_target>(kernel.targets, image.target);
      if (target.kind == KPK_IMAGE_CUBIN && target.arch == arch && image.codec == KPK_CODEC_RAW) return image;
    }
  }
  stop("softmax: expected a raw image of fp16, BLOCK %d for sm_%u, got none; make archives with --arch sm_%u",
       kColumns, arch, arch);
}

// ---- the three ways

struct Bench {
  Cuda cuda;
  CUstream_st *stream = nullptr;
  void *function = nullptr;
  const kpk_abi_image *image = nullptr;
  uint64_t out = 0, in = 0;
  char gpu[128] = "";
  int driver = 0;
};

uint32_t open_device(Bench *bench) {
  check(bench->cuda.init(0), "cuInit");
  check(bench->cuda.driver_version(&bench->driver), "cuDriverGetVersion");
  int device = 0, major = 0, minor = 0;
  check(bench->cuda.device_get(&device, 0), "cuDeviceGet");
  check(bench->cuda.device_name(bench->gpu, sizeof bench->gpu, device), "cuDeviceGetName");
  check(bench->cuda.device_attribute(&major, 75, device), "compute capability, major");
  check(bench->cuda.device_attribute(&minor, 76, device), "compute capability, minor");
  void *context = nullptr;
  check(bench->cuda.context_retain(&context, device), "cuDevicePrimaryCtxRetain");
  check(bench->cuda.context_set(context), "cuCtxSetCurrent");
  return static_cast<uint32_t>(10 * major + minor);
}

void prepare(Bench *bench) {
  const uint32_t arch = open_device(bench);
  const kpack::Kernel kernel = tk::softmax;
  bench->image = &find_image(kernel.native(), arch);
  void *module = nullptr;
  check(bench->cuda.module_load(&module, follow<void>(bench->image->data)), "cuModuleLoadData");
  check(bench->cuda.module_function(&bench->function, module, follow<char>(bench->image->entry)),
        "cuModuleGetFunction");
  check(bench->cuda.stream_create(&bench->stream, 1 /* non-blocking */), "cuStreamCreate");
  for (uint64_t *memory : {&bench->out, &bench->in}) {
    check(bench->cuda.allocate(memory, kColumns * sizeof(uint16_t)), "cuMemAlloc");
    check(bench->cuda.fill16(*memory, 0, kColumns), "cuMemsetD16");
  }
}

// The arguments of a bare launch, where the image wants them; hidden scratch pointers stay null.
struct BareArguments {
  explicit BareArguments(const Bench &bench) {
    const std::array<uint64_t, 5> call = {bench.out, bench.in, kColumns, kColumns, kColumns};
    for (uint32_t i = 0; i < bench.image->layout.count; ++i) {
      const auto &slot = row<kpk_abi_slot>(bench.image->layout, i);
      values[i] = slot.source == KPK_SLOT_ARGUMENT ? call.at(slot.index) : 0;
      pointers[i] = &values[i];
    }
  }
  uint64_t values[16] = {};
  void *pointers[16] = {};
};

struct Way {
  const char *name;
  std::vector<double> nanoseconds;  // of one launch, a value a batch
  unsigned long allocated = 0;
};

template <class Launch>
void measure(const Bench &bench, Way *way, Launch launch) {
  const unsigned long before = allocations;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kLaunches; ++i) launch();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  way->allocated += allocations - before;
  check(bench.cuda.stream_wait(bench.stream), "cuStreamSynchronize");
  way->nanoseconds.push_back(took.count() / kLaunches);  // room was made: not an allocation of a launch
}

// Once each, to load, and to see that each of them computes.
template <class Launch>
void try_out(const Bench &bench, const char *name, Launch launch) {
  check(bench.cuda.fill16(bench.out, 0, kColumns), "cuMemsetD16");
  launch();
  check(bench.cuda.stream_wait(bench.stream), name);
  std::vector<uint16_t> result(kColumns);
  check(bench.cuda.copy_to_host(result.data(), bench.out, kColumns * sizeof(uint16_t)), "cuMemcpyDtoH");
  for (const uint16_t value : result) {
    if (value != kExpected) stop("%s: expected 0x%04x in every column, got 0x%04x", name, kExpected, value);
  }
}

std::array<Way, 3> run(const Bench &bench) {
  std::array<Way, 3> ways = {Way{"bare cuLaunchKernel", {}}, Way{"tk::softmax, bound to the device", {}},
                             Way{"tk::softmax", {}}};
  for (Way &way : ways) way.nanoseconds.reserve(kBatches);
  BareArguments arguments(bench);
  auto *out = reinterpret_cast<__half *>(bench.out);
  auto *in = reinterpret_cast<const __half *>(bench.in);
  const int64_t stride = kColumns;
  const int columns = kColumns, rows = 1;
  const kpack::Bound handle = tk::softmax.bind(kpack::cuda_device(0));
  check(handle.status(), "bind");

  const auto bare = [&] {
    check(bench.cuda.launch(bench.function, 1, 1, 1, bench.image->num_warps * bench.image->warp_size, 1, 1,
                            bench.image->shared_bytes, bench.stream, arguments.pointers, nullptr),
          "cuLaunchKernel");
  };
  const auto bound = [&] { check(handle(bench.stream, out, in, stride, stride, columns, rows), "bound"); };
  const auto full = [&] {
    check(tk::softmax(bench.stream, out, in, stride, stride, columns, rows), "softmax");
  };
  try_out(bench, "bare", bare);
  try_out(bench, "bound", bound);
  try_out(bench, "softmax", full);
  for (int batch = 0; batch < kBatches; ++batch) {
    measure(bench, &ways[0], bare);
    measure(bench, &ways[1], bound);
    measure(bench, &ways[2], full);
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
  for (size_t i = 0; i < way.nanoseconds.size(); ++i) {
    difference.push_back(way.nanoseconds[i] - bare.nanoseconds[i]);
  }
  return quantile(difference, 0.5);
}

std::string format(const char *text, ...) {
  char line[512];
  va_list values;
  va_start(values, text);
  std::vsnprintf(line, sizeof line, text, values);
  va_end(values);
  return line;
}

std::string today() {
  char date[16];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  return date;
}

std::string as_json(const Bench &bench, const std::array<Way, 3> &ways) {
  std::string json = format(
      "{\n  \"date\": \"%s\",\n  \"gpu\": \"%s\",\n  \"driver\": %d,\n  \"batches\": %d,\n"
      "  \"launches_per_batch\": %d,\n  \"ways\": [\n",
      today().c_str(), bench.gpu, bench.driver, kBatches, kLaunches);
  for (const Way &way : ways) {
    json += format(
        "    {\"name\": \"%s\", \"median_ns\": %.1f, \"p10_ns\": %.1f, \"p90_ns\": %.1f, "
        "\"over_bare_ns\": %.1f, \"allocations\": %lu}%s\n",
        way.name, quantile(way.nanoseconds, 0.5), quantile(way.nanoseconds, 0.1),
        quantile(way.nanoseconds, 0.9), over(way, ways[0]), way.allocated, &way == &ways.back() ? "" : ",");
  }
  return json + "  ]\n}\n";
}

std::string as_markdown(const Bench &bench, const std::array<Way, 3> &ways) {
  std::string table = format(
      "# Host time of one launch\n\n%s, driver API %d, %s; %d batches of %d launches each, "
      "in turns\n\n| launch | median ns | 10 %% | 90 %% | over bare | heap allocations |\n"
      "|---|---:|---:|---:|---:|---:|\n",
      bench.gpu, bench.driver, today().c_str(), kBatches, kLaunches);
  for (const Way &way : ways) {
    table += format("| %s | %.1f | %.1f | %.1f | %+.1f | %lu |\n", way.name, quantile(way.nanoseconds, 0.5),
                    quantile(way.nanoseconds, 0.1), quantile(way.nanoseconds, 0.9), over(way, ways[0]),
                    way.allocated);
  }
  return table;
}

void write(const std::string &path, const std::string &text) {
  std::FILE *file = std::fopen(path.c_str(), "w");
  if (file == nullptr) stop("%s: cannot be written", path.c_str());
  std::fputs(text.c_str(), file);
  std::fclose(file);
}

}  // namespace

int main(int count, char **arguments) {
  Bench bench;
  bench.cuda = open_driver();
  prepare(&bench);
  const std::array<Way, 3> ways = run(bench);
  const std::string json = as_json(bench, ways);
  const std::string markdown = as_markdown(bench, ways);
  std::printf("%s\n%s", json.c_str(), markdown.c_str());
  if (count > 1) {
    write(std::string(arguments[1]) + "/launch_overhead.json", json);
    write(std::string(arguments[1]) + "/launch_overhead.md", markdown);
  }
  return 0;
}
