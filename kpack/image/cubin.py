"""cubin: NVIDIA machine code in ELF. The .nv.info sections say what a launch needs, an attribute (EIATTR) each."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence

from kpack.errors import FormatError
from kpack.image.facts import Facts
from kpack.objfile.elf import EM_CUDA, ElfFile, read_elf
from kpack.target import Target, cuda_target

__all__ = ["cubin_entries", "cubin_target", "read_cubin"]

# Attributes of .nv.info, as cuobjdump -elf names them.
_EIATTR_MAX_THREADS = 0x05
_EIATTR_REQNTID = 0x10
_EIATTR_FRAME_SIZE = 0x11
_EIATTR_KPARAM_INFO = 0x17
_EIATTR_CBANK_PARAM_SIZE = 0x19
_EIATTR_REGCOUNT = 0x2F
_EIATTR_CTA_PER_CLUSTER = 0x3D
_EIATTR_ANNOTATIONS = 0x55
_EIFMT_SVAL = 4
_SPILL_REFILL = 1  # kind of annotation
# e_flags: from ABI version 8 on the arch is in the second byte. The bit of an "a" arch is not set by ptxas 13.
_NEW_ABI = 8
_SUFFIX_A = {False: 0x800, True: 0x8}
_TOOL_NOTE = ".note.nv.tkinfo"  # how ptxas was called
_TOOL_ARCH = re.compile(rb"-arch sm_([0-9]+)([af]?)\b")
_FIRST_SUFFIXED = 90
_RESERVED_SHARED = ".nv.shared.reserved.0"
_RESERVED_SHARED_BYTES = 1024  # which sm_90 and up count into a block's static shared memory


def cubin_entries(elf: ElfFile) -> tuple[str, ...]:
    """The kernels of a cubin: functions that a launch can name have an .nv.info section of their own."""
    code = {section.name for section in elf.sections}
    infos = [name.removeprefix(".nv.info.") for name in code if name.startswith(".nv.info.")]
    return tuple(sorted(name for name in infos if f".text.{name}" in code and _has_params(elf, name)))


def _has_params(elf: ElfFile, name: str) -> bool:
    """Tells a kernel from a device function that was compiled apart."""
    content = elf.section(f".nv.info.{name}").content
    return any(attribute == _EIATTR_CBANK_PARAM_SIZE for attribute, _ in _attributes(content))


def cubin_target(elf: ElfFile) -> Target:
    """What a cubin is for. Whether that is "sm_100" or "sm_100f" only the note of the tool says: without one it is
    taken for the narrowest, "a"."""
    new = elf.abi_version >= _NEW_ABI
    arch = elf.flags >> 8 & 0xFF if new else elf.flags & 0xFF
    notes = [section.content for section in elf.sections if section.name == _TOOL_NOTE]
    said = [match for note in notes for match in _TOOL_ARCH.finditer(note) if int(match[1]) == arch]
    if elf.flags & _SUFFIX_A[new]:
        return cuda_target(arch, "a")
    if said:
        return cuda_target(arch, said[0][2].decode())
    return cuda_target(arch, "a" if new and arch >= _FIRST_SUFFIXED else "")


def read_cubin(code: bytes, entry: str) -> Facts:
    elf = read_elf(code)
    if elf.machine != EM_CUDA:
        raise FormatError(f"{entry}: expected a cubin (machine {EM_CUDA}), got machine {elf.machine}")
    elf.section(f".text.{entry}")
    own = list(_attributes(elf.section(f".nv.info.{entry}").content))
    shared = list(_attributes(elf.section(".nv.info").content))
    # The shared section says whose a fact is by symbol number: without one, all of them would read as 0.
    symbol = next((index for index, symbol in enumerate(elf.symbols) if symbol.name == entry), None)
    if symbol is None:
        raise FormatError(f"{entry}: expected a symbol of this name in the cubin, got none")

    def of_function(wanted: int) -> int:
        pairs = (_unpack("<II", body) for attribute, body in shared if attribute == wanted)
        return next((value for owner, value in pairs if owner == symbol), 0)

    frame_bytes = of_function(_EIATTR_FRAME_SIZE)
    spills = any(
        attribute == _EIATTR_ANNOTATIONS and body[:4] == struct.pack("<I", _SPILL_REFILL)
        for attribute, body in own
    )
    param_bytes = [_unpack("<H", body)[0] for attr, body in own if attr == _EIATTR_CBANK_PARAM_SIZE]
    return Facts(
        params=_cubin_params(body for attribute, body in own if attribute == _EIATTR_KPARAM_INFO),
        param_bytes=param_bytes[0] if param_bytes else 0,
        max_threads=_threads(own),
        registers=of_function(_EIATTR_REGCOUNT),
        # The frame holds what was spilled and local arrays; only the annotation tells them apart.
        spill_bytes=frame_bytes if spills else 0,
        local_bytes=frame_bytes,
        static_shared_bytes=_static_shared(elf, entry),
        block=_triple(own, _EIATTR_REQNTID),
        cluster=_triple(own, _EIATTR_CTA_PER_CLUSTER),
        target=cubin_target(elf),
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


def _threads(attributes: Sequence[tuple[int, bytes]]) -> int:
    for wanted in (_EIATTR_REQNTID, _EIATTR_MAX_THREADS):
        x, y, z = _triple(attributes, wanted)
        if x:
            return x * y * z
    return 0


def _triple(attributes: Sequence[tuple[int, bytes]], wanted: int) -> tuple[int, int, int]:
    """The three numbers of an attribute; zeros without it."""
    for attribute, body in attributes:
        if attribute == wanted:
            x, y, z = _unpack("<III", body)
            return x, y, z
    return 0, 0, 0


def _static_shared(elf: ElfFile, entry: str) -> int:
    sizes = {section.name: section.size for section in elf.sections}
    reserved = _RESERVED_SHARED_BYTES if _RESERVED_SHARED in sizes else 0
    return max(0, sizes.get(f".nv.shared.{entry}", 0) - reserved)
