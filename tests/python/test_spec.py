"""Kernel: what it refuses, all at a time, and the variants that it expands to."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import pytest

import kpack
from kpack.objfile import abi
from kpack.spec import Arg, DType, expand
from kpack.target import Target, parse_targets

SM_90 = parse_targets("sm_90")
BOTH = parse_targets(["gfx90a", "sm_90"])


def jit(function, constexprs=()):
    """What kpack knows of a @triton.jit function, without triton."""
    names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
    constexprs = constexprs or [name for name in names if name.isupper()]
    params = [SimpleNamespace(is_constexpr=name in constexprs) for name in names]
    return SimpleNamespace(arg_names=names, params=params, fn=function)


def config(kwargs, num_warps=4, num_stages=3, num_ctas=1, maxnreg=None, pre_hook=None, ir_override=None):
    return SimpleNamespace(**locals())


def softmax_kernel(out_ptr, in_ptr, in_row_stride, out_row_stride, n_cols, BLOCK):
    pass


def softmax(**changes):
    given = {
        "name": "softmax",
        "signature": {
            "out_ptr": "*T:16?",
            "in_ptr": "const *T:16?",
            "in_row_stride": "i64:16?",
            "out_row_stride": "i64:16?",
            "n_cols": "i32",
        },
        "types": {"T": ["fp16", "bf16", "fp32"]},
        "configs": [config({"BLOCK": 1024}), config({"BLOCK": 4096}, num_warps=8)],
        "guard": lambda n_cols, BLOCK: n_cols <= BLOCK,
        "grid": lambda n_rows: (n_rows,),
    }
    return kpack.Kernel(jit(softmax_kernel), **{**given, **changes})


def copy_kernel(dst, src, n, alpha, ROWS, FLAG, BLOCK=64):
    pass


def copy(**changes):
    given = {
        "signature": {"dst": "*fp32", "src": "*fp32", "n": "i32", "alpha": "fp32"},
        "constexprs": {"ROWS": 4, "FLAG": [True, False]},
        "grid": "n",
    }
    return kpack.Kernel(jit(copy_kernel), "copy", **{**given, **changes})


def test_importing_kpack_imports_no_compiler():
    code = "import kpack, sys; print(sorted({'triton', 'torch', 'lief', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_kernel_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        softmax().name = "other"


def test_softmax_expands_to_a_variant_a_type_config_and_alignment():
    plan = expand(softmax(), SM_90)
    assert [variant.name for variant in plan.variants] == [
        f"{type_}.{config}{suffix}"
        for type_ in ("fp16", "bf16", "fp32")
        for config in ("BLOCK1024.w4", "BLOCK4096.w8")
        for suffix in (".a16", "")
    ]
    special, general = plan.variants[:2]
    assert special.entry == "softmax_fp16_BLOCK1024_w4_a16"
    assert special.divisible_16 == {0, 1, 2, 3} and general.divisible_16 == frozenset()
    assert special.arguments[:3] == (("out_ptr", "*fp16"), ("in_ptr", "*fp16"), ("in_row_stride", "i64"))
    assert str(special.guard) == "n_cols <= 1024" and list(map(str, special.grid)) == ["n_rows"]
    assert special.options == (("num_stages", 3), ("num_warps", 4))
    assert (plan.guard_text, plan.grid_text) == ("n_cols <= BLOCK", "n_rows")
    assert plan.source.startswith("test_spec.py:")
    assert [(c.name, c.role) for c in plan.constexprs] == [("BLOCK", abi.CONSTEXPR_TUNED)]


def test_the_call_has_arguments_then_selected_constexprs_then_launch_parameters():
    plan = expand(
        copy(
            constexprs={"FLAG": [True, False], "ROWS": [1, 2]},  # not in source order
            grid=lambda rows, n, extra: (rows, n, extra),
            guard=lambda extra, rows, ROWS: extra < rows * ROWS,
            args={"dst": Arg("out", extent="rows * n * 4"), "n": {"least": 0, "key": "exact"}},
        ),
        SM_90,
    )
    assert [(p.name, p.kind) for p in plan.params] == [
        ("dst", abi.PARAM_ARGUMENT),
        ("src", abi.PARAM_ARGUMENT),
        ("n", abi.PARAM_ARGUMENT),
        ("alpha", abi.PARAM_ARGUMENT),
        ("ROWS", abi.PARAM_SELECTED),
        ("FLAG", abi.PARAM_SELECTED),
        ("rows", abi.PARAM_LAUNCH),
        ("extra", abi.PARAM_LAUNCH),
    ]
    dst, _, n, alpha, rows, flag, launch, _ = plan.params
    assert dst.type == abi.POINTER | abi.FP32
    assert (dst.direction, str(dst.extent)) == (abi.DIRECTION_OUT, "rows * n * 4")
    assert (n.least, n.most, n.key) == (0, 2**31 - 1, abi.PARAM_KEY_EXACT)
    assert (alpha.least, alpha.most) == (0, 0)
    assert (rows.type, rows.least, rows.most) == (abi.I64, -(2**63), 2**63 - 1)
    assert (flag.type, flag.least, flag.most) == (abi.I1, 0, 1)
    assert launch.type == abi.I64
    assert [overload.selected for overload in plan.overloads] == [
        (rows, flag) for rows in (1, 2) for flag in (True, False)
    ]


def test_roles_say_where_a_constexpr_comes_from():
    plan = expand(copy(), SM_90)
    assert {c.name: c.role for c in plan.constexprs} == {
        "ROWS": abi.CONSTEXPR_FIXED,
        "FLAG": abi.CONSTEXPR_SELECTED,
        "BLOCK": abi.CONSTEXPR_FIXED,  # by its default
    }
    assert plan.variants[0].constexprs == (4, True, 64)
    plan = expand(copy(configs=[{"BLOCK": 32}, {"BLOCK": 64, "num_warps": 8}, {"num_warps": 2}]), SM_90)
    assert plan.constexprs[2].role == abi.CONSTEXPR_TUNED
    assert [v.name for v in plan.variants[:3]] == [
        "FLAGTrue.BLOCK32.w4",
        "FLAGTrue.BLOCK64.w8",
        "FLAGTrue.BLOCK64.w2",
    ]


@pytest.mark.parametrize(
    ("signature", "names", "ones", "nulls", "divisible"),
    [
        ({"n": "i32:1"}, ["w4"], [{2}], [set()], [set()]),
        ({"n": "i32:1?"}, ["w4.one_n", "w4"], [{2}, set()], [set()] * 2, [set()] * 2),
        ({"src": "*fp32:none"}, ["w4"], [set()], [{1}], [set()]),
        ({"src": "*fp32:none?"}, ["w4.none_src", "w4"], [set()] * 2, [{1}, set()], [set()] * 2),
        ({"dst": "*fp32:16"}, ["w4"], [set()], [set()], [{0}]),
        (
            {"dst": "*fp32:16", "src": "*fp32:16?:none?"},
            ["w4.none_src", "w4.a16", "w4"],
            [set()] * 3,
            [{1}, set(), set()],
            [{0}, {0, 1}, {0}],
        ),
        (
            {"n": "i32:16?:1?", "dst": "*fp32:16?"},
            ["w4.a16.one_n", "w4.one_n", "w4.a16", "w4"],
            [{2}, {2}, set(), set()],
            [set()] * 4,
            [{0}, set(), {0, 2}, set()],
        ),
    ],
)
def test_hints_make_variants_the_most_special_first(signature, names, ones, nulls, divisible):
    base = {"dst": "*fp32", "src": "*fp32", "n": "i32", "alpha": "fp32"}
    plan = expand(copy(signature={**base, **signature}, constexprs={"ROWS": 4, "FLAG": True}), SM_90)
    assert [variant.name for variant in plan.variants] == names
    assert [set(variant.equal_1) for variant in plan.variants] == ones
    assert [set(variant.null) for variant in plan.variants] == nulls
    assert [set(variant.divisible_16) for variant in plan.variants] == divisible


def test_configs_may_ask_for_the_target_and_keep_its_order():
    def configs(target: Target):
        warps = (1, 2, 4) if target.warp_size == 64 else (1, 8, 4)
        return [config({"BLOCK": 64}, num_warps=w) for w in warps]

    plan = expand(softmax(types={"T": ["fp16"]}, configs=configs), BOTH)
    special = [variant for variant in plan.variants if variant.divisible_16]
    for_each = {t.name: [v.options[1][1] for v in special if t in v.targets] for t in BOTH}
    assert for_each == {"gfx90a": [1, 2, 4], "sm_90": [1, 8, 4]}
    assert {v.options[1][1]: len(v.targets) for v in special} == {1: 2, 2: 1, 4: 2, 8: 1}


def test_a_variant_that_no_call_can_reach_is_left_out():
    plan = expand(
        copy(
            constexprs={"ROWS": [16, 64], "FLAG": True},
            configs=[{"BLOCK": 32}, {"BLOCK": 128}],
            guard=lambda ROWS, BLOCK: BLOCK >= ROWS,
        ),
        SM_90,
    )
    assert [variant.name for variant in plan.variants] == [
        "ROWS16.BLOCK32.w4",
        "ROWS16.BLOCK128.w4",
        "ROWS64.BLOCK128.w4",
    ]
    assert all(variant.guard is None for variant in plan.variants)
    with pytest.raises(kpack.SpecError, match=r"copy: overload 1000: .*all guards are false"):
        expand(copy(constexprs={"ROWS": [1000], "FLAG": True}, guard="BLOCK >= ROWS"), SM_90)


@pytest.mark.parametrize(
    ("value", "name", "type_"),
    [
        (True, "True", abi.I1),
        (-1, "-1", abi.I64),
        (0.5, "0.5", abi.FP64),
        ("ieee", "ieee", abi.STRING),
        ("a b/c", "a_b_c", abi.STRING),
        (None, "None", abi.NONE),
        (DType("bf16"), "bf16", abi.DTYPE),
    ],
)
def test_a_selected_constexpr_may_be_any_value(value, name, type_):
    plan = expand(copy(constexprs={"ROWS": [value], "FLAG": 1}), SM_90)
    assert plan.variants[0].name == f"ROWS{name}.w4"
    assert plan.variants[0].entry.isidentifier()
    assert plan.overloads[0].types[-1] == type_


def test_triton_dtypes_and_constexprs_are_known_by_their_shape():
    tl = pytest.importorskip("triton.language")
    plan = expand(copy(constexprs={"ROWS": tl.bfloat16, "FLAG": tl.constexpr(3)}), SM_90)
    assert plan.variants[0].constexprs == (DType("bf16"), 3, 64)
    plan = expand(copy(constexprs={"ROWS": tl.int32, "FLAG": tl.uint8, "BLOCK": tl.int1}), SM_90)
    assert plan.variants[0].constexprs == (DType("i32"), DType("u8"), DType("i1"))


def test_names_are_unique_whatever_the_values():
    plan = expand(copy(constexprs={"ROWS": ["a b", "a/b", "a_b", "a.b"], "FLAG": 1}), SM_90)
    names = [variant.name for variant in plan.variants]
    entries = [variant.entry for variant in plan.variants]
    assert len(set(names)) == len(set(entries)) == 4


def test_a_name_that_ends_like_a_number_keeps_its_end():
    configs = [{"mode": mode} for mode in ("a", "z__1", "z.__1", "z_.1", "a.2")]
    plan = expand(copy(constexprs={"ROWS": 1, "FLAG": 1}, configs=configs), SM_90)
    assert [variant.entry.partition("_mode")[2] for variant in plan.variants] == [
        "a",
        "z__1",
        "z___1",
        "z__1__2",
        "a_2",
    ]
    assert len({variant.name for variant in plan.variants}) == 5


def test_options_that_differ_show_in_the_name():
    configs = [config({}), config({}, num_stages=2), config({}, maxnreg=128)]
    plan = expand(copy(constexprs={"ROWS": 1, "FLAG": 1}, configs=configs), SM_90)
    assert [v.name for v in plan.variants] == ["w4.s3", "w4.s2", "w4.maxnreg128.s3"]


def test_options_of_a_config_go_before_the_kernels():
    plan = expand(
        copy(options={"num_warps": 2, "enable_fp_fusion": False}, configs=[{}, {"num_warps": 8}]), SM_90
    )
    assert plan.variants[0].options == (("enable_fp_fusion", False), ("num_warps", 2))
    assert plan.variants[1].options == (("enable_fp_fusion", False), ("num_warps", 8))


def test_the_order_of_dicts_changes_nothing():
    signature = {"alpha": "fp32", "n": "i32", "src": "*fp32", "dst": "*fp32"}
    one = expand(copy(), SM_90)
    other = expand(copy(signature=signature, constexprs={"FLAG": [True, False], "ROWS": 4}), SM_90)
    assert dataclasses.replace(one, kernel=other.kernel) == other


GOOD = {"dst": "*fp32", "src": "*fp32", "n": "i32", "alpha": "fp32"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"signature": {**GOOD, "scr": "*fp32"}},
            "'scr': expected an argument of copy_kernel: dst src n alpha, got 'scr'; did you mean 'src'?",
        ),
        (
            {"signature": {**GOOD, "ROWS": "i32"}},
            "signature 'ROWS': expected a run-time argument, got a constexpr; it belongs in",
        ),
        (
            {"signature": {"dst": "*fp32", "src": "*fp32", "n": "i32"}},
            "argument 'alpha': expected a type in signature=, got none",
        ),
        ({"signature": {**GOOD, "n": "i23"}}, "got 'i23'; did you mean 'i32'?"),
        (
            {"signature": {**GOOD, "n": "T"}},
            "got 'T'; a type variable has its choices in types={'T': [...]}",
        ),
        ({"signature": {**GOOD, "dst": "*float16"}}, "got 'float16'; did you mean 'fp16'?"),
        (
            {"signature": {**GOOD, "n": "i32:8"}},
            "argument 'n': hint: expected one of 16 16? 1 1? none none?, got '8'",
        ),
        (
            {"signature": {**GOOD, "alpha": "fp32:16"}},
            "argument 'alpha': hint '16': expected an integer or a pointer, got 'fp32:16'",
        ),
        (
            {"signature": {**GOOD, "dst": "*fp32:1"}},
            "argument 'dst': hint '1': expected an integer, got '*fp32:1'",
        ),
        (
            {"signature": {**GOOD, "n": "i32:none?"}},
            "argument 'n': hint 'none?': expected a pointer, got 'i32:none?'",
        ),
        (
            {"signature": {**GOOD, "n": "i32:16:16?"}},
            "argument 'n': hint '16?': expected it once, got 'i32:16:16?'",
        ),
        ({"signature": {**GOOD, "n": "i32:1:16"}}, "1 is not divisible by 16"),
        (
            {"signature": {**GOOD, "n": "const i32"}},
            "argument 'n': expected const on a pointer only, got 'const i32'",
        ),
        (
            {"signature": {**GOOD, "n": "i32 x"}},
            "argument 'n': expected '[const ][*]type[:hint]', got 'i32 x'",
        ),
        ({"signature": {**GOOD, "n": 32}}, "argument 'n': expected '[const ][*]type[:hint]', got 32"),
        ({"types": {"T": ["fp16"]}}, "type variable 'T': expected an argument of that type, got none"),
        ({"types": {"T": []}}, "type variable 'T': expected a list of types, got []"),
        ({"types": {"T": "fp16"}}, "type variable 'T': expected a list of types, got 'fp16'"),
        ({"types": {"T": ["half"]}}, "got 'half'; did you mean 'fp16'?"),
        ({"types": {"i32": ["fp16"]}}, "type variable 'i32': expected a name of its own"),
        (
            {"types": {"T": ["fp16", "fp16"]}},
            "type variable 'T': expected each type once, got ['fp16', 'fp16']",
        ),
        (
            {"types": {"T": ["i32", "i64"]}, "signature": {**GOOD, "n": "T"}},
            "types i64: expected a choice that a call can tell from i32",
        ),
        (
            {"constexprs": {"ROWS": 4}},
            "'FLAG': expected a value in constexprs= or in every config, got none",
        ),
        (
            {"constexprs": {"ROWS": 4}, "configs": [{"FLAGS": 1}]},
            "got none in configs[0]; did you mean 'FLAGS'?",
        ),
        (
            {"constexprs": {"ROWS": 4, "FLAG": 1, "m": 3}},
            "'m': expected a parameter of copy_kernel: dst src n alpha ROWS FLAG BLOCK, got 'm'",
        ),
        (
            {"constexprs": {"ROWS": 4, "FLAG": 1, "n": 3}},
            "argument 'n': expected a type in signature= or a constant, got both; a constant leaves the call",
        ),
        (
            {"constexprs": {"ROWS": [], "FLAG": 1}},
            "constexpr 'ROWS': expected one or more different values, got []",
        ),
        (
            {"constexprs": {"ROWS": [1, 1], "FLAG": 1}},
            "constexpr 'ROWS': expected one or more different values, got [1, 1]",
        ),
        (
            {"constexprs": {"ROWS": [object, int], "FLAG": 1}},
            "'ROWS': expected values that a call can pass, got object; give it alone, or make a kernel for each",
        ),
        (
            {"constexprs": {"ROWS": [(1, 2)], "FLAG": 1}},
            "constexpr 'ROWS': expected values that a call can pass, got (1, 2)",
        ),
        (
            {"constexprs": {"ROWS": [1, 2**64], "FLAG": 1}},
            f"constexpr 'ROWS': expected values that a call can pass, got {2**64}",
        ),
        (
            {"configs": [{"ROWS": 3}]},
            "configs[0] 'ROWS': expected it in constexprs= or in configs=, got it in both",
        ),
        (
            {"configs": [{"BLOCK": 3}, {"BLOCK": 3}]},
            "configs[1]: expected each config once, got a repetition of configs[0]",
        ),
        ({"configs": [{"num_warps": 3}]}, "configs[0] 'num_warps': expected a power of two, got 3"),
        ({"configs": [3]}, "configs[0]: expected a triton.Config or a dict, got 3"),
        ({"configs": [{3: 4}]}, "configs[0]: expected names of constexprs and options, got 3"),
        ({"configs": 3}, "configs: expected a list of configs, or a callable of the target, got 3"),
        (
            {"configs": {"BLOCK": 3}},
            "configs: expected a list of configs, or a callable of the target, got {",
        ),
        (
            {"configs": (c for c in ())},
            "configs: expected a list of configs, or a callable of the target, got",
        ),
        ({"signature": "*fp32"}, "signature: expected a dict with a name for each key, got '*fp32'"),
        ({"types": ["fp16"]}, "types: expected a dict with a name for each key, got ['fp16']"),
        ({"types": {"T": 3}}, "type variable 'T': expected a list of types, got 3"),
        ({"types": {"T": [["fp16"]]}}, "type variable 'T': expected a list of types, got [['fp16']]"),
        ({"constexprs": 3}, "constexprs: expected a dict with a name for each key, got 3"),
        ({"options": 3}, "options: expected a dict with a name for each key, got 3"),
        ({"options": {3: 4}}, "options: expected a dict with a name for each key, got {3: 4}"),
        ({"options": {"num_warps": True}}, "options 'num_warps': expected a power of two, got True"),
        ({"args": 3}, "args: expected a dict with a name for each key, got 3"),
        ({"args": {"dst": Arg([])}}, "args 'dst': direction: expected 'in', 'out' or 'inout', got []"),
        ({"args": {"n": Arg(least="1")}}, "args 'n': least: expected an integer of 64 bits, got '1'"),
        ({"args": {"n": Arg(most=2**63)}}, f"args 'n': most: expected an integer of 64 bits, got {2**63}"),
        ({"args": {"n": Arg(least=True)}}, "args 'n': least: expected an integer of 64 bits, got True"),
        (
            {"args": {"n": Arg(least=2, most=1)}},
            "args 'n': least and most: expected least <= most, got 2 and 1",
        ),
        (
            {"constexprs": {"ROWS": DType("fp15"), "FLAG": 1}},
            "constexpr 'ROWS': expected a type among i1 i8",
        ),
        (
            {"signature": {**GOOD, "alpha": "fp8e5"}},
            "argument 'alpha': expected a pointer or another type, got 'fp8e5'; Triton's launchers pass no fp8",
        ),
        (
            {"types": {"T": ["fp16", "fp8e4nv"]}, "signature": {**GOOD, "alpha": "T"}},
            "argument 'alpha': expected a pointer or another type, got 'T'; Triton's launchers pass no fp8",
        ),
        ({"guard": "m > 0"}, "guard: expected names among BLOCK FLAG ROWS n, got 'm'"),
        (
            {"grid": "n_rows", "guard": lambda n_row: n_row > 0},
            "guard: expected names among BLOCK FLAG ROWS n n_rows, got 'n_row'; did you mean 'n_rows'?",
        ),
        (
            {"configs": [config({}, ir_override="x.ttir")]},
            "configs[0]: expected a config without ir_override, got one; build the IR file itself",
        ),
        (
            {"options": {"BLOCK": 3}},
            "options 'BLOCK': expected a compiler option, got a constexpr of the kernel",
        ),
        ({"grid": None}, "grid: expected an expression, or a lambda of up to three, got none"),
        ({"grid": lambda n: n / 2}, "grid: expected integers only, got a true division"),
        ({"grid": lambda meta: meta["BLOCK"]}, "grid: expected a parameter for each name, got an index"),
        ({"guard": lambda dst: dst > 0}, "guard: expected an integer, got 'dst'; kpack.sizeof(dst) is"),
        ({"guard": "alpha > 0"}, "guard: expected names among"),
        ({"name": "a-b"}, "name: kernel name: expected a C identifier, got 'a-b'"),
        ({"args": {"m": Arg("in")}}, "args 'm': expected one of dst src n alpha FLAG, got 'm'"),
        ({"args": {"n": Arg("in")}}, "args 'n': direction and extent: expected a pointer, got a value"),
        ({"args": {"dst": Arg("inn")}}, "args 'dst': direction: expected 'in', 'out' or 'inout', got 'inn'"),
        (
            {"args": {"dst": {"direct": "in"}}},
            "args 'dst': expected an Arg or a dict of direction least most key extent",
        ),
        (
            {"args": {"dst": {"extent": "n * ROWS"}}},
            "args 'dst': extent: expected names among FLAG n, got 'ROWS'",
        ),
    ],
)
def test_a_mistake_is_refused_with_subject_expected_and_got(changes, line):
    given = {"signature": GOOD, "constexprs": {"ROWS": 4, "FLAG": [True, False]}, "grid": "n", "name": "copy"}
    with pytest.raises(kpack.SpecError) as raised:
        kpack.Kernel(jit(copy_kernel), **{**given, **changes})
    assert line in str(raised.value)


# ---- host tensor descriptors


def move_kernel(out, source, n, ROWS, COLUMNS, MODE=0):
    pass


MOVED = {"out": "tensordesc<T[ROWS, COLUMNS]>", "source": "tensordesc < fp16 [ 16,COLUMNS ] >", "n": "i32"}


def move(**changes):
    given = {
        "signature": MOVED,
        "types": {"T": ["fp16", "fp32"]},
        "constexprs": {"ROWS": [8, 16]},
        "configs": [config({"COLUMNS": 64}), config({"COLUMNS": 128})],
        "grid": "rows",
    }
    return kpack.Kernel(jit(move_kernel), "move", **{**given, **changes})


def test_each_variant_has_its_own_box():
    plan = expand(move(), SM_90)
    assert [variant.arguments[:2] for variant in plan.variants] == [
        (
            ("out", f"tensordesc<{element}[{rows},{columns}]>"),
            ("source", f"tensordesc<fp16[16,{columns}]>"),
        )
        for element in ("fp16", "fp32")
        for rows in (8, 16)
        for columns in (64, 128)
    ]


def test_the_type_of_a_descriptor_is_its_elements():
    plan = expand(move(), SM_90)
    half, single = abi.TENSORDESC | abi.FP16, abi.TENSORDESC | abi.FP32
    assert [overload.types[:2] for overload in plan.overloads] == [
        (half, half),
        (half, half),
        (single, half),
        (single, half),
    ]
    out, source, _, *_ = plan.params
    assert (out.type, source.type) == (abi.VARIES, half)
    assert (source.least, source.most, source.const, source.nullable) == (0, 0, False, False)


def test_a_direction_may_be_said_of_a_descriptor():
    plan = expand(move(args={"out": Arg("out"), "source": {"direction": "in"}}), SM_90)
    assert [param.direction for param in plan.params[:2]] == [abi.DIRECTION_OUT, abi.DIRECTION_IN]


def test_descriptors_of_different_elements_are_different_calls():
    same = {**MOVED, "out": "tensordesc<fp16[ROWS, COLUMNS]>", "n": "T"}
    with pytest.raises(kpack.SpecError, match="types i64: expected a choice that a call can tell from i32"):
        move(signature=same, types={"T": ["i32", "i64"]})
    assert len(expand(move(types={"T": ["i32", "i64"]}), SM_90).overloads) == 4


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tensordesc", "expected 'tensordesc<type[size, ...]>', got 'tensordesc'"),
        ("tensordesc<fp16>", "expected 'tensordesc<type[size, ...]>', got 'tensordesc<fp16>'"),
        ("tensordesc<fp16[8,8]", "expected 'tensordesc<type[size, ...]>', got 'tensordesc<fp16[8,8]'"),
        ("tensordesc<*fp16[8,8]>", "expected 'tensordesc<type[size, ...]>', got 'tensordesc<*fp16[8,8]>'"),
        ("tensordesc<fp16[]>", "expected a number or a constexpr of move_kernel as size: ROWS COLUMNS MODE, got ''"),
        ("tensordesc<fp16[8,]>", "as size: ROWS COLUMNS MODE, got ''"),
        ("tensordesc<fp16[-8]>", "as size: ROWS COLUMNS MODE, got '-8'"),
        ("tensordesc<fp16[n]>", "as size: ROWS COLUMNS MODE, got 'n'"),
        ("tensordesc<fp16[ROW]>", "got 'ROW'; did you mean 'ROWS'?"),
        ("tensordesc<fp16[8, 24]>", "argument 'out': expected a power of two as size of a dimension, got 24"),
        ("tensordesc<fp16[0, 8]>", "argument 'out': expected a power of two as size of a dimension, got 0"),
        ("tensordesc<fp16[1,1,1,1,1,8]>", "expected 1 to 5 dimensions, got 6 in '[1,1,1,1,1,8]'"),
        ("tensordesc<float16[8,8]>", "got 'float16'; did you mean 'fp16'?"),
        ("tensordesc<void[8,8]>", "expected a type among T i1 i8"),
        ("tensordesc<U[8,8]>", "got 'U'; a type variable has its choices in types={'U': [...]}"),
        ("tensordesc<i1[8,8]>", "expected elements of whole bytes, got i1 in 'tensordesc<i1[8,8]>'"),
        ("const tensordesc<fp16[8,8]>", "expected a tensor descriptor without const, '*' and hints, got 'const"),
        ("*tensordesc<fp16[8,8]>", "expected a tensor descriptor without const, '*' and hints, got '*tensor"),
        ("tensordesc<fp16[8,8]>:16", "without const, '*' and hints, got 'tensordesc<fp16[8,8]>:16'"),
        ("tensordesc<fp16[8,8]>:none?", "without const, '*' and hints, got 'tensordesc<fp16[8,8]>:none?'"),
        ("tensordesc_im2col<fp16[8,8],input_rank=4>", "a descriptor for im2col is not built yet"),
        ("tensordesc<fp16[8,8],NVMMASharedLayout()>", "descriptor without a layout, which is Gluon's"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_descriptor_is_refused(text, line):
    with pytest.raises(kpack.SpecError) as raised:
        move(signature={**MOVED, "out": text, "n": "T"}, types={"T": ["i32"]})
    assert line in str(raised.value)
    assert all(line.startswith("move: argument 'out': ") for line in str(raised.value).splitlines())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"constexprs": {"ROWS": 24}}, "argument 'out': expected a power of two as size of a dimension, got ROWS=24"),
        ({"constexprs": {"ROWS": [8, True]}}, "a power of two as size of a dimension, got ROWS=True"),
        ({"constexprs": {"ROWS": "many"}}, "a power of two as size of a dimension, got ROWS='many'"),
        ({"configs": [{"COLUMNS": -64}]}, "argument 'source': expected a power of two as size of a dimension, got COL"),
        ({"guard": lambda source: source > 0}, "guard: expected integers of the call, got 'source', a tensor desc"),
        ({"guard": "n < out"}, "guard: expected integers of the call, got 'out', a tensor descriptor; name what"),
        ({"grid": lambda out: out}, "grid: expected integers of the call, got 'out', a tensor descriptor"),
        ({"grid": ("n", "source")}, "grid: expected integers of the call, got 'source', a tensor descriptor"),
        ({"args": {"out": Arg(extent="n")}}, "args 'out': extent: expected a pointer, got a tensor descriptor"),
        ({"args": {"out": Arg(least=1)}}, "args 'out': least and most: expected an integer, got another type"),
        ({"args": {"n": Arg(extent="out")}}, "expected names among ROWS n rows, got 'out'"),
        ({"args": {"n": Arg(extent="n")}}, "args 'n': direction and extent: expected a pointer, got a value"),
    ],
)  # fmt: skip
def test_a_descriptor_is_no_number(changes, line):
    with pytest.raises(kpack.SpecError) as raised:
        expand(move(**changes), SM_90)
    assert line in str(raised.value)


def test_all_mistakes_come_together():
    with pytest.raises(kpack.SpecError) as raised:
        copy(
            signature={"dst": "*fp31", "scr": "*fp32", "n": "i32:4", "alpha": "fp32"},
            grid="m m",
            options={"num_warps": 5},
        )
    lines = str(raised.value).splitlines()
    assert len(lines) == 6 and all(line.startswith("copy: ") for line in lines)


@pytest.mark.parametrize(
    ("changes", "subjects"),
    [
        ({"guard": "n >"}, ["guard"]),
        ({"guard": lambda *values: 1}, ["guard"]),
        ({"grid": "rows *", "guard": "rows > 0", "args": {"rows": {"least": 1}}}, ["grid"]),
        ({"grid": "rows *", "guard": "rows >", "configs": [3]}, ["configs[0]", "grid", "guard"]),
    ],
)
def test_an_expression_that_does_not_parse_is_one_mistake(changes, subjects):
    with pytest.raises(kpack.SpecError) as raised:
        copy(**changes)
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == subjects


ODD = [3, 0.5, True, "x y", b"", [], [[]], [{}], (), {}, {3: 4}, {"n": []}, {"dst": {}}, object(), None]
FIELDS = ["signature", "types", "configs", "constexprs", "guard", "grid", "options", "args", "cases"]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
@pytest.mark.parametrize("field", FIELDS)
def test_whatever_is_given_the_answer_is_a_sentence(field, odd):
    try:
        expand(copy(**{field: odd}), SM_90)
    except kpack.SpecError as error:
        assert all(": expected " in line for line in str(error).splitlines())


class Interpreted:
    """What kpack knows of a function under @triton.jit with TRITON_INTERPRET=1."""

    def __init__(self, function):
        self.fn = function
        self.arg_names = list(function.__code__.co_varnames[: function.__code__.co_argcount])


def test_a_kernel_for_the_interpreter_is_declared_and_not_built():
    def double_kernel(out_ptr, n, BLOCK: tl.constexpr = 64):  # noqa: F821
        pass

    given = {"signature": {"out_ptr": "*fp32", "n": "i32"}, "grid": "n"}
    kernel = kpack.Kernel(Interpreted(double_kernel), "twice", **given)
    assert kernel.fn.fn is double_kernel
    with pytest.raises(kpack.SpecError, match="twice: kernel: expected a function to compile, got one for"):
        expand(kernel, SM_90)
    with pytest.raises(kpack.SpecError, match="twice: argument 'n': expected a type in signature="):
        kpack.Kernel(Interpreted(double_kernel), "twice", **{**given, "signature": {"out_ptr": "*fp32"}})


def test_what_is_no_jit_function_is_refused():
    with pytest.raises(kpack.SpecError, match=r"decorated with @triton.jit, alone or under .*, got function"):
        kpack.Kernel(softmax_kernel, grid=1)


def test_mistakes_that_depend_on_the_target_name_it():
    kernel = softmax(configs=lambda target: [] if target.warp_size == 64 else [{"BLOCK": 3, "num_warps": 3}])
    with pytest.raises(kpack.SpecError) as raised:
        expand(kernel, BOTH)
    assert "softmax: configs(gfx90a): expected one or more configs, got none" in str(raised.value)
    assert "softmax: configs(sm_90)[0] 'num_warps': expected a power of two, got 3" in str(raised.value)


def test_a_guard_may_not_ask_a_constexpr_that_is_no_integer():
    with pytest.raises(kpack.SpecError, match="guard: 'ROWS': expected an integer constexpr, got 'x'"):
        expand(copy(constexprs={"ROWS": "x", "FLAG": 1}, guard="ROWS > n"), SM_90)


def test_types_that_are_no_list_are_one_mistake():
    with pytest.raises(kpack.SpecError) as raised:
        copy(signature={**GOOD, "src": "*T", "dst": "*T"}, types={"T": "fp32"})
    lines = str(raised.value).splitlines()
    assert len(lines) == 1 and "expected a list of types, got 'fp32'; write ['fp32']" in lines[0]


# ---- cases


def cases(*given, **changes):
    base = {"signature": GOOD, "constexprs": {"ROWS": 4, "FLAG": True}, "grid": "n"}
    return kpack.Kernel(jit(copy_kernel), "copy", cases=list(given), **{**base, **changes})


def test_cases_are_built_instead_of_a_product():
    halves = {"signature": {"dst": "*fp16", "src": "*fp16"}, "constexprs": {"BLOCK": 32}}
    singles = {"options": {"num_warps": 8}}
    plan = expand(cases(halves, singles), SM_90)
    assert [variant.name for variant in plan.variants] == ["fp16.BLOCK32.w4", "fp32.BLOCK64.w8"]
    assert [variant.arguments[0] for variant in plan.variants] == [("dst", "*fp16"), ("dst", "*fp32")]
    # BLOCK differs: by its default in the second case.
    assert [(param.name, param.kind) for param in plan.params[4:]] == [("BLOCK", abi.PARAM_SELECTED)]
    assert [overload.selected for overload in plan.overloads] == [(32,), (64,)]
    assert [c.role for c in plan.constexprs] == [abi.CONSTEXPR_FIXED] * 2 + [abi.CONSTEXPR_SELECTED]


def test_cases_of_one_call_are_alternatives_the_most_special_first():
    plan = expand(
        cases(
            {"configs": [{"BLOCK": 32}, {"BLOCK": 64}]},
            {"signature": {"n": "i32:16"}, "configs": [{"BLOCK": 128}]},
            {"signature": {"src": "*fp32:none"}, "configs": [{"BLOCK": 32}]},
            {"signature": {"n": "i32:1"}, "configs": [{"BLOCK": 32}]},
            {"configs": [{"BLOCK": 64}]},
        ),
        SM_90,
    )
    assert [(variant.name, variant.overload) for variant in plan.variants] == [
        ("BLOCK32.w4.none_src", 0),
        ("BLOCK32.w4.one_n", 0),
        ("BLOCK128.w4.a16", 0),
        ("BLOCK32.w4", 0),
        ("BLOCK64.w4", 0),
    ]
    assert [param.nullable for param in plan.params] == [False, True, False, False]


@pytest.mark.parametrize(
    ("nulls", "guards"),
    [
        (["", "s", "d", "sd"], ["", "", "", ""]),
        (["", "s", "d"], ["dst >= 1", "src >= 1", "dst >= 1 and src >= 1"]),
        (["", "s"], ["", ""]),
        (["", "s16"], ["", "src >= 1"]),
        (["s", "d"], ["dst >= 1", "src >= 1"]),
    ],
)
def test_a_pointer_that_is_none_in_some_cases_is_followed_in_none_of_them(nulls, guards):
    def case(null):
        hints = {"dst": ":none" * ("d" in null), "src": ":none" * ("s" in null), "n": ":16" * ("16" in null)}
        return {"signature": {name: GOOD[name] + hint for name, hint in hints.items()}}

    plan = expand(cases(*map(case, nulls)), SM_90)
    assert sorted(str(variant.guard or "") for variant in plan.variants) == sorted(guards)
    assert plan.guard_text == " and ".join(
        f"{p.name} not null" for p in plan.params if p.nullable and any(guards)
    )
    nullable = {number for number, param in enumerate(plan.params) if param.nullable}
    for null in (set(), nullable & {0}, nullable & {1}, nullable):
        values = {"dst": 0 not in null, "src": 1 not in null}
        fits = (v for v in plan.variants if v.null <= null and not v.divisible_16)
        first = next((v for v in fits if v.guard is None or v.guard.evaluate(values)), None)
        assert first is None or first.null == null


def test_a_case_that_is_another_again_adds_nothing():
    plan = expand(cases({}, {}, {"constexprs": {"ROWS": 4}}), SM_90)
    assert [variant.name for variant in plan.variants] == ["w4"]


def test_a_case_may_have_choices_of_its_own():
    plan = expand(cases({"constexprs": {"FLAG": [True, False]}}, {"signature": {"dst": "*fp16"}}), SM_90)
    assert [(v.name, v.overload) for v in plan.variants] == [
        ("fp32.FLAGTrue.w4", 0),
        ("fp32.FLAGFalse.w4", 1),
        ("fp16.FLAGTrue.w4", 2),
    ]


def test_a_pointer_is_const_if_it_is_in_every_case():
    one, other = {"signature": {"src": "const *fp32"}}, {"signature": {"src": "const *fp16"}}
    assert expand(cases(one, other), SM_90).params[1].const
    assert not expand(cases(one, {"signature": {"src": "*fp16"}}), SM_90).params[1].const


def test_cases_may_tell_targets_apart():
    def configs(target: Target):
        return [config({"BLOCK": target.warp_size})]

    plan = expand(cases({"configs": configs}, {"configs": [config({"BLOCK": 64})]}), BOTH)
    assert {v.name: [t.name for t in v.targets] for v in plan.variants} == {
        "BLOCK64.w4": ["gfx90a", "sm_90"],
        "BLOCK32.w4": ["sm_90"],
    }


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            [{}, {"signature": {"n": "i64"}}],
            "copy: cases[1]: expected a choice that a call can tell from cases[0], got the same call for both",
        ),
        (
            [{"constexprs": {"ROWS": object}}, {"constexprs": {"ROWS": (1, 2)}}],
            "copy: cases[0]: constexpr 'ROWS': expected values that a call can pass, got object; give it alone",
        ),
        ([{"signature": {"n": "i23"}}], "copy: cases[0]: argument 'n': expected a type among"),
        ([{"constexprs": {"n": 3}}], "copy: argument 'n': expected a type in signature= or a constant, got both"),
        (
            [{}, {"signature": {"n": ("i32", "i32")}}],
            "copy: cases[1]: arguments: expected one call for all cases: dst src n alpha, got dst src n_0 n_1 alpha",
        ),
        ([{"singature": {}}], "copy: cases[0]: case: expected signature constexprs options configs, got 'singature'"),
        ([{"options": 3}], "copy: cases[0]: options: expected a dict with a name for each key, got 3"),
        ([3], "copy: cases[0]: case: expected a dict of signature constexprs options configs, got 3"),
        ({"a": {}}, "copy: cases: expected a list of dicts, got {'a': {}}"),
        ([{"configs": [{"num_warps": 3}]}], "copy: cases[0]: configs[0] 'num_warps': expected a power of two"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_case_names_it(given, line):
    with pytest.raises(kpack.SpecError) as raised:
        kpack.Kernel(
            jit(copy_kernel), "copy", signature=GOOD, constexprs={"ROWS": 4, "FLAG": 1}, grid="n", cases=given
        )
    assert line in str(raised.value)
