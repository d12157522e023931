"""y = x times the share of a normal distribution below x."""

import triton
import triton.language as tl
from curves import normal_share

import kpack


@triton.jit
def gelu_kernel(y_ptr, x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    tl.store(y_ptr + at, x * normal_share(x), mask=at < n)


gelu = kpack.Kernel(
    gelu_kernel,
    name="gelu",
    signature={"y_ptr": "*fp32:16", "x_ptr": "const *fp32:16", "n": "i32"},
    configs=[triton.Config({"BLOCK": 1024}, num_warps=4)],
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
