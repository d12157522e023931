"""What a call would run, asked from Python and from the command line: without a GPU, by dry devices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import kpack
from kpack.errors import KpackError, LaunchError, SpecError

if find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1":
    pytest.skip("kpack was installed without Python's headers (python3-dev)", allow_module_level=True)

from kpack.arguments import read_arguments
from kpack.link import as_shared_object
from kpack.runtime import LoadedKernel, LoadedPack, Pointer, load, use_dry_driver

KERNELS = """
import kpack, triton, triton.language as tl

@triton.jit
def copy_kernel(out_ptr, in_ptr, factor, n, MODE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(in_ptr + at, mask=at < n)
    if MODE == "scale":
        x = (x * factor).to(x.dtype)
    tl.store(out_ptr + at, x, mask=at < n)

copy = kpack.Kernel(
    copy_kernel,
    name="copy",
    signature={"out_ptr": "*T:16?", "in_ptr": "const *T:16?", "factor": "fp32", "n": "i32"},
    types={"T": ["fp16", "fp32"]},
    constexprs={"MODE": ["plain", "scale"]},
    configs=[{"BLOCK": 128, "num_warps": 1}, {"BLOCK": 1024, "num_warps": 4}],
    guard=lambda n, BLOCK: n <= 64 * BLOCK,
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "copy.py").write_text(KERNELS)
    return kpack.build(folder / "copy.py", arch=["sm_80", "gfx90a"]).write(folder / "libtk.a")


@pytest.fixture(scope="module")
def pack(archive: Path) -> LoadedPack:
    with as_shared_object(archive) as library:
        return load(library)


@pytest.fixture
def copy(pack: LoadedPack) -> Iterator[LoadedKernel]:
    yield pack["copy"]
    use_dry_driver(None)


IN, OUT = Pointer("fp16", 0x1000, read_only=True), Pointer("fp16", 0x2000)
FIRST = "copy on sm_80: runs fp16.MODEplain.BLOCK128.w1.a16, image copy.fp16.MODEplain.BLOCK128.w1.a16.sm_80 (exact), "


# ---- Python


def test_a_kernel_says_what_it_would_run(copy: LoadedKernel) -> None:
    lines = copy.explain(OUT, IN, 1.0, 1000, "plain", arch="sm_80").splitlines()
    assert lines[0] == FIRST + "grid 8 x 1 x 1, block 32, shared 0 bytes"
    assert lines[1] == "called with out_ptr=0x2000 in_ptr=0x1000 factor=1 n=1000 MODE='plain'"
    assert "  fp16.MODEplain.BLOCK1024.w4: eligible, but after the chosen one" in lines
    assert "  copy.fp16.MODEplain.BLOCK128.w1.a16.gfx90a: of another vendor" in lines


def test_the_arch_is_any_or_the_first_target_or_the_dry_devices(copy: LoadedKernel) -> None:
    call = (OUT, IN, 1.0, 1000, "plain")
    assert copy.explain(*call, arch="").startswith("copy on sm_80: runs")
    assert copy.explain(*call, arch="sm_86").startswith("copy on sm_86: runs")
    assert copy.explain(*call, arch="gfx90a").startswith("copy on gfx90a: runs")
    assert copy.explain(*call, arch="sm_75").startswith(
        "copy: no image for sm_75; this archive has sm_80, gfx90a"
    )
    assert (
        copy.explain(*call, arch="z80")
        == "copy: explain: expected an arch such as sm_90 or gfx90a, got 'z80'"
    )
    use_dry_driver("gfx90a")
    assert copy.explain(*call).startswith("copy on gfx90a: runs")
    assert copy.explain(*call, arch="sm_80").startswith("copy on sm_80: runs")


def test_yes_or_no_is_what_a_dry_launch_says(copy: LoadedKernel) -> None:
    use_dry_driver("sm_80")
    calls = [
        (OUT, IN, 1.0, 1000, "plain"),
        (OUT, IN, 1.0, 1 << 20, "plain"),
        (OUT, IN, 1.0, 1 << 40, "plain"),
        (OUT, IN, 1.0, 1000, "other"),
        (IN, IN, 1.0, 1000, "plain"),
        (OUT, Pointer("fp32", 0x1000), 1.0, 1000, "plain"),
        (Pointer("fp16", 0x2001), IN, 1.0, 1000, "plain"),
        (OUT, IN),
    ]
    for call, runs in zip(calls, [True] + [False] * 7, strict=True):
        assert copy.supports(*call) is runs, call
        assert copy.supports(*call, arch="sm_80") is runs, call
        if runs:
            assert copy(*call) is not None
        else:
            with pytest.raises(LaunchError) as caught:
                copy(*call)
            assert copy.explain(*call).splitlines()[0] == str(caught.value).splitlines()[0]


def test_tensors_are_taken_from_anywhere_for_a_device_that_is_not_there(copy: LoadedKernel) -> None:
    x = np.ones(4, np.float16)
    assert copy.supports(x, x, 1.0, 4, "plain", arch="sm_80")
    with pytest.raises(
        LaunchError, match="copy: argument 1: expected memory of a GPU, got memory of device cpu"
    ):
        copy.supports(x, x, 1.0, 4, "plain")
    with pytest.raises(LaunchError, match="copy: argument 1: expected a tensor"):
        copy.explain([1], x, 1.0, 4, "plain", arch="sm_80")


def test_a_device_that_is_not_there_is_named(copy: LoadedKernel) -> None:
    call = (OUT, IN, 1.0, 1000, "plain")
    assert copy.explain(*call, device=71) == copy.explain(*call, device="cuda:71")
    assert "ordinal 71" in copy.explain(*call, device="hip:71")
    assert not copy.supports(*call, device="hip:71")
    for wrong in ("tpu:0", "cuda:x", -1, 1.5):
        with pytest.raises(LaunchError, match="device: expected a number, 'cuda:0', 'hip:0' or None, got"):
            copy.supports(*call, device=wrong)


def test_a_pack_is_preloaded_as_far_as_a_pattern_matches(pack: LoadedPack) -> None:
    use_dry_driver("sm_80")
    try:
        assert pack.preload() == 16
        assert pack.preload("copy.fp16.*") == 8
        assert pack.preload("nothing.*") == 0
    finally:
        use_dry_driver(None)


def test_an_unknown_type_of_a_pointer_is_refused(copy: LoadedKernel) -> None:
    with pytest.raises(
        LaunchError, match="argument 1: expected a pointer to a type that Triton has, got fp17"
    ):
        copy.explain(Pointer("fp17", 0), IN, 1.0, 4, "plain", arch="sm_80")


# ---- arguments as text


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["*fp16", "*fp16+8", "1.5", "-5", "plain"], (0x10000, 0x10008, 1.5, -5, "plain")),
        (["*fp16@0x1000", "const *fp16@16", "1e3", "0x10", "'plain'"], (0x1000, 16, 1000.0, 16, "plain")),
        (["MODE=scale", "n=true", "factor=2", "*fp16", "*fp16"], (0x10000, 0x10000, 2, True, "scale")),
        (["none", "in_ptr=NULL", "n=1", "MODE=fp16", "factor=0"], (None, None, 0, 1, kpack.DType("fp16"))),
        (["MODE='a b=c'", "*i8", "*i8", "1", "2"], (0x10000, 0x10000, 1, 2, "a b=c")),
    ],
)
def test_values_are_read_in_call_order(
    copy: LoadedKernel, texts: list[str], values: tuple[object, ...]
) -> None:
    read = read_arguments(copy, texts)
    assert tuple(value.address if isinstance(value, Pointer) else value for value in read) == values


