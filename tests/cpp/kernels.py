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


@triton.jit
def tensors_kernel(out, source, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    at = [tl.program_id(0) * ROWS, tl.program_id(1) * COLUMNS]
    out.store(at, (source.load(at) * 2 + n).to(out.dtype))


# Host tensor descriptors: a map each where the target has TMA, their parts elsewhere.
tensors = kpack.Kernel(
    tensors_kernel,
    name="tensors",
    signature={
        "out": "tensordesc<T[ROWS, COLUMNS]>",
        "source": "tensordesc<T[ROWS, COLUMNS]>",
        "n": "i32",
    },
    types={"T": ["fp16", "fp32"]},
    configs=[{"ROWS": 64, "COLUMNS": 64}],
    grid=lambda rows, columns, ROWS, COLUMNS: (triton.cdiv(rows, ROWS), triton.cdiv(columns, COLUMNS)),
)


@triton.jit
def tensors3_kernel(out, source, n):
    at = [tl.program_id(0) * 2, tl.program_id(1) * 8, tl.program_id(2) * 32]
    out.store(at, source.load(at) * 2 + n)


# Of three dimensions.
tensors3 = kpack.Kernel(
    tensors3_kernel,
    name="tensors3",
    signature={"out": "tensordesc<fp32[2, 8, 32]>", "source": "tensordesc<fp32[2, 8, 32]>", "n": "i32"},
    grid=lambda planes, rows, columns: (
        triton.cdiv(planes, 2),
        triton.cdiv(rows, 8),
        triton.cdiv(columns, 32),
    ),
)


@triton.jit
def matmul_kernel(out, a, b, inner):
    row, column = tl.program_id(0) * 128, tl.program_id(1) * 128
    total = tl.zeros((128, 128), tl.float32)
    for at in range(0, inner, 64):
        total += tl.dot(a.load([row, at]), b.load([at, column]))
    out.store([row, column], total.to(tl.float16))


# A box that the compiler makes smaller: 128 elements of 2 bytes are more than a swizzle spans.
matmul = kpack.Kernel(
    matmul_kernel,
    name="matmul",
    signature={
        "out": "tensordesc<fp16[128, 128]>",
        "a": "tensordesc<fp16[128, 64]>",
        "b": "tensordesc<fp16[64, 128]>",
        "inner": "i32",
    },
    options={"num_warps": 8, "num_stages": 2},
    grid=lambda rows, columns: (triton.cdiv(rows, 128), triton.cdiv(columns, 128)),
)


@triton.jit
def specialised_kernel(out, a, b, inner):
    row, column = tl.program_id(0) * 64, tl.program_id(1) * 64
    total = tl.zeros((64, 64), tl.float32)
    for at in tl.range(0, inner, 64, warp_specialize=True):
        total = tl.dot(a.load([row, at]), b.load([at, column]), total)
    out.store([row, column], total.to(tl.float16))


# On sm_90 the compiler adds warps that load: 12 are launched, not 4.
specialised = kpack.Kernel(
    specialised_kernel,
    name="specialised",
    signature=dict.fromkeys(("out", "a", "b"), "tensordesc<fp16[64, 64]>") | {"inner": "i32"},
    options={"num_warps": 4, "num_stages": 2},
    grid=lambda rows, columns: (triton.cdiv(rows, 64), triton.cdiv(columns, 64)),
)


# As many CTAs in a cluster as only some devices take.
wide_cluster = numbers("wide_cluster", num_ctas=16)


# 208 KB of shared memory on sm_90.
big_shared = kpack.Kernel(
    product_kernel,
    name="big_shared",
    signature={"out_ptr": "*fp32:16", "a_ptr": "const *fp16:16", "b_ptr": "const *fp16:16", "count": "i32"},
    configs=lambda target: [
        triton.Config({"SIZE": 64}, num_warps=4, num_stages=13 if target.name == "sm_90" else 2)
    ],
    grid=1,
)


# ---- many arguments: the sum of what the pointers point at and of all numbers


def counted(function, name):
    """By the first letter of its name, an argument is a pointer, an i32, an i64 or an fp32."""
    types = {"o": "*fp64:16?", "p": "const *fp32:16?", "i": "i32", "l": "i64", "f": "fp32"}
    signature = {name: types[name[0]] for name in function.arg_names}
    return kpack.Kernel(function, name=name, signature=signature, options={"num_warps": 1}, grid=1)


@triton.jit
def args7_kernel(out_ptr, p0, p1, i0, i1, l0, f0):
    total = tl.load(p0).to(tl.float64)
    total = total + tl.load(p1) + i0 + i1 + l0 + f0
    tl.store(out_ptr, total)


args7 = counted(args7_kernel, "args7")


@triton.jit
def args16_kernel(out_ptr, p0, p1, p2, i0, i1, i2, i3, l0, l1, l2, l3, f0, f1, f2, f3):
    total = tl.load(p0).to(tl.float64)
    total = total + tl.load(p1) + tl.load(p2) + i0 + i1 + i2 + i3 + l0 + l1 + l2 + l3 + f0
    total = total + f1 + f2 + f3
    tl.store(out_ptr, total)


args16 = counted(args16_kernel, "args16")


@triton.jit
def args58_kernel(
    out_ptr, p0, p1, p2, p3, p4, p5, p6, p7, p8, i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, i10, i11,
    i12, i13, i14, i15, l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15, f0,
    f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15,
):  # fmt: skip
    total = tl.load(p0).to(tl.float64)
    total = total + tl.load(p1) + tl.load(p2) + tl.load(p3) + tl.load(p4) + tl.load(p5)
    total = total + tl.load(p6) + tl.load(p7) + tl.load(p8) + i0 + i1 + i2 + i3 + i4 + i5
    total = total + i6 + i7 + i8 + i9 + i10 + i11 + i12 + i13 + i14 + i15 + l0 + l1 + l2
    total = total + l3 + l4 + l5 + l6 + l7 + l8 + l9 + l10 + l11 + l12 + l13 + l14 + l15
    total = total + f0 + f1 + f2 + f3 + f4 + f5 + f6 + f7 + f8 + f9 + f10 + f11 + f12 + f13
    total = total + f14 + f15
    tl.store(out_ptr, total)


args58 = counted(args58_kernel, "args58")


# ---- what shortcuts of a launch must not miss


# Launch-only parameters within bounds.
ranged = kpack.Kernel(
    number_kernel,
    name="ranged",
    signature={"out_ptr": "*i32", "n": "i32"},
    configs=[{"BLOCK": 128}],
    grid=lambda rows: (rows,),
    args={"rows": {"least": 1, "most": 100}},
)

# A guard on what may look negative.
unsigned_ = kpack.Kernel(
    number_kernel,
    name="unsigned_",
    signature={"out_ptr": "*i32", "n": "u64"},
    configs=[{"BLOCK": 128}, {"BLOCK": 1024}],
    guard=lambda n, BLOCK: n <= BLOCK,
    grid=1,
)

# A guard that is no bound, in front of one that is.
thirds = kpack.Kernel(
    number_kernel,
    name="thirds",
    signature={"out_ptr": "*i32", "n": "i32"},
    configs=[{"BLOCK": 128}, {"BLOCK": 1024}],
    guard=lambda n, BLOCK: n % 3 == 0 if BLOCK == 128 else n <= BLOCK,
    grid=1,
)

# A variant that one target has alone.
bigger = kpack.Kernel(
    number_kernel,
    name="bigger",
    signature={"out_ptr": "*i32", "n": "i32"},
    configs=lambda target: [{"BLOCK": 128}] + ([{"BLOCK": 1024}] if target.name == "sm_90" else []),
    guard=lambda n, BLOCK: n <= BLOCK,
    grid=1,
)


@triton.jit
def masked_kernel(out_ptr, n, MASK: tl.constexpr):
    if MASK is None:
        tl.store(out_ptr, n)
    else:
        tl.store(out_ptr, n + MASK + 7)


def masked(name, number, *masks):
    """Selected values whose bits are alike."""
    return kpack.Kernel(
        masked_kernel,
        name=name,
        signature={"out_ptr": "*fp64", "n": number},
        constexprs={"MASK": list(masks)},
        grid=lambda rows: (rows,),
    )


zero_or_none = masked("zero_or_none", "i8", 0, None)
minus_or_three = masked("minus_or_three", "i32", -1, 3)
one_or_three = masked("one_or_three", "i32", 1.0, 3.0)


@triton.jit
def numbers_kernel(out_ptr, a, b, c, d, e, f, g, h, i, x, y):
    tl.store(out_ptr, a.to(tl.float64) + b + c + d + e + f + g + h + i + x + y)


# Every type that a shortcut takes.
convertible = kpack.Kernel(
    numbers_kernel,
    name="convertible",
    signature={
        "out_ptr": "*fp64",
        **dict(zip("abcdefghi", SCALARS.split(), strict=False)),
        "x": "fp32",
        "y": "fp64",
    },
    grid=1,
)


def launch_only(count):
    """Arguments that no image takes, and a grid that reads them all."""
    names = [f"n{i}" for i in range(count)]
    grid = eval(f"lambda {', '.join(names)}: ({' + '.join(names)},)")
    return kpack.Kernel(nothing_kernel, name=f"sum{count}", grid=grid)


sum2 = launch_only(2)
sum63 = launch_only(63)  # as many as a shortcut takes
sum64 = launch_only(64)


# ---- what a tuned launch costs: seven arguments, two of which are keys, and the same without alternatives


def seven(name, configs):
    types = {"o": "*fp64:16?", "p": "const *fp32:16?", "i": "i32", "l": "i64", "f": "fp32"}
    return kpack.Kernel(
        args7_kernel,
        name=name,
        signature={name: types[name[0]] for name in args7_kernel.arg_names},
        configs=configs,
        grid=1,
        args={"i0": {"key": True}, "l0": {"key": True}},
    )


fixed7 = seven("fixed7", [{"num_warps": 1}])
tuned7 = seven("tuned7", [{"num_warps": 1}, {"num_warps": 2}])
