"""Kernels learnt from calls and from running programs: they are what Triton's own JIT would have compiled and run."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections import namedtuple
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.tools.tensor_descriptor import TensorDescriptor

import kpack
from kpack.compile import adapter
from kpack.errors import KpackError, SpecError
from kpack.spec import DType, expand
from kpack.target import parse_targets

torch = pytest.importorskip("torch")
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
except ImportError:
    gluon = None
needs_gluon = pytest.mark.skipif(gluon is None, reason=f"triton {triton.__version__} has no Gluon")

SM_90 = parse_targets("sm_90")
Pair = namedtuple("Pair", "rows columns")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def meta(*shape: int, dtype: Any = torch.float16) -> Any:
    return torch.empty(*shape, dtype=dtype, device="meta")


# ---- what Triton's JIT makes of a call, asked of the JIT itself


class _Stop(Exception):
    pass


def compiled_by_jit(jit: Any, *args: Any, **kwargs: Any) -> Any:
    """The source that a launch of Triton's JIT hands to its compiler, for an H100."""
    fake = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
    )

    def stop(src: Any, **_: Any) -> None:
        found.append(src)
        raise _Stop

    found: list[Any] = []
    saved = dict(vars(driver))
    driver.set_active(fake)
    try:
        jit.device_caches.clear()
        jit.device_caches[0]  # makes the binder, and with it the compiler's name
        jit.compile = stop
        with pytest.raises(_Stop):
            jit.run(*args, grid=(1,), warmup=True, **kwargs)
    finally:
        vars(driver).clear()
        vars(driver).update(saved)
        jit.device_caches.clear()
    return found[0]


def canonical(source: Any) -> tuple[Any, ...]:
    """Signature, constants and attributes, in the one spelling of what has two."""

    def type_(text: Any) -> Any:
        if isinstance(text, tuple):
            return tuple(map(type_, text))
        return text.replace("u1", "i1").replace(" ", "")

    names = list(source.signature)
    constants = {
        (names.index(path),) if isinstance(path, str) else path: getattr(value, "value", value)
        for path, value in source.constants.items()
    }
    attributes = {path: value for path, value in source.attrs.items() if value}
    return [type_(text) for text in source.signature.values()], repr(sorted(constants.items())), attributes


def compiled_by_kpack(kernel: kpack.Kernel) -> Any:
    (variant,) = expand(kernel, SM_90).variants
    return adapter._source(expand(kernel, SM_90), variant)


@triton.jit
def plain(a, b: tl.constexpr = 3):
    pass


@triton.jit(do_not_specialize=["a"])
def unspecialised(a, b: tl.constexpr = 3):
    pass


@triton.jit(do_not_specialize_on_alignment=["a"])
def unaligned(a, b: tl.constexpr = 3):
    pass


@triton.jit
def wide(a: tl.int64, b: tl.constexpr = 3):
    pass


@triton.jit
def half(a: tl.float16, b: tl.constexpr = 3):
    pass


@triton.jit
def read_only(a: tl.const, b: tl.constexpr = 3):
    pass


@triton.jit
def helper(x):
    return x


VALUES = {
    "one": 1,
    "sixteen": 16,
    "odd": 17,
    "zero": 0,
    "negative": -5,
    "i64": 2**40,
    "odd i64": 2**40 + 1,
    "u64": 2**64 - 1,
    "true": True,
    "float": 1.5,
    "whole float": 1.0,
    "infinity": float("inf"),
    "none": None,
    "tensor": torch.zeros(4, dtype=torch.float16),
    "later in a tensor": torch.zeros(8, dtype=torch.float16)[1:],
    "bool tensor": torch.zeros(4, dtype=torch.bool),
    "fp8 tensor": torch.zeros(4, dtype=torch.float8_e4m3fn),
    "meta": meta(4, dtype=torch.bfloat16),
    "later in a meta tensor": meta(8)[1:],
    "constexpr": tl.constexpr(5),
    "function": helper,
    "tuple": (1, 16, (2.5, None, torch.zeros(4)), 17),
    "named tuple": Pair(16, meta(4)),
}
DESCRIPTOR = TensorDescriptor.from_tensor(torch.zeros(64, 64, dtype=torch.float16), [16, 32])


