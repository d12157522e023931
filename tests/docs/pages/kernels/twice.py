"""out = 2 * x of a matrix, through tensor descriptors."""

import triton
import triton.language as tl

import kpack


@triton.jit
def twice_kernel(out, x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row, column = tl.program_id(0) * ROWS, tl.program_id(1) * COLUMNS
    out.store([row, column], x.load([row, column]) * 2)


twice = kpack.Kernel(
    twice_kernel,
    name="twice",
    signature={"out": "tensordesc<fp32[ROWS, COLUMNS]>", "x": "tensordesc<fp32[ROWS, COLUMNS]>"},
    configs=[triton.Config({"ROWS": 16, "COLUMNS": 64}, num_warps=4)],
    grid=lambda rows, columns, ROWS, COLUMNS: (kpack.cdiv(rows, ROWS), kpack.cdiv(columns, COLUMNS)),
)
