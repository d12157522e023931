/* kpack's C API: find, load and launch the kernels that were linked in. The C++ API (kpack.hpp) is
 * written on it.
 *
 * Every function may be called from any thread. None throws, prints or exits, and a launch whose like was
 * made twice in a row allocates nothing. A failure is a status and a message: kpk_message() of the same
 * thread says subject, expected and got. Nothing here is exported from a shared object. */
#ifndef KPACK_KPACK_H
#define KPACK_KPACK_H

#include <kpack/abi.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define KPK_API __attribute__((visibility("hidden")))
#else
#define KPK_API
#endif

typedef struct kpk_abi_kernel kpk_kernel;
typedef struct kpk_abi_pack kpk_pack;

/* docs/errors.md has a section for each: causes and remedies. */
typedef enum kpk_status {
  KPK_OK = 0,
  KPK_DRY = 1,              /* the dry driver did everything but the launch: kpk_message() shows it */
  KPK_ERROR_ARGUMENT = 2,   /* count, type, range, constness; a null kernel */
  KPK_ERROR_NO_VARIANT = 3, /* no variant's guard, alignment and equalities hold */
  KPK_ERROR_NO_IMAGE = 4,   /* the kernel has none for this device */
  KPK_ERROR_NO_DRIVER = 5,  /* neither libcuda nor libamdhip64 has a device; KPACK_DRIVER names none */
  KPK_ERROR_NO_DEVICE = 6,
  KPK_ERROR_STREAM = 7,  /* a bare null stream where both vendors have devices; a foreign stream */
  KPK_ERROR_GRID = 8,    /* negative, or larger than the device takes; an expression failed */
  KPK_ERROR_LIMIT = 9,   /* the image needs more than the device has: shared memory, threads, cluster */
  KPK_ERROR_DRIVER = 10, /* a driver call failed: kpk_driver_code() */
  KPK_ERROR_FORMAT = 11, /* the pack is newer than this runtime, or not a pack */
  KPK_ERROR_MEMORY = 12,
  KPK_ERROR_UNSUPPORTED = 13, /* a feature of the image that this runtime does not launch */
  KPK_UNPACK = 14             /* of kpk_launch_packed: nothing happened, see there */
} kpk_status;

/* What the last failing call (or dry launch) of this thread had to say; "" if none. Valid until the
 * thread's next call. */
KPK_API const char *kpk_message(void);
/* The driver's own code (CUresult, hipError_t) behind the last KPK_ERROR_DRIVER of this thread; else 0. */
KPK_API int kpk_driver_code(void);
/* "KPK_ERROR_GRID", for logs. */
KPK_API const char *kpk_status_name(kpk_status status);

/* ---- Arguments and streams -------------------------------------------------------------------- */

/* One value of a call. Integers are sign- or zero-extended to 64 bits, floating scalars are the bits of
 * a double, pointers are addresses, text is the address of NUL-terminated characters. */
typedef struct kpk_arg {
  uint64_t bits;
  uint8_t type;  /* type code of what the caller holds */
  uint8_t flags; /* KPK_PARAM_CONST for a pointer to const */
  uint16_t reserved;
  uint32_t reserved2;
} kpk_arg;

typedef struct kpk_stream {
  void *handle;   /* CUstream, hipStream_t; null is the default stream */
  int32_t vendor; /* KPK_VENDOR_...; KPK_VENDOR_ANY only where one vendor has devices */
  int32_t reserved;
} kpk_stream;

typedef struct kpk_device {
  int32_t vendor;  /* KPK_VENDOR_CUDA or KPK_VENDOR_HIP */
  int32_t ordinal; /* the driver's */
} kpk_device;

enum {
  KPK_TENSOR_NAN_PADDING = 1, /* what is read outside the tensor is NaN, not 0: floating types only */
  KPK_TENSOR_ROUND_TF32 = 2   /* fp32 is rounded to tf32 as it is read */
};

/* A tensor in device memory, for a parameter that is a host tensor descriptor: its argument's type is
 * KPK_TENSORDESC | element type, and its bits are the address of one of these, which is read during the call
 * and not kept. Where the device has TMA it is encoded into a tensor map (CUDA Driver API, Tensor Map Object
 * Management); elsewhere its parts are passed. Dimensions are outermost first, as in Triton. Through a map the
 * hardware writes whole units of 16 bytes: where a row is no multiple of that, what follows it is written, too. */
