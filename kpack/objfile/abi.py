"""The binary contract, seen from Python: the constants and struct layouts of `kpack/abi.h`.

Names are the header's without `KPK_`. What each means is said there, once; here it is only spelled again,
and a test compiles the header and compares every value, size and offset.

Hashes are BLAKE2b, of which a 64-bit field holds the first 8 bytes, little-endian:
  image     its raw bytes
  variant   kernel name, source key, variant name, argument and constexpr types and values, specialisation,
            options: all that goes into compiling it but the target
  kernel    host machine, descriptor section (the hash field as 0), image section, references out of it;
            not `.kpack.info`, which may differ between builds of the same code. Its first 16 bytes name the
            COMDAT group.
            A baked tuning table is a reference by name: it does not count, whether there is one does
  pack      pack name, and name and hash of each kernel, in order
  tuning    host machine, names of pack and kernel, the table: only names its COMDAT group
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

ABI_MAJOR = 1
ABI_MINOR = 1
NAME_SEED = 0xCBF29CE484222325
NAME_PRIME = 0x9E3779B97F4A7C15

# ---- types and values
VOID = 0
I1, I8, I16, I32, I64 = 1, 2, 3, 4, 5
U8, U16, U32, U64 = 6, 7, 8, 9
FP16, BF16, FP32, FP64 = 10, 11, 12, 13
FP8E4NV, FP8E5, FP8E4B8, FP8E5B16, FP8E4B15 = 14, 15, 16, 17, 18
STRING = 32
NONE = 33
DTYPE = 34
TENSORDESC = 64  # with the element type in the low bits
VARIES = 127
POINTER = 128

# Triton's spelling of every element type.
DTYPES: dict[str, int] = {
    "i1": I1,
    "i8": I8,
    "i16": I16,
    "i32": I32,
    "i64": I64,
    "u8": U8,
    "u16": U16,
    "u32": U32,
    "u64": U64,
    "fp16": FP16,
    "bf16": BF16,
    "fp32": FP32,
    "fp64": FP64,
    "fp8e4nv": FP8E4NV,
    "fp8e5": FP8E5,
    "fp8e4b8": FP8E4B8,
    "fp8e5b16": FP8E5B16,
    "fp8e4b15": FP8E4B15,
}

# Bytes of one element in memory.
ELEMENT_BYTES: dict[int, int] = {
    **dict.fromkeys((I1, I8, U8, FP8E4NV, FP8E5, FP8E4B8, FP8E5B16, FP8E4B15), 1),
    **dict.fromkeys((I16, U16, FP16, BF16), 2),
    **dict.fromkeys((I32, U32, FP32), 4),
    **dict.fromkeys((I64, U64, FP64), 8),
}

# ---- the call
PARAM_ARGUMENT, PARAM_SELECTED, PARAM_LAUNCH = 0, 1, 2
PARAM_CONST, PARAM_NULLABLE, PARAM_KEY, PARAM_KEY_EXACT = 1, 2, 4, 8
DIRECTION_UNKNOWN, DIRECTION_IN, DIRECTION_OUT, DIRECTION_INOUT = 0, 1, 2, 3
SIGNATURE_SEED = 0xCBF29CE484222325
SIGNATURE_PRIME = 0x100000001B3

# ---- variants
REQUIRE_DIVISIBLE, REQUIRE_EQUAL, REQUIRE_NULL, REQUIRE_EXTENT_BELOW = 0, 1, 2, 3

# ---- images
VENDOR_ANY, VENDOR_CUDA, VENDOR_HIP = 0, 1, 2
IMAGE_CUBIN, IMAGE_PTX, IMAGE_HSACO = 1, 2, 3
REACH_EXACT, REACH_FAMILY, REACH_MAJOR, REACH_FORWARD = 0, 1, 2, 3
SLOT_ARGUMENT = 0
SLOT_GLOBAL_SCRATCH = 1
SLOT_PROFILE_SCRATCH = 2
SLOT_DESC_MAP = 3
SLOT_DESC_BASE = 4
SLOT_DESC_SHAPE = 5
SLOT_DESC_STRIDE = 6
SLOT_DESC_NAN_PADDING = 7
SLOT_DESC_ROUND_TF32 = 8
DESC_FP4_PADDED, DESC_IM2COL = 1, 2
CODEC_RAW, CODEC_ZSTD = 0, 1
IMAGE_COOPERATIVE = 1
IMAGE_PDL = 2
IMAGE_GRID_TIMES_CLUSTER = 4
IMAGE_NONPORTABLE_CLUSTER = 8
IMAGE_SCRATCH_PER_CTA = 16

# ---- kernels
CONSTEXPR_FIXED, CONSTEXPR_SELECTED, CONSTEXPR_TUNED = 0, 1, 2
HOLE_NO_VARIANT = 0xFFFFFFFF
STATE_BYTES = 64

# ---- expressions
EXPR_VERSION = 1
EXPR_STACK = 32
OP_END = 0
OP_I8 = 1
OP_I64 = 2
OP_PARAM = 3
OP_CONSTEXPR = 4
OP_SIZEOF = 5
OP_NEG = 6
OP_NOT = 7
OP_ABS = 8
OP_NEXT_POWER_OF_2 = 9
OP_ADD = 10
OP_SUB = 11
OP_MUL = 12
OP_FLOORDIV = 13
OP_MOD = 14
OP_CDIV = 15
OP_MIN = 16
OP_MAX = 17
OP_EQ = 18
OP_NE = 19
OP_LT = 20
OP_LE = 21
OP_GT = 22
OP_GE = 23
OP_AND = 24
OP_OR = 25
OP_XOR = 26
OP_SHL = 27
OP_SHR = 28
OP_JUMP = 29
OP_JUMP_IF_ZERO = 30


def type_class(code: int) -> int:
    """The byte that a type code contributes to a call signature: `KPK_CLASS`."""
    if code & POINTER:
        return code
    if I1 <= code <= U64:
        return I64
    if FP16 <= code <= FP8E4B15:
        return FP64
    return code


def is_tensordesc(code: int) -> bool:
    """Whether a type code is a host tensor descriptor's; its element type is the rest of the bits."""
    return code & (POINTER | TENSORDESC) == TENSORDESC and code != VARIES


