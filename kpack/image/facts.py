"""What code of any format says of itself, and how C lays parameters out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kpack.target import Target

__all__ = ["Facts", "natural"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the code says of itself. `params`: offset and size of each, bytes, in order; `block`: the threads that
    it asks for along x, y and z, zeros where it asks for none; `target`: what it is for, None where it does not
    say; `cluster`: the CTAs of a cluster that it asks for, zeros for none. AMD alone: `scalar_registers` of a wave;
    `cu_mode`: from gfx10 on, whether blocks are kept to one compute unit of the two of a WGP."""

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
    block: tuple[int, int, int] = (0, 0, 0)
    cluster: tuple[int, int, int] = (0, 0, 0)
    target: Target | None = None
    scalar_registers: int = 0
    cu_mode: bool = False


def natural(values: Iterable[tuple[int, int]], start: int = 0) -> Iterator[tuple[int, int]]:
    """Offset and size of values in a row, given the size and alignment of each. `start`: the address of offset 0."""
    end = start
    for size, align in values:
        offset = -(-end // align) * align
        yield offset - start, size
        end = offset + size
