"""The pack that the C++ tests link: small kernels, one for each thing the runtime has to get right."""

import triton
import triton.language as tl

import kpack


@triton.jit
def scale_kernel(out_ptr, in_ptr, factor, stride, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(in_ptr + offsets * stride, mask=offsets < n)
    tl.store(out_ptr + offsets, values * factor, mask=offsets < n)


# Types, alignment, a guard, a computed grid, an argument that may be folded to 1.
scale = kpack.Kernel(
    scale_kernel,
    name="scale",
    signature={
        "out_ptr": "*T:16?",
        "in_ptr": "const *T:16?",
        "factor": "fp32",
        "stride": "i32:1?",
        "n": "i32",
    },
    types={"T": ["fp16", "fp32"]},
    configs=[triton.Config({"BLOCK": 128}, num_warps=1), triton.Config({"BLOCK": 1024}, num_warps=4)],
    guard=lambda n, BLOCK: n <= 64 * BLOCK,
    grid=lambda n, BLOCK: (triton.cdiv(n, BLOCK),),
)


@triton.jit
def scalars_kernel(out_ptr, a, b, c, d, e, f, g, h, i, j, k, l, m):
    total = a.to(tl.float64) + b + c + d + e + f + g + h + i
    tl.store(out_ptr, total + j + k + l + m)


SCALARS = "i1 i8 i16 i32 i64 u8 u16 u32 u64 fp16 bf16 fp32 fp64"
# Every scalar type, once.
scalars = kpack.Kernel(
    scalars_kernel,
    name="scalars",
    signature={"out_ptr": "*fp64", **dict(zip("abcdefghijklm", SCALARS.split(), strict=True))},
    grid=1,
)


@triton.jit
def choose_kernel(out_ptr, n, MODE: tl.constexpr, FAST: tl.constexpr, EPS: tl.constexpr):
    value = 0.0
    if MODE == "double":
        value = 2.0 * n
    else:
        value = 1.0 * n
    if FAST:
        value += EPS
    tl.store(out_ptr, value)


# Constexprs that are part of the call; no alternatives to each other.
choose = kpack.Kernel(
    choose_kernel,
    name="choose",
    signature={"out_ptr": "*fp32", "n": "i32"},
    constexprs={"MODE": ["double", "single"], "FAST": [True, False], "EPS": 0.5},
    grid=lambda rows, columns: (rows, columns),
)


@triton.jit
def product_kernel(out_ptr, a_ptr, b_ptr, count, SIZE: tl.constexpr):
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    total = tl.zeros((SIZE, SIZE), tl.float32)
    for step in range(count):
        at = step * SIZE * SIZE + rows * SIZE + columns
        total += tl.dot(tl.load(a_ptr + at), tl.load(b_ptr + at))
    tl.store(out_ptr + rows * SIZE + columns, total)


# More than 48 KB of shared memory where the target has it.
product = kpack.Kernel(
    product_kernel,
    name="product",
    signature={"out_ptr": "*fp32:16", "a_ptr": "const *fp16:16", "b_ptr": "const *fp16:16", "count": "i32"},
    configs=lambda target: [
        triton.Config({"SIZE": 128}, num_warps=8, num_stages=3)
        if target.name.startswith("sm_")
        else triton.Config({"SIZE": 64}, num_warps=4, num_stages=2)
    ],
    grid=1,
)


@triton.jit
def optional_kernel(out_ptr, bias_ptr, n):
    value = n.to(tl.float32)
    if bias_ptr is not None:
        value += tl.load(bias_ptr)
    tl.store(out_ptr, value)


# A pointer that may be None.
optional = kpack.Kernel(
    optional_kernel,
    name="optional",
    signature={"out_ptr": "*fp32", "bias_ptr": "const *fp32:none?", "n": "i32"},
    grid=1,
)


@triton.jit
def nothing_kernel():
    pass


# No argument at all.
nothing = kpack.Kernel(nothing_kernel, name="nothing", grid=1)


@triton.jit
def number_kernel(out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, at, mask=at < n)


def numbers(name, **options):
    """A launch with attributes, on the targets that have them; elsewhere a plain one."""
    return kpack.Kernel(
        number_kernel,
        name=name,
        signature={"out_ptr": "*i32", "n": "i32"},
        configs=lambda target: [
            {"BLOCK": 256, "num_warps": 4, **(options if target.name == "sm_90" else {})}
        ],
        grid="cdiv(n, BLOCK)",
    )


@triton.jit
def described_kernel(out_ptr, in_ptr, rows, columns, SIZE: tl.constexpr):
    source = tl.make_tensor_descriptor(in_ptr, [rows, columns], [columns, 1], [SIZE, SIZE])
    target = tl.make_tensor_descriptor(out_ptr, [rows, columns], [columns, 1], [SIZE, SIZE])
    at = [tl.program_id(0) * SIZE, tl.program_id(1) * SIZE]
    target.store(at, source.load(at) * 2)


# On sm_90 a descriptor that is made on the device needs scratch memory.
described = kpack.Kernel(
    described_kernel,
    name="described",
    signature={"out_ptr": "*fp16:16", "in_ptr": "const *fp16:16", "rows": "i32", "columns": "i32:16"},
    constexprs={"SIZE": 32},
    grid="cdiv(rows, SIZE), cdiv(columns, SIZE)",
)

clustered = numbers("clustered", num_ctas=2)
cooperative = numbers("cooperative", launch_cooperative_grid=True)
dependent = numbers("dependent", launch_pdl=True)