typedef struct kpk_tensor {
  uint64_t address;   /* of the first element; a multiple of 16 */
  uint8_t rank;       /* 1 to 5 */
  uint8_t flags;      /* KPK_TENSOR_... */
  uint16_t reserved;  /* 0 */
  uint32_t reserved2; /* 0 */
  int64_t shape[5];   /* elements, each 1 or more */
  int64_t strides[5]; /* elements; the last is 1, the others are multiples of 16 bytes */
  /* Of a kernel that reads it in im2col mode (shape N, [D, H,] W, C): the corners of the box of pixels, by
   * spatial dimension, and how many elements a step is (0: 1). */
  int32_t lower_corner[3];
  int32_t upper_corner[3];
  uint32_t element_strides[5];
  uint32_t reserved3; /* 0 */
} kpk_tensor;

/* ---- Launch ----------------------------------------------------------------------------------- */

/* Launches `kernel` on `stream` with `count` arguments in call order (see kpk_abi_param): checks them,
 * picks image and variant for the stream's device (the thread's current one), loads on first use,
 * computes the grid, launches. A grid with a zero launches nothing and is KPK_OK. `signature`:
 * kpk_signature() of the arguments, or 0 to have it computed. */
KPK_API kpk_status kpk_launch(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args,
                              uint32_t count, uint64_t signature);

/* A kernel bound to a device, and with CUDA to one of its contexts: the current one when kpk_bind is called,
 * if it is the device's, otherwise the primary one. Launching it asks the driver nothing: the caller sees to
 * it that this context is current in the thread, as for a bare driver launch. After kpk_unload it
 * loads again. */
typedef struct kpk_bound {
  const kpk_kernel *kernel;
  void *state;
  const void *function; /* of a pinned handle, see kpk_bind_call */
  uint64_t context;
  kpk_device device;
} kpk_bound;
KPK_API kpk_status kpk_bind(const kpk_kernel *kernel, kpk_device device, kpk_bound *out);
KPK_API kpk_status kpk_launch_bound(const kpk_bound *bound, kpk_stream stream, const kpk_arg *args,
                                    uint32_t count, uint64_t signature);

/* As kpk_bind, and pins the variant that this call would run, which is loaded now. Launches through the handle
 * take no other variant: a call that this one may not run is KPK_ERROR_NO_VARIANT. After kpk_unload the handle
 * is dead. The three below are for such handles. */
KPK_API kpk_status kpk_bind_call(const kpk_kernel *kernel, kpk_device device, const kpk_arg *args,
                                 uint32_t count, uint64_t signature, kpk_bound *out);

/* What a pinned handle launches. Text is valid as long as the pack is in memory. */
typedef struct kpk_function {
  void *native;          /* CUfunction, hipFunction_t; null in a dry run */
  const char *variant;   /* "fp16.BLOCK1024.w4.a16" */
  const char *image;     /* "softmax.fp16.BLOCK1024.w4.a16.sm_90" */
  const char *target;    /* "sm_90" */
  uint32_t block[3];     /* threads */
  uint32_t cluster[3];   /* CTAs */
  uint32_t shared_bytes; /* dynamic, of a block */
  uint32_t static_shared_bytes;
  uint32_t registers; /* of a thread */
  uint32_t spill_bytes;
  uint32_t local_bytes;
  uint32_t max_threads; /* of a block, as the image says; 0: not said */
  uint32_t param_bytes; /* of the parameter block */
  uint32_t flags;       /* KPK_IMAGE_COOPERATIVE, KPK_IMAGE_PDL, ... */
} kpk_function;
KPK_API kpk_status kpk_bound_function(const kpk_bound *bound, kpk_function *out);
/* How many of its blocks a multiprocessor runs at once, and how many of its clusters the device (0 where it has
 * none). Asks the driver. */
KPK_API kpk_status kpk_bound_occupancy(const kpk_bound *bound, int *blocks, int *clusters);

/* One launch as data, for what takes it instead of launching it: a kernel node of a graph and its update
 * (CUDA_KERNEL_NODE_PARAMS, hipKernelNodeParams, to whose node the caller adds the attributes that kpk_function
 * says: clusters, cooperative grids, dependent launches; `extra` there is {1, params, 2, &param_bytes, end}). */
typedef struct kpk_node {
  void *function; /* CUfunction, hipFunction_t */
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t shared_bytes;
  uint32_t reserved;
  void *params; /* as given */
  size_t param_bytes;
} kpk_node;
/* Checks the arguments as a launch does and fills `params` (`bytes` of it, kpk_function.param_bytes at least,
 * aligned to 128). KPK_ERROR_UNSUPPORTED for an image that needs scratch memory, which lives in a stream;
 * KPK_ERROR_GRID for an empty grid, which no node can have. */