def test_a_pointer_to_const_is_one(copy: LoadedKernel) -> None:
    read = read_arguments(copy, ["*fp16", "const *fp16", "1", "2", "plain"])
    assert [value.read_only for value in read if isinstance(value, Pointer)] == [False, True]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1", "2", "3", "4"], "expected a value for MODE, got none: copy\\("),
        (["1", "2", "3", "4", "5", "6"], "'6': expected 5 values, got more: copy\\("),
        (["m=1"], "m: no such parameter of copy\\("),
        (["n=1", "n=2"], "n: expected one value, got another: 'n=2'"),
        (["*fp17"], "out_ptr: expected a type among .*, got 'fp17'"),
        (["*fp16-8"], r"out_ptr: expected a pointer such as \*fp16, \*fp16\+8 or .*, got '\*fp16-8'"),
        (["1,5"], "out_ptr: expected a number, true, false, none, a pointer .*, got '1,5'"),
        (["--arhc"], "out_ptr: expected a number, .*, got '--arhc'"),
        (["n="], "n: expected a number, .*, got ''"),
    ],
)
def test_what_is_no_value_is_refused(copy: LoadedKernel, texts: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_arguments(copy, texts)


# ---- the command


def explain(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", "explain", *map(str, arguments)]
    # No driver: what a machine has must not decide.
    hidden = {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""), "KPACK_DRIVER": "", **environment}
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **hidden})


