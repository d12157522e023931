"""The quickstart as `make demo` runs it: what a person sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools import CXX_COMPILERS, need, run

from kpack import paths

SCRIPT = Path(__file__).parents[2] / "examples" / "quickstart" / "run.sh"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    need("g++")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # No driver is found here, even where there is one: the dry run is what is looked at.
    environment = {**os.environ, "PATH": path, "KPACK_DRIVER": "", "LD_LIBRARY_PATH": str(SCRIPT.parent)}
    done = subprocess.run(["sh", SCRIPT, folder], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if "launching on " in done.stdout:
        pytest.skip("a GPU driver is in the default library path")
    return done.stdout


def test_it_builds_for_both_vendors(printed: str) -> None:
    assert "1 kernel, 293 images for gfx90a, sm_90" in printed


def test_it_lists_what_the_linker_brought_in(printed: str) -> None:
    assert (
        "linked kernels\n  softmax(*{fp16,bf16,fp32,fp64} out_ptr, const *{fp16,bf16,fp32,fp64} in_ptr"
        in printed
    )


@pytest.mark.parametrize(
    ("arch", "image", "block"),
    [
        (
            "gfx90a",
            "softmax.fp32.ROWS1.BLOCK1024.HELD4.STEP0.EDGESFalse.ALIGN4.LONGEST4096.w2.a16.gfx90a",
            "128 threads (2 warps of 64)",
        ),
        (
            "sm_90",
            "softmax.fp32.ROWS1.BLOCK1024.HELD0.STEP4.EDGESFalse.ALIGN4.LONGEST4096.w4.a16.sm_90",
            "128 threads (4 warps of 32)",
        ),
    ],
    ids=["gfx90a", "sm_90"],
)
def test_it_shows_what_would_be_launched(printed: str, arch: str, image: str, block: str) -> None:
    shown = printed.split(f"softmax on {arch} (dry)\n")[1].split("\n\n")[0]
    assert f"image    {image}, " in shown
    assert f"block    {block}\n" in shown
    assert "grid     1048576 x 1 x 1\n" in shown
    assert shown.endswith("status   KPK_DRY")


def test_it_shows_what_a_wrong_call_is_told(printed: str) -> None:
    assert "softmax: argument 2 'in_ptr': expected const *{fp16,bf16,fp32,fp64}, got *i32" in printed


@pytest.mark.parametrize("standard", ["c++17", "c++20", "c++2b"])
@pytest.mark.parametrize("compiler", CXX_COMPILERS)
def test_every_compiler_makes_the_same_program(
    printed: str, folder: Path, compiler: str, standard: str
) -> None:
    need(compiler)
    program = folder / f"{compiler}-{standard}"
    options = (f"-std={standard}", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Wshadow", "-Werror")
    whole = ("-Wl,--whole-archive", folder / "libtk.a", "-Wl,--no-whole-archive")
    libraries = (paths.library_path(), "-ldl", "-lpthread")
    source = SCRIPT.with_name("main.cc")
    run(compiler, *options, f"-I{paths.include_dir()}", source, *whole, *libraries, "-o", program)
    environment = {**os.environ, "KPACK_DRIVER": "", "LD_LIBRARY_PATH": str(SCRIPT.parent)}
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    assert printed.endswith(done.stdout)
    assert done.returncode == 0, done.stderr
