"""What does not compile: how it is told, and a pack of the rest."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from packs import image, plan
from twice import BIAS

import kpack
from kpack.errors import CompileError, Failure
from kpack.image import Image
from kpack.objfile.reading import read_pack
from kpack.spec import Plan, Variant
from kpack.target import Target

KERNELS = """
import triton, triton.language as tl, kpack

@triton.jit
def inner(x, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK < 256, "BLOCK is too large")
    return x + BLOCK

@triton.jit
def fill_kernel(out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, inner(n, BLOCK), mask=at < n)

def fill(name, types, blocks, warps=2):
    return kpack.Kernel(
        fill_kernel,
        name=name,
        signature={"out_ptr": "*T", "n": "i32"},
        types={"T": types},
        configs=[{"BLOCK": block, "num_warps": warps} for block in blocks],
        guard="n <= BLOCK",
        grid=1,
    )

partly = fill("partly", ["fp32", "fp16"], [64, 256])
wide = kpack.Kernel(  # first with more threads than an AMD device takes
    fill_kernel,
    name="wide",
    signature={"out_ptr": "*T", "n": "i32"},
    types={"T": ["fp32"]},
    configs=[{"BLOCK": 64, "num_warps": warps} for warps in (32, 2)],
    grid=1,
)
never = fill("never", ["fp32"], [256])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("failures") / "fills.py"
    path.write_text(KERNELS)
    return path


@pytest.fixture(scope="module")
def pack(source: Path) -> kpack.Pack:
    return kpack.build(source, arch=["sm_80", "gfx90a"], name="tk", on_error="skip")


@pytest.fixture(scope="module")
def archive(pack: kpack.Pack, source: Path) -> Path:
    return pack.write(source.parent / "libtk.a")


TOO_LARGE = "fills.py:6: in inner: BLOCK is too large"

# ---- in words


def failure(reason: str, variant: str = "w4", target: str = "sm_90", source: str = "k.py:3") -> Failure:
    return Failure("softmax", variant, target, reason, source)


@pytest.mark.parametrize(
    ("reason", "summary"),
    [
        (
            "/home/me/my kernels/k.py:22: in softmax, at 3:24:\n  tl.store(p, f(a))\n              ^\n"
            "lib/part.py:18: in f, at 2:11:\n    return tl.sum(x, axis=7)\n           ^\n"
            "at 5:11:\ndef sum(input):\n    return core.reduce(input)\n           ^\n"
            "invalid axis 7\nValueError: invalid axis 7",
            "part.py:18: in f: invalid axis 7",
        ),
        (
            "PTXAS error: Internal Triton PTX codegen error\n`ptxas` stderr:\n"
            "ptxas /tmp/kpack-67d48k0l/tmp4cufjijs.ptx, line 28; error   : Unknown modifier '.foo'\n"
            "ptxas fatal   : Ptx assembly aborted due to errors",
            "PTXAS error: Internal Triton PTX codegen error: ptxas tmp.ptx, line 28; error : Unknown modifier '.foo'",
        ),
        (
            "the compiler crashed (SIGABRT)\nLLVM ERROR: Cannot select: 0x55d0c8b1e0a8: i32 = bitcast 0x10",
            "the compiler crashed (SIGABRT): LLVM ERROR: Cannot select: 0x...: i32 = bitcast 0x10",
        ),
        (
            "RuntimeError: failed\nkernels/deep/k.py:3:4: error: a/b of 1/2 is unsupported",
            "RuntimeError: failed: k.py:3:4: error: a/b of 1/2 is unsupported",
        ),
        ("shared memory of a block: expected 1, got 2", "shared memory of a block: expected 1, got 2"),
        ("one\ntwo", "one"),
        ("a\0b\udc80\tc", "a b? c"),
        ("x" * 301, "x" * 297 + "..."),
    ],
    ids=["triton", "ptxas", "llvm", "mlir", "kpack", "first", "bytes", "long"],
)
def test_a_reason_is_told_in_a_line_without_what_changes(reason: str, summary: str) -> None:
    assert failure(reason).summary == summary


def test_a_failure_names_its_kernel_variant_target_and_source_line() -> None:
    assert str(failure("no\nway")) == "softmax.w4 for sm_90 (k.py:3): no\nway"
    assert failure("no\nway").brief == "softmax.w4 for sm_90 (k.py:3): no"
    assert str(failure("no", source="")) == "softmax.w4 for sm_90: no"
    told = "a.py:9: in f, at 1:2:\n  x\n  ^\nno"
    assert str(failure(told)) == f"softmax.w4 for sm_90: {told}"


