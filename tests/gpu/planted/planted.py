"""A kernel of which one variant computes something else, and another one breaks the device's context."""

import triton
import triton.language as tl

import kpack


@triton.jit
def doubled_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr, SLIP: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(in_ptr + at, mask=at < n) * 2
    if SLIP == 1:  # in one column of each block
        value += tl.where(tl.arange(0, BLOCK) == 7, 0.5, 0.0)
    if SLIP == 2:  # far outside of what there is
        out_ptr += 1 << 44
    tl.store(out_ptr + at, value, mask=at < n)


def doubled(name, slips):
    return kpack.Kernel(
        doubled_kernel,
        name=name,
        signature={"out_ptr": "*fp32", "in_ptr": "const *fp32", "n": "i32"},
        configs=[{"BLOCK": block, "SLIP": slip} for slip, block in slips],
        grid="cdiv(n, BLOCK)",
        args={
            "out_ptr": kpack.out(bytes="n * sizeof(out_ptr)"),
            "in_ptr": kpack.in_(bytes="n * sizeof(in_ptr)"),
        },
    )


# Small blocks are slow: what is wrong would win.
wrong = doubled("wrong", [(0, 64), (0, 128), (1, 1024)])
# Also where it is what runs without tuning.
wrong_first = doubled("wrong_first", [(1, 1024), (0, 64), (0, 128)])
crashing = doubled("crashing", [(0, 64), (2, 1024), (0, 512)])
