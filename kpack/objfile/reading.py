"""An archive, or what it was linked into, read back: for tools that show it, and as the check that it says what was
packed.

The file is never trusted: every reference is followed inside bounds, every count is measured against the bytes
that are there, and content hashes are computed again. What is wrong is a FormatError that says where.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from kpack.errors import FormatError
from kpack.objfile import abi, archive, elf
from kpack.objfile.consistency import check_group, expect_hash, expected_symbol, tuning_symbol
from kpack.objfile.decode import read_kernel, read_linked_kernel, read_tuning
from kpack.objfile.host import HOSTS
from kpack.objfile.linked import Linked
from kpack.objfile.listing import KernelListing, PackListing, TuningListing
from kpack.objfile.record import Object, Place, Record
from kpack.tuning.key import tuning_hash

__all__ = ["read_pack", "read_packs"]

_BYTES_1_0 = 48  # of a kpk_abi_pack of ABI 1.0


def read_pack(path: str | os.PathLike[str]) -> PackListing:
    """Read an archive, or one kernel's object. Raises FormatError on anything that is not whole and ours."""
    name = os.fspath(path)
    objects = []
    for member, data in _read_members(path):
        where = f"{name}({member})" if member else name
        objects.append(_located(where, Object, member or os.path.basename(name), data))
    packs = [_located(name, _read_index, each) for each in objects if each.find("kpack_packs")]
    kernels = [
        _located(f"{name}({each.member})", read_kernel, each) for each in objects if each.kernel_symbols()
    ]
    tables = {
        symbol.name: _located(f"{name}({each.member})", read_tuning, each, symbol)
        for each in objects
        for symbol in each.tuning_symbols()
    }
    tuned = [_located(name, _with_tuning, kernel, tables) for kernel in kernels]
    return _located(name, _assemble, objects, packs, tuned)


