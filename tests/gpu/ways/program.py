"""What a program launches: the same function comes into the pack by every way there is."""

import triton
import triton.language as tl


@triton.jit
def scaled_kernel(x_ptr, out_ptr, scale, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * scale, mask=at < n)


def run(out, x, n):
    scaled_kernel[(triton.cdiv(n, 128),)](x, out, 2.5, n, BLOCK=128)
