"""Compiling without a GPU: what a variant means to Triton, what goes wrong, and how it is reported."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import triton
import triton.language as tl

import kpack
from kpack.compile import adapter, pool
from kpack.compile.pool import Job, compile_all, jobs_of
from kpack.image import Image, Tensordesc, why_unfit
from kpack.objfile import abi
from kpack.progress import progress_bar
from kpack.spec import DType, expand
from kpack.target import parse_target, parse_targets

HERE = Path(__file__).name


@triton.jit
def softmax_kernel(out_ptr, in_ptr, in_row_stride, out_row_stride, n_cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < n_cols
    x = tl.load(in_ptr + row * in_row_stride + cols, mask=inside, other=-float("inf")).to(tl.float32)
    powers = tl.exp(x - tl.max(x, axis=0))
    y = powers / tl.sum(powers, axis=0)
    tl.store(out_ptr + row * out_row_stride + cols, y.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def scale_kernel(out_ptr, in_ptr, bias_ptr, stride, n, DTYPE: tl.constexpr, BLOCK: tl.constexpr = 128):
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(in_ptr + cols * stride, mask=cols < n).to(DTYPE)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + cols, mask=cols < n).to(DTYPE)
    tl.store(out_ptr + cols, x.to(out_ptr.dtype.element_ty), mask=cols < n)


@triton.jit
def wrong_kernel(out_ptr, n, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    tl.store(out_ptr + cols, cols + nothing, mask=cols < n)  # noqa: F821


@triton.jit
def big_kernel(a_ptr, out_ptr, BLOCK: tl.constexpr):
    rows = tl.arange(0, BLOCK)
    offsets = rows[:, None] * BLOCK + rows[None, :]
    tl.store(out_ptr + offsets, tl.trans(tl.load(a_ptr + offsets)))


@triton.jit
def move_kernel(out, source, n, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    at = [tl.program_id(0) * ROWS, tl.program_id(1) * COLUMNS]
    out.store(at, (source.load(at) + n).to(out.dtype))


@triton.jit
def specialised_kernel(out, a, b, inner):
    total = tl.zeros((64, 64), tl.float32)
    for at in tl.range(0, inner, 64, warp_specialize=True):
        total = tl.dot(a.load([0, at]), b.load([at, 0]), total)
    out.store([0, 0], total.to(tl.float16))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def softmax(**changes) -> kpack.Kernel:
    given = {
        "name": "softmax",
        "signature": {
            "out_ptr": "*T:16?",
            "in_ptr": "const *T:16?",
            "in_row_stride": "i64:16?",
            "out_row_stride": "i64:16?",
            "n_cols": "i32",
        },
        "types": {"T": ["fp16"]},
        "configs": [triton.Config({"BLOCK": 1024}, num_warps=4)],
        "guard": lambda n_cols, BLOCK: n_cols <= BLOCK,
        "grid": lambda n_rows: (n_rows,),
    }
    return kpack.Kernel(softmax_kernel, **{**given, **changes})


def scale(**changes) -> kpack.Kernel:
    given = {
        "signature": {
            "out_ptr": "*fp16:16",
            "in_ptr": "*fp16:16",
            "bias_ptr": "*fp16:16:none?",
            "stride": "i32:1?",
            "n": "i32",
        },
        "constexprs": {"DTYPE": [tl.float32, DType("fp16")]},
        "grid": lambda n, BLOCK: triton.cdiv(n, BLOCK),
    }
    return kpack.Kernel(scale_kernel, "scale", **{**given, **changes})


def images_of(kernel: kpack.Kernel, *arch: str, **options) -> dict[tuple[str, str], Image]:
    jobs = jobs_of([expand(kernel, parse_targets(arch))])
    images = compile_all(jobs, **options)
    names = [(job.plan.variants[job.variant].name, job.target.name) for job in jobs]
    return dict(zip(names, images, strict=True))


def failures_of(kernel: kpack.Kernel, *arch: str, **options) -> tuple[kpack.Failure, ...]:
    with pytest.raises(kpack.CompileError) as raised:
        images_of(kernel, *arch, **options)
    for failure in raised.value.failures:
        assert failure.variant in str(raised.value) and failure.reason in str(raised.value)
    return raised.value.failures


# ---- what is compiled


def test_softmax_compiles_for_every_vendor_with_a_name_for_each_variant():
    images = images_of(softmax(), "sm_80", "sm_90", "ptx_80", "gfx90a", "gfx1100")
    assert len(images) == 10
    for (name, target), image in images.items():
        assert image.entry == f"softmax_{name.replace('.', '_')}"
        assert image.entry.encode() in image.code
        assert (image.target.name, image.num_warps) == (target, 4)
        assert image.cluster == (1, 1, 1) and image.shared_bytes > 0
        assert [slot.index for slot in image.layout if slot.source == abi.SLOT_ARGUMENT] == [0, 1, 2, 3, 4]
        assert image.flags == (abi.IMAGE_SCRATCH_PER_CTA if image.target.vendor == abi.VENDOR_CUDA else 0)


def test_alignment_makes_wide_loads():
    # The mask compares with n_cols: unless that is divisible, too, every element is loaded by itself.
    signature = {**dict(softmax().signature), "n_cols": "i32:16?"}
    images = images_of(softmax(signature=signature), "ptx_80")
    wide = b"st.global.v4"
    assert wide in images["fp16.BLOCK1024.w4.a16", "ptx_80"].code
    assert wide not in images["fp16.BLOCK1024.w4", "ptx_80"].code


def test_what_is_one_or_null_is_no_parameter_of_the_code():
    images = images_of(scale(), "sm_80", "gfx90a")
    indices = {
        name: [slot.index for slot in image.layout if slot.source == abi.SLOT_ARGUMENT]
        for (name, _), image in images.items()
    }
    assert indices == {
        f"DTYPE{dtype}.w4{suffix}": left
        for dtype in ("fp32", "fp16")
        for suffix, left in {
            ".none_bias_ptr.one_stride": [0, 1, 4],
            ".none_bias_ptr": [0, 1, 3, 4],
            ".one_stride": [0, 1, 2, 4],
            "": [0, 1, 2, 3, 4],
        }.items()
    }


def test_kernels_made_by_a_function_need_no_pickling():
    def make(block):
        @triton.jit
        def fill_kernel(out_ptr, n, VALUE: tl.constexpr):
            cols = tl.arange(0, 64)
            tl.store(out_ptr + cols, VALUE, mask=cols < n)

        return kpack.Kernel(
            fill_kernel,
            name=f"fill{block}",
            signature={"out_ptr": "*i32", "n": "i32"},
            constexprs={"VALUE": block},
            grid=lambda n: kpack.cdiv(n, block),
        )

    codes = {images_of(make(block), "ptx_80")["w4", "ptx_80"].code for block in (3, 5)}
    assert len(codes) == 2


def test_images_are_the_same_in_any_number_of_processes_and_whatever_the_environment(tmp_path, monkeypatch):
    arch = ("sm_90", "gfx90a")
    expected = images_of(softmax(), *arch, processes=2)
    monkeypatch.setenv("KPACK_CACHE_DIR", str(tmp_path / "other"))
    for name, value in {
        "DISABLE_LLVM_OPT": "1",
        "DISABLE_PTXAS_OPT": "1",
        "PTXAS_OPTIONS": "-O0",
        "TRITON_DEFAULT_FP_FUSION": "0",
        "TRITON_DISABLE_LINE_INFO": "0",
        "TRITON_KERNEL_OVERRIDE": "1",
        "TRITON_OVERRIDE_ARCH": "sm75",
        "AMDGCN_USE_BUFFER_OPS": "0",
    }.items():
        monkeypatch.setenv(name, value)
    assert images_of(softmax(), *arch, processes=1) == expected


def test_images_hold_no_path(tmp_path):
    for image in images_of(softmax(), "sm_80", "sm_90", "ptx_80", "gfx90a").values():
        for path in (str(Path(__file__).parent), "site-packages", "/tmp/", HERE):
            assert path.encode() not in image.code


def test_fp_fusion_is_on_unless_the_kernel_says_otherwise():
    def code(**options):
        images = images_of(scale(options=options), "ptx_80")
        return [image.code for image in images.values()]

    plan = expand(scale(), parse_targets(["sm_90", "gfx90a"]))
    assert adapter.provenance(plan, ())["pinned"]["enable_fp_fusion"] is True
    assert code() == code(enable_fp_fusion=True)


def test_the_provenance_names_versions_and_no_machine():
    targets = parse_targets(["sm_80", "sm_90", "gfx90a"])
    plan = expand(softmax(), targets)
    found = adapter.provenance(plan, targets)
    assert found["triton"] == triton.__version__
    assert found["source"].startswith(HERE)
    assert "release" in found["tools"]["sm_80"]
    assert found["options"]["fp16.BLOCK1024.w4"] == {"num_stages": 3, "num_warps": 4}
    assert "/" not in str({key: value for key, value in found.items() if key != "tools"})


def test_the_environment_keeps_only_what_changes_no_code(monkeypatch):
    for name in list(os.environ):
        if name.startswith("TRITON_"):
            monkeypatch.delenv(name)
    for name in (
        "TRITON_ALWAYS_COMPILE",
        "AMDGCN_ENABLE_DUMP",
        "DISABLE_MMA_V3",
        "USE_IR_LOC",
        "MLIR_ENABLE_DUMP",
    ):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TRITON_PTXAS_PATH", "/opt/ptxas")
    before = dict(os.environ)
    try:
        adapter.pin_environment()
        gone = before.keys() - os.environ.keys()
        added = os.environ.keys() - before.keys()
        assert gone == {
            "TRITON_ALWAYS_COMPILE",
            "AMDGCN_ENABLE_DUMP",
            "DISABLE_MMA_V3",
            "USE_IR_LOC",
            "MLIR_ENABLE_DUMP",
        }
        assert added == {"TRITON_DISABLE_LINE_INFO"}
    finally:
        os.environ.clear()
        os.environ.update(before)


# ---- what is refused


def test_an_option_that_no_backend_knows_is_refused_with_the_nearest():
    plan = expand(softmax(options={"num_stage": 3, "waves_per_eu": 2, "arch": "x"}), parse_targets("gfx90a"))
    with pytest.raises(kpack.SpecError) as raised:
        adapter.check([plan], parse_targets("gfx90a"))
    text = str(raised.value)
    assert "softmax: option 'num_stage': expected one of" in text
    assert "did you mean 'num_stages'?" in text and "option 'arch'" in text
    assert "option 'waves_per_eu'" not in text


def test_an_option_of_one_vendor_is_passed_over_by_the_other():
    options = {"waves_per_eu": 2, "maxnreg": 64}
    plan = expand(softmax(options=options), parse_targets(["gfx90a", "sm_90"]))
    adapter.check([plan], parse_targets(["gfx90a", "sm_90"]))
    variant = plan.variants[0]
    assert "waves_per_eu" not in adapter._options(plan, variant, parse_target("sm_90"))
    assert "maxnreg" not in adapter._options(plan, variant, parse_target("gfx90a"))


@pytest.mark.parametrize(
    ("arch", "instead"), [("gfx9-4-generic", "gfx942 gfx950"), ("gfx90a:sramecc+:xnack-", "gfx90a")]
)
def test_a_target_of_ready_made_code_is_refused_with_what_triton_compiles(arch, instead):
    targets = parse_targets(arch)
    with pytest.raises(kpack.SpecError) as raised:
        adapter.check([expand(softmax(), targets)], targets)
    assert str(raised.value) == (
        f"arch: expected what Triton compiles for, got '{arch}', which is for ready-made code; give {instead}"
    )


def test_a_release_of_unknown_convention_is_refused(monkeypatch):
    monkeypatch.setattr(triton, "__version__", "4.2.0")
    with pytest.raises(kpack.SpecError, match=r"triton: expected a release .* 3\.9, got 4\.2\.0"):
        adapter.check([], parse_targets("sm_90"))


def test_a_kernel_that_does_not_compile_is_reported_in_tritons_words():
    kernel = kpack.Kernel(
        wrong_kernel,
        signature={"out_ptr": "*T", "n": "i32"},
        types={"T": ["fp16", "fp32"]},
        constexprs={"BLOCK": 64},
        grid=1,
    )
    failures = failures_of(kernel, "sm_90", "gfx90a")
    assert [(failure.kernel, failure.variant, failure.target) for failure in failures] == [
        ("wrong_kernel", f"{type_}.w4", target)
        for type_ in ("fp16", "fp32")
        for target in ("sm_90", "gfx90a")
    ]
    for failure in failures:
        assert "tl.store(out_ptr + cols, cols + nothing, mask=cols < n)" in failure.reason
        assert "nothing is not defined" in failure.reason
        assert "Traceback" not in failure.reason


def test_more_threads_than_a_block_can_have_are_said_with_both_numbers():
    kernel = softmax(configs=[triton.Config({"BLOCK": 4096}, num_warps=32)])
    reasons = {
        target: why_unfit(image)
        for (variant, target), image in images_of(kernel, "gfx90a", "sm_90").items()
        if variant.startswith("fp16.")
    }
    assert reasons == {
        "gfx90a": "threads of a block: expected at most 1024, got 2048: 32 warps of 64; lower num_warps for gfx90a",
        "sm_90": "",
    }


def test_more_shared_memory_than_the_arch_has_is_said_with_both_numbers():
    kernel = kpack.Kernel(
        big_kernel,
        signature={"a_ptr": "*fp32:16", "out_ptr": "*fp32:16"},
        constexprs={"BLOCK": 256},
        options={"num_warps": 32},
        grid=1,
    )
    (image,) = images_of(kernel, "sm_86").values()
    assert re.match(
        r"shared memory of a block: expected at most 101376 bytes on sm_86, got \d{6}; use", why_unfit(image)
    )


# ---- host tensor descriptors


def move(box: str = "fp16[ROWS, COLUMNS]", rows: int = 128, columns: int = 128) -> kpack.Kernel:
    return kpack.Kernel(
        move_kernel,
        "move",
        signature={"out": f"tensordesc<{box}>", "source": f"tensordesc<{box}>", "n": "i32"},
        constexprs={"ROWS": rows, "COLUMNS": columns},
        grid=1,
    )


def shown(image: Image) -> list[tuple[int, int, int, int]]:
    """Source, parameter, dimension and bytes of each slot but the hidden ones, in order."""
    return [
        (slot.source, slot.index, slot.part, slot.size)
        for slot in sorted(image.layout, key=lambda slot: slot.offset)
        if slot.source not in (abi.SLOT_GLOBAL_SCRATCH, abi.SLOT_PROFILE_SCRATCH)
    ]


def shape_and_strides(param: int, shape_bytes: int) -> list[tuple[int, int, int, int]]:
    return [
        *((abi.SLOT_DESC_SHAPE, param, dimension, shape_bytes) for dimension in (0, 1)),
        *((abi.SLOT_DESC_STRIDE, param, dimension, 8) for dimension in (0, 1)),
    ]


@pytest.mark.parametrize(("arch", "first"), [("sm_90", 48), ("sm_100", 0)])
def test_a_descriptor_is_a_map_where_there_is_tma(arch, first):
    (image,) = images_of(move(), arch).values()
    maps = [slot.offset for slot in image.layout if slot.source == abi.SLOT_DESC_MAP]
    # A map is aligned to 64 in the constant bank, where the parameters of sm_90 begin at 0x210.
    assert maps == [first, first + 192]
    assert shown(image) == [
        *((abi.SLOT_DESC_MAP, 0, 0, 128), *shape_and_strides(0, 4)),
        *((abi.SLOT_DESC_MAP, 1, 0, 128), *shape_and_strides(1, 4)),
        (abi.SLOT_ARGUMENT, 2, 0, 4),
    ]
    # 128 elements of 2 bytes are more than the 128 bytes that a swizzle spans.
    assert image.tensordescs == tuple(
        Tensordesc(param, 2, abi.FP16, 2, box=(128, 64), swizzle=3) for param in (0, 1)
    )


@pytest.mark.parametrize("arch", ["sm_80", "ptx_80", "gfx90a", "gfx1100"])
def test_a_descriptor_is_its_parts_where_there_is_no_tma(arch):
    (image,) = images_of(move(rows=64, columns=64), arch).values()
    flags = adapter._release().desc_flags
    assert shown(image) == [
        slot
        for param in (0, 1)
        for slot in (
            (abi.SLOT_DESC_BASE, param, 0, 8),
            *shape_and_strides(param, 8),
            *((flag, param, 0, 1) for flag in flags),
            *shape_and_strides(param, 4),
        )
    ] + [(abi.SLOT_ARGUMENT, 2, 0, 4)]
    assert image.tensordescs == tuple(Tensordesc(param, 2, abi.FP16, 2, box=(64, 64)) for param in (0, 1))
    assert [slot.type for slot in image.layout[:2]] == [abi.POINTER | abi.FP16, abi.I64]


@pytest.mark.parametrize(
    ("minor", "flags"),
    [
        (4, []),
        *((minor, [abi.SLOT_DESC_NAN_PADDING]) for minor in (5, 6)),
        *((minor, [abi.SLOT_DESC_NAN_PADDING, abi.SLOT_DESC_ROUND_TF32]) for minor in (7, 8, 9)),
    ],
)
def test_the_flags_among_the_parts_are_the_releases(minor, flags):
    assert list(adapter._RELEASES[3, minor].desc_flags) == flags


@pytest.mark.parametrize(
    ("dtype", "code", "size", "box"),
    [
        ("bf16", abi.BF16, 2, (128, 64)),
        ("fp32", abi.FP32, 4, (128, 32)),
        ("i64", abi.I64, 8, (128, 16)),
        ("u8", abi.U8, 1, (128, 128)),
        ("i32", abi.I32, 4, (128, 32)),
    ],
)
def test_the_box_is_cut_to_what_a_swizzle_spans(dtype, code, size, box):
    (image,) = images_of(move(f"{dtype}[ROWS, COLUMNS]"), "sm_90").values()
    assert image.tensordescs[0] == Tensordesc(0, 2, code, size, box=box, swizzle=3)


def test_a_row_that_tma_cannot_move_is_refused():
    (failure,) = failures_of(move(rows=64, columns=4), "sm_90", "sm_80")
    assert (failure.target, failure.reason) == (
        "sm_90",
        "argument 'out': expected a multiple of 16 bytes along the last dimension of the block, got 4 elements of 2; "
        "TMA moves no less",
    )


def described(target: str, **facts):
    """What the adapter makes of one descriptor, "tensordesc<u8[64,128]>", and this of Triton's metadata."""
    plan = expand(move("u8[64,128]"), parse_targets([target]))
    meta = {
        "swizzle": 2,
        "elem_size": 1,
        "elem_type": 0,
        "block_size": [32, 64],
        "fp4_padded": False,
        **facts,
    }
    metadata = SimpleNamespace(tensordesc_meta=[meta, meta])
    types = plan.overloads[0].types
    found, are_maps = adapter._tensordescs(plan.variants[0], parse_target(target), types, metadata)
    assert are_maps
    return found[0]


