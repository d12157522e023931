"""From what was compiled to its image: the code's own facts, cross-checked with what the compiler says.

A launcher that passes one argument too few reads, or lets the GPU read, memory that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kpack.errors import FormatError
from kpack.image.cubin import read_cubin
from kpack.image.facts import Facts, natural
from kpack.image.fit import MAX_THREADS
from kpack.image.hsaco import read_hsaco
from kpack.image.image import Compiled, Image, Slot, Tensordesc
from kpack.image.ptx import read_ptx
from kpack.objfile import abi
from kpack.target import Target

__all__ = ["read_facts", "read_image", "serves"]

POINTER_BYTES = 8
MAP_BYTES = 128  # of a CUtensorMap
MAP_ALIGN = 64


def read_image(compiled: Compiled) -> Image:
    """The image of what was compiled. Raises FormatError where code and compiler do not say the same."""
    facts = read_facts(compiled.code, compiled.target.kind, compiled.entry)
    layout = _layout(compiled, facts)
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
        tensordescs=compiled.tensordescs,
    )


def read_facts(code: bytes, kind: int, entry: str) -> Facts:
    """What code of this kind says of the kernel `entry`. Raises FormatError for damage, and without that kernel."""
    readers = {abi.IMAGE_CUBIN: read_cubin, abi.IMAGE_PTX: read_ptx, abi.IMAGE_HSACO: read_hsaco}
    return readers[kind](code, entry)


Value = tuple[int, int, int, int]  # source, type code, index, part


def _layout(compiled: Compiled, facts: Facts) -> tuple[Slot, ...]:
    """The slots as C would lay them out: arguments in order, then the hidden pointers."""
    values = [
        *_arguments(compiled),
        *((source, abi.POINTER | abi.VOID, 0, 0) for source in compiled.hidden),
    ]
    sizes = [_size_and_align(source, code) for source, code, _, _ in values]
    return tuple(
        Slot(source, code, index, offset, size, part)
        for (source, code, index, part), (offset, size) in zip(
            values, natural(sizes, _start(values, facts)), strict=True
        )
    )


def _arguments(compiled: Compiled) -> Iterator[Value]:
    descriptors = {descriptor.param: descriptor for descriptor in compiled.tensordescs}
    for index, code in compiled.arguments:
        if index in descriptors:
            yield from _descriptor(descriptors[index], compiled.parts)
        else:
            yield abi.SLOT_ARGUMENT, code, index, 0


def _descriptor(descriptor: Tensordesc, parts: Iterable[int] | None) -> Iterator[Value]:
    """The map, or what it would be made of; and in any case the shape and strides as the kernel sees them."""
    index, element, dimensions = descriptor.param, descriptor.type, range(descriptor.rank)
    if parts is None:
        yield abi.SLOT_DESC_MAP, abi.TENSORDESC | element, index, 0
    else:
        yield abi.SLOT_DESC_BASE, abi.POINTER | element, index, 0
        yield from ((abi.SLOT_DESC_SHAPE, abi.I64, index, part) for part in dimensions)
        yield from ((abi.SLOT_DESC_STRIDE, abi.I64, index, part) for part in dimensions)
        yield from ((source, abi.I1, index, 0) for source in parts)
    yield from ((abi.SLOT_DESC_SHAPE, abi.I32, index, part) for part in dimensions)
    yield from ((abi.SLOT_DESC_STRIDE, abi.I64, index, part) for part in dimensions)


def _size_and_align(source: int, code: int) -> tuple[int, int]:
    if source == abi.SLOT_DESC_MAP:
        return MAP_BYTES, MAP_ALIGN
    size = POINTER_BYTES if code & abi.POINTER else abi.ELEMENT_BYTES[code]
    return size, size


def _start(values: Sequence[Value], facts: Facts) -> int:
    """Where offset 0 lies, modulo the alignment of a map: sm_90 has its parameters at 0x210 of the constant bank,
    and a map is aligned there. By the code's word for the first map; all else must follow from it."""
    first = next((at for at, value in enumerate(values) if value[0] == abi.SLOT_DESC_MAP), None)
    if first is None or first >= len(facts.params):
        return 0
    return -facts.params[first][0] % MAP_ALIGN


def _cross_check(compiled: Compiled, facts: Facts, layout: Sequence[Slot]) -> None:
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
    if facts.target is not None and not serves(facts.target, compiled.target):
        raise FormatError(
            f"{subject}: expected code for {compiled.target.name}, got code for {facts.target.name}"
        )
    if facts.warp_size != compiled.warp_size:
        raise FormatError(
            f"{subject}: warp size: expected {compiled.warp_size} by the compiler, got {facts.warp_size}"
        )
    if any(facts.cluster) and facts.cluster != compiled.cluster:
        raise FormatError(
            f"{subject}: cluster: expected {compiled.cluster} by the compiler, got {facts.cluster}"
        )
    threads = compiled.num_warps * compiled.warp_size
    # LLVM has no more than 1024 for what asks for more: why_unfit() says it.
    if facts.max_threads and facts.max_threads < min(threads, MAX_THREADS):
        raise FormatError(
            f"{subject}: threads of a block: expected {threads} by the compiler "
            f"({compiled.num_warps} warps of {compiled.warp_size}), got at most {facts.max_threads} in the code"
        )


def serves(code: Target, target: Target) -> bool:
    """Whether code that says it is for `code` runs wherever an image for `target` is taken."""
    if (code.vendor, code.arch, code.processor) != (target.vendor, target.arch, target.processor):
        return False
    if code.vendor != abi.VENDOR_CUDA:
        return set(target.features) <= set(code.features)
    breadth = (abi.REACH_EXACT, abi.REACH_FAMILY, abi.REACH_MAJOR, abi.REACH_FORWARD)
    return breadth.index(target.reach) <= breadth.index(code.reach)


def _pairs(params: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"({offset}, {size})" for offset, size in params) or "(none)"
