"""softmax and log_softmax compute what torch does, forward and backward: in Triton's interpreter, on the CPU."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the process that interprets

torch = pytest.importorskip("torch", reason="torch is what softmax is compared with")

ROWS = 3
WIDTHS = [
    1,
    2,
    8,
    63,
    127,
    128,
    250,
    500,
    1000,
    1023,
    1024,
    1025,
    1400,
    2048,
    3000,
    4096,
    5000,
    8192,
    10000,
    12000,
]
WIDTHS += [16384, 20000, 32767, 50264, 65536, 70000]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
# How far apart two results may be: one rounding of the type; absolute where fp16 has no more digits left.
RTOL = {"fp16": 2**-10, "bf16": 2**-7, "fp32": 1e-5, "fp64": 1e-13}
ATOL = {"fp16": 2**-24, "bf16": 1e-30, "fp32": 1e-30, "fp64": 1e-30}
# Elements from the end of one row to the start of the next, in the input and in the output.
GAPS = {"contiguous": (0, 0), "padded": (64, 16), "odd": (1, 7), "alike": (3, 3)}
UNTOUCHED = 7.0  # what lies where the kernel has nothing to write
NAN = float("nan")

INF = float("inf")
SPECIAL = {
    "all -inf": [-INF, -INF, -INF, -INF, -INF],
    "one inf": [1.0, INF, 0.0, -1.0, 2.0],
    "two inf": [INF, 0.0, INF, -1.0, 2.0],
    "inf and -inf": [INF, -INF, 0.0, 0.0, 0.0],
    "one nan": [0.0, 1.0, 2.0, NAN, -1.0],
    "nan last": [0.0, 1.0, 2.0, 3.0, NAN],
    "all nan": [NAN] * 5,
    "nan among -inf": [-INF, -INF, NAN, -INF, -INF],
    "nan and inf": [INF, NAN, 0.0, 0.0, 0.0],
    "some -inf": [-INF, 1.0, -INF, 2.0, 3.0],
    "all but one -inf": [-INF, -INF, 5.0, -INF, -INF],
    "the largest": [60000.0, 60000.0, -60000.0, 0.0, 59968.0],
    "all equal": [-3.0, -3.0, -3.0, -3.0, -3.0],
}
# Where the sum of exponentials is inf - inf, torch has NaN in the whole row.
ALL_NAN = ["all -inf", "one inf", "two inf", "inf and -inf", "one nan", "nan last", "all nan"]
ALL_NAN += ["nan among -inf", "nan and inf"]


NAMES = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}
# Where the few values of SPECIAL lie, among -inf: by tile of rows, in registers and in a loop, aligned and not.
SPECIAL_WIDTHS = [5, 16, 2000, 2001, 60000, 60001]


class Case(NamedTuple):
    name: str
    dtype: str
    width: int
    gaps: str

    def __str__(self) -> str:
        return f"{self.name}-{self.dtype}-{self.width}-{self.gaps}"


CASES = [Case("softmax", *case) for case in itertools.product(["fp16", "bf16", "fp32"], WIDTHS, GAPS)]
CASES += [Case("softmax", "fp64", *case) for case in itertools.product(WIDTHS, ["contiguous", "odd"])]
CASES += [
    Case("log_softmax", *case) for case in itertools.product(DTYPES, WIDTHS[::3], ["contiguous", "odd"])
]
BACKWARD = [Case(*case) for case in itertools.product(NAMES, DTYPES, WIDTHS[::2], ["contiguous", "odd"])]
FAR_APART = Case("softmax", "fp16", 100, "contiguous")
MANY_ROWS = [Case("softmax", dtype, width, "contiguous") for dtype in DTYPES for width in (7, 8, 130)]


def random_rows(case: Case, rows: int = ROWS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(case.width)
    random = torch.randn(rows, case.width, generator=generator, dtype=torch.float64)
    return random.mul(4).to(DTYPES[case.dtype])


def special_rows(dtype: str, width: int) -> torch.Tensor:
    rows = torch.full((len(SPECIAL), width), -INF)
    rows[:, [0, 1, width // 2, width - 2, width - 1]] = torch.tensor(list(SPECIAL.values()))
    return rows.to(DTYPES[dtype])


def gradient_of(case: Case) -> torch.Tensor:
    generator = torch.Generator().manual_seed(case.width + 1)
    random = torch.randn(ROWS, case.width, generator=generator, dtype=torch.float64)
    return random.to(DTYPES[case.dtype])


# ---- in the process that interprets


def interpret(kernels: dict[str, Any], name: str, x: torch.Tensor, gaps: str) -> torch.Tensor:
    """What the kernel leaves in memory that was UNTOUCHED, gaps included."""
    from interpreted import POISON, launch, padded

    width = x.shape[1]
    in_gap, out_gap = GAPS[gaps]
    source = padded(x, in_gap, POISON)
    out = padded(torch.full_like(x, UNTOUCHED), out_gap, UNTOUCHED)
    launch(kernels[name], out, source, source.stride(0), out.stride(0), width, len(out))
    return out


def interpret_backward(kernels: dict[str, Any], case: Case) -> torch.Tensor:
    from interpreted import POISON, launch, padded

    in_gap, out_gap = GAPS[case.gaps]
    y = padded(NAMES[case.name](random_rows(case).double(), dim=-1).to(DTYPES[case.dtype]), in_gap, POISON)
    dy = padded(gradient_of(case), in_gap, POISON)
    dx = padded(torch.full((ROWS, case.width), UNTOUCHED).to(y.dtype), out_gap, UNTOUCHED)
    strides = (dx.stride(0), y.stride(0), dy.stride(0))
    launch(kernels[f"{case.name}_backward"], dx, y, dy, *strides, case.width, ROWS)
    return dx


def interpret_far_apart(kernels: dict[str, Any]) -> torch.Tensor:
    """Rows 2^30 elements apart, in place: the third begins at 2^31. Only the pages in use are ever there."""
    from interpreted import launch

    stride, width = 2**30, 100
    memory = torch.empty(2 * stride + width, dtype=torch.float16)
    rows = memory.as_strided((ROWS, width), (stride, 1))
    rows.copy_(random_rows(FAR_APART))
    launch(kernels["softmax"], rows, rows, stride, stride, width, ROWS)
    return rows.clone()


def interpret_all(results: Path) -> None:
    from interpreted import load

    kernels = {
        name: getattr(load(file), name)
        for file, name in [
            ("softmax", "softmax"),
            ("softmax_backward", "softmax_backward"),
            ("log_softmax", "log_softmax"),
            ("log_softmax", "log_softmax_backward"),
        ]
    }
    found = {str(case): interpret(kernels, case.name, random_rows(case), case.gaps) for case in CASES}
    found |= {f"backward-{case}": interpret_backward(kernels, case) for case in BACKWARD}
    for name, dtype, width in itertools.product(NAMES, DTYPES, SPECIAL_WIDTHS):
        rows = special_rows(dtype, width)
        found[f"special-{name}-{dtype}-{width}"] = interpret(kernels, name, rows, "contiguous")
    for case in MANY_ROWS:
        found[f"many-{case}"] = interpret(kernels, case.name, random_rows(case, 300), case.gaps)
    found["far apart"] = interpret_far_apart(kernels)
    torch.save(found, results)


# ---- in pytest's process


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """All results by name. TRITON_INTERPRET counts when triton is imported, so not in this process."""
    results = tmp_path_factory.mktemp("softmax") / "results.pt"
    done = subprocess.run(
        [sys.executable, __file__, results],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, torch.Tensor] = torch.load(results)
    return loaded


def assert_softmax(name: str, got: torch.Tensor, x: torch.Tensor, dtype: str) -> None:
    # Not by the reference beside the kernel: one mistake in both would go unseen.
    expected = NAMES[name](x.double(), dim=-1).to(x.dtype)
    # A logarithm is a difference: its error does not shrink with it.
    atol = ATOL[dtype] if name == "softmax" else 1e-13 if dtype == "fp64" else 4e-6
    torch.testing.assert_close(got, expected, rtol=RTOL[dtype], atol=atol, equal_nan=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_softmax_is_torchs_and_leaves_the_gaps_alone(
    case: Case, interpreted: dict[str, torch.Tensor]
) -> None:
    out = interpreted[str(case)]
    assert out.shape == (ROWS, case.width + GAPS[case.gaps][1])
    assert_softmax(case.name, out[:, : case.width], random_rows(case), case.dtype)
    assert (out[:, case.width :] == UNTOUCHED).all()


@pytest.mark.parametrize("case", MANY_ROWS, ids=str)
def test_more_rows_than_a_program_has(case: Case, interpreted: dict[str, torch.Tensor]) -> None:
    assert_softmax(case.name, interpreted[f"many-{case}"], random_rows(case, 300), case.dtype)


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("width", SPECIAL_WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_inf_and_nan_are_torchs(
    name: str, dtype: str, width: int, special: str, interpreted: dict[str, torch.Tensor]
) -> None:
    row = list(SPECIAL).index(special)
    got = interpreted[f"special-{name}-{dtype}-{width}"][row]
    assert_softmax(name, got, special_rows(dtype, width)[row], dtype)
    assert got.isnan().all() == (special in ALL_NAN)


def test_rows_beyond_2_31_elements(interpreted: dict[str, torch.Tensor]) -> None:
    assert_softmax("softmax", interpreted["far apart"], random_rows(FAR_APART), "fp16")


@pytest.mark.parametrize("case", BACKWARD, ids=str)
def test_the_gradient_is_torchs_and_leaves_the_gaps_alone(
    case: Case, interpreted: dict[str, torch.Tensor]
) -> None:
    x = random_rows(case).double().requires_grad_()
    y = NAMES[case.name](x, dim=-1)
    # Of the y that the kernel was given, which is rounded.
    rounded = y.detach().to(DTYPES[case.dtype]).double()
    dy = gradient_of(case).double()
    if case.name == "softmax":
        expected = rounded * (dy - (rounded * dy).sum(-1, keepdim=True))
    else:
        expected = dy - rounded.exp() * dy.sum(-1, keepdim=True)
    got = interpreted[f"backward-{case}"]
    assert (got[:, case.width :] == UNTOUCHED).all()
    largest = expected.abs().max().item()
    torch.testing.assert_close(
        got[:, : case.width].double(), expected, rtol=RTOL[case.dtype], atol=RTOL[case.dtype] * largest
    )
    # And that is autograd's, as near as rounding leaves it.
    y.backward(dy)
    assert (x.grad - expected).norm() <= 0.05 * max(x.grad.norm(), 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_beside_the_kernel_agrees(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interpreted import KERNELS, load

    monkeypatch.syspath_prepend(KERNELS)
    x = random_rows(Case(name, dtype, 1000, ""))
    assert_softmax(name, load(name).reference(x), x, dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("fp64", 1e-13)])
def test_the_reference_of_the_gradient_agrees(
    dtype: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interpreted import KERNELS, load

    monkeypatch.syspath_prepend(KERNELS)
    x = torch.randn(3, 100, dtype=torch.float64, requires_grad=True)
    y = torch.softmax(x, dim=-1)
    dy = torch.randn(3, 100, dtype=torch.float64)
    y.backward(dy)
    got = load("softmax_backward").reference(y.detach().to(DTYPES[dtype]), dy.to(DTYPES[dtype]))
    assert got.dtype == DTYPES[dtype]
    torch.testing.assert_close(got.double(), x.grad, rtol=tolerance, atol=tolerance / 10)


if __name__ == "__main__":
    interpret_all(Path(sys.argv[1]))
