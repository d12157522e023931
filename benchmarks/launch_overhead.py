"""What a launch costs the host: runs launch_overhead in several processes, since where the loader and the neighbours
happen to be is part of the price, and puts what came of it into results/launch_overhead.md and .json.

python3 benchmarks/launch_overhead.py build/gpu/benchmarks/launch_overhead [--processes 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def run(program: str) -> dict[str, Any]:
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def row(ways: list[dict[str, Any]]) -> str:
    """One way of launching, in every process."""
    over = [way["over_bare_ns"] for way in ways]
    return (
        f"| {ways[0]['arguments']} | {ways[0]['name']} "
        f"| {statistics.median(way['median_ns'] for way in ways):.0f} "
        f"| {statistics.median(over):+.0f} | {min(over):+.0f} to {max(over):+.0f} "
        f"| {statistics.median(way['allocations'] for way in ways):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    runs = [run(options.program) for _ in range(options.processes)]
    first = runs[0]
    lines = [
        "# Host time of one launch",
        "",
        f"{first['gpu']}, driver API {first['driver']}, {first['date']}; {options.processes} processes, "
        f"{first['batches']} batches of {first['launches_per_batch']} launches each, in turns; nanoseconds: medians, "
        "over the batches and then over the processes.",
        "",
        "| arguments | launch | ns | over bare | of all processes | heap allocations |",
        "|---:|---|---:|---:|---:|---:|",
        *(row(list(ways)) for ways in zip(*(each["ways"] for each in runs), strict=True)),
        "",
        "What tuning adds, with calls of one key of a table and of two keys in turns:",
        "",
        "| arguments | launch | ns | over the first | of all processes | heap allocations |",
        "|---:|---|---:|---:|---:|---:|",
        *(row(list(ways)) for ways in zip(*(each["tuned"] for each in runs), strict=True)),
    ]
    options.results.mkdir(exist_ok=True)
    (options.results / "launch_overhead.json").write_text(json.dumps(runs, indent=1) + "\n")
    (options.results / "launch_overhead.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