KPK_API kpk_status kpk_bound_node(const kpk_bound *bound, const kpk_arg *args, uint32_t count,
                                  uint64_t signature, void *params, size_t bytes, kpk_node *out);

/* The arguments of a call in one block, in call order, each at the next multiple of its size: what kpack.hpp, and in
 * C kpk_call below, make of a call whose types they know, so that a launch like the one before has next to nothing left
 * to do. The block is aligned to 16, has 40 bytes more behind its last argument, and is written to. */
typedef struct kpk_packed {
  uint64_t types;      /* FNV-1a as of KPK_SIGNATURE_SEED, but over the type codes themselves; never 0 */
  uint64_t odd_16;     /* bit i: argument i is no multiple of 16 */
  uint64_t special;    /* bit i: argument i is the integer 1, or a null pointer */
  uint64_t consts;     /* bit i: argument i is a pointer to const */
  uint64_t misaligned; /* not 0: some pointer is no multiple of its element's size */
  unsigned char *block;
} kpk_packed;
/* KPK_UNPACK: the arguments themselves are needed, call kpk_launch_args or kpk_launch_bound_args. */
KPK_API kpk_status kpk_launch_packed(const kpk_kernel *kernel, kpk_stream stream, const kpk_packed *call);
KPK_API kpk_status kpk_launch_bound_packed(const kpk_bound *bound, kpk_stream stream, const kpk_packed *call);
/* kpk_launch and kpk_launch_bound, and calls of these `types` are known afterwards. */
KPK_API kpk_status kpk_launch_args(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args,
                                   uint32_t count, uint64_t signature, uint64_t types);
KPK_API kpk_status kpk_launch_bound_args(const kpk_bound *bound, kpk_stream stream, const kpk_arg *args,
                                         uint32_t count, uint64_t signature, uint64_t types);

/* Signature of a call: see KPK_SIGNATURE_SEED. */
KPK_API uint64_t kpk_signature(const kpk_arg *args, uint32_t count);

/* ---- A call, argument by argument --------------------------------------------------------------- */

/* A launch as fast as from C++, where kpk_launch goes through an array at run time:
 *
 *   kpk_call call;
 *   kpk_call_begin(&call);
 *   kpk_pass_pointer(&call, out, KPK_FP16);
 *   kpk_pass_const_pointer(&call, in, KPK_FP16);
 *   kpk_pass_i32(&call, n);
 *   status = kpk_launch_call(kernel, stream, &call);
 *
 * in call order. If types are literals and nothing else is called in between, an optimizing compiler computes layout
 * and types. `args` and `count`, up to KPK_CALL_MOST, may be given to kpk_bind_call, kpk_explain and whatever else takes
 * arguments. A call that is launched again, and one with an argument that lies in no block, goes by them, which is
 * slower. */
#define KPK_CALL_MOST 64 /* arguments; a call with more is refused: kpk_launch takes any number */
typedef struct kpk_call {
  kpk_packed packed; /* of the arguments so far; `block` is set by the launch */
  uint32_t count;
  uint32_t block_bytes; /* that are filled */
  uint32_t unpacked;    /* not 0: goes by its arguments */
  uint32_t reserved;
  kpk_arg args[KPK_CALL_MOST]; /* this and `block` are written only as far as there are arguments */
  unsigned char block[KPK_CALL_MOST * 8 + 40] __attribute__((aligned(16)));
} kpk_call;

#define KPK_INLINE static inline __attribute__((always_inline))
#ifdef __cplusplus
#define KPK_AS(type, value) static_cast<type>(value)
#define KPK_ADDRESS(pointer) reinterpret_cast<uintptr_t>(pointer)
#else
#define KPK_AS(type, value) ((type)(value))
#define KPK_ADDRESS(pointer) ((uintptr_t)(pointer))
#endif

KPK_INLINE void kpk_call_begin(kpk_call *call) {
  call->packed.types = KPK_SIGNATURE_SEED;
  call->packed.odd_16 = call->packed.special = call->packed.consts = call->packed.misaligned = 0;
  call->packed.block = NULL;
  call->count = call->block_bytes = call->unpacked = call->reserved = 0;
}

