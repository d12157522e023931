"""What a compiler hands over, and the image made of it: one variant's code for one target, ready to pack."""

from __future__ import annotations

from dataclasses import dataclass

from kpack.target import Target

__all__ = ["Compiled", "Image", "Slot", "Tensordesc"]


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
class Tensordesc:
    """What the compiler decided about one host tensor descriptor: see kpk_abi_tensordesc. Where it is passed in
    parts, nothing was decided: `swizzle` is 0 and `box` is the signature's."""

    param: int
    rank: int
    type: int
    element_bytes: int
    box: tuple[int, ...]
    """elements, outermost first; in im2col mode pixels and channels, whatever the rank"""
    swizzle: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiler hands over: code, and what it says of launching it. `arguments`: parameter index and
    type code of those that were not folded away; `hidden`: the sources of the slots that follow them;
    `tensordescs`: of the arguments that are tensor descriptors; `parts`: the sources of the flags where these
    are passed in parts, None where each is passed as a map."""

    target: Target
    entry: str
    code: bytes
    arguments: tuple[tuple[int, int], ...]
    hidden: tuple[int, ...]
    num_warps: int
    warp_size: int
    shared_bytes: int
    tensordescs: tuple[Tensordesc, ...] = ()
    parts: tuple[int, ...] | None = None
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
    tensordescs: tuple[Tensordesc, ...] = ()
