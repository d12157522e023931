"""ELF, written: a data-only relocatable of given sections, symbols and references, in one COMDAT group.

The one module that imports lief. LIEF 1.0 reports trouble by logging, not raising, and some of its defaults are
wrong for us without failing; those places are marked LIEF. So every finished object is read back, by our
reader and not LIEF's, and compared before a caller sees it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpack.errors import FormatError, PackError
from kpack.needs import needing
from kpack.objfile.elf import (
    EHDR,
    ELFOSABI_GNU,
    ELFOSABI_NONE,
    EM_AARCH64,
    EM_X86_64,
    ET_REL,
    GRP_COMDAT,
    RELA,
    SHDR,
    SHF_GNU_RETAIN,
    SHF_GROUP,
    SHF_INFO_LINK,
    SHT_GROUP,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_LOCAL,
    STT_NOTYPE,
    STT_OBJECT,
    STV_DEFAULT,
    SYM,
    read_elf,
)
from kpack.objfile.host import Host

if TYPE_CHECKING:
    from lief import ELF

__all__ = ["Section", "Symbol", "write_relocatable"]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol to write: of `section`, or undefined when that is empty. Names are unique in an object."""

    name: str
    section: str
    offset: int = 0
    size: int = 0  # bytes
    type: int = STT_OBJECT
    binding: int = STB_LOCAL
    visibility: int = STV_DEFAULT


@dataclass(frozen=True, slots=True)
class Section:
    """A section to write: `content`, or `zeroed_bytes` of none. `references`: the offset of a
    64-bit field, and the symbol it points at, relative to itself."""

    name: str
    content: bytes = b""
    align: int = 1
    flags: int = 0
    zeroed_bytes: int = 0
    grouped: bool = True
    references: tuple[tuple[int, str], ...] = ()

    @property
    def type(self) -> int:
        return SHT_NOBITS if self.zeroed_bytes else SHT_PROGBITS

    @property
    def all_flags(self) -> int:
        return self.flags | (SHF_GROUP if self.grouped else 0)


def write_relocatable(
    host: Host, group: str, sections: Sequence[Section], symbols: Sequence[Symbol]
) -> bytes:
    """An object of these sections and symbols, the grouped ones in one COMDAT group named `group`.

    Same arguments, same bytes. Raises PackError if the object does not read back as asked for.
    """
    with needing("writing an archive"):
        import lief  # here, so that only writing loads it

    lief.logging.disable()  # it talks to stderr about sections it does not know; `_verify` is the judge
    _refuse_duplicates(group, symbols)
    osabi = ELFOSABI_GNU if any(s.flags & SHF_GNU_RETAIN for s in sections) else ELFOSABI_NONE
    elf = lief.ELF.parse(_seed(host.machine, osabi))
    if elf is None:
        raise PackError("seed object: lief does not parse it")
    # Locals first: the standard wants it, and LIEF keeps the order it is given.
    ordered = [Symbol(group, _GROUP, type=STT_NOTYPE)]
    ordered += sorted(symbols, key=lambda symbol: symbol.binding != STB_LOCAL)
    _add_sections(elf, host, sections, ordered)
    data = _lay_out(elf.write_to_bytes(), sections)
    _verify(data, host, group, sections, ordered)
    return data


def _refuse_duplicates(group: str, symbols: Sequence[Symbol]) -> None:
    twice = sorted(name for name, count in Counter(s.name for s in symbols).items() if count > 1)
    if twice:
        raise PackError(f"{group}: expected each symbol once, got {', '.join(twice)} twice")


# ---- through lief


_GROUP = ".group"
_SYMTAB_INDEX = 3  # in the seed
_GROUP_INDEX = 4  # before its members, as the standard wants
_FIRST_INDEX = 5  # of the sections asked for; their relocation tables follow them


