"""The sum of each column of a matrix: what norms' backward leaves in parts, a row of each program.

Added up in the type that they are in; the sums may be of a shorter one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

import kpack

if TYPE_CHECKING:  # building needs no torch
    import torch


@triton.jit
def column_sums_kernel(out_ptr, in_ptr, n_cols, n_rows, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Contiguous rows. Each program has BLOCK columns, and reads ROWS rows at a time."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    rows = tl.arange(0, ROWS)[:, None]
    sums = tl.zeros([ROWS, BLOCK], in_ptr.dtype.element_ty)
    for start in tl.range(0, n_rows, ROWS):
        row = (start + rows).to(tl.int64)
        sums += tl.load(in_ptr + row * n_cols + cols, mask=(row < n_rows) & (cols < n_cols), other=0.0)
    total = tl.sum(sums, axis=0)[None, :]
    tl.store(out_ptr + cols, total.to(out_ptr.dtype.element_ty), mask=cols < n_cols)


column_sums = kpack.Kernel(
    column_sums_kernel,
    name="column_sums",
    signature={"n_cols": "i32", "n_rows": "i32"},
    types={"T": ["fp16", "bf16", "fp32"]},
    cases=[
        {"signature": {"out_ptr": "*T", "in_ptr": "const *fp32"}},
        {"signature": {"out_ptr": "*fp64", "in_ptr": "const *fp64"}},
    ],
    configs=[triton.Config({"ROWS": 512, "BLOCK": 16}, num_warps=8)],
    grid="cdiv(n_cols, BLOCK)",
)


def reference(x: torch.Tensor) -> torch.Tensor:
    """What the kernel computes, in torch: in float64."""
    return x.double().sum(0)
