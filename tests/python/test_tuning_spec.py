"""What a kernel says for its tuning: preferences, key parameters, directions and extents."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import kpack
from kpack.objfile import abi
from kpack.spec import Arg, Kernel, Plan, expand
from kpack.target import parse_target

TARGETS = (parse_target("sm_80"), parse_target("sm_90"))


def rows_kernel(out_ptr, in_ptr, stride, n, scale, CAUSAL, BLOCK):
    pass


def jit(fn):
    """As much of a JIT function as specs look at."""
    code = fn.__code__
    names = code.co_varnames[: code.co_argcount]
    params = [SimpleNamespace(name=name, is_constexpr=name.isupper()) for name in names]
    return SimpleNamespace(fn=fn, arg_names=list(names), params=params, constexprs=[5, 6])


GIVEN = {
    "signature": {"out_ptr": "*T", "in_ptr": "const *T:16?", "stride": "i64", "n": "i32", "scale": "fp32"},
    "types": {"T": ["fp16", "fp32"]},
    "constexprs": {"CAUSAL": [True, False]},
    "configs": [{"BLOCK": 128, "num_warps": 1}, {"BLOCK": 1024}],
    "guard": lambda n, BLOCK: n <= BLOCK,
    "grid": lambda rows: (rows,),
    "name": "rows",
}


def kernel(**changes: object) -> Kernel:
    return Kernel(jit(rows_kernel), **{**GIVEN, **changes})  # type: ignore[arg-type]


def plan(**changes: object) -> Plan:
    return expand(kernel(**changes), TARGETS)


def keys(of: Plan) -> dict[str, int]:
    return {param.name: param.key for param in of.params if param.key}


# ---- keys


def test_without_keys_what_guards_grids_and_preferences_read_is_the_key() -> None:
    assert keys(plan()) == {"n": abi.PARAM_KEY, "rows": abi.PARAM_KEY}
    assert keys(plan(prefer="stride * CAUSAL")) == dict.fromkeys(("stride", "n", "rows"), abi.PARAM_KEY)
    assert keys(plan(guard=None, grid="4")) == {}


def test_a_key_that_is_said_is_the_key() -> None:
    assert keys(plan(args={"stride": Arg(key="exact")})) == {"stride": abi.PARAM_KEY_EXACT}
    assert keys(plan(args={"n": {"key": True}})) == {"n": abi.PARAM_KEY}


def test_memory_is_no_key() -> None:
    with pytest.raises(kpack.SpecError, match="args 'in_ptr': key: expected a value, got memory"):
        kernel(args={"in_ptr": Arg("in", key=True)})


# ---- preferences


@pytest.mark.parametrize(
    ("prefer", "texts"),
    [
        (lambda n, BLOCK: -abs(BLOCK - n), ["-abs(128 - n)", "-abs(1024 - n)"]),
        ("num_warps", ["1", "4"]),
        (lambda num_warps, num_ctas: num_warps * num_ctas, ["1", "4"]),
        ("BLOCK * sizeof(T)", ["256", "2048"]),
        (7, ["7", "7"]),
    ],
)
def test_a_preference_is_of_arguments_constants_and_options(prefer: object, texts: list[str]) -> None:
    variants = [v for v in plan(prefer=prefer).variants if v.overload == 0 and not v.divisible_16]
    assert [str(variant.prefer) for variant in variants] == texts


@pytest.mark.parametrize(
    ("prefer", "reason"),
    [
        ("num_stages", "prefer: 'num_stages': expected it in options= or in every config, got one without"),
        ("num_warp", "prefer: expected names among"),
        (lambda in_ptr: in_ptr, "prefer: expected an integer, got 'in_ptr'"),
        ("scale", "prefer: expected names among"),
    ],
)
def test_a_preference_that_cannot_be_told_is_refused(prefer: object, reason: str) -> None:
    with pytest.raises(kpack.SpecError) as raised:
        plan(prefer=prefer)
    assert reason in str(raised.value)


# ---- extents


def extents(of: Plan) -> dict[str, str]:
    return {param.name: str(param.extent) for param in of.params if param.extent}


@pytest.mark.parametrize(
    "bytes_", ["rows * stride * sizeof(T)", lambda rows, stride, T: rows * stride * kpack.sizeof(T)]
)
def test_an_extent_counts_elements_of_a_type_variable(bytes_: object) -> None:
    of = plan(args={"out_ptr": kpack.out(bytes_), "in_ptr": kpack.in_(bytes=bytes_)})
    # Of a type variable the archive knows the first argument that has it.
    assert extents(of) == dict.fromkeys(("out_ptr", "in_ptr"), "rows * stride * sizeof(out_ptr)")
    out, in_ = of.params[:2]
    assert (out.direction, in_.direction) == (abi.DIRECTION_OUT, abi.DIRECTION_IN)
    assert out.extent
    code = out.extent.code({param.name: number for number, param in enumerate(of.params)})
    assert bytes([abi.OP_SIZEOF, 0, 0]) in code


def test_a_direction_needs_no_extent() -> None:
    of = plan(args={"out_ptr": kpack.inout()})
    assert of.params[0].direction == abi.DIRECTION_INOUT
    assert extents(of) == {}


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"out_ptr": kpack.out("n * sizeof(U)")}, "args 'out_ptr': extent: sizeof: expected a pointer"),
        ({"out_ptr": kpack.out("n * sizeof(T) * BLOCK")}, "extent: expected names among"),
        ({"out_ptr": kpack.out(lambda n, T: n * T)}, "extent: expected an integer, got 'T'"),
        ({"n": kpack.out("4")}, "args 'n': direction and extent: expected a pointer, got a value"),
    ],
)
def test_an_extent_that_no_call_can_tell_is_refused(args: dict[str, Arg], reason: str) -> None:
    with pytest.raises(kpack.SpecError) as raised:
        kernel(args=args)
    assert reason in str(raised.value)


def test_sizes_in_guards_and_grids_are_numbers_of_each_overload() -> None:
    of = plan(guard="n * sizeof(in_ptr) <= BLOCK", grid="cdiv(n, BLOCK // sizeof(T)), rows")
    guards = {str(variant.guard) for variant in of.variants}
    assert guards == {f"n * {size} <= {block}" for size in (2, 4) for block in (128, 1024)}
    assert {str(variant.grid[0]) for variant in of.variants} == {
        f"cdiv(n, {block // size})" for size in (2, 4) for block in (128, 1024)
    }
