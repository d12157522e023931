"""A linked program or shared object: the same structs, whose references the linker has resolved to distances."""

from __future__ import annotations

import struct
from bisect import bisect_right

from kpack.errors import FormatError
from kpack.objfile import elf
from kpack.objfile.record import Object, Place

__all__ = ["Linked"]


class Linked(Object):
    """An ELF program or shared object, where a place is found by its address. Without the sections' headers, which
    no linker leaves out, there is nothing to read."""

    def __init__(self, member: str, data: bytes) -> None:
        self.member = member
        self.elf = elf.read_elf(data)
        if self.elf.type not in (elf.ET_EXEC, elf.ET_DYN):
            kind = elf.TYPE_NAMES.get(self.elf.type, f"e_type {self.elf.type}")
            raise FormatError(f"expected a program or shared object, got {kind}")
        self._texts: dict[Place, str] = {}
        loaded = [
            (section.address, number)
            for number, section in enumerate(self.elf.sections)
            if section.flags & elf.SHF_ALLOC and not section.flags & elf.SHF_TLS and section.size
        ]
        self._starts = sorted(loaded)

    def place_of(self, symbol: elf.ElfSymbol) -> Place:
        if symbol.section >= len(self.elf.sections):
            raise FormatError(f"{symbol.name}: expected it in a section, got number {symbol.section:#x}")
        return Place(symbol.section, symbol.value - self.elf.sections[symbol.section].address)

    def symbol_at(self, here: Place) -> elf.ElfSymbol | None:
        return None

    def follow(self, here: Place, what: str) -> Place | None:
        (distance,) = struct.unpack("<q", self.bytes_at(here, 8, what))
        if not distance:
            return None
        address = self.elf.sections[here.section].address + here.offset + distance
        at = bisect_right(self._starts, (address, len(self.elf.sections))) - 1
        if at >= 0:
            start, number = self._starts[at]
            if address < start + self.elf.sections[number].size:
                return Place(number, address - start)
        raise FormatError(f"{what}: expected an address within a section, got {address:#x}")
