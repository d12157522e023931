"""Static archives in the GNU format: what `ar rcsD` writes, and read without trust.

    !<arch>\\n
    /          symbol index: count, offset of the member that defines each symbol (big-endian), names
    //         names longer than 15 bytes, each ending "/\\n"
    softmax.o/ ...

Beyond 4 GiB the index is called /SYM64/ and its numbers take 8 bytes. Times, owners and modes are constant.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kpack.errors import FormatError, PackError

__all__ = ["MAGIC", "Member", "member_names", "read_archive", "read_symbols", "write_archive"]

MAGIC = b"!<arch>\n"
_THIN_MAGIC = b"!<thin>\n"
_HEADER_BYTES = 60
_HEADER_END = b"`\n"
_INDEX, _INDEX64, _LONG_NAMES = "/", "/SYM64/", "//"
_SHORT_NAME = 15
_LIMIT32 = 1 << 32  # offsets from here on need 8 bytes


@dataclass(frozen=True, slots=True)
class Member:
    """One object of an archive: its file name, the global symbols it defines, and whose it is."""

    file: str  # "softmax.o"
    data: bytes = field(repr=False)
    symbols: tuple[str, ...]
    name: str  # of the kernel, or of the pack
    hash: int  # of the content


def write_archive(path: str | os.PathLike[str], members: Sequence[Member]) -> None:
    """Write an archive with a symbol index, whole or not at all. Same members, same bytes."""
    _refuse_duplicates(path, members)
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            with open(partial, "xb") as file:
                for part in _parts(members):
                    file.write(part)
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        raise PackError(f"{target}: expected a place to write the archive, got {error.strerror}") from error


def _refuse_duplicates(path: str | os.PathLike[str], members: Sequence[Member]) -> None:
    for what, names in (
        ("member", [m.file for m in members]),
        ("symbol", [s for m in members for s in m.symbols]),
    ):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise PackError(f"{os.fspath(path)}: expected each {what} once, got {', '.join(twice)} twice")


def _parts(members: Sequence[Member]) -> Iterator[bytes]:
    long_names, names = _name_members(members)
    head = _header(_LONG_NAMES, len(long_names)) + long_names if long_names else b""
    name, index = _INDEX, _index(members, len(head), 4)
    if len(index + head) + sum(_HEADER_BYTES + len(m.data) + 1 for m in members) + 128 > _LIMIT32:
        name, index = _INDEX64, _index(members, len(head), 8)
    yield MAGIC + _header(name, len(index)) + index
    yield head
    for entry, member in zip(names, members, strict=True):
        yield _header(entry, len(member.data))
        yield member.data
        yield b"\n" * (len(member.data) % 2)


def _name_members(members: Sequence[Member]) -> tuple[bytes, list[str]]:
    """The table of long names, and what each member's header says."""
    table, names = b"", []
    for member in members:
        encoded = member.file.encode()
        if len(encoded) <= _SHORT_NAME:
            names.append(member.file + "/")
        else:
            names.append(f"/{len(table)}")
            table += encoded + b"/\n"
    return table + b"\n" * (len(table) % 2), names


def _starts(at: int, members: Sequence[Member]) -> list[int]:
    starts = []
    for member in members:
        starts.append(at)
        at += _HEADER_BYTES + len(member.data) + len(member.data) % 2
    return starts


def _index(members: Sequence[Member], between_bytes: int, width: int) -> bytes:
    """The symbol index in numbers of `width` bytes, with `between_bytes` between it and the members."""
    names = b"".join(symbol.encode() + b"\0" for m in members for symbol in m.symbols)
    names += bytes(len(names) % 2)
    size = width * (1 + sum(len(m.symbols) for m in members)) + len(names)
    starts = _starts(len(MAGIC) + _HEADER_BYTES + size + between_bytes, members)
    offsets = [start for m, start in zip(members, starts, strict=True) for _ in m.symbols]
    # Too narrow a number is cut: whether it is, is decided by the size of the result.
    mask = (1 << 8 * width) - 1
    return b"".join((n & mask).to_bytes(width, "big") for n in (len(offsets), *offsets)) + names


def _header(name: str, size: int) -> bytes:
    # As GNU ar has them: the index has no mode, the table of names nothing but a size.
    facts = "" if name == _LONG_NAMES else f"{0:<12}{0:<6}{0:<6}{0 if name in (_INDEX, _INDEX64) else 644:<8}"
    header = f"{name:<16}{facts:<32}{size:<10}".encode() + _HEADER_END
    if len(header) != _HEADER_BYTES:
        raise PackError(f"archive member {name}: expected less than 10 GB, got {size} bytes")
    return header


