"""A pack of the same name as kernels.py makes, with another `scale`: for two of them in one process."""

import triton
import triton.language as tl

import kpack


@triton.jit
def scale_kernel(out_ptr, in_ptr, factor, stride, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(in_ptr + offsets * stride, mask=offsets < n)
    tl.store(out_ptr + offsets, values + factor, mask=offsets < n)


scale = kpack.Kernel(
    scale_kernel,
    name="scale",
    signature={"out_ptr": "*fp32", "in_ptr": "const *fp32", "factor": "fp32", "stride": "i32", "n": "i32"},
    constexprs={"BLOCK": 64},
    grid="cdiv(n, BLOCK)",
)