def signature(types: Iterable[int]) -> int:
    """The call signature of these type codes: what `kpk_abi_overload.signature` holds."""
    return fnv1a(bytes(type_class(code) for code in types))


def name_hash(name: str) -> int:
    """Of a kernel's name, for `kpk_abi_pack.names`."""
    data, value = name.encode(), NAME_SEED
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    for word in (*words, len(data)):
        value = (value ^ word) * NAME_PRIME & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 32
    return value


def fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = SIGNATURE_SEED
    for byte in data:
        value = (value ^ byte) * SIGNATURE_PRIME & 0xFFFFFFFFFFFFFFFF
    return value


# ---- hashes


def digest(*parts: bytes | memoryview) -> bytes:
    """16 bytes of BLAKE2b over `parts`, each with its length before it."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def hash64(*parts: bytes | memoryview) -> int:
    """What a 64-bit hash field holds of these parts."""
    return int.from_bytes(digest(*parts)[:8], "little")


def image_hash(code: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(code, digest_size=8).digest(), "little")


def kernel_digest(
    machine: int,
    descriptor: bytes,
    images: bytes | memoryview,
    references: Iterable[tuple[int, str, int]],
) -> bytes:
    """What keys a kernel member's COMDAT group. A reference: where it is, section it names, offset there."""
    at = KERNEL.offset("hash")
    listed = "".join(f"{here} {section} {there}\n" for here, section, there in sorted(references))
    unhashed = descriptor[:at] + bytes(8) + descriptor[at + 8 :]
    return digest(machine.to_bytes(2, "little"), unhashed, images, listed.encode())


def pack_digest(machine: int, pack: str, kernels: Iterable[tuple[str, int]]) -> bytes:
    """What keys an index member's COMDAT group, and is its `kpk_abi_pack.hash`."""
    listed = "".join(f"{name} {value:016x}\n" for name, value in kernels)
    return digest(machine.to_bytes(2, "little"), pack.encode(), listed.encode())


def tuning_digest(machine: int, pack: str, kernel: str, table: bytes) -> bytes:
    """What keys a baked tuning table's COMDAT group."""
    return digest(machine.to_bytes(2, "little"), pack.encode(), kernel.encode(), table)


def tuning_section(kernel: str) -> str:
    """The section of a kernel's baked tuning table."""
    return f".rodata.kpack_tuning.{kernel}"


# ---- structs

# C type -> (struct codes, alignment). A ref packs as its value, a table as (data, count, stride).
_KINDS = {
    "u8": ("B", 1),
    "u16": ("H", 2),
    "u32": ("I", 4),
    "u64": ("Q", 8),
    "i64": ("q", 8),
    "ref": ("q", 8),
    "table": ("qII", 8),
}
_FIELD = re.compile(r"(?P<name>\w+) (?P<kind>\w+)(?:\[(?P<count>\d+)\])?")

Cell = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a struct. `kind`: u8, u16, u32, u64, i64, ref or table; `size` and `offset`: bytes."""

    name: str
    kind: str
    offset: int
    size: int
    code: str

    def pack(self, value: Cell) -> bytes:
        return struct.pack("<" + self.code, *(value if isinstance(value, tuple) else (value,)))

    def unpack(self, data: bytes | memoryview, at: int) -> Cell:
        values = struct.unpack_from("<" + self.code, data, at + self.offset)
        return values if len(values) > 1 else int(values[0])


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct of abi.h: its C name, size and alignment in bytes, and members in order."""

    name: str
    size: int
    align: int
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)

    def offset(self, name: str) -> int:
        return self.field(name).offset

    def pack(self, **values: Cell) -> bytes:
        """The struct's bytes; a member that is not named is 0. Raises struct.error when one does not fit."""
        content = bytearray(self.size)
        for name, value in values.items():
            field = self.field(name)
            content[field.offset : field.offset + field.size] = field.pack(value)
        return bytes(content)

    def unpack(self, data: bytes | memoryview, at: int = 0) -> dict[str, Cell]:
        return {field.name: field.unpack(data, at) for field in self.fields}


