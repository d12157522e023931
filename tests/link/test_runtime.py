"""The runtime archive in real programs: who can link it, what it brings in, and what it leaves out."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from packs import pack_members
from tools import C_COMPILERS, CFLAGS, CXX_COMPILERS, INCLUDE, LINKERS, PROGRAMS, need, run

import kpack
from kpack import paths
from kpack.objfile.archive import write_archive
from kpack.objfile.elf import read_elf

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
    assert printed.count("KPK_DRY\ntwice on sm_80 (dry)\n") == 2
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
    # With all of the runtime, and nothing undefined in it but what libc has.
    run(
        "gcc",
        "-shared",
        "-Wl,-z,defs",
        shop / "plugin.o",
        *whole,
        "-ldl",
        "-lpthread",
        "-o",
        shop / "plugin.so",
    )
    assert exported(shop / "plugin.so") == ["kpk_entry_tk", "plugin_devices"]


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_every_name_is_found_and_no_other(tmp_path: Path, count: int, minor: int) -> None:
    need("gcc")
    # Of every length, so that each way to end a word of eight letters is there.
    names = [("x" * (number % 27) + f"k{number}")[-26:] for number in range(count)]
    members = pack_members(names)
    if minor == 0:  # which had 48 bytes, and no table of names
        data = bytearray(members[-1].data)
        home = read_elf(members[-1].data).section(".rodata.kpack_pack.tk")
        struct.pack_into("<IHH", data, home.offset, 48, 1, 0)
        members[-1] = replace(members[-1], data=bytes(data))
    write_archive(tmp_path / "libtk.a", members)
    whole = ("-Wl,--whole-archive", tmp_path / "libtk.a", "-Wl,--no-whole-archive", paths.library_path())
    run("gcc", *CFLAGS, HERE / "find.c", *whole, "-ldl", "-lpthread", "-o", tmp_path / "find")
    cut = (name[:-1] for name in names if name[:-1] not in names)
    others = ["", "x", "k", "zzzzzzzz", *(name + "_" for name in names), *cut]
    found = run(tmp_path / "find", *names, *others).splitlines()
    assert found == names + ["-"] * len(others)


CXX_PROGRAM = """
#include <kpack/kpack.hpp>
KPACK_KERNEL(tk, twice);
KPACK_KERNEL(tk, twice_kernel);
enum class Count : int { kFew = 3 };
// What programs keep, in a class of default visibility: g++ warns where a field's type is hidden.
struct Held {
  kpack::Kernel kernel;
  kpack::Bound bound;
  kpack::Status status;
  kpack::Stream stream;
  kpack::TensorDescriptor tensor;
  kpack::Pointer pointer;
};
extern "C" __attribute__((visibility("default"))) int launch_held(Held *held) {
  held->status = held->bound(held->stream, held->pointer, held->pointer, 3);
  held->tensor.pad_with_nan();
  return held->kernel(held->stream, static_cast<float *>(nullptr), 3, 4.0F).code();
}
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


@pytest.mark.parametrize("standard", ["c++17", "gnu++17", "c++20", "c++2b"])
@pytest.mark.parametrize("compiler", CXX_COMPILERS)
def test_the_header_is_clean_and_exports_nothing(shop: Path, compiler: str, standard: str) -> None:
    need(compiler)
    source, library = shop / "program.cc", shop / f"program-{compiler}-{standard}.so"
    source.write_text(CXX_PROGRAM)
    # -O0: what is not inlined would be seen. The kernel that no archive has is declared, never called.
    options = (f"-std={standard}", "-O0", "-fPIC", "-fno-exceptions", "-fno-rtti", f"-I{INCLUDE}", *STRICT)
    whole = ("-Wl,--whole-archive", shop / "libtk.a", "-Wl,--no-whole-archive", paths.library_path())
    run(compiler, *options, "-shared", source, *whole, "-ldl", "-lpthread", "-o", library)
    assert exported(library) == ["kpk_entry_tk", "launch_held", "launch_twice"]