@pytest.mark.parametrize(
    ("facts", "flags"),
    [
        ({}, 0),
        ({"is_im2col": False}, 0),
        ({"is_im2col": True}, abi.DESC_IM2COL),
        ({"fp4_padded": True}, abi.DESC_FP4_PADDED),
        ({"fp4_padded": True, "is_im2col": True}, abi.DESC_FP4_PADDED | abi.DESC_IM2COL),
    ],
)
def test_what_the_compiler_decided_is_in_the_image(facts, flags):
    assert described("sm_90", **facts) == Tensordesc(0, 2, abi.U8, 1, (32, 64), swizzle=2, flags=flags)


@pytest.mark.parametrize(
    ("target", "facts", "reason"),
    [
        ("gfx1250", {}, "expected a target that takes their parts or CUDA's tensor maps, got gfx1250, which takes TDM"),
        ("sm_90", {"elem_size": 2}, "argument 'out': expected elements of 1 bytes, got 2 by the compiler"),
    ],
)  # fmt: skip
def test_what_no_launch_could_pass_is_refused(target, facts, reason):
    with pytest.raises(adapter.Misfit, match=reason):
        described(target, **facts)


def test_the_warps_of_an_image_are_those_that_the_compiler_chose():
    kernel = kpack.Kernel(
        specialised_kernel,
        signature=dict.fromkeys(("out", "a", "b"), "tensordesc<fp16[64, 64]>") | {"inner": "i32"},
        options={"num_warps": 4, "num_stages": 2},
        grid=1,
    )
    images = images_of(kernel, "sm_80", "sm_90", "sm_100")
    warps = {target: image.num_warps for (_, target), image in images.items()}
    # To the 4 that were asked for come those that load, and those that multiply on sm_90.
    assert warps["sm_80"] == 4 and warps["sm_90"] == 12 and warps["sm_100"] > 4
    assert {image.max_threads for image in images.values()} == {32 * number for number in warps.values()}


