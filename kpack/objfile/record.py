"""The structs of abi.h as they lie in an object, read without trust.

A reference is followed when it is asked for, through its relocation or by its constant, and only inside the
bounds of a section; a table is measured against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from kpack.errors import FormatError
from kpack.objfile import abi, elf
from kpack.objfile.host import HOSTS
from kpack.objfile.section import LONGEST_TEXT_BYTES

__all__ = ["Object", "Place", "Record"]


@dataclass(frozen=True, slots=True)
class Place:
    section: int
    offset: int


class Object:
    """An ELF relocatable, and what its references name."""

    def __init__(self, member: str, data: bytes) -> None:
        self.member = member
        self.elf = elf.read_elf(data)
        if self.elf.type != elf.ET_REL:
            raise FormatError(
                f"expected a relocatable object, got {elf.TYPE_NAMES.get(self.elf.type, f'e_type {self.elf.type}')}"
            )
        self._targets = {(r.section, r.offset): r for r in self.elf.relocations}
        self._texts: dict[Place, str] = {}

    def find(self, name: str) -> int:
        """Index of the section of this name, 0 when there is none."""
        return next((at for at, section in enumerate(self.elf.sections) if section.name == name), 0)

    def kernel_symbols(self) -> list[elf.ElfSymbol]:
        return [s for s in self.elf.symbols if s.name.startswith("kpack_kernel_") and s.section]

    def tuning_symbols(self) -> list[elf.ElfSymbol]:
        return [s for s in self.elf.symbols if s.name.startswith("kpack_tuning_") and s.section]

    def place_of(self, symbol: elf.ElfSymbol) -> Place:
        return Place(symbol.section, symbol.value)

    def bytes_at(self, place: Place, size: int, what: str) -> memoryview:
        sections = self.elf.sections
        if not 0 < place.section < len(sections):
            raise FormatError(f"{what}: expected it in a section of this object, got section {place.section}")
        view = sections[place.section].view
        if not 0 <= place.offset <= len(view) - size:
            raise FormatError(
                f"{what}: expected {size} bytes at {place.offset} within {sections[place.section].name} "
                f"of {len(view)} bytes"
            )
        return view[place.offset : place.offset + size]

    def symbol_at(self, here: Place) -> elf.ElfSymbol | None:
        """The symbol that a relocated reference names."""
        relocation = self._targets.get((here.section, here.offset))
        return self.elf.symbols[relocation.symbol] if relocation else None

    def follow(self, here: Place, what: str) -> Place | None:
        """Where the reference at `here` points; None when it is nothing."""
        relocation = self._targets.get((here.section, here.offset))
        if relocation:
            host = next((h for h in HOSTS.values() if h.machine == self.elf.machine), None)
            if host is None or relocation.type != host.relative64:
                raise FormatError(
                    f"{what}: expected a relative relocation of 64 bits, got type {relocation.type}"
                )
            symbol = self.elf.symbols[relocation.symbol]
            return Place(symbol.section, symbol.value + relocation.addend)
        (value,) = struct.unpack("<q", self.bytes_at(here, 8, what))
        return Place(here.section, here.offset + value) if value else None

    def text(self, place: Place, what: str) -> str:
        if place not in self._texts:
            self.bytes_at(place, 1, what)
            rest = self.elf.sections[place.section].view[place.offset : place.offset + LONGEST_TEXT_BYTES]
            text, end, _ = bytes(rest).partition(b"\0")
            if not end:
                raise FormatError(
                    f"{what}: expected NUL-terminated text at {place.offset}, got {text[:40]!r}"
                )
            try:
                self._texts[place] = text.decode()
            except UnicodeDecodeError:
                raise FormatError(f"{what}: expected UTF-8, got {text[:40]!r}") from None
        return self._texts[place]

    def record(self, layout: abi.Struct, place: Place, what: str) -> Record:
        cells = layout.unpack(self.bytes_at(place, layout.size, what))
        return Record(self, layout, place, what, cells)

    def versioned(self, layout: abi.Struct, place: Place, what: str, least_bytes: int) -> Record:
        """A struct that carries its size, `least_bytes` in ABI 1.0: fields that its writer did not know are 0."""
        (size,) = struct.unpack("<I", self.bytes_at(place, 4, what))
        known = self.bytes_at(place, max(least_bytes, min(size, layout.size)), what)
        record = Record(self, layout, place, what, layout.unpack(bytes(known).ljust(layout.size, b"\0")))
        _expect_version(record, least_bytes)
        return record


@dataclass(frozen=True, slots=True)
class Record:
    """A struct of abi.h at its place, with its references followed on demand."""

    object: Object
    layout: abi.Struct
    place: Place
    what: str
    cells: Mapping[str, abi.Cell]

    def number(self, name: str) -> int:
        return cast(int, self.cells[name])

    def numbers(self, name: str) -> tuple[int, ...]:
        return cast("tuple[int, ...]", self.cells[name])

    def where(self, name: str) -> Place:
        return Place(self.place.section, self.place.offset + self.layout.offset(name))

    def symbol(self, name: str) -> elf.ElfSymbol | None:
        return self.object.symbol_at(self.where(name))

    def optional(self, name: str) -> Place | None:
        return self.object.follow(self.where(name), f"{self.what}.{name}")

    def target(self, name: str) -> Place:
        found = self.optional(name)
        if found is None:
            raise FormatError(f"{self.what}.{name}: expected a reference, got nothing")
        return found

    def text(self, name: str) -> str:
        return self.object.text(self.target(name), f"{self.what}.{name}")

    def optional_text(self, name: str) -> str:
        return self.text(name) if self.optional(name) else ""

    def table(self, name: str, layout: abi.Struct) -> tuple[Record, ...]:
        _, count, stride = self.numbers(name)
        what = f"{self.what}.{name}"
        if not count:
            return ()
        if stride < layout.size:
            raise FormatError(f"{what}: expected a stride of {layout.size} or more, got {stride}")
        start = self.target(name)
        self.object.bytes_at(start, count * stride, what)
        return tuple(
            self.object.record(
                layout, Place(start.section, start.offset + number * stride), f"{what}[{number}]"
            )
            for number in range(count)
        )


def _expect_version(record: Record, least_bytes: int) -> None:
    """Refuse what only a newer kpack can read."""
    if record.number("major") > abi.ABI_MAJOR:
        raise FormatError(
            f"{record.what}: expected ABI {abi.ABI_MAJOR} or older, "
            f"got {record.number('major')}.{record.number('minor')}; read it with a newer kpack"
        )
    if record.number("size") < least_bytes:
        raise FormatError(f"{record.what}: expected {least_bytes} bytes or more, got {record.number('size')}")
    if record.number("must_understand"):
        raise FormatError(
            f"{record.what}: expected no must-understand bit, got {record.number('must_understand'):#x}; "
            "read it with a newer kpack"
        )
