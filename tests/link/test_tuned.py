"""Baked tuning tables in real programs: a member of its own that comes with its kernel, in four linkers."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from packs import images, plan
from tools import CFLAGS, LINKERS, PROGRAMS, attempt, need, run

from kpack.errors import FormatError
from kpack.objfile import abi
from kpack.objfile.archive import Member, write_archive
from kpack.objfile.descriptor import variant_hash
from kpack.objfile.encode import encode_index, encode_kernel, encode_tuning
from kpack.objfile.reading import read_pack
from kpack.tuning.key import tuning_hash

HERE = Path(__file__).parent
linkers = pytest.mark.parametrize("linker", LINKERS)
modes = pytest.mark.parametrize("mode", ["-pie", "-no-pie"])
collecting = pytest.mark.parametrize("gc", ["", "-Wl,--gc-sections"], ids=["keep", "gc"])


def hashes(name: str) -> list[int]:
    return [variant_hash(plan(name), variant, "") for variant in plan(name).variants]


def members(choices: dict[int, int], tuned: tuple[str, ...] = ("softmax",)) -> list[Member]:
    """Kernels of a pack, and tables of those that are tuned: number of a variant by key."""
    names = ("add", "softmax", "vec")
    kernels = [encode_kernel("tk", plan(name), images(plan(name)), tuned=name in tuned) for name in names]
    tables = [
        encode_tuning(
            "tk", name, tuning_hash(hashes(name)), [(k, hashes(name)[v]) for k, v in choices.items()]
        )
        for name in tuned
    ]
    return [*kernels, *tables, encode_index("tk", kernels)]


CHOICES = {0xFFFF_0000_0000_0001: 2, 5: 0, 7: 1}


def told(name: str = "softmax", choices: dict[int, int] = CHOICES) -> str:
    entries = "".join(f" {key:016x}={hashes(name)[choices[key]]:016x}" for key in sorted(choices))
    return f"{name}: {abi.TUNING.size} {abi.ABI_MAJOR}.{abi.ABI_MINOR} {tuning_hash(hashes(name)):016x}{entries}\n"


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc")
    shop = tmp_path_factory.mktemp("tuned")
    write_archive(shop / "libtk.a", members(CHOICES))
    run("gcc", *CFLAGS, "-fPIC", "-c", HERE / "tuned.c", "-o", shop / "walk.o")
    for kernel in ("softmax", "add"):
        named = f"-DKERNEL=kpack_kernel_tk_{kernel}"
        run("gcc", *CFLAGS, named, "-fPIC", "-c", HERE / "tuned.c", "-o", shop / f"{kernel}.o")
    return shop


def link(linker: str, output: Path, *arguments: object) -> Path:
    need(PROGRAMS[linker])
    strict = ("-Wl,--fatal-warnings", "-Wl,-z,text")
    run("gcc", f"-fuse-ld={linker}", *strict, *filter(None, arguments), "-o", output)
    return output


def whole(archive: Path) -> tuple[str, Path, str]:
    return ("-Wl,--whole-archive", archive, "-Wl,--no-whole-archive")


@linkers
@modes
@collecting
def test_a_whole_archive_has_the_table_of_each_kernel(
    shop: Path, tmp_path: Path, linker: str, mode: str, gc: str
) -> None:
    program = link(linker, tmp_path / "walk", mode, gc, shop / "walk.o", *whole(shop / "libtk.a"))
    assert run(program) == f"add: none\n{told()}vec: none\n"


@linkers
@modes
@collecting
def test_naming_a_kernel_brings_its_table_and_no_other_member(
    shop: Path, tmp_path: Path, linker: str, mode: str, gc: str
) -> None:
    program = link(linker, tmp_path / "named", mode, gc, shop / "softmax.o", shop / "libtk.a")
    assert run(program) == told()
    plain = link(linker, tmp_path / "plain", mode, gc, shop / "add.o", shop / "libtk.a")
    assert run(plain) == "add: none\n"
    found = run("nm", plain)
    assert "kpack_tuning" not in found
    assert "kpack_tuning_tk_softmax" in run("nm", program)


@linkers
def test_a_shared_library_keeps_its_table_to_itself(shop: Path, tmp_path: Path, linker: str) -> None:
    library = link(linker, tmp_path / "libtk.so", "-shared", shop / "softmax.o", *whole(shop / "libtk.a"))
    assert "kpack_tuning" not in run("nm", "-D", library)
    for section in (".rela.dyn", ".rela.plt"):
        assert "kpack" not in run("readelf", "-rW", library), section
    assert hasattr(ctypes.CDLL(str(library)), "dump_all")


@linkers
def test_the_same_table_from_two_archives_folds_and_another_is_refused(
    shop: Path, tmp_path: Path, linker: str
) -> None:
    write_archive(tmp_path / "libsame.a", members(CHOICES))
    write_archive(tmp_path / "libother.a", members({5: 1}))
    both = (shop / "walk.o", *whole(shop / "libtk.a"))
    program = link(linker, tmp_path / "walk", *both, *whole(tmp_path / "libsame.a"))
    assert told() in run(program)
    need(PROGRAMS[linker])
    done = attempt("gcc", f"-fuse-ld={linker}", *both, *whole(tmp_path / "libother.a"), "-o", tmp_path / "no")
    assert done.returncode
    assert "kpack_tuning_tk_softmax" in done.stderr


def test_a_table_makes_no_other_kernel_but_having_one_does() -> None:
    def kernel(choices: dict[int, int], tuned: tuple[str, ...]) -> int:
        return next(member for member in members(choices, tuned) if member.file == "softmax.o").hash

    assert kernel(CHOICES, ("softmax",)) == kernel({5: 1}, ("softmax",))
    assert kernel(CHOICES, ("softmax",)) != kernel(CHOICES, ())


def test_a_table_is_read_back(shop: Path, tmp_path: Path) -> None:
    kernels = {kernel.name: kernel for kernel in read_pack(shop / "libtk.a").kernels}
    assert kernels["add"].tuning is None
    table = kernels["softmax"].tuning
    assert table is not None
    assert table.hash == tuning_hash(hashes("softmax"))
    assert [(e.key, e.variant) for e in table.entries] == [
        (key, hashes("softmax")[CHOICES[key]]) for key in sorted(CHOICES)
    ]
    made = members(CHOICES)
    made[3] = encode_tuning("tk", "softmax", 1, [(1, 2)])
    write_archive(tmp_path / "libtk.a", made)
    with pytest.raises(FormatError, match=r"tuning of softmax: expected a table for variants of hash"):
        read_pack(tmp_path / "libtk.a")
