"""Curves that several kernels may use."""

import triton
import triton.language as tl

HALF = tl.constexpr(0.5)


@triton.jit
def normal_share(x):
    """The share of a normal distribution below x."""
    return HALF * (1 + tl.erf(x * 0.7071067811865476))
