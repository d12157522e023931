"""Softmax of each row of a matrix: one program a row, the row held in registers, computed in float32.

Rows of up to 65,536 columns, any row stride, any number of rows; `-inf`, `inf` and NaN as torch has them. `out`
and `in` may be the same memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

import kpack

if TYPE_CHECKING:  # building needs no torch
    import torch


@triton.jit
def softmax_kernel(out_ptr, in_ptr, in_row_stride, out_row_stride, n_cols, BLOCK: tl.constexpr):
    # 64 bits before the product: rows times stride passes 2^31 long before the memory of a GPU is full.
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < n_cols
    x = tl.load(in_ptr + row * in_row_stride + cols, mask=inside, other=-float("inf")).to(tl.float32)
    # A NaN may be lost in the maximum, but not in the sum: exp(NaN) is NaN, and so is the whole row. A row of
    # -inf alone gives -inf - -inf, and one with +inf gives inf - inf: both NaN, as they should.
    powers = tl.exp(x - tl.max(x, axis=0))
    y = powers / tl.sum(powers, axis=0)
    tl.store(out_ptr + row * out_row_stride + cols, y.to(out_ptr.dtype.element_ty), mask=inside)


BLOCKS = tuple(2**exponent for exponent in range(7, 17))  # 128 ... 65,536
ELEMENTS = 16  # a thread, while that gives no more than
THREADS = 512  # a block: several rows share a multiprocessor, and one loads while another computes


def configs(target: kpack.Target) -> list[triton.Config]:
    """One config a BLOCK. The two numbers are the best of a sweep on an H200; AMD takes them over unmeasured."""

    def warps(block: int) -> int:
        return max(1, min(block // ELEMENTS, THREADS) // target.warp_size)

    return [triton.Config({"BLOCK": block}, num_warps=warps(block)) for block in BLOCKS]


softmax = kpack.Kernel(
    softmax_kernel,
    name="softmax",
    signature={
        "out_ptr": "*T:16?",
        "in_ptr": "const *T:16?",
        "in_row_stride": "i64:16?",
        "out_row_stride": "i64:16?",
        "n_cols": "i32:16?",  # the mask's end: unless it is divisible too, Triton loads element by element
    },
    types={"T": ["fp16", "bf16", "fp32"]},
    configs=configs,
    guard=lambda n_cols, BLOCK: n_cols <= BLOCK,
    grid=lambda n_rows: (n_rows,),
)


def reference(x: torch.Tensor) -> torch.Tensor:
    """What the kernel computes, in torch: in float32, rounded once at the end."""
    import torch

    return torch.softmax(x.float(), dim=-1).to(x.dtype)
