"""Every kind of argument and constexpr: what packs is what bare triton.compile, and a launch of Triton's, compile."""

from __future__ import annotations

import enum
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import device
import numpy as np
import pytest
import triton
import triton.language as tl
from triton.compiler import ASTSource

import kpack
from kpack.compile import adapter
from kpack.compile.gpu_target import gpu_target
from kpack.compile.pool import compile_all, jobs_of
from kpack.image import Image
from kpack.objfile import abi
from kpack.spec import DType, Plan, expand
from kpack.target import parse_target, parse_targets

ARCHS = ["sm_90", "gfx942"]
SM_90 = parse_targets("sm_90")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def built(kernel: kpack.Kernel, *arch: str) -> tuple[Plan, dict[str, Image]]:
    targets = parse_targets(arch)
    plan = expand(kernel, targets)
    adapter.check([plan], targets)
    jobs = jobs_of([plan])
    return plan, {
        job.plan.variants[job.variant].name: image for job, image in zip(jobs, compile_all(jobs), strict=True)
    }


def bare(fn, entry, arch, signature, constants=None, attrs=None, options=None) -> bytes:
    """What triton.compile makes of it, under the same name, since names are in the bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fn, "repr", lambda _: entry, raising=False)
        patch.setenv("TRITON_DISABLE_LINE_INFO", "1")
        patch.setenv("TRITON_ALWAYS_COMPILE", "1")
        result = triton.compile(
            ASTSource(fn, signature, constexprs=constants or {}, attrs=attrs or {}),
            target=gpu_target(parse_target(arch)),
            options={"enable_fp_fusion": True, **(options or {})},
        )
    return result.asm["cubin" if arch.startswith("sm") else "hsaco"]


def only(plan: Plan, images: Mapping[str, Image]) -> tuple[str, bytes]:
    (variant,), (image,) = plan.variants, images.values()
    return variant.entry, image.code


# ---- types


@triton.jit
def load_kernel(out, x):
    cols = tl.arange(0, 32)
    tl.store(out + cols, tl.load(x + cols).to(tl.float32))


@triton.jit
def scalar_kernel(out, x):
    tl.store(out, x)


POINTERS = (
    "i1 i8 i16 i32 i64 u8 u16 u32 u64 fp16 bf16 fp32 fp64 fp8e4nv fp8e5 fp8e4b8 fp8e5b16 fp8e4b15".split()
)
SCALARS = "i1 i8 i16 i32 i64 u8 u16 u32 u64 fp16 bf16 fp32 fp64".split()
# What neither kpack nor triton.compile builds: the backend has no such conversion.
UNSUPPORTED = {("fp8e4b8", "sm_90"), ("fp8e5b16", "sm_90"), ("fp8e4b15", "gfx942")}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("type_", POINTERS)
def test_every_pointer_type_is_loaded(type_, arch):
    signature = {"out": "*fp32", "x": f"*{type_}"}
    kernel = kpack.Kernel(load_kernel, signature=signature, grid=1)
    if (type_, arch) in UNSUPPORTED:
        with pytest.raises(kpack.CompileError, match=f"type {type_} not supported in this architecture"):
            built(kernel, arch)
        with pytest.raises(triton.CompilationError, match=f"type {type_} not supported"):
            bare(load_kernel, "load", arch, signature)
        return
    entry, code = only(*built(kernel, arch))
    assert code == bare(load_kernel, entry, arch, signature)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("type_", SCALARS)
def test_every_scalar_type_is_passed(type_, arch):
    signature = {"out": f"*{type_}", "x": type_}
    entry, code = only(*built(kpack.Kernel(scalar_kernel, signature=signature, grid=1), arch))
    assert code == bare(scalar_kernel, entry, arch, signature)


@pytest.mark.parametrize("type_", ["fp8e4nv", "fp8e5"])
def test_a_scalar_that_no_launcher_passes_is_refused(type_):
    with pytest.raises(kpack.SpecError, match="argument 'x': expected a pointer or another type, got 'fp8"):
        kpack.Kernel(scalar_kernel, signature={"out": "*fp32", "x": type_}, grid=1)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("float8_e4m3fn", "fp8e4nv"), ("float8_e5m2fnuz", "fp8e5b16"), ("bfloat16", "bf16"), ("u1", "i1")],
)
def test_another_spelling_of_a_type_is_told_the_one(spelling, name):
    with pytest.raises(kpack.SpecError, match=f"got '{spelling}'; did you mean '{name}'"):
        kpack.Kernel(load_kernel, signature={"out": "*fp32", "x": f"*{spelling}"}, grid=1)


# ---- what a launch of Triton's compiles


class Tensor:
    """What a launch looks at."""

    def __init__(self, dtype: str, address: int) -> None:
        self.dtype, self.address = dtype, address

    def data_ptr(self) -> int:
        return self.address


@triton.jit(do_not_specialize=["m"], do_not_specialize_on_alignment=["k"])
def launched_kernel(out, x, bias, n, m, k, scale: tl.float32, wide: tl.int64, flag, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK) * n + m * k + wide
    value = tl.load(x + cols, mask=cols < m) * scale
    if bias is not None:
        value += tl.load(bias + cols)
    tl.store(out + cols, tl.where(flag, value, 0.0), mask=cols < m)


ALIGNED, ODD = 1 << 20, (1 << 20) + 4
LAUNCHES = {
    "aligned": (
        [Tensor("fp32", ALIGNED), Tensor("fp16", ALIGNED), None, 32, 48, 64, 2.0, 1 << 40, True],
        {
            "out": "*fp32:16",
            "x": "*fp16:16",
            "bias": "*fp16:none",
            "n": "i32:16",
            "m": "i32",
            "k": "i32",
            "wide": "i64:16",
            "flag": "i1",
        },
    ),
    "odd": (
        [Tensor("fp32", ODD), Tensor("bf16", ODD), Tensor("fp32", ALIGNED), 1, 1, 1, 1.0, 3, False],
        {
            "out": "*fp32",
            "x": "*bf16",
            "bias": "*fp32:16",
            "n": "i32:1",
            "m": "i32",
            "k": "i32:1",
            "wide": "i64",
            "flag": "i1",
        },
    ),
    "wide": (
        [Tensor("fp32", ALIGNED), Tensor("fp32", ODD), None, 1 << 33, 1 << 63, -5, 1.0, 16, True],
        {
            "out": "*fp32:16",
            "x": "*fp32",
            "bias": "*fp32:none",
            "n": "i64:16",
            "m": "u64",
            "k": "i32",
            "wide": "i64:16",
            "flag": "i1",
        },
    ),
}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("launch", LAUNCHES)
def test_the_hints_of_a_signature_are_what_a_launch_specialises_on(launch, arch, monkeypatch, tmp_path):
    if arch.startswith("gfx"):
        pytest.importorskip("torch", reason="before 3.9 Triton's AMD launcher imports torch")
    values, signature = LAUNCHES[launch]
    plan, images = built(
        kpack.Kernel(launched_kernel, "launched", signature=signature, constexprs={"BLOCK": 64}, grid=1), arch
    )
    entry, code = only(plan, images)
    monkeypatch.setattr(launched_kernel, "repr", lambda _: entry, raising=False)
    monkeypatch.setenv("TRITON_DISABLE_LINE_INFO", "1")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    jitted = warmed(launched_kernel, arch, monkeypatch, *values, BLOCK=64)
    assert jitted.asm["cubin" if arch == "sm_90" else "hsaco"] == code


def warmed(fn, arch, monkeypatch, *values, **constants):
    """What a launch compiles, on a driver that has a device of this kind and does nothing else."""
    driver = SimpleNamespace(
        get_current_device=lambda: arch,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: gpu_target(parse_target(arch)),
    )
    monkeypatch.setattr(triton.runtime.jit, "driver", SimpleNamespace(active=driver))
    fn.device_caches.clear()
    return fn.warmup(*values, grid=(1,), **constants)


# ---- constants


@triton.jit
def constant_kernel(out, VALUE: tl.constexpr, KIND: tl.constexpr):
    if KIND == "number":
        tl.store(out, VALUE)
    elif KIND == "type":
        tl.store(out, tl.load(out).to(VALUE).to(out.dtype.element_ty))
    elif KIND == "none":
        tl.store(out, 1 if VALUE is None else 2)
    elif KIND == "text":
        tl.store(out, 3 if VALUE == "ieee" else 4)
    elif KIND == "tuple":
        tl.store(out, VALUE[0] + VALUE[1])
    elif KIND == "function":
        tl.store(out, VALUE(tl.load(out)))
    else:
        tl.store(out, VALUE.size)


class Color(enum.Enum):
    RED = 1


class Shape:
    def __init__(self, size):
        self.size = size


@dataclass(frozen=True)
class Tile:
    size: int


Pair = namedtuple("Pair", ["left", "right"])
CONSTANTS: dict[str, tuple[str, Any, Any]] = {
    "integer": ("number", 5, 5),
    "integer of more than 32 bits": ("number", 1 << 40, 1 << 40),
    "integer of 64 bits": ("number", 2**64 - 1, str(2**64 - 1)),
    "float": ("number", 0.5, 0.5),
    "infinity": ("number", float("-inf"), float("-inf")),
    "bool": ("number", True, True),
    "text": ("text", "ieee", "ieee"),
    "none": ("none", None, None),
    "Triton's type": ("type", tl.float16, DType("fp16")),
    "kpack's type": ("type", DType("bf16"), DType("bf16")),
    "tuple": ("tuple", (3, 4), "(3, 4)"),
    "tuple of constexprs": ("tuple", (tl.constexpr(3), 4), "(3, 4)"),
    "NamedTuple": ("tuple", Pair(3, 4), "(3, 4)"),
    "list": ("tuple", tl.constexpr([3, 4]), "[3, 4]"),
    "JIT function": ("function", device.scaled, None),
    "dataclass": ("object", Tile(6), "Tile(size=6)"),
    "object": ("object", Shape(6), None),
}


def constant(value, kind="number", **changes) -> kpack.Kernel:
    given = {"signature": {"out": "*i64"}, "constexprs": {"VALUE": value, "KIND": kind}, "grid": 1}
    return kpack.Kernel(constant_kernel, "constant", **{**given, **changes})


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("what", CONSTANTS)
def test_every_kind_of_constexpr(what, arch):
    kind, value, told = CONSTANTS[what]
    plan, images = built(constant(value, kind), arch)
    if told is not None or value is None:
        assert plan.variants[0].constexprs[0] == told
    entry, code = only(plan, images)
    passed = tl.bfloat16 if isinstance(value, DType) else value
    signature = {"out": "*i64", "VALUE": "constexpr", "KIND": "constexpr"}
    assert code == bare(constant_kernel, entry, arch, signature, {"VALUE": passed, "KIND": kind})


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("float16", "fp16"),
        ("bfloat16", "bf16"),
        ("float8_e4m3fn", "fp8e4nv"),
        ("float8_e5m2fnuz", "fp8e5b16"),
        ("bool", "i1"),
        ("int64", "i64"),
        ("uint8", "u8"),
    ],
)
def test_a_type_of_torch_is_tritons(name, type_):
    torch = pytest.importorskip("torch")
    assert expand(constant(getattr(torch, name)), SM_90).variants[0].constexprs[0] == DType(type_)


@pytest.mark.parametrize(
    ("value", "plain"),
    [(np.int64(7), 7), (np.float32(0.5), 0.5), (np.bool_(True), True), (tl.constexpr(3), 3)],
)
def test_a_number_of_another_library_is_the_number(value, plain):
    (found,) = expand(constant(value), SM_90).variants[0].constexprs[:1]
    assert found == plain and type(found) is type(plain)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Color.RED, "<Color.RED: 1>"),
        (int, "int"),
        ([1, [2]], "[1, [2]]"),
        ({"a": Tile(1)}, "{'a': Tile(size=1)}"),
        ({"b", "a"}, "{'a', 'b'}"),
    ],
)
def test_an_object_is_named_by_its_content(value, text):
    assert expand(constant(tl.constexpr(value)), SM_90).variants[0].constexprs[0] == text


def closed(number):
    def function():
        return number

    return function


@pytest.mark.parametrize(
    ("one", "other"), [(Shape(1), Shape(2)), (closed(1), closed(2)), (device.scaled, device.larger)]
)
def test_objects_that_print_alike_have_different_texts(one, other):
    names = [expand(constant(value), SM_90).variants[0].constexprs[0] for value in (one, other)]
    assert names[0] != names[1] and not any("0x" in name for name in names)
    plan = expand(constant(0, constexprs={"KIND": "x"}, configs=[{"VALUE": one}, {"VALUE": other}]), SM_90)
    assert len({variant.name for variant in plan.variants}) == 2


def test_the_same_content_has_the_same_text():
    texts = {expand(constant(Shape(3)), SM_90).variants[0].constexprs[0] for _ in range(2)}
    assert len(texts) == 1


def test_an_object_may_be_tuned_and_not_selected():
    with pytest.raises(
        kpack.SpecError, match=r"constexpr 'VALUE': expected values that a call can pass, got Tile"
    ):
        constant([Tile(1), Tile(2)])


# ---- constants of arguments


@triton.jit
def shift_kernel(out, x, bias, n, scale):
    value = tl.load(x) * scale + n
    if bias is not None:
        value += tl.load(bias)
    tl.store(out, value)


SHIFT = {"out": "*fp32", "x": "*fp32", "bias": "*fp32", "n": "i32", "scale": "fp32"}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    "constants", [{"bias": None}, {"n": 4}, {"scale": 0.5}, {"bias": None, "n": 1, "scale": float("inf")}]
)
def test_any_parameter_may_be_a_constant_and_leaves_the_call(constants, arch):
    signature = {name: text for name, text in SHIFT.items() if name not in constants}
    kernel = kpack.Kernel(shift_kernel, "shift", signature=signature, constexprs=constants, grid=1)
    plan, images = built(kernel, arch)
    assert [param.name for param in plan.params] == list(signature)
    entry, code = only(plan, images)
    full = {name: "constexpr" if name in constants else text for name, text in SHIFT.items()}
    assert code == bare(shift_kernel, entry, arch, full, constants)


def test_a_list_of_constants_of_an_argument_is_selected():
    signature = {name: text for name, text in SHIFT.items() if name != "n"}
    kernel = kpack.Kernel(shift_kernel, "shift", signature=signature, constexprs={"n": [4, 8]}, grid=1)
    plan = expand(kernel, SM_90)
    assert [param.name for param in plan.params] == ["out", "x", "bias", "scale", "n"]
    assert [overload.selected for overload in plan.overloads] == [(4,), (8,)]


def test_a_config_may_set_an_argument():
    signature = {name: text for name, text in SHIFT.items() if name != "n"}
    configs = [{"n": 4}, {"n": 8, "num_warps": 8}]
    plan = expand(kpack.Kernel(shift_kernel, "shift", signature=signature, configs=configs, grid=1), SM_90)
    assert [variant.name for variant in plan.variants] == ["n4.w4", "n8.w8"]


def test_signatures_may_say_constexpr_as_tritons_do():
    signature = {**SHIFT, "bias": "constexpr"}
    plan = expand(kpack.Kernel(shift_kernel, signature=signature, constexprs={"bias": None}, grid=1), SM_90)
    assert [param.name for param in plan.params] == ["out", "x", "n", "scale"]
    with pytest.raises(kpack.SpecError, match="constexpr 'bias': expected a value in constexprs="):
        kpack.Kernel(shift_kernel, signature=signature, grid=1)


# ---- tuples


@triton.jit
def tuple_kernel(out, shape, pointers, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    value = tl.load(pointers[0] + cols * shape[0])
    if pointers[1] is not None:
        value += tl.load(pointers[1] + cols * shape[1])
    tl.store(out + cols, value, mask=cols < shape[2][0])


@triton.jit
def named_kernel(out, pair):
    tl.store(out, pair.left + pair.right)


TUPLES = {"out": "*fp32:16", "shape": ("i32:16", "i32:1", ("i64",)), "pointers": ("*fp32", "*fp16")}


@pytest.mark.parametrize("arch", ARCHS)
def test_the_parts_of_a_tuple_join_the_call(arch):
    kernel = kpack.Kernel(
        tuple_kernel,
        "tuples",
        signature=TUPLES,
        constexprs={"BLOCK": 32},
        grid="shape_2_0",
        guard="shape_0 > 1",
    )
    plan, images = built(kernel, arch)
    names = ["out", "shape_0", "shape_1", "shape_2_0", "pointers_0", "pointers_1"]
    assert [param.name for param in plan.params] == names
    (image,) = images.values()
    indices = [slot.index for slot in image.layout if slot.source == abi.SLOT_ARGUMENT]
    assert indices == [0, 1, 3, 4, 5]
    entry, code = only(plan, images)
    signature = {
        "out": "*fp32",
        "shape": ("i32", "constexpr", ("i64",)),
        "pointers": ("*fp32", "*fp16"),
        "BLOCK": "constexpr",
    }
    aligned = [["tt.divisibility", 16]]
    attrs = {(0,): aligned, (1, 0): aligned}
    assert code == bare(tuple_kernel, entry, arch, signature, {(1, 1): 1, (3,): 32}, attrs)


@pytest.mark.parametrize("arch", ARCHS)
def test_parts_of_a_tuple_may_be_constants(arch):
    signature = {**TUPLES, "shape": ("i32", "constexpr", ("i64",)), "pointers": ("*fp32", "constexpr")}
    constexprs = {"BLOCK": 32, "shape": (None, 4, None)}
    plan, images = built(
        kpack.Kernel(tuple_kernel, "tuples", signature=signature, constexprs=constexprs, grid=1), arch
    )
    assert [param.name for param in plan.params] == ["out", "shape_0", "shape_2_0", "pointers_0"]
    entry, code = only(plan, images)
    told = {**signature, "out": "*fp32", "BLOCK": "constexpr"}
    constants = {(1, 1): 4, (2, 1): None, (3,): 32}
    assert code == bare(tuple_kernel, entry, arch, told, constants, {(0,): [["tt.divisibility", 16]]})


@pytest.mark.parametrize("arch", ARCHS)
def test_a_whole_tuple_may_be_a_constant(arch):
    signature = {"out": "*fp32", "pointers": ("*fp32", "*fp16")}
    constexprs = {"BLOCK": 32, "shape": (1, 2, (3,))}
    kernel = kpack.Kernel(tuple_kernel, "tuples", signature=signature, constexprs=constexprs, grid=1)
    entry, code = only(*built(kernel, arch))
    told = {**signature, "shape": "constexpr", "BLOCK": "constexpr"}
    assert code == bare(tuple_kernel, entry, arch, told, {(1,): (1, 2, (3,)), (3,): 32})


@pytest.mark.parametrize("arch", ARCHS)
def test_a_namedtuple_keeps_its_names(arch):
    kernel = kpack.Kernel(
        named_kernel, "named", signature={"out": "*i32", "pair": Pair("i32:16", "i32")}, grid=1
    )
    plan, images = built(kernel, arch)
    assert [param.name for param in plan.params] == ["out", "pair_0", "pair_1"]
    entry, code = only(plan, images)
    attrs = {(1, 0): [["tt.divisibility", 16]]}
    assert code == bare(named_kernel, entry, arch, {"out": "*i32", "pair": Pair("i32", "i32")}, None, attrs)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shape": ("i32", "i23", ("i64",))}, "argument 'shape_1': expected a type among"),
        ({"shape": ("i32", 4, ("i64",))}, "argument 'shape_1': expected '[const ][*]type[:hint]', got 4"),
        ({"shape": "i32:none"}, "argument 'shape': hint 'none': expected a pointer, got 'i32:none'"),
    ],
)
def test_a_mistake_in_a_tuple_is_named_by_its_part(changes, line):
    with pytest.raises(kpack.SpecError) as raised:
        kpack.Kernel(tuple_kernel, signature={**TUPLES, **changes}, constexprs={"BLOCK": 32}, grid=1)
    assert line in str(raised.value)


@pytest.mark.parametrize(
    ("constants", "line"),
    [
        ((None, 4), "argument 'shape': expected constants for 3 parts, got 2: (None, 4)"),
        ((None, 4, None), "argument 'shape_1': expected a constant or a type, got both: 4 and 'i32:1'"),
    ],
)
def test_constants_of_a_tuple_lie_where_its_signature_says_constexpr(constants, line):
    with pytest.raises(kpack.SpecError) as raised:
        kpack.Kernel(tuple_kernel, signature=TUPLES, constexprs={"BLOCK": 32, "shape": constants}, grid=1)
    assert line in str(raised.value)


def test_a_part_whose_name_is_taken_is_refused():
    @triton.jit
    def taken_kernel(out, shape, shape_0):
        tl.store(out, shape[0] + shape_0)

    with pytest.raises(
        kpack.SpecError, match="argument 'shape_0': expected a name of its own for a part of a tuple"
    ):
        kpack.Kernel(taken_kernel, signature={"out": "*i32", "shape": ("i32",), "shape_0": "i32"}, grid=1)


# ---- descriptors made on the device


@triton.jit
def described_kernel(out, x, n, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [n, n], [n, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [n, n], [n, 1], [BLOCK, BLOCK])
    target.store([0, 0], source.load([0, 0]))


@pytest.mark.parametrize("arch", ARCHS)
def test_a_descriptor_made_on_the_device_takes_scratch_where_there_is_tma(arch):
    signature = {"out": "*fp16:16", "x": "*fp16:16", "n": "i32:16"}
    kernel = kpack.Kernel(described_kernel, signature=signature, constexprs={"BLOCK": 32}, grid=1)
    plan, images = built(kernel, arch)
    (image,) = images.values()
    assert (image.global_scratch_bytes > 0) == (arch == "sm_90")
    attrs = {(number,): [["tt.divisibility", 16]] for number in range(3)}
    told = {"out": "*fp16", "x": "*fp16", "n": "i32", "BLOCK": "constexpr"}
    entry, code = only(plan, images)
    assert code == bare(described_kernel, entry, arch, told, {"BLOCK": 32}, attrs)


# ---- options


OPTIONS = {
    "num_warps": {"num_warps": 8},
    "num_stages": {"num_stages": 1},
    "num_ctas": {"num_ctas": 2},
    "maxnreg": {"maxnreg": 64},
    "cooperative": {"launch_cooperative_grid": True},
    "pdl": {"launch_pdl": True},
    "fusion": {"enable_fp_fusion": False},
    "waves_per_eu": {"waves_per_eu": 2},
    "matrix_instr_nonkdim": {"matrix_instr_nonkdim": 16},
    "debug": {"debug": True},
}


@triton.jit
def product_kernel(out, a, b, n, BLOCK: tl.constexpr):
    rows = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for at in range(0, n, BLOCK):
        left = tl.load(a + rows[:, None] * n + at + rows[None, :])
        total = tl.dot(left, tl.load(b + (at + rows[:, None]) * BLOCK + rows[None, :]), total)
    tl.store(out + rows[:, None] * BLOCK + rows[None, :], total)


PRODUCT = {"out": "*fp32", "a": "*fp16", "b": "*fp16", "n": "i32"}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_reaches_its_backend(option, arch):
    if (option, arch) == ("num_ctas", "gfx942"):
        pytest.skip("gfx942 has no clusters")
    options = {"num_warps": 4, **OPTIONS[option]}
    kernel = kpack.Kernel(
        product_kernel, signature=PRODUCT, constexprs={"BLOCK": 32}, grid=1, options=OPTIONS[option]
    )
    entry, code = only(*built(kernel, arch))
    told = {**PRODUCT, "BLOCK": "constexpr"}
    assert code == bare(product_kernel, entry, arch, told, {"BLOCK": 32}, options=options)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("option", "meant"), [("num_warp", "num_warps"), ("wave_per_eu", "waves_per_eu"), ("max_nreg", "maxnreg")]
)
def test_a_misspelt_option_is_told_the_nearest_of_either_vendor(option, meant, arch):
    kernel = kpack.Kernel(scalar_kernel, signature={"out": "*i32", "x": "i32"}, grid=1, options={option: 1})
    with pytest.raises(kpack.SpecError, match=f"option '{option}': .*; did you mean '{meant}'"):
        built(kernel, arch)
