"""kpack in CMake projects: found, linked, built again where something has changed, installed, exported."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tools import need, run, which

sys.path.insert(0, str(Path(__file__).parent))  # for projects.py
from projects import GENERATORS, LIST, ROOT, Project, environment, images, write

from kpack import paths

LISTS = """
cmake_minimum_required(VERSION 3.20)
project(test LANGUAGES CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(kpack CONFIG REQUIRED)
kpack_add_pack(tk KERNELS {kernels} ARCH ptx_80 {options})
add_executable(app main.cc)
target_link_libraries(app PRIVATE tk)
"""


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    time.sleep(0.02)  # a coarse clock may give two files one time
    path.write_text(text.replace(old, new))


def does_nothing(project: Project) -> bool:
    printed = project.make()
    return "no work to do" in printed or not any(
        word in printed for word in ("Compiling", "Building", "Linking")
    )


@pytest.fixture(params=GENERATORS)
def generator(request: pytest.FixtureRequest) -> str:
    need("cmake", "g++", request.param)
    return GENERATORS[request.param]


def small(folder: Path, generator: str = "Ninja", kernels: str = "one.py", options: str = "") -> Project:
    """A program that lists its kernels; two are there, which take no time to build."""
    files = {"CMakeLists.txt": LISTS.format(kernels=kernels, options=options), "main.cc": LIST}
    write(folder / "source", files | images("one", "two"))
    return Project(folder / "source", folder / "build", generator)


# ---- what is built again


def test_an_edited_helper_rebuilds_only_the_kernel_that_imports_it(generator: str, tmp_path: Path) -> None:
    # The example itself, which includes a header of the quickstart.
    for name in ("cmake", "quickstart"):
        shutil.copytree(ROOT / "examples" / name, tmp_path / name)
    cache = tmp_path / "cache"
    project = Project(
        tmp_path / "cmake", tmp_path / "build", generator, environment(KPACK_CACHE_DIR=str(cache))
    )
    project.configure("-DAPP_ARCH=sm_90;gfx90a")
    assert project.make("-j2").count("Compiling kernels/") == 2
    assert "scale.BLOCK1024.w4.sm_90" in project.run()
    assert does_nothing(project)

    parts = project.build / "tk.kpack"
    before = {part.name: part.stat().st_mtime_ns for part in parts.glob("*.a")}
    compiled = len(list((cache / "triton").iterdir()))
    edit(project.source / "kernels" / "curves.py", "tl.constexpr(0.5)", "tl.constexpr(0.25)")
    printed = project.make()
    assert "Compiling kernels/gelu.py" in printed and "scale.py" not in printed
    changed = [part.name for part in parts.glob("*.a") if part.stat().st_mtime_ns != before[part.name]]
    assert changed == ["gelu.a"]
    assert len(list((cache / "triton").iterdir())) == compiled + 2  # gelu for two targets, by other keys
    assert does_nothing(project)


def test_what_a_kernel_file_reads_and_imports_may_change_and_go(tmp_path: Path) -> None:
    need("cmake", "make", "g++")
    project = small(tmp_path, GENERATORS["make"], kernels="one.py two.py")  # which keeps a list of its own
    write(project.source, {"name.py": "VALUE = 1\n"})
    edit(project.source / "one.py", "import kpack", "import kpack, name")
    project.configure()
    project.make()
    assert does_nothing(project)

    edit(project.source / "two.ptx", "ret;", "ret; ret;")
    printed = project.make()
    assert "Compiling two.py" in printed and "one.py" not in printed

    edit(project.source / "one.py", "import kpack, name", "import kpack, other")
    (project.source / "name.py").rename(project.source / "other.py")
    assert "Compiling one.py" in project.make()
    assert does_nothing(project)
    edit(project.source / "other.py", "1", "2")
    assert "Compiling one.py" in project.make()
    assert does_nothing(project)


def test_another_arch_rebuilds_in_make_which_sees_no_commands(tmp_path: Path) -> None:
    need("cmake", "make", "g++")
    project = small(tmp_path, GENERATORS["make"])
    project.configure()
    project.make()
    edit(project.source / "CMakeLists.txt", "ptx_80", "ptx_80 ptx_86")
    assert "Compiling one.py for ptx_80 ptx_86" in project.make()


def test_a_failed_join_is_tried_again(tmp_path: Path) -> None:
    need("cmake", "make", "g++")
    project = small(tmp_path, GENERATORS["make"], kernels="one.py two.py")
    edit(project.source / "two.py", 'Images("two"', 'Images("one"')
    project.configure()
    for _ in range(2):
        assert "kernel 'one': expected one of this name, got one in" in project.fail(
            "cmake", "--build", project.build
        )
    edit(project.source / "two.py", 'Images("one"', 'Images("two"')
    project.make()
    assert project.run() == ""


def test_a_folder_is_one_step_that_sees_new_files(tmp_path: Path) -> None:
    need("cmake", "ninja", "g++")
    project = small(tmp_path, kernels="kernels", options="WHOLE_ARCHIVE")
    write(project.source / "kernels", images("one"))
    project.configure()
    project.make()
    assert project.run() == "one\n"
    assert does_nothing(project)
    write(project.source / "kernels", images("two"))
    project.make()
    assert project.run() == "one\ntwo\n"
    assert does_nothing(project)


# ---- what is linked


def test_one_option_decides_what_is_linked(tmp_path: Path) -> None:
    need("cmake", "ninja", "g++")
    project = small(tmp_path)
    with open(project.source / "CMakeLists.txt", "a") as lists:
        lists.write("kpack_add_pack(whole KERNELS one.py ARCH ptx_80 WHOLE_ARCHIVE)\n")
        lists.write("add_executable(every main.cc)\ntarget_link_libraries(every PRIVATE whole)\n")
    project.configure()
    project.make()
    assert project.run("app") == ""
    assert project.run("every") == "one\n"


def test_a_project_in_c_links_the_runtime(tmp_path: Path) -> None:
    need("cmake", "ninja", "gcc")
    lists = """
cmake_minimum_required(VERSION 3.18)
project(test LANGUAGES C)
set(where ${kpack_DIR})
find_package(kpack 9.0 CONFIG QUIET)
if(kpack_FOUND)
  message(FATAL_ERROR "found as 9.0")
endif()
find_package(kpack 0.1 CONFIG REQUIRED PATHS ${where})
add_library(only_headers OBJECT main.c)
target_link_libraries(only_headers PRIVATE kpack::headers)
add_executable(app $<TARGET_OBJECTS:only_headers>)
target_link_libraries(app PRIVATE kpack::runtime)
"""
    main = "#include <kpack/kpack.h>\n#include <stdio.h>\nint main(void) { puts(kpk_status_name(KPK_OK)); return 0; }\n"
    project = Project(
        write(tmp_path / "source", {"CMakeLists.txt": lists, "main.c": main}), tmp_path / "build"
    )
    project.configure()
    project.make()
    assert project.run() == "KPK_OK\n"


def test_readmes_project_from_nothing_says_what_it_would_launch(tmp_path: Path) -> None:
    """Without the lines that make an environment: benchmarks/from_nothing.py follows them all."""
    need("cmake", "g++")
    module = runpy.run_path(str(ROOT / "benchmarks" / "from_nothing.py"))
    blocks = module["blocks"]()
    write(tmp_path, {block.file: block.text for block in blocks if block.file})
    commands = "set -e\n" + "".join(block.text for block in blocks[1:] if not block.file)
    used = environment(KPACK_CACHE_DIR=str(tmp_path / "cache"))
    done = subprocess.run(["sh", "-c", commands], cwd=tmp_path, env=used, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "KPK_DRY: scale on sm_90 (dry)" in done.stdout
    assert "image    scale.BLOCK1024.w4.sm_90" in done.stdout


def test_the_machine_of_a_toolchain_is_the_packs_host(tmp_path: Path) -> None:
    need("cmake", "ninja", "aarch64-linux-gnu-g++")
    project = small(tmp_path)
    project.configure(f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'tests' / 'aarch64.cmake'}")
    project.make("--target", "tk")
    machines = {
        line.split()[-1]
        for line in run("readelf", "-h", project.build / "libtk.a").splitlines()
        if "Machine" in line
    }
    assert machines == {"AArch64"}


# ---- in other packages

FAST = """
cmake_minimum_required(VERSION 3.20)
project(fast LANGUAGES CXX)
set(CMAKE_CXX_STANDARD 17)
include(FetchContent)
set(KPACK_INSTALL ON)
FetchContent_Declare(kpack URL https://kpack.invalid/kpack.tar.gz)
FetchContent_MakeAvailable(kpack)
kpack_add_pack(tk KERNELS one.py two.py ARCH ptx_80 WHOLE_ARCHIVE)
add_library(fast STATIC fast.cc)
target_link_libraries(fast PRIVATE tk)
install(TARGETS fast tk EXPORT fastTargets)
install(EXPORT fastTargets NAMESPACE fast:: FILE fastTargets.cmake DESTINATION lib/cmake/fast)
install(FILES fastConfig.cmake DESTINATION lib/cmake/fast)
"""
FAST_CONFIG = """
include(CMakeFindDependencyMacro)
find_dependency(kpack)
include("${CMAKE_CURRENT_LIST_DIR}/fastTargets.cmake")
"""
USER = """
cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES CXX)
find_package(fast CONFIG REQUIRED)
add_executable(app main.cc)
target_link_libraries(app PRIVATE fast::fast)
"""
# Who asks for a network is written down, and gets none.
NO_NETWORK = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
int connect(int fd, const struct sockaddr *to, socklen_t bytes) {
  FILE *log = fopen(getenv("CONNECT_LOG"), "a");
  fprintf(log, "%d %d\\n", fd, to->sa_family);
  fclose(log);
  errno = ENETUNREACH;
  return -1;
}
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without a network, in which $CONNECT_LOG lists who wanted one."""
    need("gcc")
    folder = write(tmp_path_factory.mktemp("offline"), {"connect.c": NO_NETWORK})
    run("gcc", "-shared", "-fPIC", "-o", folder / "connect.so", folder / "connect.c")
    # CMake is itself a Python program where PyPI's is installed.
    used = environment(LD_PRELOAD=str(folder / "connect.so"), CONNECT_LOG=str(folder / "log"))
    script = "import socket; socket.socket().connect(('127.0.0.1', 9))"
    subprocess.run([sys.executable, "-c", script], env=used, capture_output=True)
    assert (folder / "log").read_text()
    (folder / "log").unlink()
    return used


@pytest.fixture(scope="module")
def prefix(offline: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that uses kpack by FetchContent, installed with it, and then moved."""
    need("cmake", "ninja", "g++")
    folder = tmp_path_factory.mktemp("fast")
    files = {"CMakeLists.txt": FAST, "fastConfig.cmake": FAST_CONFIG}
    main = LIST.replace("int main()", "void fast()")
    write(folder / "source", files | images("one", "two") | {"fast.cc": main})
    project = Project(folder / "source", folder / "build", environment=offline)
    project.configure(f"-DFETCHCONTENT_SOURCE_DIR_KPACK={ROOT}", "-DCMAKE_BUILD_TYPE=Debug")
    project.make()
    assert does_nothing(project)
    run("cmake", "--install", project.build, "--prefix", folder / "there")
    shutil.move(folder / "there", folder / "here")
    shutil.move(project.build, folder / "gone")
    return folder / "here"


def test_an_installed_package_brings_its_pack_along(prefix: Path, tmp_path: Path) -> None:
    files = {"CMakeLists.txt": USER, "main.cc": "void fast();\nint main() { fast(); }\n"}
    project = Project(write(tmp_path / "source", files), tmp_path / "build")
    command = (
        "cmake",
        "-S",
        project.source,
        "-B",
        project.build,
        "-G",
        "Ninja",
        f"-DCMAKE_PREFIX_PATH={prefix}",
    )
    run(*command)
    project.make()
    assert project.run() == "one\ntwo\n"


def test_a_prefix_has_what_pkg_config_says(prefix: Path, tmp_path: Path) -> None:
    need("pkg-config", "g++")
    write(tmp_path, {"main.cc": LIST})
    used = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    words = ["pkg-config", "--cflags", "--libs", "kpack"]
    flags = subprocess.run(words, env=used, capture_output=True, text=True, check=True).stdout.split()
    run("g++", "-std=c++17", tmp_path / "main.cc", *flags, "-o", tmp_path / "app")
    assert run(tmp_path / "app") == ""


def test_a_prefix_holds_nothing_of_python(prefix: Path) -> None:
    names = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    assert {name for name in names if ".py" in name or name.endswith(".so")} == set()
    assert {"lib/libkpack_runtime.a", "lib/libtk.a", "include/kpack/kpack.hpp"} <= names


def test_nobody_asks_for_a_network(prefix: Path, offline: dict[str, str]) -> None:
    assert not Path(offline["CONNECT_LOG"]).exists()


# ---- what is asked for

SCRIPT = """
cmake_minimum_required(VERSION 3.20)
project(test LANGUAGES NONE)
{before}
include("{package}/kpackAddPack.cmake")
kpack_add_pack({call})
"""
FAKE_KPACK = """#!/bin/sh
case "$*" in
--version) echo "kpack, version 0.1.0" ;;
"config --native") echo "$NATIVE"; test -n "$NATIVE" ;;
*) echo "$*" >>"$ASKED"; for out; do :; done
   while [ $# -gt 0 ]; do case "$1" in --output) : >"$2" ;; --depfile) : >"$2" ;; esac; shift; done ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A `kpack` that writes down what it is asked for."""
    path = write(tmp_path, {"bin/kpack": FAKE_KPACK}) / "bin" / "kpack"
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("call", "before", "message"),
    [
        ("tk", "", "KERNELS: expected a file or folder at least, got none"),
        ("tk KERNEL one.py", "", "expected KERNELS, ARCH, WHOLE_ARCHIVE, NAME, TUNED, HOST, ON_ERROR or JOBS"),
        ("tk KERNELS none.py ARCH sm_90", "", "KERNELS: expected a file or folder, got none.py, which does not exist"),
        ("my_pack KERNELS one.py", "", "NAME: expected a lower-case letter, then lower-case letters and digits"),
        ("tk KERNELS one.py", "", "ARCH: expected what to build for, got none; give ARCH gfx942 sm_90, or native"),
        ("tk KERNELS one.py ARCH native", "", "ARCH native: expected a GPU in this machine"),
        ("tk KERNELS one.py ARCH sm_90 HOST riscv64", "", "HOST: expected x86_64 or aarch64, got riscv64"),
        ("tk KERNELS one.py", "set(GPU_TARGETS all)", "GPU_TARGETS: expected gfx90a, gfx942:xnack- or native, got all"),
        ("tk KERNELS one.py ARCH sm_90", "set(KPACK_EXECUTABLE /bin/false)", "expected /bin/false --version to say"),
        ("tk KERNELS one.py ARCH sm_90", "set(kpack_VERSION 0.2.0)", "expected kpack 0.2.0, as this CMake package is"),
        ("tk KERNELS one.py ARCH sm_90", "", "expected a project with C or CXX among"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_when_it_is_configured(
    call: str, before: str, message: str, fake: Path, tmp_path: Path
) -> None:
    need("cmake")
    before = before if "KPACK_EXECUTABLE" in before else f"set(KPACK_EXECUTABLE {fake})\n{before}"
    script = SCRIPT.format(before=before, package=paths.cmake_dir(), call=call)
    write(tmp_path, {"CMakeLists.txt": script, "one.py": ""})
    project = Project(tmp_path, tmp_path, environment=environment(NATIVE="", TORCH_CUDA_ARCH_LIST=""))
    assert message in project.fail("cmake", "-S", tmp_path, "-B", tmp_path / "build")


def test_without_the_command_it_says_what_to_install(tmp_path: Path) -> None:
    need("cmake", "make")
    script = SCRIPT.format(before="", package=ROOT / "csrc" / "cmake", call="tk KERNELS one.py ARCH sm_90")
    write(tmp_path, {"CMakeLists.txt": script, "one.py": ""})
    project = Project(tmp_path, tmp_path, environment=environment(PATH=str(tmp_path)))
    printed = project.fail(
        which("cmake"),
        "-S",
        tmp_path,
        "-B",
        tmp_path / "build",
        f"-DCMAKE_MAKE_PROGRAM={which('make')}",
        "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF",
    )
    assert "got none on the PATH; pip install kpack" in printed


def test_options_reach_the_command(fake: Path, tmp_path: Path) -> None:
    need("cmake", "ninja", "g++")
    options = "TUNED table.csv NAME other HOST aarch64 ON_ERROR skip JOBS 2"
    project = small(tmp_path, kernels="one.py two.py", options=options)
    project = Project(
        project.source,
        project.build,
        environment=environment(ASKED=str(tmp_path / "asked"), NATIVE="sm_90 gfx90a"),
    )
    write(project.source, {"table.csv": ""})
    edit(project.source / "CMakeLists.txt", "ptx_80", "native sm_80")
    project.configure(f"-DKPACK_EXECUTABLE={fake}")
    project.make("--target", "tk")
    asked = (tmp_path / "asked").read_text().splitlines()
    table, part = project.source / "table.csv", project.build / "tk.kpack" / "one.a"
    archs = "--arch sm_90 --arch gfx90a --arch sm_80"
    assert sorted(asked)[0] == (
        f"build --quiet --name other --host aarch64 {archs} --on-error skip --jobs 2 --tuned {table} --part "
        f"--output {part} --depfile {part}.d {project.source / 'one.py'}"
    )
    assert (
        asked[2]
        == f"join --tuned {table} {part} {part.with_name('two.a')} --output {project.build / 'libtk.a'}"
    )


@pytest.mark.parametrize(
    ("of", "value", "archs"),
    [
        ("CMAKE_CUDA_ARCHITECTURES", "75;80;86", "sm_75;sm_80;sm_86;ptx_86"),
        ("CMAKE_CUDA_ARCHITECTURES", "80;90", "sm_80;sm_90;ptx_80"),
        ("CMAKE_CUDA_ARCHITECTURES", "80-real;86-virtual", "sm_80;ptx_86"),
        ("CMAKE_CUDA_ARCHITECTURES", "90a;100f", "sm_90a;sm_100f"),
        ("CMAKE_CUDA_ARCHITECTURES", "native", "native-sm"),
        ("CMAKE_CUDA_ARCHITECTURES", "OFF", ""),
        ("GPU_TARGETS", "gfx90a:xnack-;gfx90a:xnack+;gfx942", "gfx90a;gfx942"),
        ("TORCH_CUDA_ARCH_LIST", "8.0 8.6+PTX", "sm_80;sm_86;ptx_86"),
        ("TORCH_CUDA_ARCH_LIST", "7.5,9.0a;12.0+PTX", "sm_75;sm_90a;sm_120"),
        ("TORCH_CUDA_ARCH_LIST", "Ampere;Hopper", "sm_80;sm_86;ptx_86;sm_90"),
    ],
)
def test_archs_of_other_tools_are_understood(of: str, value: str, archs: str) -> None:
    need("cmake")
    script = paths.cmake_dir() / "kpackArchs.cmake"
    assert run("cmake", f"-DARCHS_OF={of}", f"-D{of}={value}", "-P", script).strip() == archs


def test_both_vendors_are_asked_and_torchs_list_may_be_in_the_environment() -> None:
    need("cmake")
    words = [
        "cmake",
        "-DARCHS_OF=project",
        "-DGPU_TARGETS=gfx942",
        "-P",
        str(paths.cmake_dir() / "kpackArchs.cmake"),
    ]
    used = environment(TORCH_CUDA_ARCH_LIST="9.0")
    done = subprocess.run(words, env=used, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "sm_90;gfx942"
