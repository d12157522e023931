/* How a test holds the fake drivers: libcuda.so.1 and libamdhip64.so of this folder.
 *
 * The fakes have the C ABI of the real drivers, run no code of an image, and check every call against the rules
 * the real ones have. A wrong call gets the driver's own error code; a call that would be undefined
 * behaviour on a device is also kept as a violation, a sentence for the test to print. Every launch is
 * kept too, with a copy of its arguments.
 *
 * Each fake exports the functions of FAKE_CONTROLS as fake_cuda_<name> and fake_hip_<name>;
 * fake::open() binds them by dlsym. From outside a process the environment says the same:
 *   FAKE_CUDA="sm_90,sm_90;driver=12080"   FAKE_HIP="gfx90a:sramecc+:xnack-,gfx1100;file_backed=301"
 *   FAKE_LOG=path                          one line a launch, one a violation
 *   FAKE_KERNELS=path                      a shared object whose fake_run() does what a launch would do
 * The folder old/ beside the fakes has the same two with the exports of CUDA 11.8 and ROCm 5.2. */
#ifndef KPACK_TESTS_FAKE_H
#define KPACK_TESTS_FAKE_H

#include <stdint.h>

typedef struct fake_param {
  uint32_t offset; /* bytes, in fake_launch.params */
  uint32_t size;   /* bytes */
} fake_param;

/* One launch. Pointers are valid until reset() or configure(). */
typedef struct fake_launch {
  const char *call;     /* "cuLaunchKernelEx" */
  const char *function; /* the device function's name */
  uint64_t image;       /* fake::checksum() of the image's bytes (PTX: with its NUL) */
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t cluster[3];   /* CTAs; 1, 1, 1 without the attribute */
  uint32_t shared_bytes; /* dynamic */
  uint32_t attributes;   /* bit i: launch attribute i was given, and not as zero */
  int32_t device;
  int32_t cooperative;
  int32_t captured; /* the stream was capturing */
  int32_t packed;   /* the parameters came through `extra`, not through `kernelParams` */
  void *stream;
  void *context; /* CUDA */
  const unsigned char *params;
  const fake_param *layout; /* what the image says its arguments are, hidden ones of AMD left out */
  uint32_t param_bytes;
  uint32_t param_count;
} fake_launch;

/* Of the library that FAKE_KERNELS names: called for each launch that is not captured, before the driver's call
 * returns. Device memory is host memory here, so it can compute what the kernel would. */
typedef void (*fake_kernel_function)(const fake_launch *launch);

#define FAKE_MAP_MAGIC 0x70616d74u
/* What the fake makes of a tensor map: all that it was encoded from, in the driver's order of dimensions,
 * innermost first. `word1` has bit 21 set, which the runtime must clear for small tensors with drivers up to
 * CUDA 13.1. */
typedef struct fake_map {
  uint32_t magic; /* FAKE_MAP_MAGIC */
  uint8_t type;   /* CUtensorMapDataType; the others are numbers of cuda.h, too */
  uint8_t rank;
  uint8_t swizzle;
  uint8_t fill;
  uint64_t word1;
  uint64_t address;
  uint64_t strides[4]; /* bytes */
  uint32_t last[5];    /* shape - 1 */
  uint16_t box[5];     /* im2col: channels, pixels */
  int16_t lower_corner[3];
  int16_t upper_corner[3];
  uint8_t element_strides[5];
  uint8_t interleave;
  uint8_t promotion;
  uint8_t im2col;
  uint8_t unused[22];
} fake_map;

/* What the launches of a device function do. */
typedef struct fake_kernel {
  uint64_t takes_ns; /* of the device; 0: 3 us, as all others */
  int error;         /* that the launch returns; 0: none */
  int breaks; /* the code that every call returns from the next one on: the context is lost; 0: it is not */
  /* What it does, at once: the memory that arguments point at is the host's. Null: nothing. */
  void (*body)(void *user, const fake_launch *launch);
  void *user;
} fake_kernel;

