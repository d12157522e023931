"""How full a multiprocessor can be of one image's blocks, by the limits that vendors publish. docs/report.md has the
rules and where each number is from; tests compare with NVIDIA's own calculator and with LLVM's.

What a device does at run time may be less: clusters, carve-outs of shared memory, and what else runs beside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kpack.objfile import abi
from kpack.target import Target, parse_target

__all__ = ["Needs", "Occupancy", "occupancy_of"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What one block of an image takes. `registers`: of a thread (AMD: vector registers, those for matrices included).
    AMD alone: `scalar_registers` of a wave; `cu_mode`, from gfx10 on: blocks are kept to one compute unit of a WGP."""

    warps: int
    registers: int
    shared_bytes: int
    warp_size: int
    scalar_registers: int = 0
    cu_mode: bool = False


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Blocks and warps that are resident at a time, the most warps that could be, and what sets the limit: "warps",
    "blocks", "registers" or "shared memory". Of a multiprocessor; AMD: of a compute unit, in WGP mode two."""

    blocks: int
    warps: int
    most_warps: int
    limit: str

    @property
    def share(self) -> float:
        """Of the most warps; 0 to 1."""
        return self.warps / self.most_warps


def occupancy_of(target: str, needs: Needs) -> Occupancy | str:
    """The occupancy on a device of this target, or why it is not known. Raises TargetError for an unknown name."""
    found = parse_target(target)
    if found.kind == abi.IMAGE_PTX:
        return "compiled by the driver"
    if needs.warps < 1:
        return "warps not known"
    limits = _cuda(found, needs) if found.vendor == abi.VENDOR_CUDA else _hip(found, needs)
    if isinstance(limits, str):
        return limits
    most_warps, blocks_by = limits
    # Of equal limits the device's own comes first: no change of the kernel moves it.
    limit = min(_LIMITS, key=lambda name: blocks_by.get(name, blocks_by["warps"]))
    blocks = blocks_by[limit]
    return Occupancy(blocks, blocks * needs.warps, most_warps, limit)


_LIMITS = ("warps", "blocks", "registers", "shared memory")
_Limits = tuple[int, dict[str, int]]  # the most warps, and how many blocks fit by what


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


# ---- CUDA


@dataclass(frozen=True, slots=True)
class _Sm:
    """A multiprocessor: what can be resident, and its shared memory in KiB."""

    warps: int
    blocks: int
    shared_kib: int


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". Of 10.7 it says nothing yet.
_SM: dict[int, _Sm] = {
    70: _Sm(64, 32, 96),
    72: _Sm(64, 32, 96),
    75: _Sm(32, 16, 64),
    80: _Sm(64, 32, 164),
    86: _Sm(48, 16, 100),
    87: _Sm(48, 16, 164),
    89: _Sm(48, 24, 100),
    90: _Sm(64, 32, 228),
    100: _Sm(64, 32, 228),
    101: _Sm(48, 24, 228),  # the earlier name of 110
    103: _Sm(64, 32, 228),
    110: _Sm(48, 24, 228),
    120: _Sm(48, 24, 100),
    121: _Sm(48, 24, 100),
}
# The same on all of them; granularities as in NVIDIA's cuda_occupancy.h.
_SM_REGISTERS = 65536
_SM_PARTS = 4  # each with a scheduler and a quarter of the registers
_WARP_REGISTERS_UNIT = 256
_MOST_REGISTERS = 256  # of a thread, where 255 can be named
_FIRST_RESERVED = 80  # from here on the driver keeps shared memory of each block to itself
_RESERVED_BYTES = 1024


def _cuda(target: Target, needs: Needs) -> _Limits | str:
    sm = _SM.get(target.arch)
    if sm is None:
        return "limits not published"
    reserved = _RESERVED_BYTES if target.arch >= _FIRST_RESERVED else 0
    shared = _up(needs.shared_bytes + reserved, 128 if target.arch >= _FIRST_RESERVED else 256)
    found = {"registers": _cuda_blocks_by_registers(needs)}
    if needs.shared_bytes > target.shared_bytes:
        found["shared memory"] = 0
    elif shared:
        found["shared memory"] = sm.shared_kib * 1024 // shared
    return sm.warps, {**found, "warps": sm.warps // needs.warps, "blocks": sm.blocks}


def _cuda_blocks_by_registers(needs: Needs) -> int:
    of_warp = _up(max(needs.registers, 1) * needs.warp_size, _WARP_REGISTERS_UNIT)
    # A block is admitted as if its warps filled all parts alike, and then placed warp by warp.
    admitted = of_warp * _up(needs.warps, _SM_PARTS) <= _SM_REGISTERS and needs.registers <= _MOST_REGISTERS
    return _SM_REGISTERS // _SM_PARTS // of_warp * _SM_PARTS // needs.warps if admitted else 0


# ---- AMD


@dataclass(frozen=True, slots=True)
class _Simd:
    """A SIMD: waves, and vector registers of a lane for waves of 32 (gfx9: of 64), with their unit; and of what four
    SIMDs share: groups of several waves, and LDS in KiB with the unit of bytes that it is given in."""

    waves: int
    registers: int
    unit: int
    groups: int
    lds_kib: int
    lds_unit: int


# LLVM's AMDGPUBaseInfo.cpp and GCNSubtarget; units of LDS from gfx10.3 on: Mesa's ac_gpu_info.c.
_GFX9 = _Simd(10, 256, 4, 16, 64, 512)
_GFX90A = _Simd(8, 512, 8, 16, 64, 512)
_GFX950 = _Simd(8, 512, 8, 16, 160, 1280)
_GFX10_1 = _Simd(20, 1024, 8, 32, 128, 512)
_GFX10_3 = _Simd(16, 1024, 16, 32, 128, 1024)
_GFX11_LARGE = _Simd(16, 1536, 24, 32, 128, 1024)  # half as many registers again
_GFX125 = _Simd(16, 1024, 16, 16, 320, 2048)
_WITH_WGP = (_GFX10_1, _GFX10_3, _GFX11_LARGE)
_SIMDS = 4  # of a compute unit, or of a WGP

_PROCESSORS = (
    (r"gfx9(00|02|04|06|08|09|0c)", _GFX9),
    (r"gfx9(0a|40|41|42)", _GFX90A),
    (r"gfx950", _GFX950),
    (r"gfx101.", _GFX10_1),
    (r"gfx103.", _GFX10_3),
    (r"gfx(1100|1101|1151|120.)", _GFX11_LARGE),
    (r"gfx11..", _GFX10_3),
    (r"gfx125.", _GFX125),
)


def _hip(target: Target, needs: Needs) -> _Limits | str:
    if target.processor.endswith("-generic"):
        return "several processors"
    simd = next((simd for name, simd in _PROCESSORS if re.fullmatch(name, target.processor)), None)
    if simd is None:
        return "limits not known"
    # Half of a WGP is a compute unit.
    parts = 2 if needs.cu_mode and simd in _WITH_WGP else 1
    simds, waves = _SIMDS // parts, _SIMDS // parts * simd.waves
    found = {"registers": simds * _waves_by_registers(simd, target, needs) // needs.warps}
    if needs.shared_bytes > target.shared_bytes:
        found["shared memory"] = 0
    elif needs.shared_bytes:
        found["shared memory"] = simd.lds_kib * 1024 // parts // _up(needs.shared_bytes, simd.lds_unit)
    # Groups of one wave need no barrier, of which there is one a group.
    groups = waves if needs.warps == 1 else simd.groups // parts
    return waves, {**found, "warps": waves // needs.warps, "blocks": groups}


def _waves_by_registers(simd: _Simd, target: Target, needs: Needs) -> int:
    """Waves of one SIMD."""
    is_gfx9 = target.processor.startswith("gfx9")
    # Waves of 64 take two rows of registers where waves of 32 take one.
    halves = 2 if not is_gfx9 and needs.warp_size == 64 else 1
    registers, unit = simd.registers // halves, simd.unit // halves
    found = registers // _up(max(needs.registers, 1), unit)
    if is_gfx9:
        # It alone has few enough scalar registers to matter; a trap handler has some of each wave's.
        scalars = _up(max(needs.scalar_registers, 1), _SCALARS_UNIT) + _TRAP_SCALARS
        found = min(found, _GFX9_SCALARS // scalars)
    return min(found, simd.waves)


_GFX9_SCALARS = 800
_SCALARS_UNIT = 16
_TRAP_SCALARS = 16
