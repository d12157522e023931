/* The binary contract between the archive that kpack writes and the program that links it.
 *
 * An archive `libtk.a` holds pack `tk`: one ELF member a kernel (`softmax.o`) and one index member
 * (`tk.index.o`). They contain data only, for any 64-bit little-endian ELF host. What the linker
 * leaves in memory is exactly the structs of this file: nothing is parsed or registered at start-up.
 *
 * Rules. The file is append-only: a struct grows at its end and carries its own size (or its table
 * carries the stride), a reader uses the prefix it knows. KPK_ABI_MINOR moves when something is
 * appended that old readers may ignore; a bit of `must_understand` is taken when they may not;
 * KPK_ABI_MAJOR moves when neither is enough. A reader of major n reads every major before it.
 *
 * Symbols and sections
 *   kpack_kernel_<pack>_<kernel>  OBJECT, hidden, global: one kpk_abi_kernel, in .rodata.kpack.<kernel>
 *   kpack_pack_<pack>             OBJECT, hidden, global: one kpk_abi_pack, in .rodata.kpack_pack.<pack>
 *   kpk_entry_<pack>              OBJECT, default visibility: the pack's kpk_abi_record; what a .so exports
 *   kpack_packs                   section of kpk_abi_record, retained by the linker; walked between
 *                                 __start_kpack_packs and __stop_kpack_packs
 *   .lrodata.kpack.<kernel>       the images (x86-64: SHF_X86_64_LARGE, so 2 GiB is no limit there);
 *                                 .rodata.kpack_image.<kernel> on aarch64
 *   .bss.kpack.<kernel>           the state slot
 *   .kpack.info                   SHF_EXCLUDE: provenance for tools (JSON), never in a program
 * Every section of a member but .note.GNU-stack belongs to one COMDAT group, kpack_content_<32 hex>, keyed
 * by the member's content hash: the same content from two archives folds, different content under one name
 * is a duplicate-symbol error. Hashes are BLAKE2b, cut to what their field holds, little-endian; .kpack.info
 * is in none of them, so that two builds of the same code fold whoever made them.
 * All references are self-relative: no dynamic relocation, no constructor. */
#ifndef KPACK_ABI_H
#define KPACK_ABI_H

#include <stddef.h>
#include <stdint.h>

#define KPK_ABI_MAJOR 1
#define KPK_ABI_MINOR 1

/* A self-relative reference: what it names is at the field's own address plus its value; 0 is nothing. */
typedef int64_t kpk_ref;

/* `count` records, `stride` bytes apart; a stride larger than the reader's struct is a newer minor. */
typedef struct kpk_table {
  kpk_ref data;
  uint32_t count;
  uint32_t stride;
} kpk_table;

/* ---- Packs ------------------------------------------------------------------------------------ */

/* Frozen for ever: 16 bytes, in section kpack_packs. Whatever may grow lies behind `pack`. */
typedef struct kpk_abi_record {
  kpk_ref pack;   /* kpk_abi_pack */
  uint32_t major; /* KPK_ABI_MAJOR of the writer */
  uint32_t flags; /* 0 */
} kpk_abi_record;

typedef struct kpk_abi_entry {
  kpk_ref name;   /* in the index member: a look-up touches no page of the kernels */
  kpk_ref kernel; /* kpk_abi_kernel */
} kpk_abi_entry;

/* A slot of a table of names. */
typedef struct kpk_abi_name {
  uint32_t hash;  /* of the name, bits 32 to 63 */
  uint32_t entry; /* of kpk_abi_pack.kernels, plus 1; 0: the slot is empty */
} kpk_abi_name;

/* The hash of a name of n bytes: from the seed on, for each 8 of them (little-endian, the last ones filled up
 * with zeros) and then for n, hash = (hash ^ word) * prime, hash ^= hash >> 32; all of it 64 bits. */
#define KPK_NAME_SEED UINT64_C(0xcbf29ce484222325)
#define KPK_NAME_PRIME UINT64_C(0x9e3779b97f4a7c15)

