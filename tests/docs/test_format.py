"""docs/format.md says what abi.py says, which a C compiler compares with abi.h, and a reader can be written from it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import reader
from packs import images, pack_members, plan
from snippets import DOCS
from tools import need

from kpack.expr import trace
from kpack.objfile import abi, elf
from kpack.objfile.archive import read_archive, write_archive
from kpack.objfile.encode import encode_index, encode_kernel
from kpack.objfile.host import HOSTS
from kpack.objfile.listing import PackListing
from kpack.objfile.reading import read_pack

PAGE = (DOCS / "format.md").read_text()
UNITS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8, "ref": 8, "table": 16}


def rows(pattern: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"^\| {pattern} \|.*$", PAGE, re.MULTILINE)


def struct_of(name: str) -> list[tuple[int, int, str, str]]:
    """offset, size, type and name of each field, as the page has them."""
    head = rf"^\| offset \| size \| type \| {name}, (\d+) bytes \| \|\n\|[-|]+\n"
    match = re.search(head + r"((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert match, f"{name}: no table"
    found = []
    for line in match[2].splitlines():
        offset, size, kind, field = (cell.strip() for cell in line.split("|")[1:5])
        found.append((int(offset), int(size), kind, field.strip("`")))
    return [(int(match[1]), 0, "", name), *found]


@pytest.mark.parametrize("struct", abi.STRUCTS, ids=lambda struct: struct.name)
def test_a_struct_is_as_the_page_says(struct: abi.Struct) -> None:
    expected = [(struct.size, 0, "", struct.name)]
    for field in struct.fields:
        count = field.size // UNITS[field.kind]
        expected.append(
            (field.offset, field.size, field.kind + (f"[{count}]" if count > 1 else ""), field.name)
        )
    assert struct_of(struct.name) == expected


def test_every_constant_is_on_the_page_with_its_value() -> None:
    said = {row["name"]: int(row["value"]) for row in rows(r"(?P<value>\d+) \| `KPK_(?P<name>\w+)`")}
    held = {
        name: value
        for name, value in vars(abi).items()
        if name.isupper() and isinstance(value, int) and not name.startswith("_")
    }
    in_prose = {"ABI_MAJOR", "ABI_MINOR", "EXPR_VERSION", "EXPR_STACK", "STATE_BYTES", "HOLE_NO_VARIANT"}
    in_prose |= {"NAME_SEED", "NAME_PRIME", "SIGNATURE_SEED", "SIGNATURE_PRIME"}
    assert said == {name: value for name, value in held.items() if name not in in_prose}
    for name in ("NAME_SEED", "NAME_PRIME", "SIGNATURE_SEED", "SIGNATURE_PRIME", "HOLE_NO_VARIANT"):
        assert f"{held[name]:#x}" in PAGE, name
    assert f"It is version {abi.ABI_MAJOR}.{abi.ABI_MINOR}." in PAGE
    assert f"the version, {abi.EXPR_VERSION}." in PAGE
    assert f"At most {abi.EXPR_STACK} values" in PAGE
    assert f"the state slot, {abi.STATE_BYTES} bytes" in PAGE


# ---- objects

FLAGS = {"A": 2, "W": 1, "G": 0x200, "I": 0x40, "E": 0x80000000, "R": 0x200000, "l": 0x10000000}
TYPES = {"PROGBITS": 1, "NOBITS": 8, "RELA": 4, "GROUP": 17}
PLAIN_SECTIONS = {"", ".shstrtab", ".strtab", ".symtab"}  # of any object


def section_rows() -> dict[str, tuple[int, int, set[int]]]:
    """Type, flags and possible alignments by the page's name of a section."""
    pattern = r"`(?P<name>[.\w<>-]+)` \| (?P<type>[A-Z]+) \| (?P<flags>[AWGIERl ]*)\|(?P<align>[^|]*)\|[^|\n]*\|[^|\n]*"
    return {
        row["name"]: (
            TYPES[row["type"]],
            sum(FLAGS[flag] for flag in row["flags"].split()),
            {int(each) for each in row["align"].split(" or ")},
        )
        for row in rows(pattern)
    }


@pytest.mark.parametrize("host", HOSTS)
def test_objects_have_the_sections_and_symbols_of_the_page(host: str, tmp_path: Path) -> None:
    write_archive(tmp_path / "libtk.a", pack_members(host=host))
    said = section_rows()
    for file, data in read_archive(tmp_path / "libtk.a"):
        found = elf.read_elf(data)
        kernel = file.removesuffix(".o")
        for section in found.sections:
            generic = re.sub(rf"(?<=\.){kernel}$", "<kernel>", re.sub(r"\.tk$", ".<pack>", section.name))
            generic = re.sub(r"^\.rela.*", ".rela<section>", generic)
            if generic in PLAIN_SECTIONS:
                continue
            assert generic in said, f"{file}: {section.name}"
            kind, flags, aligns = said[generic]
            assert (section.type, section.flags) == (kind, flags), section.name
            assert section.align in aligns, section.name
        for symbol in found.symbols[1:]:
            check_symbol(symbol, kernel)


