"""The host's own kernel: out = 2 * x."""

import triton
import triton.language as tl

import kpack


@triton.jit
def effect_kernel(out_ptr, x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2, mask=at < n)


effect = kpack.Kernel(
    effect_kernel,
    name="effect",
    signature={"out_ptr": "*fp32", "x_ptr": "const *fp32", "n": "i32"},
    configs=[triton.Config({"BLOCK": 256})],
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
