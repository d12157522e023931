"""Objects, judged by readelf, eu-elflint and pyelftools, which never heard of kpack."""

from __future__ import annotations

import io
import random
import re
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from packs import image, images, kernel, kernel_with_holes, pack_members, plan, variant
from tools import need, run

from kpack.errors import FormatError, PackError, SpecError
from kpack.naming import check_kernel_name, check_pack_name
from kpack.objfile import abi, elf, encode, relocatable
from kpack.objfile.archive import Member
from kpack.objfile.elf import read_elf
from kpack.objfile.encode import encode_index, encode_kernel
from kpack.objfile.host import find_host
from kpack.objfile.relocatable import Section, Symbol, write_relocatable

SAMPLES = Path(__file__).parents[1] / "samples"  # what Triton 3.9 makes of a softmax for sm_80 and gfx90a
X86_64, AARCH64 = find_host("x86_64"), find_host("aarch64")

# SHF_X86_64_LARGE, which elfutils 0.188 does not know.
UNKNOWN_TO_ELFLINT = re.compile(
    r"section \[ *\d+\] '\.lrodata\.\S+' contains invalid processor-specific flag\(s\) 0x10000000"
)


def objects(host: str) -> list[Any]:
    return [pytest.param(member, id=f"{host}-{member.file}") for member in pack_members(host=host)]


every_object = pytest.mark.parametrize("member", [*objects("x86_64"), *objects("aarch64")])


def parsed(member: Member) -> Any:
    return ELFFile(io.BytesIO(member.data))


@every_object
def test_elflint_has_nothing_to_say(tmp_path: Path, member: Member) -> None:
    need("eu-elflint")
    (tmp_path / member.file).write_bytes(member.data)
    done = subprocess.run(
        ["eu-elflint", "--gnu-ld", tmp_path / member.file], capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if line != "No errors"]
    assert [line for line in said if not UNKNOWN_TO_ELFLINT.fullmatch(line)] == []


