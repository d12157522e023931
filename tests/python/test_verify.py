"""What is whole is said to be; what is damaged, lies about its code, or is not what its sources give, is found."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packs import kernel, pack_members
from tools import LINKERS, PROGRAMS, attempt, need, run
from twice import BIAS, KERNEL, build_twice

import kpack
from kpack.image import Image
from kpack.objfile import elf
from kpack.objfile.archive import read_archive, write_archive
from kpack.objfile.encode import encode_index
from kpack.objfile.reading import read_packs
from kpack.verify import Verified, verify


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def pack(shop: Path) -> kpack.Pack:
    return build_twice(shop, "gfx90a", "sm_80", "ptx_80")


@pytest.fixture(scope="module")
def archive(shop: Path, pack: kpack.Pack) -> Path:
    return pack.write(shop / "libmath.a")


def sound(found: Verified) -> bool:
    """Nothing is wrong, and something was read."""
    assert (found.problems, found.stale) == ((), ())
    return found.ok and any(kernel.images for pack in found.packs for kernel in pack.kernels)


def link_whole(library: Path, *archives: Path) -> None:
    run("cc", "-shared", "-o", library, "-Wl,--whole-archive", *archives, "-Wl,--no-whole-archive")


# ---- what is whole


def test_an_archive_that_was_just_built_is_whole(archive: Path) -> None:
    found = verify(archive)
    assert sound(found)
    assert [(p.name, [(k.name, len(k.images)) for k in p.kernels]) for p in found.packs] == [
        ("math", [("twice", 12)])
    ]


def test_a_kernels_object_is_whole(archive: Path, tmp_path: Path) -> None:
    (data,) = (data for name, data in read_archive(archive) if name == "twice.o")
    (tmp_path / "twice.o").write_bytes(data)
    assert sound(verify(tmp_path / "twice.o"))


def test_an_archive_for_another_host_is_whole(pack: kpack.Pack, tmp_path: Path) -> None:
    assert sound(verify(replace(pack, host="aarch64").write(tmp_path / "libmath.a")))


@pytest.mark.parametrize("linker", LINKERS)
def test_what_was_linked_says_the_same(archive: Path, tmp_path: Path, linker: str) -> None:
    need("cc", PROGRAMS[linker])
    library = tmp_path / "libmath.so"
    whole = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"]
    run("cc", "-shared", f"-fuse-ld={linker}", "-o", library, *whole)
    assert sound(verify(library))
    run("strip", library)
    assert sound(verify(library))
    (packed,), (linked,) = read_packs(archive), read_packs(library)
    names = [replace(each, member="", info="") for each in (packed.kernels[0], linked.kernels[0])]
    assert (names[0], packed.hash, packed.host) == (names[1], linked.hash, linked.host)


BY_NAME = """
extern const char kpack_kernel_math_twice[] __attribute__((visibility("hidden")));
int main(void) { return kpack_kernel_math_twice[0] == 0; }
"""


def test_what_was_linked_by_name_is_found_by_its_symbol(archive: Path, tmp_path: Path) -> None:
    need("cc", "strip")
    (tmp_path / "main.c").write_text(BY_NAME)
    run("cc", tmp_path / "main.c", archive, "-o", tmp_path / "app")
    found = verify(tmp_path / "app")
    assert sound(found)
    assert [(p.name, p.hash, [k.name for k in p.kernels]) for p in found.packs] == [("math", 0, ["twice"])]
    run("strip", tmp_path / "app")
    assert (
        "of a stripped one, kernels that were linked by name cannot be found"
        in verify(tmp_path / "app").problems[0]
    )


def test_a_program_has_all_packs_that_were_linked(archive: Path, tmp_path: Path) -> None:
    need("cc")
    write_archive(tmp_path / "libtk.a", pack_members())
    link_whole(tmp_path / "all.so", archive, tmp_path / "libtk.a")
    packs = read_packs(tmp_path / "all.so")
    assert {p.name: [k.name for k in p.kernels] for p in packs} == {
        "math": ["twice"],
        "tk": ["add", "softmax", "vec"],
    }


def test_ready_made_code_is_whole_and_compared_with_its_files(tmp_path: Path) -> None:
    facts = "signature={'out': '*fp32'}, grid=1, num_warps=1"
    (tmp_path / "own.py").write_text(
        f"import kpack\nown = kpack.Images('own', {{'ptx_80': {str(tmp_path / 'own.ptx')!r}}}, {facts})\n"
    )
    ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry own(.param .u64 out)\n{\nret;\n}\n"
    (tmp_path / "own.ptx").write_text(ptx)
    archive = kpack.build(tmp_path / "own.py", "ptx_80").write(tmp_path / "libown.a")
    assert sound(verify(archive, tmp_path / "own.py"))
    (tmp_path / "own.ptx").write_text(ptx.replace("ret;", "ret; // again"))
    (stale,) = verify(archive, tmp_path / "own.py").stale
    assert stale == "kernel own: variants of other source, constants or options: w1"


# ---- what is damaged


def regions(archive: Path) -> dict[str, list[range]]:
    """Where in an archive sections lie."""
    whole = archive.read_bytes()
    found: dict[str, list[range]] = {}
    for _, data in read_archive(archive):
        start = whole.index(data)
        for section in elf.read_elf(data).sections:
            if section.type == elf.SHT_PROGBITS and section.size:
                at = start + section.offset
                found.setdefault(section.name, []).append(range(at, at + section.size))
    return found


@pytest.mark.parametrize(
    ("section", "all_of_it"),
    # The index's hash is of names and kernels: relocated fields, reserved ones and padding may say anything.
    [
        (".lrodata.kpack.twice", True),
        (".rodata.kpack.twice", True),
        (".rodata.kpack_pack.math", False),
        ("kpack_packs", False),
    ],
)
def test_each_byte_that_is_read_counts(archive: Path, tmp_path: Path, section: str, all_of_it: bool) -> None:
    source, data, packs = random.Random(3), archive.read_bytes(), read_packs(archive)
    places = [at for each in regions(archive)[section] for at in each]
    for at in source.sample(places, min(60, len(places))):
        damaged = bytearray(data)
        damaged[at] ^= 1 << source.randrange(8)
        (tmp_path / "lib.a").write_bytes(damaged)
        found = verify(tmp_path / "lib.a")
        assert found.problems or (found.packs == packs and not all_of_it), f"byte {at} of {section}"


def test_damage_anywhere_is_a_problem_and_no_exception(archive: Path, tmp_path: Path) -> None:
    need("cc")
    link_whole(tmp_path / "lib.so", archive)
    source = random.Random(5)
    for path in (archive, tmp_path / "lib.so"):
        data = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(data)
            for _ in range(3):
                damaged[source.randrange(len(data))] = source.randrange(256)
            cut = damaged[: source.randrange(len(data))] if source.random() < 0.3 else damaged
            (tmp_path / "damaged").write_bytes(cut)
            assert isinstance(verify(tmp_path / "damaged").ok, bool)


def test_each_member_is_named_that_is_damaged(tmp_path: Path) -> None:
    write_archive(tmp_path / "lib.a", pack_members())
    data = bytearray((tmp_path / "lib.a").read_bytes())
    for name, member in read_archive(tmp_path / "lib.a"):
        if name in ("add.o", "vec.o"):
            section = elf.read_elf(member).section(f".lrodata.kpack.{name.removesuffix('.o')}")
            data[data.index(member) + section.offset] ^= 1
    (tmp_path / "lib.a").write_bytes(data)
    problems = verify(tmp_path / "lib.a").problems
    assert [problem.split(":")[0] for problem in problems] == ["add.o", "vec.o"]
    assert all("expected content with hash" in problem for problem in problems)


def test_a_comdat_key_that_is_not_the_contents_is_found(archive: Path, tmp_path: Path) -> None:
    # The linker would take another kernel for this one.
    data = bytearray(archive.read_bytes())
    at = data.index(b"kpack_content_") + len(b"kpack_content_") + 7
    data[at] = ord("0") if data[at] != ord("0") else ord("1")
    (tmp_path / "lib.a").write_bytes(data)
    (problem,) = verify(tmp_path / "lib.a").problems
    assert "expected a group kpack_content_" in problem


@pytest.mark.parametrize(
    ("symbols", "problem"),
    [
        (
            (),
            "symbol index: expected kpack_kernel_tk_softmax of softmax.o, got none; make it again with ranlib",
        ),
        (
            ("kpack_kernel_tk_softmax", "kpack_kernel_tk_other"),
            "symbol index: expected what softmax.o defines, got kpack_kernel_tk_other; make it again with ranlib",
        ),
    ],
    ids=["missing", "other"],
)
def test_a_symbol_index_that_misleads_linkers_is_found(
    tmp_path: Path, symbols: tuple[str, ...], problem: str
) -> None:
    member = kernel()
    members = [replace(member, symbols=symbols), encode_index("tk", [member])]
    write_archive(tmp_path / "lib.a", members)
    assert problem in verify(tmp_path / "lib.a").problems


def test_an_archive_without_a_symbol_index_is_found_and_ranlib_helps(archive: Path, tmp_path: Path) -> None:
    need("ar", "ranlib")
    for name, data in read_archive(archive):
        (tmp_path / name).write_bytes(data)
    run("ar", "rcSD", tmp_path / "lib.a", tmp_path / "twice.o", tmp_path / "math.index.o")
    assert verify(tmp_path / "lib.a").problems == (
        "symbol index: expected it first, got none; make it with ranlib",
    )
    run("ranlib", "-D", tmp_path / "lib.a")
    assert sound(verify(tmp_path / "lib.a"))


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"!<arch>\n" + b"x" * 70, b"hello\n"])
def test_what_is_no_archive_is_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    found = verify(tmp_path / "file")
    assert (len(found.problems), found.packs) == (1, ())


# ---- descriptors that say something else than the code


def with_image(pack: kpack.Pack, target: str, change: Callable[[Image], Image]) -> kpack.Pack:
    """The first image for that target is another."""
    (part,) = pack.parts
    at = next(at for at, (_, image) in enumerate(part.images) if image.target.name == target)
    number, image = part.images[at]
    return replace(
        pack,
        parts=(replace(part, images=(*part.images[:at], (number, change(image)), *part.images[at + 1 :])),),
    )


@pytest.mark.parametrize("target", ["sm_80", "gfx90a", "ptx_80"])
@pytest.mark.parametrize(
    "field",
    "registers spill_bytes local_bytes static_shared_bytes max_threads param_bytes least_driver ptx_version".split(),
)
def test_a_fact_that_is_not_the_codes_is_found(
    pack: kpack.Pack, tmp_path: Path, target: str, field: str
) -> None:
    def lie(image: Image) -> Image:
        return replace(image, **{field: getattr(image, field) + 64})  # type: ignore[arg-type]

    (problem,) = verify(with_image(pack, target, lie).write(tmp_path / "libmath.a")).problems
    assert problem.startswith(f"image twice.fp16.BLOCK256.w2.a16.{target}: {field}: expected ")
    assert ", as the code says, got " in problem


@pytest.mark.parametrize(
    ("target", "change", "problem"),
    [
        ("sm_80", {"layout": ()}, "parameters (offset, size): expected [(0, 8), (8, 8)"),
        ("sm_80", {"entry": "other"}, "section .text.other: expected in the file"),
        ("gfx90a", {"entry": "other"}, "other: expected one kernel of this name in the note, got 0"),
        ("ptx_80", {"entry": "other"}, "other: expected PTX text with .version and this entry"),
        ("gfx90a", {"warp_size": 32}, "warp_size: expected 64, as the code says, got 32"),
    ],
    ids=["layout", "cubin-entry", "hsaco-entry", "ptx-entry", "warp"],
)
def test_a_launch_that_the_code_does_not_take_is_found(
    pack: kpack.Pack, tmp_path: Path, target: str, change: dict[str, Any], problem: str
) -> None:
    changed = with_image(pack, target, lambda image: replace(image, **change))
    (found,) = verify(changed.write(tmp_path / "libmath.a")).problems
    assert problem in found


def test_code_of_another_target_is_found(pack: kpack.Pack, tmp_path: Path) -> None:
    (part,) = pack.parts
    code = next(image.code for _, image in part.images if image.target.name == "gfx90a")
    other = code.replace(b"gfx90a", b"gfx942")  # the note's words, not the header's flags
    assert sound(
        verify(with_image(pack, "gfx90a", lambda i: replace(i, code=other)).write(tmp_path / "libmath.a"))
    )
    flags = elf.read_elf(code).flags
    other = code[:48] + (flags & ~0xFF | 0x4C).to_bytes(4, "little") + code[52:]
    problems = verify(
        with_image(pack, "gfx90a", lambda i: replace(i, code=other)).write(tmp_path / "libmath.a")
    ).problems
    assert any("e_flags: expected" in problem for problem in problems)
    assert any("target: expected gfx942" in problem for problem in problems)


def test_provenance_that_is_no_json_is_found(pack: kpack.Pack, tmp_path: Path) -> None:
    (part,) = pack.parts
    archive = replace(pack, parts=(replace(part, info="{"),)).write(tmp_path / "libmath.a")
    (problem,) = verify(archive).problems
    assert problem.startswith("kernel twice: .kpack.info: expected JSON, got ")


# ---- what is not what the sources give

GUARD = ("guard=lambda n: n > 0", "guard=lambda n: n > 8")


@pytest.mark.parametrize(
    ("edits", "stale"),
    [
        ([("2 * tl.load", "3 * tl.load")], ["variants of other source, constants or options: {first} and 3 more"]),
        ([GUARD], ["variants with another guard: {first} and 3 more"]),
        ([("// BLOCK,", "// BLOCK + 1,")], ["variants with another grid: {first} and 3 more"]),
        ([('"n": "i32"', '"n": "i64"')], [
            "variants of other source, constants or options: {first} and 3 more",
            "parameters with another type, flag, range or extent: n",
        ]),
        ([('"const *T:16?"', '"*T:16?"')], ["parameters with another type, flag, range or extent: in_ptr"]),
        ([('["fp16", "fp32"]', '["fp16"]')], [
            "variants that the sources have no more: fp32.BLOCK256.w2.a16 and 1 more",
            "parameters with another type, flag, range or extent: out_ptr and 1 more",
        ]),
        ([('"num_warps": 2}', '"num_warps": 2}, {"BLOCK": 512, "num_warps": 4}')], [
            "variants that the sources have and the file has not: fp16.BLOCK512.w4.a16 and 3 more",
        ]),
        ([("in_ptr", "source")], [
            "variants of other source, constants or options: {first} and 3 more",
            "parameters: expected out_ptr, source, n, as the sources say, got out_ptr, in_ptr, n",
        ]),
    ],
    ids=["body", "guard", "grid", "argument", "const", "types", "configs", "names"],
)  # fmt: skip
def test_what_the_sources_would_change_is_said(
    archive: Path, tmp_path: Path, edits: list[tuple[str, str]], stale: list[str]
) -> None:
    text = KERNEL
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "twice.py").write_text(text)
    found = verify(archive, tmp_path / "twice.py")
    assert found.problems == ()
    assert list(found.stale) == [
        f"kernel twice: {each.format(first='fp16.BLOCK256.w2.a16')}" for each in stale
    ]


def test_a_helper_in_another_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = "import triton\n@triton.jit\ndef factor():\n    return {}\n"
    (tmp_path / "verify_factors.py").write_text(helper.format(2))
    imported = "from verify_factors import factor\nimport triton,"
    text = (
        KERNEL.replace("2 * tl", "factor() * tl").replace("import triton,", imported).replace(', "fp32"', "")
    )
    (tmp_path / "twice.py").write_text(text)
    archive = kpack.build(tmp_path / "twice.py", "ptx_80", name="math").write(tmp_path / "libmath.a")
    assert sound(verify(archive, tmp_path / "twice.py"))
    monkeypatch.delitem(sys.modules, "verify_factors")
    (tmp_path / "verify_factors.py").write_text(helper.format(10))
    (stale,) = verify(archive, tmp_path / "twice.py").stale
    assert (
        stale
        == "kernel twice: variants of other source, constants or options: fp16.BLOCK256.w2.a16 and 1 more"
    )
    monkeypatch.delitem(sys.modules, "verify_factors")


def test_unchanged_sources_are_not_stale(archive: Path, shop: Path) -> None:
    assert sound(verify(archive, shop / "twice.py"))
    assert sound(verify(archive, [shop]))


def test_kernels_that_came_or_went_are_named(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(KERNEL.replace('"twice"', '"once"'))
    assert verify(archive, tmp_path).stale == (
        "kernel once: not in the file",
        "kernel twice: not in the sources",
    )


@pytest.mark.parametrize("linked", [("math", "other"), ("other", "math")], ids="-".join)
def test_of_packs_with_kernels_of_one_name_each_is_compared(tmp_path: Path, linked: tuple[str, str]) -> None:
    need("cc")
    for name, text in (("math", KERNEL), ("other", KERNEL.replace(*GUARD))):
        (tmp_path / f"{name}.py").write_text(text)
        kpack.build(tmp_path / f"{name}.py", "ptx_80").write(tmp_path / f"lib{name}.a")
    link_whole(tmp_path / "both.so", *(tmp_path / f"lib{name}.a" for name in linked))
    for source, stale in (("math", "other"), ("other", "math")):
        assert verify(tmp_path / "both.so", tmp_path / f"{source}.py").stale == (
            f"kernel twice of pack {stale}: variants with another guard: fp16.BLOCK256.w2.a16 and 3 more",
        )


def test_a_program_is_compared_though_it_does_not_say_what_compiled_it(
    pack: kpack.Pack, archive: Path, shop: Path, tmp_path: Path
) -> None:
    need("cc")
    link_whole(tmp_path / "new.so", archive)
    assert sound(verify(tmp_path / "new.so", shop / "twice.py"))
    old = replace(pack, parts=(replace(pack.parts[0], source_key="triton-3.4.0-abc"),))
    link_whole(tmp_path / "old.so", old.write(tmp_path / "libmath.a"))
    assert verify(tmp_path / "old.so", shop / "twice.py").stale == (
        "kernel twice: variants of other source, constants, options or compiler: fp16.BLOCK256.w2.a16 and 3 more",
    )


def test_variants_that_did_not_compile_are_not_stale(tmp_path: Path) -> None:
    text = (
        KERNEL.replace(', "fp32"]', "]")
        .replace(":16?", "")
        .replace('"num_warps": 2}', '"num_warps": 2}, {"BLOCK": 100, "num_warps": 2}')
    )
    (tmp_path / "twice.py").write_text(text)
    pack = kpack.build(tmp_path / "twice.py", "ptx_80", on_error="skip")
    assert len(pack.failures) == 1
    assert sound(verify(pack.write(tmp_path / "libmath.a"), tmp_path / "twice.py"))


def test_what_is_left_refuses_null_pointers_and_is_not_stale(tmp_path: Path) -> None:
    (tmp_path / "bias.py").write_text(BIAS)
    pack = kpack.build(tmp_path / "bias.py", "ptx_80", on_error="skip")
    assert len(pack.failures) == 1
    assert sound(verify(pack.write(tmp_path / "libtk.a"), tmp_path / "bias.py"))


def test_another_compiler_is_named_once(pack: kpack.Pack, shop: Path, tmp_path: Path) -> None:
    (part,) = pack.parts
    info = json.dumps({**json.loads(part.info), "triton": "3.4.0"})
    old = replace(pack, parts=(replace(part, info=info, source_key="triton-3.4.0-abc"),))
    (stale,) = verify(old.write(tmp_path / "libmath.a"), shop / "twice.py").stale
    assert stale.startswith("kernel twice: made by Triton 3.4.0, here is 3.")


# ---- the command


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return attempt(sys.executable, "-c", "import kpack.cli; kpack.cli.main()", "verify", *arguments)


def test_the_command_says_ok_and_0_or_what_is_wrong_and_1(archive: Path, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(KERNEL.replace(*GUARD))
    (tmp_path / "bad.a").write_bytes(archive.read_bytes()[:5000])
    fine = command(archive, "--against", shop / "twice.py")
    assert (fine.returncode, fine.stderr) == (0, "")
    assert fine.stdout == f"{archive}: ok  pack math, 1 kernel, 12 images\n"
    wrong = command(archive, tmp_path / "bad.a", "--against", tmp_path / "twice.py", "--json")
    assert (wrong.returncode, wrong.stderr) == (1, "")
    stale, damaged = json.loads(wrong.stdout)
    assert (stale["ok"], stale["problems"]) == (False, [])
    assert stale["stale"] == ["kernel twice: variants with another guard: fp16.BLOCK256.w2.a16 and 3 more"]
    assert stale["packs"] == [{"name": "math", "host": "x86_64", "kernels": ["twice"], "images": 12}]
    assert (damaged["ok"], damaged["packs"], damaged["stale"]) == (False, [], [])
    assert "expected" in damaged["problems"][0]


def test_sources_that_do_not_load_are_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise ValueError('no')")
    done = command(archive, "--against", tmp_path / "bad.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: no" in done.stderr
