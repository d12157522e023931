"""What was packed comes out as files: the same bytes, under names that say what they are, all of it or nothing."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packs import images, kernel, pack_members, plan, variant
from tools import attempt, need, run
from twice import build_twice

import kpack
from kpack.errors import FormatError, PackError, SpecError
from kpack.extract import extract
from kpack.objfile.archive import write_archive
from kpack.objfile.encode import encode_index, encode_kernel


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> kpack.Pack:
    return build_twice(tmp_path_factory.mktemp("extract"), "gfx90a", "sm_80", "ptx_80")


@pytest.fixture(scope="module")
def archive(pack: kpack.Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack.write(tmp_path_factory.mktemp("archive") / "libmath.a")


VARIANTS = ["fp16.BLOCK256.w2.a16", "fp16.BLOCK256.w2", "fp32.BLOCK256.w2.a16", "fp32.BLOCK256.w2"]
SUFFIXES = {"gfx90a": "hsaco", "sm_80": "cubin", "ptx_80": "ptx"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_image_is_a_file_of_the_bytes_that_were_packed(
    pack: kpack.Pack, archive: Path, tmp_path: Path
) -> None:
    written = extract(archive, tmp_path / "out")
    assert names(tmp_path / "out") == {
        f"twice.{variant}.{target}.{suffix}" for variant in VARIANTS for target, suffix in SUFFIXES.items()
    }
    code = {(VARIANTS[number], image.target.name): image.code for number, image in pack.parts[0].images}
    for each in written:
        made = code[each.variant, each.target]
        assert each.path.read_bytes() == (made.removesuffix(b"\0") if each.target == "ptx_80" else made)
        assert (each.kernel, each.bytes) == ("twice", each.path.stat().st_size)
        assert each.entry == "twice_" + each.variant.replace(".", "_")


def test_other_tools_read_what_comes_out(archive: Path, tmp_path: Path) -> None:
    need("readelf")
    extract(archive, tmp_path, ["twice/fp16.BLOCK256.w2"])
    stem = tmp_path / "twice.fp16.BLOCK256.w2"
    assert "NVIDIA CUDA architecture" in run("readelf", "-h", f"{stem}.sm_80.cubin")
    assert "AMD GPU" in run("readelf", "-h", f"{stem}.gfx90a.hsaco")
    assert ".entry twice_fp16_BLOCK256_w2(" in Path(f"{stem}.ptx_80.ptx").read_text()


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["twice"], 12),
        (["*"], 12),
        (["t?ice/fp16.*"], 6),
        (["twice/fp16.*@sm_*"], 2),
        (["twice/fp16.BLOCK256.w2@gfx90a"], 1),
        (["@ptx_80"], 4),
        (["twice@ptx_80", "twice/fp16.*@ptx_80"], 4),
        (["twice/*@sm_80", "@gfx90a"], 8),
    ],
)
def test_patterns_choose(archive: Path, tmp_path: Path, patterns: list[str], expected: int) -> None:
    written = extract(archive, tmp_path, patterns)
    assert len(written) == len(names(tmp_path)) == expected


@pytest.mark.parametrize("pattern", ["thrice", "twice/fp64.*", "twice@sm_90", "twice/fp16.*@sm_8"])
def test_a_pattern_that_names_nothing_is_refused(archive: Path, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(FormatError, match="got none among kernels twice for gfx90a, sm_80, ptx_80") as caught:
        extract(archive, tmp_path / "out", ["twice", pattern])
    assert repr(pattern) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["", "twice/", "twice@", "/@"])
def test_a_pattern_is_kernel_variant_target(archive: Path, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(SpecError, match=r"pattern: expected KERNEL\[/VARIANT\]\[@TARGET\]"):
        extract(archive, tmp_path, [pattern])


def test_provenance_comes_out_as_json(archive: Path, tmp_path: Path) -> None:
    (written,) = extract(archive, tmp_path, ["twice"], info=True)
    assert written.path == tmp_path / "twice.kpack.info.json"
    assert json.loads(written.path.read_text())["source"].startswith("twice.py:")


def test_a_program_has_images_and_no_provenance(archive: Path, tmp_path: Path) -> None:
    need("cc")
    whole = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"]
    run("cc", "-shared", "-o", tmp_path / "lib.so", *whole)
    extract(archive, tmp_path / "archive")
    extract(tmp_path / "lib.so", tmp_path / "linked")
    assert names(tmp_path / "archive") == names(tmp_path / "linked")
    for path in (tmp_path / "archive").iterdir():
        assert path.read_bytes() == (tmp_path / "linked" / path.name).read_bytes()
    with pytest.raises(FormatError, match="expected provenance, which linking drops, got none"):
        extract(tmp_path / "lib.so", tmp_path / "info", info=True)


def test_of_several_packs_in_a_program_each_is_named(tmp_path: Path) -> None:
    need("cc")
    archives = []
    for pack in ("one", "two"):
        archives.append(tmp_path / f"lib{pack}.a")
        write_archive(archives[-1], pack_members(["softmax"], pack=pack))
    run(
        "cc", "-shared", "-o", tmp_path / "all.so", "-Wl,--whole-archive", *archives, "-Wl,--no-whole-archive"
    )
    written = extract(tmp_path / "all.so", tmp_path / "out", ["softmax/fp32*@sm_80"])
    assert sorted(each.path.name for each in written) == [
        "one.softmax.fp32.BLOCK2048.w8.sm_80.cubin",
        "two.softmax.fp32.BLOCK2048.w8.sm_80.cubin",
    ]


# ---- nothing is lost


def test_what_is_there_is_kept_without_force(archive: Path, tmp_path: Path) -> None:
    mine = tmp_path / "twice.fp16.BLOCK256.w2.sm_80.cubin"
    mine.write_text("mine")
    with pytest.raises(
        PackError, match=r"w2\.sm_80\.cubin: expected nothing there, got a file; give --force"
    ):
        extract(archive, tmp_path)
    assert (names(tmp_path), mine.read_text()) == ({mine.name}, "mine")
    extract(archive, tmp_path, force=True)
    assert len(names(tmp_path)) == 12
    assert mine.read_bytes()[:4] == b"\x7fELF"


def test_a_link_is_not_followed(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    link = tmp_path / "out" / "twice.fp16.BLOCK256.w2.sm_80.cubin"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "precious")
    with pytest.raises(PackError, match="expected nothing there"):
        extract(archive, tmp_path / "out")
    extract(archive, tmp_path / "out", force=True)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not link.is_symlink()


def test_a_failure_leaves_nothing(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name.endswith("fp32.BLOCK256.w2.gfx90a.hsaco"):
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PackError, match="expected a folder to write to, got No space left on device"):
        extract(archive, tmp_path)
    assert names(tmp_path) == set()


def test_damaged_files_give_nothing(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "lib.a").write_bytes(data)
    with pytest.raises(FormatError):
        extract(tmp_path / "lib.a", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_a_hostile_file_are_no_paths(tmp_path: Path) -> None:
    odd = variant("../../evil\nname", (1024, None, 0.5, True, "fast"), entry="evil")
    of = plan(variants=(odd, replace(odd, name=".._.._evil_name")), overloads=plan().overloads[:1])
    member = encode_kernel("tk", of, images(of))
    write_archive(tmp_path / "lib.a", [member, encode_index("tk", [member])])
    written = extract(tmp_path / "lib.a", tmp_path / "a" / "b" / "out", ["@sm_80"])
    assert [os.path.relpath(each.path, tmp_path / "a" / "b" / "out") for each in written] == [
        "softmax._.._evil_name.sm_80.cubin",
        "softmax._.._evil_name.sm_80.2.cubin",
    ]
    assert names(tmp_path) == {"lib.a", "a"}


# ---- the command


def command(*arguments: object) -> tuple[int, str, str]:
    done = attempt(sys.executable, "-c", "import kpack.cli; kpack.cli.main()", "extract", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    member = kernel()
    write_archive(tmp_path / "libtk.a", [member, encode_index("tk", [member])])
    out = tmp_path / "out"
    status, said, error = command(tmp_path / "libtk.a", "softmax/fp32*@sm_80", "-o", out, "--json")
    assert (status, error) == (0, "")
    (written,) = json.loads(said)
    path = out / "softmax.fp32.BLOCK2048.w8.sm_80.cubin"
    assert (written["path"], written["target"], written["bytes"]) == (str(path), "sm_80", path.stat().st_size)
    status, said, error = command(tmp_path / "libtk.a", "-o", out)
    assert (status, said) == (1, "")
    assert error.startswith(
        f"kpack: {path}: expected nothing there, got a file; give --force to replace it\n"
    )
