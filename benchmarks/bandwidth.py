"""What the bandwidth programs share: timing several ways in turns, by events, beside a device-to-device copy."""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from kpack.runtime import LoadedPack, load, set_tuning

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LIBRARY = ROOT / "build" / "gpu" / "libtk.so"
BYTES = 2**30 + 2**26  # of what is read: far more than any L2, so that what is counted comes from memory
WARM_UPS = 3
REPEATS = 25


class Setting(NamedTuple):
    pack: LoadedPack
    file: Path
    """where results go"""
    tuned: bool

    @property
    def words(self) -> str:
        return "kpack's variants were chosen by its tuner" if self.tuned else "kpack without tuning"


def prepared(description: str, result: str) -> Setting:
    """By the command line. With --tuned the first launch of each key searches for the fastest variant; those are not
    counted."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", nargs="?", default=LIBRARY, type=Path)
    parser.add_argument("--tuned", action="store_true", help="tune first; the results' name ends in _tuned")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch.cuda: expected a GPU, got none; nothing measured")
    set_tuning("tune" if given.tuned else "off")
    RESULTS.mkdir(exist_ok=True)
    return Setting(
        load(given.library), RESULTS / f"{result}{'_tuned' if given.tuned else ''}.md", given.tuned
    )


def machine() -> str:
    return (
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    )


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def milliseconds(run: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def medians(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each, in turns: what warms or slows the device meets all of them."""
    for run in ways.values():
        for _ in range(WARM_UPS):
            run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, run in ways.items():
            times[name].append(milliseconds(run))
    return {name: statistics.median(taken) for name, taken in times.items()}


def some_of(rows: int, device: str = "cuda") -> torch.Tensor:
    """Rows to compare: the first, the last and some between; a wrong result may be as fast as it likes."""
    ends = torch.cat([torch.arange(min(rows, 40)), torch.arange(max(0, rows - 40), rows)])
    return torch.cat([ends, torch.randint(rows, (40,))]).unique().to(device)
