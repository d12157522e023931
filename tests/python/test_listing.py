"""What is read back is what went in; what is damaged is refused, whatever the damage."""

from __future__ import annotations

import random
import re
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packs import (
    BYTES,
    GUARD,
    TARGETS,
    N,
    image,
    images,
    kernel,
    kernel_with_holes,
    pack_members,
    param,
    plan,
    variant,
)
from tools import need, run

from kpack.errors import Failure, FormatError, PackError
from kpack.image import Slot, Tensordesc
from kpack.objfile import abi, elf
from kpack.objfile.archive import Member, write_archive
from kpack.objfile.elf import read_elf
from kpack.objfile.encode import encode_index, encode_kernel
from kpack.objfile.host import find_host
from kpack.objfile.listing import Dtype, HoleListing, KernelListing, PackListing
from kpack.objfile.reading import read_pack
from kpack.objfile.relocatable import Section, write_relocatable
from kpack.objfile.words import in_words
from kpack.spec import Overload

X86_64 = find_host("x86_64")
PARAMS = {"out_ptr": 0, "in_ptr": 1, "n": 2, "MODE": 3}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("listing") / "libtk.a"
    write_archive(path, pack_members())
    return path


def listed(tmp_path: Path, *members: Member) -> PackListing:
    write_archive(tmp_path / "lib.a", [*members, encode_index("tk", members)])
    return read_pack(tmp_path / "lib.a")


def one(tmp_path: Path, member: Member) -> KernelListing:
    return listed(tmp_path, member).kernels[0]


def same_facts(read: object, written: object, *but: str) -> None:
    """Every field that both have is equal."""
    names = {name for name in type(read).__dataclass_fields__ if hasattr(written, name)} - set(but)  # type: ignore[attr-defined]
    assert names
    assert {n: getattr(read, n) for n in names} == {n: getattr(written, n) for n in names}


def test_the_pack(archive: Path) -> None:
    pack, members = read_pack(archive), pack_members()
    assert (pack.name, pack.host, pack.hash) == ("tk", "x86_64", members[-1].hash)
    assert [(k.name, k.pack, k.member, k.hash) for k in pack.kernels] == [
        (m.name, "tk", m.file, m.hash) for m in members[:-1]
    ]


def test_the_kernel(tmp_path: Path) -> None:
    found, of = one(tmp_path, kernel()), plan()
    same_facts(found, of, "params", "overloads", "variants", "constexprs")
    assert (found.state_bytes, found.info) == (abi.STATE_BYTES, '{"kernel": "softmax"}')
    assert [(c.name, c.role) for c in found.constexprs] == [(c.name, c.role) for c in of.constexprs]


def test_the_parameters(tmp_path: Path) -> None:
    for found, made in zip(one(tmp_path, kernel()).params, plan().params, strict=True):
        same_facts(found, made, "extent")
        flags = abi.PARAM_CONST * made.const | abi.PARAM_NULLABLE * made.nullable | made.key
        assert found.flags == flags
        assert found.extent == (BYTES.code(PARAMS) if made.extent else b"")


def test_the_overloads(tmp_path: Path) -> None:
    found = one(tmp_path, kernel()).overloads
    assert [(o.types, o.selected) for o in found] == [(o.types, o.selected) for o in plan().overloads]
    assert [(o.first_variant, o.variant_count) for o in found] == [(0, 2), (2, 1)]


def test_the_variants(tmp_path: Path) -> None:
    found = one(tmp_path, kernel()).variants
    for listing, made in zip(found, plan().variants, strict=True):
        same_facts(listing, made, "constexprs", "guard", "grid", "prefer", "divisible_16", "equal_1", "null")
    assert [v.constexprs for v in found] == [(1024, Dtype(abi.FP16), 0.5, True, "fast")] * 2 + [
        (2048, Dtype(abi.FP32), -1.5, False, None)
    ]
    assert [type(v) for v in found[0].constexprs] == [int, Dtype, float, bool, str]
    assert [v.guard for v in found] == [GUARD.code(PARAMS), b"", b""]
    assert [v.grid for v in found] == [(N.code(PARAMS), b"", b"")] * 2 + [
        (N.code(PARAMS), N.code(PARAMS), b"")
    ]
    assert [(v.divisible_16, v.equal_1, v.null) for v in found] == [(0b11, 0, 0), (0, 0, 0), (0, 0b100, 0b10)]
    assert [v.num_stages for v in found] == [3, 3, 0]
    assert len({v.hash for v in found}) == 3


