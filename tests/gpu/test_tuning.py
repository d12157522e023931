"""The tuner on a device: what is wrong is caught, what crashes is passed over, what is found is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kpack.tuning.offline import tune_shapes
from kpack.tuning.shapes import read_shapes
from kpack.tuning.table import read_table

if TYPE_CHECKING:
    from kpack.runtime import LoadedPack

N = 1 << 20


@pytest.fixture
def kernels(planted_library: Path) -> Iterator[LoadedPack]:
    from kpack.runtime import load, set_tuning

    loaded = load(planted_library)
    yield loaded
    set_tuning(None)


@pytest.fixture
def cuda(planted_library: Path) -> Any:
    import torch

    return torch


@pytest.mark.parametrize("name", ["wrong", "wrong_first"])
def test_what_disagrees_is_left_out_and_remembered(
    cuda: Any, kernels: LoadedPack, name: str, tmp_path: Path
) -> None:
    from kpack.runtime import set_tuning

    table = tmp_path / "tk.csv"
    set_tuning("tune", table=table)
    x = cuda.randn(N, device="cuda")
    out = cuda.full((N,), 3.0, device="cuda")
    kernels[name](out, x, N)  # searches, and then launches what it found
    assert out.equal(2 * x)
    (entry,) = read_table(table).entries
    assert ".BLOCK1024.SLIP1" not in entry.choice and "SLIP1" in entry.left_out and "wrong" in entry.left_out
    again = {trial.name: trial for trial in kernels[name].tune(out, x, N, again=True)}
    (left_out,) = (trial for variant, trial in again.items() if "SLIP1" in variant)
    assert left_out.outcome == "not run" and "wrong" in left_out.reason


def test_a_search_leaves_the_callers_memory_alone(cuda: Any, kernels: LoadedPack) -> None:
    x = cuda.randn(N, device="cuda")
    before, out = x.clone(), cuda.full((N,), 3.0, device="cuda")
    assert any(trial.chosen for trial in kernels["wrong"].tune(out, x, N, again=True))
    assert x.equal(before) and bool((out == 3.0).all())
    assert any(trial.chosen for trial in kernels["wrong"].tune(x, x, N, again=True))  # in place
    assert x.equal(before)


def test_inside_a_capture_nothing_is_searched(cuda: Any, kernels: LoadedPack, tmp_path: Path) -> None:
    from kpack.runtime import set_tuning

    x = cuda.randn(1000, device="cuda")
    out = cuda.zeros(1000, device="cuda")
    kernels["wrong"](out, x, 1000)  # loads
    set_tuning("tune", table=tmp_path / "tk.csv")
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        kernels["wrong"](out, x, 1000, stream=cuda.cuda.current_stream())
    out.zero_()
    graph.replay()
    cuda.cuda.synchronize()
    assert out.equal(2 * x)
    assert not (tmp_path / "tk.csv").exists()


def shapes_of(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "shapes.csv"
    file.write_text(f"# kpack shapes 1\nkernel,call\n{text}\n")
    shapes, problems = read_shapes(file)
    assert not problems
    return shapes


def test_a_crash_costs_the_variant_that_crashed(planted_library: Path, tmp_path: Path) -> None:
    shapes = shapes_of(tmp_path, 'crashing,"out_ptr=*fp32:16 in_ptr=*fp32:16 n=[4096,1048576]"')
    outcomes = tune_shapes(planted_library, shapes, table=tmp_path / "tk.csv", budget_ms=500)
    assert [outcome.error for outcome in outcomes] == ["", ""]
    for outcome in outcomes:
        assert outcome.crashes and outcome.chosen is not None and "SLIP0" in outcome.chosen.name
    for entry in read_table(tmp_path / "tk.csv").entries:
        assert "SLIP2" in entry.left_out and "crashed" in entry.left_out


def test_other_lines_of_a_table_survive(cuda: Any, kernels: LoadedPack, tmp_path: Path) -> None:
    from kpack.runtime import set_tuning

    table = tmp_path / "tk.csv"
    header = "# kpack tuning table 1\nkernel,hash,device,overload,call,choice,median_us,fixed_us,left_out\n"
    foreign = 'wrong,0000000000000001,sm_80/108,"*fp32,*fp32,i64",n=4096,fp32.BLOCK64.w4,1.000,2.000,\n'
    table.write_text(header + foreign + "garbage, more of it\n")
    set_tuning("tune", table=table)
    x = cuda.randn(N, device="cuda")
    kernels["wrong"](cuda.zeros(N, device="cuda"), x, N)
    text = table.read_text()
    assert foreign in text and "garbage" not in text and len(text.splitlines()) == 4
    assert "garbage, more of it" in Path(f"{table}.rejected").read_text()


WORKER = """
import sys, torch
from kpack.runtime import load, set_tuning
set_tuning("tune", table=sys.argv[2], budget_ms=100)
kernel = load(sys.argv[1])["wrong"]
for n in range(int(sys.argv[3]), 4096, 256):
    x = torch.randn(n, device="cuda")
    out = torch.zeros_like(x)
    kernel(out, x, n)
    assert out.equal(2 * x), n
"""


def test_two_processes_lose_nothing(planted_library: Path, tmp_path: Path) -> None:
    table = tmp_path / "tk.csv"
    arguments = [sys.executable, "-P", "-c", WORKER, str(planted_library), str(table)]
    running = [subprocess.Popen([*arguments, str(first)], env=dict(os.environ)) for first in (100, 228)]
    assert [each.wait(120) for each in running] == [0, 0]
    calls = {entry.call.split()[0] for entry in read_table(table).entries}

    def bucket(n: int) -> int:
        step = max(1, 1 << max(0, (n - 1).bit_length() - 3))
        return -(-n // step) * step

    assert calls == {f"n={bucket(n)}" for first in (100, 228) for n in range(first, 4096, 256)}
