"""Kernel objects as published packages have them: each compiles to what bare triton.compile makes of the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import device
import pytest
import triton
import triton.language as tl
from device import annotated_kernel, larger, scaled
from triton.compiler import ASTSource
from triton.language.extra import libdevice

import kpack
from kpack.compile import adapter
from kpack.compile.gpu_target import gpu_target
from kpack.compile.pool import compile_all, jobs_of
from kpack.image import Image, Tensordesc
from kpack.objfile import abi
from kpack.spec import Arg, Plan, expand
from kpack.target import parse_target, parse_targets

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma
except ImportError:
    gluon = None

ARCHS = ["sm_90", "gfx942"]
OFFSET = tl.constexpr(7)
ADD = {"sm_90": "add.s32 $0, $1, 1;", "gfx942": "v_add_u32 $0, $1, 1"}
CONSTRAINTS = {"sm_90": "=r,r", "gfx942": "=v,v"}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


# ---- kernels


@triton.jit
def plain_kernel(out, x, n, BLOCK: tl.constexpr):
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + cols, tl.load(x + cols, mask=cols < n), mask=cols < n)


@triton.jit
def device_kernel(out, x, n, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    value = device.scaled(tl.load(x + cols, mask=cols < n)) + scaled(cols) + OFFSET
    tl.store(out + cols, value, mask=cols < n)


@triton.jit
def libdevice_kernel(out, x, n, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    tl.store(out + cols, libdevice.erf(tl.load(x + cols, mask=cols < n)), mask=cols < n)


@triton.jit
def assembly_kernel(out, x, n, TEXT: tl.constexpr, CONSTRAINTS: tl.constexpr, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    value = tl.load(x + cols, mask=cols < n)
    more = tl.inline_asm_elementwise(TEXT, CONSTRAINTS, [value], dtype=tl.int32, is_pure=True, pack=1)
    tl.store(out + cols, more, mask=cols < n)


@triton.jit
def combine_kernel(out, x, n, COMBINE: tl.constexpr, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    value = tl.load(x + cols, mask=cols < n, other=0)
    tl.store(out + cols, COMBINE(value, cols), mask=cols < n)


@triton.jit(noinline=True)
def far(x):
    return x + 1


@triton.jit
def noinline_kernel(out, x, n, BLOCK: tl.constexpr):
    tl.store(out, far(tl.load(x)) + n)


@triton.jit(debug=True, repr=lambda _: "another_name")
def asserting_kernel(out, x, n, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    tl.device_assert(cols < n, "too many")
    tl.store(out + cols, tl.load(x + cols))


@triton.jit
def printing_kernel(out, x, n, BLOCK: tl.constexpr):
    tl.device_print("n", n)
    tl.store(out, tl.load(x) + n)


@triton.jit
def defaults_kernel(
    out, x, n, bias=None, scale=2.5, count=3, MASK: tl.constexpr = None, BLOCK: tl.constexpr = 32
):
    cols = tl.arange(0, BLOCK)
    value = tl.load(x + cols, mask=cols < n) * scale + count
    if bias is not None:
        value += tl.load(bias + cols)
    if MASK is not None:
        value *= MASK
    tl.store(out + cols, value, mask=cols < n)


@triton.jit
def biased_kernel(out, x, bias, n, HAS_BIAS: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr):
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + cols) if EVEN else tl.load(x + cols, mask=cols < n)
    if HAS_BIAS:
        value += tl.load(bias + cols, mask=cols < n)
    tl.store(out + cols, value, mask=cols < n)


@triton.jit
def staged_kernel(out, x, n, BLOCK: tl.constexpr, num_warps: tl.constexpr, num_stages: tl.constexpr):
    cols = tl.arange(0, BLOCK) + num_warps
    for _ in tl.range(0, n, num_stages=num_stages):
        tl.store(out + cols, tl.load(x + cols))


def make_fill(operation, value):
    VALUE = tl.constexpr(value)

    @triton.jit
    def fill_kernel(out, x, n, BLOCK: tl.constexpr):
        cols = tl.arange(0, BLOCK)
        tl.store(out + cols, operation(tl.load(x + cols, mask=cols < n), VALUE), mask=cols < n)

    return fill_kernel


@triton.jit
def smaller(a, b):
    return tl.minimum(a, b)


fill_larger, fill_smaller = make_fill(larger, 5), make_fill(smaller, 6)

if gluon:

    @gluon.jit
    def gluon_kernel(out, x, n, BLOCK: gl.constexpr, LAYOUT: gl.constexpr):
        cols = gl.arange(0, BLOCK, layout=LAYOUT)
        gl.store(out + cols, gl.load(x + cols, mask=cols < n), mask=cols < n)

    # Triton 3.9 renamed it.
    LOAD = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared

    @gluon.jit
    def gluon_move_kernel(x):
        block = gl.allocate_shared_memory(x.dtype, [64, 64], x.layout)
        ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
        mbarrier.init(ready, count=1)
        mbarrier.expect(ready, x.block_type.nbytes)
        LOAD(x, [0, 0], ready, block)
        mbarrier.wait(ready, phase=0)


# ---- what packs

COPY = {"out": "*i32", "x": "*i32", "n": "i32"}
FLOATS = {"out": "*fp32", "x": "*fp32", "n": "i32"}


@dataclass(frozen=True)
class Row:
    """A kernel object, what kpack is told of it, and what one would tell triton.compile."""

    fn: Any
    given: Mapping[str, Any]
    constants: Mapping[str, Any]
    types: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)


def row(fn, types=COPY, constants: Mapping[str, Any] | None = None, options=None, **given) -> Row:
    """A kernel with fixed constants, given to both."""
    constants = {"BLOCK": 64} if constants is None else constants
    return Row(fn, {"signature": types, "constexprs": constants, **given}, constants, types, options or {})


def layout_of(arch: str):
    return gl.BlockedLayout([1], [parse_target(arch).warp_size], [4], [0])


FEATURES: dict[str, Callable[[str], Row]] = {
    "a JIT function": lambda arch: row(plain_kernel),
    "a device function and a global constexpr of another module": lambda arch: row(device_kernel),
    "libdevice": lambda arch: row(libdevice_kernel, FLOATS),
    "inline assembly": lambda arch: row(
        assembly_kernel, constants={"TEXT": ADD[arch], "CONSTRAINTS": CONSTRAINTS[arch], "BLOCK": 64}
    ),
    "a JIT function as constexpr": lambda arch: row(
        combine_kernel, constants={"COMBINE": larger, "BLOCK": 64}
    ),
    "a function made by a factory": lambda arch: row(fill_larger),
    "another function of the same factory": lambda arch: row(fill_smaller),
    "a function that is not inlined": lambda arch: row(noinline_kernel),
    "a function under debug=True with assertions": lambda arch: row(
        asserting_kernel, options={"debug": True}
    ),
    "a function that prints": lambda arch: row(printing_kernel),
    "defaults of arguments and constexprs": lambda arch: Row(
        defaults_kernel,
        {"signature": FLOATS},
        {"bias": None, "scale": 2.5, "count": 3, "MASK": None, "BLOCK": 32},
        FLOATS,
    ),
    "types by annotation": lambda arch: Row(
        annotated_kernel,
        {"signature": {"out": "const *fp32", "x": "*fp32"}},
        {"BLOCK": 64},
        {"out": "*kfp32", "x": "*fp32", "n": "i64", "flag": "i1", "scale": "fp32"},
    ),
    "an autotuned function": lambda arch: Row(
        triton.autotune([triton.Config({"BLOCK": 128}, num_warps=2, num_stages=2)], ["n"])(plain_kernel),
        {"signature": COPY},
        {"BLOCK": 128},
        COPY,
        {"num_warps": 2, "num_stages": 2},
    ),
    "heuristics of constexprs, for constexprs and options": lambda arch: Row(
        triton.heuristics(
            {"BLOCK": lambda args: 2 * args["n"], "num_warps": lambda args: args["BLOCK"] // 32}
        )(plain_kernel),
        {"signature": {"out": "*i32", "x": "*i32"}, "constexprs": {"n": 32}},
        {"BLOCK": 64, "n": 32},
        {"out": "*i32", "x": "*i32"},
        {"num_warps": 2},
    ),
    "a stack of autotuner and heuristics": lambda arch: Row(
        triton.autotune([triton.Config({"BLOCK": 32}, num_warps=1)], ["n"])(
            triton.heuristics(
                {"HAS_BIAS": lambda args: args["bias"] is not None, "EVEN": lambda args: args["BLOCK"] > 16}
            )(biased_kernel)
        ),
        {"signature": {**COPY, "bias": "*i32"}},
        {"HAS_BIAS": True, "EVEN": True, "BLOCK": 32},
        {**COPY, "bias": "*i32"},
        {"num_warps": 1, "num_stages": 3},
    ),
    "constexprs that are options, too": lambda arch: Row(
        staged_kernel,
        {"signature": COPY, "configs": [triton.Config({"BLOCK": 64}, num_warps=2, num_stages=4)]},
        {"BLOCK": 64, "num_warps": 2, "num_stages": 4},
        COPY,
        {"num_warps": 2, "num_stages": 4},
    ),
    "a Gluon function": lambda arch: row(gluon_kernel, constants={"BLOCK": 64, "LAYOUT": layout_of(arch)}),
}


def skip_without_gluon() -> None:
    if not (gluon and adapter._release().gluon_without_driver):
        pytest.skip(f"Triton {triton.__version__} has no Gluon that compiles without a GPU")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("feature", FEATURES)
def test_what_packs_is_what_triton_compiles(feature, arch, monkeypatch, tmp_path):
    if "Gluon" in feature:
        skip_without_gluon()
    given = FEATURES[feature](arch)
    plan, images = built(kpack.Kernel(given.fn, "packed", grid=1, **given.given), arch)
    (image,) = images.values()
    assert image.code == bare(given, plan.variants[0].entry, arch, monkeypatch, tmp_path)


def built(kernel: kpack.Kernel, *arch: str) -> tuple[Plan, dict[str, Image]]:
    """The images of a kernel, by variant, of the last target."""
    targets = parse_targets(arch)
    plan = expand(kernel, targets)
    adapter.check([plan], targets)
    jobs = jobs_of([plan])
    return plan, {
        job.plan.variants[job.variant].name: image for job, image in zip(jobs, compile_all(jobs), strict=True)
    }


def bare(given: Row, entry: str, arch: str, monkeypatch, tmp_path) -> bytes:
    """What triton.compile makes of it, under the same name, since names are in the bytes."""
    fn = given.fn
    while not isinstance(fn, triton.JITFunction):
        fn = fn.fn
    monkeypatch.setattr(fn, "repr", lambda _: entry, raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DISABLE_LINE_INFO", "1")
    signature = {name: "constexpr" if name in given.constants else given.types[name] for name in fn.arg_names}
    source = adapter._gluon_source() if fn.is_gluon() else ASTSource
    result = triton.compile(
        source(fn, signature, constexprs=dict(given.constants)),
        target=gpu_target(parse_target(arch)),
        options={"enable_fp_fusion": True, **given.options},
    )
    return result.asm["cubin" if arch.startswith("sm") else "hsaco"]


# ---- Gluon


def test_a_descriptor_of_gluon_has_a_layout_and_the_image_says_what_it_means(monkeypatch, tmp_path):
    skip_without_gluon()
    types = {"x": f"tensordesc<fp16[64,64],{gl.NVMMASharedLayout.get_default_for([64, 64], gl.float16)!r}>"}
    plan, images = built(kpack.Kernel(gluon_move_kernel, signature=types, grid=1), "sm_90")
    (image,) = images.values()
    assert image.tensordescs == (Tensordesc(0, 2, abi.FP16, 2, box=(64, 64), swizzle=3),)
    given = Row(gluon_move_kernel, {}, {}, types)
    assert image.code == bare(given, plan.variants[0].entry, "sm_90", monkeypatch, tmp_path)


def test_a_descriptor_of_gluon_without_a_layout_is_refused():
    skip_without_gluon()
    with pytest.raises(
        kpack.SpecError, match=r"argument 'x': expected a tensor descriptor with its layout, as Gluon"
    ):
        kpack.Kernel(gluon_move_kernel, signature={"x": "tensordesc<fp16[64,64]>"}, grid=1)


def test_gluon_is_refused_by_name_where_it_would_ask_a_gpu(monkeypatch):
    skip_without_gluon()
    old = replace(adapter._release(), gluon_without_driver=False)
    monkeypatch.setitem(adapter._RELEASES, adapter._version(), old)
    with pytest.raises(kpack.SpecError, match=r"copy: expected Triton 3.5 or later for @gluon.jit, got "):
        built(
            kpack.Kernel(
                gluon_kernel, "copy", signature=COPY, constexprs={"BLOCK": 64, "LAYOUT": None}, grid=1
            ),
            "sm_90",
        )


# ---- autotuners


SM_90 = parse_targets("sm_90")
CONFIGS = [triton.Config({"BLOCK": 64}, num_warps=2), triton.Config({"BLOCK": 128})]


class Cached(triton.runtime.Autotuner):
    """What packages make of Triton's."""


