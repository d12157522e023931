"""out[row] = the sum of x[row, :]."""

import triton
import triton.language as tl

import kpack


@triton.jit
def row_sum_kernel(out_ptr, x_ptr, row_stride, n_cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * row_stride + cols, mask=cols < n_cols, other=0.0)
    tl.store(out_ptr + row, tl.sum(x, axis=0))


row_sum = kpack.Kernel(
    row_sum_kernel,
    name="row_sum",
    signature={"out_ptr": "*fp32", "x_ptr": "const *fp32:16?", "row_stride": "i64:16?", "n_cols": "i32"},
    configs=[triton.Config({"BLOCK": 1024})],
    guard=lambda n_cols, BLOCK: n_cols <= BLOCK,
    grid=lambda n_rows: (n_rows,),
)