typedef struct kpk_abi_pack {
  uint32_t size; /* sizeof(kpk_abi_pack) of the writer, bytes */
  uint16_t major, minor;
  uint32_t must_understand; /* bits a reader must know, or refuse the pack; none is defined yet */
  uint32_t flags;           /* 0 */
  uint64_t hash;            /* of the index: pack name, kernel names and content hashes */
  kpk_ref name;             /* NUL-terminated */
  kpk_table kernels;        /* kpk_abi_entry, sorted by name (bytes, ascending) */
  /* Since 1.1: kpk_abi_name, a power of two of them and one at least empty; a name is in the first slot from
   * its hash (modulo their number) on, and round, that was empty when it came. None: search `kernels`. */
  kpk_table names;
} kpk_abi_pack;

/* ---- Types and values ------------------------------------------------------------------------- */

/* An 8-bit type code: an element type, with KPK_POINTER set for a pointer to it, or KPK_TENSORDESC for a
 * descriptor of a tensor of it. */
enum {
  KPK_VOID = 0, /* with KPK_POINTER: a pointer whose element type nobody said */
  KPK_I1 = 1,
  KPK_I8 = 2,
  KPK_I16 = 3,
  KPK_I32 = 4,
  KPK_I64 = 5,
  KPK_U8 = 6,
  KPK_U16 = 7,
  KPK_U32 = 8,
  KPK_U64 = 9,
  KPK_FP16 = 10,
  KPK_BF16 = 11,
  KPK_FP32 = 12,
  KPK_FP64 = 13,
  KPK_FP8E4NV = 14,
  KPK_FP8E5 = 15,
  KPK_FP8E4B8 = 16,
  KPK_FP8E5B16 = 17,
  KPK_FP8E4B15 = 18,
  KPK_STRING = 32, /* a selected constexpr given as text */
  KPK_NONE = 33,   /* a selected constexpr given as None */
  KPK_DTYPE = 34,  /* a selected constexpr that is itself a type: its value is a type code */
  KPK_TENSORDESC =
      64, /* a host tensor descriptor of the element type in the low bits; its box is in the image */
  KPK_VARIES = 127, /* kpk_abi_param.type: see kpk_abi_overload.types */
  KPK_POINTER = 128
};

/* A compile-time value. `bits`: an integer (bool as 0 or 1), the bits of a double, a type code, or,
 * for KPK_STRING, a kpk_ref relative to the address of `bits` to NUL-terminated text. */
typedef struct kpk_value {
  uint32_t type; /* KPK_I1, KPK_I64, KPK_FP64, KPK_STRING, KPK_NONE or KPK_DTYPE */
  uint32_t reserved;
  int64_t bits;
} kpk_value;

/* ---- The call --------------------------------------------------------------------------------- */

/* Call order: run-time arguments in source order (those folded to 1 or None stay, and are checked),
 * then selected constexprs, then launch-only parameters, each in declaration order. */
enum { KPK_PARAM_ARGUMENT = 0, KPK_PARAM_SELECTED = 1, KPK_PARAM_LAUNCH = 2 };

enum {
  KPK_PARAM_CONST = 1,    /* the kernel does not write through this pointer */
  KPK_PARAM_NULLABLE = 2, /* some variant is specialised on null */
  KPK_PARAM_KEY = 4,      /* part of the tuning key, by bucket */
  KPK_PARAM_KEY_EXACT = 8 /* part of the tuning key, by value */
};

enum { KPK_DIRECTION_UNKNOWN = 0, KPK_DIRECTION_IN = 1, KPK_DIRECTION_OUT = 2, KPK_DIRECTION_INOUT = 3 };

typedef struct kpk_abi_param {
  kpk_ref name;
  uint8_t kind;      /* KPK_PARAM_... */
  uint8_t type;      /* type code, or KPK_VARIES */
  uint8_t flags;     /* KPK_PARAM_CONST, ... */
  uint8_t direction; /* KPK_DIRECTION_..., what a tuner restores and compares */
  uint32_t extent;   /* expression: bytes from this pointer that the kernel may touch; 0 = not said */
  int64_t least;     /* of an integer: the smallest and largest value the kernel accepts */
  int64_t most;
} kpk_abi_param;

