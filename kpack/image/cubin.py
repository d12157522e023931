"""cubin: NVIDIA machine code in ELF. The .nv.info sections say what a launch needs, an attribute (EIATTR) each."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from kpack.errors import FormatError
from kpack.image.facts import Facts
from kpack.objfile.elf import EM_CUDA, ElfFile, read_elf

__all__ = ["read_cubin"]

# Attributes of .nv.info, as cuobjdump -elf names them.
_EIATTR_MAX_THREADS = 0x05
_EIATTR_REQNTID = 0x10
_EIATTR_FRAME_SIZE = 0x11
_EIATTR_KPARAM_INFO = 0x17
_EIATTR_CBANK_PARAM_SIZE = 0x19
_EIATTR_REGCOUNT = 0x2F
_EIATTR_ANNOTATIONS = 0x55
_EIFMT_SVAL = 4
_SPILL_REFILL = 1  # kind of annotation
_RESERVED_SHARED = ".nv.shared.reserved.0"
_RESERVED_SHARED_BYTES = 1024  # which sm_90 and up count into a block's static shared memory


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
