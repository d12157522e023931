"""What a build system asks of the command beside archives: depfiles, archives joined, the GPUs of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tools import need, run

sys.path.insert(0, str(Path(__file__).parent))  # for projects.py
from projects import ROOT, environment, images, write

import kpack
from kpack.depfile import write_depfile
from kpack.errors import FormatError, PackError
from kpack.join import join

TWO = """
import kpack, triton, triton.language as tl
from helper import plus

@triton.jit
def add_kernel(y, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y + at, plus(at, 1), mask=at < n)

@triton.jit
def fill_kernel(y, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y + at, 7, mask=at < n)

signature = {"y": "*i32", "n": "i32"}
add = kpack.Kernel(add_kernel, name="add", signature=signature, constexprs={"BLOCK": 64}, grid="1")
fill = kpack.Kernel(fill_kernel, name="fill", signature=signature, constexprs={"BLOCK": 64}, grid="1")
"""
HELPER = """
import triton
from deeper import *

@triton.jit
def plus(a, b):
    return a + b
"""


def command(folder: Path, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "kpack", *map(str, words)]
    used = environment(KPACK_CACHE_DIR=str(folder / "cache"), **more)
    return subprocess.run(line, cwd=folder, env=used, capture_output=True, text=True)


def rule(depfile: Path) -> tuple[str, list[str]]:
    """Target and inputs of the first rule, as make reads them."""
    target, _, inputs = depfile.read_text().split("\n\n")[0].replace("\\\n", " ").partition(": ")
    return target, inputs.replace("\\ ", "\0").split()


def test_a_depfile_names_what_was_imported_and_read_and_only_a_changed_kernel_compiles(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"two.py": TWO, "helper.py": HELPER, "deeper.py": ""})
    words = ("build", "--quiet", "two.py", "--arch", "sm_80", "-o", "libtk.a", "--depfile", "tk.d")
    for change, compiled in ((), 2), (("a + b", "a - b"), 3), (("import triton", "import triton  #"), 3):
        if change:
            write(tmp_path, {"helper.py": HELPER.replace(*change)})
        done = command(tmp_path, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(list((tmp_path / "cache" / "triton").iterdir())) == compiled
    target, inputs = rule(tmp_path / "tk.d")
    assert target == "libtk.a"
    own = [Path(name) for name in inputs if Path(name).is_relative_to(tmp_path)]
    assert own == [tmp_path / name for name in ("deeper.py", "helper.py", "two.py")]
    # An update of either has everything built again.
    assert sorted(Path(name).parent.name for name in inputs if Path(name) not in own) == ["kpack", "triton"]
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_depfile_of_a_failed_build_is_not_written(tmp_path: Path) -> None:
    write(tmp_path, {"bad.py": "import kpack\nkpack.Kernel(1)\n"})
    done = command(tmp_path, "build", "bad.py", "--arch", "sm_80", "-o", "libtk.a", "--depfile", "tk.d")
    assert done.returncode == 1
    assert not (tmp_path / "tk.d").exists()


def test_make_reads_names_with_signs_of_its_own(tmp_path: Path) -> None:
    need("make")
    inputs = [tmp_path / name for name in ("a b.py", "c#d.py", "e$f.py")]
    for path in inputs:
        path.touch()
    write_depfile(tmp_path / "x.d", "lib x.a", inputs)
    write(tmp_path, {"Makefile": "lib\\ x.a:\n\ttouch '$@'\ninclude x.d\n"})
    make = ["make", "-C", tmp_path]
    assert "touch" in run(*make)
    assert "up to date" in run(*make)
    for path in inputs:
        path.unlink()
        assert "touch" in run(*make)  # and no error: each has a rule
        path.touch()
        run(*make)


# ---- archives of one pack


def build(folder: Path, *names: str, pack: str = "tk", host: str = "x86_64") -> Path:
    write(folder, images(*names))
    files = [folder / f"{name}.py" for name in names]
    return kpack.build(files, "ptx_80", name=pack, host=host).write(
        folder / f"lib{'_'.join(names)}{pack}{host}.a"
    )


def test_joined_archives_are_the_bytes_of_one_build(tmp_path: Path) -> None:
    one, rest = build(tmp_path, "one"), build(tmp_path, "two", "a_long_name_of_a_kernel")
    whole = build(tmp_path, "one", "two", "a_long_name_of_a_kernel")
    assert join([one, rest], tmp_path / "libtk.a").read_bytes() == whole.read_bytes()
    assert join([one], tmp_path / "libtk.a").read_bytes() == one.read_bytes()
    # A kernel that both have is one.
    assert join([rest, whole], tmp_path / "libtk.a").read_bytes() == whole.read_bytes()


def test_archives_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    one, other = build(tmp_path, "one"), build(tmp_path, "two", pack="other")
    with pytest.raises(PackError, match=r"libtwoother\S+: expected pack 'tk', as \S+ has it, got 'other'"):
        join([one, other], tmp_path / "libtk.a")
    with pytest.raises(PackError, match=r"expected host 'x86_64', as .* has it, got 'aarch64'"):
        join([one, build(tmp_path, "two", host="aarch64")], tmp_path / "libtk.a")
    changed = tmp_path / "changed"
    write(changed, images("one"))
    ptx = changed / "one.ptx"
    ptx.write_text(ptx.read_text().replace("ret;", "ret; ret;"))
    found = kpack.build(changed / "one.py", "ptx_80", name="tk").write(changed / "libtk.a")
    with pytest.raises(
        PackError, match=r"kernel 'one': expected one of this name, got one in \S+ and one in"
    ):
        join([one, found], tmp_path / "libtk.a")
    (tmp_path / "none.a").write_bytes(b"!<arch>\n")
    with pytest.raises(FormatError, match="expected an archive that kpack wrote"):
        join([tmp_path / "none.a"], tmp_path / "libtk.a")


# ---- the GPUs of this machine


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake drivers."""
    need("g++")
    folder, fakes = tmp_path_factory.mktemp("drivers"), ROOT / "tests" / "fakes"
    shared = [fakes / f"{name}.cc" for name in ("recorder", "image_note", "memory", "kernels", "common")]
    started = []
    for vendor, library in ("cuda", "libcuda.so.1"), ("hip", "libamdhip64.so"):
        sources = list(fakes.glob(f"{vendor}*.cc"))
        hidden = ("-fvisibility=hidden", "-Wl,-Bsymbolic", f"-Wl,--version-script,{fakes / 'exports.map'}")
        flags = ("-std=c++17", "-shared", "-fPIC", *hidden)
        command = ("g++", *flags, *shared, *sources, "-ldl", "-lpthread", "-o", folder / library)
        started.append(subprocess.Popen(list(map(str, command))))
    assert [each.wait() for each in started] == [0, 0]
    return folder