/* One choice of everything selected (types and selected constexprs). Its variants are alternatives to
 * each other; variants of different overloads never are. */
typedef struct kpk_abi_overload {
  uint64_t signature; /* kpk_signature() of `types`: a fast yes; a mismatch is looked into, not refused */
  kpk_ref types;      /* uint8_t[params.count]: the type code of each parameter */
  kpk_ref selected;   /* kpk_value[number of KPK_PARAM_SELECTED], in call order; 0 if there are none */
  uint32_t first_variant;
  uint32_t variant_count;
} kpk_abi_overload;

/* The byte that a type code contributes to a call signature: all integers are alike (they convert,
 * with a range check), and so are all floating scalars; pointers and descriptors differ by element type. */
#ifdef __cplusplus
#define KPK_U8(value) static_cast<uint8_t>(value)
#else
#define KPK_U8(value) ((uint8_t)(value))
#endif
#define KPK_CLASS(type)                                                \
  KPK_U8(((type) & KPK_POINTER) != 0                    ? (type) + 0   \
         : (type) >= KPK_I1 && (type) <= KPK_U64        ? KPK_I64 + 0  \
         : (type) >= KPK_FP16 && (type) <= KPK_FP8E4B15 ? KPK_FP64 + 0 \
                                                        : (type) + 0)
/* The signature is FNV-1a, 64 bits, over KPK_CLASS of each parameter in call order. */
#define KPK_SIGNATURE_SEED UINT64_C(0xcbf29ce484222325)
#define KPK_SIGNATURE_PRIME UINT64_C(0x100000001b3)

/* ---- Variants --------------------------------------------------------------------------------- */

enum {
  KPK_REQUIRE_DIVISIBLE = 0, /* argument % value == 0 (a pointer: its address) */
  KPK_REQUIRE_EQUAL = 1,     /* argument == value */
  KPK_REQUIRE_NULL = 2,
  KPK_REQUIRE_EXTENT_BELOW = 3 /* the memory behind the pointer is smaller than value bytes */
};

/* A condition on one argument that the masks of a variant cannot say. */
typedef struct kpk_abi_requirement {
  uint16_t param;
  uint8_t kind;
  uint8_t reserved[5];
  int64_t value;
} kpk_abi_requirement;

typedef struct kpk_abi_variant {
  kpk_ref name;  /* "fp16.BLOCK1024.w4.a16" */
  uint64_t hash; /* identity across builds: of everything that went into compiling it but the target */
  uint32_t overload;
  uint32_t first_image; /* in kpk_abi_kernel.images */
  uint32_t image_count;
  uint32_t guard;         /* expression, or 0: always */
  uint32_t grid[3];       /* expressions; 0: 1 */
  uint32_t prefer;        /* expression, or 0: without tuning the eligible variant with the largest value
                             runs, the first in declaration order among equals */
  uint64_t divisible_16;  /* bit i: argument i must be divisible by 16 (for i < 64) */
  uint64_t equal_1;       /* bit i: argument i must be 1 */
  uint64_t null;          /* bit i: argument i must be null */
  kpk_table requirements; /* kpk_abi_requirement: all that the masks cannot say */
  kpk_ref constexprs;     /* kpk_value[constexprs.count of the kernel] */
  uint32_t num_stages;    /* as requested */
  uint32_t flags;         /* 0 */
} kpk_abi_variant;

/* ---- Images ----------------------------------------------------------------------------------- */

enum { KPK_VENDOR_ANY = 0, KPK_VENDOR_CUDA = 1, KPK_VENDOR_HIP = 2 };
enum { KPK_IMAGE_CUBIN = 1, KPK_IMAGE_PTX = 2, KPK_IMAGE_HSACO = 3 };

/* How far an image reaches. CUDA: EXACT sm_90a; FAMILY sm_100f; MAJOR sm_80 (same major, minor not
 * lower); FORWARD ptx_80 (this and all later). AMD: EXACT processor, features as elf_flags say;
 * FAMILY a generic processor. */
enum { KPK_REACH_EXACT = 0, KPK_REACH_FAMILY = 1, KPK_REACH_MAJOR = 2, KPK_REACH_FORWARD = 3 };

