/* kpack's C API: find, load and launch the kernels that were linked in. The C++ API (kpack.hpp) is
 * written on it.
 *
 * Every function may be called from any thread. None throws, prints, exits or allocates on the path of
 * a launch that has been made before. A failure is a status and a message: kpk_message() of the same
 * thread says subject, expected and got. Nothing here is exported from a shared object. */
#ifndef KPACK_KPACK_H
#define KPACK_KPACK_H

#include <kpack/abi.h>

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
  KPK_ERROR_UNSUPPORTED = 13 /* a feature of the image that this runtime does not launch */
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
  uint64_t context;
  kpk_device device;
} kpk_bound;
KPK_API kpk_status kpk_bind(const kpk_kernel *kernel, kpk_device device, kpk_bound *out);
KPK_API kpk_status kpk_launch_bound(const kpk_bound *bound, kpk_stream stream, const kpk_arg *args,
                                    uint32_t count, uint64_t signature);

/* Signature of a call: see KPK_SIGNATURE_SEED. */
KPK_API uint64_t kpk_signature(const kpk_arg *args, uint32_t count);

/* ---- Devices ---------------------------------------------------------------------------------- */

/* How many devices the vendor's driver has; 0 where there is no driver. */
KPK_API int kpk_device_count(int32_t vendor);
/* "sm_90", "gfx90a:sramecc+:xnack-": valid for the life of the process; null for no such device. */
KPK_API const char *kpk_device_arch(kpk_device device);

/* Use the dry driver from now on: everything but the driver call happens, for a device of `arch`, and
 * each launch returns KPK_DRY, or KPK_OK if `succeed` is not 0. `arch` null: the real drivers again; ""
 * the first target that a kernel has. Not while other threads launch.
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
/* By name, in O(log n); null if there is none. */
KPK_API const kpk_kernel *kpk_pack_find(const kpk_pack *pack, const char *name);

KPK_API const char *kpk_pack_name(const kpk_pack *pack);
KPK_API const char *kpk_kernel_name(const kpk_kernel *kernel);
/* "softmax(const *{fp16,bf16,fp32} in_ptr, ..., launch n_rows)": into `text`, at most `bytes` with the
 * NUL; returns the length it has or would have. */
KPK_API size_t kpk_kernel_prototype(const kpk_kernel *kernel, char *text, size_t bytes);

/* Unloads all that the runtime loaded for this kernel, on all devices; the next launch loads again. No launch
 * of it may be under way. A shared object that holds a pack is unloaded so, kernel by kernel, before its
 * dlclose: the drivers keep pointers into it. KPK_ERROR_DRIVER if a driver refused; what could be unloaded
 * is. */
KPK_API kpk_status kpk_unload(const kpk_kernel *kernel);

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
