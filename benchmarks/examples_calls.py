"""One call of examples/torch_op and examples/onnxruntime, beside Triton's JIT: results/examples_calls.md.

    python3 benchmarks/examples_calls.py

Both are softmax, built by their Makefiles of what lies in build/archives/examples. Each is measured in turns with ways
to have the same by Triton's JIT, whose kernel is one that fits these matrices, as Triton's tutorials have it, and with
torch.softmax. ONNX Runtime may be installed, or its wheel lie in build/wheels; else it is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from bandwidth import RESULTS, ROOT, machine

from kpack.paths import include_dir, library_path

BUILD = ROOT / "build" / "gpu"
WARM_UPS = 20  # batches that are not counted
TORCH_TURNS = 300, 200  # batches, calls in each: well under the depth of a driver's queue, drained between
ORT_TURNS = {(64, 1024): (200, 20), (4096, 1024): (100, 2)}
TRITON = f"Triton {triton.__version__}"

Call = Callable[[Any], Any]  # from a matrix to one of its kind


@triton.jit
def softmax_kernel(out_ptr, in_ptr, in_row_stride, out_row_stride, n_cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    x = tl.load(in_ptr + row * in_row_stride + cols, mask=cols < n_cols, other=-float("inf")).to(tl.float32)
    powers = tl.exp(x - tl.max(x, axis=0))
    y = powers / tl.sum(powers, axis=0)
    tl.store(out_ptr + row * out_row_stride + cols, y.to(out_ptr.dtype.element_ty), mask=cols < n_cols)


# ---- Calls in turns


def batch_us(call: Call, x: Any, calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        call(x)
    took = time.perf_counter_ns() - start
    torch.cuda.synchronize()
    return took / calls / 1000


def check(name: str, got: Any, x: Any) -> None:
    expected = torch.softmax(torch.as_tensor(x).double(), dim=-1)
    got = torch.as_tensor(got).double()
    torch.testing.assert_close(got, expected, rtol=2e-5, atol=1e-7, msg=lambda told: f"{name}: {told}")


def measured(ways: Mapping[str, Call], x: Any, turns: tuple[int, int]) -> list[str]:
    """Rows of a table, the fastest first; each way's result has been compared."""
    batches, calls = turns
    for name, call in ways.items():
        check(name, call(x), x)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(WARM_UPS + batches):
        for name, call in ways.items():
            found[name].append(batch_us(call, x, calls))
    counted = {name: taken[WARM_UPS:] for name, taken in found.items()}
    matrix = " x ".join(map(str, x.shape))
    lines = []
    for name, taken in sorted(counted.items(), key=lambda item: statistics.median(item[1])):
        tenths = statistics.quantiles(taken, n=10)
        figures = statistics.median(taken), tenths[0], tenths[8]
        lines.append(f"| {matrix} | {name} | {' | '.join(f'{us:.2f}' for us in figures)} |")
    return lines


# ---- The examples, built as their users build them


def built(name: str, archive: str, library: str, *words: str) -> Path:
    """examples/<name>'s library; its archive is not made again, for that takes the `kpack` command."""
    folder = BUILD / "examples" / name
    for part in (name, "quickstart"):  # the quickstart has gpu.h
        shutil.copytree(ROOT / "examples" / part, BUILD / "examples" / part, dirs_exist_ok=True)
    shutil.copy(ROOT / "build" / "archives" / "examples" / name / archive, folder)
    make = "make", "-C", str(folder), "--always-make", f"--old-file={archive}", f"PYTHON={sys.executable}"
    flags = f"KPACK_CFLAGS=-I{include_dir()}", f"KPACK_LIBS={library_path()} -ldl -lpthread"
    subprocess.run([*make, *flags, *words, library], check=True)
    return folder / library


# ---- PyTorch: from a tensor on the GPU to another


def jit_softmax(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty_like(x)
    rows, columns = x.shape
    block = triton.next_power_of_2(columns)
    softmax_kernel[(rows,)](y, x, x.stride(0), y.stride(0), columns, BLOCK=block)
    return y


def torch_softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, dim=-1)


def jit_operator() -> Call:
    operator = torch.library.custom_op("kpack_benchmarks::softmax", jit_softmax, mutates_args=())
    operator.register_fake(torch.empty_like)
    return operator


def torch_rows() -> list[str]:
    torch.ops.load_library(built("torch_op", "libops.a", "softmax_op.so"))
    ways: dict[str, Call] = {
        "examples/torch_op": torch.ops.kpack_examples.softmax,
        f"{TRITON}, a function around kernel[grid](...)": jit_softmax,
        f"{TRITON}, the same under torch.library.custom_op": jit_operator(),
        f"torch {torch.__version__}, torch.softmax": torch_softmax,
    }
    return measured(ways, torch.randn(64, 1024, device="cuda"), TORCH_TURNS)


# ---- ONNX Runtime: from an array of numpy's to another, by way of the GPU