/* What those below are made of. Adds an argument and returns its number; from KPK_CALL_MOST on it only counts. */
KPK_INLINE uint32_t kpk_call_add(kpk_call *call, uint64_t bits, uint8_t type, uint8_t flags) {
  const uint32_t number = call->count++;
  if (number < KPK_CALL_MOST) {
    kpk_arg *arg = &call->args[number];
    arg->bits = bits;
    arg->type = type;
    arg->flags = flags;
    arg->reserved = 0;
    arg->reserved2 = 0;
    call->packed.types = (call->packed.types ^ type) * KPK_SIGNATURE_PRIME;
  }
  return number;
}
/* Copies a number into the block, to the next multiple of its size, of which there is room for KPK_CALL_MOST. */
KPK_INLINE void kpk_call_put(kpk_call *call, const void *number, uint32_t bytes) {
  const uint32_t end = call->block_bytes, at = (end + bytes - 1) & ~(bytes - 1);
  if (at != end) memset(call->block + end, 0, 8); /* what lies between is no argument's */
  memcpy(call->block + at, number, bytes);
  call->block_bytes = at + bytes;
}
/* `bits` are sign- or zero-extended; the host is little-endian. */
KPK_INLINE void kpk_call_integer(kpk_call *call, uint64_t bits, uint8_t type, uint32_t bytes) {
  const uint32_t number = kpk_call_add(call, bits, type, 0);
  if (number >= KPK_CALL_MOST) return;
  kpk_call_put(call, &bits, bytes);
  call->packed.odd_16 |= KPK_AS(uint64_t, (bits & 15) != 0) << number;
  call->packed.special |= KPK_AS(uint64_t, bits == 1) << number;
}
KPK_INLINE void kpk_call_pointer(kpk_call *call, uint64_t address, uint8_t element, uint8_t flags) {
  const uint32_t number = kpk_call_add(call, address, KPK_U8(KPK_POINTER | element), flags);
  const uint64_t element_bytes =
      element == KPK_I64 || element == KPK_U64 || element == KPK_FP64                          ? 8
      : element == KPK_I32 || element == KPK_U32 || element == KPK_FP32                        ? 4
      : element == KPK_I16 || element == KPK_U16 || element == KPK_FP16 || element == KPK_BF16 ? 2
                                                                                               : 1;
  if (number >= KPK_CALL_MOST) return;
  kpk_call_put(call, &address, sizeof address);
  call->packed.odd_16 |= KPK_AS(uint64_t, (address & 15) != 0) << number;
  call->packed.special |= KPK_AS(uint64_t, address == 0) << number;
  call->packed.consts |= KPK_AS(uint64_t, (flags & KPK_PARAM_CONST) != 0) << number;
  call->packed.misaligned |= address & (element_bytes - 1);
}
KPK_INLINE void kpk_call_floating(kpk_call *call, double value, uint8_t type, const void *number,
                                  uint32_t bytes) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (kpk_call_add(call, bits, type, 0) < KPK_CALL_MOST) kpk_call_put(call, number, bytes);
}

/* Pointers to device memory: `element` is the type code of what they point at. */
KPK_INLINE void kpk_pass_pointer(kpk_call *call, void *address, uint8_t element) {
  kpk_call_pointer(call, KPK_ADDRESS(address), element, 0);
}
KPK_INLINE void kpk_pass_const_pointer(kpk_call *call, const void *address, uint8_t element) {
  kpk_call_pointer(call, KPK_ADDRESS(address), element, KPK_PARAM_CONST);
}
/* Numbers, which convert as those of kpk_launch do. */
KPK_INLINE void kpk_pass_i1(kpk_call *call, int value) { kpk_call_integer(call, value != 0, KPK_I1, 1); }
KPK_INLINE void kpk_pass_i8(kpk_call *call, int8_t value) {
  kpk_call_integer(call, KPK_AS(uint64_t, value), KPK_I8, 1);
}
KPK_INLINE void kpk_pass_i16(kpk_call *call, int16_t value) {
  kpk_call_integer(call, KPK_AS(uint64_t, value), KPK_I16, 2);
}
KPK_INLINE void kpk_pass_i32(kpk_call *call, int32_t value) {
  kpk_call_integer(call, KPK_AS(uint64_t, value), KPK_I32, 4);
}
KPK_INLINE void kpk_pass_i64(kpk_call *call, int64_t value) {
  kpk_call_integer(call, KPK_AS(uint64_t, value), KPK_I64, 8);
}
KPK_INLINE void kpk_pass_u8(kpk_call *call, uint8_t value) { kpk_call_integer(call, value, KPK_U8, 1); }
KPK_INLINE void kpk_pass_u16(kpk_call *call, uint16_t value) { kpk_call_integer(call, value, KPK_U16, 2); }
KPK_INLINE void kpk_pass_u32(kpk_call *call, uint32_t value) { kpk_call_integer(call, value, KPK_U32, 4); }
KPK_INLINE void kpk_pass_u64(kpk_call *call, uint64_t value) { kpk_call_integer(call, value, KPK_U64, 8); }
KPK_INLINE void kpk_pass_fp32(kpk_call *call, float value) {
  kpk_call_floating(call, KPK_AS(double, value), KPK_FP32, &value, 4);
}
KPK_INLINE void kpk_pass_fp64(kpk_call *call, double value) {
  kpk_call_floating(call, value, KPK_FP64, &value, 8);
}
/* An argument of any other kind, as it is. It lies in no block, and neither do those that follow. */
KPK_INLINE void kpk_pass_arg(kpk_call *call, uint64_t bits, uint8_t type, uint8_t flags) {
  kpk_call_add(call, bits, type, flags);
  call->unpacked = 1;
}
/* A null pointer that does not say to what: None. */
KPK_INLINE void kpk_pass_null(kpk_call *call) { kpk_pass_arg(call, 0, KPK_POINTER, 0); }
/* Selected constexprs. */
KPK_INLINE void kpk_pass_text(kpk_call *call, const char *text) {
  kpk_pass_arg(call, KPK_ADDRESS(text), KPK_STRING, 0);
}
KPK_INLINE void kpk_pass_dtype(kpk_call *call, uint8_t type) { kpk_pass_arg(call, type, KPK_DTYPE, 0); }
/* Tensor descriptors: see kpk_tensor, which is read by the launch. */
KPK_INLINE void kpk_pass_tensor(kpk_call *call, const kpk_tensor *tensor, uint8_t element) {
  kpk_pass_arg(call, KPK_ADDRESS(tensor), KPK_U8(KPK_TENSORDESC | element), 0);
}
KPK_INLINE void kpk_pass_const_tensor(kpk_call *call, const kpk_tensor *tensor, uint8_t element) {
  kpk_pass_arg(call, KPK_ADDRESS(tensor), KPK_U8(KPK_TENSORDESC | element), KPK_PARAM_CONST);
}