def test_the_images(tmp_path: Path) -> None:
    of = plan()
    found, made = one(tmp_path, kernel()), images(of)
    for index, listing in enumerate(found.variants):
        assert [found.targets[i.target].name for i in found.images_of(listing)] == [
            "gfx90a",
            "sm_80",
            "ptx_80",
        ]
        for read in found.images_of(listing):
            target = found.targets[read.target]
            written = made[index, target.name]
            same_facts(read, written, "target", "layout")
            same_facts(target, written.target)
            assert target.elf_flags == written.elf_flags
            for slot, wrote in zip(read.layout, written.layout, strict=True):
                same_facts(slot, wrote)
            assert (read.codec, read.stored_bytes, read.raw_bytes) == (
                0,
                len(written.code),
                len(written.code),
            )
            assert read.symbol == f"softmax.{listing.name}.{target.name}"


TILED = Tensordesc(0, 2, abi.FP16, 2, box=(128, 64), swizzle=3, flags=abi.DESC_FP4_PADDED)
IM2COL = Tensordesc(1, 4, abi.FP32, 4, box=(64, 32), swizzle=2, flags=abi.DESC_IM2COL)
DESC_LAYOUT = (
    Slot(abi.SLOT_DESC_MAP, abi.TENSORDESC | abi.FP16, 0, 48, 128),
    Slot(abi.SLOT_DESC_SHAPE, abi.I32, 0, 176, 4, part=1),
    Slot(abi.SLOT_DESC_BASE, abi.POINTER | abi.FP32, 1, 184, 8),
    Slot(abi.SLOT_DESC_STRIDE, abi.I64, 1, 192, 8, part=3),
    Slot(abi.SLOT_DESC_NAN_PADDING, abi.I1, 1, 200, 1),
    Slot(abi.SLOT_DESC_ROUND_TF32, abi.I1, 1, 201, 1),
)


def described(
    tmp_path: Path, *descriptors: Tensordesc, layout: tuple[Slot, ...] = DESC_LAYOUT
) -> KernelListing:
    types = (abi.TENSORDESC | abi.FP16, abi.TENSORDESC | abi.FP32)
    of = plan(
        params=tuple(param(name, code) for name, code in zip(("out", "source"), types, strict=True)),
        overloads=(Overload(types, ()),),
        variants=(variant("w4", (), grid=(), arguments=(), targets=TARGETS[1:2]),),
        constexprs=(),
    )
    made = image("sm_80", b"code", layout=layout, param_bytes=208, tensordescs=descriptors)
    return one(tmp_path, encode_kernel("tk", of, {(0, "sm_80"): made}))


def test_the_tensor_descriptors(tmp_path: Path) -> None:
    (found,) = described(tmp_path, TILED, IM2COL).images
    for read, written in zip(found.tensordescs, (TILED, IM2COL), strict=True):
        same_facts(read, written, "box")
        assert read.box == (*written.box, 0, 0, 0)
    for slot, wrote in zip(found.layout, DESC_LAYOUT, strict=True):
        same_facts(slot, wrote)


def test_the_tensor_descriptors_in_words(tmp_path: Path) -> None:
    kernel = described(tmp_path, TILED, IM2COL)
    words = in_words(kernel)
    assert words["overloads"][0]["types"] == ["tensordesc<fp16>", "tensordesc<fp32>"]
    assert [param["type"] for param in words["params"]] == ["tensordesc<fp16>", "tensordesc<fp32>"]
    (found,) = words["images"]
    assert found["tensordescs"] == [
        {"param": 0, "rank": 2, "type": "fp16", "swizzle": 3, "element_bytes": 2, "flags": ["fp4_padded"],
         "box": [128, 64, 0, 0, 0]},
        {"param": 1, "rank": 4, "type": "fp32", "swizzle": 2, "element_bytes": 4, "flags": ["im2col"],
         "box": [64, 32, 0, 0, 0]},
    ]  # fmt: skip
    assert [slot["source"] for slot in found["layout"]] == [
        f"desc_{source}" for source in "map shape base stride nan_padding round_tf32".split()
    ]
    assert found["layout"][0]["type"] == "tensordesc<fp16>"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"param": 2}, "tensor descriptor of softmax.w4.sm_80: expected an index below 2, got 2"),
        (
            {"rank": 6},
            "last dimension of a tensor descriptor of softmax.w4.sm_80: expected an index below 5, got 5",
        ),
        (
            {"rank": 0},
            "last dimension of a tensor descriptor of softmax.w4.sm_80: expected an index below 5, got -1",
        ),
    ],
)
def test_a_tensor_descriptor_of_nothing_is_refused(
    tmp_path: Path, changes: dict[str, int], what: str
) -> None:
    with pytest.raises(FormatError, match=re.escape(what)):
        described(tmp_path, replace(TILED, **changes))


