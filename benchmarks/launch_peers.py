"""Host time of one launch of one kernel, through kpack and through others: results/launch_peers.md.

    python3 benchmarks/launch_peers.py build/gpu/libtests.so [--cpp results/launch_overhead.json]

Kernel args7 of tests/cpp/kernels.py: three pointers, four numbers, one warp. In one process, in turns: kpack from
Python, Triton's JIT, torch.add of as few numbers, and, where a wheel of apache-tvm-ffi lies in build/wheels, its cubin
launcher with the machine code that the JIT made. kpack's C++ figures are those of launch_overhead.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import kpack

HERE = Path(__file__).parent
ROOT = HERE.parent
BATCHES, LAUNCHES = 500, 200  # a batch is well under the depth of a driver's queue, which is drained between
NUMBERS = (10, 11, 1000, 0.5)
EXPECTED = 1.0 + 1.0 + sum(NUMBERS)

Call = Callable[[], object]


def jit_kernel() -> Any:
    """args7 as Triton's own launcher has it."""
    spec = importlib.util.spec_from_file_location("test_kernels", ROOT / "tests" / "cpp" / "kernels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.args7_kernel


def unpack_wheel() -> Path | None:
    """The folder with tvm_ffi, from the wheel in build/wheels; None when there is none."""
    wheels = sorted((ROOT / "build" / "wheels").glob("apache_tvm_ffi-*.whl"))
    if not wheels:
        return None
    site = ROOT / "build" / "gpu" / "tvm_ffi"
    zipfile.ZipFile(wheels[-1]).extractall(site)
    return site


def build_tvm_ffi(site: Path) -> Path:
    """tvm_ffi_launch.cc as a library, with the CUDA toolkit that nvcc is of."""
    nvcc = shutil.which("nvcc")
    toolkit = Path(nvcc).resolve().parents[1] if nvcc else Path("/usr/local/cuda")
    package, library = site / "tvm_ffi", site / "tvm_ffi_launch.so"
    command = ["c++", "-O2", "-std=c++17", "-fPIC", "-shared", HERE / "tvm_ffi_launch.cc", "-o", library]
    command += [f"-I{package}/include", f"-I{package}/3rdparty/dlpack/include", f"-I{toolkit}/include"]
    command += [f"-L{package}/lib", f"-Wl,-rpath,{package}/lib", "-ltvm_ffi"]
    command += [f"-L{toolkit}/lib64", f"-Wl,-rpath,{toolkit}/lib64", "-lcudart"]
    subprocess.run(command, check=True)
    return library


def tvm_ffi_module(compiled: Any) -> tuple[Any, str] | None:
    """The library, with the machine code of a kernel that Triton compiled, and the version."""
    site = unpack_wheel()
    if site is None:
        return None
    sys.path.insert(0, str(site))
    import tvm_ffi

    module = tvm_ffi.load_module(build_tvm_ffi(site))
    threads = 32 * compiled.metadata.num_warps
    module.load_cubin(compiled.asm["cubin"], compiled.metadata.name, threads, compiled.metadata.shared)
    return module, tvm_ffi.__version__


def batch_ns(call: Call) -> float:
    start = time.perf_counter_ns()
    for _ in range(LAUNCHES):
        call()
    took = time.perf_counter_ns() - start
    torch.cuda.synchronize()
    return took / LAUNCHES


def check(name: str, out: torch.Tensor, call: Call) -> None:
    """Once, to load, and to see that it computes."""
    out.zero_()
    call()
    torch.cuda.synchronize()
    assert out.item() == EXPECTED, f"{name}: expected {EXPECTED}, got {out.item()}"


def measure(library: str) -> dict[str, list[float]]:
    out = torch.zeros(1, device="cuda", dtype=torch.float64)
    p0, p1 = (torch.ones(1, device="cuda") for _ in range(2))
    a, b, c = (torch.ones(256, device="cuda") for _ in range(3))
    kernel, jit = kpack.load(library)["args7"], jit_kernel()
    calls: dict[str, Call] = {
        "kpack, Python": lambda: kernel(out, p0, p1, *NUMBERS),
        f"Triton {sys.modules['triton'].__version__}, kernel[grid](...)": lambda: jit[(1,)](
            out, p0, p1, *NUMBERS, num_warps=1
        ),
    }
    others: dict[str, list[float]] = {}
    if (tvm := tvm_ffi_module(jit[(1,)](out, p0, p1, *NUMBERS, num_warps=1))) is not None:
        module, version = tvm
        launch = module.launch_args7
        calls[f"apache-tvm-ffi {version}, cubin launcher, Python"] = lambda: launch(out, p0, p1, *NUMBERS)
        others[f"apache-tvm-ffi {version}, cubin launcher, C++"] = []
    else:
        print("apache-tvm-ffi: left out, expected its wheel in build/wheels, got none")
    for name, call in calls.items():
        check(name, out, call)
    calls[f"torch {torch.__version__}, torch.add(a, b, out=c)"] = lambda: torch.add(a, b, out=c)

    found: dict[str, list[float]] = {name: [] for name in calls} | others
    for turn in range(BATCHES + 20):
        for name, call in calls.items():
            found[name].append(batch_ns(call))
        for name in others:
            found[name].append(module.time_from_cpp(out, p0, p1, LAUNCHES))
            torch.cuda.synchronize()
        if turn == 19:  # warm by now
            found = {name: [] for name in found}
    return found


def cpp_figures(path: Path) -> dict[str, float]:
    """What launch_overhead measured for this kernel: medians by name."""
    if not path.exists():
        print(f"{path}: expected figures of launch_overhead, got no file")
        return {}
    ways: dict[str, list[float]] = {}
    for run in json.loads(path.read_text()):
        for way in run["ways"]:
            if way["arguments"] == 7:
                ways.setdefault(f"kpack's launch_overhead: {way['name']}", []).append(way["median_ns"])
    return {name: statistics.median(figures) for name, figures in ways.items()}


def machine() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--cpp", type=Path, default=HERE / "results" / "launch_overhead.json")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    rows = [f"| {name} | {ns:.0f} | | |" for name, ns in cpp_figures(options.cpp).items()]
    for name, values in sorted(measure(options.library).items(), key=lambda item: statistics.median(item[1])):
        tenths = statistics.quantiles(values, n=10)
        rows.append(f"| {name} | {statistics.median(values):.0f} | {tenths[0]:.0f} | {tenths[8]:.0f} |")
    lines = [
        "# Host time of one launch, beside others",
        "",
        f"{machine()}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}; a kernel with 7 arguments; {BATCHES} batches of "
        f"{LAUNCHES} launches each, in turns in one process; nanoseconds",
        "",
        "| launch | median | 10 % | 90 % |",
        "|---|---:|---:|---:|",
        *rows,
        "",
    ]
    (options.results / "launch_peers.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