/* Makes `call->packed` whole; not 0 if there is none. */
KPK_INLINE int kpk_call_end(kpk_call *call) {
  if (call->unpacked != 0 || call->count >= KPK_CALL_MOST) return 0;
  memset(call->block + call->block_bytes, 0, 40);
  call->packed.types |= 1;
  call->packed.block = call->block;
  call->unpacked = 1; /* launching writes to the block */
  return 1;
}
/* kpk_launch_args and kpk_launch_bound_args of the call; `types` 0: its block was not tried. */
KPK_API kpk_status kpk_launch_call_args(const kpk_kernel *kernel, kpk_stream stream, const kpk_call *call,
                                        uint64_t types);
KPK_API kpk_status kpk_launch_bound_call_args(const kpk_bound *bound, kpk_stream stream, const kpk_call *call,
                                              uint64_t types);
/* kpk_launch and kpk_launch_bound of the call. */
KPK_INLINE kpk_status kpk_launch_call(const kpk_kernel *kernel, kpk_stream stream, kpk_call *call) {
  kpk_status status;
  if (!kpk_call_end(call)) return kpk_launch_call_args(kernel, stream, call, 0);
  status = kpk_launch_packed(kernel, stream, &call->packed);
  return status != KPK_UNPACK ? status : kpk_launch_call_args(kernel, stream, call, call->packed.types);
}
KPK_INLINE kpk_status kpk_launch_bound_call(const kpk_bound *bound, kpk_stream stream, kpk_call *call) {
  kpk_status status;
  if (!kpk_call_end(call)) return kpk_launch_bound_call_args(bound, stream, call, 0);
  status = kpk_launch_bound_packed(bound, stream, &call->packed);
  return status != KPK_UNPACK ? status : kpk_launch_bound_call_args(bound, stream, call, call->packed.types);
}

/* ---- Before a launch --------------------------------------------------------------------------- */

/* Which variant and image would run this call on the device, and why each other one would not, in lines of
 * text: at most `bytes` with the NUL; returns the length it has or would have. Loads nothing. */
KPK_API size_t kpk_explain(const kpk_kernel *kernel, kpk_device device, const kpk_arg *args, uint32_t count,
                           char *text, size_t bytes);
/* 1 if some variant may run this call on the device, else 0. Builds no message, loads nothing. */
KPK_API int kpk_supports(const kpk_kernel *kernel, kpk_device device, const kpk_arg *args, uint32_t count,
                         uint64_t signature);
/* Loads now what a first launch would: the image of each variant whose name ("fp16.BLOCK1024.w4.a16") matches
 * the shell pattern (null: all), in the context that kpk_bind would choose. `loaded` (or null) is how many there
 * are. What was loaded before an error stays. */
KPK_API kpk_status kpk_preload(const kpk_kernel *kernel, kpk_device device, const char *pattern,
                               uint32_t *loaded);
