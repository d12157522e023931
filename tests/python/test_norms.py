"""rms_norm and layer_norm compute what torch does, in float64, forward and backward: in Triton's interpreter."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the process that interprets

torch = pytest.importorskip("torch", reason="torch is what the norms are compared with")

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
NAMES = ["rms_norm", "layer_norm"]
ROWS, PARTS = 5, 2
EPS = 2**-17  # which is exact: the interpreter makes float32 of a number
WIDTHS = [1, 2, 63, 64, 100, 256, 1000, 2048, 4095, 5120, 12288, 20480, 50264]
# Elements from the end of one row to the start of the next, of what is read and of what is written.
GAPS = {"contiguous": (0, 0), "padded": (64, 16), "odd": (1, 7)}
# Of forward: one rounding of the type. Of what is summed: relative to the longest of the terms.
RTOL = {"fp16": 2**-9, "bf16": 2**-6, "fp32": 2e-5, "fp64": 1e-13}
UNTOUCHED = 7.0


class Case(NamedTuple):
    name: str
    dtype: str
    width: int
    gaps: str

    def __str__(self) -> str:
        return f"{self.name}-{self.dtype}-{self.width}-{self.gaps}"


CASES = [Case(name, "fp16", width, "contiguous") for name, width in itertools.product(NAMES, WIDTHS)]
CASES += [Case(name, "fp32", width, "contiguous") for name, width in itertools.product(NAMES, WIDTHS[::2])]
CASES += [Case(name, "bf16", width, "contiguous") for name, width in itertools.product(NAMES, [100, 5120])]
CASES += [Case(name, "fp64", width, "contiguous") for name, width in itertools.product(NAMES, WIDTHS)]
CASES += [
    Case(*case) for case in itertools.product(NAMES, ["fp16", "fp32", "fp64"], [63, 5120], ["padded", "odd"])
]
# Backward by each variant that takes it, with so many rows for so many programs: they take turns.
TURNS = [(70, 1000, 2), (7, 100, 8)]
# Rows whose mean is large beside what differs in them: a sum of squares would lose it.
SHIFTED = [Case(name, "fp32", width, "shifted") for name in NAMES for width in (64, 5120, 50264)]


def computed_in(case: Case) -> torch.dtype:
    return torch.float64 if case.dtype == "fp64" else torch.float32


class Inputs(NamedTuple):
    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    dy: torch.Tensor


def inputs(case: Case) -> Inputs:
    generator = torch.Generator().manual_seed(case.width)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DTYPES[case.dtype])

    x = random(ROWS, case.width)
    if case.gaps == "shifted":
        x = x + 1000
    return Inputs(x, random(case.width), random(case.width), random(ROWS, case.width))


def expected(case: Case) -> dict[str, torch.Tensor]:
    """By torch and autograd, in float64."""
    x, weight, bias, dy = (part.double() for part in inputs(case))
    for part in (x, weight, bias):
        part.requires_grad_()
    if case.name == "layer_norm":
        out = torch.nn.functional.layer_norm(x, (case.width,), weight, bias, EPS)
        mean, variance = x.mean(-1), x.var(-1, correction=0)
    else:
        out = torch.nn.functional.rms_norm(x, (case.width,), weight, EPS)
        mean, variance = torch.zeros(ROWS), x.square().mean(-1)
    out.backward(dy)
    found = {"out": out, "rstd": torch.rsqrt(variance + EPS), "dx": x.grad, "dweight": weight.grad}
    if case.name == "layer_norm":
        found |= {"mean": mean, "dbias": bias.grad}
    return {name: value.detach() for name, value in found.items()}


# ---- in the process that interprets


def interpret(kernels: dict[str, Any], case: Case) -> dict[str, torch.Tensor]:
    """What the kernels leave in memory that was UNTOUCHED, gaps included."""
    from interpreted import POISON, launch, padded

    x, weight, bias, dy = inputs(case)
    in_gap, out_gap = GAPS.get(case.gaps, (0, 0))
    source, dy = padded(x, in_gap, POISON), padded(dy, in_gap, POISON)
    out = padded(torch.full_like(x, UNTOUCHED), out_gap, UNTOUCHED)
    dx = out.clone()
    wide = computed_in(case)
    mean, rstd = torch.full((2, ROWS), UNTOUCHED, dtype=wide)
    parts, bias_parts = torch.full((2, PARTS, case.width), UNTOUCHED, dtype=wide)
    dweight, dbias = torch.full((2, case.width), UNTOUCHED, dtype=x.dtype)

    def add_up(sums: torch.Tensor, shares: torch.Tensor) -> None:
        if case.width > 1000:  # whose thousands of programs would take the interpreter minutes
            sums.copy_(shares.sum(0))
        else:
            launch(kernels["column_sums"], sums, shares, case.width, PARTS)

    numbers = (source.stride(0), out.stride(0), case.width, EPS, ROWS)
    back = (out.stride(0), dy.stride(0), source.stride(0), case.width, ROWS, PARTS)
    found = {"out": out, "rstd": rstd, "dx": dx, "dweight": dweight}
    if case.name == "layer_norm":
        launch(kernels["layer_norm"], out, source, weight, bias, mean, rstd, *numbers)
        launch(kernels["layer_norm_backward"], dx, parts, bias_parts, dy, source, weight, mean, rstd, *back)
        add_up(dbias, bias_parts)
        found |= {"mean": mean, "dbias": dbias}
    else:
        launch(kernels["rms_norm"], out, source, weight, rstd, *numbers)
        launch(kernels["rms_norm_backward"], dx, parts, dy, source, weight, rstd, *back)
    add_up(dweight, parts)
    return found


def shares(kernel: Any, rows: int, width: int, parts: int) -> list[tuple[torch.Tensor, ...]]:
    """What each variant of layer_norm_backward leaves: dx and the parts of both gradients."""
    from interpreted import launch_each

    x, dy, weight, mean, rstd = gradient_inputs(rows, width)
    found = []
    dx, dweights, dbiases = (torch.full(shape, UNTOUCHED) for shape in ((rows, width), *[(parts, width)] * 2))
    numbers = (width, width, width, width, rows, parts)
    for _ in launch_each(kernel, dx, dweights, dbiases, dy, x, weight, mean, rstd, *numbers):
        found.append((dx.clone(), dweights.clone(), dbiases.clone()))
        for left in (dx, dweights, dbiases):
            left.fill_(UNTOUCHED)
    return found


def gradient_inputs(rows: int, width: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    x, dy = torch.randn(2, rows, width, generator=generator)
    weight = torch.randn(width, generator=generator)
    return x, dy, weight, x.mean(-1), torch.rsqrt(x.var(-1, correction=0) + EPS)


def interpret_all(results: Path) -> None:
    from interpreted import load

    kernels = {}
    for name in (*NAMES, "column_sums"):
        module = load(name)
        kernels |= {
            kernel: getattr(module, kernel)
            for kernel in (name, f"{name}_backward")
            if hasattr(module, kernel)
        }
    found: dict[str, Any] = {str(case): interpret(kernels, case) for case in CASES + SHIFTED}
    found |= {str(turns): shares(kernels["layer_norm_backward"], *turns) for turns in TURNS}
    torch.save(found, results)


# ---- in pytest's process


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All results by name. TRITON_INTERPRET counts when triton is imported, so not in this process."""
    results = tmp_path_factory.mktemp("norms") / "results.pt"
    done = subprocess.run(
        [sys.executable, __file__, results],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = torch.load(results)
    return loaded


def assert_close(got: torch.Tensor, want: torch.Tensor, rtol: float, size: float) -> None:
    """Each element within rtol of itself, or of `size`, of what it is a sum of."""
    torch.testing.assert_close(got.double(), want, rtol=rtol, atol=rtol * size)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_norms_are_torchs_and_leave_the_gaps_alone(
    case: Case, interpreted: dict[str, dict[str, torch.Tensor]]
) -> None:
    found, wanted = interpreted[str(case)], expected(case)
    _, weight, _, dy = inputs(case)
    # dx is a difference of terms of this size, which may be far larger than it is.
    terms = (dy.double() * weight.double() * wanted["rstd"][:, None]).abs().max().item()
    for name, want in wanted.items():
        got = found[name]
        if name in ("out", "dx"):
            assert (got[:, case.width :] == UNTOUCHED).all()
            got = got[:, : case.width]
        size = terms if name == "dx" else max(1.0, want.abs().max().item())
        of_rows = name in ("mean", "rstd")
        assert_close(got, want, min(2e-5, RTOL[case.dtype]) if of_rows else RTOL[case.dtype], size)


@pytest.mark.parametrize("case", SHIFTED, ids=str)
def test_a_large_mean_costs_no_digits_of_the_variance(
    case: Case, interpreted: dict[str, dict[str, torch.Tensor]]
) -> None:
    found, wanted = interpreted[str(case)], expected(case)
    assert_close(found["rstd"], wanted["rstd"], 1e-4, 1.0)
    # x itself has no more digits: 1000 in float32 is known to 6e-5.
    torch.testing.assert_close(found["out"].double(), wanted["out"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("turns", TURNS, ids=str)
def test_all_variants_leave_the_same_shares_of_all_rows(
    turns: tuple[int, int, int], interpreted: dict[str, Any]
) -> None:
    rows, width, _ = turns
    left = interpreted[str(turns)]
    assert len(left) > 3
    for results in left[1:]:
        for got, first in zip(results, left[0], strict=True):
            torch.testing.assert_close(got, first, rtol=1e-5, atol=1e-4)
    x, dy, _, mean, rstd = gradient_inputs(rows, width)
    _, dweights, dbiases = left[0]
    normal = (x - mean[:, None]) * rstd[:, None]
    torch.testing.assert_close(dweights.sum(0), (dy * normal).sum(0), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(dbiases.sum(0), dy.sum(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["fp16", "fp64"])
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_beside_the_kernel_agrees(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(name, dtype, 1000, "contiguous")
    from interpreted import load

    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "kernels")
    x, weight, bias, _ = inputs(case)
    parameters = (weight, bias) if name == "layer_norm" else (weight,)
    got = load(name).reference(x, *parameters, EPS)
    want = expected(case)["out"]
    assert got.dtype == DTYPES[dtype]
    assert_close(got, want, RTOL[dtype], want.abs().max().item())


if __name__ == "__main__":
    interpret_all(Path(sys.argv[1]))
