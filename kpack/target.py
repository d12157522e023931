"""Arch names: what kpack compiles for, and the one parser of their spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from kpack.errors import TargetError
from kpack.objfile import abi

__all__ = ["KNOWN", "Target", "nearest", "parse_target", "parse_targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of machine code: a name as the user writes it, and what it means.

    Made from arch names by `build`, which raises TargetError for unknown ones; handed to configs=.
    """

    name: str
    vendor: int
    """`abi.VENDOR_CUDA` or `abi.VENDOR_HIP`"""
    kind: int
    """`abi.IMAGE_...`"""
    reach: int
    """`abi.REACH_...`: on which other devices it runs"""
    arch: int
    """CUDA: 10 * major + minor; AMD: 0"""
    processor: str
    """AMD: the name itself; CUDA: empty"""
    warp_size: int
    """threads: 64 on AMD's gfx9, else 32"""


def _cubin(arch: int) -> Target:
    # Triton compiles sm_90 and up with the "a" suffix: such code runs on no other arch.
    reach = abi.REACH_EXACT if arch >= 90 else abi.REACH_MAJOR
    return Target(f"sm_{arch}", abi.VENDOR_CUDA, abi.IMAGE_CUBIN, reach, arch, "", 32)


def _ptx(arch: int) -> Target:
    return Target(f"ptx_{arch}", abi.VENDOR_CUDA, abi.IMAGE_PTX, abi.REACH_FORWARD, arch, "", 32)


def _hsaco(processor: str) -> Target:
    warp_size = 64 if processor.startswith("gfx9") else 32
    return Target(processor, abi.VENDOR_HIP, abi.IMAGE_HSACO, abi.REACH_EXACT, 0, processor, warp_size)


_SM = (75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121)
_PTX = tuple(arch for arch in _SM if arch < 90)
_GFX = "gfx908 gfx90a gfx942 gfx950 gfx1030 gfx1100 gfx1101 gfx1102 gfx1151 gfx1200 gfx1201 gfx1250".split()

KNOWN: dict[str, Target] = {
    target.name: target for target in (*map(_cubin, _SM), *map(_ptx, _PTX), *map(_hsaco, _GFX))
}


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing when nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def parse_target(name: str) -> Target:
    return parse_targets((name,))[0]


def parse_targets(arch: str | Iterable[str]) -> tuple[Target, ...]:
    """The targets of these names in their order, each once. Raises TargetError with a line a mistake."""
    if not isinstance(arch, Iterable):
        raise TargetError(f"arch: expected a name or a list of names, got {arch!r}")
    names = (arch,) if isinstance(arch, str) else tuple(arch)
    if not names:
        raise TargetError("arch: expected at least one name, got none; give for example arch='sm_90'")
    unknown = [name for name in names if not isinstance(name, str) or name not in KNOWN]
    if unknown:
        raise TargetError("\n".join(map(_unknown, unknown)))
    return tuple(KNOWN[name] for name in dict.fromkeys(names))


def _unknown(name: object) -> str:
    hint = ""
    if isinstance(name, str):
        several = [part for part in re.split(r"[,\s]+", name) if part]
        hint = f"; give a list: {several}" if len(several) > 1 else nearest(name, KNOWN)
    return f"arch: expected one of {' '.join(KNOWN)}, got {name!r}{hint}"