def read_archive(path: str | os.PathLike[str]) -> list[tuple[str, bytes]]:
    """The members of a GNU archive, without its indexes. Raises FormatError on anything that is not one."""
    data = _read(path)
    return _located(path, lambda: [(name, content) for name, _, content in _members(data)])


def read_symbols(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """What a linker finds in the archive's symbol index: symbols, and the members that it takes for them. Raises
    FormatError where there is no index, or it names a place where no member is."""
    data = _read(path)
    return _located(path, lambda: list(_symbols(data)))


def member_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of an archive's members, whose contents are not read. Raises FormatError, as `read_archive`."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _located(path, lambda: [name for name, _, _ in _walk(data)])
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise FormatError(f"{os.fspath(path)}: expected a readable archive, got {error}") from error


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FormatError(f"{os.fspath(path)}: expected a readable file, got {error.strerror}") from error


T = TypeVar("T")


def _located(path: str | os.PathLike[str], read: Callable[[], T]) -> T:
    try:
        return read()
    except FormatError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from None


def _members(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, place of the header, and content."""
    for name, at, size in _walk(data):
        yield name, at, data[at + _HEADER_BYTES : at + _HEADER_BYTES + size]


def _walk(data: bytes | mmap.mmap, indexes: bool = False) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each member; with `indexes`, also of what is none."""
    magic = data[: len(MAGIC)]
    if magic == _THIN_MAGIC:
        raise FormatError("expected an archive with its members inside, got a thin one")
    if magic != MAGIC:
        raise FormatError(f"expected an archive ({MAGIC.decode().strip()!r}), got {_shown(magic)}")
    at, long_names = len(MAGIC), b""
    while at < len(data):
        name, size = _read_header(data, at)
        start, here, at = at + _HEADER_BYTES, at, at + _HEADER_BYTES + size + size % 2
        if start + size > len(data):
            raise FormatError(f"archive member {name}: expected {size} bytes, got {len(data) - start}")
        if name == _LONG_NAMES:
            long_names = data[start : start + size]
        elif name not in (_INDEX, _INDEX64):
            yield _full_name(name, long_names), here, size
        elif indexes:
            yield name, here, size


def _symbols(data: bytes) -> Iterator[tuple[str, str]]:
    found = [(name, at, size) for name, at, size in _walk(data, indexes=True)]
    if not found or found[0][0] not in (_INDEX, _INDEX64):
        raise FormatError("symbol index: expected it first, got none; make it with ranlib")
    width = 8 if found[0][0] == _INDEX64 else 4
    start = found[0][1] + _HEADER_BYTES
    content = data[start : start + found[0][2]]
    count = int.from_bytes(content[:width], "big")
    names = content[width * (1 + count) :].split(b"\0")
    if len(content) < width * (1 + count) or len(names) <= count:
        raise FormatError(f"symbol index: expected {count} places and names, got {len(content)} bytes")
    members = {at: name for name, at, _ in found[1:]}
    for number in range(count):
        place = int.from_bytes(content[width * (1 + number) : width * (2 + number)], "big")
        symbol = names[number].decode("utf-8", "backslashreplace")
        if place not in members:
            raise FormatError(f"symbol index: {symbol}: expected the place of a member, got {place}")
        yield symbol, members[place]


def _shown(magic: bytes) -> str:
    return (
        repr(magic.decode().strip())
        if magic.isascii() and magic
        else str(magic)[1:]
        if magic
        else "an empty file"
    )


def _read_header(data: bytes | mmap.mmap, at: int) -> tuple[str, int]:
    header = data[at : at + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES or header[58:] != _HEADER_END:
        raise FormatError(f"archive member at {at}: expected {_HEADER_BYTES} bytes of header, got {header!r}")
    name, size = header[:16].rstrip(b" "), header[48:58].rstrip(b" ")
    if not name.isascii() or not size.isdigit():
        raise FormatError(f"archive member at {at}: expected a name and a size, got {name!r} and {size!r}")
    return name.decode(), int(size)


def _full_name(name: str, long_names: bytes) -> str:
    if not name.startswith("/"):
        return name.removesuffix("/")
    start = int(name[1:]) if name[1:].isdigit() else len(long_names)
    text, end, _ = long_names[start:].partition(b"/\n")
    if not end:
        raise FormatError(f"archive member {name}: expected a name in the table of {len(long_names)} bytes")
    return text.decode("utf-8", "backslashreplace")