typedef struct kpk_abi_target {
  kpk_ref name; /* as the user wrote it: "sm_90", "gfx90a" */
  uint8_t vendor;
  uint8_t kind; /* KPK_IMAGE_... */
  uint8_t reach;
  uint8_t reserved;
  uint32_t arch;      /* CUDA: 10 * major + minor; AMD: 0 */
  uint32_t elf_flags; /* AMD: e_flags of the code objects: processor, xnack, sramecc; else 0 */
  uint32_t reserved2;
  kpk_ref processor; /* AMD: "gfx90a", the part of gcnArchName before ':'; else 0 */
} kpk_abi_target;

enum {
  KPK_SLOT_ARGUMENT = 0,       /* index: the parameter */
  KPK_SLOT_GLOBAL_SCRATCH = 1, /* pointer to global_scratch_bytes for each CTA */
  KPK_SLOT_PROFILE_SCRATCH = 2,
  KPK_SLOT_DESC_MAP = 3,    /* the encoded tensor map of parameter `index`, by value */
  KPK_SLOT_DESC_BASE = 4,   /* its parts, on targets without TMA */
  KPK_SLOT_DESC_SHAPE = 5,  /* part: the dimension */
  KPK_SLOT_DESC_STRIDE = 6, /* part: the dimension */
  KPK_SLOT_DESC_NAN_PADDING = 7,
  KPK_SLOT_DESC_ROUND_TF32 = 8
};

/* Where one value lies in the kernel's parameter block. */
typedef struct kpk_abi_slot {
  uint8_t source; /* KPK_SLOT_... */
  uint8_t type;   /* type code of what is stored: how the value of the call converts */
  uint16_t index;
  uint32_t offset; /* bytes */
  uint32_t size;   /* bytes */
  uint32_t part;
} kpk_abi_slot;

enum { KPK_DESC_FP4_PADDED = 1, KPK_DESC_IM2COL = 2 };

/* What the compiler decided about one host tensor descriptor (Triton: metadata.tensordesc_meta). */
typedef struct kpk_abi_tensordesc {
  uint16_t param;
  uint8_t rank;
  uint8_t type; /* element type code */
  uint8_t swizzle;
  uint8_t element_bytes;
  uint8_t flags; /* KPK_DESC_... */
  uint8_t reserved;
  uint32_t box[5]; /* elements, outermost first, as clamped by the compiler */
  uint32_t reserved2;
} kpk_abi_tensordesc;

enum { KPK_CODEC_RAW = 0, KPK_CODEC_ZSTD = 1 };

enum {
  KPK_IMAGE_COOPERATIVE = 1,         /* launch as a cooperative grid */
  KPK_IMAGE_PDL = 2,                 /* programmatic dependent launch */
  KPK_IMAGE_GRID_TIMES_CLUSTER = 4,  /* the grid counts clusters: x is multiplied by the CTAs of one */
  KPK_IMAGE_NONPORTABLE_CLUSTER = 8, /* more than 8 CTAs in a cluster */
  KPK_IMAGE_SCRATCH_PER_CTA = 16     /* scratch is sized by CTA, not by grid element */
};

/* A compression dictionary: a member of its own, shared by images. */
typedef struct kpk_abi_dictionary {
  uint32_t size;
  uint32_t codec;
  uint64_t bytes;
  kpk_ref data;
} kpk_abi_dictionary;