class Old:
    """An autotuner as of Triton 2, with keys by number; copies of it are in published packages."""

    def __init__(self, fn, configs, key_idx):
        self.fn, self.configs, self.key_idx, self.arg_names = fn, configs, key_idx, fn.arg_names


class Launcher:
    """A wrapper that says nothing of what is compiled."""

    def __init__(self, fn):
        self.fn, self.arg_names = fn, fn.arg_names


def cached(fn):
    return Cached(fn, fn.arg_names, CONFIGS, ["n"], None, None)


@pytest.mark.parametrize(
    "wrap",
    [
        triton.autotune(CONFIGS, ["n"]),
        cached,
        lambda fn: Old(fn, CONFIGS, [2]),
        lambda fn: Launcher(triton.autotune(CONFIGS, ["n"])(Launcher(fn))),
    ],
    ids=["triton", "subclass", "old", "wrapped"],
)
def test_the_configs_of_an_autotuner_are_the_kernels(wrap):
    plan = expand(kpack.Kernel(wrap(plain_kernel), "copy", signature=COPY, grid=1), SM_90)
    assert [variant.name for variant in plan.variants] == ["BLOCK64.w2", "BLOCK128.w4"]
    assert [param.key for param in plan.params] == [0, 0, abi.PARAM_KEY_EXACT]