@pytest.mark.parametrize("number", range(len(DESC_LAYOUT)))
def test_a_part_of_no_tensor_descriptor_is_refused(tmp_path: Path, number: int) -> None:
    layout = tuple(replace(slot, index=7) if n == number else slot for n, slot in enumerate(DESC_LAYOUT))
    with pytest.raises(
        FormatError, match=r"argument of softmax\.w4\.sm_80: expected an index below 2, got 7"
    ):
        described(tmp_path, TILED, IM2COL, layout=layout)


def test_holes(tmp_path: Path) -> None:
    found = one(tmp_path, kernel_with_holes())
    reason = "out of shared memory: needs 300000 bytes"
    sm_80 = [target.name for target in found.targets].index("sm_80")
    assert found.holes == (
        HoleListing(0, sm_80, "fp16.BLOCK1024.w4.a16", reason),
        HoleListing(None, sm_80, "fp16.BLOCK1024.w4", reason),
    )
    assert [v.name for v in found.variants] == ["fp16.BLOCK1024.w4.a16", "fp32.BLOCK2048.w8"]
    assert [(o.first_variant, o.variant_count) for o in found.overloads] == [(0, 1), (1, 1)]


def test_a_kernel_of_holes_alone(tmp_path: Path) -> None:
    of = plan()
    failures = [
        Failure("softmax", each.name, target.name, "no") for each in of.variants for target in TARGETS
    ]
    found = one(tmp_path, encode_kernel("tk", of, {}, failures))
    assert (found.variants, found.images) == ((), ())
    assert [(hole.variant, hole.name) for hole in found.holes] == [
        (None, each.name) for each in of.variants for _ in TARGETS
    ]
    assert [target.name for target in found.targets] == [target.name for target in TARGETS]
    assert [(o.first_variant, o.variant_count) for o in found.overloads] == [(0, 0), (0, 0)]


def test_an_overload_may_lose_all_its_variants(tmp_path: Path) -> None:
    found = one(tmp_path, kernel(variants=plan().variants[:2]))
    assert [(o.first_variant, o.variant_count) for o in found.overloads] == [(0, 2), (0, 0)]


def test_arguments_beyond_the_masks_become_requirements(tmp_path: Path) -> None:
    params = tuple(param(f"p{number}", abi.I32) for number in range(70))
    overloads = (Overload((abi.I32,) * 70, ()),)
    wide = variant(
        "wide", (1, None, None, None, None), divisible_16=frozenset({0, 63, 64, 69}), equal_1=frozenset({65}),
        null=frozenset({66}), grid=(), guard=None,
    )  # fmt: skip
    found = one(tmp_path, kernel(params=params, overloads=overloads, variants=(wide,))).variants[0]
    assert (found.divisible_16, found.equal_1, found.null) == (1 | 1 << 63, 0, 0)
    assert {(r.param, r.kind, r.value) for r in found.requirements} == {
        (64, abi.REQUIRE_DIVISIBLE, 16), (69, abi.REQUIRE_DIVISIBLE, 16), (65, abi.REQUIRE_EQUAL, 1),
        (66, abi.REQUIRE_NULL, 0),
    }  # fmt: skip


def test_a_kernel_without_parameters(tmp_path: Path) -> None:
    of = plan()
    bare = variant("bare", (), grid=(), arguments=(), targets=TARGETS[:1])
    empty = replace(
        of, params=(), overloads=(Overload((), ()),), variants=(bare,), constexprs=(), guard_text="",
        grid_text="", source="",
    )  # fmt: skip
    member = encode_kernel("tk", empty, {(0, "gfx90a"): image("gfx90a", b"code", layout=(), param_bytes=0)})
    found = one(tmp_path, member)
    assert (found.params, found.constexprs, found.guard_text, found.source) == ((), (), "", "")
    assert found.overloads[0].types == ()