@pytest.mark.parametrize(
    ("jit", "name"),
    [
        *((jit, name) for jit in (plain, unspecialised, unaligned) for name in VALUES),
        *((wide, name) for name, value in VALUES.items() if type(value) is int),
    ],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_a_call_is_specialised_as_triton_does(jit: Any, name: str) -> None:
    kernel = kpack.Kernel.from_call(jit, VALUES[name], grid=(1,))
    assert canonical(compiled_by_kpack(kernel)) == canonical(compiled_by_jit(jit, VALUES[name]))


@pytest.mark.parametrize(
    ("jit", "value"),
    [(half, 2.5), (read_only, torch.zeros(4)), (plain, DESCRIPTOR)],
    ids=["fp16", "const", "desc"],
)
def test_annotations_and_descriptors_are_those_of_triton(jit: Any, value: Any) -> None:
    kernel = kpack.Kernel.from_call(jit, value, grid=(1,))
    assert canonical(compiled_by_kpack(kernel)) == canonical(compiled_by_jit(jit, value))


@needs_gluon
def test_a_gluon_function_is_specialised_as_triton_does() -> None:
    @gluon.jit
    def copy(out, x, n, BLOCK: gl.constexpr):
        pass

    arguments = (torch.zeros(4), torch.zeros(4), 1)
    kernel = kpack.Kernel.from_call(copy, *arguments, BLOCK=32, grid=(1,))
    assert canonical(compiled_by_kpack(kernel)) == canonical(compiled_by_jit(copy, *arguments, BLOCK=32))


# What Triton's JIT does not take, or not without a warning, and what it is taken for.
OTHER_VALUES = {
    "numpy array": (np.zeros(4, np.float16), "*fp16:16"),
    "numpy integer": (np.int64(32), "i32:16"),
    "numpy float": (np.float32(1.5), "fp32"),
    "numpy bool": (np.bool_(True), "i1"),
    "torch dtype": (torch.bfloat16, "*bf16:16"),
}


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_a_call_takes_what_has_no_memory_of_a_gpu(name: str) -> None:
    value, expected = OTHER_VALUES[name]
    assert kpack.Kernel.from_call(plain, value, grid=(1,)).signature == {"a": expected}


def test_a_fake_tensor_is_aligned_as_its_offset_is() -> None:
    with FakeTensorMode():
        fake = torch.empty(64, dtype=torch.float32)
        signatures = [
            kpack.Kernel.from_call(plain, each, grid=(1,)).signature["a"] for each in (fake, fake[1:])
        ]
    assert signatures == ["*fp32:16", "*fp32"]


def test_an_object_with_an_address_and_a_type_is_a_pointer() -> None:
    class Buffer:
        dtype = torch.float16

        def data_ptr(self) -> int:
            return 8

    assert kpack.Kernel.from_call(plain, Buffer(), grid=(1,)).signature == {"a": "*fp16"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (float("inf"), float("inf")), ("relu", "relu"), (tl.float16, DType("fp16")), (None, None)],
    ids=str,
)
def test_constexprs_are_what_the_call_gives(value: Any, expected: Any) -> None:
    kernel = kpack.Kernel.from_call(plain, 16, b=value, grid=(1,))
    assert expand(kernel, SM_90).variants[0].constexprs == (expected,)


def test_defaults_and_options_are_those_of_the_call() -> None:
    kernel = kpack.Kernel.from_call(plain, 16, grid=(1,), name="other", num_warps=8, num_stages=None)
    assert (kernel.name, kernel.constexprs, kernel.options) == ("other", {"b": 3}, {"num_warps": 8})


def test_what_triton_refuses_is_refused() -> None:
    with pytest.raises(SpecError, match=r"plain: expected arguments that Triton's JIT takes, .*list"):
        kpack.Kernel.from_call(plain, [1], grid=(1,))
    with pytest.raises(SpecError, match=r"plain: expected a call of it, got one with missing .*'a'"):
        kpack.Kernel.from_call(plain, grid=(1,))
    with pytest.raises(SpecError, match=r"expected a function decorated with @triton\.jit, got <function"):
        kpack.Kernel.from_call(meta, 1)


# ---- how much of it to keep


@triton.jit
def scale_kernel(out, x, n, stride, bias, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at * stride, mask=at < n)
    if bias is not None:
        value += tl.load(bias + at, mask=at < n)
    tl.store(out + at, value, mask=at < n)


EXACT = {"out": "*fp16:16", "x": "*fp16:16", "n": "i32:16", "stride": "i32:1"}
KEPT = {
    "exact": [EXACT],
    "alignment": [{**EXACT, "stride": "i32"}],
    "none": [{"out": "*fp16", "x": "*fp16", "n": "i32", "stride": "i32"}],
}
KEPT["general"] = [*KEPT["exact"], *KEPT["none"]]


@pytest.mark.parametrize("keep", KEPT)
def test_keep_says_how_much_of_the_specialisation_stays(keep: Any) -> None:
    kernel = kpack.Kernel.from_call(
        scale_kernel, meta(64), meta(64), 64, 1, None, BLOCK=64, grid=(1,), keep=keep
    )
    cases = kernel.cases or [{"signature": kernel.signature}]
    assert [case["signature"] for case in cases] == KEPT[keep]
    assert len(expand(kernel, SM_90).variants) == len(cases)


def test_an_unknown_word_for_keep_is_refused() -> None:
    with pytest.raises(SpecError, match="keep: expected one of exact alignment none general, got 'all'"):
        kpack.Kernel.from_call(plain, 1, grid=(1,), keep="all")