def test_configs_that_are_given_go_before_an_autotuners():
    tuned = triton.autotune(CONFIGS, ["n"])(plain_kernel)
    plan = expand(kpack.Kernel(tuned, "copy", signature=COPY, grid=1, configs=[{"BLOCK": 32}]), SM_90)
    assert [variant.name for variant in plan.variants] == ["BLOCK32.w4"]


def test_what_an_autotuner_resets_or_restores_is_changed_by_a_run():
    tuned = triton.autotune(CONFIGS, ["n"], reset_to_zero=["out"], restore_value=["x"])(plain_kernel)
    kernel = kpack.Kernel(tuned, "copy", signature=COPY, grid=1, args={"x": Arg("in"), "n": Arg(key=True)})
    out, x, n = expand(kernel, SM_90).params
    assert (out.direction, x.direction, n.key) == (abi.DIRECTION_INOUT, abi.DIRECTION_IN, abi.PARAM_KEY)
    told = adapter.provenance(expand(kernel, SM_90), SM_90)["autotuner"]
    assert told == {
        "key": ("n",),
        "reset_to_zero": ("out",),
        "restore_value": ("x",),
        "prunes": False,
        "left_out": (),
    }


def test_an_autotuner_may_repeat_a_config_and_a_list_may_not():
    tuned = triton.autotune([*CONFIGS, CONFIGS[0]], ["n"])(plain_kernel)
    assert len(expand(kpack.Kernel(tuned, "copy", signature=COPY, grid=1), SM_90).variants) == 2
    with pytest.raises(kpack.SpecError, match=r"configs\[2\]: expected each config once"):
        kpack.Kernel(plain_kernel, "copy", signature=COPY, grid=1, configs=[*CONFIGS, CONFIGS[0]])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"pre_hook": lambda args, reset_only: None}, "pre_hook"),
        ({"post_hook": lambda args, exception: None}, "post_hook"),
        ({"configs": [triton.Config({"BLOCK": 64}, pre_hook=lambda args: None)]}, "pre_hook of its configs"),
    ],
    ids=["pre", "post", "config"],
)
def test_what_runs_on_the_host_is_named_and_left_out(given, named):
    tuned = triton.autotune(**{"configs": CONFIGS, "key": ["n"], **given})(plain_kernel)
    with pytest.warns(UserWarning, match=f"^copy: expected only what an archive can hold, .*: {named};"):
        kernel = kpack.Kernel(tuned, "copy", signature=COPY, grid=1)
    plan = expand(kernel, SM_90)
    assert adapter.provenance(plan, SM_90)["autotuner"]["left_out"] == (named,)


