"""First launches: runs first_launch in many processes and puts what came of it into results/first_launch.md.

python3 benchmarks/first_launch.py build/gpu/benchmarks/first_launch [--processes 12]
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"


class Row(NamedTuple):
    """A variant in one process; microseconds."""

    position: int
    variant: str
    first: str
    way: str
    bare: float
    bare_done: float
    ours: float
    ours_done: float


def rows_of(program: str, start: int) -> list[Row]:
    done = subprocess.run([program, str(start)], check=True, capture_output=True, text=True)
    cells = [line.split() for line in done.stdout.splitlines()]
    return [Row(int(c[0]), *c[1:4], *map(float, c[4:])) for c in cells]  # type: ignore[arg-type]


def summary(name: str, rows: list[Row]) -> str:
    def median(value: Callable[[Row], float]) -> float:
        return statistics.median(value(row) for row in rows)

    return (
        f"| {name} | {len(rows)} | {median(lambda r: r.bare):.1f} | {median(lambda r: r.ours):.1f} "
        f"| {median(lambda r: r.ours / r.bare):.3f} | {median(lambda r: r.bare_done):.1f} "
        f"| {median(lambda r: r.ours_done):.1f} | {median(lambda r: r.ours_done / r.bare_done):.3f} |"
    )


def machine() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--machine", help="instead of what nvidia-smi says")
    options = parser.parse_args()
    rows = [row for start in range(options.processes) for row in rows_of(options.program, 5 * start)]
    later = [row for row in rows if row.position > 0]
    groups = {
        "all but the first of a process": later,
        "of these, unbound": [row for row in later if row.way == "unbound"],
        "of these, through a bound handle": [row for row in later if row.way == "bound"],
        "of these, bare first": [row for row in later if row.first == "bare"],
        "of these, kpack first": [row for row in later if row.first == "kpack"],
        "the first of a process": [row for row in rows if row.position == 0],
    }
    lines = [
        "# The first launch of an image",
        "",
        f"{options.machine or machine()}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}; "
        f"{options.processes} processes, {len(rows) // options.processes} images each; microseconds, medians; "
        "the ratio is the median of the ratios.",
        "",
        "| launches | number | bare, launched | kpack, launched | ratio | bare, done | kpack, done | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(summary(name, group) for name, group in groups.items()),
        "",
    ]
    (options.results / "first_launch.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