def test_a_single_object_is_a_pack_of_one(tmp_path: Path) -> None:
    member = kernel(host="aarch64")
    (tmp_path / "softmax.o").write_bytes(member.data)
    pack = read_pack(tmp_path / "softmax.o")
    assert (pack.name, pack.host, pack.hash) == ("tk", "aarch64", 0)
    assert [(k.name, k.member) for k in pack.kernels] == [("softmax", "softmax.o")]


@pytest.mark.parametrize("option", ["--strip-debug", "--strip-unneeded"])
def test_a_stripped_archive_reads_the_same(archive: Path, tmp_path: Path, option: str) -> None:
    need("strip")
    run("strip", option, archive, "-o", tmp_path / "libtk.a")
    assert read_pack(tmp_path / "libtk.a").kernels == read_pack(archive).kernels


def test_an_archive_repacked_by_ar_reads_the_same(archive: Path, tmp_path: Path) -> None:
    need("ar")
    run("ar", "x", archive, "--output", tmp_path)
    run("ar", "rcs", tmp_path / "again.a", *sorted(tmp_path.glob("*.o"), reverse=True))
    assert read_pack(tmp_path / "again.a") == read_pack(archive)


# ---- what is refused


def foreign() -> Member:
    data = write_relocatable(X86_64, "key", [Section(".data", b"1234")], [])
    return Member("other.o", data, (), "other", 0)


ADD, SOFTMAX, VEC, INDEX = pack_members()

REFUSED: dict[str, tuple[list[Member], str]] = {
    "no member": ([], "expected an archive that kpack wrote, got none of its 0 members"),
    "foreign": ([foreign()], "expected an archive that kpack wrote, got none of its 1 members"),
    "no object": ([Member("a.txt", b"text", (), "a", 0)], r"lib\.a\(a\.txt\): ELF header: expected 64 bytes"),
    "no index": ([ADD, SOFTMAX], "expected one index member, got 0"),
    "two indexes": ([ADD, SOFTMAX, VEC, INDEX, pack_members(pack="other")[-1]], "expected one index member, got 2"),
    "kernel missing": ([ADD, SOFTMAX, INDEX], "pack tk: expected the kernels add, softmax, vec, got add, softmax"),
    "kernel too many": ([ADD, SOFTMAX, VEC, kernel("more"), INDEX], "expected the kernels add, softmax, vec, got"),
    "other content": (
        [ADD, kernel(fill=2), VEC, INDEX],
        r"pack tk: expected content with hash [0-9a-f]{16}, got [0-9a-f]{16}",
    ),
    "other pack": ([ADD, kernel(pack="zz"), VEC, INDEX], "expected kernel softmax of this pack"),
    "two hosts": ([ADD, kernel(host="aarch64"), VEC, INDEX], "expected objects of one of x86_64, aarch64, got"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "what"), REFUSED.values(), ids=REFUSED.keys())
