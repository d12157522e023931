"""Softmax of each row of a matrix (log_softmax.py has the logarithm of it).

Computed in float32, or float64 of float64. Up to 2^31 rows of up to 2^30 columns, any stride and any alignment;
`-inf`, `inf` and NaN as torch has them. `out` and `in` may be the same memory. Short rows are computed several a
program, longer ones each in the registers of one. Of the longest, a loop reads twice what registers do not hold, the
second time from the cache while that has room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from rows import (
    DOUBLE,
    PLAIN_DOUBLE,
    Tile,
    aligned_down,
    cases,
    edges,
    exp,
    load_pieces,
    load_step,
    looped,
    row_args,
    rows_of_program,
    short,
    step_columns,
    store_piece,
    store_step,
    whole,
    widened,
)

import kpack

if TYPE_CHECKING:  # building needs no torch
    import torch


@triton.jit
def softmax_kernel(
    out_ptr,
    in_ptr,
    in_row_stride,
    out_row_stride,
    n_cols,
    n_rows,
    LOG: tl.constexpr,  # log-softmax
    ROWS: tl.constexpr,  # of a program
    BLOCK: tl.constexpr,  # columns of a piece
    HELD: tl.constexpr,  # pieces in registers
    STEP: tl.constexpr,  # pieces at once of what follows them; 0: nothing does
    EDGES: tl.constexpr,  # write 16 bytes at a time although ALIGN promises less
    ALIGN: tl.constexpr,  # what both strides and n_cols are multiples of, in elements
    LONGEST: tl.constexpr,  # columns; for the guard alone
):
    WIDE: tl.constexpr = tl.float64 if in_ptr.dtype.element_ty == tl.float64 else tl.float32
    # Multiples of ALIGN, as the guard has it; written like this, Triton knows it, and moves 16 bytes at a time.
    in_row_stride = in_row_stride // ALIGN * ALIGN
    out_row_stride = out_row_stride // ALIGN * ALIGN
    n_cols = n_cols // ALIGN * ALIGN
    row, present = rows_of_program(n_rows, ROWS)
    alike, ends, n_inner = True, 0.0, n_cols
    SIZE: tl.constexpr = out_ptr.dtype.element_ty.primitive_bitwidth // 8
    if EDGES:
        # Whether the input's units of 16 bytes lie as the output's do: else it is read column by column.
        apart = in_ptr.to(tl.int64) - out_ptr.to(tl.int64)
        alike = (apart % 16 == 0) & ((in_row_stride - out_row_stride) * SIZE % 16 == 0)
    in_ptr += row * in_row_stride
    out_ptr += row * out_row_stride
    aligned = in_ptr
    if EDGES:
        edge, in_edge, head, n_inner = edges(out_ptr, n_cols)
        in_edge = in_edge & present
        ends = tl.load(in_ptr + edge, mask=in_edge, other=-float("inf")).to(WIDE)
        edge_ptr = out_ptr + edge
        in_ptr += head
        out_ptr = aligned_down(out_ptr + head, ROWS)
        aligned = aligned_down(in_ptr, ROWS)

    held = ()
    if HELD > 0:
        held = _load_pieces(in_ptr, aligned, alike, n_inner, present, EDGES, BLOCK, HELD)
    # Powers stay in registers; of more pieces, they are computed again.
    KEEP: tl.constexpr = STEP == 0 and HELD <= 4 and not LOG
    powers = ()
    # A NaN may be lost in a maximum, but not in the sum: exp(NaN) is NaN, and so is the whole row. A row of -inf alone
    # gives -inf - -inf, and one with +inf gives inf - inf: both NaN, as they should.
    if STEP > 0:
        # Each ALIGN columns, with EDGES each 16 bytes, have a maximum and a sum of their own, so that a step exchanges
        # nothing between threads.
        tl.static_assert(ROWS == 1)
        UNIT: tl.constexpr = 16 // SIZE if EDGES else ALIGN
        largest = tl.full([BLOCK // UNIT], -float("inf"), WIDE)
        sums = tl.zeros([BLOCK // UNIT], WIDE)
        for start in tl.range(HELD * BLOCK, n_inner, STEP * BLOCK):
            at = step_columns(start, BLOCK, STEP)
            x = _load_step(in_ptr, aligned, alike, at, n_inner, EDGES, "evict_last")
            x = tl.reshape(x, [STEP, BLOCK // UNIT, UNIT]).to(WIDE)
            new = tl.maximum(largest, tl.max(tl.max(x, axis=2), axis=0))
            safe = tl.where(new == -float("inf"), 0.0, new)  # a unit may have no column, or only such
            step_sums = tl.sum(tl.sum(exp(x - safe[None, :, None]), axis=2), axis=0)
            sums = sums * exp(largest - safe) + step_sums
            largest = new
        tops = largest
        for piece in tl.static_range(HELD):
            tops = tl.maximum(tops, tl.max(_units(held[piece], BLOCK, UNIT, WIDE), axis=1))
        top = tl.max(tops, axis=0)
        if EDGES:
            top = tl.maximum(top, tl.max(tl.max(ends, axis=1), axis=0))
        sums *= exp(largest - top)
        for piece in tl.static_range(HELD):
            sums += tl.sum(exp(_units(held[piece], BLOCK, UNIT, WIDE) - top), axis=1)
        total = tl.sum(sums, axis=0)
        if EDGES:
            total += tl.sum(tl.sum(exp(ends - top), axis=1), axis=0)
    else:
        top = tl.full([ROWS, BLOCK], -float("inf"), WIDE)
        for piece in tl.static_range(HELD):
            top = tl.maximum(top, held[piece].to(WIDE))
        top = tl.max(top, axis=1)[:, None]
        if EDGES:
            top = tl.maximum(top, tl.max(ends, axis=1)[:, None])
        sums = tl.zeros([ROWS, BLOCK], WIDE)
        for piece in tl.static_range(HELD):
            power = exp(held[piece].to(WIDE) - top)
            sums += power
            if KEEP:
                powers = powers + (power,)
        total = tl.sum(sums, axis=1)[:, None]
        if EDGES:
            total += tl.sum(exp(ends - top), axis=1)[:, None]

    if EDGES:
        tl.store(edge_ptr, _result(ends, top, total, LOG).to(out_ptr.dtype.element_ty), mask=in_edge)
    for piece in tl.static_range(HELD):
        if KEEP:
            y = powers[piece] * (1.0 / total)
        else:
            y = _result(held[piece].to(WIDE), top, total, LOG)
        store_piece(out_ptr, y, piece * BLOCK, n_inner, present, BLOCK)
    if STEP > 0:
        for start in tl.range(HELD * BLOCK, n_inner, STEP * BLOCK):
            at = step_columns(start, BLOCK, STEP)
            x = _load_step(in_ptr, aligned, alike, at, n_inner, EDGES, "evict_first").to(WIDE)
            store_step(out_ptr, _result(x, top, total, LOG), at, n_inner)


@triton.jit
def _units(piece, BLOCK: tl.constexpr, UNIT: tl.constexpr, WIDE: tl.constexpr):
    return tl.reshape(piece, [BLOCK // UNIT, UNIT]).to(WIDE)


@triton.jit
def _result(x, top, total, LOG):
    if LOG:
        y = x - top - tl.log(total)
    else:
        y = exp(x - top) * (1.0 / total)
    return y


# Of two like loads the compiler would make one, of an address of unknown alignment: so their policies differ.


@triton.jit
def _load_pieces(ptr, aligned, alike, n_cols, present, EDGES, BLOCK, PIECES):
    if EDGES:
        if alike:
            pieces = load_pieces(aligned, n_cols, present, -float("inf"), BLOCK, PIECES, "")
        else:
            pieces = load_pieces(ptr, n_cols, present, -float("inf"), BLOCK, PIECES, "evict_first")
    else:
        pieces = load_pieces(ptr, n_cols, present, -float("inf"), BLOCK, PIECES, "")
    return pieces


@triton.jit
def _load_step(ptr, aligned, alike, at, n_cols, EDGES, EVICT):
    if EDGES:
        if alike:
            x = load_step(aligned, at, n_cols, -float("inf"), EVICT)
        else:
            x = load_step(ptr, at, n_cols, -float("inf"), "")
    else:
        x = load_step(ptr, at, n_cols, -float("inf"), EVICT)
    return x


SHORT_ROWS = [
    *(short(128, block, 8) for block in (8, 16, 32, 64, 128)),
    short(128, 256, 16),
]
# Where bf16 takes more registers than fp16, one program would be alone on its multiprocessor: hence the limits.
LONG_ROWS = [
    *(whole(128, most) for most in (2048, 3072, 4096)),
    looped(128, held=1, step=4, longest=5120),
    looped(128, held=2, step=4, longest=6144),
    looped(128, held=0, step=8, longest=8192),
    looped(128, held=2, step=8, longest=10240),
    looped(256, held=2, step=4, longest=12288, registers=64),
    looped(256, held=3, step=4, longest=14336, registers=64),
    looped(256, held=4, step=4, longest=16384, registers=80),
    looped(
        512, held=5, step=2, longest=20480, registers=64
    ),  # all held; better than `whole`, which sums otherwise
    looped(512, held=2, step=4, longest=24576, registers=64),
    looped(512, held=3, step=4, longest=28672, registers=64),
    looped(256, held=4, step=4, longest=32768, registers=80),
    looped(256, held=6, step=4, longest=36864, registers=80),
    looped(512, held=2, step=4, longest=40960, registers=64),
    looped(512, held=3, step=4, longest=45056, registers=64),
    looped(512, held=4, step=4, longest=49152, registers=64),
    looped(1024, held=1, step=2, longest=53248),
    looped(512, held=2, step=4, longest=57344, registers=64),
]
TABLES = {
    (8, "fp16"): [
        *SHORT_ROWS,
        short(128, 512, 16),
        *(whole(64, most) for most in (1024, 1536)),
        *LONG_ROWS,
        looped(1024, held=6, step=2, longest=65536),
        looped(1024, held=5, step=4),
    ],
    (8, "bf16"): [
        *SHORT_ROWS,
        short(64, 512, 32),
        Tile(128, 256, 3, 768, rows=2),
        *(whole(64, most) for most in (1024, 1536)),
        *LONG_ROWS,
        looped(1024, held=4, step=4),
    ],
    (4, "fp32"): [
        *(short(128, block, 8) for block in (8, 16, 32, 64, 128, 256, 512, 1024)),
        whole(64, 1536),
        whole(256, 2048),
        looped(128, held=0, step=4, longest=4096),
        looped(128, held=0, step=4, longest=5120, registers=96),
        looped(256, held=0, step=4, longest=8192, registers=64),
        looped(256, held=1, step=4, longest=10240),
        looped(256, held=0, step=8, longest=16384, registers=128),
        looped(256, held=2, step=8, longest=20480),
        looped(256, held=0, step=8, longest=32768, registers=128),
        looped(512, held=10, step=4, longest=40960),
        looped(512, held=8, step=4, longest=49152),
        looped(512, held=9, step=4, longest=53248),
        looped(512, held=8, step=4, longest=65536),
        looped(512, held=10, step=4),
    ],
    # Short rows that are not whole units of 16 bytes.
    (4, "T"): [short(64, block, 16) for block in (16, 32, 64, 128, 256, 512)],
    (2, "T"): [
        *(short(64, block, 16) for block in (16, 32)),
        *(short(32, block, 32) for block in (64, 128, 256)),
        short(64, 512, 16),
    ],
    (2, "fp32"): [
        *(short(64, block, 8) for block in (16, 32, 64)),
        short(32, 128, 32),
        *(short(64, block, 16) for block in (256, 512)),
    ],
    (1, "T"): [
        short(64, 16, 16),
        short(32, 16, 8, edges=True),
        short(32, 32, 16, edges=True),
        short(32, 64, 16),
        *(short(32, block, 32) for block in (128, 256)),
        short(64, 512, 16),
        *(whole(32, most, edges=True) for most in (768, 1024)),
        *(whole(64, most, edges=True) for most in (1536, 2048)),
        *(whole(128, most, edges=True) for most in (3072, 4096, 5120)),
        *(whole(256, most, edges=True) for most in (6144, 8192)),
        whole(512, 12288, edges=True),
        looped(256, held=0, step=4, longest=40960, edges=True),
        looped(256, held=0, step=8, longest=98304, edges=True),
        looped(1024, held=0, step=4, edges=True),
    ],
    (1, "fp32"): [
        short(64, 8, 8, edges=True),
        short(64, 16, 16),
        short(32, 16, 8, edges=True),
        short(32, 32, 16, edges=True),
        short(32, 64, 16),
        Tile(32, 128, 1, 96, rows=4),
        short(64, 128, 8),
        *(short(64, block, 16) for block in (256, 512)),
        whole(64, 1024, edges=True),
        *(whole(128, most, edges=True) for most in (2048, 3072, 4096)),
        *(whole(256, most, edges=True) for most in (6144, 8192)),
        looped(256, held=0, step=4, longest=16384, edges=True),
        looped(512, held=0, step=2, longest=28672, edges=True),
        looped(1024, held=0, step=4, edges=True),
    ],
    (2, "fp64"): DOUBLE,
    (1, "fp64"): PLAIN_DOUBLE,
}


def forward(name: str, log: bool) -> kpack.Kernel:
    return kpack.Kernel(
        softmax_kernel,
        name=name,
        signature={"in_row_stride": "i64", "out_row_stride": "i64", "n_cols": "i32", "n_rows": "i64"},
        types={"T": ["fp16", "bf16"]},
        constexprs={"LOG": log},
        cases=cases({"out_ptr": "*T", "in_ptr": "const *T"}, TABLES, without=["STAGES"]),
        guard="n_cols <= LONGEST and n_cols % ALIGN == 0"
        " and in_row_stride % ALIGN == 0 and out_row_stride % ALIGN == 0",
        grid="cdiv(n_rows, ROWS)",
        args=row_args("out_ptr", "in_ptr"),
    )


softmax = forward("softmax", log=False)


def reference(x: torch.Tensor) -> torch.Tensor:
    """What the kernel computes, in torch: rounded once at the end."""
    import torch

    return torch.softmax(widened(x), dim=-1).to(x.dtype)
