"""The runtime archive in real programs: who can link it, what it brings in, and what it leaves out."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from tools import CFLAGS, INCLUDE, LINKERS, PROGRAMS, need, run

import kpack
from kpack import paths

HERE = Path(__file__).parent
KERNELS = """
import triton, triton.language as tl, kpack

@triton.jit
def twice_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, 2 * tl.load(in_ptr + at, mask=at < n), mask=at < n)

def kernel(name):
    return kpack.Kernel(
        twice_kernel,
        name=name,
        signature={"out_ptr": "*fp16", "in_ptr": "const *fp16", "n": "i32"},
        constexprs={"BLOCK": 256},
        grid="cdiv(n, BLOCK)",
    )

twice, again = kernel("twice"), kernel("again")
"""
WHOLE = ("-Wl,--whole-archive", "libtk.a", "-Wl,--no-whole-archive")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc", "g++", "nm")
    shop = tmp_path_factory.mktemp("runtime")
    (shop / "twice.py").write_text(KERNELS)
    kpack.build(shop / "twice.py", arch=["sm_80", "gfx90a"]).write(shop / "libtk.a")
    run("gcc", *CFLAGS, "-std=c11", "-pedantic", "-c", HERE / "runtime.c", "-o", shop / "runtime.o")
    return shop


def launch_dry(program: Path, arch: str) -> str:
    environment = {**os.environ, "KPACK_DRIVER": f"dry:{arch}"}
    return subprocess.run([program], env=environment, capture_output=True, text=True, check=True).stdout


def link(shop: Path, output: str, *flags: str, compiler: str = "gcc") -> Path:
    inputs = (shop / word if word.endswith(".a") else word for word in WHOLE)
    objects = (shop / "runtime.o", *inputs, paths.library_path())
    run(compiler, *flags, *objects, "-ldl", "-lpthread", "-o", shop / output)
    return shop / output


def exported(library: Path) -> list[str]:
    """What a shared object offers. ld.bfd lists the bounds of kpack_packs too, marked hidden: nothing binds to
    a hidden symbol from outside."""
    rows = (line.split() for line in run("readelf", "--dyn-syms", "-W", library).splitlines())
    return sorted(
        row[7]
        for row in rows
        if len(row) == 8 and row[6].isdigit() and row[4] != "LOCAL" and row[5] != "HIDDEN"
    )


@pytest.mark.parametrize("mode", ["-pie", "-no-pie"])
@pytest.mark.parametrize("linker", LINKERS)
def test_a_c_program_links_and_launches_without_a_cxx_library(shop: Path, linker: str, mode: str) -> None:
    need(PROGRAMS[linker])
    flags = (f"-fuse-ld={linker}", mode, "-Wl,--gc-sections", "-Wl,--fatal-warnings")
    program = link(shop, f"c-{linker}{mode}", *flags)
    printed = launch_dry(program, "sm_80")
    assert printed.startswith("tk again(*fp16 out_ptr, const *fp16 in_ptr, i32 n)\ntk twice(")
    assert "KPK_DRY\ntwice on sm_80 (dry)\n" in printed
    assert "libstdc++" not in run("ldd", program)


def test_a_static_program_runs(shop: Path) -> None:
    # glibc warns of dlopen in a static program: no --fatal-warnings here.
    program = link(shop, "static", "-static")
    assert "KPK_DRY\ntwice on gfx90a (dry)\n" in launch_dry(program, "gfx90a")


def test_nothing_of_the_runtime_is_exported(shop: Path) -> None:
    (shop / "plugin.c").write_text(
        '#include <kpack/kpack.h>\n__attribute__((visibility("default"))) int plugin_devices(void);\n'
        "int plugin_devices(void) { return kpk_device_count(KPK_VENDOR_ANY); }\n"
    )
    run("gcc", *CFLAGS, "-fPIC", "-c", shop / "plugin.c", "-o", shop / "plugin.o")
    whole = ("-Wl,--whole-archive", shop / "libtk.a", paths.library_path(), "-Wl,--no-whole-archive")
    run("gcc", "-shared", shop / "plugin.o", *whole, "-ldl", "-lpthread", "-o", shop / "plugin.so")
    assert exported(shop / "plugin.so") == ["kpk_entry_tk", "plugin_devices"]


CXX_PROGRAM = """
#include <kpack/kpack.hpp>
KPACK_KERNEL(tk, twice);
KPACK_KERNEL(tk, twice_kernel);
enum class Count : int { kFew = 3 };
extern "C" __attribute__((visibility("default"))) int launch_twice() {
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) static_cast<void>(kernel.name());
  const kpack::Bound bound = tk::twice.bind(kpack::cuda_device(0));
  void *out = nullptr;
  const void *in = nullptr;
  bound(nullptr, kpack::ptr(out, kpack::DType::fp16), kpack::ptr(in, kpack::DType::fp16), Count::kFew);
  return tk::twice(nullptr, nullptr, nullptr, 1LL).code();
}
"""
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wold-style-cast", "-Werror")


@pytest.mark.parametrize("standard", ["c++17", "gnu++17", "c++20"])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_the_header_is_clean_and_exports_nothing(shop: Path, compiler: str, standard: str) -> None:
    need(compiler)
    source, library = shop / "program.cc", shop / f"program-{compiler}-{standard}.so"
    source.write_text(CXX_PROGRAM)
    # -O0: what is not inlined would be seen. The kernel that no archive has is declared, never called.
    options = (f"-std={standard}", "-O0", "-fPIC", "-fno-exceptions", "-fno-rtti", f"-I{INCLUDE}", *STRICT)
    whole = ("-Wl,--whole-archive", shop / "libtk.a", "-Wl,--no-whole-archive", paths.library_path())
    run(compiler, *options, "-shared", source, *whole, "-ldl", "-lpthread", "-o", library)
    assert exported(library) == ["kpk_entry_tk", "launch_twice"]


def test_the_runtime_adds_no_constructor_and_no_executable_stack(shop: Path) -> None:
    program = link(shop, "plain", "-pie")
    sections = run("readelf", "-SW", program)
    size = re.search(r"\.init_array +INIT_ARRAY +\w+ \w+ (\w+)", sections)
    assert size
    assert int(size[1], 16) == 8, "frame_dummy of the C start-up files alone"
    assert re.search(r"GNU_STACK .* RW +0x", run("readelf", "-lW", program))


ALLOCATES = {"malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "_Znwm", "_Znam", "mmap"}
LOCKS = {"pthread_mutex_lock", "pthread_cond_wait"}


def test_the_objects_of_a_launch_neither_allocate_nor_lock() -> None:
    need("nm")
    undefined: dict[str, set[str]] = {}
    member = ""
    for line in run("nm", "--undefined-only", paths.library_path()).splitlines():
        if line.endswith(":"):
            member = line.removesuffix(":").split(".")[0]
        elif line.strip():
            undefined.setdefault(member, set()).add(line.split()[-1])
    launch = {"launch", "call", "select", "plan", "expr", "types", "device", "driver"}
    assert {"launch", "call", "plan", "driver"} <= undefined.keys()
    slow = ALLOCATES | LOCKS
    assert not {
        name: undefined.get(name, set()) & slow for name in launch if undefined.get(name, set()) & slow
    }
    # The one place that does both, on first use.
    assert {"aligned_alloc", "pthread_mutex_lock"} <= undefined["module"]