def test_native_is_each_arch_of_both_vendors_once(drivers: Path, tmp_path: Path) -> None:
    fakes = {"LD_LIBRARY_PATH": str(drivers), "FAKE_CUDA": "sm_90,sm_80,sm_90", "FAKE_HIP": "gfx90a"}
    done = command(tmp_path, "config", "--native", **fakes)
    assert (done.stdout, done.stderr) == ("sm_90 sm_80 gfx90a\n", "")
    write(tmp_path, images("one"))
    done = command(tmp_path, "build", "one.py", "--arch", "native", "-o", "libtk.a", **fakes)
    assert "1 kernel, 1 image for sm_90, sm_80" in done.stdout


def test_native_without_a_gpu_says_what_to_give(drivers: Path, tmp_path: Path) -> None:
    fakes = {"LD_LIBRARY_PATH": str(drivers), "FAKE_CUDA": "none", "FAKE_HIP": "none"}
    done = command(tmp_path, "config", "--native", **fakes)
    assert (done.returncode, done.stdout) == (1, "")
    assert "native: expected a GPU in this machine, got none" in done.stderr


def test_the_doctor_names_the_drivers_and_their_devices(drivers: Path, tmp_path: Path) -> None:
    fakes = {"LD_LIBRARY_PATH": str(drivers), "FAKE_CUDA": "sm_80,sm_90;driver=12080", "FAKE_HIP": "gfx90a"}
    done = command(tmp_path, "doctor", "drivers", "--json", KPACK_DRIVER="dry", **fakes)
    assert (done.returncode, done.stderr) == (0, "")
    said = {each["subject"]: (each["status"], each["found"]) for each in json.loads(done.stdout)["checks"]}
    assert said == {
        "NVIDIA": ("ok", "libcuda.so.1, CUDA 12.8, 2 devices: sm_80, sm_90"),
        "AMD": ("ok", "libamdhip64.so, ROCm 7.1, 1 device: gfx90a"),
        "KPACK_DRIVER": ("warn", "dry"),
    }
