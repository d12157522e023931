"""Several tuning tables, as a build is given them: which of their entries count, and what of each file is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kpack.tuning.table import Entry, TuningTable, read_table

__all__ = ["Key", "Tables", "foreign_entries", "read_tables", "unclaimed_entries", "unused_entries"]

Key = tuple[str, str, str, str]  # of an entry


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables by their paths, in order. Of one key the last entry counts."""

    files: tuple[tuple[str, TuningTable], ...]

    @property
    def by_key(self) -> dict[Key, Entry]:
        """The entries that count."""
        return {entry.key: entry for _, table in self.files for entry in table.entries}

    def of(self, kernels: Iterable[str]) -> Tables:
        """Of these kernels alone, without lines that are no entries."""
        names = frozenset(kernels)
        return Tables(
            tuple(
                (path, TuningTable(tuple(each for each in table.entries if each.kernel in names), ()))
                for path, table in self.files
            )
        )


def read_tables(paths: Iterable[str | os.PathLike[str]]) -> Tables:
    """Raises FormatError for a file that cannot be read."""
    return Tables(tuple((os.fspath(path), read_table(path)) for path in paths))


def foreign_entries(tables: Tables, kernels: Iterable[str]) -> dict[Key, str]:
    """Why entries are of none of these kernels."""
    names = tuple(kernels)
    expected, of_op = f"expected {', '.join(names)}", "an op's choices are read from the file"
    return {
        key: f"{entry.kernel}: {of_op if entry.kernel.startswith('op:') else expected}"
        for key, entry in tables.by_key.items()
        if entry.kernel not in names
    }


def unused_entries(tables: Tables, reasons: Mapping[Key, str]) -> str:
    """What a build leaves out for these reasons, by file, for a warning; "" if each file does something, and nothing
    is left out but for a later entry."""
    lines: list[str] = []
    for path, table, left_out, replaced in _left_out(tables, reasons):
        count = len(table.entries)
        used = count - replaced - left_out.total()
        if left_out or table.rejected or (count and not used):
            if replaced:
                left_out["replaced by a later entry of the same key"] = replaced
            lines += _told(f"{path}: used {used} of {_entries(count)}", path, table, left_out)
    head = "tuned: expected entries of what is built, got others, which are not baked in:"
    return "\n  ".join([head, *lines]) if lines else ""


def unclaimed_entries(tables: Tables, pack: str, kernels: Iterable[str]) -> str:
    """What of the tables is of none of a pack's kernels, by file, for a warning; "" if nothing is."""
    lines: list[str] = []
    for path, table, left_out, _ in _left_out(tables, foreign_entries(tables, kernels)):
        if left_out or table.rejected:
            count = _entries(len(table.entries))
            lines += _told(f"{path}: {left_out.total()} of {count} left out", path, table, left_out)
    head = f"tuned: expected entries of kernels of pack {pack}, got others, which are not baked in:"
    return "\n  ".join([head, *lines]) if lines else ""


def _left_out(
    tables: Tables, reasons: Mapping[Key, str]
) -> Iterator[tuple[str, TuningTable, Counter[str], int]]:
    """Of each file: how many entries that count are left out, by reason, and how many do not count."""
    last = tables.by_key
    for path, table in tables.files:
        counts = [entry for entry in table.entries if last[entry.key] is entry]
        left_out = Counter(reasons[entry.key] for entry in counts if entry.key in reasons)
        yield path, table, left_out, len(table.entries) - len(counts)


def _told(head: str, path: str, table: TuningTable, left_out: Counter[str]) -> list[str]:
    why = [f"  {reason} ({_entries(count)})" for reason, count in left_out.items()]
    return [f"{head}:", *why, *(f"  {path}:{each}" for each in table.rejected)]


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"
