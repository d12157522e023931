"""Small kernels for tests of what is made of archives. `twice`: two types, aligned and not, so four variants."""

from __future__ import annotations

from pathlib import Path

import kpack

KERNEL = """
import triton, triton.language as tl, kpack

@triton.jit
def double_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, 2 * tl.load(in_ptr + at, mask=at < n), mask=at < n)

double = kpack.Kernel(
    double_kernel,
    name="twice",
    signature={"out_ptr": "*T:16?", "in_ptr": "const *T:16?", "n": "i32"},
    types={"T": ["fp16", "fp32"]},
    configs=[{"BLOCK": 256, "num_warps": 2}],
    guard=lambda n: n > 0,
    grid=lambda n, BLOCK: (n + BLOCK - 1) // BLOCK,
)
"""

# Of its two variants, one for a null pointer, only the other compiles.
BIAS = """
import triton, triton.language as tl, kpack

@triton.jit
def bias_kernel(out_ptr, bias_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.static_assert(bias_ptr is not None, "no bias")
    tl.store(out_ptr + at, tl.load(bias_ptr + at, mask=at < n), mask=at < n)

bias = kpack.Kernel(
    bias_kernel,
    name="bias",
    signature={"out_ptr": "*fp32", "bias_ptr": "*fp32:none?", "n": "i32"},
    constexprs={"BLOCK": 64},
    grid=1,
)
"""


def build_twice(folder: Path, *archs: str) -> kpack.Pack:
    """Of pack `math`; its source is twice.py in the folder."""
    source = folder / "twice.py"
    source.write_text(KERNEL)
    return kpack.build(source, arch=archs, name="math")