def test_a_hook_of_a_config_that_is_given_is_named_too():
    configs = [triton.Config({"BLOCK": 64}, pre_hook=lambda args: None)]
    with pytest.warns(UserWarning, match="copy: .*: pre_hook of configs=;"):
        kpack.Kernel(plain_kernel, "copy", signature=COPY, grid=1, configs=configs)


def test_pruning_is_noted_and_all_configs_are_built():
    prune = {"early_config_prune": lambda configs, args, **more: configs[:1]}
    tuned = triton.autotune(CONFIGS, ["n"], prune_configs_by=prune)(plain_kernel)
    plan = expand(kpack.Kernel(tuned, "copy", signature=COPY, grid=1), SM_90)
    assert len(plan.variants) == 2
    assert adapter.provenance(plan, SM_90)["autotuner"]["prunes"] is True


def test_two_autotuners_of_one_function_are_refused():
    twice = triton.autotune(CONFIGS, ["n"])(triton.autotune(CONFIGS, ["n"])(plain_kernel))
    with pytest.raises(kpack.SpecError, match=r"expected one @triton.autotune, got several"):
        kpack.Kernel(twice, "copy", signature=COPY, grid=1)


# ---- what code names


def make_store(value):
    VALUE = tl.constexpr(value)

    @triton.jit
    def store_kernel(out):
        tl.store(out, VALUE)

    return store_kernel