@every_object
def test_readelf_reads_all_without_a_warning(tmp_path: Path, member: Member) -> None:
    need("readelf")
    (tmp_path / member.file).write_bytes(member.data)
    done = subprocess.run(
        ["readelf", "-aW", tmp_path / member.file], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


@pytest.mark.parametrize("file", ["softmax.o", "tk.index.o"])
def test_the_object_is_the_one_reviewed(tmp_path: Path, golden: Any, file: str) -> None:
    need("readelf")
    member = next(member for member in pack_members() if member.file == file)
    (tmp_path / file).write_bytes(member.data)
    said = run("readelf", "-hSsrgW", tmp_path / file)
    legend = re.compile(r"^Key to Flags:\n(  .*\n)+", re.M)  # grows with every release of binutils
    golden.check(f"{file}.readelf", legend.sub("", said))


@every_object
def test_pyelftools_agrees(member: Member) -> None:
    other, ours = parsed(member), read_elf(member.data)
    assert [s.name for s in other.iter_sections()] == [s.name for s in ours.sections]
    assert [s.data() for s in other.iter_sections() if s["sh_type"] == "SHT_PROGBITS"] == [
        s.content for s in ours.sections if s.type == elf.SHT_PROGBITS
    ]
    symbols = list(other.get_section_by_name(".symtab").iter_symbols())
    assert [(s.name, s["st_value"], s["st_size"]) for s in symbols] == [
        (s.name, s.value, s.size) for s in ours.symbols
    ]
    relocations = [
        (section["sh_info"], r["r_offset"], r["r_info_type"], r["r_info_sym"], r["r_addend"])
        for section in other.iter_sections()
        if section["sh_type"] == "SHT_RELA"
        for r in section.iter_relocations()
    ]
    assert relocations == [(r.section, r.offset, r.type, r.symbol, r.addend) for r in ours.relocations]


@every_object
def test_all_is_in_one_group_but_the_stack_note(member: Member) -> None:
    other = parsed(member)
    groups = [s for s in other.iter_sections() if s["sh_type"] == "SHT_GROUP"]
    assert len(groups) == 1
    flag, *members = struct.unpack(f"<{groups[0].data_size // 4}I", groups[0].data())
    assert flag == elf.GRP_COMDAT
    for number, section in enumerate(other.iter_sections()):
        wanted = section["sh_type"] not in ("SHT_NULL", "SHT_STRTAB", "SHT_SYMTAB", "SHT_GROUP")
        assert (number in members) == (wanted and section.name != ".note.GNU-stack"), section.name
        assert bool(section["sh_flags"] & elf.SHF_GROUP) == (number in members), section.name


@pytest.mark.parametrize(("host", "machine", "relocation", "images", "large"), [
    ("x86_64", "EM_X86_64", 24, ".lrodata.kpack.softmax", 0x10000000),
    ("aarch64", "EM_AARCH64", 260, ".rodata.kpack_image.softmax", 0),
])  # fmt: skip
def test_hosts(host: str, machine: str, relocation: int, images: str, large: int) -> None:
    other = parsed(kernel(host=host))
    assert other["e_machine"] == machine
    assert other.get_section_by_name(images)["sh_flags"] == elf.SHF_ALLOC | elf.SHF_GROUP | large
    kinds = {
        r["r_info_type"] for r in other.get_section_by_name(".rela.rodata.kpack.softmax").iter_relocations()
    }
    assert kinds == {relocation}


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(PackError, match="host: expected x86_64 or aarch64, got 'riscv64'"):
        kernel(host="riscv64")


def test_the_index_says_gnu_because_it_is_retained() -> None:
    other = parsed(pack_members()[-1])
    assert other["e_ident"]["EI_OSABI"] == "ELFOSABI_LINUX"
    flags = other.get_section_by_name("kpack_packs")["sh_flags"]
    assert flags == elf.SHF_ALLOC | elf.SHF_GROUP | elf.SHF_GNU_RETAIN
    assert parsed(kernel())["e_ident"]["EI_OSABI"] == "ELFOSABI_SYSV"


def test_only_references_out_of_the_descriptor_are_relocations() -> None:
    other = parsed(kernel())
    table = other.get_section_by_name(".symtab")
    sections = {
        other.get_section(table.get_symbol(r["r_info_sym"])["st_shndx"]).name
        for r in other.get_section_by_name(".rela.rodata.kpack.softmax").iter_relocations()
    }
    assert sections == {".lrodata.kpack.softmax", ".bss.kpack.softmax"}


# ---- hashes and determinism


def group(member: Member) -> str:
    return next(s.name for s in read_elf(member.data).symbols if s.name.startswith("kpack_content_"))


def test_same_input_same_bytes() -> None:
    assert [m.data for m in pack_members()] == [m.data for m in pack_members()]


def test_the_group_is_named_by_the_hash() -> None:
    member = kernel()
    assert re.fullmatch(r"kpack_content_[0-9a-f]{32}", group(member))
    assert bytes.fromhex(group(member)[14:30]) == member.hash.to_bytes(8, "little")


def test_what_is_linked_decides_the_hash() -> None:
    of = plan()
    found = images(of)
    base = kernel()
    changes = {
        "code": kernel(fill=2),
        "pack": kernel(pack="other"),
        "host": kernel(host="aarch64"),
        "guard": kernel(guard_text="n < BLOCK"),
        "facts": encode_kernel("tk", of, found | {(0, "sm_80"): replace(found[0, "sm_80"], shared_bytes=1)}),
        "fewer": encode_kernel("tk", of, {key: made for key, made in found.items() if key != (0, "sm_80")}),
    }
    hashes = {base.hash, *(member.hash for member in changes.values())}
    assert len(hashes) == 1 + len(changes)


def test_provenance_does_not_decide_the_hash() -> None:
    of = plan()
    one, two = (encode_kernel("tk", of, images(of), info=info) for info in ('{"on": 1}', '{"on": 2}'))
    assert one.data != two.data
    assert (one.hash, group(one)) == (two.hash, group(two))


def test_the_index_hash_covers_every_kernel() -> None:
    members = [
        pack_members(),
        pack_members(fill=2),
        pack_members(("add", "softmax")),
        pack_members(pack="other"),
    ]
    assert len({made[-1].hash for made in members}) == 4


def test_the_source_key_moves_every_variant() -> None:
    of = plan()
    one, two = (encode_kernel("tk", of, images(of), source_key=key) for key in ("a", "b"))
    assert one.hash != two.hash


# ---- sharing


def image_section(member: Member) -> bytes:
    return read_elf(member.data).section(".lrodata.kpack.softmax").content


def test_equal_images_are_stored_once() -> None:
    of = plan()
    code = images(of)[0, "sm_80"].code
    assert image_section(kernel()).count(code) == 1
    symbols = {s.name: s for s in read_elf(kernel().data).symbols}
    first, second = (symbols[f"softmax.fp16.BLOCK1024.w4{a}.sm_80"] for a in (".a16", ""))
    assert (first.value, first.size) == (second.value, second.size)


def test_equal_text_layouts_and_expressions_are_stored_once() -> None:
    content = read_elf(kernel().data).section(".rodata.kpack.softmax").content
    assert content.count(b"\0gfx90a\0") == 1
    slot = images(plan())[0, "sm_80"].layout[3]
    record = abi.SLOT.pack(
        source=slot.source, type=slot.type, index=slot.index, offset=slot.offset, size=slot.size
    )
    assert content.count(record) == 1


def test_images_lie_where_the_driver_wants_them() -> None:
    symbols = {s.name: s.value for s in read_elf(kernel().data).symbols}
    for name, at in symbols.items():
        assert at % 4096 == 0 or not name.endswith(".gfx90a")
        assert at % 64 == 0 or not name.endswith("_80")


def test_ptx_ends_with_a_nul_that_is_not_counted() -> None:
    code = images(plan())[0, "ptx_80"].code
    assert code + b"\0" in image_section(kernel())
    sizes = {s.name: s.size for s in read_elf(kernel().data).symbols}
    assert sizes["softmax.fp16.BLOCK1024.w4.a16.ptx_80"] == len(code)


def test_a_hundred_megabytes_take_seconds() -> None:
    of = plan()
    found = images(of)
    found[0, "gfx90a"] = replace(found[0, "gfx90a"], code=bytes(100 << 20))
    start = time.perf_counter()
    member = encode_kernel("tk", of, found)
    assert len(member.data) > 100 << 20
    assert time.perf_counter() - start < 5


# ---- what cannot be packed


def test_more_images_than_a_host_can_reach_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_REACHABLE_BYTES", 1000)
    with pytest.raises(
        PackError, match=r"softmax: expected at most 1000 bytes of images on aarch64, got \d+; build"
    ):
        kernel(host="aarch64")
    assert kernel(host="x86_64")


def test_a_kernel_without_images_is_refused() -> None:
    with pytest.raises(PackError, match="softmax: expected at least one image, got none"):
        encode_kernel("tk", plan(), {})


def test_images_of_something_else_are_refused() -> None:
    of = plan()
    with pytest.raises(PackError, match=r"expected images of the plan's .*, got \[\(7, 'sm_80'\)\]"):
        encode_kernel("tk", of, images(of) | {(7, "sm_80"): image("sm_80", b"x")})


def test_an_empty_image_is_refused() -> None:
    of = plan()
    with pytest.raises(PackError, match=r"softmax\.fp16\.BLOCK1024\.w4\.a16: the image for sm_80 is empty"):
        encode_kernel("tk", of, images(of) | {(0, "sm_80"): image("sm_80", b"")})


def test_one_target_has_one_set_of_elf_flags() -> None:
    of = plan()
    found = images(of)
    found[1, "gfx90a"] = replace(found[1, "gfx90a"], elf_flags=0x13F)
    with pytest.raises(PackError, match="every image for gfx90a to have e_flags 0x53f, got 0x13f"):
        encode_kernel("tk", of, found)


def test_two_variants_of_one_name_are_refused() -> None:
    same = variant("fp16", (1, None, None, None, None))
    with pytest.raises(PackError, match=r"each symbol once, got softmax\.fp16, .* twice"):
        kernel(variants=(same, same))


def test_values_beyond_the_contract_are_refused() -> None:
    huge = variant("fp16", (1 << 63, None, None, None, None))
    with pytest.raises(PackError, match="kpk_value: expected values that fit"):
        kernel(variants=(huge,))


@pytest.mark.parametrize("name", ["", "Tk", "t_k", "1k", "tk ", "tk\n", "t-k", "ü", None])
def test_bad_pack_names(name: Any) -> None:
    with pytest.raises(SpecError, match=re.escape("pack name: expected a lower-case letter") + ".*got"):
        check_pack_name(name)
    with pytest.raises(SpecError):
        encode_index(name, [])


@pytest.mark.parametrize(
    "name", ["", "1x", "a-b", "a.b", "a b", "x\n", "naïve", "class", "and", "co_await", None]
)
def test_bad_kernel_names(name: Any) -> None:
    with pytest.raises(SpecError, match="kernel name: expected"):
        check_kernel_name(name)


@pytest.mark.parametrize("name", ["softmax", "_x", "A9", "restrict", "main"])
def test_good_kernel_names(name: str) -> None:
    assert check_kernel_name(name) == name


# ---- the writer by itself


def test_section_and_symbol_facts_survive() -> None:
    data = write_relocatable(
        AARCH64,
        "key",
        [
            Section(".a", b"0123456789abcdef", 16, elf.SHF_ALLOC, references=((0, "out"), (8, "there"))),
            Section(".b", align=32, flags=elf.SHF_ALLOC | elf.SHF_WRITE, zeroed_bytes=12345),
            Section(".c", b"", grouped=False),
        ],
        [Symbol("there", ".b", 7, 5), Symbol("out", "", binding=elf.STB_GLOBAL, visibility=elf.STV_HIDDEN)],
    )
    found = read_elf(data)
    assert [(s.name, s.type, s.flags, s.size, s.align, s.content) for s in found.sections[5:8]] == [
        (".a", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_GROUP, 16, 16, b"0123456789abcdef"),
        (".b", elf.SHT_NOBITS, elf.SHF_ALLOC | elf.SHF_WRITE | elf.SHF_GROUP, 12345, 32, b""),
        (".c", elf.SHT_PROGBITS, 0, 0, 1, b""),
    ]
    assert [(r.offset, r.type, found.symbols[r.symbol].name) for r in found.relocations] == [
        (0, elf.R_AARCH64_PREL64, "out"),
        (8, elf.R_AARCH64_PREL64, "there"),
    ]


def test_thousands_of_symbols_and_relocations_take_seconds() -> None:
    count = 5000
    start = time.perf_counter()
    data = write_relocatable(
        X86_64,
        "key",
        [
            Section(
                ".a",
                bytes(8 * count),
                8,
                elf.SHF_ALLOC,
                references=tuple((8 * i, f"s{i}") for i in range(count)),
            )
        ],
        [Symbol(f"s{i}", ".a", 8 * i, 8) for i in range(count)],
    )
    assert len(read_elf(data).relocations) == count
    assert time.perf_counter() - start < 5


# ---- the reader


@pytest.mark.parametrize(
    ("file", "machine", "flags", "osabi", "abi_version", "holds"),
    [
        ("softmax.cubin", elf.EM_CUDA, 0x500550, 51, 7, ".nv.info.softmax_fp16_zz"),
        ("softmax.hsaco", elf.EM_AMDGPU, 0x53F, 64, 3, ".note"),
    ],
)
def test_code_objects_of_both_vendors_are_read(
    file: str, machine: int, flags: int, osabi: int, abi_version: int, holds: str
) -> None:
    data = (SAMPLES / file).read_bytes()
    found, other = read_elf(data), ELFFile(io.BytesIO(data))
    assert (found.machine, found.flags, found.osabi, found.abi_version) == (
        machine,
        flags,
        osabi,
        abi_version,
    )
    assert [(s.name, s.size) for s in found.sections] == [
        (s.name, s["sh_size"]) for s in other.iter_sections()
    ]
    assert found.section(holds).content == other.get_section_by_name(holds).data()
    symbols = other.get_section_by_name(".symtab").iter_symbols()
    assert [s.name for s in found.symbols] == [s.name for s in symbols]


GOOD = kernel().data


def patched(at: int, layout: str, value: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into("<" + layout, data, at, value)
    return bytes(data)


HEADERS = struct.unpack_from("<Q", GOOD, 40)[0]
SYMTAB = HEADERS + 3 * 64

BAD = {
    "empty": (b"", "ELF header: expected 64 bytes, got 0"),
    "short": (GOOD[:63], "ELF header: expected 64 bytes, got 63"),
    "magic": (b"\x7fELG" + GOOD[4:], "expected magic 7f454c46, got 7f454c47"),
    "32 bits": (patched(4, "B", 1), "expected 64 bits, little-endian"),
    "big-endian": (patched(5, "B", 2), "expected 64 bits, little-endian"),
    "truncated": (GOOD[:-1], "section headers: expected within"),
    "headers beyond": (patched(40, "Q", 1 << 63), "section headers: expected within"),
    "header size": (patched(58, "H", 40), "section headers: expected 64 bytes each, got 40"),
    "names index": (patched(62, "H", 500), "section names: expected a section below"),
    "section beyond": (patched(SYMTAB + 24, "Q", 1 << 62), "section 3: expected within"),
    "section size": (patched(SYMTAB + 32, "Q", (1 << 64) - 1), "section 3: expected within"),
    "section name": (patched(SYMTAB, "I", 1 << 30), "section names: expected a NUL-terminated name"),
    "symbol size": (patched(SYMTAB + 56, "Q", 16), r"section \.symtab: expected entries of 24 bytes"),
    "symbol names": (patched(SYMTAB + 40, "I", 99), r"section \.symtab: expected a link below"),
}


@pytest.mark.parametrize(("data", "what"), BAD.values(), ids=BAD.keys())
def test_what_is_no_elf_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        read_elf(data)


def test_damaged_objects_raise_format_errors_only() -> None:
    random_ = random.Random(2)
    for _ in range(500):
        data = bytearray(GOOD[: random_.randrange(len(GOOD))] if random_.random() < 0.2 else GOOD)
        for _ in range(random_.randrange(1, 8)):
            if data:
                at = (
                    random_.randrange(min(len(data), 64))
                    if random_.random() < 0.3
                    else random_.randrange(len(data))
                )
                data[at] = random_.randrange(256)
        try:
            read_elf(bytes(data))
        except FormatError:
            continue


def test_holes_leave_their_variant_out() -> None:
    symbols = {s.name for s in read_elf(kernel_with_holes().data).symbols}
    assert "softmax.fp16.BLOCK1024.w4.a16" in symbols
    assert "softmax.fp16.BLOCK1024.w4" not in symbols


def test_an_object_that_does_not_read_back_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What LIEF gets wrong it does not say: so `write_relocatable` looks."""
    add = relocatable._add_symbol

    def misplace(binary: Any, wanted: Symbol, section: int) -> Any:
        return add(binary, replace(wanted, size=wanted.size + 1), section)

    monkeypatch.setattr(relocatable, "_add_symbol", misplace)
    with pytest.raises(PackError, match="symbols do not read back as written"):
        kernel()
