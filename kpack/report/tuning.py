"""What tuning found, as heat maps: contenders down, calls across. From tables, which say what was chosen, and from
`kpack tune --json`, which says what everything took."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kpack.errors import FormatError
from kpack.objfile.listing import PackListing

if TYPE_CHECKING:
    from kpack.tuning.table import Entry

__all__ = ["Cell", "HeatMap", "TuningResults", "read_results"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender for one call. `ratio`: of a trial, its time by the best one's (1 or more); of a table's choice,
    the time of what runs without tuning by its own. 0: not known. `note`: how it fared, where that is no time."""

    row: int
    column: int
    chosen: bool
    median_us: float
    ratio: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """`kind`: "table" or "trials". `group`: what all calls have in common; `rows`: contenders; `columns`: what the
    calls differ in; no cell: the contender was not chosen (a table), or not asked."""

    kind: str
    kernel: str
    device: str
    group: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class TuningResults:
    """`remarks`: what of the files is not shown, and why, a line each."""

    maps: tuple[HeatMap, ...]
    remarks: tuple[str, ...]


def read_results(
    pack: PackListing,
    tables: Iterable[str | os.PathLike[str]],
    trials: Iterable[str | os.PathLike[str]],
) -> TuningResults:
    """Raises FormatError for a file that cannot be read."""
    maps: list[HeatMap] = []
    remarks: list[str] = []
    for path in tables:
        entries, rejected = _entries(path)
        name = os.path.basename(path)
        remarks += (f"{name}:{line}" for line in rejected)
        kept, left = _of_this(pack, entries)
        remarks += (f"{name}: {reason}" for reason in left)
        maps += _table_maps(kept)
    for path in trials:
        outcomes, errors = _outcomes(path)
        remarks += (f"{os.path.basename(path)}: {error}" for error in errors)
        maps += _trial_maps(outcomes)
    return TuningResults(tuple(maps), tuple(remarks))


# ---- tables


def _entries(path: str | os.PathLike[str]) -> tuple[Sequence[Entry], list[str]]:
    from kpack.tuning.table import read_table

    table = read_table(path)
    return table.entries, [str(line) for line in table.rejected]


def _of_this(pack: PackListing, entries: Iterable[Entry]) -> tuple[list[Entry], list[str]]:
    """The entries that are of kernels as they are in this archive, and why others are not, a line for each reason."""
    from kpack.tuning.key import tuning_hash

    hashes = {kernel.name: tuning_hash(v.hash for v in kernel.variants) for kernel in pack.kernels}
    kept, reasons = [], dict[str, int]()
    for entry in entries:
        if entry.kernel.startswith("op:") or hashes.get(entry.kernel) == entry.hash:
            kept.append(entry)
            continue
        known = entry.kernel in hashes
        reason = f"of another build of {entry.kernel}" if known else f"of {entry.kernel}, which is not here"
        reasons[reason] = reasons.get(reason, 0) + 1
    return kept, [f"not shown: {count} {_plural('entry', count)} {why}" for why, count in reasons.items()]


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word.removesuffix("y") + "ies"


def _table_maps(entries: Iterable[Entry]) -> Iterator[HeatMap]:
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.kernel, entry.device, entry.overload), []).append(entry)
    for (kernel, device, overload), found in groups.items():
        common, by_column = _columns({entry.call: entry for entry in found})
        rows: dict[str, int] = {}
        cells = []
        for column, entry in enumerate(by_column.values()):
            row = rows.setdefault(entry.choice, len(rows))
            gain = entry.fixed_us / entry.median_us if entry.median_us else 0.0
            cells.append(Cell(row, column, True, entry.median_us, gain))
            for name, why in _left_out(entry.left_out):
                cells.append(Cell(rows.setdefault(name, len(rows)), column, False, 0, 0, why))
        group = "  ".join(filter(None, (overload, common)))
        yield HeatMap("table", kernel, device, group, *_sorted(rows, by_column, cells))


def _left_out(text: str) -> Iterator[tuple[str, str]]:
    """Contender and reason of each that was left out: "name: wrong; name: failed (reason)"."""
    for part in text.split("; "):
        name, colon, why = part.partition(": ")
        if colon:
            yield name, why


# ---- trials