/* The same for all kernels of a pack; the pattern is matched with "softmax.fp16.BLOCK1024.w4.a16". Kernels that
 * have no image for the device are passed over. */
KPK_API kpk_status kpk_preload_pack(const kpk_pack *pack, kpk_device device, const char *pattern,
                                    uint32_t *loaded);

/* Called by a launch for which the kernel has no image that the device and its driver take, instead of failing
 * with KPK_ERROR_NO_IMAGE: what it returns is what the launch returns. Null: none. Not while other threads
 * launch. */
typedef kpk_status (*kpk_fallback)(void *user, const kpk_kernel *kernel, kpk_device device, kpk_stream stream,
                                   const kpk_arg *args, uint32_t count);
KPK_API void kpk_set_fallback(kpk_fallback fallback, void *user);

/* ---- Tuning -------------------------------------------------------------------------------------- */

/* Which of the variants that may run a call is the fastest is found out once, by running them, and kept by the call's
 * key: the device, the overload, the buckets of the integers that are part of the key, and which arguments are
 * divisible by 16, 1 or null. docs/tuning.md has the rules. */
enum {
  KPK_TUNING_OFF = 0,   /* the fixed choice: what runs without tuning */
  KPK_TUNING_USE = 1,   /* what a table says, baked into the archive or in a file; else the fixed choice */
  KPK_TUNING_TUNE = 2,  /* and a key that no table has is searched for, in the launch that brings it */
  KPK_TUNING_RECORD = 3 /* as use, and each new call is written down: launches are slower */
};
typedef struct kpk_tuning {
  uint32_t size;      /* sizeof(kpk_tuning) */
  uint32_t mode;      /* KPK_TUNING_... */
  const char *table;  /* path of a table file, read at first use and added to by searches; null: none */
  const char *shapes; /* path of the file that KPK_TUNING_RECORD writes; null: kpack_shapes.csv */
  uint64_t budget_ns; /* of a search, at most; 0: the default, 2 s */
  double tolerance;   /* factor of what the results of contenders may differ by; 0: 1 */
} kpk_tuning;
/* From now on so (copied); null: as the environment says, with KPACK_TUNING=off|use|tune|record (without it: use),
 * KPACK_TUNING_TABLE, KPACK_TUNING_SHAPES and KPACK_TUNING_BUDGET_MS. Tables are read anew; what was found and is in no
 * table is forgotten. Not while other threads launch. KPK_ERROR_ARGUMENT for no mode, a size too small. */
KPK_API kpk_status kpk_set_tuning(const kpk_tuning *tuning);

/* What became of one contender of a search. */
enum {
  KPK_TRIAL_TIMED = 0,
  KPK_TRIAL_PRUNED = 1, /* timed until it was clear that others are faster */
  KPK_TRIAL_WRONG = 2,  /* its results are not those of the others */
  KPK_TRIAL_FAILED = 3, /* `reason` */
  KPK_TRIAL_NOT_RUN = 4 /* `reason`: left out, out of budget */
};
typedef struct kpk_trial {
  uint32_t size;    /* sizeof(kpk_trial): it may grow */
  uint32_t outcome; /* KPK_TRIAL_... */
  const char *name; /* "fp16.BLOCK1024.w4.a16", in an op "softmax/fp16.BLOCK1024.w4.a16", "function:cublas" */
  const char *reason; /* or "" */
  double median_us;   /* 0: none */
  uint32_t samples;
  uint32_t chosen; /* 1: it runs from now on */
} kpk_trial;
typedef void (*kpk_trial_sink)(void *user, const kpk_trial *trial);

/* SCRATCH: what the pointers reach may be overwritten; no extents are needed, and what has none is neither copied nor
 * compared. ALLOCATE: pointers say only that they are null or, by their low 8 bits, how they are aligned; memory is made
 * as extents say, and filled with numbers. EXHAUSTIVE: every contender is timed to the end. AGAIN: also where there is
 * an entry. */
