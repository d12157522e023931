"""One section in the making: the structs of abi.h at fixed places, and behind them what they share, once.

A reference inside the section is a constant, relative to itself, and computed here; one to a symbol outside is
collected, for a relocation.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from kpack.errors import PackError
from kpack.objfile import abi

if TYPE_CHECKING:
    from kpack.spec import Value

__all__ = ["LONGEST_TEXT_BYTES", "Ref", "SectionWriter", "code_value"]

LONGEST_TEXT_BYTES = 1 << 16  # with its NUL: a reader looks no further

Ref = int | str | None  # an offset in the section, a symbol outside it, or nothing


class SectionWriter:
    """One section in the making: records at fixed places, pools of what may be shared behind them."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.references: list[tuple[int, str]] = []
        self._pool: dict[Hashable, int] = {}

    def reserve(self, size: int, align: int = 8) -> int:
        """Room for `size` bytes, zeroed; where it is."""
        self.content += bytes(-len(self.content) % align)
        at = len(self.content)
        self.content += bytes(size)
        return at

    def put(self, at: int, kind: abi.Struct, /, **values: Ref | tuple[Ref, ...]) -> None:
        """Fill a reserved record. Refs and tables are given as what they name, not relative to themselves."""
        cells = {}
        for name, value in values.items():
            field = kind.field(name)
            cells[name] = self._cell(at + field.offset, field.kind, value)
        try:
            self.content[at : at + kind.size] = kind.pack(**cells)
        except struct.error as error:
            raise PackError(f"{kind.name}: expected values that fit, got {values}: {error}") from error

    def _cell(self, here: int, kind: str, value: Ref | tuple[Ref, ...]) -> abi.Cell:
        if kind == "table":
            assert isinstance(value, tuple)
            target, count, stride = value
            assert isinstance(count, int) and isinstance(stride, int)
            return (self._relative(here, target if count else None), count, stride)
        if kind == "ref":
            assert not isinstance(value, tuple)
            return self._relative(here, value)
        return value  # type: ignore[return-value]  # only refs are None or text

    def _relative(self, here: int, target: Ref) -> int:
        if target is None:
            return 0
        if isinstance(target, str):
            self.references.append((here, target))
            return 0
        return target - here

    def shared(self, content: bytes, align: int = 1) -> int | None:
        """Where `content` is, stored once however often it is asked for; None when it is empty."""
        key = (content, align)
        if content and key not in self._pool:
            self._pool[key] = at = self.reserve(len(content), align)
            self.content[at : at + len(content)] = content
        return self._pool.get(key)

    def text(self, text: str) -> int:
        encoded = text.encode()
        if b"\0" in encoded:
            raise PackError(f"text: expected no NUL inside, got {text!r}")
        if len(encoded) >= LONGEST_TEXT_BYTES:
            raise PackError(
                f"text: expected fewer than {LONGEST_TEXT_BYTES} bytes, got {len(encoded)}: {text[:40]!r}..."
            )
        at = self.shared(encoded + b"\0")
        assert at is not None
        return at

    def optional_text(self, text: str) -> int | None:
        return self.text(text) if text else None

    def table(self, layout: abi.Struct, records: Sequence[bytes]) -> tuple[Ref, ...]:
        """A shared table of records that hold no refs."""
        return (self.shared(b"".join(records), layout.align), len(records), layout.size)

    def values(self, values: Sequence[Value]) -> int | None:
        """A shared array of kpk_value."""
        coded = tuple(code_value(value) for value in values)
        if coded and coded not in self._pool:
            texts = [self.text(bits) if isinstance(bits, str) else None for _, bits in coded]
            self._pool[coded] = start = self.reserve(abi.VALUE.size * len(coded))
            for number, ((kind, bits), text) in enumerate(zip(coded, texts, strict=True)):
                at = start + number * abi.VALUE.size
                if text is not None:
                    bits = text - (at + abi.VALUE.offset("bits"))
                self.put(at, abi.VALUE, type=kind, bits=bits)
        return self._pool.get(coded)


def code_value(value: Value) -> tuple[int, int | str]:
    """The type and bits of a kpk_value; text stays text until its place is known."""
    if value is None:
        return abi.NONE, 0
    if isinstance(value, bool):
        return abi.I1, int(value)
    if isinstance(value, int):
        return abi.I64, value
    if isinstance(value, float):
        return abi.FP64, int.from_bytes(struct.pack("<d", value), "little", signed=True)
    if isinstance(value, str):
        return abi.STRING, value
    return abi.DTYPE, _type_code(value.name)


def _type_code(name: str) -> int:
    element = name.removeprefix("*")
    if element not in abi.DTYPES:
        raise PackError(f"type: expected one of {' '.join(abi.DTYPES)}, got {name!r}")
    return abi.DTYPES[element] | (abi.POINTER if name.startswith("*") else 0)
