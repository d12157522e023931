"""The pack `tuned`: kernels with several configs, of which none is the fastest for all calls. What they do the fakes
are told."""

import triton
import triton.language as tl

import kpack


@triton.jit
def twice_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, 2 * tl.load(in_ptr + at, mask=at < n), mask=at < n)


def twice(name, **options):
    return kpack.Kernel(
        twice_kernel,
        name=name,
        signature={"out_ptr": "*T:16?", "in_ptr": "const *T:16?", "n": "i32"},
        configs=[{"BLOCK": block, "num_warps": 1} for block in (64, 128, 256)],
        grid="cdiv(n, BLOCK)",
        args={
            "out_ptr": kpack.out(bytes="n * sizeof(T)"),
            "in_ptr": kpack.in_(bytes="n * sizeof(T)"),
            "n": {"key": True},
        },
        **{"types": {"T": ["fp32"]}, **options},
    )


# A variant has its grid from its config: cdiv(n, BLOCK) tells which one ran.
plain = twice("plain", guard="n <= 1000 * BLOCK", types={"T": ["fp32", "fp16"]})
other = twice("other")
# A bucket that a guard cuts in two: 900 and 1000 are of one.
cut = twice("cut", guard=lambda n, BLOCK: n <= 950 if BLOCK == 128 else n <= 1000000)
# What is no bound, and a preference.
odd = twice("odd", guard=lambda n, BLOCK: n % 3 == 0 if BLOCK == 128 else n <= 1000000)
preferring = twice("preferring", guard=lambda n, BLOCK: n <= 1000 * BLOCK, prefer=lambda BLOCK: BLOCK)


@triton.jit
def rows_kernel(out_ptr, in_ptr, stride, n, scale, FAST: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at * stride, scale * tl.load(in_ptr + at * stride, mask=at < n), mask=at < n)


# Selected constexprs, arguments that may be 1, a key by value, launch-only sizes.
rows = kpack.Kernel(
    rows_kernel,
    name="rows",
    signature={
        "out_ptr": "*fp32:16?",
        "in_ptr": "const *fp32:16?",
        "stride": "i32:1?",
        "n": "i32",
        "scale": "fp32",
    },
    constexprs={"FAST": [True, False]},
    configs=[{"BLOCK": block, "num_warps": 1} for block in (64, 128)],
    grid="rows, cdiv(n, BLOCK)",
    args={
        "out_ptr": kpack.out(bytes="rows * n * stride * 4"),
        "in_ptr": kpack.in_(bytes="rows * n * stride * 4"),
        "n": {"key": "exact"},
        "rows": {"key": True},
    },
)


@triton.jit
def biased_kernel(out_ptr, in_ptr, n, bias_ptr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = 2 * tl.load(in_ptr + at, mask=at < n)
    if bias_ptr is not None:
        value += tl.load(bias_ptr + at, mask=at < n)
    tl.store(out_ptr + at, value, mask=at < n)


# A pointer that may be null, for which there are variants of their own.
biased = kpack.Kernel(
    biased_kernel,
    name="biased",
    signature={"out_ptr": "*fp32", "in_ptr": "const *fp32", "n": "i32", "bias_ptr": "const *fp32:none?"},
    configs=[{"BLOCK": block, "num_warps": 1} for block in (64, 128)],
    grid="cdiv(n, BLOCK)",
    args={"out_ptr": kpack.out(bytes="n * 4"), "in_ptr": kpack.in_(bytes="n * 4")},
)

# Of whose memory nothing is said.
unknown = kpack.Kernel(
    twice_kernel,
    name="unknown",
    signature={"out_ptr": "*fp32", "in_ptr": "const *fp32", "n": "i32"},
    configs=[{"BLOCK": block, "num_warps": 1} for block in (64, 128)],
    grid="cdiv(n, BLOCK)",
)