enum { KPK_TUNE_SCRATCH = 1, KPK_TUNE_ALLOCATE = 2, KPK_TUNE_EXHAUSTIVE = 4, KPK_TUNE_AGAIN = 8 };
typedef struct kpk_tune_options {
  uint32_t size;       /* sizeof(kpk_tune_options) */
  uint32_t flags;      /* KPK_TUNE_... */
  uint64_t budget_ns;  /* 0: as kpk_set_tuning says */
  double tolerance;    /* 0: likewise */
  kpk_trial_sink sink; /* told of each contender after the search; null: nobody */
  void *user;
} kpk_tune_options;
/* Finds out which variant is the fastest for this call, on the stream's device, and enters it: launches of the call's
 * key take it from now on (unless KPK_TUNING_OFF), and the table file has it. Nothing that the pointers reach is written
 * (but see KPK_TUNE_SCRATCH): each pointer that the kernel writes through has to have an extent (args= of the kernel),
 * within which it works on copies. Waits for the device. Options null: none. KPK_OK also where there is nothing to choose
 * from. KPK_ERROR_ARGUMENT where an extent is missing; KPK_ERROR_STREAM inside a capture; KPK_ERROR_NO_DEVICE in a dry
 * run; KPK_ERROR_MEMORY; KPK_ERROR_NO_VARIANT where all contenders failed. */
KPK_API kpk_status kpk_tune(const kpk_kernel *kernel, kpk_stream stream, const kpk_arg *args, uint32_t count,
                            const kpk_tune_options *options);

/* An op: several kernels, and functions of the program's own, that do the same with the same arguments, and are tuned as
 * alternatives. Without an entry the first kernel runs, as it would by itself. Kernels and functions are added before its
 * first launch, and stay in memory as long as the op. An op with the same name, kernels and functions has the same entries
 * in a table. */
typedef struct kpk_op kpk_op;
typedef kpk_status (*kpk_op_function)(void *user, kpk_stream stream, const kpk_arg *args, uint32_t count);
/* The name is copied. KPK_ERROR_ARGUMENT, KPK_ERROR_MEMORY. */
KPK_API kpk_status kpk_op_create(const char *name, const kpk_kernel *first, kpk_op **out);
/* A kernel that takes the arguments of the first; calls that it does not take, others run. */
KPK_API kpk_status kpk_op_add_kernel(kpk_op *op, const kpk_kernel *kernel);
/* A function that launches on the stream it is given, and returns KPK_OK. A call that it does not do it answers with
 * KPK_ERROR_UNSUPPORTED before it launches anything: then the first kernel runs. `version`: entries of another one are
 * stale. */
KPK_API kpk_status kpk_op_add_function(kpk_op *op, const char *name, uint64_t version,
                                       kpk_op_function function, void *user);
/* As kpk_launch and kpk_tune. What the chosen function returns otherwise is returned. */
KPK_API kpk_status kpk_op_launch(kpk_op *op, kpk_stream stream, const kpk_arg *args, uint32_t count,
                                 uint64_t signature);
KPK_API kpk_status kpk_op_launch_packed(kpk_op *op, kpk_stream stream,
                                        const kpk_packed *call); /* or KPK_UNPACK */
KPK_API kpk_status kpk_op_tune(kpk_op *op, kpk_stream stream, const kpk_arg *args, uint32_t count,
                               const kpk_tune_options *options);
/* What its launch would run, and why, as kpk_explain. */
KPK_API size_t kpk_op_explain(kpk_op *op, kpk_device device, const kpk_arg *args, uint32_t count, char *text,
                              size_t bytes);
/* No launch of it may be under way. Null: nothing. */
KPK_API void kpk_op_free(kpk_op *op);

/* ---- Scratch memory ----------------------------------------------------------------------------- */

/* Some images work in device memory that exists for one launch: size x blocks of the grid. Without a hook it is
 * allocated and freed in the stream's order (cuMemAllocAsync), so that it can be captured, too. */
enum { KPK_SCRATCH_GLOBAL = 0, KPK_SCRATCH_PROFILE = 1 };
typedef struct kpk_scratch_hook {
  void *user;
  /* Memory for what is launched on `stream` from now until `release`: its address, a multiple of `align`, or 0
   * if there is none (the launch is KPK_ERROR_MEMORY). Of KPK_SCRATCH_PROFILE it must be zeroed. */
  uint64_t (*allocate)(void *user, kpk_device device, kpk_stream stream, uint64_t bytes, uint64_t align);
  /* After the launch was made, or failed; it may not have run yet. */
  void (*release)(void *user, kpk_device device, kpk_stream stream, uint64_t address, uint64_t bytes);
} kpk_scratch_hook;
/* From now on scratch memory of this kind comes from `hook` (copied; null: from the driver). Not while other
 * threads launch. */
KPK_API kpk_status kpk_set_scratch(uint32_t kind, const kpk_scratch_hook *hook);
/* Keeps `bytes` ready on the device for scratch memory, in a pool of its own that gives nothing back to the
 * driver, so that a launch with scratch waits for no allocation. 0: gives the pool back. */
KPK_API kpk_status kpk_reserve_scratch(kpk_device device, uint64_t bytes);