# ---- grids


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (None, ("grid_x", "grid_y", "grid_z")),
        (4, ("grid_x",)),
        ((4,), ("grid_x",)),
        (lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]), 2), ("grid_x", "grid_y")),
        ("cdiv(n, BLOCK)", ()),
        ("cdiv(n, BLOCK), batch", ("batch",)),
    ],
    ids=["none", "number", "tuple", "callable", "expression", "expression with a name"],
)
def test_the_caller_passes_the_grid_unless_it_is_an_expression(grid: Any, expected: tuple[str, ...]) -> None:
    kernel = kpack.Kernel.from_call(scale_kernel, meta(64), meta(64), 60, 1, None, BLOCK=64, grid=grid)
    assert kernel.checked.launch == expected


@triton.jit
def clashing_kernel(grid_x, out):
    tl.store(out, grid_x)


def test_a_parameter_that_is_called_as_a_size_of_the_grid_keeps_its_name() -> None:
    kernel = kpack.Kernel.from_call(clashing_kernel, 5, meta(4), grid=(2, 3))
    assert kernel.checked.launch == ("launch_grid_x", "launch_grid_y")
    assert kernel.arguments(5, 6, grid=(2, 3)) == [5, 6, 2, 3]


# ---- autotuners and heuristics


CONFIGS = [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in ((64, 2), (128, 4), (256, 8))]


def at_most_n(configs: Any, named: Any, **kwargs: Any) -> Any:
    return [config for config in configs if config.kwargs["BLOCK"] <= named["n"]]