def _seed(machine: int, osabi: int) -> bytes:
    """The smallest relocatable lief will extend: null, .shstrtab, .strtab and .symtab sections."""
    names = b"\0.shstrtab\0.strtab\0.symtab\0"
    strings = names + b"\0"
    strings += bytes(-len(strings) % 8)
    symtab = EHDR.size + len(strings)
    headers = (
        SHDR.pack(*[0] * 10)
        + SHDR.pack(1, SHT_STRTAB, 0, 0, EHDR.size, len(names), 0, 0, 1, 0)
        + SHDR.pack(11, SHT_STRTAB, 0, 0, EHDR.size + len(names), 1, 0, 0, 1, 0)
        + SHDR.pack(19, SHT_SYMTAB, 0, 0, symtab, SYM.size, 2, 1, 8, SYM.size)
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes([osabi]) + bytes(8)
    table = symtab + SYM.size
    header = EHDR.pack(ident, ET_REL, machine, 1, 0, 0, table, 0, EHDR.size, 0, 0, SHDR.size, 4, 1)
    return header + strings + bytes(SYM.size) + headers


def _add_sections(
    elf: ELF.Binary, host: Host, sections: Sequence[Section], symbols: Sequence[Symbol]
) -> None:
    tables = [(at, s) for at, s in enumerate(sections, _FIRST_INDEX) if s.references]
    members = [at for at, section in enumerate(sections, _FIRST_INDEX) if section.grouped]
    members += [at for at, (_, s) in enumerate(tables, _FIRST_INDEX + len(sections)) if s.grouped]
    words = struct.pack(f"<{1 + len(members)}I", GRP_COMDAT, *members)
    _add_section(elf, _GROUP, SHT_GROUP, words, align=4, link=_SYMTAB_INDEX, info=1, entry_size=4)
    for section in sections:
        # LIEF: content is taken as a list of int objects, 8 bytes a byte, so `_lay_out` adds the real one;
        # and sections are sorted by offset, so an empty one could change places with the next.
        _add_section(elf, section.name, section.type, b"?", align=section.align, flags=section.all_flags)
    for at, section in tables:
        # LIEF: a relocation needs its table to exist beforehand, tied to its section by sh_info.
        _add_section(
            elf, ".rela" + section.name, SHT_RELA, bytes(RELA.size * len(section.references)), align=8,
            flags=SHF_INFO_LINK | (section.all_flags & SHF_GROUP), link=_SYMTAB_INDEX, info=at,
            entry_size=RELA.size,
        )  # fmt: skip

    # LIEF: sh_info of the symbol table, the first global, is not kept up to date.
    elf.sections[_SYMTAB_INDEX].information = 1 + sum(s.binding == STB_LOCAL for s in symbols)
    index = {_GROUP: _GROUP_INDEX, "": 0} | {s.name: at for at, s in enumerate(sections, _FIRST_INDEX)}
    added = {symbol.name: _add_symbol(elf, symbol, index[symbol.section]) for symbol in symbols}
    for at, section in tables:
        for offset, name in section.references:
            _add_reference(elf, host, at, offset, added[name])


def _add_section(
    elf: ELF.Binary, name: str, kind: int, content: bytes, *, align: int, flags: int = 0, link: int = 0,
    info: int = 0, entry_size: int = 0,
) -> None:  # fmt: skip
    """Add a section after all others."""
    from lief import ELF

    section = ELF.Section(name, ELF.Section.TYPE(kind))
    section.alignment, section.flags = align, flags
    section.link, section.information, section.entry_size = link, info, entry_size
    section.content = list(content)
    # LIEF: the default position is index 0, where the ELF standard wants the null section.
    if elf.add(section, loaded=False, pos=ELF.Binary.SEC_INSERT_POS.POST_SECTION) is None:
        raise PackError(f"section {name}: lief refused it")


def _add_symbol(elf: ELF.Binary, wanted: Symbol, section: int) -> ELF.Symbol:
    from lief import ELF

    symbol = ELF.Symbol()
    symbol.name, symbol.shndx, symbol.value, symbol.size = wanted.name, section, wanted.offset, wanted.size
    symbol.type, symbol.binding = ELF.Symbol.TYPE(wanted.type), ELF.Symbol.BINDING(wanted.binding)
    symbol.visibility = ELF.Symbol.VISIBILITY(wanted.visibility)
    return elf.add_symtab_symbol(symbol)


def _add_reference(elf: ELF.Binary, host: Host, section: int, offset: int, target: ELF.Symbol) -> None:
    from lief import ELF

    kinds = {EM_X86_64: ELF.Relocation.TYPE.X86_64_PC64, EM_AARCH64: ELF.Relocation.TYPE.AARCH64_PREL64}
    # LIEF: without an encoding it writes 16-byte REL entries into our 24-byte RELA table.
    relocation = ELF.Relocation(offset, kinds[host.machine], ELF.Relocation.ENCODING.RELA)
    added = elf.add_object_relocation(relocation, elf.sections[section])
    if added is None:
        raise PackError(f"relocation at {offset} of section {section}: lief refused it")
    # LIEF: adding copies the relocation but drops its symbol, so the symbol goes on the copy.
    added.symbol = target


# ---- laid out anew


def _lay_out(written: bytes, sections: Sequence[Section]) -> bytes:
    """What lief wrote, laid out anew: with the sections' contents, each aligned, section headers last.

    LIEF: it places the symbol and relocation tables at any offset, aligned or not.
    """
    header = list(EHDR.unpack_from(written))
    table, count = header[6], header[12]
    ours = dict(enumerate(sections, _FIRST_INDEX))
    headers: list[Sequence[int]] = [[0] * 10]
    parts: list[bytes | memoryview] = [b""]  # the file header, when it is known
    end = EHDR.size
    for number in range(1, count):
        fields = list(SHDR.unpack_from(written, table + number * SHDR.size))
        content = memoryview(written)[fields[4] : fields[4] + fields[5]]
        size = len(content)
        if number in ours:
            content = memoryview(ours[number].content)
            size = ours[number].zeroed_bytes or len(content)
        padding = -end % fields[8]
        fields[4], fields[5] = end + padding, size
        headers.append(fields)
        parts += [bytes(padding), content]
        end += padding + len(content)
    padding = -end % 8
    header[6] = end + padding
    parts[0] = EHDR.pack(*header)
    return b"".join([*parts, bytes(padding), *(SHDR.pack(*fields) for fields in headers)])


# ---- read back


def _verify(
    data: bytes, host: Host, group: str, sections: Sequence[Section], symbols: Sequence[Symbol]
) -> None:
    """Read the object back and compare it with what was asked for."""
    try:
        elf = read_elf(data)
    except FormatError as error:
        raise PackError(f"{group}: the object just written does not read: {error}") from error
    null, ours = elf.sections[0], elf.sections[_FIRST_INDEX : _FIRST_INDEX + len(sections)]
    if null.name or null.type:
        raise PackError(f"{group}: expected the null section first, got {null.name!r}")
    _expect_same(
        group,
        "sections",
        [(s.name, s.type, s.all_flags, s.align, s.zeroed_bytes or len(s.content)) for s in sections],
        [(s.name, s.type, s.flags, s.align, s.size) for s in ours],
    )
    for section, found in zip(sections, ours, strict=True):
        if not data.startswith(section.content, found.offset):
            raise PackError(f"{group}: the content of {section.name} does not read back as written")
    names = {index: s.name for index, s in enumerate(elf.sections)} | {0: ""}
    _expect_same(
        group,
        "symbols",
        symbols,
        [
            Symbol(s.name, names.get(s.section, "?"), s.value, s.size, s.type, s.binding, s.visibility)
            for s in elf.symbols[1:]
        ],
    )
    _expect_same(
        group,
        "references",
        sorted((s.name, at, host.relative64, name, 0) for s in sections for at, name in s.references),
        sorted(
            (names[r.section], r.offset, r.type, elf.symbols[r.symbol].name, r.addend)
            for r in elf.relocations
        ),
    )


def _expect_same(group: str, what: str, wanted: Sequence[object], found: Sequence[object]) -> None:
    if list(wanted) != list(found):
        raise PackError(f"{group}: {what} do not read back as written: expected {wanted}, got {found}")
