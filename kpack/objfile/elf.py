"""ELF, read: the numbers and layouts of the format (elf.h), and any 64-bit file read without trust.

Written by hand, since reading has to refuse what is wrong: every offset, count and name is measured against the
bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kpack.errors import FormatError

ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
TYPE_NAMES = {0: "a file of no type", 2: "a program", 3: "a shared object or program", 4: "a core dump"}
EM_X86_64, EM_AARCH64, EM_CUDA, EM_AMDGPU = 62, 183, 190, 224
ELFOSABI_NONE, ELFOSABI_GNU = 0, 3

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 7, 8, 9
SHT_GROUP = 17
SHF_WRITE, SHF_ALLOC, SHF_INFO_LINK, SHF_GROUP, SHF_TLS = 0x1, 0x2, 0x40, 0x200, 0x400
SHF_GNU_RETAIN, SHF_X86_64_LARGE, SHF_EXCLUDE = 0x200000, 0x10000000, 0x80000000
GRP_COMDAT = 1

STB_LOCAL, STB_GLOBAL = 0, 1
STT_NOTYPE, STT_OBJECT = 0, 1
STV_DEFAULT, STV_HIDDEN = 0, 2
R_X86_64_PC64, R_AARCH64_PREL64 = 24, 260

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
REL = struct.Struct("<QQ")
RELA = struct.Struct("<QQq")

_LONGEST_NAME = 1 << 16  # so that a table of overlapping names cannot eat the memory


@dataclass(frozen=True, slots=True)
class ElfSection:
    """One section header. `content` is what the file holds of it: nothing for NOBITS."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int
    view: memoryview = field(repr=False, compare=False)

    @property
    def content(self) -> bytes:
        return bytes(self.view)


@dataclass(frozen=True, slots=True)
class ElfSymbol:
    """`section` is an index into the file's sections, or one of the reserved numbers from 0xff00."""

    name: str
    value: int
    size: int
    type: int
    binding: int
    visibility: int
    section: int


@dataclass(frozen=True, slots=True)
class ElfRelocation:
    """`section`: index of the section patched; `symbol`: index in ElfFile.symbols."""

    section: int
    offset: int
    type: int
    symbol: int
    addend: int


@dataclass(frozen=True, slots=True)
class ElfFile:
    """A 64-bit little-endian ELF file. `relocations` are those that refer to .symtab, as `symbols` does."""

    machine: int
    type: int
    flags: int
    osabi: int
    abi_version: int
    sections: tuple[ElfSection, ...]
    symbols: tuple[ElfSymbol, ...]
    relocations: tuple[ElfRelocation, ...]

    def section(self, name: str) -> ElfSection:
        """The first section of this name; FormatError when there is none."""
        for section in self.sections:
            if section.name == name:
                return section
        raise FormatError(f"section {name}: expected in the file, got {len(self.sections)} others")


def read_elf(data: bytes) -> ElfFile:
    """Read any 64-bit little-endian ELF file. Raises FormatError on everything that is not one, whole."""
    if len(data) < EHDR.size:
        raise FormatError(f"ELF header: expected {EHDR.size} bytes, got {len(data)}")
    ident, kind, machine, _, _, _, table, flags, _, _, _, entry, count, names = EHDR.unpack_from(data)
    if ident[:4] != b"\x7fELF":
        raise FormatError(f"ELF header: expected magic 7f454c46, got {ident[:4].hex()}")
    if ident[4:6] != b"\x02\x01":
        raise FormatError(f"ELF header: expected 64 bits, little-endian (0201), got {ident[4:6].hex()}")
    if count and entry != SHDR.size:
        raise FormatError(f"section headers: expected {SHDR.size} bytes each, got {entry}")
    sections = _read_sections(memoryview(data).toreadonly(), table, count, names)
    tables = [index for index, section in enumerate(sections) if section.type == SHT_SYMTAB]
    if len(tables) > 1:
        raise FormatError(f"symbol tables: expected at most 1, got {len(tables)}")
    symbols = tuple(_read_symbols(sections, tables[0])) if tables else ()
    relocations = tuple(_read_relocations(sections, tables[0], len(symbols))) if tables else ()
    return ElfFile(machine, kind, flags, ident[7], ident[8], sections, symbols, relocations)


