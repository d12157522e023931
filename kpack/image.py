"""Images: compiled code and all that a launcher must know of it, read out of the code itself.

What the compiler says about its output is cross-checked with what the cubin, code object or PTX text says: a
launcher that passes one argument too few reads, or lets the GPU read, memory that is not there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from kpack.errors import FormatError
from kpack.objfile import abi
from kpack.objfile.elf import EM_AMDGPU, EM_CUDA, SHT_NOTE, ElfFile, read_elf
from kpack.target import Target

__all__ = ["Compiled", "Image", "Slot", "read_image"]

POINTER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one value lies in the kernel's parameter block; `offset` and `size` are bytes."""

    source: int
    type: int
    index: int
    offset: int
    size: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiler hands over: code, and what it says of launching it. `arguments`: parameter index and
    type code of those that were not folded away; `hidden`: the sources of the slots that follow them."""

    target: Target
    entry: str
    code: bytes
    arguments: tuple[tuple[int, int], ...]
    hidden: tuple[int, ...]
    num_warps: int
    warp_size: int
    shared_bytes: int
    cluster: tuple[int, int, int] = (1, 1, 1)
    global_scratch_bytes: int = 0
    global_scratch_align: int = 1
    profile_scratch_bytes: int = 0
    profile_scratch_align: int = 1
    flags: int = 0
    convention: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """One variant compiled for one target: see kpk_abi_image for every field."""

    target: Target
    entry: str
    code: bytes
    num_warps: int
    warp_size: int
    cluster: tuple[int, int, int]
    shared_bytes: int
    static_shared_bytes: int
    registers: int
    spill_bytes: int
    local_bytes: int
    max_threads: int
    param_bytes: int
    layout: tuple[Slot, ...]
    global_scratch_bytes: int = 0
    global_scratch_align: int = 1
    profile_scratch_bytes: int = 0
    profile_scratch_align: int = 1
    flags: int = 0
    convention: int = 0
    least_driver: int = 0
    ptx_version: int = 0
    elf_flags: int = 0


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the code says of itself. `params`: offset and size of each, bytes, in order."""

    params: tuple[tuple[int, int], ...]
    param_bytes: int
    max_threads: int
    registers: int = 0
    spill_bytes: int = 0
    local_bytes: int = 0
    static_shared_bytes: int = 0
    warp_size: int = 32
    least_driver: int = 0
    ptx_version: int = 0
    elf_flags: int = 0


def read_image(compiled: Compiled) -> Image:
    """The image of what was compiled. Raises FormatError where code and compiler do not say the same."""
    readers = {abi.IMAGE_CUBIN: _read_cubin, abi.IMAGE_PTX: _read_ptx, abi.IMAGE_HSACO: _read_hsaco}
    facts = readers[compiled.target.kind](compiled.code, compiled.entry)
    layout = _layout(compiled)
    _cross_check(compiled, facts, layout)
    return Image(
        target=compiled.target,
        entry=compiled.entry,
        code=compiled.code,
        num_warps=compiled.num_warps,
        warp_size=compiled.warp_size,
        cluster=compiled.cluster,
        shared_bytes=compiled.shared_bytes,
        static_shared_bytes=facts.static_shared_bytes,
        registers=facts.registers,
        spill_bytes=facts.spill_bytes,
        local_bytes=facts.local_bytes,
        max_threads=facts.max_threads,
        param_bytes=facts.param_bytes,
        layout=layout,
        global_scratch_bytes=compiled.global_scratch_bytes,
        global_scratch_align=compiled.global_scratch_align,
        profile_scratch_bytes=compiled.profile_scratch_bytes,
        profile_scratch_align=compiled.profile_scratch_align,
        flags=compiled.flags,
        convention=compiled.convention,
        least_driver=facts.least_driver,
        ptx_version=facts.ptx_version,
        elf_flags=facts.elf_flags,
    )


