"""out = a * x + y."""

import triton
import triton.language as tl

import kpack


@triton.jit
def axpy_kernel(out_ptr, x_ptr, y_ptr, a, n, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    y = tl.load(y_ptr + at, mask=at < n)
    tl.store(out_ptr + at, a * x + y, mask=at < n)


axpy = kpack.Kernel(
    axpy_kernel,
    name="axpy",
    signature={
        "out_ptr": "*fp32:16?",
        "x_ptr": "const *fp32:16?",
        "y_ptr": "const *fp32:16?",
        "a": "fp32",
        "n": "i32:16?",
    },
    configs=[triton.Config({"BLOCK": 1024})],
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