KIND = tl.float16
NUMBER = tl.constexpr(3)


@triton.jit
def naming_kernel(out):
    tl.store(out, (tl.load(out).to(KIND) * NUMBER * device.SCALE).to(tl.float32))


def key_and_code(fn) -> tuple[str, bytes]:
    fn.hash = None  # else Triton takes what it found before
    plan, images = built(kpack.Kernel(fn, "same", signature={"out": "*fp32"}, grid=1), "sm_90")
    return adapter.source_key(plan), images["w4"].code


def test_two_functions_of_one_factory_are_two_kernels():
    (key, code), (other_key, other_code) = (key_and_code(make_store(value)) for value in (1.0, 2.0))
    assert key != other_key and code != other_code
    assert key_and_code(make_store(1.0)) == (key, code)


other_device = ModuleType("device")
other_device.SCALE = tl.constexpr(9)


@pytest.mark.parametrize(
    ("name", "value"), [("KIND", tl.bfloat16), ("NUMBER", tl.constexpr(5)), ("device", other_device)]
)
def test_a_value_that_code_names_is_part_of_it(name, value, monkeypatch):
    key, code = key_and_code(naming_kernel)
    monkeypatch.setitem(naming_kernel.fn.__globals__, name, value)
    other_key, other_code = key_and_code(naming_kernel)
    assert key != other_key and code != other_code


PLAIN = 3


@triton.jit
def plainly_naming_kernel(out):
    tl.store(out, PLAIN)


def test_a_global_that_is_no_constexpr_is_taken_where_triton_is_told_to(monkeypatch):
    with pytest.raises(kpack.CompileError, match="Cannot access global variable PLAIN"):
        key_and_code(plainly_naming_kernel)
    monkeypatch.setenv("TRITON_ALLOW_NON_CONSTEXPR_GLOBALS", "1")
    key, code = key_and_code(plainly_naming_kernel)
    monkeypatch.setitem(plainly_naming_kernel.fn.__globals__, "PLAIN", 4)
    other_key, other_code = key_and_code(plainly_naming_kernel)
    assert key != other_key and code != other_code


@triton.jit
def failing_kernel(out, BROKEN: tl.constexpr):
    tl.store(out, BROKEN(tl.load(out)))


@triton.jit
def failing_by_module_kernel(out):
    tl.store(out, device.broken(tl.load(out)))


def make_failing(function):
    @triton.jit
    def failing_by_closure_kernel(out):
        tl.store(out, function(tl.load(out)))

    return failing_by_closure_kernel


@pytest.mark.parametrize(
    ("fn", "constants"),
    [
        (failing_kernel, {"BROKEN": device.broken}),
        (failing_by_module_kernel, {}),
        (make_failing(device.broken), {}),
    ],
    ids=["handed", "module", "closure"],
)
def test_the_line_of_a_device_function_is_found_wherever_it_comes_from(fn, constants):
    line = device.broken.fn.__code__.co_firstlineno + 2
    with pytest.raises(kpack.CompileError, match=f"device.py:{line}: in broken, .*") as raised:
        built(kpack.Kernel(fn, signature={"out": "*fp32"}, constexprs=constants, grid=1), "sm_90")
    assert "nothing is not defined" in str(raised.value)


# ---- heuristics


def heuristic(fn=plain_kernel, **values):
    return triton.heuristics(values)(fn)


