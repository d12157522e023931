"""A wheel, made from the source distribution as PyPI's users make it, in an environment that has nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tools import need, run

sys.path.insert(0, str(Path(__file__).parent))  # for projects.py
from projects import LIST, ROOT, Project, images, write


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("g++")
    folder = tmp_path_factory.mktemp("wheel")
    script = "import sys, scikit_build_core.build as b; print(b.build_sdist(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, folder], cwd=ROOT, check=True, capture_output=True)
    (source,) = folder.glob("*.tar.gz")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
    )
    run(*pip, "--wheel-dir", folder, source, timeout_s=600)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """The interpreter of an environment with this wheel, and nothing that it depends on."""
    folder = wheel.parent / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    return python


def say(python: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script there, away from the sources."""
    used = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, "-c", script], cwd=python.parent, env=used, capture_output=True, text=True)


def test_it_holds_all_that_python_and_cpp_need(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert any(re.fullmatch(r"kpack/_runtime\.cpython-\S+\.so", name) for name in names)
    files = "py.typed _runtime.pyi _installed.py lib/libkpack_runtime.a lib/pkgconfig/kpack.pc doc/errors.md"
    headers = "include/kpack/abi.h include/kpack/kpack.h include/kpack/kpack.hpp"
    cmake = "Config ConfigVersion AddPack Archs Targets Targets-release"
    wanted = {f"kpack/{name}" for name in f"{files} {headers}".split()}
    wanted |= {f"kpack/lib/cmake/kpack/kpack{name}.cmake" for name in cmake.split()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "kpack").rglob("*.py")}
    assert wanted | sources <= names
    assert {name.partition("/")[0] for name in names} == {"kpack", "kpack-0.1.0.dist-info"}


def test_it_is_one_that_pypi_takes(wheel: Path) -> None:
    need("auditwheel")
    said = " ".join(run("auditwheel", "show", wheel).split())
    assert re.search(
        r'is consistent with the following platform tag: "manylinux_\d+_\d+_(x86_64|aarch64)"', said
    )
    libraries = set(re.findall(r"(\S+\.so[.\d]*) with versions", said))
    assert libraries <= {"libc.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6"}


def test_import_is_light_and_needs_nothing(python: Path) -> None:
    count = "import sys; before = len(sys.modules); {}; print(len(sys.modules) - before, *sys.modules)"
    number, *modules = say(python, count.format("import kpack")).stdout.split()
    assert int(number) < 50 and "kpack.spec" not in modules
    names = "Kernel, Images, build, load, cdiv, Target, KpackError, TensorDescriptor"
    modules = say(python, count.format(f"from kpack import {names}")).stdout.split()
    assert "kpack.spec" in modules
    assert not {"numpy", "torch", "triton", "lief", "click", "rich"} & set(modules)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "import kpack; kpack.record",
            "kpack.record: expected the package triton, got none; pip install 'triton",
        ),
        ("from kpack.__main__ import main; main()", "kpack: command line: expected the package click"),
        (
            "import kpack; kpack.build('one.py', 'ptx_80').write('libtk.a')",
            "got none; pip install 'lief<2,>=1",
        ),
        (
            "import kpack; kpack.build('jit.py', 'sm_80')",
            "jit.py:1: expected the package triton, got none; pip",
        ),
    ],
    ids=["record", "command", "write", "jit"],
)
def test_what_needs_more_says_what_to_install(python: Path, script: str, message: str) -> None:
    write(python.parent, images("one") | {"jit.py": "import triton\n"})
    done = say(python, script)
    assert done.returncode == 1
    # Behind an exception's last line its traceback says where its page is.
    said = [line for line in done.stderr.splitlines() if not line.startswith("see ")]
    assert message in said[-1]


def test_an_archive_is_loaded_with_nothing_else(python: Path, tmp_path: Path) -> None:
    need("cc")
    import kpack

    write(tmp_path, images("one"))
    archive = kpack.build(tmp_path / "one.py", "ptx_80").write(tmp_path / "libtk.a")
    whole = ("-Wl,--whole-archive", archive, "-Wl,--no-whole-archive")
    run("cc", "-shared", "-o", tmp_path / "libtk.so", *whole)
    script = f"import kpack; kpack.use_dry_driver('sm_90'); print(kpack.load({str(tmp_path / 'libtk.so')!r})['one'])"
    assert say(python, script).stdout == "<kernel one(*fp32 out, i32 n)>\n"


def test_cmake_finds_the_runtime_in_it(python: Path, tmp_path: Path) -> None:
    need("cmake", "ninja", "g++")
    found = say(python, "from kpack import paths; print(paths.cmake_dir())").stdout.strip()
    assert found.startswith(str(python.parents[1]))
    lists = """
cmake_minimum_required(VERSION 3.18)
project(test LANGUAGES CXX)
find_package(kpack CONFIG REQUIRED)
add_executable(app main.cc)
target_link_libraries(app PRIVATE kpack::runtime)
"""
    project = Project(
        write(tmp_path / "source", {"CMakeLists.txt": lists, "main.cc": LIST}), tmp_path / "build"
    )
    project.configure(f"-Dkpack_DIR={found}")
    project.make()
    assert project.run() == ""
