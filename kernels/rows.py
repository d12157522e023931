"""What the kernels of rows share: reading a row, or several short ones, in pieces, and the tables of configs.

A piece is a tile of [rows of a program, BLOCK columns]; a tuple of them is as much of the rows as is in registers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

import kpack

if TYPE_CHECKING:  # building needs no torch
    import torch


LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def exp(x):
    """exp(x). Of float32 in two instructions on NVIDIA, where tl.exp takes five: what is below 2^-126 becomes 0."""
    if x.dtype == tl.float64:
        y = tl.exp(x)
    else:
        y = tl.exp2(x * LOG2_E)
    return y


@triton.jit
def rows_of_program(n_rows, ROWS: tl.constexpr):
    """The rows of this program, one number or a column of them, and which of them there are."""
    # 64 bits before the product: rows times stride passes 2^31 long before the memory of a GPU is full.
    row = tl.program_id(0).to(tl.int64) * ROWS
    present = row + tl.arange(0, ROWS)[:, None] < n_rows
    if ROWS > 1:
        row += tl.arange(0, ROWS)[:, None]
    return row, present


@triton.jit
def load_piece(ptr, start, n_cols, present, other, BLOCK: tl.constexpr, EVICT: tl.constexpr):
    """A tile from column `start` on; `other` beyond n_cols, and in rows that are not present."""
    at = start + tl.arange(0, BLOCK)[None, :]
    return tl.load(ptr + at, mask=(at < n_cols) & present, other=other, eviction_policy=EVICT)


@triton.jit
def load_pieces(ptr, n_cols, present, other, BLOCK: tl.constexpr, PIECES: tl.constexpr, EVICT: tl.constexpr):
    """PIECES tiles from the first column on, as they lie in memory."""
    pieces = ()
    for piece in tl.static_range(PIECES):
        pieces = pieces + (load_piece(ptr, piece * BLOCK, n_cols, present, other, BLOCK, EVICT),)
    return pieces


@triton.jit
def store_piece(ptr, value, start, n_cols, present, BLOCK: tl.constexpr):
    at = start + tl.arange(0, BLOCK)[None, :]
    tl.store(ptr + at, value.to(ptr.dtype.element_ty), mask=(at < n_cols) & present)


# ---- a step of a loop over a row: too much for registers, read again from the cache
#
# What the loop reads first should stay there until it is read again; that, and what is written, need not: with these
# policies a loop over fp16 rows of 64 KB is a tenth faster on an H200. In rows read once they cost a twentieth.


@triton.jit
def step_columns(start, BLOCK: tl.constexpr, STEP: tl.constexpr):
    # The sum last: a thread then has one address, and offsets that are constants.
    return start + (tl.arange(0, STEP)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :])


@triton.jit
def load_step(ptr, at, n_cols, other, EVICT: tl.constexpr):
    return tl.load(ptr + at, mask=at < n_cols, other=other, eviction_policy=EVICT)


@triton.jit
def store_step(ptr, value, at, n_cols):
    tl.store(ptr + at, value.to(ptr.dtype.element_ty), mask=at < n_cols, eviction_policy="evict_first")


# ---- rows of any alignment: 16 bytes at a time, but for the few columns at their edges


@triton.jit
def edges(out_ptr, n_cols):
    """The columns before and behind the output's whole units of 16 bytes, and which of them there are; the first column
    that is in such a unit, and how many are."""
    SIZE: tl.constexpr = out_ptr.dtype.element_ty.primitive_bitwidth // 8
    UNIT: tl.constexpr = 16 // SIZE
    head = tl.minimum((16 - out_ptr.to(tl.int64) % 16).to(tl.int32) % 16 // SIZE, n_cols)
    n_inner = (n_cols - head) // UNIT * UNIT
    edge = tl.arange(0, 2 * UNIT)[None, :]
    behind = edge + (head + n_inner - UNIT)
    in_edge = (edge < head) | ((edge >= UNIT) & (behind < n_cols))
    return tl.where(edge < UNIT, edge, behind), in_edge, head, n_inner


@triton.jit
def aligned_down(ptr, ROWS: tl.constexpr):
    """The same addresses, where they are multiples of 16; Triton sees that they are."""
    ptr = (ptr.to(tl.int64) // 16 * 16).to(ptr.dtype)
    if ROWS == 1:
        ptr = tl.multiple_of(ptr, 16)
    else:
        ptr = tl.multiple_of(ptr, [16, 16])
    return ptr


# ---- configs: the first whose guard holds is taken, unless a tuner knows better. From sweeps on an H200.

ANY = 2**30  # columns


@dataclass(frozen=True)
class Tile:
    """A program's share of the work, as the kernels' constants have it."""

    threads: int
    block: int
    """columns of a piece"""
    held: int
    """pieces in registers"""
    longest: int
    """columns of a row"""
    rows: int = 1
    step: int = 0
    """pieces at once of what follows those in registers; 0: nothing does"""
    edges: bool = False
    """the output is written 16 bytes at a time, whatever its alignment, but for a few columns at each end of a row"""
    stages: int = 1
    """of loops over rows"""
    registers: int | None = None
    """of a thread, at most, where the compiler would take more than lets two programs share a multiprocessor"""

    def constants(self) -> dict[str, int | bool]:
        return {
            "ROWS": self.rows,
            "BLOCK": self.block,
            "HELD": self.held,
            "STEP": self.step,
            "EDGES": self.edges,
            "STAGES": self.stages,
            "LONGEST": self.longest,
        }


def short(threads: int, block: int, each: int, edges: bool = False, stages: int = 1) -> Tile:
    """Rows of up to `block` columns, so many that a thread has `each`."""
    # At its edges a row may have three more columns than whole units of 16 bytes hold, of up to 4 bytes each.
    return Tile(
        threads, block, 1, block + 3 * edges, max(1, threads * each // block), edges=edges, stages=stages
    )


def whole(
    threads: int,
    columns: int,
    edges: bool = False,
    each: int = 8,
    stages: int = 1,
    registers: int | None = None,
) -> Tile:
    """One row, in registers, of which a thread has `each` in a piece."""
    block = threads * each
    return Tile(threads, block, columns // block, columns, edges=edges, stages=stages, registers=registers)


def looped(
    threads: int, held: int, step: int, longest: int = ANY, edges: bool = False, registers: int | None = None
) -> Tile:
    """One row, of which `held` pieces stay in registers, and `step` at a time are read twice."""
    return Tile(threads, 8 * threads, held, longest, step=step, edges=edges, registers=registers)


# For every length: where nothing was measured, and for rows that are read column by column.
PLAIN = (
    *(short(64, block, 16) for block in (16, 64, 256)),
    *(whole(128, most) for most in (1024, 2048, 4096)),
    *(whole(512, most) for most in (8192, 16384)),
    looped(512, held=4, step=4),
)
# float64: fewer columns in the registers of a thread, on any machine, and few variants.
DOUBLE = (
    *(short(64, block, 8) for block in (16, 64, 256)),
    whole(128, 1024),
    whole(256, 4096),
    whole(512, 8192),
    looped(512, held=1, step=1),
)
PLAIN_DOUBLE = DOUBLE[::2]


def configs(
    target: kpack.Target, tiles: Sequence[Tile], plain: Sequence[Tile], align: int, without: Iterable[str]
) -> list[triton.Config]:
    found = []
    for tile in plain if target.processor else tiles:  # a processor: AMD's
        constants = {name: value for name, value in tile.constants().items() if name not in without}
        warps = max(1, tile.threads // target.warp_size)
        limit = None if target.processor else tile.registers
        found.append(triton.Config({**constants, "ALIGN": align}, num_warps=warps, maxnreg=limit))
    return found


Tables = Mapping[tuple[int, str], Sequence[Tile]]
"""By what strides and columns are multiples of, in elements, the best first, and by the type that *T is."""


def cases(
    pointers: Mapping[str, str],
    tables: Tables,
    without: Sequence[str] = (),
    plain: Sequence[Tile] = PLAIN,
    wide: Mapping[str, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """A case of kpack.Kernel for each table; `without` the constants that the kernel does not have. In `wide` are the
    parameters with W for the type that *T is computed in."""
    found = []
    for (align, type_), tiles in tables.items():
        hint = ":16" if align > 1 else ""
        signature = {name: text.replace("*T", f"*{type_}") + hint for name, text in pointers.items()}
        double = type_ == "fp64"
        signature |= {name: text.replace("W", "fp64" if double else "fp32") for name, text in wide.items()}
        elsewhere = tiles if double else plain
        choices = partial(configs, tiles=tuple(tiles), plain=elsewhere, align=align, without=tuple(without))
        found.append({"signature": signature, "configs": choices})
    return found


def row_args(out: str, *read: str) -> dict[str, kpack.Arg]:
    """How far each pointer's rows reach, by the names of their strides; for a tuner, which compares what is written."""

    def extent(pointer: str) -> str:
        stride = pointer.removesuffix("_ptr") + "_row_stride"
        return f"max(0, (n_rows - 1) * {stride} + n_cols) * sizeof({pointer})"

    return {out: kpack.out(bytes=extent(out)), **{name: kpack.in_(bytes=extent(name)) for name in read}}


def widened(x: torch.Tensor) -> torch.Tensor:
    """In the type that the kernels compute in, WIDE; for what stands beside them in torch."""
    return x if x.dtype.itemsize == 8 else x.float()