/* ---- Watching ----------------------------------------------------------------------------------- */

enum { KPK_EVENT_LOAD = 1, KPK_EVENT_LAUNCH = 2, KPK_EVENT_UNLOAD = 3 };
typedef struct kpk_event {
  uint32_t size; /* sizeof(kpk_event): it may grow */
  uint32_t kind; /* KPK_EVENT_... */
  kpk_status status;
  uint32_t grid[3]; /* of a launch */
  const kpk_kernel *kernel;
  const char *variant; /* "fp16.BLOCK1024.w4.a16" */
  const char *target;  /* "sm_90" */
  const char *image;   /* "softmax.fp16.BLOCK1024.w4.a16.sm_90" */
  kpk_device device;
  kpk_stream stream;         /* of a launch */
  uint64_t begin_ns, end_ns; /* of the driver's work, on CLOCK_MONOTONIC */
} kpk_event;
/* Called after each load, launch and unload, in the thread that made it; it may call kpack, of which it is not
 * told. Null: none, which costs a launch nothing. Not while other threads launch. NVTX ranges (for Nsight, where a tool is attached) and
 * lines on stderr (KPACK_LOG=info: loads; KPACK_LOG=debug: launches, too) are made in the same place. */
typedef void (*kpk_observer)(void *user, const kpk_event *event);
KPK_API void kpk_set_observer(kpk_observer observer, void *user);

/* ---- Devices ---------------------------------------------------------------------------------- */

/* How many devices the vendor's driver has; 0 where there is no driver. */
KPK_API int kpk_device_count(int32_t vendor);
/* "sm_90", "gfx90a:sramecc+:xnack-": valid for the life of the process; null for no such device. */
KPK_API const char *kpk_device_arch(kpk_device device);

/* Use the dry driver from now on: everything but the driver call happens, for a device of `arch`, and
 * each launch returns KPK_DRY, or KPK_OK if `succeed` is not 0. `arch` null: the real drivers again; ""
 * the first target that a kernel has; "sm_90/132" has so many multiprocessors, for tuned choices. Not while
 * other threads launch.
 * The environment says the same with KPACK_DRIVER=dry:gfx90a (KPACK_DRIVER=dry: the first target a
 * kernel has). */
KPK_API kpk_status kpk_use_dry_driver(const char *arch, int succeed);
/* 1 while launches go to the dry driver, else 0. */
KPK_API int kpk_is_dry(void);

/* ---- What is linked --------------------------------------------------------------------------- */

/* The pack behind a record, or null (and a message) if this runtime cannot read it. */
KPK_API const kpk_pack *kpk_pack_of(const kpk_abi_record *record);
KPK_API uint32_t kpk_pack_size(const kpk_pack *pack);
KPK_API const kpk_kernel *kpk_pack_kernel(const kpk_pack *pack, uint32_t index);
/* By name, in O(1); null if there is none. */
KPK_API const kpk_kernel *kpk_pack_find(const kpk_pack *pack, const char *name);

KPK_API const char *kpk_pack_name(const kpk_pack *pack);
KPK_API const char *kpk_kernel_name(const kpk_kernel *kernel);
/* "softmax(const *{fp16,bf16,fp32} in_ptr, ..., launch n_rows)": into `text`, at most `bytes` with the
 * NUL; returns the length it has or would have. */
KPK_API size_t kpk_kernel_prototype(const kpk_kernel *kernel, char *text, size_t bytes);

/* Unloads all that the runtime loaded for this kernel, on all devices; the next launch loads again. No launch,
 * binding or preloading of it may be under way. KPK_ERROR_DRIVER if a driver refused; what could be unloaded is.
 * Drivers keep pointers into images. So the first load of a kernel pins the shared object that contains it:
 * dlclose leaves it mapped until its kernels are unloaded. */
KPK_API kpk_status kpk_unload(const kpk_kernel *kernel);
/* The same for all kernels of a pack: what a plugin calls before its dlclose. */
KPK_API kpk_status kpk_unload_pack(const kpk_pack *pack);

/* The records of all packs in the executable or shared object that holds this call; both null if it has
 * none. They are inline, weak and hidden because a linker gives each output file its own bounds. */
extern const kpk_abi_record __start_kpack_packs[] __attribute__((weak, visibility("hidden")));
extern const kpk_abi_record __stop_kpack_packs[] __attribute__((weak, visibility("hidden")));
static inline const kpk_abi_record *kpk_linked_begin(void) { return __start_kpack_packs; }
static inline const kpk_abi_record *kpk_linked_end(void) { return __stop_kpack_packs; }

#ifdef __cplusplus
}
#endif
#endif
