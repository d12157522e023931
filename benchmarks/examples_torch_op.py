"""Host time of one call of examples/torch_op's softmax, beside Triton's JIT: results/examples_torch_op.md.

    python3 benchmarks/examples_torch_op.py

The operator is built by its Makefile, of build/archives/examples/torch_op/libops.a. Beside it, in turns in one process:
a softmax whose wrapper launches a JIT kernel, bare and as an operator of torch.library, and torch.softmax. All of them
allocate their result; the matrix is small, so that the host's time is what counts. The JIT's kernel is one that fits
this matrix, as Triton's tutorials have it.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import triton
import triton.language as tl

from kpack.paths import include_dir, library_path

HERE = Path(__file__).parent
ROOT = HERE.parent
BATCHES, CALLS = 300, 200  # a batch is well under the depth of a driver's queue, which is drained between
ROWS, COLUMNS = 64, 1024

Call = Callable[[torch.Tensor], torch.Tensor]


@triton.jit
def softmax_kernel(out_ptr, in_ptr, in_row_stride, out_row_stride, n_cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    x = tl.load(in_ptr + row * in_row_stride + cols, mask=cols < n_cols, other=-float("inf")).to(tl.float32)
    powers = tl.exp(x - tl.max(x, axis=0))
    y = powers / tl.sum(powers, axis=0)
    tl.store(out_ptr + row * out_row_stride + cols, y.to(out_ptr.dtype.element_ty), mask=cols < n_cols)


def jit_softmax(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    rows, columns = x.shape
    block = triton.next_power_of_2(columns)
    softmax_kernel[(rows,)](y, x, x.stride(0), y.stride(0), columns, BLOCK=block)
    return y


def jit_operator() -> Call:
    operator = torch.library.custom_op("kpack_benchmarks::softmax", jit_softmax, mutates_args=())
    operator.register_fake(torch.empty_like)
    return operator


def kpack_operator() -> Call:
    """torch.ops.kpack_examples.softmax, built here."""
    archive = ROOT / "build" / "archives" / "examples" / "torch_op" / "libops.a"
    folder = ROOT / "build" / "gpu" / "torch_op"
    shutil.copytree(ROOT / "examples" / "torch_op", folder, dirs_exist_ok=True)
    shutil.copy(archive, folder)
    flags = [f"PYTHON={sys.executable}", f"KPACK_CFLAGS=-I{include_dir()}"]
    flags.append(f"KPACK_LIBS={library_path()} -ldl -lpthread")
    subprocess.run(["make", "-C", folder, "--old-file=libops.a", *flags, "softmax_op.so"], check=True)
    torch.ops.load_library(folder / "softmax_op.so")
    return torch.ops.kpack_examples.softmax


def batch_ns(call: Call, x: torch.Tensor) -> float:
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        call(x)
    took = time.perf_counter_ns() - start
    torch.cuda.synchronize()
    return took / CALLS


def measure() -> dict[str, list[float]]:
    x = torch.randn(ROWS, COLUMNS, device="cuda")
    calls: dict[str, Call] = {
        "examples/torch_op": kpack_operator(),
        f"Triton {triton.__version__}, a function around kernel[grid](...)": jit_softmax,
        f"Triton {triton.__version__}, the same under torch.library.custom_op": jit_operator(),
        f"torch {torch.__version__}, torch.softmax": lambda x: torch.softmax(x, dim=-1),
    }
    for call in calls.values():
        torch.testing.assert_close(call(x), torch.softmax(x, dim=-1))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(BATCHES + 20):
        for name, call in calls.items():
            found[name].append(batch_ns(call, x))
        if turn == 19:  # warm by now
            found = {name: [] for name in found}
    return found


def machine() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    rows = []
    for name, values in sorted(measure().items(), key=lambda item: statistics.median(item[1])):
        tenths = statistics.quantiles(values, n=10)
        rows.append(f"| {name} | {statistics.median(values):.0f} | {tenths[0]:.0f} | {tenths[8]:.0f} |")
    lines = [
        "# Host time of one call of softmax, as an operator of PyTorch",
        "",
        f"{machine()}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}; {ROWS} x {COLUMNS} float32; {BATCHES} batches "
        f"of {CALLS} calls each, in turns in one process, without gradients; nanoseconds",
        "",
        "| call | median | 10 % | 90 % |",
        "|---|---:|---:|---:|",
        *rows,
        "",
    ]
    (options.results / "examples_torch_op.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