def test_archives_that_do_not_hold_together(tmp_path: Path, members: list[Member], what: str) -> None:
    write_archive(tmp_path / "lib.a", members)
    with pytest.raises(FormatError, match=what) as caught:
        read_pack(tmp_path / "lib.a")
    assert str(caught.value).startswith(str(tmp_path / "lib.a"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="got No such file"):
        read_pack(tmp_path / "lib.a")


def test_a_program_is_refused(tmp_path: Path) -> None:
    data = bytearray(SOFTMAX.data)
    struct.pack_into("<H", data, 16, 2)
    (tmp_path / "a.out").write_bytes(data)
    with pytest.raises(FormatError, match="expected a relocatable object, got a program"):
        read_pack(tmp_path / "a.out")


def damaged_kernel(
    field: str, layout: str, value: int, record: abi.Struct = abi.KERNEL, at: int = 0
) -> bytes:
    data = bytearray(SOFTMAX.data)
    home = read_elf(SOFTMAX.data).section(".rodata.kpack.softmax")
    struct.pack_into("<" + layout, data, home.offset + at + record.offset(field), value)
    return bytes(data)


VARIANTS = 208 + 4 * 32 + 2 * 32  # behind the kernel, its 4 parameters and 2 overloads
IMAGES = VARIANTS + 3 * 104
FIELDS: dict[str, tuple[bytes, str]] = {
    "newer major": (damaged_kernel("major", "H", 2), r"expected ABI 1 or older, got 2\.\d; read it with a newer"),
    "must understand": (damaged_kernel("must_understand", "I", 4), "expected no must-understand bit, got 0x4"),
    "size": (damaged_kernel("size", "I", 16), "kernel: expected 208 bytes or more, got 16"),
    "hash": (damaged_kernel("hash", "Q", 1), "kernel softmax: expected content with hash 0000000000000001"),
    "name": (damaged_kernel("name", "q", 1 << 40), r"kernel\.name: expected 1 bytes at"),
    "name before": (damaged_kernel("name", "q", -4096), r"kernel\.name: expected 1 bytes at -"),
    "no name": (damaged_kernel("name", "q", 0), r"kernel\.name: expected a reference, got nothing"),
    "name within": (damaged_kernel("name", "q", 3000), "kernel: expected symbol kpack_kernel_tk_"),
    "state": (damaged_kernel("state_bytes", "I", 4096), r"kernel\.state: expected 64 bytes or more, got 4096"),
    "exprs": (damaged_kernel("expr_bytes", "I", 1 << 31), r"kernel\.exprs: expected 2147483648 bytes"),
    "params": (damaged_kernel("params", "8xI", 0), "expected signature [0-9a-f]{16}, got"),
    "guard": (damaged_kernel("guard", "I", 999, abi.VARIANT, VARIANTS), r"\[0\]\.guard: expected a program at 999"),
    "overload": (damaged_kernel("overload", "I", 2, abi.VARIANT, VARIANTS), "expected an index below 2, got 2"),
    "images": (damaged_kernel("image_count", "I", 10, abi.VARIANT, VARIANTS), "expected at most 9, got 0 [+] 10"),
    "target": (damaged_kernel("target", "I", 3, abi.IMAGE, IMAGES), "expected an index below 3, got 3"),
    "stored": (damaged_kernel("stored_bytes", "Q", 1 << 40, abi.IMAGE, IMAGES), r"\[0\]\.data: expected 1099511627776"),
    "raw": (damaged_kernel("raw_bytes", "Q", 7, abi.IMAGE, IMAGES), "expected 7 bytes stored raw, got 700"),
    "image hash": (damaged_kernel("hash", "Q", 7, abi.IMAGE, IMAGES), r"image softmax\.\S+: expected content with"),
    "param bytes": (damaged_kernel("param_bytes", "I", 39, abi.IMAGE, IMAGES), "layout of softmax"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "what"), FIELDS.values(), ids=FIELDS.keys())
def test_damaged_fields_are_found(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "softmax.o").write_bytes(data)
    with pytest.raises(FormatError, match=what):
        read_pack(tmp_path / "softmax.o")


NAMES = 64 + 3 * 16 + 4  # behind the pack, its three entries and its name: 8 slots


def patched_index(at: int, layout: str, *values: int) -> Member:
    data = bytearray(INDEX.data)
    struct.pack_into(layout, data, read_elf(INDEX.data).section(".rodata.kpack_pack.tk").offset + at, *values)
    return replace(INDEX, data=bytes(data))


COUNT = abi.PACK.offset("names") + 8
ELSEWHERE = (9, 1, 9, 2, 9, 3, *[0] * 10)
NAME_TABLES: dict[str, tuple[Member, str]] = {
    "no power of two": (patched_index(COUNT, "<I", 7), r"for 3 names and one empty at least, got \d used of 7"),
    "a name less": (patched_index(NAMES, "<64x"), "for 3 names and one empty at least, got 0 used of 8"),
    "another name": (patched_index(NAMES, "<16I", *ELSEWHERE), "expected a slot with add, got none"),
    "too short": (patched_index(0, "<I", 40), "pack: expected 48 bytes or more, got 40"),
}  # fmt: skip


@pytest.mark.parametrize(("index", "what"), NAME_TABLES.values(), ids=NAME_TABLES.keys())
def test_a_table_of_names_that_misses_one_is_found(tmp_path: Path, index: Member, what: str) -> None:
    write_archive(tmp_path / "lib.a", [ADD, SOFTMAX, VEC, index])
    with pytest.raises(FormatError, match=what):
        read_pack(tmp_path / "lib.a")


def test_an_index_of_abi_1_0_is_read(tmp_path: Path) -> None:
    old = patched_index(0, "<IHH", 48, 1, 0)
    write_archive(tmp_path / "lib.a", [ADD, SOFTMAX, VEC, old])
    assert [each.name for each in read_pack(tmp_path / "lib.a").kernels] == ["add", "softmax", "vec"]


def test_an_image_at_the_same_offset_of_another_section_is_hashed_too(tmp_path: Path) -> None:
    """Forged: the second image is said to lie at the start of the descriptor, with the first one's hash."""
    data, file = bytearray(SOFTMAX.data), read_elf(SOFTMAX.data)
    home = next(n for n, section in enumerate(file.sections) if section.name == ".rodata.kpack.softmax")
    descriptor = file.sections[home]
    first, second = (descriptor.offset + IMAGES + number * abi.IMAGE.size for number in range(2))
    hash_ = abi.IMAGE.offset("hash")
    data[second + hash_ : second + hash_ + 8] = data[first + hash_ : first + hash_ + 8]
    number = next(n for n, s in enumerate(file.symbols) if s.name == "softmax.fp16.BLOCK1024.w4.a16.sm_80")
    symbol = file.section(".symtab").offset + number * elf.SYM.size
    struct.pack_into("<HQ", data, symbol + 6, home, 0)
    forged = read_elf(bytes(data))
    references = [
        (r.offset, forged.sections[forged.symbols[r.symbol].section].name, forged.symbols[r.symbol].value + r.addend)
        for r in forged.relocations
        if r.section == home
    ]  # fmt: skip
    images_of = forged.section(".lrodata.kpack.softmax").view
    digest = abi.kernel_digest(forged.machine, forged.sections[home].content, images_of, references)
    struct.pack_into("8s", data, descriptor.offset + abi.KERNEL.offset("hash"), digest[:8])
    (tmp_path / "softmax.o").write_bytes(data)
    with pytest.raises(FormatError, match=r"image softmax\.\S+\.sm_80: expected content with hash"):
        read_pack(tmp_path / "softmax.o")


# ---- the longest text


def test_a_text_that_a_reader_would_refuse_is_not_written(tmp_path: Path) -> None:
    longest = "n" * (2**16 - 1)
    assert one(tmp_path, kernel(guard_text=longest)).guard_text == longest
    with pytest.raises(PackError, match="text: expected fewer than 65536 bytes, got 65536: 'nnnn"):
        kernel(guard_text=longest + "n")


# ---- any damage


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def expire(*_: Any) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage(whole: bytes, random_: random.Random) -> bytes:
    """Cut it, flip some bytes, or write a wild number somewhere."""
    kind = random_.randrange(3)
    if kind == 0:
        return whole[: random_.randrange(len(whole))]
    data = bytearray(whole)
    for _ in range(random_.randrange(1, 6)):
        at = random_.randrange(len(data) - 8)
        if kind == 1:
            data[at] ^= 1 << random_.randrange(8)
        else:
            struct.pack_into(
                "<Q", data, at & ~7, random_.choice([0, 1, 255, 1 << 31, (1 << 64) - 1, 1 << 63])
            )
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_is_a_format_error_or_harmless(archive: Path, tmp_path: Path, seed: int) -> None:
    random_, whole = random.Random(seed), archive.read_bytes()
    refused = 0
    with at_most(60):
        for _ in range(150):
            (tmp_path / "bad.a").write_bytes(damage(whole, random_))
            try:
                read_pack(tmp_path / "bad.a")
            except FormatError as error:
                assert str(tmp_path / "bad.a") in str(error)
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("seed", range(4))
def test_damage_to_a_descriptor_is_always_found(tmp_path: Path, seed: int) -> None:
    """The content hash covers all of it, so nothing there can change unseen."""
    random_ = random.Random(seed)
    home = read_elf(SOFTMAX.data).section(".rodata.kpack.softmax")
    with at_most(60):
        for _ in range(100):
            data = bytearray(SOFTMAX.data)
            data[home.offset + random_.randrange(home.size)] ^= 1 << random_.randrange(8)
            (tmp_path / "bad.o").write_bytes(data)
            with pytest.raises(FormatError):
                read_pack(tmp_path / "bad.o")
