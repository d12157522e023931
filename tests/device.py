"""Functions of another module, whose annotations are objects: for kernels of tests that name or import them."""

import triton
import triton.language as tl

SCALE = tl.constexpr(3)


@triton.jit
def scaled(x):
    return x * SCALE


@triton.jit
def larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def annotated_kernel(
    out: tl.const, x, n: tl.int64, flag: tl.int1, scale: tl.float32, BLOCK: tl.constexpr = 64
):
    cols = tl.arange(0, BLOCK)
    value = tl.load(out + cols, mask=cols < n) * scale
    tl.store(x + cols, tl.where(flag, value, 0.0), mask=cols < n)


@triton.jit
def broken(x):
    return x + nothing  # noqa: F821
