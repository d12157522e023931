"""A reader of kpack's archives, written from docs/format.md alone: nothing of kpack is imported.

An archive is linked in miniature (its sections get addresses, its references their values); a shared object is taken as
it lies in memory. Then both read alike, from the record of the pack on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NOBITS, RELA, SYMTAB, DYNSYM = 8, 4, 2, 11
RELATIVE = {62: 24, 183: 260}  # e_machine -> R_X86_64_PC64, R_AARCH64_PREL64


class Memory:
    """Bytes at addresses, and the addresses of symbols."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.symbols: dict[str, int] = {}

    def number(self, code: str, at: int) -> int:
        return int(struct.unpack_from("<" + code, self.bytes, at)[0])

    def ref(self, at: int) -> int:
        """What the reference at `at` names; 0 for nothing."""
        value = self.number("q", at)
        return at + value if value else 0

    def text(self, at: int) -> str:
        return self.bytes[at : self.bytes.index(0, at)].decode() if at else ""

    def table(self, at: int) -> Iterator[int]:
        """Where the records of the table at `at` are."""
        start, (count, stride) = self.ref(at), struct.unpack_from("<II", self.bytes, at + 8)
        return iter(range(start, start + count * stride, stride or 1))


# ---- files


def members(data: bytes) -> Iterator[bytes]:
    """The objects of a static archive."""
    assert data.startswith(b"!<arch>\n")
    at = 8
    while at < len(data):
        name, size = data[at : at + 16].rstrip(), int(data[at + 48 : at + 58])
        if name not in (b"/", b"//", b"/SYM64/"):
            yield data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def sections(elf: bytes) -> list[tuple[int, ...]]:
    """name, type, flags, address, offset, size, link, info, align, entry size of each."""
    (table,), (count,) = struct.unpack_from("<Q", elf, 40), struct.unpack_from("<H", elf, 60)
    return [struct.unpack_from("<IIQQQQIIQQ", elf, table + 64 * number) for number in range(count)]


