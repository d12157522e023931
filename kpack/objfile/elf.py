"""ELF, both ways: data-only relocatables written with LIEF, and any 64-bit ELF read without trust.

The one module that imports lief, and only to write: reading has to refuse what is wrong, and LIEF reads on.
LIEF 1.0 reports trouble by logging, not raising, and some of its defaults are wrong for us without failing;
those places are marked LIEF. So every finished object is read back and compared before a caller sees it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from kpack.errors import FormatError, PackError

if TYPE_CHECKING:
    from lief import ELF

ET_REL = 1
EM_X86_64, EM_AARCH64, EM_CUDA, EM_AMDGPU = 62, 183, 190, 224
ELFOSABI_NONE, ELFOSABI_GNU = 0, 3

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 7, 8, 9
SHT_DYNSYM, SHT_GROUP = 11, 17
SHF_WRITE, SHF_ALLOC, SHF_INFO_LINK, SHF_GROUP = 0x1, 0x2, 0x40, 0x200
SHF_GNU_RETAIN, SHF_X86_64_LARGE, SHF_EXCLUDE = 0x200000, 0x10000000, 0x80000000
GRP_COMDAT = 1

STB_LOCAL, STB_GLOBAL = 0, 1
STT_NOTYPE, STT_OBJECT = 0, 1
STV_DEFAULT, STV_HIDDEN = 0, 2
R_X86_64_PC64, R_AARCH64_PREL64 = 24, 260

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")
_RELA = struct.Struct("<QQq")

_LONGEST_NAME = 1 << 16  # so that a table of overlapping names cannot eat the memory


# ---- writing


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that archives are made for."""

    name: str
    machine: int
    relative64: int  # the relocation "symbol - here", 64 bits
    large: int  # flag of sections that may lie beyond 2 GiB, 0 where there is none


HOSTS: Mapping[str, Host] = MappingProxyType(
    {
        "x86_64": Host("x86_64", EM_X86_64, R_X86_64_PC64, SHF_X86_64_LARGE),
        "aarch64": Host("aarch64", EM_AARCH64, R_AARCH64_PREL64, 0),
    }
)


def find_host(name: str) -> Host:
    try:
        return HOSTS[name]
    except KeyError:
        raise PackError(f"host: expected {' or '.join(HOSTS)}, got {name!r}") from None


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
    import lief  # here, so that reading needs no lief

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


_GROUP = ".group"
_SYMTAB_INDEX = 3  # in the seed
_GROUP_INDEX = 4  # before its members, as the standard wants
_FIRST_INDEX = 5  # of the sections asked for; their relocation tables follow them


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
            elf, ".rela" + section.name, SHT_RELA, bytes(_RELA.size * len(section.references)), align=8,
            flags=SHF_INFO_LINK | (section.all_flags & SHF_GROUP), link=_SYMTAB_INDEX, info=at,
            entry_size=_RELA.size,
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


def _lay_out(written: bytes, sections: Sequence[Section]) -> bytes:
    """What lief wrote, laid out anew: with the sections' contents, each aligned, section headers last.

    LIEF: it places the symbol and relocation tables at any offset, aligned or not.
    """
    header = list(_EHDR.unpack_from(written))
    table, count = header[6], header[12]
    ours = dict(enumerate(sections, _FIRST_INDEX))
    headers: list[Sequence[int]] = [[0] * 10]
    parts: list[bytes | memoryview] = [b""]  # the file header, when it is known
    end = _EHDR.size
    for number in range(1, count):
        fields = list(_SHDR.unpack_from(written, table + number * _SHDR.size))
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
    parts[0] = _EHDR.pack(*header)
    return b"".join([*parts, bytes(padding), *(_SHDR.pack(*fields) for fields in headers)])


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


def _seed(machine: int, osabi: int) -> bytes:
    """The smallest relocatable lief will extend: null, .shstrtab, .strtab and .symtab sections."""
    names = b"\0.shstrtab\0.strtab\0.symtab\0"
    strings = names + b"\0"
    strings += bytes(-len(strings) % 8)
    symtab = _EHDR.size + len(strings)
    headers = (
        _SHDR.pack(*[0] * 10)
        + _SHDR.pack(1, SHT_STRTAB, 0, 0, _EHDR.size, len(names), 0, 0, 1, 0)
        + _SHDR.pack(11, SHT_STRTAB, 0, 0, _EHDR.size + len(names), 1, 0, 0, 1, 0)
        + _SHDR.pack(19, SHT_SYMTAB, 0, 0, symtab, _SYM.size, 2, 1, 8, _SYM.size)
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes([osabi]) + bytes(8)
    table = symtab + _SYM.size
    header = _EHDR.pack(ident, ET_REL, machine, 1, 0, 0, table, 0, _EHDR.size, 0, 0, _SHDR.size, 4, 1)
    return header + strings + bytes(_SYM.size) + headers


# ---- reading


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
    if len(data) < _EHDR.size:
        raise FormatError(f"ELF header: expected {_EHDR.size} bytes, got {len(data)}")
    ident, kind, machine, _, _, _, table, flags, _, _, _, entry, count, names = _EHDR.unpack_from(data)
    if ident[:4] != b"\x7fELF":
        raise FormatError(f"ELF header: expected magic 7f454c46, got {ident[:4].hex()}")
    if ident[4:6] != b"\x02\x01":
        raise FormatError(f"ELF header: expected 64 bits, little-endian (0201), got {ident[4:6].hex()}")
    if count and entry != _SHDR.size:
        raise FormatError(f"section headers: expected {_SHDR.size} bytes each, got {entry}")
    sections = _read_sections(memoryview(data).toreadonly(), table, count, names)
    tables = [index for index, section in enumerate(sections) if section.type == SHT_SYMTAB]
    if len(tables) > 1:
        raise FormatError(f"symbol tables: expected at most 1, got {len(tables)}")
    symbols = tuple(_read_symbols(sections, tables[0])) if tables else ()
    relocations = tuple(_read_relocations(sections, tables[0], len(symbols))) if tables else ()
    return ElfFile(machine, kind, flags, ident[7], ident[8], sections, symbols, relocations)


def _read_sections(data: memoryview, table: int, count: int, names: int) -> tuple[ElfSection, ...]:
    if table + count * _SHDR.size > len(data):
        raise FormatError(f"section headers: expected within {len(data)} bytes, got {count} at {table}")
    if count and names >= count:
        raise FormatError(f"section names: expected a section below {count}, got {names}")
    headers = [_SHDR.unpack_from(data, table + number * _SHDR.size) for number in range(count)]
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
    for name, info, other, section, value, size in _records(sections[table], _SYM):
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
        for offset, info, *addend in _records(section, _RELA if section.type == SHT_RELA else _REL):
            symbol = info >> 32
            if symbol >= symbol_count:
                raise FormatError(
                    f"section {section.name}: expected a symbol below {symbol_count}, got {symbol}"
                )
            yield ElfRelocation(section.info, offset, info & 0xFFFFFFFF, symbol, addend[0] if addend else 0)
