"""The gradient of softmax (and of log-softmax), from what forward gave and the gradient of that.

Computed in float32, or float64 of float64. Up to 2^31 rows of up to 2^30 columns, any stride and any
alignment; `dx` and `dy` may be the same memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from rows import (
    DOUBLE,
    PLAIN,
    PLAIN_DOUBLE,
    cases,
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
def softmax_backward_kernel(
    dx_ptr,
    y_ptr,
    dy_ptr,
    dx_row_stride,
    y_row_stride,
    dy_row_stride,
    n_cols,
    n_rows,
    LOG: tl.constexpr,  # of log-softmax
    ROWS: tl.constexpr,  # of a program
    BLOCK: tl.constexpr,  # columns of a piece
    HELD: tl.constexpr,  # pieces in registers
    STEP: tl.constexpr,  # pieces at once of what follows them; 0: nothing does
    ALIGN: tl.constexpr,  # what the strides and n_cols are multiples of, in elements
    LONGEST: tl.constexpr,  # columns; for the guard alone
):
    WIDE: tl.constexpr = tl.float64 if y_ptr.dtype.element_ty == tl.float64 else tl.float32
    dx_row_stride = dx_row_stride // ALIGN * ALIGN
    y_row_stride = y_row_stride // ALIGN * ALIGN
    dy_row_stride = dy_row_stride // ALIGN * ALIGN
    n_cols = n_cols // ALIGN * ALIGN
    row, present = rows_of_program(n_rows, ROWS)
    dx_ptr += row * dx_row_stride
    y_ptr += row * y_row_stride
    dy_ptr += row * dy_row_stride

    ys = load_pieces(y_ptr, n_cols, present, 0.0, BLOCK, HELD, "")
    dys = load_pieces(dy_ptr, n_cols, present, 0.0, BLOCK, HELD, "")
    sums = tl.zeros([ROWS, BLOCK], WIDE)
    if STEP > 0:
        for start in tl.range(HELD * BLOCK, n_cols, STEP * BLOCK):
            at = step_columns(start, BLOCK, STEP)
            terms = load_step(dy_ptr, at, n_cols, 0.0, "evict_last").to(WIDE)
            if not LOG:
                terms *= load_step(y_ptr, at, n_cols, 0.0, "evict_last").to(WIDE)
            sums += tl.sum(terms, axis=0)[None, :]
    for piece in tl.static_range(HELD):
        if LOG:
            sums += dys[piece].to(WIDE)
        else:
            sums += ys[piece].to(WIDE) * dys[piece].to(WIDE)
    total = tl.sum(sums, axis=1)[:, None]

    for piece in tl.static_range(HELD):
        dx = _gradient(ys[piece].to(WIDE), dys[piece].to(WIDE), total, LOG)
        store_piece(dx_ptr, dx, piece * BLOCK, n_cols, present, BLOCK)
    if STEP > 0:
        for start in tl.range(HELD * BLOCK, n_cols, STEP * BLOCK):
            at = step_columns(start, BLOCK, STEP)
            y = load_step(y_ptr, at, n_cols, 0.0, "evict_first").to(WIDE)
            dy = load_step(dy_ptr, at, n_cols, 0.0, "evict_first").to(WIDE)
            store_step(dx_ptr, _gradient(y, dy, total, LOG), at, n_cols)


@triton.jit
def _gradient(y, dy, total, LOG):
    if LOG:
        dx = dy - exp(y) * total
    else:
        dx = y * (dy - total)
    return dx


HALF = [
    *(short(128, block, 16) for block in (8, 16, 32, 64, 128, 256, 512)),
    *(whole(128, most) for most in (1024, 2048)),
    *(whole(256, most) for most in (4096, 6144)),
    *(whole(512, most) for most in (8192, 12288)),
    looped(512, held=2, step=2, longest=24576),
    looped(512, held=4, step=4, longest=40960),
    looped(1024, held=3, step=2),
]
SINGLE = [
    *(short(128, block, 8) for block in (8, 16, 32, 64, 128, 256, 512)),
    *(whole(128, most) for most in (1024, 2048)),
    *(whole(256, most) for most in (4096, 6144)),
    whole(512, 8192),
    *(whole(1024, most) for most in (16384, 24576)),
    looped(512, held=4, step=2),
]
TABLES = {
    (8, "T"): HALF,
    (4, "fp32"): SINGLE,
    (1, "T"): PLAIN,
    (1, "fp32"): PLAIN,
    (2, "fp64"): DOUBLE,
    (1, "fp64"): PLAIN_DOUBLE,
}
GUARD = (
    "n_cols <= LONGEST and n_cols % ALIGN == 0 and dx_row_stride % ALIGN == 0 and y_row_stride % ALIGN == 0"
    " and dy_row_stride % ALIGN == 0"
)


def backward(name: str, log: bool) -> kpack.Kernel:
    strides = {f"{of}_row_stride": "i64" for of in ("dx", "y", "dy")}
    return kpack.Kernel(
        softmax_backward_kernel,
        name=name,
        signature={**strides, "n_cols": "i32", "n_rows": "i64"},
        types={"T": ["fp16", "bf16"]},
        constexprs={"LOG": log},
        cases=cases(
            {"dx_ptr": "*T", "y_ptr": "const *T", "dy_ptr": "const *T"}, TABLES, without=["EDGES", "STAGES"]
        ),
        guard=GUARD,
        grid="cdiv(n_rows, ROWS)",
        args=row_args("dx_ptr", "y_ptr", "dy_ptr"),
    )


softmax_backward = backward("softmax_backward", log=False)


def reference(y: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """What the kernel computes, in torch: rounded once at the end."""
    wide_y, wide_dy = widened(y), widened(dy)
    return (wide_y * (wide_dy - (wide_y * wide_dy).sum(-1, keepdim=True))).to(y.dtype)
