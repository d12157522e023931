"""Softmax beside torch.softmax and a device-to-device copy, in one run: of large tensors the bandwidth, as a part of
the copy's; of all sizes how many times as long torch takes, a call from Python after another, and their geometric mean.

Needs one GPU and torch; writes results/softmax_bandwidth.md.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from bandwidth import BYTES, REPEATS, Setting, machine, medians, name_of, prepared, some_of

Softmax = Callable[..., object]

WIDTHS = [
    512,
    768,
    1000,
    1024,
    1536,
    2048,
    3072,
    4096,
    5000,
    5120,
    6144,
    8192,
    10240,
    12288,
    14336,
    16384,
    20480,
]
WIDTHS += [24576, 28672, 32768, 36864, 40000, 45056, 50264, 57344, 65536]
NARROW_AND_WIDER = [8, 16, 32, 64, 100, 128, 200, 256, 98304, 131072, 262144]
ODD = [
    9,
    17,
    33,
    50,
    101,
    127,
    250,
    501,
    777,
    1001,
    2001,
    4095,
    5001,
    8191,
    12287,
    16383,
    32767,
    50257,
    65535,
    131071,
]
ENDS = (torch.float16, torch.float32)
ENOUGH = 0.97  # of the copy, from 512 to 65,536 columns

RATIO_ROWS = [1, 16, 132, 1000, 10_000, 100_000, 1_000_000]
RATIO_WIDTHS = [
    8,
    33,
    64,
    100,
    256,
    512,
    777,
    1000,
    1024,
    2048,
    4096,
    5000,
    8192,
    16384,
    32768,
    50257,
    65536,
    131072,
]
LARGEST = 2**32  # bytes of a tensor of the ratio table
BATCHES = 25
BATCH_S = 3e-4
HOW = (
    "Calls from Python, one after another, and then the wait for the last: a small one costs its launch, a large one "
    f"its time on the GPU. Medians of {BATCHES}; torch with `out=` or without, whichever is faster."
)


class Pair(NamedTuple):
    """x, and where its softmax goes."""

    x: torch.Tensor
    out: torch.Tensor

    def call(self, softmax: Softmax) -> Callable[[], object]:
        x, out, (rows, columns) = self.x, self.out, self.x.shape
        return lambda: softmax(out, x, columns, columns, columns, rows)


def check(softmax: Softmax, pair: Pair) -> None:
    some = some_of(len(pair.x))
    pair.out[some] = float("nan")
    pair.call(softmax)()
    expected = torch.softmax(pair.x[some].double(), dim=-1).to(pair.x.dtype)
    torch.testing.assert_close(pair.out[some], expected)


# ---- large tensors


def bandwidths(
    softmax: Softmax, dtype: torch.dtype, widths: list[int]
) -> list[tuple[int, float, float, float]]:
    """Width, terabytes a second of the copy, and what part of that kpack and torch reach."""
    size = BYTES // dtype.itemsize
    memory, target = torch.empty(2, size, device="cuda", dtype=dtype)
    memory.normal_()
    found = []
    for width in widths:
        rows = size // width
        pair = Pair(memory[: rows * width].view(rows, width), target[: rows * width].view(rows, width))
        check(softmax, pair)
        taken = medians(
            {
                "kpack": pair.call(softmax),
                "torch": lambda pair=pair: torch.softmax(pair.x, dim=-1, out=pair.out),
                "copy": lambda pair=pair: pair.out.copy_(pair.x),
            }
        )
        speed = 2 * rows * width * dtype.itemsize / taken["copy"] / 1e9
        found.append((width, speed, taken["copy"] / taken["kpack"], taken["copy"] / taken["torch"]))
        print(dtype, *found[-1], flush=True)
    return found


def bandwidth_table(found: dict[torch.dtype, list[tuple[int, float, float, float]]]) -> list[str]:
    dtypes = list(found)
    lines = [
        "| columns | "
        + " | ".join(f"{name_of(dtype)}: copy, TB/s | kpack | torch" for dtype in dtypes)
        + " |"
    ]
    lines.append("|---:|" + "---:|---:|---:|" * len(dtypes))
    for cells in zip(*found.values(), strict=True):
        row = [f"{copy:.2f} | {ours:.1%} | {theirs:.1%}" for _, copy, ours, theirs in cells]
        lines.append(f"| {cells[0][0]:,} | " + " | ".join(row) + " |")
    return lines


# ---- all sizes, from Python


def seconds_a_call(run: Callable[[], object], calls: int) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def ratio(softmax: Softmax, dtype: torch.dtype, rows: int, columns: int) -> tuple[float, float]:
    """How many times as long torch takes, with `out=` or without, whichever is faster; microseconds of kpack."""
    x = torch.randn(rows, columns, device="cuda", dtype=dtype)
    pair = Pair(x, torch.empty_like(x))
    check(softmax, pair)
    ways: list[Callable[[], object]] = [
        pair.call(softmax),
        lambda: torch.softmax(x, dim=-1),
        lambda: torch.softmax(x, dim=-1, out=pair.out),
    ]
    calls = [max(1, min(50, int(BATCH_S / seconds_a_call(run, 3)))) for run in ways]
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(BATCHES):
        for times, run, count in zip(taken, ways, calls, strict=True):
            times.append(seconds_a_call(run, count))
    ours, *theirs = (statistics.median(times) for times in taken)
    return min(theirs) / ours, ours * 1e6


def ratio_table(softmax: Softmax, dtype: torch.dtype) -> tuple[list[str], dict[tuple[int, int], float]]:
    ratios: dict[tuple[int, int], float] = {}
    lines = ["| columns | " + " | ".join(f"{rows:,} rows" for rows in RATIO_ROWS) + " |"]
    lines.append("|---:|" + "---:|" * len(RATIO_ROWS))
    for columns in RATIO_WIDTHS:
        row = [f"{columns:,}"]
        for rows in RATIO_ROWS:
            if rows * columns * dtype.itemsize > LARGEST:
                row.append("")
                continue
            ratios[rows, columns], took_us = ratio(softmax, dtype, rows, columns)
            row.append(f"{ratios[rows, columns]:.2f} ({took_us:.0f} µs)")
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    return lines, ratios


def bandwidth_page(setting: Setting, softmax: Softmax) -> list[str]:
    found = {dtype: bandwidths(softmax, dtype, WIDTHS) for dtype in (*ENDS, torch.bfloat16)}
    short = [
        f"{name_of(dtype)} {width:,}: {ours:.1%}"
        for dtype, cells in found.items()
        for width, _, ours, _ in cells
        if ours < ENOUGH
    ]
    return [
        "# Softmax",
        "",
        f"{machine()}; tensors of {BYTES / 2**30:.2f} GiB, contiguous; read plus written, medians of {REPEATS}, in "
        f"turns; {setting.words}.",
        "",
        "## Bandwidth, as a part of the device-to-device copy's",
        "",
        *bandwidth_table(found),
        "",
        f"Below {ENOUGH:.0%}: {', '.join(short) or 'none'}.",
    ]


def other_widths(softmax: Softmax) -> list[str]:
    lines = []
    for title, widths in (
        ("Shorter and longer rows", NARROW_AND_WIDER),
        ("Rows that do not begin at multiples of 16 bytes", ODD),
    ):
        lines += ["", f"{title}:", ""]
        lines += bandwidth_table({dtype: bandwidths(softmax, dtype, widths) for dtype in ENDS})
    return lines


def ratio_page(softmax: Softmax) -> list[str]:
    lines = []
    everything: list[float] = []
    for dtype in ENDS:
        table, ratios = ratio_table(softmax, dtype)
        everything += ratios.values()
        slower = [
            f"{rows:,} x {columns:,}: {each:.2f}" for (rows, columns), each in ratios.items() if each < 1
        ]
        lines += ["", f"## {name_of(dtype)}: time of torch.softmax, in times of kpack's (in brackets)", ""]
        lines += [*table, "", f"Slower than torch: {', '.join(slower) or 'nowhere'}."]
    mean = math.exp(statistics.fmean(map(math.log, everything)))
    return [*lines, "", f"Geometric mean of these {len(everything)}: {mean:.2f}. {HOW}"]


def main() -> None:
    setting = prepared(__doc__, "softmax_bandwidth")
    softmax = setting.pack["softmax"]
    lines = bandwidth_page(setting, softmax)
    if not setting.tuned:  # a search for each of these sizes would take minutes
        lines += other_widths(softmax)
        torch.cuda.empty_cache()
        lines += ratio_page(softmax)
    setting.file.write_text("\n".join(lines) + "\n")
    print(setting.file, lines[-1])


if __name__ == "__main__":
    main()