# ---- processes


def crash(job: Job) -> Image:
    if job.variant == 1:
        print("error: about to crash", flush=True)
        os.abort()
    return _image(job)


def hang(job: Job) -> Image:
    if job.variant == 0:
        time.sleep(60)
    return _image(job)


def _image(job: Job) -> Image:
    variant = job.plan.variants[job.variant]
    facts = dict.fromkeys(
        "shared_bytes static_shared_bytes registers spill_bytes local_bytes max_threads param_bytes".split(),
        0,
    )
    return Image(job.target, variant.entry, b"code", 4, 32, (1, 1, 1), layout=(), **facts)


def test_a_crash_of_the_compiler_costs_one_job():
    ended = []
    (failure,) = failures_of(
        softmax(types={"T": ["fp16", "bf16", "fp32"]}),
        "sm_90",
        compile=crash,
        done=lambda job, succeeded: ended.append((job.variant, succeeded)),
    )
    assert failure.variant == "fp16.BLOCK1024.w4"
    assert failure.reason == "the compiler crashed (SIGABRT)\nerror: about to crash"
    assert sorted(ended) == [(index, index != 1) for index in range(6)]


def test_a_hang_of_the_compiler_costs_one_job():
    started = time.monotonic()
    (failure,) = failures_of(softmax(), "sm_90", compile=hang, timeout_s=1)
    assert failure.variant == "fp16.BLOCK1024.w4.a16"
    assert failure.reason == "expected a result within 1 s, got none"
    assert time.monotonic() - started < 30


