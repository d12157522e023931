// The first launch of an image: loading it and launching it, through kpack and with bare driver calls (cuModuleLoadData,
// cuModuleGetFunction, cuFuncSetAttribute where it is needed, cuLaunchKernel), for every variant of tk::softmax in
// turn. What one of the two has loaded is unloaded before the other loads the same; who goes first alternates.
//
// Usage: first_launch <start>: the number of the variant to begin with, so that each is once the first of a process.
// Prints a line a variant: position, variant, who went first, way, and microseconds until the launch was made and
// until the result was there, bare and through kpack. Contexts and streams are there before. Knows no CUDA header.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>
#include <vector>

KPACK_KERNEL(tk, softmax);

namespace {

constexpr int64_t kMostColumns = int64_t{1} << 17;
constexpr size_t kBytes = size_t{1} << 21;  // of each buffer: so many columns of fp64, and room

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
  int (*device_attribute)(int *, int, int);
  int (*context_retain)(void **, int);
  int (*context_set)(void *);
  int (*allocate)(uint64_t *, size_t);
  int (*stream_create)(CUstream_st **, unsigned);
  int (*stream_wait)(CUstream_st *);
  int (*module_load)(void **, const void *);
  int (*module_function)(void **, void *, const char *);
  int (*module_unload)(void *);
  int (*function_set)(void *, int, int);
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
  resolve(library, "cuDeviceGetAttribute", &cuda.device_attribute);
  resolve(library, "cuDevicePrimaryCtxRetain", &cuda.context_retain);
  resolve(library, "cuCtxSetCurrent", &cuda.context_set);
  resolve(library, "cuMemAlloc_v2", &cuda.allocate);
  resolve(library, "cuStreamCreate", &cuda.stream_create);
  resolve(library, "cuStreamSynchronize", &cuda.stream_wait);
  resolve(library, "cuModuleLoadData", &cuda.module_load);
  resolve(library, "cuModuleGetFunction", &cuda.module_function);
  resolve(library, "cuModuleUnload", &cuda.module_unload);
  resolve(library, "cuFuncSetAttribute", &cuda.function_set);
  resolve(library, "cuLaunchKernel", &cuda.launch);
  return cuda;
}

void check(int result, const char *what) {
  if (result != 0) stop("%s: the driver returned %d", what, result);
}

void check(kpack::Status status, const char *what) {
  if (!status) stop("%s: %s: %s", what, status.name(), status.message());
}

// ---- the images behind tk::softmax, found in the descriptor as the runtime finds them

template <class T>
const T *follow(const kpk_ref &reference) {
  return reinterpret_cast<const T *>(reinterpret_cast<const char *>(&reference) + reference);
}

template <class T>
const T &row(const kpk_table &table, uint32_t index) {
  return *reinterpret_cast<const T *>(follow<char>(table.data) + size_t{index} * table.stride);
}

struct Case {
  const kpk_abi_image *image;
  const char *variant;
  kpack::DType type;
  int64_t columns;
  bool aligned;
};

// The number behind `what` in "fp16.ROWS1.BLOCK1024.HELD2.STEP0.EDGESFalse.ALIGN8.LONGEST2048.w4.a16".
int64_t number_of(const char *name, const char *what) {
  const char *at = std::strstr(name, what);
  if (at == nullptr) stop("%s: expected a variant with its %s", name, what);
  return std::atoll(at + std::strlen(what));
}

int64_t bytes_of(kpack::DType type) {
  return type == kpack::DType::fp64 ? 8 : type == kpack::DType::fp32 ? 4 : 2;
}

// What to call a variant with, so that none before it takes the call: its longest row, and where it is for columns of
// less than 16 bytes' alignment, one that has no more.
Case case_of(const kpk_abi_variant &variant, const kpk_abi_image &image) {
  const char *name = follow<char>(variant.name);
  const int64_t align = number_of(name, "ALIGN");
  int64_t columns = std::min(number_of(name, "LONGEST"), kMostColumns);
  const kpack::DType type = std::strncmp(name, "fp16", 4) == 0   ? kpack::DType::fp16
                            : std::strncmp(name, "bf16", 4) == 0 ? kpack::DType::bf16
                            : std::strncmp(name, "fp32", 4) == 0 ? kpack::DType::fp32
                                                                 : kpack::DType::fp64;
  if (align > 1 && align < 16 / bytes_of(type)) columns -= align;
  return {&image, name, type, columns, variant.divisible_16 != 0};
}

std::vector<Case> cases_for(const kpk_abi_kernel &kernel, uint32_t arch) {
  std::vector<Case> cases;
  for (uint32_t v = 0; v < kernel.variants.count; ++v) {
    const auto &variant = row<kpk_abi_variant>(kernel.variants, v);
    for (uint32_t i = 0; i < variant.image_count; ++i) {
      const auto &image = row<kpk_abi_image>(kernel.images, variant.first_image + i);
      const auto &target = row<kpk_abi_target>(kernel.targets, image.target);
      if (target.kind == KPK_IMAGE_CUBIN && target.arch == arch && image.codec == KPK_CODEC_RAW)
        cases.push_back(case_of(variant, image));
    }
  }
  if (cases.empty())
    stop("softmax: expected raw images for sm_%u, got none; make archives with --arch sm_%u", arch, arch);
  return cases;
}

// ---- the two ways

struct Machine {
  Cuda cuda;
  CUstream_st *stream = nullptr;
  uint64_t out = 0, in = 0;
};

struct Took {
  double launched_us, done_us;
};