/* One variant compiled for one target. */
typedef struct kpk_abi_image {
  kpk_ref data;
  uint64_t stored_bytes;
  uint64_t raw_bytes;  /* PTX: with the NUL that ends it, as drivers read it */
  uint64_t hash;       /* of the raw bytes */
  kpk_ref entry;       /* the device function: unique to the variant */
  kpk_ref dictionary;  /* kpk_abi_dictionary, or 0 */
  kpk_ref symbol;      /* readable: "softmax.fp16.BLOCK1024.w4.a16.gfx90a" */
  uint32_t target;     /* index in kpk_abi_kernel.targets */
  uint16_t convention; /* of the compiler that made it: 100 * major + minor of Triton; 0: foreign */
  uint8_t codec;
  uint8_t warp_size;  /* threads */
  uint32_t num_warps; /* as compiled, which is not always as requested; block = num_warps * warp_size */
  uint32_t flags;     /* KPK_IMAGE_COOPERATIVE, ... */
  uint32_t cluster[3];
  uint32_t shared_bytes;        /* dynamic, passed at launch */
  uint32_t static_shared_bytes; /* in the image */
  uint32_t registers;           /* of one thread (AMD: vector) */
  uint32_t spill_bytes;         /* of one thread; 0 also where the image does not say */
  uint32_t local_bytes;         /* private memory of one thread */
  uint32_t max_threads;         /* of a block, as the image says; 0: not said */
  uint32_t param_bytes;         /* the whole parameter block */
  uint32_t global_scratch_bytes;
  uint32_t global_scratch_align;
  uint32_t profile_scratch_bytes;
  uint32_t profile_scratch_align;
  uint32_t least_driver; /* CUDA: 1000 * major + 10 * minor; 0: any */
  uint32_t ptx_version;  /* PTX: 10 * major + minor; else 0 */
  kpk_table layout;      /* kpk_abi_slot, by offset */
  kpk_table tensordescs; /* kpk_abi_tensordesc */
} kpk_abi_image;

/* ---- Kernels ---------------------------------------------------------------------------------- */

enum { KPK_CONSTEXPR_FIXED = 0, KPK_CONSTEXPR_SELECTED = 1, KPK_CONSTEXPR_TUNED = 2 };

typedef struct kpk_abi_constexpr {
  kpk_ref name;
  uint32_t role;
  uint32_t reserved;
} kpk_abi_constexpr;

/* kpk_abi_hole.variant: no target of the variant compiled, so that it is not in the table. */
#define KPK_HOLE_NO_VARIANT UINT32_MAX

/* A variant that was asked for and could not be compiled. */
typedef struct kpk_abi_hole {
  uint32_t variant; /* index, or KPK_HOLE_NO_VARIANT */
  uint32_t target;
  kpk_ref name;   /* the variant's */
  kpk_ref reason; /* the compiler's words, first line */
} kpk_abi_hole;

/* A tuning table baked into the archive: a member of its own. */
typedef struct kpk_abi_tuned {
  uint64_t key;     /* of device, overload and bucketed arguments */
  uint64_t variant; /* kpk_abi_variant.hash */
} kpk_abi_tuned;

typedef struct kpk_abi_tuning {
  uint32_t size;
  uint16_t major, minor;
  uint64_t kernel_hash; /* of the kernel it was measured on; another one makes the table stale */
  kpk_table entries;    /* kpk_abi_tuned, sorted by key */
} kpk_abi_tuning;

/* What the runtime keeps of a loaded kernel: zero until first use, private to the linked copy. */
#define KPK_STATE_BYTES 64

typedef struct kpk_abi_kernel {
  uint32_t size; /* sizeof(kpk_abi_kernel) of the writer, bytes */
  uint16_t major, minor;
  uint32_t must_understand; /* bits a reader must know, or refuse this kernel; none is defined yet */
  uint32_t flags;           /* 0 */
  uint64_t hash;            /* of the member's content, this field taken as 0 */
  kpk_ref name;
  kpk_ref pack;  /* name of the pack */
  kpk_ref state; /* KPK_STATE_BYTES, zeroed, 64-byte aligned, writable */
  uint32_t state_bytes;
  uint32_t expr_bytes;
  kpk_ref exprs;        /* expression pool; its byte 0 is KPK_EXPR_VERSION, so that offset 0 is "none" */
  kpk_table params;     /* kpk_abi_param, in call order */
  kpk_table overloads;  /* kpk_abi_overload */
  kpk_table variants;   /* kpk_abi_variant, by overload, then in order of preference without tuning */
  kpk_table images;     /* kpk_abi_image, by variant */
  kpk_table targets;    /* kpk_abi_target */
  kpk_table constexprs; /* kpk_abi_constexpr: the names of kpk_abi_variant.constexprs */
  kpk_table holes;      /* kpk_abi_hole */
  kpk_ref guard_text;   /* as a person wrote them, for messages; 0: there is none */
  kpk_ref grid_text;
  kpk_ref source; /* "softmax.py:12" */
  kpk_ref tuning; /* kpk_abi_tuning, or 0 */
} kpk_abi_kernel;

