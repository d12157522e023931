"""The tuner's pick beside the best by exhaustive timing, and how long it took; what its choice costs a launch.

    python benchmarks/tuner.py        # with kpack of build/gpu/site and build/gpu/libtk.so

Softmax at 50 shapes: each is searched as a launch would, then three times exhaustively, all
contenders to the end. The pick's ratio is its median of these three over the smallest such median.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bandwidth import LIBRARY, RESULTS, machine, name_of

from kpack.runtime import LoadedKernel, load, set_tuning

BUDGET_MS = 2000
EXHAUSTIVE_RUNS = 3
WIDTHS = (33, 64, 512, 1000, 1024, 4096, 8192, 12288, 32768, 50264, 65536)
ELEMENTS = (2**21, 2**24)  # of the larger, input and output together are more than an H200's L2
TYPES = (torch.float16, torch.float32)


def shapes() -> list[tuple[torch.dtype, int, int]]:
    large = [(dtype, cols, n // cols) for cols in WIDTHS for n in ELEMENTS for dtype in TYPES]
    few = [
        (torch.float16, cols, rows)
        for cols, rows in ((1024, 1), (4096, 8), (65536, 3), (100, 7), (8, 1_000_000), (50264, 1))
    ]
    return [*large, *few]


def searched(kernel: LoadedKernel, arguments: tuple[Any, ...]) -> dict[str, Any]:
    began = time.perf_counter()
    trials = kernel.tune(*arguments, again=True, budget_ms=BUDGET_MS)
    took_ms = (time.perf_counter() - began) * 1e3
    (pick,) = (trial.name for trial in trials if trial.chosen)
    runs: dict[str, list[float]] = {}
    for _ in range(EXHAUSTIVE_RUNS):
        for trial in kernel.tune(*arguments, again=True, exhaustive=True, budget_ms=20_000):
            if trial.outcome == "timed":
                runs.setdefault(trial.name, []).append(trial.median_us)
    medians = {name: statistics.median(each) for name, each in runs.items()}
    best = min(medians, key=lambda name: medians[name])
    return {
        "ratio": medians[pick] / medians[best],
        "fixed": medians[trials[0].name] / medians[best] if trials[0].name in medians else float("nan"),
        "us": medians[best],
        "contenders": len(trials),
        "took_ms": took_ms,
        "pick": pick,
        "best": best,
    }


def use_cost() -> list[str]:
    """Host nanoseconds of a launch from Python by an entry, over the same launch by the fixed choice, in turns."""
    kernel = load(LIBRARY)["softmax"]
    x = torch.randn(64, 1000, device="cuda", dtype=torch.float16)
    out, y = torch.empty_like(x), x[:, :900]
    calls = [(out, x, 1000, 1000, 1000, 64), (out, y, 1000, 1000, 900, 64)]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "tk.csv"
        set_tuning("tune", table=table, budget_ms=200)
        for call in calls:
            kernel(*call)
        times: dict[tuple[str, int], list[float]] = {}
        for _ in range(40):
            for mode in ("off", "use"):
                set_tuning(mode, table=table)
                for count in (1, 2):
                    for call in calls * 20:
                        kernel(*call)
                    torch.cuda.synchronize()
                    began = time.perf_counter_ns()
                    for i in range(400):
                        kernel(*calls[i % count])
                    times.setdefault((mode, count), []).append((time.perf_counter_ns() - began) / 400)
                    torch.cuda.synchronize()
    lines = []
    for count, words in ((1, "the same shape again and again"), (2, "two shapes in turns")):
        off, use = times["off", count], times["use", count]
        difference = statistics.median(b - a for a, b in zip(off, use, strict=True))
        lines.append(f"| {words} | {statistics.median(off):.0f} | {difference:+.0f} |")
    return lines


Row = tuple[str, int, int, dict[str, Any]]


def page(rows: list[Row], of: int) -> list[str]:
    ratios = [found["ratio"] for *_, found in rows]
    fixed = [found["fixed"] for *_, found in rows]
    longest = max(found["took_ms"] for *_, found in rows)
    return [
        "# The tuner",
        "",
        f"{machine()}. `benchmarks/tuner.py`: softmax at {len(rows)} of {of} shapes, searched as a launch would "
        f"search, then {EXHAUSTIVE_RUNS} times exhaustively.",
        "",
        f"* The pick over the best: median {statistics.median(ratios):.4f}, worst {max(ratios):.4f}; "
        f"{sum(ratio <= 1.02 for ratio in ratios)} of {len(ratios)} within 2 %.",
        f"* The budget is {BUDGET_MS} ms: the longest search took {longest:.0f} ms.",
        f"* What runs without tuning, over the best: median {statistics.median(fixed):.3f}, worst {max(fixed):.3f}.",
        "",
        "| type | columns | rows | contenders | best, us | pick / best | fixed choice / best | search, ms | pick |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {cols:,} | {n_rows:,} | {found['contenders']} | {found['us']:.2f} | {found['ratio']:.3f} "
            f"| {found['fixed']:.3f} | {found['took_ms']:.0f} | {found['pick']} |"
            for name, cols, n_rows, found in rows
        ),
        "",
    ]


def main() -> None:
    kernels = load(LIBRARY)
    result = RESULTS / "tuner.md"
    rows: list[Row] = []
    all_shapes = shapes()
    for dtype, cols, n_rows in all_shapes:
        x = torch.randn(n_rows, cols, device="cuda").to(dtype)
        out = torch.empty_like(x)
        found = searched(kernels["softmax"], (out, x, cols, cols, cols, n_rows))
        rows.append((name_of(dtype), cols, n_rows, found))
        result.write_text("\n".join(page(rows, len(all_shapes))))  # also of a run that is cut off
        print(*rows[-1][:3], *(f"{key}={value}" for key, value in found.items()), flush=True)
        del x, out
    text = [
        *page(rows, len(all_shapes)),
        "## What an entry costs a launch",
        "",
        "Host nanoseconds of a launch from Python, medians of 40 batches of 400, modes in turns.",
        "",
        "| launches | off | use, over off |",
        "|---|---|---|",
        *use_cost(),
        "",
    ]
    result.write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