BIASED = {**COPY, "bias": "*i32"}


def biased(values, **changes) -> Plan:
    given = {"signature": BIASED, "constexprs": {"BLOCK": 64}, "grid": 1, **changes}
    return expand(kpack.Kernel(triton.heuristics(values)(biased_kernel), "add", **given), SM_90)


def shown(plan: Plan) -> list[tuple[str, str]]:
    return [(variant.name, str(variant.guard or "")) for variant in plan.variants]


HAS_BIAS = {"HAS_BIAS": lambda args: args["bias"] is not None}
EVEN = {"EVEN": lambda args: args["n"] % args["BLOCK"] == 0}


def test_a_truth_of_the_call_is_two_variants_with_guards():
    assert shown(biased({**HAS_BIAS, **EVEN})) == [
        ("HAS_BIASTrue.EVENTrue.w4", "n % 64 == 0"),
        ("HAS_BIASTrue.EVENFalse.w4", "not n % 64 == 0"),
    ]


def test_a_null_pointer_decides_a_heuristic():
    plan = biased({**HAS_BIAS, "EVEN": lambda args: False}, signature={**BIASED, "bias": "*i32:none?"})
    assert shown(plan) == [
        ("HAS_BIASFalse.EVENFalse.w4.none_bias", ""),
        ("HAS_BIASTrue.EVENFalse.w4", ""),
    ]
    plan = biased(
        {**HAS_BIAS, "EVEN": lambda args: False}, signature=COPY, constexprs={"bias": None, "BLOCK": 64}
    )
    assert shown(plan) == [("HAS_BIASFalse.EVENFalse.w4", "")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"guard": "n > 8"}, ["HAS_BIASFalse: n > 8", "HAS_BIASTrue: n > 8"]),
        ({"guard": "HAS_BIAS or n > 8"}, ["HAS_BIASFalse: n > 8", "HAS_BIASTrue: bias >= 1"]),
        ({"guard": "HAS_BIAS"}, ["HAS_BIASTrue: bias >= 1"]),
        ({"prefer": "HAS_BIAS"}, ["HAS_BIASFalse: ", "HAS_BIASTrue: bias >= 1"]),
        ({"prefer": "n"}, ["HAS_BIASFalse: ", "HAS_BIASTrue: "]),
    ],
    ids=lambda given: "" if isinstance(given, list) else " ".join(f"{name}={given[name]}" for name in given),
)
def test_a_null_pointer_goes_to_the_variant_for_it_or_to_none(words, expected):
    plan = biased(
        {**HAS_BIAS, "EVEN": lambda args: False}, signature={**BIASED, "bias": "*i32:none?"}, **words
    )
    assert [f"{name.partition('.')[0]}: {guard}" for name, guard in shown(plan)] == expected
    assert ("bias not null" in plan.guard_text) == ("bias" in "".join(expected))


@pytest.mark.parametrize(
    ("compute", "guards"),
    [
        (lambda args: args["n"] > 5 and args["n"] % 2 == 0, {True: "n > 5 and n % 2 == 0", False: ""}),
        (lambda args: (args["n"] > 5) & (args["n"] < 9), {True: "(n > 5) & (n < 9)", False: ""}),
        (lambda args: "big" if args["n"] > 5 else "small", {"big": "n > 5", "small": "not n > 5"}),
        (lambda args: 8 if args["n"] > 5 else None, {8: "n > 5", None: "not n > 5"}),
        (lambda args: args["x"].dtype == tl.int32, {True: ""}),
        (lambda args: args["x"].dtype == tl.int64, {False: ""}),
        (lambda args: args["x"].element_size() * 2, {8: ""}),
        (lambda args: args.get("num_warps", 4), {2: ""}),
    ],
)
def test_what_a_heuristic_may_come_to(compute, guards):
    plan = biased({**HAS_BIAS, "EVEN": compute}, options={"num_warps": 2})
    found = {variant.constexprs[1]: str(variant.guard or "") for variant in plan.variants}
    assert {type(value) for value in found} == {type(value) for value in guards}
    assert found.keys() == guards.keys()
    assert all(found[value] == guard for value, guard in guards.items() if guard)