def _outcomes(path: str | os.PathLike[str]) -> tuple[list[Mapping[str, Any]], list[str]]:
    """What `kpack tune --json` wrote: shapes with trials, and in words those without."""
    expected = "expected what kpack tune --json writes"
    name = os.fspath(path)
    try:
        read = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise FormatError(f"{name}: {expected}, got {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name}: {expected}, got no JSON: {error}") from None
    if not isinstance(read, list):
        raise FormatError(f"{name}: {expected}, a list, got {type(read).__name__}")
    with_trials, errors = [], []
    for number, outcome in enumerate(read):
        wrong = _why_no_outcome(outcome)
        if wrong:
            raise FormatError(f"{name}: {expected}, got in outcome {number} {wrong}")
        shape = outcome["shape"]
        if outcome["trials"]:
            with_trials.append(outcome)
        elif outcome.get("error"):
            call = " ".join(f"{key}={value}" for key, value in shape["values"].items())
            errors.append(f"{shape['kernel']} {call}: {outcome['error']}")
    return with_trials, errors


def _why_no_outcome(outcome: Any) -> str:
    if not isinstance(outcome, dict) or not isinstance(shape := outcome.get("shape"), dict):
        return "no shape"
    values = shape.get("values")
    if not isinstance(shape.get("kernel"), str) or not isinstance(values, dict):
        return "no kernel and values"
    if not all(isinstance(value, str) for value in values.values()):
        return "a value that is no text"
    trials = outcome.get("trials")
    if not isinstance(trials, list) or not all(map(_is_trial, trials)):
        return "trials without name, outcome, reason and median_us"
    return ""


def _is_trial(trial: Any) -> bool:
    if not isinstance(trial, dict):
        return False
    texts = (trial.get(name) for name in ("name", "outcome", "reason"))
    median = trial.get("median_us")
    is_number = isinstance(median, (int, float)) and not isinstance(median, bool) and 0 <= median < 1e12
    return is_number and all(isinstance(text, str) for text in texts)


_INTEGER = re.compile(r"-?[0-9]{1,20}")


def _trial_maps(outcomes: Iterable[Mapping[str, Any]]) -> Iterator[HeatMap]:
    groups: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for outcome in outcomes:
        kernel, values = outcome["shape"]["kernel"], outcome["shape"]["values"]
        kinds = " ".join(f"{name}={text}" for name, text in values.items() if not _INTEGER.fullmatch(text))
        call = " ".join(f"{name}={text}" for name, text in values.items() if _INTEGER.fullmatch(text))
        groups.setdefault((kernel, kinds), {})[call] = outcome
    for (kernel, kinds), found in groups.items():
        common, by_column = _columns(found)
        rows: dict[str, int] = {}
        cells = []
        for column, outcome in enumerate(by_column.values()):
            trials = outcome["trials"]
            best = min((trial["median_us"] for trial in trials if trial["median_us"]), default=0.0)
            for trial in trials:
                row, median = rows.setdefault(trial["name"], len(rows)), trial["median_us"]
                fared = ": ".join(filter(None, (trial["outcome"], trial["reason"])))
                note = "" if trial["outcome"] == "timed" else fared
                ratio = median / best if best else 0.0
                cells.append(Cell(row, column, bool(trial.get("chosen")), median, ratio, note))
        group = "  ".join(filter(None, (kinds, common)))
        yield HeatMap("trials", kernel, "", group, *_sorted(rows, by_column, cells))


# ---- both


T = TypeVar("T")


def _columns(calls: Mapping[str, T]) -> tuple[str, dict[str, T]]:
    """What all calls have in common, and by what is left of each, in the order of its numbers, what there is of it."""
    split = {call: [part for part in call.split(" ") if part and part != "-"] for call in calls}
    same = set.intersection(*map(set, split.values())) if len(split) > 1 else set()
    first = next(iter(split.values()))
    common = " ".join(part for part in first if part in same)
    rest = {call: " ".join(part for part in of if part not in same) for call, of in split.items()}
    return common, {rest[call]: calls[call] for call in sorted(calls, key=lambda call: _natural(rest[call]))}


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Orders texts by the numbers in them."""
    pieces = re.split(r"([0-9]{1,20})", text)
    return [(0, int(piece), "") if number % 2 else (1, 0, piece) for number, piece in enumerate(pieces)]


def _sorted(
    rows: Mapping[str, int], columns: Iterable[str], cells: Iterable[Cell]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Cell, ...]]:
    """Rows in the order of their names, whose numbers count as numbers."""
    names = sorted(rows, key=_natural)
    place = {rows[name]: number for number, name in enumerate(names)}
    moved = (
        Cell(place[cell.row], cell.column, cell.chosen, cell.median_us, cell.ratio, cell.note)
        for cell in cells
    )
    return tuple(names), tuple(columns), tuple(moved)