def read_packs(path: str | os.PathLike[str]) -> tuple[PackListing, ...]:
    """The packs of an archive, an object, a linked program or a shared object, each with the kernels that are in it.
    Raises FormatError as `read_pack`, and for a program in which no pack is to be found.

    What was linked by name has no index: its kernels are found by their symbols, if it was not stripped. Hashes of
    images are computed again there, too; that of a kernel is of what linking changes, and is taken as it is.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            head = file.read(18)
            data = head + file.read() if _is_linked(head) else b""
    except OSError as error:
        raise FormatError(f"{name}: expected a readable file, got {error.strerror}") from error
    return _located(name, _read_linked, os.path.basename(name), data) if data else (read_pack(path),)


def _is_linked(head: bytes) -> bool:
    return head[:4] == b"\x7fELF" and int.from_bytes(head[16:18], "little") in (elf.ET_EXEC, elf.ET_DYN)


def _with_tuning(kernel: KernelListing, tables: Mapping[str, TuningListing]) -> KernelListing:
    return _tuned(kernel, tables.get(tuning_symbol(kernel.pack, kernel.name)))


def _tuned(kernel: KernelListing, table: TuningListing | None) -> KernelListing:
    if table is None:
        return kernel
    hash_ = tuning_hash(variant.hash for variant in kernel.variants)
    unknown = {entry.variant for entry in table.entries} - {variant.hash for variant in kernel.variants}
    if table.hash != hash_ or unknown:
        raise FormatError(
            f"tuning of {kernel.name}: expected a table for variants of hash {hash_:016x}, got one for "
            f"{table.hash:016x} with {len(unknown)} unknown variants"
        )
    return replace(kernel, tuning=table)


def _read_members(path: str | os.PathLike[str]) -> list[tuple[str, bytes]]:
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if head == b"\x7fELF":
            return [("", Path(path).read_bytes())]
    except OSError as error:
        raise FormatError(f"{os.fspath(path)}: expected a readable file, got {error.strerror}") from error
    return archive.read_archive(path)


T = TypeVar("T")


def _located(where: str, read: Callable[..., T], *arguments: object) -> T:
    """Call `read`, with `where` put before whatever it finds wrong."""
    try:
        return read(*arguments)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None


# ---- the index


@dataclass(frozen=True, slots=True)
class _Index:
    """What an index member says: the pack, and name and symbol of each kernel."""

    name: str
    hash: int
    entries: tuple[tuple[str, str], ...]
    object: Object


def _read_index(found: Object) -> _Index:
    home = found.find("kpack_packs")
    size = found.elf.sections[home].size
    if size != abi.RECORD.size:
        raise FormatError(f"kpack_packs: expected one record of {abi.RECORD.size} bytes, got {size} bytes")
    pack, entries = _read_record(found, Place(home, 0))
    named = tuple(_read_entry(entry) for entry in entries)
    return _Index(pack.text("name"), pack.number("hash"), named, found)


def _read_record(found: Object, place: Place) -> tuple[Record, tuple[Record, ...]]:
    """A pack, and its entries."""
    record = found.record(abi.RECORD, place, "record")
    if record.number("major") > abi.ABI_MAJOR:
        raise FormatError(f"record: expected ABI {abi.ABI_MAJOR} or older, got {record.number('major')}")
    pack = found.versioned(abi.PACK, record.target("pack"), "pack", _BYTES_1_0)
    entries = pack.table("kernels", abi.ENTRY)
    names = [entry.text("name") for entry in entries]
    if names != sorted(set(names), key=str.encode):
        raise FormatError(f"pack.kernels: expected them sorted, each once, got {', '.join(names)}")
    _check_names(pack.table("names", abi.NAME), names)
    return pack, entries


def _check_names(slots: Sequence[Record], names: Sequence[str]) -> None:
    """Every name is found where a program looks for it, and every look-up ends."""
    if not slots:
        return  # ABI 1.0
    table = [(slot.number("hash"), slot.number("entry")) for slot in slots]
    used = sum(entry != 0 for _, entry in table)
    if len(table) & (len(table) - 1) or used != len(names) or used == len(table):
        raise FormatError(
            f"pack.names: expected a power of two of slots for {len(names)} names and one empty at least, "
            f"got {used} used of {len(table)}"
        )
    for number, name in enumerate(names):
        value = abi.name_hash(name)
        at = value % len(table)
        while table[at][1] and table[at] != (value >> 32, number + 1):
            at = (at + 1) % len(table)
        if not table[at][1]:
            raise FormatError(f"pack.names: expected a slot with {name}, got none")


def _read_entry(entry: Record) -> tuple[str, str]:
    symbol = entry.symbol("kernel")
    if symbol is None:
        raise FormatError(f"{entry.what}.kernel: expected a relocation against a kernel, got none")
    return entry.text("name"), symbol.name


def _assemble(
    objects: Sequence[Object], packs: Sequence[_Index], kernels: Sequence[KernelListing]
) -> PackListing:
    """Check the index against the kernels that are there."""
    if not packs and not kernels:
        raise FormatError(f"expected an archive that kpack wrote, got none of its {len(objects)} members")
    machines = {each.elf.machine for each in objects}
    hosts = [host.name for host in HOSTS.values() if {host.machine} == machines]
    if not hosts:
        raise FormatError(f"expected objects of one of {', '.join(HOSTS)}, got e_machine {machines}")
    if not packs and len(kernels) == len(objects) == 1:
        return PackListing(kernels[0].pack, 0, hosts[0], tuple(kernels))
    if len(packs) != 1:
        raise FormatError(f"expected one index member, got {len(packs)}")
    index, by_name = packs[0], {kernel.name: kernel for kernel in kernels}
    listed = [name for name, _ in index.entries]
    if sorted(by_name) != listed or len(by_name) != len(kernels):
        raise FormatError(
            f"pack {index.name}: expected the kernels {', '.join(listed)}, "
            f"got {', '.join(kernel.name for kernel in kernels)}"
        )
    for name, symbol in index.entries:
        kernel = by_name[name]
        if kernel.pack != index.name or symbol != expected_symbol(kernel.pack, name):
            raise FormatError(
                f"pack {index.name}: expected kernel {name} of this pack, got {symbol} of {kernel.pack}"
            )
    machine = index.object.elf.machine
    digest = abi.pack_digest(machine, index.name, [(name, by_name[name].hash) for name in listed])
    expect_hash(f"pack {index.name}", index.hash, digest)
    check_group(index.object, f"pack {index.name}", digest)
    return PackListing(index.name, index.hash, hosts[0], tuple(by_name[name] for name in listed))


# ---- linked


def _read_linked(name: str, data: bytes) -> tuple[PackListing, ...]:
    found = Linked(name, data)
    hosts = [host.name for host in HOSTS.values() if host.machine == found.elf.machine]
    if not hosts:
        raise FormatError(f"expected a program for {' or '.join(HOSTS)}, got e_machine {found.elf.machine}")
    home = found.find("kpack_packs")
    size = found.elf.sections[home].size if home else 0
    if size % abi.RECORD.size:
        raise FormatError(f"kpack_packs: expected records of {abi.RECORD.size} bytes, got {size} bytes")
    packs = [_read_linked_pack(found, hosts[0], Place(home, at)) for at in range(0, size, abi.RECORD.size)]
    listed = {expected_symbol(pack.name, kernel.name) for pack in packs for kernel in pack.kernels}
    loose: dict[str, list[KernelListing]] = {}
    for symbol in sorted(found.kernel_symbols(), key=lambda symbol: symbol.name):
        if symbol.name not in listed:
            kernel = _linked_kernel(found, found.place_of(symbol))
            loose.setdefault(kernel.pack, []).append(kernel)
    if not packs and not loose:
        raise FormatError(
            "expected a program with a pack or kernels in it, got neither; of a stripped one, kernels that were "
            "linked by name cannot be found"
        )
    return (*packs, *(PackListing(pack, 0, hosts[0], tuple(each)) for pack, each in loose.items()))


def _read_linked_pack(found: Linked, host: str, place: Place) -> PackListing:
    pack, entries = _read_record(found, place)
    name = pack.text("name")
    kernels = tuple(_linked_kernel(found, entry.target("kernel")) for entry in entries)
    for entry, kernel in zip(entries, kernels, strict=True):
        if (kernel.pack, kernel.name) != (name, entry.text("name")):
            raise FormatError(
                f"pack {name}: expected kernel {entry.text('name')} of this pack, got {kernel.name} of {kernel.pack}"
            )
    hashes = [(kernel.name, kernel.hash) for kernel in kernels]
    expect_hash(f"pack {name}", pack.number("hash"), abi.pack_digest(found.elf.machine, name, hashes))
    return PackListing(name, pack.number("hash"), host, kernels)


def _linked_kernel(found: Linked, place: Place) -> KernelListing:
    kernel = read_linked_kernel(found, place)
    return _tuned(kernel, kernel.tuning)
