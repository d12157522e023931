"""How work is cut into blocks."""

import triton
import triton.language as tl

BLOCK = 1024


@triton.jit
def offsets(BLOCK: tl.constexpr):
    """Of this program's elements."""
    return tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