# What the program above leaves out because it brings the instances of std::string with it, or has no C++ at all.
WHOLE_API = """
#include <kpack/kpack.hpp>
#include <cstdio>
KPACK_KERNEL(tk, twice);
int main() {
  const kpk_device device = kpack::cuda_device(0);
  float *out = nullptr;
  if (!tk::twice.supports(device, kpack::ptr(out, kpack::DType::fp16), nullptr, 5)) return 1;
  std::printf("%s", kpack::explain(tk::twice, device, nullptr, nullptr, 5).c_str());
  const kpack::Bound pinned = tk::twice.pin(device, nullptr, nullptr, 5);
  kpk_function function = {};
  kpk_node node = {};
  alignas(128) unsigned char params[256];
  if (!pinned.function(&function) || !pinned.node(params, sizeof params, &node, nullptr, nullptr, 5)) return 1;
  std::printf("%s %u\\n", function.target, node.grid[0]);
  return pinned(nullptr, nullptr, nullptr, 5).dry() && kpack::find("tk", "twice") == nullptr ? 0 : 1;
}
"""


@pytest.mark.parametrize("standard", ["c++17", "c++20", "c++2b"])
@pytest.mark.parametrize("compiler", CXX_COMPILERS)
def test_the_whole_api_compiles_and_runs(shop: Path, compiler: str, standard: str) -> None:
    need(compiler)
    source, program = shop / "whole_api.cc", shop / f"whole_api-{compiler}-{standard}"
    source.write_text(WHOLE_API)
    options = (f"-std={standard}", "-O2", "-fno-exceptions", "-fno-rtti", f"-I{INCLUDE}", *STRICT)
    run(
        compiler, *options, source, shop / "libtk.a", paths.library_path(), "-ldl", "-lpthread", "-o", program
    )
    assert launch_dry(program, "sm_80").endswith("sm_80 1\n")


C_CALLS = """
#include <kpack/kpack.h>
kpk_status launch(const kpk_kernel *kernel, kpk_stream stream, void *out, const void *in, int32_t n, float x);
kpk_status launch(const kpk_kernel *kernel, kpk_stream stream, void *out, const void *in, int32_t n, float x) {
  kpk_call call;
  kpk_call_begin(&call);
  kpk_pass_pointer(&call, out, KPK_FP16);
  kpk_pass_const_pointer(&call, in, KPK_FP16);
  kpk_pass_i1(&call, n > 3), kpk_pass_i8(&call, 1), kpk_pass_i16(&call, 1), kpk_pass_i32(&call, n);
  kpk_pass_u8(&call, 1), kpk_pass_u16(&call, 1), kpk_pass_u32(&call, 1), kpk_pass_u64(&call, 1);
  kpk_pass_fp32(&call, x), kpk_pass_fp64(&call, x), kpk_pass_i64(&call, n);
  return kpk_launch_call(kernel, stream, &call);
}
kpk_status launch_bound(const kpk_bound *bound, kpk_stream stream, const kpk_tensor *tensor);
kpk_status launch_bound(const kpk_bound *bound, kpk_stream stream, const kpk_tensor *tensor) {
  kpk_call call;
  kpk_call_begin(&call);
  kpk_pass_tensor(&call, tensor, KPK_FP16), kpk_pass_const_tensor(&call, tensor, KPK_FP16);
  kpk_pass_null(&call), kpk_pass_text(&call, "tanh"), kpk_pass_dtype(&call, KPK_BF16);
  return kpk_launch_bound_call(bound, stream, &call);
}
"""


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_a_compiler_knows_types_and_layout_of_a_c_call(tmp_path: Path, compiler: str) -> None:
    """The types of a call are hashed by multiplications, of which nothing may be left; -O0 has them all."""
    need(compiler)
    (tmp_path / "a.c").write_text(C_CALLS)

    def multiplications(level: str) -> int:
        run(compiler, level, f"-I{INCLUDE}", "-S", tmp_path / "a.c", "-o", tmp_path / "a.s")
        return len(re.findall(r"^\t\w*mul", (tmp_path / "a.s").read_text(), re.M))

    assert multiplications("-O0") == 13 + 5
    assert multiplications("-O2") == 0


