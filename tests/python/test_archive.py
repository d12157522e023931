"""Archives, judged by GNU ar and by what cannot be read."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest
from packs import pack_members
from tools import need, run

from kpack.errors import FormatError, PackError
from kpack.objfile import archive
from kpack.objfile.archive import Member, read_archive, write_archive

LONG = "a_kernel_with_quite_a_long_name"


@pytest.fixture(scope="module")
def members() -> list[Member]:
    return pack_members(("add", "softmax", LONG, LONG + "_2", "v" * 13))


def member(file: str, data: bytes, *symbols: str) -> Member:
    return Member(file, data, symbols, file, 0)


def extract(path: Path, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    run("ar", "x", path, "--output", folder)
    return [folder / name for name in run("ar", "t", path).split()]


def test_gnu_ar_writes_the_same_bytes(tmp_path: Path, members: list[Member]) -> None:
    need("ar")
    write_archive(tmp_path / "libtk.a", members)
    objects = extract(tmp_path / "libtk.a", tmp_path / "objects")
    run("ar", "rcsD", tmp_path / "again.a", *objects)
    assert (tmp_path / "libtk.a").read_bytes() == (tmp_path / "again.a").read_bytes()


def test_gnu_ar_extracts_what_was_written(tmp_path: Path, members: list[Member]) -> None:
    need("ar")
    write_archive(tmp_path / "libtk.a", members)
    objects = extract(tmp_path / "libtk.a", tmp_path / "objects")
    assert [(path.name, path.read_bytes()) for path in objects] == [(m.file, m.data) for m in members]


def test_what_was_written_is_read(tmp_path: Path, members: list[Member]) -> None:
    write_archive(tmp_path / "libtk.a", members)
    assert read_archive(tmp_path / "libtk.a") == [(m.file, m.data) for m in members]


@pytest.mark.parametrize("form", ["rcsD", "rcS"])
def test_archives_of_gnu_ar_are_read(tmp_path: Path, members: list[Member], form: str) -> None:
    need("ar")
    for made in members:
        (tmp_path / made.file).write_bytes(made.data)
    run("ar", form, tmp_path / "lib.a", *(tmp_path / made.file for made in members))
    assert read_archive(tmp_path / "lib.a") == [(made.file, made.data) for made in members]


def test_the_64_bit_index_is_read_by_binutils(
    tmp_path: Path, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("nm")
    monkeypatch.setattr(archive, "_LIMIT32", 100)
    write_archive(tmp_path / "libtk.a", members)
    assert (tmp_path / "libtk.a").read_bytes()[8:16] == b"/SYM64/ "
    listed = run("nm", "--print-armap", tmp_path / "libtk.a")
    for made in members:
        for symbol in made.symbols:
            assert f"{symbol} in {made.file}\n" in listed
    assert read_archive(tmp_path / "libtk.a") == [(m.file, m.data) for m in members]


def test_same_members_same_bytes(tmp_path: Path) -> None:
    for name in ("one.a", "two.a"):
        write_archive(tmp_path / name, pack_members())
    assert (tmp_path / "one.a").read_bytes() == (tmp_path / "two.a").read_bytes()


def test_an_archive_is_replaced_whole(tmp_path: Path, members: list[Member]) -> None:
    write_archive(tmp_path / "libtk.a", members)
    write_archive(tmp_path / "libtk.a", members[:1])
    assert [name for name, _ in read_archive(tmp_path / "libtk.a")] == [members[0].file]
    assert os.listdir(tmp_path) == ["libtk.a"]


def test_permissions_follow_the_umask(tmp_path: Path, members: list[Member]) -> None:
    write_archive(tmp_path / "libtk.a", members)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "libtk.a").stat().st_mode == (tmp_path / "plain").stat().st_mode


# ---- what cannot be written


def test_an_unwritable_path_is_an_error_with_its_reason(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(
        PackError, match=r"nowhere/libtk\.a: expected a place .*, got No such file or directory"
    ):
        write_archive(tmp_path / "nowhere" / "libtk.a", members)
    assert os.listdir(tmp_path) == []


def test_a_directory_in_the_way_stays_and_nothing_is_left_beside_it(
    tmp_path: Path, members: list[Member]
) -> None:
    (tmp_path / "libtk.a").mkdir()
    with pytest.raises(PackError, match="got Is a directory"):
        write_archive(tmp_path / "libtk.a", members)
    assert os.listdir(tmp_path) == ["libtk.a"]


def test_a_failure_half_way_leaves_the_old_archive(
    tmp_path: Path, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "libtk.a", members)
    before = (tmp_path / "libtk.a").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PackError, match="got No space left on device"):
        write_archive(tmp_path / "libtk.a", members[:1])
    assert (tmp_path / "libtk.a").read_bytes() == before
    assert os.listdir(tmp_path) == ["libtk.a"]


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([member("a.o", b"1", "x"), member("a.o", b"2", "y")], r"each member once, got a\.o twice"),
        ([member("a.o", b"1", "x"), member("b.o", b"2", "x")], "each symbol once, got x twice"),
    ],
    ids=["member", "symbol"],
)
def test_duplicates_are_refused(tmp_path: Path, members: list[Member], what: str) -> None:
    with pytest.raises(PackError, match=what):
        write_archive(tmp_path / "libtk.a", members)


# ---- what cannot be read

HEADER = b"a.o/            0           0     0     644     4         `\n"

BAD = {
    "empty": (b"", r"expected an archive \('!<arch>'\), got an empty file"),
    "text": (b"hello, world, this is no archive", r"expected an archive \('!<arch>'\), got 'hello, w'"),
    "elf": (b"\x7fELF" + bytes(100), "expected an archive .* got '.x7fELF"),
    "thin": (b"!<thin>\n", "got a thin one"),
    "half a header": (b"!<arch>\n" + HEADER[:30], "expected 60 bytes of header"),
    "no header end": (b"!<arch>\n" + HEADER[:58] + b"xx" + b"1234", "expected 60 bytes of header"),
    "half a member": (b"!<arch>\n" + HEADER + b"123", r"member a\.o/: expected 4 bytes, got 3"),
    "no size": (
        b"!<arch>\n" + HEADER.replace(b"4         `", b"four      `") + b"1234",
        "expected a name and a size",
    ),
    "negative size": (
        b"!<arch>\n" + HEADER.replace(b"4         `", b"-4        `") + b"1234",
        "a name and a size",
    ),
    "no size at all": (
        b"!<arch>\n" + HEADER.replace(b"4         `", b"          `"),
        "expected a name and a size",
    ),
    "long name, no table": (
        b"!<arch>\n" + HEADER.replace(b"a.o/", b"/7  ") + b"1234",
        "expected a name in the table",
    ),
}


@pytest.mark.parametrize(("data", "what"), BAD.values(), ids=BAD.keys())
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "lib.a").write_bytes(data)
    with pytest.raises(FormatError, match=what) as caught:
        read_archive(tmp_path / "lib.a")
    assert "lib.a: " in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"lib\.a: expected a readable file, got No such file"):
        read_archive(tmp_path / "lib.a")


def test_damaged_archives_raise_format_errors_only(tmp_path: Path, members: list[Member]) -> None:
    write_archive(tmp_path / "libtk.a", members)
    whole, random_ = (tmp_path / "libtk.a").read_bytes(), random.Random(1)
    heads = [at for at in range(len(whole)) if whole.startswith(b"`\n", at)]
    for _ in range(500):
        damaged = bytearray(whole[: random_.randrange(len(whole))] if random_.random() < 0.3 else whole)
        for _ in range(4):
            at = random_.choice(heads) - random_.randrange(60)
            if at < len(damaged):
                damaged[at] = random_.choice(b"/ 0129a\0\xff")
        (tmp_path / "bad.a").write_bytes(damaged)
        with contextlib.suppress(FormatError):
            read_archive(tmp_path / "bad.a")