@pytest.mark.parametrize("n", [0, 1, 16, 17, 31, 32, 64, 127, 128, 129, 5000])
def test_values_to_choose_from_make_guards_that_agree_with_the_heuristic(n):
    def block(args):
        return max(16, min(128, triton.next_power_of_2(args["n"])))

    fn = heuristic(BLOCK=block, num_warps=lambda args: 4 if args["BLOCK"] >= 64 else 1)
    given = {"signature": COPY, "grid": lambda n, BLOCK: triton.cdiv(n, BLOCK)}
    plan = expand(kpack.Kernel(fn, "copy", constexprs={"BLOCK": [16, 32, 64, 128]}, **given), SM_90)
    assert [param.name for param in plan.params] == ["out", "x", "n"]
    held = [variant for variant in plan.variants if variant.guard.evaluate({"n": n})]
    assert [(v.constexprs, dict(v.options)["num_warps"]) for v in held] == [
        ((block({"n": n}),), 4 if block({"n": n}) >= 64 else 1)
    ]
    assert held[0].grid[0].evaluate({"n": n}) == triton.cdiv(n, held[0].constexprs[0])


def test_a_value_that_is_given_goes_before_a_heuristics():
    plan = biased({**HAS_BIAS, **EVEN}, constexprs={"BLOCK": 64, "EVEN": False})
    assert shown(plan) == [("HAS_BIASTrue.EVENFalse.w4", "")]


def test_a_guard_holds_beside_a_heuristics():
    plan = biased({**HAS_BIAS, **EVEN}, guard="n > 8")
    assert plan.guard_text == "n > 8 and heuristics of HAS_BIAS, EVEN"
    assert [guard for _, guard in shown(plan)] == ["n % 64 == 0 and n > 8", "not n % 64 == 0 and n > 8"]


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda args: triton.cdiv(args["n"], 4), "give these in constexprs={'EVEN': [...]}"),
        (lambda args: args["scale"] > 0, "got a use of the fp32 'scale'; give the value in constexprs="),
        (lambda args: args["x"].shape[0] > 1, "got a use of the *i32 'x'; give the value in constexprs="),
        (
            lambda args: args["x"].data_ptr() % 16 == 0,
            "got a use of the *i32 'x'; give the value in constexprs=",
        ),
        (lambda args: args["y"] > 1, "got KeyError with symbolic values: 'y'"),
        (lambda args: args["x"].dtype == 3, "expected a comparison of types, got i32 beside 3"),
        (lambda args: args["n"] / 2 > 1, "expected integers only, got a true division"),
    ],
)
def test_a_heuristic_that_no_build_can_compute_is_refused_with_the_reason(compute, reason):
    @triton.jit
    def scaling_kernel(out, x, n, scale, EVEN: tl.constexpr):
        tl.store(out, tl.load(x))

    fn = triton.heuristics({"EVEN": compute})(scaling_kernel)
    kernel = kpack.Kernel(fn, "scaling", signature={**COPY, "scale": "fp32"}, grid=1)
    with pytest.raises(kpack.SpecError) as raised:
        expand(kernel, SM_90)
    assert str(raised.value).startswith("scaling: heuristic 'EVEN': expected ") and reason in str(
        raised.value
    )


def test_what_a_stack_compiles_to_differs_by_its_heuristics():
    plan, images = built(
        kpack.Kernel(
            triton.heuristics({**HAS_BIAS, **EVEN})(biased_kernel),
            "add",
            signature={**BIASED, "bias": "*i32:none?"},
            constexprs={"BLOCK": 64},
            grid=lambda n, BLOCK: kpack.cdiv(n, BLOCK),
        ),
        "sm_90",
    )
    assert len(plan.variants) == 4 and len({image.code for image in images.values()}) == 4


def test_a_kernel_file_with_a_stack_is_one_kernel_however_often_it_is_loaded(tmp_path):
    (tmp_path / "tuned.py").write_text(
        "import triton, triton.language as tl, kpack\n"
        "@triton.autotune([triton.Config({'BLOCK': 64})], ['n'])\n"
        "@triton.heuristics({'EVEN': lambda args: args['n'] % 64 == 0})\n"
        "@triton.jit\n"
        "def copy_kernel(out, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):\n    tl.store(out, n)\n"
        "copy = kpack.Kernel(copy_kernel, 'copy', signature={'out': '*i32', 'n': 'i32'}, grid=1)\n"
    )
    (tmp_path / "user.py").write_text("from tuned import copy\n")
    (found,) = kpack.find_kernels([tmp_path / "tuned.py", tmp_path / "user.py"])
    assert found.name == "copy"