def symbols(elf: bytes, kinds: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """Name, section and value of each symbol."""
    found = sections(elf)
    for table in (each for each in found if each[1] in kinds):
        names = found[table[6]][4]
        for at in range(table[4], table[4] + table[5], 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", elf, at)
            yield elf[names + name : elf.index(0, names + name)].decode(), section, value


def link(archive: Path) -> Memory:
    memory, pending = Memory(), []
    memory.bytes += bytes(64)  # so that no address is 0
    for elf in members(archive.read_bytes()):
        found, home = sections(elf), {}
        for number, (_, kind, flags, _, offset, size, _, _, align, _) in enumerate(found):
            if flags & 2:  # alloc
                memory.bytes += bytes(-len(memory.bytes) % align)
                home[number] = len(memory.bytes)
                memory.bytes += bytes(size) if kind == NOBITS else elf[offset : offset + size]
        named = list(symbols(elf, (SYMTAB,)))
        memory.symbols |= {name: home[section] + value for name, section, value in named if section in home}
        machine = struct.unpack_from("<H", elf, 18)[0]
        for table in (each for each in found if each[1] == RELA):
            for at in range(table[4], table[4] + table[5], 24):
                offset, info, addend = struct.unpack_from("<QQq", elf, at)
                assert (info & 0xFFFFFFFF, addend) == (RELATIVE[machine], 0)
                pending.append((home[table[7]] + offset, named[info >> 32][0]))
    for at, name in pending:
        struct.pack_into("<q", memory.bytes, at, memory.symbols[name] - at)
    return memory


def loaded(library: Path) -> Memory:
    elf, memory = library.read_bytes(), Memory()
    (table,), (count,) = struct.unpack_from("<Q", elf, 32), struct.unpack_from("<H", elf, 56)
    for number in range(count):
        kind, _, offset, address, _, in_file, size, _ = struct.unpack_from(
            "<IIQQQQQQ", elf, table + 56 * number
        )
        if kind == 1:  # load
            memory.bytes += bytes(max(0, address + size - len(memory.bytes)))
            memory.bytes[address : address + in_file] = elf[offset : offset + in_file]
    memory.symbols = {name: value for name, section, value in symbols(elf, (DYNSYM,)) if section}
    return memory


# ---- packs


def kernels(memory: Memory, pack: str) -> dict[str, int]:
    """Where the kernels of a pack are, by name."""
    record = memory.symbols[f"kpk_entry_{pack}"]
    found = memory.ref(record)
    assert memory.number("I", record + 8) <= 1 and memory.number("I", found + 8) == 0
    return {memory.text(memory.ref(at)): memory.ref(at + 8) for at in memory.table(found + 32)}


def images(memory: Memory, kernel: int) -> Iterator[tuple[str, str, bytes]]:
    """Variant, target and code of each image of a kernel."""
    assert memory.number("H", kernel + 4) <= 1 and memory.number("I", kernel + 8) == 0
    targets = [memory.text(memory.ref(at)) for at in memory.table(kernel + 128)]
    all_images = list(memory.table(kernel + 112))
    for variant in memory.table(kernel + 96):
        first, count = struct.unpack_from("<II", memory.bytes, variant + 20)
        for image in all_images[first : first + count]:
            start, size = memory.ref(image), memory.number("Q", image + 8)
            code = bytes(memory.bytes[start : start + size])
            yield memory.text(memory.ref(variant)), targets[memory.number("I", image + 56)], code


def find(memory: Memory, pack: str, name: str) -> int:
    """The kernel of this name, by the pack's table of names; 0 if there is none."""
    found, value = memory.ref(memory.symbols[f"kpk_entry_{pack}"]), 0xCBF29CE484222325
    entries, slots = list(memory.table(found + 32)), list(memory.table(found + 48))
    data = name.encode()
    for word in (*(int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)), len(data)):
        value = (value ^ word) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 32
    at = value % len(slots)
    while entry := memory.number("I", slots[at] + 4):
        if (
            memory.number("I", slots[at]) == value >> 32
            and memory.text(memory.ref(entries[entry - 1])) == name
        ):
            return memory.ref(entries[entry - 1] + 8)
        at = (at + 1) % len(slots)
    return 0


# ---- expressions

BINARY: Mapping[int, Callable[[int, int], int]] = {
    10: lambda a, b: a + b, 11: lambda a, b: a - b, 12: lambda a, b: a * b, 13: lambda a, b: a // b,
    14: lambda a, b: a % b, 15: lambda a, b: -(-a // b), 16: min, 17: max, 18: lambda a, b: a == b,
    19: lambda a, b: a != b, 20: lambda a, b: a < b, 21: lambda a, b: a <= b, 22: lambda a, b: a > b,
    23: lambda a, b: a >= b, 24: lambda a, b: a & b, 25: lambda a, b: a | b, 26: lambda a, b: a ^ b,
    27: lambda a, b: a << b, 28: lambda a, b: a >> b,
}  # fmt: skip
UNARY: Mapping[int, Callable[[int], int]] = {
    6: lambda a: -a, 7: lambda a: not a, 8: abs, 9: lambda a: 1 << max(a - 1, 0).bit_length(),
}  # fmt: skip
ELEMENT_BYTES = dict(zip(range(1, 19), (1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, 1, 1, 1, 1, 1), strict=True))


def evaluate(memory: Memory, kernel: int, variant: int, at: int, call: Mapping[str, int]) -> int:
    """The expression at this offset of the pool, of a variant, for a call by the names of parameters."""
    params = [memory.text(memory.ref(each)) for each in memory.table(kernel + 64)]
    overload = list(memory.table(kernel + 80))[memory.number("I", variant + 16)]
    pool, stack = memory.ref(kernel + 56), []
    assert memory.bytes[pool] == 1
    at += pool
    while op := memory.bytes[at]:
        at += 1
        if op == 1:
            stack.append(memory.number("b", at))
        elif op == 2:
            stack.append(memory.number("q", at))
        elif op in (3, 4, 5, 29, 30):
            operand = memory.number("H", at)
        at += {1: 1, 2: 8, 3: 2, 4: 2, 5: 2, 29: 2, 30: 2}.get(op, 0)
        if op == 3:
            stack.append(call[params[operand]])
        elif op == 4:
            stack.append(memory.number("q", memory.ref(variant + 88) + 16 * operand + 8))
        elif op == 5:
            stack.append(ELEMENT_BYTES[memory.bytes[memory.ref(overload + 8) + operand] & 31])
        elif op == 29 or (op == 30 and stack.pop() == 0):
            at += operand
        elif op in UNARY:
            stack.append(int(UNARY[op](stack.pop())))
        elif op in BINARY:
            right = stack.pop()
            stack.append(int(BINARY[op](stack.pop(), right)))
    (result,) = stack
    return result


def show(memory: Memory, pack: str) -> list[dict[str, Any]]:
    """A pack in a few facts: what the tests compare."""
    return [
        {
            "kernel": name,
            "images": [(variant, target, len(code)) for variant, target, code in images(memory, at)],
        }
        for name, at in kernels(memory, pack).items()
    ]