def test_failures_alike_are_told_together_each_by_name() -> None:
    error = CompileError(
        (
            failure("no\nin detail", "w4", "sm_80"),
            failure("no\nin other detail", "w4", "sm_90"),
            failure("never", "w2"),
            failure("no", "w8", "sm_90"),
        )
    )
    assert str(error).splitlines() == [
        "4 variants did not compile",
        "softmax.w4 for sm_80 (k.py:3): no",
        "in detail",
        "  likewise for sm_90: w4, w8",
        "softmax.w2 for sm_90 (k.py:3): never",
    ]
    assert len(error.failures) == 4


# ---- a pack with holes


def test_a_build_is_refused_with_all_failures_of_all_kernels(source: Path) -> None:
    with pytest.raises(CompileError) as raised:
        kpack.build(source, arch=["sm_80", "gfx90a"])
    failures = [(each.kernel, each.variant, each.target) for each in raised.value.failures]
    assert failures == [
        ("never", "fp32.BLOCK256.w2", "sm_80"),
        ("never", "fp32.BLOCK256.w2", "gfx90a"),
        ("partly", "fp32.BLOCK256.w2", "sm_80"),
        ("partly", "fp32.BLOCK256.w2", "gfx90a"),
        ("partly", "fp16.BLOCK256.w2", "sm_80"),
        ("partly", "fp16.BLOCK256.w2", "gfx90a"),
    ]
    for kernel in ("never", "partly"):
        assert f"\n{kernel}.fp32." in str(raised.value)
    assert f"{source}:6: in inner, at " in str(raised.value)  # Triton's words, with the source line


def test_what_did_compile_is_packed_and_the_rest_named(pack: kpack.Pack, archive: Path) -> None:
    assert len(pack.images) == 7 and len(pack.failures) == 7
    assert repr(pack).endswith("; 7 images for sm_80, gfx90a, 7 missing>")
    holes = {
        kernel.name: [
            (hole.name, kernel.targets[hole.target].name, hole.variant, hole.reason) for hole in kernel.holes
        ]
        for kernel in read_pack(archive).kernels
    }
    assert holes == {
        "never": [("fp32.BLOCK256.w2", target, None, TOO_LARGE) for target in ("sm_80", "gfx90a")],
        "partly": [
            (f"{type_}.BLOCK256.w2", target, None, TOO_LARGE)
            for type_ in ("fp32", "fp16")
            for target in ("sm_80", "gfx90a")
        ],
        "wide": [
            (
                "fp32.BLOCK64.w32",
                "gfx90a",
                0,
                "threads of a block: expected at most 1024, got 2048: 32 warps of 64; lower num_warps for gfx90a",
            )
        ],
    }


def test_a_build_without_failures_has_none(source: Path) -> None:
    module = kpack.find_kernels(source)
    (wide,) = (kernel for kernel in module if kernel.name == "wide")
    pack = kpack.build(wide, arch="sm_80", on_error="skip")
    assert pack.failures == () and "missing" not in repr(pack)


def test_an_alternative_that_fits_no_device_is_left_out_as_by_an_autotuner(source: Path) -> None:
    module = source.parent / "tuned.py"
    module.write_text(
        KERNELS.split("partly =")[0]
        + """
tuned = kpack.Kernel(
    fill_kernel, name="tuned", signature={"out_ptr": "*fp32", "n": "i32"}, grid=1,
    configs=[{"BLOCK": 64, "num_warps": warps} for warps in (32, 2)],
)
guarded = kpack.Kernel(
    fill_kernel, name="guarded", signature={"out_ptr": "*fp32", "n": "i32"}, grid=1, guard="n <= BLOCK",
    configs=[{"BLOCK": 64, "num_warps": 2}, {"BLOCK": 128, "num_warps": 32}],
)
"""
    )
    tuned, guarded = sorted(kpack.find_kernels(module), key=lambda kernel: kernel.name, reverse=True)
    pack = kpack.build(tuned, arch=["sm_80", "gfx90a"])
    assert len(pack.images) == 3
    (failure,) = pack.failures
    assert (failure.variant, failure.target) == ("BLOCK64.w32", "gfx90a")
    assert "expected at most 1024, got 2048" in failure.reason
    # For its calls with more than 64 there is no other: Triton compiles it, so that it is there.
    with pytest.warns(UserWarning, match="expected at most 1024, got 2048.*no launch of it will succeed"):
        pack = kpack.build(guarded, arch="gfx90a")
    assert len(pack.images) == 2 and not pack.failures