@triton.autotune(CONFIGS, key=["n"], prune_configs_by={"early_config_prune": at_most_n})
@triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})
@triton.jit
def tuned_kernel(out, x, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if EVEN:
        tl.store(out + at, tl.load(x + at) + 1)
    else:
        tl.store(out + at, tl.load(x + at, mask=at < n) + 1, mask=at < n)


def test_an_autotuner_gives_its_configs_pruned_for_the_call() -> None:
    kernel = kpack.Kernel.from_call(tuned_kernel, meta(192), meta(192), 192, grid=(1,))
    variants = expand(kernel, SM_90).variants
    assert [(dict(v.options)["num_warps"], v.constexprs) for v in variants] == [
        (2, (64, True)),
        (4, (128, False)),
    ]


def test_what_a_heuristic_came_to_is_guarded() -> None:
    """192 is a multiple of 64: a call with another number must not run code that relies on that."""
    kernel = kpack.Kernel.from_call(tuned_kernel, meta(192), meta(192), 192, grid=(1,))
    assert [str(variant.guard) for variant in expand(kernel, SM_90).variants] == [
        "n % 64 == 0",
        "not n % 128 == 0",
    ]


@triton.heuristics({"WIDE": lambda args: args["x"].shape[0] > 100})
@triton.jit
def shaped_kernel(out, x, WIDE: tl.constexpr):
    tl.store(out, tl.load(x) + WIDE)


def test_a_heuristic_that_cannot_be_traced_is_what_it_came_to() -> None:
    kernel = kpack.Kernel.from_call(shaped_kernel, meta(4), meta(128), grid=(1,))
    assert kernel.constexprs == {"WIDE": True}
    with kpack.record(target="sm_90") as recording:
        shaped_kernel[(1,)](meta(4), meta(128))
        shaped_kernel[(1,)](meta(4), meta(64))
    (both,) = recording.kernels()
    assert both.checked.selected == ("WIDE",)
    assert both.arguments(1, meta(64), grid=(1,))[2:] == [False, 1]


def launch(out: Any, x: Any, M: int, batches: int) -> tuple[Any, ...]:
    """As programs do: the grid is a callable with what is around it."""

    def grid(meta: Any) -> tuple[int, ...]:
        return triton.cdiv(M, meta["BLOCK"]), batches

    return (out, x, M), grid


def test_a_grid_that_depends_on_the_config_becomes_an_expression_of_what_is_around_it() -> None:
    args, grid = launch(meta(512), meta(512), 512, 7)
    kernel = kpack.Kernel.from_call(tuned_kernel, *args, grid=grid)
    assert kernel.checked.launch == ("M", "batches")
    plan = expand(kernel, SM_90)
    for variant in plan.variants:
        block = variant.constexprs[0]
        values = {"M": 500, "batches": 3}
        assert [part.evaluate(values) for part in variant.grid] == [triton.cdiv(500, block), 3]
    args, grid = launch(meta(500), meta(500), 500, 3)
    assert kernel.arguments(*args, grid=grid)[2:] == [500, 500, 3]


def test_the_sizes_of_a_tensor_around_a_grid_join_the_call() -> None:
    x = meta(300, 2)
    kernel = kpack.Kernel.from_call(
        tuned_kernel, meta(600), x, 600, grid=lambda meta: (triton.cdiv(x.numel(), meta["BLOCK"]), x.shape[1])
    )
    assert kernel.checked.launch == ("x_numel", "x_shape_1")


def test_a_grid_that_cannot_be_traced_makes_the_config_part_of_the_call() -> None:
    sizes = {64: (9,), 128: (5,), 256: (3,)}
    kernel = kpack.Kernel.from_call(
        tuned_kernel, meta(512), meta(512), 512, grid=lambda meta: sizes[meta["BLOCK"]]
    )
    assert kernel.checked.selected == ("BLOCK",)
    assert kernel.arguments(1, 2, 512, grid=lambda meta: sizes[meta["BLOCK"]]) == [1, 2, 512, 64, 9]
    assert [overload.selected for overload in expand(kernel, SM_90).overloads] == [(64,), (128,), (256,)]


def test_a_setting_of_both_the_call_and_the_configs_is_refused() -> None:
    with pytest.raises(
        SpecError, match="'BLOCK': expected it in the call or in the autotuner's configs, got it in"
    ):
        kpack.Kernel.from_call(tuned_kernel, meta(64), meta(64), 64, BLOCK=64, grid=(1,))


def test_pruning_that_asks_for_a_device_prunes_where_there_is_one() -> None:
    def prune(configs: Any, named: Any, **kwargs: Any) -> Any:
        return configs[: driver.active.get_current_target().arch // 40]

    tuner = triton.autotune(CONFIGS, key=[], prune_configs_by={"early_config_prune": prune})(tuned_kernel.fn)
    arguments = (meta(64), meta(64), 64)
    with pytest.warns(
        UserWarning, match="tuned_kernel: all configs are kept, since pruning them for this call failed"
    ):
        everything = kpack.Kernel.from_call(tuner, *arguments, grid=(1,))
    with kpack.record(target="sm_90"):
        pruned = kpack.Kernel.from_call(tuner, *arguments, grid=(1,))
    assert [len(expand(kernel, SM_90).variants) for kernel in (everything, pruned)] == [3, 2]


def test_a_heuristic_that_fails_is_refused() -> None:
    failing = triton.heuristics({"WIDE": lambda args: args["y"]})(shaped_kernel.fn)
    with pytest.raises(
        SpecError, match=r"heuristic 'WIDE': expected a value for this call, got KeyError: 'y'; if it"
    ):
        kpack.Kernel.from_call(failing, meta(4), meta(4), grid=(1,))


def test_a_general_kernel_runs_whatever_its_heuristics_find() -> None:
    kernel = kpack.Kernel.from_call(tuned_kernel, meta(64), meta(64), 64, grid=(1,), keep="general")
    guards = [(len(v.divisible_16), str(v.guard)) for v in expand(kernel, SM_90).variants]
    assert guards == [(3, "n % 64 == 0"), (0, "n % 64 == 0"), (0, "not n % 64 == 0")]


# ---- tensor descriptors


def set_blocks(named: Any) -> None:
    for name in ("out", "x"):
        if hasattr(named[name], "block_shape"):
            named[name].block_shape = [named["BLOCK"], 32]


@triton.autotune(
    [triton.Config({"BLOCK": block}, num_warps=1, pre_hook=set_blocks) for block in (16, 32)], key=[]
)
@triton.jit
def descriptor_kernel(out, x, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK
    out.store([row, 0], x.load([row, 0]))


needs_runtime = pytest.mark.skipif(
    find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1",
    reason="kpack was installed without Python's headers (python3-dev)",
)


@pytest.mark.parametrize(
    "theirs", [pytest.param(True, id="triton"), pytest.param(False, id="kpack", marks=needs_runtime)]
)
def test_hooks_of_configs_give_descriptors_their_blocks(theirs: bool) -> None:
    tensors = torch.zeros(64, 32, dtype=torch.float16), torch.zeros(64, 32, dtype=torch.float16)
    make = (lambda x: TensorDescriptor.from_tensor(x, [1, 1])) if theirs else kpack.TensorDescriptor
    out, x = map(make, tensors)
    kernel = kpack.Kernel.from_call(descriptor_kernel, out, x, grid=(2,))
    types = [dict(variant.arguments)["x"] for variant in expand(kernel, SM_90).variants]
    assert types == ["tensordesc<fp16[16,32]>", "tensordesc<fp16[32,32]>"]
    assert not theirs or (out.block_shape, x.block_shape) == ([1, 1], [1, 1])


@needs_runtime
def test_a_descriptor_without_a_block_is_refused() -> None:
    with pytest.raises(SpecError, match="tensor descriptor: expected one that says its block, got none"):
        kpack.Kernel.from_call(plain, kpack.TensorDescriptor(torch.zeros(8, 8)), grid=(1,))


def test_hooks_that_write_memory_run_on_copies_and_are_named() -> None:
    def clear(named: Any) -> None:
        named["out"].zero_()

    hooked = triton.autotune([triton.Config({"BLOCK": 64}, pre_hook=clear)], key=[])(tuned_kernel.fn)
    out = torch.ones(64)
    with pytest.warns(UserWarning, match="tuned_kernel: hooks of its configs write memory before a launch"):
        kpack.Kernel.from_call(hooked, out, out, 64, grid=(1,))
    assert bool(out.all())


# ---- the values of a call


@triton.jit
def tuple_kernel(out, sizes, factor, MODE: tl.constexpr):
    at = tl.arange(0, 16)
    tl.store(out + at + sizes[0], (sizes[1][0] * factor).to(tl.float32), mask=at < sizes[1][1])


def test_parts_of_tuples_are_passed_one_by_one() -> None:
    kernel = kpack.Kernel.from_call(tuple_kernel, meta(16), (3, (5, 7)), 2.0, MODE="a", grid=(1,))
    assert kernel.arguments("out", (1, (2, 3)), 0.5, MODE="a", grid=(1,)) == ["out", 1, 2, 3, 0.5, 1]


def test_arguments_of_a_kernel_that_was_written_take_names_of_its_grid() -> None:
    kernel = kpack.Kernel(
        plain, signature={"a": "i32"}, constexprs={"b": [1, 2]}, grid=lambda rows: (rows,), name="written"
    )
    assert kernel.arguments(np.int64(5), b=2, rows=9) == [5, 2, 9]
    with pytest.raises(SpecError, match="written: expected values for rows, got none for rows"):
        kernel.arguments(5, b=2)


def test_a_grid_of_more_dimensions_than_the_kernel_takes_is_refused() -> None:
    kernel = kpack.Kernel.from_call(plain, 16, grid=(1,))
    assert kernel.arguments(16, grid=(4, 1)) == [16, 4]
    with pytest.raises(SpecError, match=r"plain: expected a grid of 1 dimensions, got \(4, 2\)"):
        kernel.arguments(16, grid=(4, 2))


def test_a_call_that_a_kernel_was_not_made_for_has_no_arguments() -> None:
    x = meta(64)
    without = kpack.Kernel.from_call(scale_kernel, x, x, 64, 1, None, BLOCK=64, grid=(1,))
    with_bias = kpack.Kernel.from_call(scale_kernel, x, x, 64, 1, x, BLOCK=64, grid=(1,))
    with pytest.raises(
        SpecError, match="scale_kernel: 'bias': expected None, which is compiled in, got a Tensor"
    ):
        without.arguments(x, x, 64, 1, x, BLOCK=64, grid=(1,))
    with pytest.raises(SpecError, match="'BLOCK': expected 64, which is compiled in, got 128"):
        without.arguments(x, x, 64, 1, None, BLOCK=128, grid=(1,))
    with pytest.raises(
        SpecError, match="'bias': expected an argument, got None, which no variant is made for"
    ):
        with_bias.arguments(x, x, 64, 1, None, BLOCK=64, grid=(1,))


# ---- recording


def program(x: Any) -> Any:
    """With launches of every kind, on whatever is taken for a GPU."""
    out = torch.empty_like(x)
    n = x.numel()
    assert x.is_cuda and x.device == torch.device("cuda", 0) == out.device
    with torch.cuda.device(x.device):
        scale_kernel[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](out, x, n, 1, None, BLOCK=64)
    scale_kernel[(2,)](out, x, n, 2, x, BLOCK=128, num_warps=8)
    scale_kernel.run(out, x, n, 2, x, BLOCK=128, num_warps=8, grid=(2,), warmup=False)
    tuned_kernel[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](out, x, n)
    compiled = plain.warmup(torch.float16, grid=(1,))
    assert compiled.n_regs > 0
    return out


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_a_program_is_recorded_without_a_gpu(target: str, device: Any) -> None:
    before = torch.cuda.is_available(), dict(vars(driver)), torch.version.hip
    with kpack.record(target=target, device=device) as recording:
        capability = torch.cuda.get_device_capability()
        program(torch.zeros(256, dtype=torch.float16, device="cuda"))
        assert driver.active.utils.get_device_properties(0)["max_shared_mem"] > 32768
    assert capability == {"sm_90": (9, 0), "gfx942": (9, 4)}[target]
    assert (torch.cuda.is_available(), dict(vars(driver)), torch.version.hip) == before
    assert [launch.name for launch in recording.launches] == [
        *3 * ["scale_kernel"],
        "tuned_kernel",
        "plain",
    ]
    first = recording.launches[0]
    assert first.grid == (4,)
    assert dict(first.arguments) == {
        "out": "*fp16:16 of 256",
        "x": "*fp16:16 of 256",
        "n": "i32:16 256",
        "stride": "i32:1 1",
        "bias": "None",
        "BLOCK": "64",
    }
    assert recording.launches[1].options == (("num_warps", "8"),)
    assert recording.launches[3].configs == 3
    assert [kernel.name for kernel in recording.kernels()] == [
        "scale_kernel",
        "tuned_kernel",
        "plain",
    ]


def test_what_differs_between_launches_joins_the_call() -> None:
    with kpack.record(target="sm_90") as recording:
        program(torch.zeros(256, dtype=torch.float16, device="cuda"))
        program(torch.zeros(256, dtype=torch.float32, device="cuda"))
    scale = recording.kernels()[0]
    plan = expand(scale, SM_90)
    assert [param.name for param in plan.params] == ["out", "x", "n", "stride", "bias", "BLOCK", "grid_x"]
    assert sorted(overload.selected for overload in plan.overloads) == [(64,), (64,), (128,), (128,)]


def test_the_first_config_is_enough_if_asked_for() -> None:
    with kpack.record(target="sm_90") as recording:
        tuned_kernel[(4,)](meta(256), meta(256), 256)
    everything, first = recording.kernels()[0], recording.kernels(configs="first")[0]
    assert [len(expand(kernel, SM_90).variants) for kernel in (everything, first)] == [3, 1]
    with pytest.raises(SpecError, match="configs: expected 'all' or 'first', got 'some'"):
        recording.kernels(configs="some")


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([(64,), (65,), (1,)], 1),
        ([(64,), (2**40,)], 2),
        ([(1,), (2**40,)], 1),
        ([(meta(4),), (meta(4, dtype=torch.float32),)], 1),
        ([(meta(4),), (None,)], 1),
        ([(None,), (5,)], 2),
        ([(1.5,), (5,)], 2),
        ([((1, 2),), ((1, 2, 3),)], 2),
        ([((1, None),), ((1, meta(4)),)], 2),
        ([(5, 1), (5, 2), (5, "x"), (5, None)], 1),
        ([(5, helper), (5, plain)], 2),
        ([(5, 2**70), (5, 2**71)], 2),
    ],
    ids=str,
)
def test_what_no_call_can_tell_apart_makes_another_kernel(calls: Any, expected: int) -> None:
    with kpack.record(target="sm_90") as recording:
        for args in calls:
            plain[(1,)](*args)
    kernels = recording.kernels()
    assert [kernel.name for kernel in kernels] == ["plain", "plain_2"][:expected]
    assert all(expand(kernel, SM_90).variants for kernel in kernels)


@triton.jit
def two_pointers(a, b, out):
    tl.store(out, 1)


@pytest.mark.parametrize(
    ("nulls", "expected"),
    [(["", "a"], 1), (["", "ab"], 2), (["a", "b"], 2), (["", "a", "b", "ab"], 1)],
    ids=str,
)
def test_a_pointer_that_is_null_is_never_followed(nulls: Any, expected: int) -> None:
    """Whatever is null in a call, the variant that runs must have been compiled for that, or not be there."""
    with kpack.record(target="sm_90") as recording:
        for names in nulls:
            pointer = meta(4) if names else meta(4)[1:]  # the special case asks for the most
            two_pointers[(1,)](*(None if name in names else pointer for name in "ab"), pointer)
    kernels = recording.kernels()
    assert len(kernels) == expected
    for kernel in kernels:
        plan = expand(kernel, SM_90)
        nullable = [at for at, param in enumerate(plan.params) if param.nullable]
        fixed = frozenset.intersection(*(variant.null for variant in plan.variants))
        for null in {frozenset(at for at in nullable if bits >> at & 1) for bits in range(8)}:
            for aligned in (frozenset(), frozenset(range(3))):
                fits = (v for v in plan.variants if v.null <= null and v.divisible_16 <= aligned | null)
                first = next(fits, None)
                assert first is None or first.null == null | fixed


def test_functions_of_one_name_get_names_of_their_own() -> None:
    def make(offset: tl.constexpr) -> Any:
        @triton.jit
        def made(out):
            tl.store(out, offset)

        return made

    one, two = make(tl.constexpr(1)), make(tl.constexpr(2))
    again = one
    with kpack.record(target="sm_90") as recording:
        for each in (one, two, again):
            each[(1,)](meta(4))
    assert [kernel.name for kernel in recording.kernels()] == ["made", "made_2"]


class Remembering(Autotuner):
    """As packages have them: an autotuner with a run of its own."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("benchmarks, on a GPU")


def test_an_autotuner_with_a_run_of_its_own_is_recorded_whole() -> None:
    tuner = Remembering(tuned_kernel.fn, tuned_kernel.arg_names, CONFIGS, ["n"], None, None)
    with kpack.record(target="sm_90") as recording:
        tuner[(1,)](meta(256), meta(256), 256)
    assert recording.launches[0].configs == 3


def test_a_rehearsed_autotuner_has_run_its_first_config_and_forgets_it() -> None:
    with kpack.record(target="sm_90"):
        tuned_kernel[(1,)](meta(256), meta(256), 256)
        assert tuned_kernel.best_config is CONFIGS[0]
    assert not hasattr(tuned_kernel, "best_config")
    assert not tuned_kernel.cache


def test_a_compiled_kernel_of_a_rehearsal_can_be_launched_again() -> None:
    with kpack.record(target="sm_90") as recording:
        compiled = scale_kernel.warmup(meta(64), meta(64), 64, 1, None, BLOCK=64, num_warps=2, grid=(1,))
        compiled[(7,)](meta(64), meta(64), 64, 1, None, 64)
    assert [launch.grid for launch in recording.launches] == [(1,), (7,)]
    assert recording.launches[0].options == recording.launches[1].options


def test_gradients_are_recorded() -> None:
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return program(x)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            out = torch.empty_like(gradient)
            scale_kernel[(1,)](out, gradient.contiguous(), gradient.numel(), 1, None, BLOCK=32)
            return out

    with kpack.record(target="sm_90") as recording:
        x = torch.ones(64, dtype=torch.float16, device="cuda", requires_grad=True)
        Scale.apply(x).sum().backward()
        assert x.grad is not None and x.grad.tolist() == [0.0] * 64
    assert dict(recording.launches[-1].arguments)["BLOCK"] == "32"


def test_operators_that_a_package_has_for_cuda_run_where_there_is_none() -> None:
    with (
        kpack.record(target="sm_90") as recording,
        torch.library._scoped_library("kpacktest", "FRAGMENT") as library,
    ):

        def scaled(x: Any) -> Any:
            assert x.is_cuda
            out = torch.empty_like(x)
            scale_kernel[(1,)](out, x, x.numel(), 1, None, BLOCK=64)
            return out

        library.define("scaled(Tensor x) -> Tensor")
        library.impl("scaled", scaled, "CUDA")
        for _ in range(2):
            assert torch.ops.kpacktest.scaled(torch.ones(64, device="cuda")).is_cuda
    assert len(recording.launches) == 2


def test_operators_that_a_package_has_for_every_device_think_that_they_are_on_the_gpu() -> None:
    scaled = torch.library.custom_op("kpacktest::custom", _scaled, mutates_args=())
    scaled.register_autograd(lambda ctx, gradient: gradient * 2)
    with kpack.record(target="sm_90") as recording:
        x = torch.ones(64, dtype=torch.float16, device="cuda", requires_grad=True)
        scaled(x).sum().backward()
    assert [launch.name for launch in recording.launches] == ["scale_kernel"]
    assert x.grad is not None and x.grad.tolist() == [2.0] * 64


def _scaled(x: torch.Tensor) -> torch.Tensor:
    assert x.device == torch.device("cuda", 0)
    out = torch.empty_like(x)
    scale_kernel[(1,)](out, x, x.numel(), 1, None, BLOCK=64)
    return out


def test_what_programs_do_around_kernels_goes_on() -> None:
    with kpack.record(target="sm_90") as recording:
        layer = torch.nn.Linear(4, 4).cuda()
        x = torch.ones(2, 4, device="cuda", requires_grad=True)
        torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).sum().backward()
        (gradient,) = torch.autograd.grad(layer(x).sum(), [x])
        assert gradient.is_cuda and next(layer.parameters()).device.type == "cuda"
        assert torch.mm(x, x.T, out_dtype=torch.float64).dtype == torch.float64
        assert torch.empty(4, pin_memory=True).tolist() == [0.0] * 4
        with torch.cuda.stream(torch.cuda.Stream()), torch.device("cuda"):
            assert torch.zeros(1).is_cuda
        seed, offset = torch.cuda.default_generators[0].get_state().view(torch.int64)
        assert int(seed) == int(offset) == 0
        assert torch.compile(lambda x: x + 1, backend="eager")(x).sum() == 16
        assert triton.testing.do_bench(lambda: plain[(1,)](16), warmup=1, rep=1) == 1.0
    assert {launch.name for launch in recording.launches} == {"plain"}


def test_launches_of_other_threads_are_recorded() -> None:
    with kpack.record(target="sm_90") as recording:
        thread = threading.Thread(target=lambda: plain[(1,)](16))
        thread.start()
        thread.join()
    assert [launch.name for launch in recording.launches] == ["plain"]


def test_everything_is_put_back_after_an_exception() -> None:
    methods = [
        vars(cls)[name] for cls, name in ((type(plain), "run"), (Autotuner, "run"), (Autotuner, "warmup"))
    ]
    state = dict(vars(torch.cuda)), dict(vars(torch.version)), dict(vars(driver))
    with pytest.raises(ZeroDivisionError), kpack.record(target="sm_90"):
        _ = 1 // (torch.cuda.device_count() - 1)
    assert methods == [
        vars(c)[n] for c, n in ((type(plain), "run"), (Autotuner, "run"), (Autotuner, "warmup"))
    ]
    assert state == (dict(vars(torch.cuda)), dict(vars(torch.version)), dict(vars(driver)))
    with kpack.record(target="sm_90") as recording:
        plain[(1,)](16)
    assert len(recording.launches) == 1


def test_recordings_do_not_nest() -> None:
    with (
        kpack.record(target="sm_90"),
        pytest.raises(KpackError, match="record: expected one recording at a time"),
        kpack.record(target="sm_90"),
    ):
        pass


def test_a_launch_that_cannot_be_read_fails_in_a_rehearsal() -> None:
    with kpack.record(target="sm_90"), pytest.raises(SpecError, match="takes"):
        plain[(1,)]([1])


class Recorded:
    """A driver that a GPU might have, and a JIT that compiles nothing: to see that the program's own run goes on."""

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", 90, 32)


def test_with_a_driver_the_program_runs_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> str:
        ran.append((self.__name__, kwargs.get("BLOCK")))
        return "launched"

    monkeypatch.setattr(type(plain), "run", run)
    monkeypatch.setattr(Autotuner, "do_bench", lambda self, call, quantiles: [call() and 1.0] * 3)
    tuner = triton.autotune(CONFIGS[:2], key=["n"])(tuned_kernel.fn)
    saved = dict(vars(driver))
    driver.set_active(Recorded())
    try:
        with kpack.record() as recording:
            assert plain[(1,)](16) == "launched"
            tuner[(1,)](meta(256), meta(256), 256)
            plain[(1,)]([1])  # which only the JIT would refuse
            assert not torch.cuda.is_available()
    finally:
        vars(driver).clear()
        vars(driver).update(saved)
    assert ran == [("plain", None), *[("tuned_kernel", block) for block in (64, 128, 64)], ("plain", None)]
    assert [launch.name for launch in recording.launches] == ["plain", "tuned_kernel"]
    with pytest.warns(UserWarning, match=r"of some launches no kernel is made:\n  plain: expected arguments"):
        recording.kernels()


def test_the_best_config_of_a_real_run_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(plain), "run", lambda self, *args, grid, warmup, **kwargs: kwargs["BLOCK"])
    monkeypatch.setattr(Autotuner, "do_bench", lambda self, call, quantiles: [1.0] * 3)
    tuner = triton.autotune(CONFIGS, key=["n"])(tuned_kernel.fn)
    monkeypatch.setattr(tuner, "_bench", lambda *args, config, **meta: [-config.kwargs["BLOCK"]])
    saved = dict(vars(driver))
    driver.set_active(Recorded())
    try:
        with kpack.record() as recording:
            tuner[(1,)](meta(256), meta(256), 256)
    finally:
        vars(driver).clear()
        vars(driver).update(saved)
    (kernel,) = recording.kernels(configs="first")
    assert expand(kernel, SM_90).variants[0].constexprs[0] == 256


