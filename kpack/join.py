"""Several archives of one pack, made one: what was built kernel file by kernel file, is linked as if built at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from kpack.errors import PackError
from kpack.objfile import elf
from kpack.objfile.archive import Member, read_archive, write_archive
from kpack.objfile.encode import encode_index
from kpack.objfile.listing import PackListing
from kpack.objfile.reading import read_pack
from kpack.tuning.tables import read_tables, unclaimed_entries

__all__ = ["join"]


def join(
    archives: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    tuned: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Write the kernels of all archives, with an index of all, to `output`: the bytes that one build of all would
    have written. A kernel that several have is taken once. `tuned`: the tables that are baked into them; of entries
    that are of no kernel of theirs, a warning tells.

    Raises FormatError for a file that is no archive of kpack's and for a table that cannot be read, and PackError
    where packs, hosts or two kernels of one name differ, and for what cannot be written.
    """
    paths = tuple(map(Path, archives))
    packs = tuple(map(read_pack, paths))
    tables = read_tables(tuned)  # what cannot be read replaces no archive
    first = packs[0]
    homes: dict[str, tuple[Path, int]] = {}
    members: dict[str, Member] = {}
    for path, pack in zip(paths, packs, strict=True):
        _expect(f"{path}: expected pack", pack.name, first.name, paths[0])
        _expect(f"{path}: expected host", pack.host, first.host, paths[0])
        for kernel in pack.kernels:
            other, hash_ = homes.setdefault(kernel.name, (path, kernel.hash))
            if hash_ != kernel.hash:
                raise PackError(
                    f"kernel {kernel.name!r}: expected one of this name, got one in {other} and one in {path}; "
                    "give one of them another name="
                )
        for member in _members(path, pack):
            members.setdefault(member.file, member)
    kernels = sorted((each for each in members.values() if each.name in homes), key=lambda each: each.name)
    others = sorted((each for each in members.values() if each.name not in homes), key=lambda each: each.file)
    write_archive(output, [*kernels, *others, encode_index(first.name, kernels, host=first.host)])
    if unclaimed := unclaimed_entries(tables, first.name, sorted(homes)):
        warnings.warn(unclaimed, stacklevel=2)
    return Path(output)


def _expect(what: str, got: str, expected: str, where: Path) -> None:
    if got != expected:
        raise PackError(f"{what} {expected!r}, as {where} has it, got {got!r}")


def _members(path: Path, pack: PackListing) -> list[Member]:
    """All but the index. `name` is that of a kernel, and "" for what belongs to one."""
    hashes = {f"{kernel.name}.o": (kernel.name, kernel.hash) for kernel in pack.kernels}
    found = []
    for file, data in read_archive(path):
        if file == f"{pack.name}.index.o":
            continue
        symbols = tuple(
            symbol.name
            for symbol in elf.read_elf(data).symbols
            if symbol.binding == elf.STB_GLOBAL and symbol.section
        )
        found.append(Member(file, data, symbols, *hashes.get(file, ("", 0))))
    return found
