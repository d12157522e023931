"""Bytes moved per second by kpack's softmax, torch.softmax and a device-to-device copy, in turns, in one run.

Usage: softmax_bandwidth.py [build/gpu/libtk.so]. Needs one GPU and torch; writes results/softmax_bandwidth.md.
"""

from __future__ import annotations

import datetime
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

import kpack.runtime

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "softmax_bandwidth.md"
WARM_UPS = 10
REPEATS = 100


class Shape(NamedTuple):
    """About 512 MiB each way: far more than any L2, so that what is counted comes from memory."""

    dtype: torch.dtype
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {self.rows} x {self.columns}"


SHAPES = [
    Shape(torch.float16, 2**20, 256),
    Shape(torch.float16, 2**18, 1000),
    Shape(torch.float16, 2**18, 1024),
    Shape(torch.float16, 2**16, 4096),
    Shape(torch.bfloat16, 2**15, 8192),
    Shape(torch.float16, 2**13, 32768),
    Shape(torch.float32, 2**15, 4096),
    Shape(torch.float32, 2**11, 65536),
]


def milliseconds(run: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def measure(softmax: Callable[..., object], shape: Shape) -> dict[str, float]:
    """Terabytes a second, read and written together, by who moved them."""
    x = torch.randn(shape.rows, shape.columns, device="cuda", dtype=shape.dtype)
    out = torch.empty_like(x)
    stream = torch.cuda.current_stream()
    ways: dict[str, Callable[[], object]] = {
        "kpack": lambda: softmax(
            out, x, x.stride(0), out.stride(0), shape.columns, shape.rows, stream=stream
        ),
        "torch": lambda: torch.softmax(x, dim=-1, out=out),
        "copy": lambda: out.copy_(x),
    }
    expected = torch.softmax(x, dim=-1)
    ways["kpack"]()
    torch.testing.assert_close(out, expected)  # a wrong result may be as fast as it likes
    for run in ways.values():
        for _ in range(WARM_UPS):
            run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):  # in turns: what warms or slows the device meets all of them
        for name, run in ways.items():
            times[name].append(milliseconds(run))
    moved_bytes = 2 * x.numel() * x.element_size()
    return {name: moved_bytes / statistics.median(taken) / 1e9 for name, taken in times.items()}


def row(shape: Shape, speed: dict[str, float]) -> str:
    cells = [f"{speed[name]:.2f} ({speed[name] / speed['copy']:.0%})" for name in ("kpack", "torch")]
    return f"| {shape} | {' | '.join(cells)} | {speed['copy']:.2f} |"


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("torch.cuda: expected a GPU, got none; nothing measured")
    library = sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "gpu" / "libtk.so"
    softmax = kpack.runtime.load(library)["softmax"]
    lines = [
        "# Softmax: terabytes a second",
        "",
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}; read plus written, median of {REPEATS}, in turns; "
        "in brackets: of the copy",
        "",
        "| shape | kpack | torch.softmax | device-to-device copy |",
        "|---|---:|---:|---:|",
    ]
    for shape in SHAPES:
        lines.append(row(shape, measure(softmax, shape)))
        print(lines[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS)


if __name__ == "__main__":
    main()