GOOD = ("*fp16", "const *fp16", "1.0", "n=1000", "MODE=plain")


def test_the_command_explains_a_call_of_an_archive(archive: Path) -> None:
    done = explain(archive, "copy", *GOOD, "--arch", "sm_80")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == FIRST + "grid 8 x 1 x 1, block 32, shared 0 bytes"


def test_the_command_explains_a_call_of_a_shared_object(archive: Path, tmp_path: Path) -> None:
    library = tmp_path / "libother.so"
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"]
    subprocess.run(["cc", "-shared", "-o", str(library), *whole], check=True)
    done = explain(library, "copy", *GOOD, "--arch", "gfx90a", "--pack", "tk")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("copy on gfx90a: runs ")


def test_a_call_that_would_not_run_has_its_own_status(archive: Path) -> None:
    done = explain(archive, "copy", *GOOD[:3], "n=1000000", "MODE=plain", "--arch", "sm_80")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0] == "copy: no variant may run this call on sm_80"
    assert "guard n <= 64 * BLOCK does not hold (MODE='plain', BLOCK=1024)" in done.stdout
    done = explain(archive, "copy", *GOOD[:3], "n=-1", "MODE=plain", "--arch", "sm_80")
    assert done.returncode == 0, "cdiv(-1, 128) is an empty grid"
    assert "launches nothing, for the grid is empty" in done.stdout


def test_the_dry_driver_of_the_environment_is_asked(archive: Path) -> None:
    done = explain(archive, "copy", *GOOD, KPACK_DRIVER="dry:gfx90a")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("copy on gfx90a: runs ")


def test_alignment_is_seen(archive: Path) -> None:
    done = explain(archive, "copy", "*fp16+8", *GOOD[1:], "--arch", "sm_80")
    assert done.stdout.startswith("copy on sm_80: runs fp16.MODEplain.BLOCK128.w1, ")
    assert "  fp16.MODEplain.BLOCK128.w1.a16: 'out_ptr' not divisible by 16" in done.stdout.splitlines()


def test_the_compiler_is_ccs(archive: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "my cc"
    compiler.write_text(f'#!/bin/sh\ntouch "{tmp_path}/used"\nexec cc "$@"\n')
    compiler.chmod(0o755)
    assert explain(archive, "copy", *GOOD, "--arch", "sm_80", CC=f"'{compiler}' -O0").returncode == 0
    assert (tmp_path / "used").exists()


def test_without_a_compiler_the_way_out_is_told(archive: Path) -> None:
    done = explain(archive, "copy", *GOOD, "--arch", "sm_80", CC="/absent/cc")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"kpack: {archive}: expected a C compiler to link it with, got No such file or directory for '/absent/cc'; "
        "set CC, or give a shared object that it is linked into\n"
    )


def test_an_archive_that_does_not_link_is_refused_with_the_linkers_words(tmp_path: Path) -> None:
    broken = tmp_path / "libtk.a"
    broken.write_bytes(b"!<arch>\ngarbage")
    with (
        pytest.raises(KpackError, match=r"libtk\.a: expected an archive that cc links, got: "),
        as_shared_object(broken),
    ):
        pass


def test_what_is_linked_is_gone_afterwards(archive: Path) -> None:
    with as_shared_object(archive) as library:
        assert library.exists()
    assert not library.parent.exists()
    assert archive.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{archive}", "other"], "libtk.a: expected kernel other, got copy"),
        (["{archive}", "copy", "m=1"], "m: no such parameter of copy("),
        (["{archive}", "copy", "--pack", "other", *GOOD], "expected pack other, got tk"),
        (["{tmp}/absent.a", "copy"], "absent.a"),
        (["{tmp}/absent.so", "copy"], "absent.so"),
    ],
)
def test_refusals_are_sentences(archive: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = explain(*(argument.format(archive=archive, tmp=tmp_path) for argument in arguments))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kpack: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
