"""An archive in real programs: four linkers link it, and the program that runs is the judge.

What each program must print is worked out from what was packed, without our own reader.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import pytest
from packs import images, pack_members, plan
from tools import CFLAGS, LINKERS, PROGRAMS, attempt, need, run, which

from kpack.objfile import abi
from kpack.objfile.archive import Member, write_archive

HERE = Path(__file__).parent
KERNELS = ("add", "softmax", "vec")

linkers = pytest.mark.parametrize("linker", LINKERS)
modes = pytest.mark.parametrize("mode", ["-pie", "-no-pie"])
collecting = pytest.mark.parametrize("gc", ["", "-Wl,--gc-sections"], ids=["keep", "gc"])


@pytest.fixture(scope="session")
def members() -> list[Member]:
    return pack_members(KERNELS)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, members: list[Member]) -> Path:
    """A folder with libtk.a and every program compiled once; -fPIC code links in every mode."""
    need("gcc", "g++")
    shop = tmp_path_factory.mktemp("shop")
    write_archive(shop / "libtk.a", members)
    for name in ("walk", "by_name", "stub", "open"):
        run("gcc", *CFLAGS, "-fPIC", "-c", HERE / f"{name}.c", "-o", shop / f"{name}.o")
    run("g++", *CFLAGS, "-std=c++17", "-fPIC", "-x", "c++", "-c", HERE / "walk.c", "-o", shop / "walk_cc.o")
    missing = "-DKERNEL=kpack_kernel_tk_nowhere"
    run("gcc", *CFLAGS, missing, "-fPIC", "-c", HERE / "by_name.c", "-o", shop / "missing.o")
    run("gcc", shop / "open.o", "-ldl", "-o", shop / "open")
    return shop


def expected_kernel(member: Member) -> str:
    """What dump_kernel prints, from what went in."""
    of = plan(member.name)
    lines = [
        f"kernel {of.name} of tk {member.hash:016x}",
        f" guard n <= BLOCK grid n source {of.source}",
        " state 64",
    ]
    lines += [f" param {param.name} {param.type}" for param in of.params]
    lines += [f" overload {abi.signature(o.types):016x} {o.selected[0] or '-'}" for o in of.overloads]
    found = images(of)
    for index, variant in enumerate(of.variants):
        lines.append(f" variant {variant.name} first constexpr {variant.constexprs[0]}")
        for target in variant.targets:
            image = found[index, target.name]
            lines.append(
                f"  image {of.name}.{variant.name}.{target.name} {target.name} {target.processor or '-'} {image.entry} "
                f"{len(image.code)} bytes {abi.fnv1a(image.code):016x}"
            )
            lines.append(
                "   slots" + "".join(f" {s.source}:{s.index}@{s.offset}+{s.size}" for s in image.layout)
            )
    return "\n".join(lines) + "\n"


def expected_pack(members: list[Member]) -> str:
    kernels = sorted(members[:-1], key=lambda member: member.name)
    return "pack tk major 1\n" + "".join(f"entry {k.name}\n{expected_kernel(k)}" for k in kernels)


def named(members: list[Member]) -> str:
    return expected_kernel(next(member for member in members if member.name == "softmax"))


def link(linker: str, output: Path, *arguments: object, driver: str = "gcc") -> str:
    """Link, with every warning an error and no relocation of read-only memory allowed."""
    need(PROGRAMS[linker])
    strict = ("-Wl,--fatal-warnings", "-Wl,-z,text")
    run(driver, f"-fuse-ld={linker}", *strict, *filter(None, arguments), "-o", output)
    return str(output)


def whole(archive: Path) -> tuple[str, Path, str]:
    return ("-Wl,--whole-archive", archive, "-Wl,--no-whole-archive")


def symbols(program: Path) -> set[str]:
    return {line.split()[-1] for line in run("nm", program).splitlines()}


@linkers
@modes
@collecting
def test_whole_archive_is_walked(
    shop: Path, tmp_path: Path, members: list[Member], linker: str, mode: str, gc: str
) -> None:
    link(linker, tmp_path / "walk", mode, gc, shop / "walk.o", *whole(shop / "libtk.a"))
    assert run(tmp_path / "walk") == expected_pack(members)


@linkers
@modes
@collecting
def test_naming_a_kernel_pulls_exactly_its_member(
    shop: Path, tmp_path: Path, members: list[Member], linker: str, mode: str, gc: str
) -> None:
    link(linker, tmp_path / "by_name", mode, gc, shop / "by_name.o", shop / "libtk.a")
    assert run(tmp_path / "by_name") == named(members)
    found = symbols(tmp_path / "by_name")
    assert "softmax.fp16.BLOCK1024.w4.gfx90a" in found
    assert not [
        s for s in found if re.search(r"kpack_kernel_tk_(add|vec)|kpk_entry|kpack_pack|^(add|vec)\.", s)
    ]


@linkers
@collecting
def test_a_shared_library_exports_its_pack_and_nothing_else(
    shop: Path, tmp_path: Path, members: list[Member], linker: str, gc: str
) -> None:
    library = tmp_path / "libtk.so"
    link(linker, library, "-shared", gc, *whole(shop / "libtk.a"))
    assert run(shop / "open", library, "kpk_entry_tk") == expected_pack(members)
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    assert {name for name in exported if "kp" in name} == {"kpk_entry_tk"}


@linkers
@collecting
def test_a_shared_library_names_its_kernel(
    shop: Path, tmp_path: Path, members: list[Member], linker: str, gc: str
) -> None:
    library = tmp_path / "libuser.so"
    link(linker, library, "-shared", gc, shop / "by_name.o", shop / "libtk.a")
    assert run(shop / "open", library, "dump_by_name") == named(members)


@linkers
@pytest.mark.parametrize("root", ["kpack_pack_tk", "kpk_entry_tk"])
def test_asking_for_the_pack_keeps_and_finds_everything(
    shop: Path, tmp_path: Path, members: list[Member], linker: str, root: str
) -> None:
    link(linker, tmp_path / "walk", f"-Wl,-u,{root},--gc-sections", shop / "walk.o", shop / "libtk.a")
    assert run(tmp_path / "walk") == expected_pack(members)


@linkers
def test_nothing_comes_in_unasked(shop: Path, tmp_path: Path, linker: str) -> None:
    link(linker, tmp_path / "walk", shop / "walk.o", shop / "libtk.a")
    assert run(tmp_path / "walk") == ""
    assert not [name for name in symbols(tmp_path / "walk") if name.startswith(("kpack_kernel", "kpk_"))]


STATIC = [
    pair for pair in itertools.product(LINKERS, ("-static", "-static-pie")) if pair != ("gold", "-static-pie")
]


@pytest.mark.parametrize(("linker", "static"), STATIC)  # gold has no -static-pie
def test_static_programs(shop: Path, tmp_path: Path, members: list[Member], linker: str, static: str) -> None:
    link(linker, tmp_path / "walk", static, "-Wl,--gc-sections", shop / "walk.o", *whole(shop / "libtk.a"))
    assert run(tmp_path / "walk") == expected_pack(members)


@linkers
def test_a_cxx_program_walks(shop: Path, tmp_path: Path, members: list[Member], linker: str) -> None:
    link(linker, tmp_path / "walk", shop / "walk_cc.o", *whole(shop / "libtk.a"), driver="g++")
    assert run(tmp_path / "walk") == expected_pack(members)


@linkers
def test_a_missing_kernel_is_a_link_error_that_names_it(shop: Path, tmp_path: Path, linker: str) -> None:
    need(PROGRAMS[linker])
    done = attempt("gcc", f"-fuse-ld={linker}", shop / "missing.o", shop / "libtk.a", "-o", tmp_path / "x")
    assert done.returncode != 0
    assert "kpack_kernel_tk_nowhere" in done.stderr


@linkers
def test_the_same_content_from_two_archives_folds(
    shop: Path, tmp_path: Path, members: list[Member], linker: str
) -> None:
    write_archive(tmp_path / "libother.a", members)
    both = (*whole(shop / "libtk.a"), *whole(tmp_path / "libother.a"))
    link(linker, tmp_path / "walk", "-Wl,--gc-sections", shop / "walk.o", *both)
    assert run(tmp_path / "walk") == expected_pack(members)


@linkers
def test_other_content_under_the_same_name_is_a_link_error(shop: Path, tmp_path: Path, linker: str) -> None:
    need(PROGRAMS[linker])
    write_archive(tmp_path / "libother.a", pack_members(KERNELS, fill=2))
    both = (*whole(shop / "libtk.a"), *whole(tmp_path / "libother.a"))
    done = attempt("gcc", f"-fuse-ld={linker}", shop / "walk.o", *both, "-o", tmp_path / "walk")
    assert done.returncode != 0
    assert re.search(r"(multiple definition of|duplicate symbol:).*kpack_kernel_tk_softmax", done.stderr)


@linkers
def test_two_packs_in_one_program(shop: Path, tmp_path: Path, members: list[Member], linker: str) -> None:
    write_archive(tmp_path / "libother.a", pack_members(("add",), pack="other"))
    link(
        linker, tmp_path / "walk", shop / "walk.o", *whole(shop / "libtk.a"), *whole(tmp_path / "libother.a")
    )
    printed = run(tmp_path / "walk")
    assert re.findall(r"^pack (\w+)", printed, re.M) == ["tk", "other"]
    assert printed.startswith(expected_pack(members))


# ---- what the linked program must not have


def relocations(program: Path) -> Counter[str]:
    return Counter(re.findall(r"\b(R_X86_64_\w+)", run("readelf", "-rW", program)))


def sections(program: Path) -> dict[str, int]:
    """Name -> size of every section."""
    listed = re.findall(r"\] (\S+) +\S+ +[0-9a-f]{16} [0-9a-f]+ ([0-9a-f]+)", run("readelf", "-SW", program))
    return {name: int(size, 16) for name, size in listed}


@linkers
@pytest.mark.parametrize("mode", ["-pie", "-no-pie", "-shared"])
def test_no_relocation_no_constructor_no_executable_stack(
    shop: Path, tmp_path: Path, linker: str, mode: str
) -> None:
    with_archive, without = tmp_path / "with", tmp_path / "without"
    link(linker, with_archive, mode, shop / "by_name.o", shop / "libtk.a")
    link(linker, without, mode, shop / "by_name.o", shop / "stub.o")
    assert relocations(with_archive) == relocations(without)
    for name in (".init_array", ".ctors", ".preinit_array", ".data.rel.ro"):
        assert sections(with_archive).get(name) == sections(without).get(name), name
    assert ".kpack.info" not in sections(with_archive)
    stack = re.search(r"GNU_STACK.*", run("readelf", "-lW", with_archive))
    assert stack and "RW " in stack[0], stack
    header = run("readelf", "-lW", with_archive)
    assert not re.search(r"LOAD.* RWE ", header), header


# ---- other tools on the way


@pytest.mark.parametrize("option", ["--strip-debug", "--strip-unneeded"])
def test_a_stripped_archive_links(shop: Path, tmp_path: Path, members: list[Member], option: str) -> None:
    need("strip")
    run("strip", option, shop / "libtk.a", "-o", tmp_path / "libtk.a")
    link("bfd", tmp_path / "walk", "-Wl,--gc-sections", shop / "walk.o", *whole(tmp_path / "libtk.a"))
    assert run(tmp_path / "walk") == expected_pack(members)


@linkers
def test_a_stripped_program_runs(shop: Path, tmp_path: Path, members: list[Member], linker: str) -> None:
    need("strip")
    link(linker, tmp_path / "walk", shop / "walk.o", *whole(shop / "libtk.a"))
    run("strip", tmp_path / "walk")
    assert run(tmp_path / "walk") == expected_pack(members)


# Partial links whose result another linker takes for something else, whatever the object.
BROKEN_PARTIAL_LINKS = {
    ("gold", "lld"): "gold -r names groups by a section symbol, which lld reads as one nameless group",
    ("mold", "gold"): "mold -r puts groups behind their members, which gold refuses",
}
PARTIAL_LINKS = [pair for pair in itertools.product(LINKERS, LINKERS) if pair not in BROKEN_PARTIAL_LINKS]


@pytest.mark.parametrize(("relinker", "linker"), PARTIAL_LINKS)
def test_a_partial_link_survives(
    shop: Path, tmp_path: Path, members: list[Member], relinker: str, linker: str
) -> None:
    need(PROGRAMS[relinker])
    run(PROGRAMS[relinker], "-r", "--whole-archive", shop / "libtk.a", "-o", tmp_path / "tk.o")
    # gold -r drops SHF_GNU_RETAIN, without which a section that only __start_ names may be collected.
    gc = "" if relinker == "gold" else "-Wl,--gc-sections"
    link(linker, tmp_path / "walk", gc, shop / "walk.o", tmp_path / "tk.o")
    assert run(tmp_path / "walk") == expected_pack(members)


def test_lto_programs_walk(shop: Path, tmp_path: Path, members: list[Member]) -> None:
    run("gcc", *CFLAGS, "-flto", "-c", HERE / "walk.c", "-o", tmp_path / "walk.o")
    link(
        "bfd", tmp_path / "walk", "-flto", "-Wl,--gc-sections", tmp_path / "walk.o", *whole(shop / "libtk.a")
    )
    assert run(tmp_path / "walk") == expected_pack(members)


# ---- the other host

CROSS = "aarch64-linux-gnu-"
CROSS_PROGRAMS = {"bfd": f"{CROSS}ld.bfd", "gold": f"{CROSS}ld.gold", "lld": "ld.lld", "mold": "mold"}


@linkers
@pytest.mark.parametrize("mode", ["-pie", "-static"])
def test_aarch64(tmp_path: Path, linker: str, mode: str) -> None:
    need(f"{CROSS}gcc", "qemu-aarch64", CROSS_PROGRAMS[linker])
    # A cross gcc does not find lld and mold by name; it takes whatever is called ld in this folder.
    (tmp_path / "ld").symlink_to(which(CROSS_PROGRAMS[linker]))
    members = pack_members(KERNELS, host="aarch64")
    write_archive(tmp_path / "libtk.a", members)
    run(f"{CROSS}gcc", *CFLAGS, "-fPIC", "-c", HERE / "walk.c", "-o", tmp_path / "walk.o")
    run(
        f"{CROSS}gcc", f"-B{tmp_path}", mode, "-Wl,--fatal-warnings,-z,text,--gc-sections",
        tmp_path / "walk.o", *whole(tmp_path / "libtk.a"), "-o", tmp_path / "walk",
    )  # fmt: skip
    assert run("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", tmp_path / "walk") == expected_pack(members)
