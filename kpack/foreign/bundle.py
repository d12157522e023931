"""clang offload bundles: several images in one file, an entry a target, plain or compressed ("CCOB").

What hipcc --genco writes, and what .hip_fatbin holds: there, several bundles may follow each other, padded to pages.
"""

from __future__ import annotations

import importlib
import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from typing import Any

from kpack.errors import FormatError

__all__ = ["Entry", "is_bundle", "read_bundles"]

_PLAIN = b"__CLANG_OFFLOAD_BUNDLE__"
_COMPRESSED = b"CCOB"
_PADDING = re.compile(rb"\0*")
_MOST_ENTRIES = 4096
_LONGEST_ID = 4096
_MOST_BYTES = 1 << 33  # of one bundle, unpacked: what a header says is no reason to allocate more

# By version, what follows magic, version and method. Version 1 ends with its file.
_HEADERS = {1: struct.Struct("<IQ"), 2: struct.Struct("<IIQ"), 3: struct.Struct("<QQQ")}
_COMMON = struct.Struct("<4sHH")
_ZLIB, _ZSTD = 0, 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a bundle. `id`: "hipv4-amdgcn-amd-amdhsa--gfx90a:xnack-"."""

    id: str
    code: bytes

    @property
    def is_host(self) -> bool:
        return self.id.startswith("host-")


def is_bundle(data: bytes) -> bool:
    return data.startswith((_PLAIN, _COMPRESSED))


def read_bundles(data: bytes) -> tuple[Entry, ...]:
    """All entries of the bundles in `data`, in order. Raises FormatError where one is damaged."""
    entries: list[Entry] = []
    at = 0
    while at < len(data):
        if data.startswith(_PLAIN, at):
            found, end = _read_plain(data, at)
        elif data.startswith(_COMPRESSED, at):
            unpacked, end = _unpack(data, at)
            found, _ = _read_plain(unpacked, 0)
        else:
            raise FormatError(
                f"bundle: expected {_PLAIN.decode()} or CCOB at {at}, got {data[at : at + 8]!r}"
            )
        entries += found
        at = _skip_padding(data, end)
    if not entries:
        raise FormatError("bundle: expected one entry or more, got none")
    return tuple(entries)


def _skip_padding(data: bytes, at: int) -> int:
    """Where the next bundle begins: zeros pad to the page of one."""
    match = _PADDING.match(data, at)
    return match.end() if match else at


def _read_plain(data: bytes, start: int) -> tuple[list[Entry], int]:
    """The entries of the bundle at `start`, and where the last of them ends."""
    at = start + len(_PLAIN)
    count = _number(data, at, "number of entries")
    if count > _MOST_ENTRIES:
        raise FormatError(f"bundle: expected at most {_MOST_ENTRIES} entries, got {count}")
    at += 8
    places = []
    for number in range(count):
        offset, size, length = (_number(data, at + 8 * field, f"entry {number}") for field in range(3))
        at += 24
        if length > _LONGEST_ID or at + length > len(data):
            raise FormatError(
                f"bundle: entry {number}: expected {length} bytes of its id, got {len(data) - at}"
            )
        try:
            id_ = data[at : at + length].decode("ascii")
        except UnicodeDecodeError:
            raise FormatError(
                f"bundle: entry {number}: expected an id in ASCII, got {data[at : at + length]!r}"
            ) from None
        places.append((id_, start + offset, size))
        at += length
    total = sum(size for _, _, size in places)
    if total > len(data):  # entries that overlap would eat the memory
        raise FormatError(f"bundle: expected entries of {len(data) - at} bytes or less, got {total}")
    entries, end = [], at
    for id_, offset, size in places:
        if offset < start or offset + size > len(data):
            raise FormatError(
                f"bundle: entry {id_!r}: expected {size} bytes at {offset}, got a file of {len(data)}"
            )
        entries.append(Entry(id_, data[offset : offset + size]))
        end = max(end, offset + size)
    return entries, end


def _number(data: bytes, at: int, what: str) -> int:
    if at + 8 > len(data):
        raise FormatError(f"bundle: {what}: expected 8 bytes at {at}, got {max(0, len(data) - at)}")
    return int.from_bytes(data[at : at + 8], "little")


# ---- compressed


def _unpack(data: bytes, start: int) -> tuple[bytes, int]:
    """A compressed bundle, unpacked, and where it ends."""
    if start + _COMMON.size > len(data):
        raise FormatError(
            f"compressed bundle: expected {_COMMON.size} bytes of header, got {len(data) - start}"
        )
    _, version, method = _COMMON.unpack_from(data, start)
    header = _HEADERS.get(version)
    if header is None:
        raise FormatError(f"compressed bundle: expected version 1, 2 or 3, got {version}")
    at = start + _COMMON.size
    if at + header.size > len(data):
        raise FormatError(
            f"compressed bundle: expected {header.size} more bytes of header, got {len(data) - at}"
        )
    *sizes, stored_hash = header.unpack_from(data, at)
    at += header.size
    end = start + sizes[0] if len(sizes) > 1 else len(data)
    size = sizes[-1]
    if not at <= end <= len(data):
        raise FormatError(f"compressed bundle: expected {end - start} bytes, got {len(data) - start}")
    if size > _MOST_BYTES:
        raise FormatError(f"compressed bundle: expected at most {_MOST_BYTES} bytes unpacked, got {size}")
    if method not in (_ZLIB, _ZSTD):
        raise FormatError(f"compressed bundle: expected method 0 (zlib) or 1 (zstd), got {method}")
    unpack = _unzlib if method == _ZLIB else _unzstd
    unpacked = unpack(data[at:end], size)
    if len(unpacked) != size:
        raise FormatError(f"compressed bundle: expected {size} bytes unpacked, got {len(unpacked)}")
    # clang keeps the first half of an MD5: a check sum, no secret.
    if int.from_bytes(md5(unpacked, usedforsecurity=False).digest()[:8], "little") != stored_hash:
        raise FormatError(
            "compressed bundle: expected content with the hash of its header, got other content"
        )
    if not unpacked.startswith(_PLAIN):
        raise FormatError(f"compressed bundle: expected {_PLAIN.decode()} in it, got {unpacked[:16]!r}")
    return unpacked, end


def _unzlib(packed: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise FormatError(f"compressed bundle: expected zlib data ({error})") from error


def _unzstd(packed: bytes, size: int) -> bytes:
    open_stream, error_type = _zstd()
    try:
        with open_stream(io.BytesIO(packed)) as stream:
            return bytes(stream.read(size + 1))
    except (error_type, EOFError) as error:
        raise FormatError(f"compressed bundle: expected zstd data ({error})") from error


def _zstd() -> tuple[Callable[[io.BytesIO], Any], type[Exception]]:
    """What opens a stream, and its error. Python has zstd from 3.14 on; before, the package zstandard does."""
    try:
        module: Any = importlib.import_module("compression.zstd")
        return module.ZstdFile, module.ZstdError
    except ModuleNotFoundError:
        pass
    try:
        module = importlib.import_module("zstandard")
    except ModuleNotFoundError:
        raise FormatError(
            "compressed bundle: expected a zstd to unpack it with, got none; pip install zstandard, "
            "use Python 3.14, or unpack it with clang-offload-bundler"
        ) from None
    return module.ZstdDecompressor().stream_reader, module.ZstdError