@pytest.mark.parametrize("standard", ["c99", "c11", "c17", "c2x"])
@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_the_c_header_is_clean(tmp_path: Path, compiler: str, level: str, standard: str) -> None:
    need(compiler)
    (tmp_path / "a.c").write_text(C_CALLS)
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Werror")
    options = (f"-std={standard}", level, f"-I{INCLUDE}", *strict)
    run(compiler, *options, "-c", tmp_path / "a.c", "-o", tmp_path / "a.o")


@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("compiler", CXX_COMPILERS)
def test_the_c_header_is_clean_in_cxx(tmp_path: Path, compiler: str, level: str) -> None:
    need(compiler)
    (tmp_path / "a.cc").write_text(C_CALLS)
    run(compiler, level, f"-I{INCLUDE}", *STRICT, "-c", tmp_path / "a.cc", "-o", tmp_path / "a.o")


@pytest.mark.parametrize("compiler", CXX_COMPILERS)
def test_every_compiler_takes_the_runtime(compiler: str) -> None:
    need(compiler)
    folder = INCLUDE.parent / "src"
    sources = sorted(folder.glob("**/*.cc"))
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
    options = ("-std=c++17", "-fno-exceptions", "-fno-rtti", f"-I{INCLUDE}", f"-I{folder}", *strict)
    run(compiler, "-fsyntax-only", *options, *sources, timeout_s=300)


CHECKED = """
#include <kpack/kpack.hpp>
#include <cstdio>
KPACK_KERNEL(tk, twice);
int main() {
  __half *out = nullptr;
  const __half *in = nullptr;
  // A pointer across elements, an i32 that is none, and a const that is written.
  const kpack::Status odd = tk::twice(nullptr, reinterpret_cast<__half *>(1), in, 5);
  const kpack::Status wide = tk::twice(nullptr, out, in, INT64_C(1) << 32);
  const kpack::Status written = tk::twice(nullptr, in, in, 5);
  const kpack::Status few = tk::twice(nullptr, out, in);
  std::printf("%s %s %s %s\\n", odd.name(), wide.name(), written.name(), few.name());
}
"""


@pytest.mark.parametrize("checks", [True, False], ids=["checked", "unchecked"])
def test_only_a_build_option_leaves_checks_out(shop: Path, checks: bool) -> None:
    """-DKPACK_CHECKS=OFF defines KPACK_UNCHECKED; number and types of arguments are looked at all the same."""
    need("g++")
    source, program = shop / "checked.cc", shop / f"checked-{checks}"
    source.write_text(CHECKED)
    folder = INCLUDE.parent / "src"
    sources = sorted(folder.glob("**/*.cc"))
    options = ("-std=c++17", f"-I{INCLUDE}", f"-I{folder}", *(() if checks else ("-DKPACK_UNCHECKED",)))
    run(
        "g++", *options, source, *sources, shop / "libtk.a", "-ldl", "-lpthread", "-o", program, timeout_s=300
    )
    ran = "KPK_ERROR_ARGUMENT" if checks else "KPK_DRY"
    assert launch_dry(program, "sm_80").split() == [ran, ran, ran, "KPK_ERROR_ARGUMENT"]


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
    launch = {"launch", "shortcut", "call", "select", "plan", "expr", "types", "device", "driver"}
    launch |= {"scratch", "pool", "cuda_scratch", "hip_scratch", "hip_launch", "pick", "op_launch"}
    assert {"launch", "call", "plan", "driver", "scratch", "pick", "op_launch"} <= undefined.keys()
    slow = ALLOCATES | LOCKS
    assert not {
        name: undefined.get(name, set()) & slow for name in launch if undefined.get(name, set()) & slow
    }
    # The one place that does both, on first use.
    assert {"aligned_alloc", "pthread_mutex_lock"} <= undefined["module"]