# ---- what was learnt, built and called


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The kernels of a small program, built for both vendors without further words; and their Kernels by name."""
    folder: Path = tmp_path_factory.mktemp("pack")
    with kpack.record(target="sm_90") as recording:
        x = torch.zeros(256, dtype=torch.float16, device="cuda")
        program(x)
        args, grid = launch(torch.empty_like(x), x, 250, 3)
        tuned_kernel[grid](*args)
        tuple_kernel[(1,)](x.float(), (3, (5, 7)), 2.0, MODE="a")
        descriptor_kernel[(2,)](*(TensorDescriptor.from_tensor(x.view(-1, 32), [1, 1]) for _ in range(2)))
    kernels = recording.kernels()
    kpack.build(kernels, arch=["sm_90", "gfx942"]).write(folder / "libtk.a")
    whole = ["-Wl,--whole-archive", str(folder / "libtk.a"), "-Wl,--no-whole-archive"]
    subprocess.run(["cc", "-shared", "-o", str(folder / "libtk.so"), *whole], check=True)
    return folder / "libtk.so", {kernel.name: kernel for kernel in kernels}


@pytest.fixture(params=["sm_90", "gfx942"])
def loaded(library: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    from kpack.runtime import use_dry_driver

    use_dry_driver(request.param)
    yield kpack.load(library[0]), library[1]
    use_dry_driver(None)


X = torch.zeros(256, dtype=torch.float16)
DESCRIBED = TensorDescriptor.from_tensor(X.view(-1, 32), [1, 1])
CALLS = {
    "scale": ("scale_kernel", (X, X, 256, 1, None), {"BLOCK": 64}, (4,), "grid 4 x 1 x 1"),
    "scale with a bias": ("scale_kernel", (X, X, 256, 2, X), {"BLOCK": 128}, (2,), "grid 2 x 1 x 1"),
    "tuned": ("tuned_kernel_2", (X, X, 250), {}, launch(X, X, 250, 3)[1], "grid 4 x 3 x 1"),
    "descriptors": ("descriptor_kernel", (DESCRIBED, DESCRIBED), {}, (2,), "grid 2 x 1 x 1"),
    "tuple": ("tuple_kernel", (X.float(), (3, (5, 7)), 2.0), {"MODE": "a"}, (1,), "grid 1 x 1 x 1"),
}


@needs_runtime
@pytest.mark.parametrize("name", CALLS)
def test_a_packed_kernel_takes_the_arguments_of_the_launch(loaded: Any, name: str) -> None:
    pack, kernels = loaded
    kernel, args, options, grid, expected = CALLS[name]
    launched = pack[kernel](*kernels[kernel].arguments(*args, grid=grid, **options))
    assert expected in re.sub(r"\s+", " ", launched.text)