/* ---- Expressions ------------------------------------------------------------------------------ */

/* A program for a stack of int64, with Python's meaning of integers; a result that does not fit, a
 * division by zero and a next power of two of a negative number are errors of the call. Jumps go
 * forward only. Operands follow their opcode, little-endian, unaligned. */
#define KPK_EXPR_VERSION 1
#define KPK_EXPR_STACK 32 /* deepest stack a program may need */

enum {
  KPK_OP_END = 0,       /* the result is on the stack, alone */
  KPK_OP_I8 = 1,        /* int8 operand: push it */
  KPK_OP_I64 = 2,       /* int64 operand: push it */
  KPK_OP_PARAM = 3,     /* uint16 operand: push the integer given for this parameter */
  KPK_OP_CONSTEXPR = 4, /* uint16 operand: push the variant's value of this constexpr */
  KPK_OP_SIZEOF = 5,    /* uint16 operand: push the element size of this parameter, bytes */
  KPK_OP_NEG = 6,
  KPK_OP_NOT = 7, /* 1 for 0, else 0 */
  KPK_OP_ABS = 8,
  KPK_OP_NEXT_POWER_OF_2 = 9, /* smallest power of two not below it; 1 for 0 and 1 */
  KPK_OP_ADD = 10,
  KPK_OP_SUB = 11,
  KPK_OP_MUL = 12,
  KPK_OP_FLOORDIV = 13,
  KPK_OP_MOD = 14,
  KPK_OP_CDIV = 15, /* -(-a // b) */
  KPK_OP_MIN = 16,
  KPK_OP_MAX = 17,
  KPK_OP_EQ = 18,
  KPK_OP_NE = 19,
  KPK_OP_LT = 20,
  KPK_OP_LE = 21,
  KPK_OP_GT = 22,
  KPK_OP_GE = 23,
  KPK_OP_AND = 24, /* bitwise */
  KPK_OP_OR = 25,
  KPK_OP_XOR = 26,
  KPK_OP_SHL = 27,
  KPK_OP_SHR = 28,
  KPK_OP_JUMP = 29,        /* uint16 operand: bytes to skip after the operand */
  KPK_OP_JUMP_IF_ZERO = 30 /* uint16 operand; pops */
};

/* ---- Held still ------------------------------------------------------------------------------- */

#ifdef __cplusplus
#define KPK_HOLD(what, why) static_assert(what, why)
#else
#define KPK_HOLD(what, why) _Static_assert(what, why)
#endif
KPK_HOLD(sizeof(kpk_table) == 16, "kpk_table is frozen: a change needs KPK_ABI_MAJOR");
KPK_HOLD(sizeof(kpk_abi_record) == 16, "kpk_abi_record is frozen for ever");
KPK_HOLD(sizeof(kpk_abi_entry) == 16, "kpk_abi_entry: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_name) == 8, "kpk_abi_name: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_pack) == 64, "kpk_abi_pack: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_value) == 16, "kpk_value is frozen: a change needs KPK_ABI_MAJOR");
KPK_HOLD(sizeof(kpk_abi_param) == 32, "kpk_abi_param: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_overload) == 32, "kpk_abi_overload: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_requirement) == 16, "kpk_abi_requirement: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_variant) == 104, "kpk_abi_variant: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_target) == 32, "kpk_abi_target: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_slot) == 16, "kpk_abi_slot: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_tensordesc) == 32, "kpk_abi_tensordesc: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_dictionary) == 24, "kpk_abi_dictionary: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_image) == 168, "kpk_abi_image: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_constexpr) == 16, "kpk_abi_constexpr: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_hole) == 24, "kpk_abi_hole: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_tuned) == 16, "kpk_abi_tuned: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_tuning) == 32, "kpk_abi_tuning: appending needs KPK_ABI_MINOR");
KPK_HOLD(sizeof(kpk_abi_kernel) == 208, "kpk_abi_kernel: appending needs KPK_ABI_MINOR");

#endif