def test_results_keep_the_order_of_the_jobs():
    def slow_first(job):
        time.sleep(0.2 if job.variant == 0 else 0)
        return _image(job)

    images = images_of(
        softmax(types={"T": ["fp16", "bf16"]}), "sm_90", "sm_80", compile=slow_first, processes=2
    )
    assert [(f"softmax_{name.replace('.', '_')}", target) for name, target in images] == [
        (image.entry, image.target.name) for image in images.values()
    ]


def test_no_job_is_no_work():
    assert compile_all([]) == ()


def test_a_plan_is_not_changed_by_compiling_it():
    plan = expand(softmax(), parse_targets("ptx_80"))
    compile_all(jobs_of([plan]))
    assert replace(plan) == plan
    assert softmax_kernel.repr(None) != plan.variants[-1].entry


def test_progress_is_silent_where_there_is_no_terminal(capfd):
    with progress_bar("compiling", 2) as step:
        step("one", True)
    assert capfd.readouterr() == ("", "")
    with progress_bar("compiling", 2, show=True) as step:
        step("one", True)
        step("two", False)
    shown = capfd.readouterr().err
    assert "compiling" in shown and "2/2" in shown and "1 failed" in shown


def test_what_a_compiler_prints_is_cut_to_what_tells(tmp_path):
    log = tmp_path / "log"
    log.write_text("module {\n" * 500 + "x.py:3:4: error: unsupported layout\n" + "}\n" * 500)
    assert pool._with_log("failed", log) == "failed\nx.py:3:4: error: unsupported layout"
    log.write_text("one\n\ntwo\n")
    assert pool._with_log("two", log) == "two\none"
    assert pool._with_log("failed", tmp_path / "none") == "failed"


@pytest.mark.parametrize("dtype", [tl.int1, tl.int32, tl.uint8, tl.float16, tl.float8e5], ids=str)
def test_a_dtype_comes_back_as_itself(dtype):
    plan = expand(kernel_of(dtype), parse_targets("sm_90"))
    assert adapter._triton_value(plan.variants[0].constexprs[0]) is dtype


def kernel_of(dtype) -> kpack.Kernel:
    signature = {"out_ptr": "*fp32", "in_ptr": "*fp32", "bias_ptr": "*fp32", "stride": "i32", "n": "i32"}
    return kpack.Kernel(scale_kernel, signature=signature, constexprs={"DTYPE": dtype}, grid=1)