/* configure  all devices and handles anew; null or "": as the environment or the default says; "none": no
 *            device. "sm_90,sm_80;driver=12080", "gfx90a:sramecc+:xnack-;driver=60300000". A name after
 *            `driver` is an option()
 * reset      forgets launches, counts, violations, faults, delays and options, and turns recording on;
 *            handles stay valid
 * record     off: launches are neither kept nor logged, and only rules that are O(1) are checked
 * calls      how often an entry point was called; an unknown name aborts (a typing error in a test)
 * launch     1 and *out, or 0 if there is no launch `index`
 * loads      modules loaded on a device so far (a library: when a context first uses it); -1: on all
 * live       how many "context" (no primary one), "stream", "event", "module", "library", "memory" or "pool" there
 *            are now; "reserved": how many bytes pools keep; "host_ns": the host's time since reset(), which passes
 *            by calls alone, from the first event or kernel() on: 2 us for a launch, and waiting for the device
 * unaligned  images loaded from an address that is no multiple of 4096
 * fail       after `after` more calls the next `times` calls return `code`; times 0: all of them
 * delay_us   each call of it takes so long, before it does anything
 * hide       cuGetProcAddress does not find it, and calling it all the same is a violation
 * option     "file_backed": the code for an image that lies in a mapped file (HIP: 301 or 200); 0: none
 *            "param_lie" (CUDA): what cuFuncGetParamInfo adds to the size of a kernel's last parameter
 *            "max_clusters" (CUDA): what cuOccupancyMaxActiveClusters says
 *            "capture_allocation" (HIP): the code for an allocation on a stream that captures
 *            "memory": how much there is, bytes, 64 MiB unless a test says so: what is not in a stream's order is
 *            taken from it
 * kernel     what launches of this device function do; null: nothing, as before */
#define FAKE_CONTROLS(X)                                                      \
  X(void, configure, (const char *devices))                                   \
  X(void, reset, (void))                                                      \
  X(void, record, (int on))                                                   \
  X(uint64_t, calls, (const char *name))                                      \
  X(uint64_t, launches, (void))                                               \
  X(int, launch, (uint64_t index, fake_launch *out))                          \
  X(uint64_t, violations, (void))                                             \
  X(const char *, violation, (uint64_t index))                                \
  X(uint64_t, loads, (int device))                                            \
  X(uint64_t, live, (const char *what))                                       \
  X(uint64_t, unaligned, (void))                                              \
  X(void, fail, (const char *name, int code, uint64_t after, uint64_t times)) \
  X(void, delay_us, (const char *name, unsigned us))                          \
  X(void, hide, (const char *name, int hidden))                               \
  X(void, option, (const char *name, int64_t value))                          \
  X(void, kernel, (const char *function, const fake_kernel *kernel))

#ifdef __cplusplus
#include <dlfcn.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace fake {

/* The controls of one fake, and the library itself for dlsym. */
struct Fake {
  void *library = nullptr;
#define FAKE_X(result, name, arguments) result(*name) arguments = nullptr;
  FAKE_CONTROLS(FAKE_X)
#undef FAKE_X

  /* An entry point by name and type: fake.entry<int(unsigned)>("cuInit")(0). */
  template <class Function>
  Function *entry(const char *name) const {
    return reinterpret_cast<Function *>(dlsym(library, name));
  }
};

/* `library`: a path or a soname; `vendor`: "cuda" or "hip". A later dlopen of the soname finds the same
 * one. Aborts when it is not a fake: a test must never reach a real driver unknowingly. */
inline Fake open(const char *library, const char *vendor) {
  Fake out;
  out.library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (out.library == nullptr) {
    std::fprintf(stderr, "%s: %s\n", library, dlerror());
    std::abort();
  }
  const std::string prefix = std::string("fake_") + vendor + "_";
#define FAKE_X(result, name, arguments)                                                           \
  out.name = reinterpret_cast<result(*) arguments>(dlsym(out.library, (prefix + #name).c_str())); \
  if (out.name == nullptr) {                                                                      \
    std::fprintf(stderr, "%s: no %s%s: not a fake\n", library, prefix.c_str(), #name);            \
    std::abort();                                                                                 \
  }
  FAKE_CONTROLS(FAKE_X)
#undef FAKE_X
  return out;
}

/* Argument `index` of a launch, as a T of exactly its size; aborts when it has another size. */
template <class T>
T argument(const fake_launch &launch, uint32_t index) {
  if (index >= launch.param_count || launch.layout[index].size != sizeof(T)) {
    std::fprintf(stderr, "%s: argument %u of %u: expected %zu bytes, got %u\n", launch.function, index,
                 launch.param_count, sizeof(T), index < launch.param_count ? launch.layout[index].size : 0);
    std::abort();
  }
  T value;
  std::memcpy(&value, launch.params + launch.layout[index].offset, sizeof value);
  return value;
}

/* FNV-1a, 64 bits: what fake_launch.image is made with. */
inline uint64_t checksum(const void *data, size_t bytes) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  const unsigned char *at = static_cast<const unsigned char *>(data);
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
  return hash;
}

}  // namespace fake
#endif
#endif
