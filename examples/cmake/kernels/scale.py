"""y = factor * x."""

import triton
import triton.language as tl

import kpack


@triton.jit
def scale_kernel(y_ptr, x_ptr, factor, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, factor * tl.load(x_ptr + at, mask=at < n), mask=at < n)


scale = kpack.Kernel(
    scale_kernel,
    name="scale",
    signature={"y_ptr": "*fp32:16", "x_ptr": "const *fp32:16", "factor": "fp32", "n": "i32"},
    configs=[triton.Config({"BLOCK": 1024}, num_warps=4)],
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