def test_a_pack_of_nothing_is_refused(source: Path) -> None:
    never = [kernel for kernel in kpack.find_kernels(source) if kernel.name == "never"]
    with pytest.raises(CompileError, match="2 variants did not compile"):
        kpack.build(never, arch=["sm_80", "gfx90a"], on_error="skip")


def test_the_bytes_with_holes_are_the_same_anywhere(source: Path, archive: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "fills.py").write_text(KERNELS)
    code = "import sys, kpack; kpack.build(sys.argv[1], arch=['sm_80', 'gfx90a'], name='tk', jobs=1, on_error='skip')"
    done = subprocess.run(
        [sys.executable, "-c", code + ".write(sys.argv[2])", "fills.py", "libtk.a"],
        cwd=elsewhere,
        env={**os.environ, "KPACK_CACHE_DIR": str(tmp_path / "cache"), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (archive, elsewhere / "libtk.a")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_error": "ignore"}, "on_error: expected 'raise' or 'skip', got 'ignore'"),
        ({"on_error": None}, "on_error: expected 'raise' or 'skip', got None"),
        ({"timeout_s": 0}, "timeout_s: expected more than 0 seconds, got 0"),
        ({"timeout_s": "1"}, "timeout_s: expected more than 0 seconds, got '1'"),
        ({"timeout_s": float("nan")}, "timeout_s: expected more than 0 seconds, got nan"),
    ],
)
def test_what_is_no_answer_to_errors_is_refused(source: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(kpack.SpecError) as raised:
        kpack.build(source, arch="sm_80", **options)  # type: ignore[arg-type]
    assert str(raised.value) == words


def test_the_mistakes_of_all_kernels_are_told_together(source: Path) -> None:
    one, other, _ = kpack.find_kernels(source)
    wrong = [replace(kernel, configs=lambda target: []) for kernel in (one, other)]
    with pytest.raises(kpack.SpecError) as raised:
        kpack.build(wrong, arch="sm_80")
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == ["never", "partly"]


# ---- producers: what is built without Triton


@dataclass(frozen=True)
class Made:
    """Unfolds by itself, into images that its own function makes."""

    name: str
    words: str = ""

    def expand(self, targets: tuple[Target, ...]) -> Plan:
        of = plan(self.name, kernel=self, producer=make, origin={"made": "here", "source_key": "k"})
        variants = tuple(replace(each, targets=targets) for each in of.variants)
        return replace(of, variants=variants)


def make(plan: Plan, variant: Variant, target: Target) -> Image:
    if plan.kernel.words == "crash" and variant.overload == 1:
        print("error: no such thing", flush=True)
        ctypes.CDLL(None).abort()
    if plan.kernel.words and variant.overload == 1:
        raise kpack.FormatError(plan.kernel.words)
    return image(target.name, variant.entry.encode())


@pytest.fixture
def find_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["kpack.build"], "find_kernels", tuple)


@pytest.mark.usefixtures("find_anything")
def test_what_has_a_producer_is_made_by_it(tmp_path: Path) -> None:
    code = [variant.entry.encode() for variant in Made("one").expand(()).variants]
    pack = kpack.build([Made("one")], arch=["sm_80", "gfx90a"], name="tk")  # type: ignore[list-item]
    assert [image.code for image in pack.images] == [each for each in code for _ in range(2)]
    (kernel,) = read_pack(pack.write(tmp_path / "libtk.a")).kernels
    assert '"made": "here"' in kernel.info and "triton" not in kernel.info


@pytest.mark.usefixtures("find_anything")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("k.cubin: expected a kernel, got none", "k.cubin: expected a kernel, got none"),
        ("crash", "the compiler crashed (SIGABRT): error: no such thing"),
    ],
)
def test_what_a_producer_refuses_is_a_failure_like_others(words: str, reason: str) -> None:
    pack = kpack.build([Made("one"), Made("two", words)], arch="sm_80", name="tk", on_error="skip")  # type: ignore[list-item]
    assert len(pack.images) == 5
    (failure,) = pack.failures
    assert failure.brief == f"two.fp32.BLOCK2048.w8 for sm_80 (two.py:12): {reason}"


