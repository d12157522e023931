"""hsaco: AMD code objects in ELF. The NT_AMDGPU_METADATA note, a map in MessagePack, says what a launch needs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from kpack.errors import FormatError
from kpack.image.facts import Facts
from kpack.needs import needing
from kpack.objfile.elf import EM_AMDGPU, SHT_NOTE, ElfFile, read_elf
from kpack.target import PROCESSORS, Target, hip_target

__all__ = ["hsaco_entries", "hsaco_target", "read_hsaco"]

_NT_AMDGPU_METADATA = 32

# e_flags: the processor, and a setting of each feature.
_MACH = 0xFF
_FEATURES = {0x200: "xnack-", 0x300: "xnack+", 0x800: "sramecc-", 0xC00: "sramecc+"}
_FEATURE_MASKS = (0x300, 0xC00)
_OLDEST_ABI = 2  # code object V4: what came before has other flags


def hsaco_entries(elf: ElfFile) -> tuple[str, ...]:
    return tuple(str(kernel.get(".name")) for kernel in _amd_kernels(elf))


def hsaco_target(elf: ElfFile) -> Target:
    """What a code object is for, features that it was compiled for included. By the flags: the text in the note has
    several spellings, and older objects have none."""
    if elf.abi_version < _OLDEST_ABI:
        raise FormatError(
            f"code object: expected version 4 (ABI version {_OLDEST_ABI}) or later, got {elf.abi_version}"
        )
    processor = PROCESSORS.get(elf.flags & _MACH)
    if processor is None:
        raise FormatError(f"code object: expected a known processor in e_flags, got {elf.flags & _MACH:#x}")
    features = (_FEATURES.get(elf.flags & mask) for mask in _FEATURE_MASKS)
    return hip_target(processor, (feature for feature in features if feature))


def read_hsaco(code: bytes, entry: str) -> Facts:
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
    return Facts(
        params=tuple((_number(arg, ".offset"), _number(arg, ".size")) for arg in visible),
        param_bytes=_number(kernel, ".kernarg_segment_size"),
        max_threads=_number(kernel, ".max_flat_workgroup_size"),
        registers=_number(kernel, ".vgpr_count"),
        spill_bytes=4 * _number(kernel, ".vgpr_spill_count"),
        local_bytes=_number(kernel, ".private_segment_fixed_size"),
        static_shared_bytes=_number(kernel, ".group_segment_fixed_size"),
        warp_size=_number(kernel, ".wavefront_size"),
        elf_flags=elf.flags,
        block=_triple(kernel, ".reqd_workgroup_size"),
        cluster=_triple(kernel, ".cluster_dims"),
        target=hsaco_target(elf),
        scalar_registers=_number(kernel, ".sgpr_count"),
        cu_mode=not kernel.get(".workgroup_processor_mode", True),
    )


def _triple(record: dict[str, Any], key: str) -> tuple[int, int, int]:
    value = record.get(key, [0, 0, 0])
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(each, int) for each in value)):
        raise FormatError(f"AMDGPU note: expected three numbers as {key}, got {value!r}")
    return value[0], value[1], value[2]


def _number(record: dict[str, Any], key: str) -> int:
    value = record.get(key)
    if not isinstance(value, int):
        raise FormatError(f"AMDGPU note: expected a number as {key}, got {value!r}")
    return value


def _amd_kernels(elf: ElfFile) -> list[dict[str, Any]]:
    with needing("code object"):
        import msgpack  # here: what only loads packs needs none

    for section in elf.sections:
        if section.type != SHT_NOTE:
            continue
        for owner, type_, body in _notes(section.content):
            if owner == b"AMDGPU" and type_ == _NT_AMDGPU_METADATA:
                try:
                    kernels = msgpack.unpackb(body)["amdhsa.kernels"]
                except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
                    raise FormatError(f"AMDGPU note: expected a map with amdhsa.kernels ({error})") from error
                if not isinstance(kernels, list) or not all(isinstance(kernel, dict) for kernel in kernels):
                    raise FormatError(
                        f"AMDGPU note: expected a list of maps as amdhsa.kernels, got {kernels!r:.60}"
                    )
                return kernels
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