def _struct(name: str, fields: str) -> Struct:
    """Lay `fields` ("name kind[count], ...") out as a C compiler would."""
    laid: list[Field] = []
    at, align = 0, 1
    for text in fields.split(","):
        match = _FIELD.fullmatch(text.strip())
        assert match, f"{name}: {text!r} is no field"
        code, field_align = _KINDS[match["kind"]]
        code *= int(match["count"] or 1)
        at += -at % field_align
        size = struct.calcsize("<" + code)
        laid.append(Field(match["name"], match["kind"], at, size, code))
        at, align = at + size, max(align, field_align)
    return Struct(name, at + -at % align, align, tuple(laid))


TABLE = _struct("kpk_table", "data ref, count u32, stride u32")
RECORD = _struct("kpk_abi_record", "pack ref, major u32, flags u32")
ENTRY = _struct("kpk_abi_entry", "name ref, kernel ref")
NAME = _struct("kpk_abi_name", "hash u32, entry u32")
PACK = _struct(
    "kpk_abi_pack",
    "size u32, major u16, minor u16, must_understand u32, flags u32, hash u64, name ref, kernels table, "
    "names table",
)
VALUE = _struct("kpk_value", "type u32, reserved u32, bits i64")
PARAM = _struct(
    "kpk_abi_param",
    "name ref, kind u8, type u8, flags u8, direction u8, extent u32, least i64, most i64",
)
OVERLOAD = _struct(
    "kpk_abi_overload", "signature u64, types ref, selected ref, first_variant u32, variant_count u32"
)
REQUIREMENT = _struct("kpk_abi_requirement", "param u16, kind u8, reserved u8[5], value i64")
VARIANT = _struct(
    "kpk_abi_variant",
    "name ref, hash u64, overload u32, first_image u32, image_count u32, guard u32, grid u32[3], prefer u32, "
    "divisible_16 u64, equal_1 u64, null u64, requirements table, constexprs ref, num_stages u32, flags u32",
)
TARGET = _struct(
    "kpk_abi_target",
    "name ref, vendor u8, kind u8, reach u8, reserved u8, arch u32, elf_flags u32, reserved2 u32, "
    "processor ref",
)
SLOT = _struct("kpk_abi_slot", "source u8, type u8, index u16, offset u32, size u32, part u32")
DESC = _struct(
    "kpk_abi_tensordesc",
    "param u16, rank u8, type u8, swizzle u8, element_bytes u8, flags u8, reserved u8, box u32[5], "
    "reserved2 u32",
)
DICTIONARY = _struct("kpk_abi_dictionary", "size u32, codec u32, bytes u64, data ref")
IMAGE = _struct(
    "kpk_abi_image",
    "data ref, stored_bytes u64, raw_bytes u64, hash u64, entry ref, dictionary ref, symbol ref, target u32, "
    "convention u16, codec u8, warp_size u8, num_warps u32, flags u32, cluster u32[3], shared_bytes u32, "
    "static_shared_bytes u32, registers u32, spill_bytes u32, local_bytes u32, max_threads u32, "
    "param_bytes u32, global_scratch_bytes u32, global_scratch_align u32, profile_scratch_bytes u32, "
    "profile_scratch_align u32, least_driver u32, ptx_version u32, layout table, tensordescs table",
)
CONSTEXPR = _struct("kpk_abi_constexpr", "name ref, role u32, reserved u32")
HOLE = _struct("kpk_abi_hole", "variant u32, target u32, name ref, reason ref")
TUNED = _struct("kpk_abi_tuned", "key u64, variant u64")
TUNING = _struct("kpk_abi_tuning", "size u32, major u16, minor u16, kernel_hash u64, entries table")
KERNEL = _struct(
    "kpk_abi_kernel",
    "size u32, major u16, minor u16, must_understand u32, flags u32, hash u64, name ref, pack ref, "
    "state ref, state_bytes u32, expr_bytes u32, exprs ref, params table, overloads table, variants table, "
    "images table, targets table, constexprs table, holes table, guard_text ref, grid_text ref, source ref, "
    "tuning ref",
)

STRUCTS: tuple[Struct, ...] = (
    TABLE,
    RECORD,
    ENTRY,
    NAME,
    PACK,
    VALUE,
    PARAM,
    OVERLOAD,
    REQUIREMENT,
    VARIANT,
    TARGET,
    SLOT,
    DESC,
    DICTIONARY,
    IMAGE,
    CONSTEXPR,
    HOLE,
    TUNED,
    TUNING,
    KERNEL,
)
