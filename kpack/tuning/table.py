"""Tuning tables as files: what csrc/src/tune/table.cc reads and merges, byte for byte. docs/tuning.md has the format.

An entry is one line and never has a line break inside, so what garbles one line garbles no other. What cannot be read
is kept aside by the next merge, never destroyed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kpack.errors import FormatError, PackError

__all__ = ["Entry", "Rejected", "TuningTable", "merge_entries", "read_table"]

_TITLE = "# kpack tuning table "
_VERSION = "1"
_COLUMNS = "kernel,hash,device,overload,call,choice,median_us,fixed_us,left_out"
_COUNT = _COLUMNS.count(",") + 1
_HASH = re.compile(r"[0-9a-f]{16}")
_DECIMAL = re.compile(r"(?=[0-9.]{1,16}$)(?=(?:\.?[0-9]){1,15}$)[0-9]+(?:\.[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_QUOTED = re.compile(r'"(?:[^"]|"")*"|[^",]*')


@dataclass(frozen=True, slots=True)
class Entry:
    """What was found to be fastest for one key: kernel (an op: "op:<name>"), tuning hash, device ("sm_90/132"),
    overload and call. `choice` is the name of a variant, in an op "<kernel>/<variant>" or "function:<name>";
    `left_out` says of contenders why they were: "name: wrong; name: failed (reason)"."""

    kernel: str
    hash: int
    device: str
    overload: str
    call: str
    choice: str
    median_us: float
    """of the choice; 0: nothing was timed"""
    fixed_us: float
    """of what runs without tuning; 0: not timed"""
    left_out: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """A later entry of the same key replaces an earlier one, also one of another hash."""
        return self.kernel, self.device, self.overload, self.call


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is no entry, by its number from 1, and why."""

    line: int
    text: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.line}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class TuningTable:
    """A table as it was read: entries in the order of their lines, and what is none."""

    entries: tuple[Entry, ...]
    rejected: tuple[Rejected, ...]


def read_table(path: str | os.PathLike[str]) -> TuningTable:
    """Read a table. A line that is no entry is among `rejected`. Raises FormatError for what is no readable file."""
    read = list(_read(_content(Path(path))))
    return TuningTable(
        tuple(each for _, each in read if isinstance(each, Entry)),
        tuple(each for _, each in read if isinstance(each, Rejected)),
    )


def merge_entries(path: str | os.PathLike[str], entries: Iterable[Entry]) -> None:
    """Add entries to the table at `path`, or replace those of the same keys, whatever other processes do meanwhile; a
    kill at any moment leaves the old table or the new one. Lines that are no entries go to `<path>.rejected`.

    Raises FormatError for a file that cannot be read, PackError for one that cannot be written.
    """
    file = Path(os.path.realpath(path))
    newer: dict[tuple[str, str, str, str], Entry] = {}
    for entry in entries:
        newer.pop(entry.key, None)  # the last one counts, where it is
        newer[entry.key] = entry
    try:
        with _locked(file):
            _merge(file, newer)
    except OSError as error:
        raise PackError(f"{file}: expected a table that can be written, got {error.strerror}") from error


# ---- reading


def _content(path: Path) -> str:
    try:
        # As it is: what is no UTF-8 comes out of surrogates as it went in.
        return path.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise FormatError(f"{path}: expected a tuning table, got {error.strerror}") from error


def _read(text: str) -> Iterator[tuple[str, Entry | Rejected | None]]:
    """Each line that a table keeps, and what it is; None: a person's note."""
    lines = text.removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()
    foreign = False
    for number, full in enumerate(lines, 1):
        line = full.removesuffix("\r")
        reason: tuple[str, str] | None = None
        if line.startswith(_TITLE):
            foreign = line != _TITLE + _VERSION
            if not foreign:
                continue
            reason = ("version 1", line.removeprefix("# "))
        elif not line or (line == _COLUMNS and not foreign):
            continue
        elif foreign:
            reason = ("an entry of version 1", "one of another version")
        elif line.startswith("#"):
            yield line, None
            continue
        if reason is None:
            entry = _entry(line)
            if isinstance(entry, Entry):
                yield line, entry
                continue
            reason = entry
        yield line, Rejected(number, line, *reason)


def _entry(line: str) -> Entry | tuple[str, str]:
    """The entry, or what was expected and what there is."""
    if _CONTROL.search(line):
        return "text", "a control character"
    values = _split(line)
    if not values:
        return "quotes in pairs around whole values", "others"
    if len(values) != _COUNT:
        return f"{_COUNT} values", "more" if len(values) > _COUNT else "fewer"
    kernel, hash_, device, overload, call, choice, median, fixed, left_out = values
    if not _HASH.fullmatch(hash_):
        return "a hash of 16 hexadecimal digits", hash_
    for name, value in (("median_us", median), ("fixed_us", fixed)):
        if not _DECIMAL.fullmatch(value):
            return f"{name}: microseconds as 12.345", value
    if not (kernel and device and overload and choice):
        return "a kernel, device, overload and choice", "an empty one"
    return Entry(
        kernel, int(hash_, 16), device, overload, call, choice, float(median), float(fixed), left_out
    )


def _split(line: str) -> list[str]:
    """The values of a line; none where quotes are not in pairs around whole values."""
    values: list[str] = []
    at = 0
    while len(values) <= _COUNT:  # one too many is enough to know
        found = _QUOTED.match(line, at)
        assert found
        value = found[0]
        values.append(value[1:-1].replace('""', '"') if value.startswith('"') else value)
        at = found.end()
        if at == len(line):
            return values
        if line[at] != ",":
            return []
        at += 1
    return values


# ---- writing


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The file stays: who removes it removes it under another.
    lock = os.open(f"{path}.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _merge(path: Path, newer: dict[tuple[str, str, str, str], Entry]) -> None:
    kept, rejected = [_TITLE + _VERSION, _COLUMNS], []
    for line, each in _read(_content(path) if path.exists() else ""):
        if isinstance(each, Rejected):
            rejected += [f"# expected {each.expected}, got {_CONTROL.sub(' ', each.got)}", line]
        elif each is None or each.key not in newer:
            kept.append(line)
    if rejected:
        # First aside, then out of the table: a kill in between leaves the lines in both.
        with open(f"{path}.rejected", "ab") as aside:
            _write(aside.fileno(), rejected)
    partial = f"{path}.partial"  # the lock is held: its name is free
    with open(partial, "wb") as file:
        if path.exists():
            os.chmod(partial, path.stat().st_mode & 0o7777)
        _write(file.fileno(), [*kept, *map(_line, newer.values())])
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system that cannot
            os.fsync(folder)
    finally:
        os.close(folder)


def _write(file: int, lines: Iterable[str]) -> None:
    left = memoryview("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def _line(entry: Entry) -> str:
    texts = [
        entry.kernel, f"{entry.hash:016x}", entry.device, entry.overload, entry.call, entry.choice,
        _decimal(entry.median_us), _decimal(entry.fixed_us), entry.left_out,
    ]  # fmt: skip
    return ",".join(map(_quoted, texts))


def _quoted(text: str) -> str:
    clean = _CONTROL.sub(" ", text)
    return '"' + clean.replace('"', '""') + '"' if "," in clean or '"' in clean else clean


def _decimal(value: float) -> str:
    thousandths = int(value * 1000 + 0.5) if 0 <= value < 1e11 else 0
    return f"{thousandths // 1000}.{thousandths % 1000:03}"
