"""The examples on a GPU, built as their users build them, but from archives that `make archives` has made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from kpack.paths import include_dir, library_path

ROOT = Path(__file__).parents[2]
ARCHIVES = ROOT / "build" / "archives" / "examples"
WHEELS = ROOT / "build" / "wheels"


class Example:
    """A copy of examples/<name> with what was made ready for it."""

    def __init__(self, name: str, root: Path) -> None:
        assert (ARCHIVES / name).is_dir(), f"{ARCHIVES / name}: expected from `make archives`"
        self.folder = root / name
        shutil.copytree(ROOT / "examples" / name, self.folder)
        (root / "quickstart").symlink_to(ROOT / "examples" / "quickstart")
        shutil.copytree(ARCHIVES / name, self.folder, dirs_exist_ok=True)
        self.ready = [
            path.relative_to(ARCHIVES / name) for path in (ARCHIVES / name).rglob("*") if path.is_file()
        ]

    def run(self, *command: object, environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            list(map(str, command)),
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def make(self, *words: str) -> None:
        """As its Makefile does it; the archives are not made again, for that takes the `kpack` command."""
        ready = [f"--old-file={path}" for path in self.ready]
        flags = f"KPACK_CFLAGS=-I{include_dir()}", f"KPACK_LIBS={library_path()} -ldl -lpthread"
        self.run("make", *ready, *flags, f"PYTHON={sys.executable}", *words)


@pytest.fixture
def example(library: Path, tmp_path: Path) -> Callable[[str], Example]:
    return lambda name: Example(name, tmp_path)


def test_c(example: Callable[[str], Example]) -> None:
    program = example("c")
    program.make("axpy")
    printed = program.run("./axpy")
    assert printed.startswith("axpy of 1000000 numbers: -998.999 + 2.5 * 999.999 = 1501, largest error ")


def test_rust(library: Path, tmp_path: Path) -> None:
    if not (ARCHIVES / "rust").is_dir():
        pytest.skip("examples/rust, which `make archives` builds where there is a rustc")
    program = Example("rust", tmp_path)
    program.run("chmod", "+x", "row_sum")
    assert program.run("./row_sum") == "row_sum of 1000 x 777 numbers: 4720.625 ... 4964.75\n"


def test_plugin(example: Callable[[str], Example]) -> None:
    host = example("plugin")
    host.make("all")
    mine = "the host's effect: f(0) = 0, f(999) = 1998\n"
    other = "the plugin's effect: f(0) = 100, f(999) = 1099\n"
    twice = 2 * (other + mine + "unloaded and closed: gone\n")
    kept = other + "closed, but not unloaded: still mapped\n" + mine
    assert host.run("./host", "./plugin.so") == mine + twice + kept


def test_migration(example: Callable[[str], Example]) -> None:
    programs = example("migration")
    programs.make("all")
    programs.run(sys.executable, "before.py", "before.bin")
    programs.run(sys.executable, "after.py", "after.bin")
    programs.run("./after", "after_cc.bin")
    before, after, after_cc = (
        np.fromfile(programs.folder / name, np.float32)
        for name in ("before.bin", "after.bin", "after_cc.bin")
    )
    assert before.size == 64 * 256 + 37 * 1000 + 3 * 4096
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)  # of two releases of Triton, maybe
    np.testing.assert_array_equal(after_cc, after)


def test_onnxruntime(example: Callable[[str], Example]) -> None:
    operator = example("onnxruntime")
    environment = {}
    if find_spec("onnxruntime") is None:
        wheels = sorted(WHEELS.glob("onnxruntime-*.whl"))
        if not wheels:
            pytest.skip("onnxruntime: not installed, and no wheel of it in build/wheels")
        zipfile.ZipFile(wheels[-1]).extractall(operator.folder / "site")
        environment = {
            "PYTHONPATH": f"{operator.folder / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        }
    operator.make(f"ORT_INCLUDE={ROOT / 'tests' / 'examples' / 'ort'}", "libkpack_softmax.so")
    printed = operator.run(sys.executable, "run.py", "./libkpack_softmax.so", environment=environment)
    assert printed.splitlines() == [
        f"softmax of {shape} {dtype} numbers: as numpy's"
        for dtype in ("float32", "float16")
        for shape in ("1 x 1", "37 x 1000", "64 x 4096", "3 x 65536")
    ]


@pytest.fixture(scope="module")
def torch_op(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    operator = Example("torch_op", tmp_path_factory.mktemp("torch_op"))
    operator.make("softmax_op.so")
    return operator


def test_torch_op_without_triton(torch_op: Example) -> None:
    """Values, gradients, torch.compile and a CUDA graph, where any import of Triton fails."""
    without = "import runpy, sys; sys.modules['triton'] = None; runpy.run_path('run.py', run_name='__main__')"
    printed = torch_op.run(sys.executable, "-c", without)
    assert printed.splitlines() == [
        f"torch.{dtype}: values, gradients, torch.compile (aot_eager) and a CUDA graph as torch.softmax"
        for dtype in ("float32", "float16", "bfloat16")
    ]


def test_torch_op_under_inductor(torch_op: Example) -> None:
    """Whose own kernels are Triton's; reduce-overhead puts them and the operator into one CUDA graph."""
    script = """
import torch, run
x = torch.randn(64, 1000, device="cuda")
run.check_compiled(x, "inductor")
step = torch.compile(run.model, mode="reduce-overhead", fullgraph=True)
for _ in range(4):
    x.normal_()
    run.assert_close(step(x).clone(), torch.softmax(x.double() * 2, dim=-1) + 1)
torch.library.opcheck(run.softmax, (torch.randn(8, 100, device="cuda", requires_grad=True),))
side = torch.cuda.Stream()
side.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(side):
    y = run.softmax(x)
side.synchronize()
run.assert_close(y, torch.softmax(x.double(), dim=-1))
print("done")
"""
    assert torch_op.run(sys.executable, "-c", script).splitlines()[-1] == "done"


def test_torch_op_says_what_a_launch_refuses(torch_op: Example) -> None:
    script = """
import torch, run
try:
    run.softmax(torch.ones(1, 16385, device="cuda", requires_grad=True)).sum().backward()
except RuntimeError as error:
    print(error)
"""
    assert torch_op.run(sys.executable, "-c", script).startswith("softmax_backward: no variant")
