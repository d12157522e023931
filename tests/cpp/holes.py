"""Kernels that do not compile in part, or at all: for the tests of what is said of that."""

import triton
import triton.language as tl

import kpack


@triton.jit
def fill_kernel(out_ptr, n, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK < 256, "BLOCK is too large")
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, n, mask=offsets < n)


SIGNATURE = {"out_ptr": "*T", "n": "i32"}

partly = kpack.Kernel(
    fill_kernel,
    name="partly",
    signature=SIGNATURE,
    types={"T": ["fp32", "i32"]},
    configs=[{"BLOCK": 64, "num_warps": 2}, {"BLOCK": 128, "num_warps": 8}, {"BLOCK": 256, "num_warps": 4}],
    guard="n <= BLOCK",
    grid=1,
)
# A block of 32 warps of 64 threads is more than any AMD device takes: an alternative is left out, a choice is not.
wide = kpack.Kernel(
    fill_kernel,
    name="wide",
    signature=SIGNATURE,
    types={"T": ["fp32", "i32"]},
    configs=[{"BLOCK": 64, "num_warps": warps} for warps in (2, 32)] + [{"BLOCK": 128, "num_warps": 32}],
    guard="n <= BLOCK",
    grid=1,
)
never = kpack.Kernel(
    fill_kernel,
    name="never",
    signature=SIGNATURE,
    types={"T": ["fp32"]},
    configs=[
        {"BLOCK": 256, "num_warps": warps, "num_stages": stages} for warps in (1, 2) for stages in range(1, 6)
    ],
    grid=1,
)
# Of this, nothing compiles for sm_90.
elsewhere = kpack.Kernel(
    fill_kernel,
    name="elsewhere",
    signature=SIGNATURE,
    types={"T": ["fp32"]},
    configs=lambda target: [{"BLOCK": 512 if target.name == "sm_90" else 64, "num_warps": 2}],
    grid=1,
)