# ---- on the command line


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_skipping_is_told_on_stderr_with_counts_and_is_no_error(source: Path, tmp_path: Path) -> None:
    done = run(*("build", source, "--arch", "sm_80,gfx90a", "-o", tmp_path / "libtk.a", "--on-error", "skip"))
    assert done.returncode == 0
    assert "libtk.a: 3 kernels, 7 images for sm_80, gfx90a, " in done.stdout
    assert done.stderr.splitlines() == [
        "kpack: skipped 7 of 14 images, which did not compile; kpack ls names them",
        "kpack: never: 2 of 2 images",
        f"never.fp32.BLOCK256.w2 for sm_80: {TOO_LARGE}",
        "  likewise for gfx90a: fp32.BLOCK256.w2",
        "kpack: partly: 4 of 8 images",
        f"partly.fp32.BLOCK256.w2 for sm_80: {TOO_LARGE}",
        "  likewise for gfx90a: fp32.BLOCK256.w2, fp16.BLOCK256.w2",
        "  likewise for sm_80: fp16.BLOCK256.w2",
        "kpack: wide: 1 of 4 images",
        "wide.fp32.BLOCK64.w32 for gfx90a (fills.py:9): threads of a block: expected at most 1024, got 2048: "
        "32 warps of 64; lower num_warps for gfx90a",
    ]
    done = run(
        *("build", "-q", source, "--arch", "sm_80,gfx90a", "-o", tmp_path / "libtk.a", "--on-error=skip")
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "kpack: skipped 7 of 14 images, which did not compile; kpack ls names them\n"


def test_failing_is_status_1_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    done = run("build", source, "--arch", "gfx90a", "-o", tmp_path / "libtk.a")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kpack: 3 variants did not compile\n")
    assert list(tmp_path.iterdir()) == []


def test_the_time_for_a_variant_can_be_given(source: Path, tmp_path: Path) -> None:
    done = run("build", source, "--arch", "sm_80", "-o", tmp_path / "libtk.a", "--timeout", "0.000001")
    assert done.returncode == 1
    assert "expected a result within 1e-06 s, got none" in done.stderr
    for wrong in ("0", "-1", "soon", "inf", "nan"):
        done = run("build", source, "--arch", "sm_80", "-o", tmp_path / "libtk.a", f"--timeout={wrong}")
        assert done.returncode == 2
        assert f"expected more than 0 seconds, got '{wrong}'" in done.stderr


def test_ls_names_what_is_missing(archive: Path) -> None:
    lines = run("ls", archive).stdout.splitlines()
    assert lines[0].startswith("pack tk: 3 kernels, 7 images (7 missing), host x86_64, ")
    never = lines.index("never(*fp32 out_ptr, i32 n)  fills.py:9")
    assert lines[never + 1 : never + 5] == [
        "  guard n <= BLOCK",
        "  grid 1",
        f"  missing fp32.BLOCK256.w2 for sm_80: {TOO_LARGE}",
        f"  missing fp32.BLOCK256.w2 for gfx90a: {TOO_LARGE}",
    ]
    lines = run("ls", "--summary", archive).stdout.splitlines()
    assert f"  missing 2 variants for sm_80: fp32.BLOCK256.w2: {TOO_LARGE}, ..." in lines


# ---- at run time


@pytest.mark.skipif(
    find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1",
    reason="kpack was installed without Python's headers (python3-dev)",
)
def test_explain_says_what_was_not_built_and_why(archive: Path) -> None:
    done = run("explain", archive, "partly", "*fp32", "100", "--arch", "sm_80")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "partly: no variant may run this call on sm_80"
    assert f"  fp32.BLOCK256.w2: not built for sm_80: {TOO_LARGE}" in lines
    done = run("explain", archive, "never", "*fp32", "100", "--arch", "gfx90a")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "never: no image for gfx90a; this archive has none"
    assert f"  fp32.BLOCK256.w2: not built for gfx90a: {TOO_LARGE}" in lines


@pytest.mark.skipif(
    find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1",
    reason="kpack was installed without Python's headers (python3-dev)",
)
def test_a_null_pointer_goes_to_no_variant_where_the_one_for_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bias.py").write_text(BIAS)
    archive = kpack.build(tmp_path / "bias.py", arch="sm_80", on_error="skip").write(tmp_path / "libtk.a")
    given = run("explain", archive, "bias", "*fp32", "*fp32", "100", "--arch", "sm_80")
    assert given.returncode == 0, given.stdout
    null = run("explain", archive, "bias", "*fp32", "none", "100", "--arch", "sm_80")
    assert null.returncode == 1
    assert null.stdout.startswith("bias: no variant may run this call on sm_80")