class Clock {
 public:
  double us() const {
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

uint64_t offset_of(const Case &what) { return what.aligned ? 0 : static_cast<uint64_t>(bytes_of(what.type)); }

Took by_hand(const Machine &machine, const Case &what) {
  const kpk_abi_image &image = *what.image;
  const uint64_t at = offset_of(what);
  const uint64_t call[] = {machine.out + at,
                           machine.in + at,
                           static_cast<uint64_t>(what.columns),
                           static_cast<uint64_t>(what.columns),
                           static_cast<uint64_t>(what.columns),
                           1};
  uint64_t values[16] = {};
  void *pointers[16] = {};
  for (uint32_t i = 0; i < image.layout.count; ++i) {
    const auto &slot = row<kpk_abi_slot>(image.layout, i);
    values[i] = slot.source == KPK_SLOT_ARGUMENT ? call[slot.index] : 0;  // hidden scratch pointers stay null
    pointers[i] = &values[i];
  }
  const Cuda &cuda = machine.cuda;
  void *module = nullptr, *function = nullptr;
  const Clock clock;
  check(cuda.module_load(&module, follow<void>(image.data)), "cuModuleLoadData");
  check(cuda.module_function(&function, module, follow<char>(image.entry)), "cuModuleGetFunction");
  if (image.shared_bytes + image.static_shared_bytes > 48 * 1024)
    check(cuda.function_set(function, 8 /* dynamic shared memory */, static_cast<int>(image.shared_bytes)),
          "cuFuncSetAttribute");
  check(cuda.launch(function, 1, 1, 1, image.num_warps * image.warp_size, 1, 1, image.shared_bytes,
                    machine.stream, pointers, nullptr),
        "cuLaunchKernel");
  const double launched = clock.us();
  check(cuda.stream_wait(machine.stream), "cuStreamSynchronize");
  const double done = clock.us();
  check(cuda.module_unload(module), "cuModuleUnload");
  return {launched, done};
}

template <class Launch>
Took by_kpack(const Machine &machine, const Case &what, const Launch &launch) {
  const uint64_t at = offset_of(what);
  const kpack::Pointer out = kpack::ptr(reinterpret_cast<void *>(machine.out + at), what.type);
  const kpack::Pointer in = kpack::ptr(reinterpret_cast<const void *>(machine.in + at), what.type);
  const Clock clock;
  check(launch(machine.stream, out, in, what.columns, what.columns, what.columns, 1), what.variant);
  const double launched = clock.us();
  check(machine.cuda.stream_wait(machine.stream), "cuStreamSynchronize");
  const double done = clock.us();
  // That it was this variant: what the same call is pinned to, which is loaded by now.
  const kpack::Bound pinned =
      tk::softmax.pin(kpack::cuda_device(0), out, in, what.columns, what.columns, what.columns, 1);
  kpk_function function = {};
  check(pinned.function(&function), what.variant);
  if (std::strcmp(function.variant, what.variant) != 0)
    stop("%s: expected it to be launched, got %s", what.variant, function.variant);
  const kpack::Kernel kernel = tk::softmax;
  check(kpk_unload(&kernel.native()), "kpk_unload");
  return {launched, done};
}

void compare(const Machine &machine, const Case &what, size_t position, bool kpack_first, bool use_bound) {
  Took bare = {}, ours = {};
  if (!kpack_first) bare = by_hand(machine, what);
  if (use_bound) {
    const kpack::Bound bound = tk::softmax.bind(kpack::cuda_device(0));
    check(bound.status(), "bind");
    ours = by_kpack(machine, what, bound);
  } else {
    ours = by_kpack(machine, what, tk::softmax);
  }
  if (kpack_first) bare = by_hand(machine, what);
  std::printf("%zu %s %s %s %.2f %.2f %.2f %.2f\n", position, what.variant, kpack_first ? "kpack" : "bare",
              use_bound ? "bound" : "unbound", bare.launched_us, bare.done_us, ours.launched_us,
              ours.done_us);
}

uint32_t prepare(Machine *machine) {
  machine->cuda = open_driver();
  check(machine->cuda.init(0), "cuInit");
  int major = 0, minor = 0;
  check(machine->cuda.device_attribute(&major, 75, 0), "compute capability, major");
  check(machine->cuda.device_attribute(&minor, 76, 0), "compute capability, minor");
  void *context = nullptr;
  check(machine->cuda.context_retain(&context, 0), "cuDevicePrimaryCtxRetain");
  check(machine->cuda.context_set(context), "cuCtxSetCurrent");
  check(machine->cuda.stream_create(&machine->stream, 1 /* non-blocking */), "cuStreamCreate");
  for (uint64_t *memory : {&machine->out, &machine->in})
    check(machine->cuda.allocate(memory, kBytes), "cuMemAlloc");
  return static_cast<uint32_t>(10 * major + minor);
}

}  // namespace

int main(int count, char **arguments) {
  const size_t start = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 0;
  Machine machine;
  const uint32_t arch = prepare(&machine);
  const kpack::Kernel kernel = tk::softmax;
  const std::vector<Case> cases = cases_for(kernel.native(), arch);
  // The driver's own first load, and kpack's look at the devices, are the process's, not an image's.
  by_hand(machine, cases[(start + cases.size() / 2) % cases.size()]);
  if (kpk_device_count(KPK_VENDOR_CUDA) == 0) stop("kpack: expected a CUDA device: %s", kpk_message());
  for (size_t i = 0; i < cases.size(); ++i)
    compare(machine, cases[(start + i) % cases.size()], i, (i + start) % 2 == 0,
            (i / 2 + start / 2) % 2 == 0);
  return 0;
}