PROTOTYPES = {
    "cuMemAlloc_v2": (ctypes.POINTER(ctypes.c_uint64), ctypes.c_size_t),
    "cuMemFree_v2": (ctypes.c_uint64,),
    "cuMemcpyHtoD_v2": (ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t),
    "cuMemcpyDtoH_v2": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t),
}


@functools.cache
def libcuda() -> ctypes.CDLL:
    """The calls that the example makes by examples/quickstart/gpu.h; the context is torch's, which is current."""

    def succeeded(code: int, function: Any, _: object) -> None:
        if code != 0:
            raise RuntimeError(f"{function.__name__}: the driver returned {code}")

    library = ctypes.CDLL("libcuda.so.1")
    for name, arguments in PROTOTYPES.items():
        function = getattr(library, name)
        function.argtypes, function.errcheck = arguments, succeeded
    return library


class Memory:
    """Device memory as the example has it: allocated for one call. Triton takes what has a data_ptr()."""

    dtype = torch.float32

    def __init__(self, size_bytes: int) -> None:
        self.address = ctypes.c_uint64()
        libcuda().cuMemAlloc_v2(ctypes.byref(self.address), size_bytes)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        libcuda().cuMemFree_v2(self.address)

    def data_ptr(self) -> int:
        return self.address.value


def jit_as_the_example(x: np.ndarray) -> np.ndarray:
    """What compute_on_device() in softmax_op.cc does, call by call; the last copy waits for the kernel."""
    y = np.empty_like(x)
    rows, columns = x.shape
    block = triton.next_power_of_2(columns)
    with Memory(x.nbytes) as on_device, Memory(y.nbytes) as result:
        libcuda().cuMemcpyHtoD_v2(on_device.address, x.ctypes.data, x.nbytes)
        softmax_kernel[(rows,)](result, on_device, columns, columns, columns, BLOCK=block)
        libcuda().cuMemcpyDtoH_v2(y.ctypes.data, result.address, y.nbytes)
    return y


def through_torch(call: Call) -> Call:
    return lambda x: call(torch.from_numpy(x).cuda()).cpu().numpy()


def import_onnxruntime() -> ModuleType | None:
    """Where it is not installed, from the wheel in build/wheels; None when there is none."""
    if find_spec("onnxruntime") is None:
        wheels = sorted((ROOT / "build" / "wheels").glob("onnxruntime-*.whl"))
        if not wheels:
            return None
        zipfile.ZipFile(wheels[-1]).extractall(BUILD / "site-ort")
        sys.path.append(str(BUILD / "site-ort"))
    return importlib.import_module("onnxruntime")


def onnxruntime_rows(version: str) -> list[str]:
    headers = ROOT / "tests" / "examples" / "ort"  # the wheels carry none
    library = built("onnxruntime", "libtk.a", "libkpack_softmax.so", f"ORT_INCLUDE={headers}")
    sys.path.insert(0, str(library.parent))  # run.py imports model.py from there
    session = importlib.import_module("run").session(str(library))
    ways: dict[str, Call] = {
        f"examples/onnxruntime, session.run() of onnxruntime {version}": lambda x: session.run(
            None, {"x": x}
        )[0],
        f"{TRITON}, between the driver calls that the example makes": jit_as_the_example,
        f"{TRITON}, between torch's copies, its memory cached": through_torch(jit_softmax),
        f"torch {torch.__version__}, torch.softmax between the same": through_torch(torch_softmax),
    }
    random = np.random.default_rng(0)
    lines = []
    for shape, turns in ORT_TURNS.items():
        lines += measured(ways, random.standard_normal(shape, np.float32), turns)
    return lines


# ---- The page


def table(lines: list[str]) -> str:
    return "\n".join(["| matrix | call | median | 10 % | 90 % |", "|---|---|---:|---:|---:|", *lines])


def of_torch() -> str:
    batches, calls = TORCH_TURNS
    return f"""## An operator of PyTorch

The host's time of one call, which returns before the kernel has run; without gradients.
{batches} batches of {calls} calls.

{table(torch_rows())}
"""


def of_onnxruntime() -> str:
    title = "## An operator of ONNX Runtime"
    module = import_onnxruntime()
    if module is None:
        return f"{title}\n\nLeft out: expected onnxruntime installed, or its wheel in build/wheels, got neither.\n"
    turns = "; ".join(
        f"{rows} x {columns}: {batches} batches of {calls} calls"
        for (rows, columns), (batches, calls) in ORT_TURNS.items()
    )
    return f"""{title}

From an array of numpy's to another, until the result is there: copied to the GPU from pageable memory, computed,
copied back.
{turns}.

{table(onnxruntime_rows(module.__version__))}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    head = f"""# One call of softmax, as the examples have it

{machine()}; float32; each result was compared with softmax in float64 first; microseconds, in turns in one process.
"""
    page = [head]
    for section in (of_torch, of_onnxruntime):
        page.append(section())
        print(page[-1], flush=True)  # at once: a later one may fail
    (options.results / "examples_calls.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