def _read_sections(data: memoryview, table: int, count: int, names: int) -> tuple[ElfSection, ...]:
    if table + count * SHDR.size > len(data):
        raise FormatError(f"section headers: expected within {len(data)} bytes, got {count} at {table}")
    if count and names >= count:
        raise FormatError(f"section names: expected a section below {count}, got {names}")
    headers = [SHDR.unpack_from(data, table + number * SHDR.size) for number in range(count)]
    views = [_view(data, number, header) for number, header in enumerate(headers)]
    return tuple(_section(views[names], header, view) for header, view in zip(headers, views, strict=True))


def _section(names: memoryview, header: Sequence[int], view: memoryview) -> ElfSection:
    name, kind, flags, address, offset, size, link, info, align, entry_size = header
    text = _name(names, name, "section names")
    return ElfSection(text, kind, flags, address, offset, size, link, info, align, entry_size, view)


def _view(data: memoryview, number: int, header: Sequence[int]) -> memoryview:
    kind, offset, size = header[1], header[4], header[5]
    if kind in (0, SHT_NOBITS):
        return data[:0]
    if offset + size > len(data):
        raise FormatError(f"section {number}: expected within {len(data)} bytes, got {size} at {offset}")
    return data[offset : offset + size]


def _name(strings: memoryview, at: int, what: str) -> str:
    text, end, _ = bytes(strings[at : at + _LONGEST_NAME]).partition(b"\0")
    if not end:
        raise FormatError(f"{what}: expected a NUL-terminated name at {at} of {len(strings)} bytes")
    return text.decode("utf-8", "backslashreplace")


def _records(section: ElfSection, layout: struct.Struct) -> Iterator[tuple[int, ...]]:
    if section.entry_size != layout.size or section.size % layout.size:
        raise FormatError(
            f"section {section.name}: expected entries of {layout.size} bytes, "
            f"got {section.size} bytes of {section.entry_size}"
        )
    return layout.iter_unpack(section.view)


def _linked(sections: Sequence[ElfSection], section: ElfSection) -> ElfSection:
    if section.link >= len(sections):
        raise FormatError(
            f"section {section.name}: expected a link below {len(sections)}, got {section.link}"
        )
    return sections[section.link]


def _read_symbols(sections: Sequence[ElfSection], table: int) -> Iterator[ElfSymbol]:
    strings = _linked(sections, sections[table])
    for name, info, other, section, value, size in _records(sections[table], SYM):
        if len(sections) <= section < 0xFF00:
            raise FormatError(f"symbol: expected a section below {len(sections)}, got {section}")
        yield ElfSymbol(
            _name(strings.view, name, "symbol names"), value, size, info & 15, info >> 4, other & 3, section
        )


def _read_relocations(
    sections: Sequence[ElfSection], table: int, symbol_count: int
) -> Iterator[ElfRelocation]:
    for section in sections:
        if section.type not in (SHT_REL, SHT_RELA) or section.link != table:
            continue
        if section.info >= len(sections):
            raise FormatError(
                f"section {section.name}: expected a target below {len(sections)}, got {section.info}"
            )
        for offset, info, *addend in _records(section, RELA if section.type == SHT_RELA else REL):
            symbol = info >> 32
            if symbol >= symbol_count:
                raise FormatError(
                    f"section {section.name}: expected a symbol below {symbol_count}, got {symbol}"
                )
            yield ElfRelocation(section.info, offset, info & 0xFFFFFFFF, symbol, addend[0] if addend else 0)