def check_symbol(symbol: elf.ElfSymbol, kernel: str) -> None:
    generic = re.sub(r"^(kpack_(?:kernel|state)_)tk_\w+", r"\1<pack>_<kernel>", symbol.name)
    generic = re.sub(r"^((?:kpack_pack|kpk_entry)_)tk$", r"\1<pack>", generic)
    if generic.startswith("kpack_content_"):
        assert re.fullmatch(r"kpack_content_[0-9a-f]{32}", symbol.name)
        return
    if generic == symbol.name:
        assert generic.startswith(f"{kernel}.")  # of a variant, or of its image
        generic = "<kernel>.<variant>" if symbol.size == abi.VARIANT.size else "<kernel>.<variant>.<target>"
    (row,) = rows(rf"`{re.escape(generic)}` \| (?P<binding>[\w, ]+) \| OBJECT \| [^|]+ \| (?P<size>[^|]+)")
    bindings = {
        "local": (0, 0),
        "global, hidden": (1, elf.STV_HIDDEN),
        "global, default": (1, elf.STV_DEFAULT),
    }
    assert (symbol.binding, symbol.visibility) == bindings[row["binding"].strip()], symbol.name
    if symbol.section and row["size"].strip().isdigit():
        assert symbol.size == int(row["size"]), symbol.name


# ---- the reader


@pytest.fixture(scope="module", params=["made up", "real"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of kernels with odd parts and without code, and of the pages."""
    if request.param == "real":
        path = request.getfixturevalue("archive")
        assert isinstance(path, Path)
        return path
    folder = tmp_path_factory.mktemp("format")
    write_archive(folder / "libtk.a", pack_members(("add", "softmax", "a_long_name_of_a_kernel", "vec")))
    return folder / "libtk.a"


def facts(listing: PackListing) -> list[dict[str, object]]:
    return [
        {
            "kernel": kernel.name,
            "images": [
                (variant.name, kernel.targets[image.target].name, image.raw_bytes)
                for variant in kernel.variants
                for image in kernel.images[variant.first_image : variant.first_image + variant.image_count]
            ],
        }
        for kernel in listing.kernels
    ]


def test_the_reader_imports_nothing_of_kpack() -> None:
    tree = ast.parse((Path(__file__).parent / "reader.py").read_text())
    imported = {n.names[0].name if isinstance(n, ast.Import) else n.module for n in ast.walk(tree)
                if isinstance(n, (ast.Import, ast.ImportFrom))}  # fmt: skip
    assert imported == {"__future__", "struct", "collections.abc", "pathlib", "typing"}


def test_the_reader_lists_an_archive_as_kpack_does(pack: Path) -> None:
    memory, listing = reader.link(pack), read_pack(pack)
    assert reader.show(memory, "tk") == facts(listing)
    codes = [code for at in reader.kernels(memory, "tk").values() for *_, code in reader.images(memory, at)]
    assert codes == [bytes(image.stored) for kernel in listing.kernels for image in kernel.images]
    for kernel in listing.kernels:
        assert reader.find(memory, "tk", kernel.name) == reader.kernels(memory, "tk")[kernel.name]
    assert reader.find(memory, "tk", "no_such_kernel") == 0


def test_the_reader_lists_a_linked_pack(pack: Path, tmp_path: Path) -> None:
    need("cc")
    library = tmp_path / "libtk.so"
    subprocess.run(
        ["cc", "-shared", "-o", library, "-Wl,--whole-archive", pack, "-Wl,--no-whole-archive"], check=True
    )
    assert reader.show(reader.loaded(library), "tk") == facts(read_pack(pack))


def test_the_reader_evaluates_guards_and_grids_of_the_tutorials_kernel(archive: Path) -> None:
    memory = reader.link(archive)
    kernel = reader.kernels(memory, "tk")["softmax"]
    for variant in memory.table(kernel + 96):
        block = 1024 if "BLOCK1024" in memory.text(memory.ref(variant)) else 4096
        guard, grid = memory.number("I", variant + 28), memory.number("I", variant + 32)
        for n_cols in (1, 1024, 1025, 4096, 4097):
            call = {"n_cols": n_cols, "n_rows": 7}
            assert reader.evaluate(memory, kernel, variant, guard, call) == (n_cols <= block)
            assert reader.evaluate(memory, kernel, variant, grid, call) == 7


EXPRESSIONS = [
    "n + 2 * 3 - n // 7 % 5", "-n + abs(n - 300)", "min(n, 7) + max(n, 7)", "cdiv(n, 128) * next_power_of_2(n)",
    "n << 3 | n & 6 ^ 1", "n >> 2", "1 if n < 9 else 2 if n == 9 else 100000000000", "n <= 5 and n >= 3 or not n",
    "n != 4 and n > 2", "n * sizeof(out_ptr)",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_reader_evaluates_what_expressions_mean(text: str, tmp_path: Path) -> None:
    made = plan()
    expr = trace(text, ("n",), ("out_ptr",))
    made = replace(made, variants=(replace(made.variants[0], guard=expr), *made.variants[1:]))
    member = encode_kernel("tk", made, images(made))
    write_archive(tmp_path / "libtk.a", [member, encode_index("tk", [member])])
    memory = reader.link(tmp_path / "libtk.a")
    kernel = reader.find(memory, "tk", "softmax")
    variant = next(memory.table(kernel + 96))
    words = {"cdiv": lambda a, b: -(-a // b), "next_power_of_2": lambda n: 1 << max(n - 1, 0).bit_length()}
    for n in (0, 1, 3, 4, 5, 9, 128, 300, 1 << 31):
        expected = int(eval(text, {**words, "n": n, "out_ptr": 0, "sizeof": lambda _: 2}))
        found = reader.evaluate(memory, kernel, variant, memory.number("I", variant + 28), {"n": n})
        assert found == expected, (n, found, expected)
