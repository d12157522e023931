"""The pack `contenders`, for searches: kernels that take the same arguments. What they do the fakes are told."""

import triton
import triton.language as tl

import kpack


@triton.jit
def twice_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, 2 * tl.load(in_ptr + at, mask=at < n), mask=at < n)


def twice(name):
    return kpack.Kernel(
        twice_kernel,
        name=name,
        signature={"out_ptr": "*fp32", "in_ptr": "const *fp32", "n": "i32"},
        configs=[{"BLOCK": 128, "num_warps": 1}],
        grid="cdiv(n, BLOCK)",
    )


first, second, third, fourth = map(twice, ("first", "second", "third", "fourth"))
