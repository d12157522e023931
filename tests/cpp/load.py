"""The pack `ld`, for loading: kernels with several images that one device takes, machine code and PTX."""

import triton
import triton.language as tl

import kpack


@triton.jit
def copy_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(in_ptr + at, mask=at < n), mask=at < n)


copy = kpack.Kernel(
    copy_kernel,
    name="copy",
    signature={"out_ptr": "*T", "in_ptr": "const *T", "n": "i32"},
    types={"T": ["fp16", "fp32"]},
    configs=[{"BLOCK": 128, "num_warps": 4}],
    grid="cdiv(n, BLOCK)",
)


@triton.jit
def fill_kernel(out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, at, mask=at < n)


fill = kpack.Kernel(
    fill_kernel,
    name="fill",
    signature={"out_ptr": "*i32", "n": "i32"},
    configs=[{"BLOCK": 128, "num_warps": 4}],
    grid="cdiv(n, BLOCK)",
)