def _layout(compiled: Compiled) -> tuple[Slot, ...]:
    """The slots as C would lay them out: arguments in order, then the hidden pointers."""
    values = [
        *((abi.SLOT_ARGUMENT, code, index) for index, code in compiled.arguments),
        *((source, abi.POINTER | abi.VOID, 0) for source in compiled.hidden),
    ]
    sizes = [POINTER_BYTES if code & abi.POINTER else abi.ELEMENT_BYTES[code] for _, code, _ in values]
    return tuple(
        Slot(source, code, index, offset, size)
        for (source, code, index), (offset, size) in zip(
            values, _natural((size, size) for size in sizes), strict=True
        )
    )


def _natural(values: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Offset and size of values in a row, given the size and alignment of each."""
    end = 0
    for size, align in values:
        offset = -(-end // align) * align
        yield offset, size
        end = offset + size


def _cross_check(compiled: Compiled, facts: _Facts, layout: Sequence[Slot]) -> None:
    subject = f"{compiled.entry} for {compiled.target.name}"
    expected = [(slot.offset, slot.size) for slot in layout]
    if expected != list(facts.params):
        raise FormatError(
            f"{subject}: parameters (offset, size): expected {_pairs(expected)} by the signature, "
            f"got {_pairs(facts.params)} in the code"
        )
    end = max((offset + size for offset, size in expected), default=0)
    if facts.param_bytes < end:
        raise FormatError(
            f"{subject}: parameter block: expected {end} bytes or more, got {facts.param_bytes}"
        )
    if facts.warp_size != compiled.warp_size:
        raise FormatError(
            f"{subject}: warp size: expected {compiled.warp_size} by the compiler, got {facts.warp_size}"
        )
    threads = compiled.num_warps * compiled.warp_size
    if facts.max_threads and facts.max_threads < threads:
        raise FormatError(
            f"{subject}: threads of a block: expected {threads} by the compiler "
            f"({compiled.num_warps} warps of {compiled.warp_size}), got at most {facts.max_threads} in the code"
        )


def _pairs(params: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"({offset}, {size})" for offset, size in params) or "(none)"


# ---- cubin

# Attributes of .nv.info, as cuobjdump -elf names them.
_EIATTR_MAX_THREADS = 0x05
_EIATTR_REQNTID = 0x10
_EIATTR_FRAME_SIZE = 0x11
_EIATTR_KPARAM_INFO = 0x17
_EIATTR_CBANK_PARAM_SIZE = 0x19
_EIATTR_REGCOUNT = 0x2F
_EIATTR_ANNOTATIONS = 0x55
_EIFMT_HVAL, _EIFMT_SVAL = 3, 4
_SPILL_REFILL = 1  # kind of annotation
_RESERVED_SHARED = ".nv.shared.reserved.0"
_RESERVED_SHARED_BYTES = 1024  # which sm_90 and up count into a block's static shared memory


def _read_cubin(code: bytes, entry: str) -> _Facts:
    elf = read_elf(code)
    if elf.machine != EM_CUDA:
        raise FormatError(f"{entry}: expected a cubin (machine {EM_CUDA}), got machine {elf.machine}")
    elf.section(f".text.{entry}")
    own = list(_attributes(elf.section(f".nv.info.{entry}").content))
    shared = list(_attributes(elf.section(".nv.info").content))
    symbol = next((index for index, symbol in enumerate(elf.symbols) if symbol.name == entry), -1)

    def of_function(wanted: int) -> int:
        pairs = (_unpack("<II", body) for attribute, body in shared if attribute == wanted)
        return next((value for owner, value in pairs if owner == symbol), 0)

    frame_bytes = of_function(_EIATTR_FRAME_SIZE)
    spills = any(
        attribute == _EIATTR_ANNOTATIONS and body[:4] == struct.pack("<I", _SPILL_REFILL)
        for attribute, body in own
    )
    param_bytes = [_unpack("<H", body)[0] for attr, body in own if attr == _EIATTR_CBANK_PARAM_SIZE]
    return _Facts(
        params=_cubin_params(body for attribute, body in own if attribute == _EIATTR_KPARAM_INFO),
        param_bytes=param_bytes[0] if param_bytes else 0,
        max_threads=_threads(own),
        registers=of_function(_EIATTR_REGCOUNT),
        # The frame holds what was spilled and local arrays; only the annotation tells them apart.
        spill_bytes=frame_bytes if spills else 0,
        local_bytes=frame_bytes,
        static_shared_bytes=_static_shared(elf, entry),
    )


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Attribute number and value of each entry of an .nv.info section."""
    at = 0
    while at < len(content):
        if at + 4 > len(content):
            raise FormatError(f".nv.info: expected 4 bytes at {at}, got {len(content) - at}")
        format_, attribute, value = struct.unpack_from("<BBH", content, at)
        body, at = content[at + 2 : at + 4], at + 4
        if format_ == _EIFMT_SVAL:
            body, at = content[at : at + value], at + value
            if at > len(content):
                raise FormatError(f".nv.info: expected {value} bytes in attribute {attribute:#x}, got fewer")
        yield attribute, body


def _unpack(layout: str, body: bytes) -> tuple[int, ...]:
    if len(body) != struct.calcsize(layout):
        raise FormatError(f".nv.info: expected {struct.calcsize(layout)} bytes in a value, got {len(body)}")
    return struct.unpack(layout, body)


def _cubin_params(bodies: Iterable[bytes]) -> tuple[tuple[int, int], ...]:
    found = {}
    for body in bodies:
        _, ordinal, offset, packed = _unpack("<IHHI", body)
        found[ordinal] = (offset, packed >> 18)
    if sorted(found) != list(range(len(found))):
        raise FormatError(f"parameters of the cubin: expected numbers from 0 on, got {sorted(found)}")
    return tuple(found[ordinal] for ordinal in sorted(found))


def _threads(attributes: Iterable[tuple[int, bytes]]) -> int:
    for attribute, body in attributes:
        if attribute in (_EIATTR_REQNTID, _EIATTR_MAX_THREADS):
            x, y, z = _unpack("<III", body)
            return x * y * z
    return 0


def _static_shared(elf: ElfFile, entry: str) -> int:
    sizes = {section.name: section.size for section in elf.sections}
    reserved = _RESERVED_SHARED_BYTES if _RESERVED_SHARED in sizes else 0
    return max(0, sizes.get(f".nv.shared.{entry}", 0) - reserved)


# ---- PTX

# The driver that came with the first CUDA to know a PTX version; 7.5 and older do not occur.
_PTX_DRIVERS = {
    76: 11060,
    77: 11070,
    78: 11080,
    80: 12000,
    81: 12010,
    82: 12020,
    83: 12030,
    84: 12040,
    85: 12050,
    86: 12070,
    87: 12080,
    88: 12090,
}
_PTX_ENTRY = r"\.entry\s+{}\s*\((?P<params>[^)]*)\)(?P<directives>[^{{]*)\{{"
_PTX_PARAM = re.compile(
    r"\.param\b(?P<attributes>[^,]*?)\s(?P<name>[\w$%]+)(?:\[(?P<count>\d+)\])?\s*(?:,|$)"
)
_PTX_TYPE = re.compile(r"\.[busf](8|16|32|64)\b")


def _read_ptx(code: bytes, entry: str) -> _Facts:
    if not code.endswith(b"\0"):
        raise FormatError(f"{entry}: expected PTX text with a NUL at its end, as drivers read it, got none")
    text = code[:-1].decode(errors="replace")
    version = re.search(r"^\.version\s+(\d+)\.(\d+)", text, re.MULTILINE)
    function = re.search(_PTX_ENTRY.format(re.escape(entry)), text)
    if version is None or function is None:
        raise FormatError(f"{entry}: expected PTX text with .version and this entry, got {text[:60]!r}")
    params = tuple(_natural(_ptx_values(function["params"])))
    threads = re.search(r"\.(?:req|max)ntid\s+([\d,\s]+)", function["directives"])
    number = 10 * int(version[1]) + int(version[2])
    return _Facts(
        params=params,
        param_bytes=max((offset + size for offset, size in params), default=0),
        max_threads=_product(threads[1]) if threads else 0,
        # From 9.0 on, PTX and CUDA are counted together: 9.1 came with CUDA 13.1.
        least_driver=_PTX_DRIVERS.get(number, 13000 + 10 * (number - 90) if number >= 90 else 0),
        ptx_version=number,
    )


def _ptx_values(params: str) -> Iterator[tuple[int, int]]:
    """Size and alignment of each parameter, bytes; LLVM writes a half as two aligned bytes."""
    for match in _PTX_PARAM.finditer(params.strip()):
        type_ = _PTX_TYPE.search(match["attributes"])
        align = re.search(r"\.align (\d+)", match["attributes"]) if match["count"] else None
        if type_ is None:
            raise FormatError(f"PTX parameter: expected a type of known size, got {match[0].strip()!r}")
        size = int(type_[1]) // 8
        yield size * int(match["count"] or 1), int(align[1]) if align else size


def _product(numbers: str) -> int:
    result = 1
    for number in numbers.split(","):
        result *= int(number)
    return result


# ---- code objects of AMD

_NT_AMDGPU_METADATA = 32


def _read_hsaco(code: bytes, entry: str) -> _Facts:
    elf = read_elf(code)
    if elf.machine != EM_AMDGPU:
        raise FormatError(f"{entry}: expected a code object (machine {EM_AMDGPU}), got machine {elf.machine}")
    kernels = [kernel for kernel in _amd_kernels(elf) if kernel.get(".name") == entry]
    if len(kernels) != 1:
        raise FormatError(f"{entry}: expected one kernel of this name in the note, got {len(kernels)}")
    kernel = kernels[0]
    args = kernel.get(".args", [])
    if not isinstance(args, list) or not all(isinstance(arg, dict) for arg in args):
        raise FormatError(f"{entry}: expected a list of maps as .args in the note, got {args!r}")
    visible = [arg for arg in args if not str(arg.get(".value_kind")).startswith("hidden_")]
    return _Facts(
        params=tuple((_number(arg, ".offset"), _number(arg, ".size")) for arg in visible),
        param_bytes=_number(kernel, ".kernarg_segment_size"),
        max_threads=_number(kernel, ".max_flat_workgroup_size"),
        registers=_number(kernel, ".vgpr_count"),
        spill_bytes=4 * _number(kernel, ".vgpr_spill_count"),
        local_bytes=_number(kernel, ".private_segment_fixed_size"),
        static_shared_bytes=_number(kernel, ".group_segment_fixed_size"),
        warp_size=_number(kernel, ".wavefront_size"),
        elf_flags=elf.flags,
    )


def _number(record: dict[str, Any], key: str) -> int:
    value = record.get(key)
    if not isinstance(value, int):
        raise FormatError(f"AMDGPU note: expected a number as {key}, got {value!r}")
    return value


def _amd_kernels(elf: ElfFile) -> list[dict[str, Any]]:
    for section in elf.sections:
        if section.type != SHT_NOTE:
            continue
        for owner, type_, body in _notes(section.content):
            if owner == b"AMDGPU" and type_ == _NT_AMDGPU_METADATA:
                try:
                    kernels = msgpack.unpackb(body)["amdhsa.kernels"]
                except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
                    raise FormatError(f"AMDGPU note: expected a map with amdhsa.kernels ({error})") from error
                return [kernel for kernel in kernels if isinstance(kernel, dict)]
    raise FormatError("code object: expected an AMDGPU metadata note, got none")


def _notes(content: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, type and body of each note of a section."""
    at = 0
    while at + 12 <= len(content):
        owner_bytes, body_bytes, type_ = struct.unpack_from("<III", content, at)
        owner_at = at + 12
        body_at = owner_at + -(-owner_bytes // 4) * 4
        at = body_at + -(-body_bytes // 4) * 4
        if at > len(content):
            raise FormatError(f"note: expected it to end within {len(content)} bytes, got {at}")
        yield (
            content[owner_at : owner_at + owner_bytes].rstrip(b"\0"),
            type_,
            content[body_at : body_at + body_bytes],
        )
