"""rms_norm, layer_norm, their gradients and softmax's, as kpack launches them: against torch in float64, on a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

DTYPES = ["float16", "bfloat16", "float32", "float64"]
WIDTHS = [
    1,
    8,
    63,
    64,
    100,
    256,
    1000,
    1024,
    2048,
    3072,
    4096,
    5000,
    5120,
    8192,
    12288,
    16384,
    20000,
    32768,
    50264,
]
NAMES = ["rms_norm", "layer_norm"]
ROWS = 301
PARTS = 132
EPS = 1e-5
RTOL = {"float16": 2**-9, "bfloat16": 2**-6, "float32": 5e-5, "float64": 1e-12}
UNTOUCHED = 7.0

Kernels = dict[str, Callable[..., object]]


@pytest.fixture(scope="module")
def kernels(library: Path) -> Kernels:
    from kpack.runtime import load

    pack = load(library)
    names = [*NAMES, *(f"{name}_backward" for name in NAMES), "column_sums"]
    names += ["softmax_backward", "log_softmax", "log_softmax_backward"]
    return {name: pack[name] for name in names}


def assert_close(got: torch.Tensor, want: torch.Tensor, rtol: float, size: float) -> None:
    """Each element within rtol of itself, or of `size`, of what it is a sum of."""
    import torch

    torch.testing.assert_close(got.double(), want, rtol=rtol, atol=rtol * size)


def random(torch: Any, dtype: str, *shape: int, gap: int = 0) -> Any:
    """With `gap` elements behind each row."""
    made = torch.randn(*shape[:-1], shape[-1] + gap, device="cuda", dtype=torch.float64)
    return made.to(getattr(torch, dtype))[..., : shape[-1]]


@pytest.mark.parametrize(
    ("name", "dtype", "width", "gap"),
    [
        *itertools.product(NAMES, DTYPES, WIDTHS, [0]),
        *itertools.product(NAMES, ["float16", "float32", "float64"], [64, 1000, 5120, 20000], [3, 16]),
    ],
    ids=str,
)
def test_norms_and_their_gradients_are_torchs(
    kernels: Kernels, name: str, dtype: str, width: int, gap: int
) -> None:
    import torch

    x, dy = random(torch, dtype, ROWS, width, gap=gap), random(torch, dtype, ROWS, width, gap=gap)
    weight, bias = random(torch, dtype, 2, width)
    whole_out, whole_dx = torch.full((2, ROWS + 1, width + gap), UNTOUCHED, device="cuda", dtype=x.dtype)
    wide = torch.float64 if dtype == "float64" else torch.float32
    mean, rstd = torch.empty(2, ROWS, device="cuda", dtype=wide)
    parts, bias_parts = torch.full((2, PARTS, width), float("nan"), device="cuda", dtype=wide)
    dweight, dbias = torch.empty(2, width, device="cuda", dtype=x.dtype)
    stride = width + gap
    numbers, back = (stride, stride, width, EPS, ROWS), (stride, stride, stride, width, ROWS, PARTS)
    reference = [each.double().requires_grad_() for each in (x, weight, bias)]
    if name == "layer_norm":
        kernels[name](whole_out, x, weight, bias, mean, rstd, *numbers)
        kernels["layer_norm_backward"](whole_dx, parts, bias_parts, dy, x, weight, mean, rstd, *back)
        kernels["column_sums"](dbias, bias_parts, width, PARTS)
        out = torch.nn.functional.layer_norm(reference[0], (width,), *reference[1:], EPS)
        variance = reference[0].var(-1, correction=0)
    else:
        kernels[name](whole_out, x, weight, rstd, *numbers)
        kernels["rms_norm_backward"](whole_dx, parts, dy, x, weight, rstd, *back)
        out = torch.nn.functional.rms_norm(reference[0], (width,), reference[1], EPS)
        variance = reference[0].square().mean(-1)
    kernels["column_sums"](dweight, parts, width, PARTS)
    out.backward(dy.double())

    rtol = RTOL[dtype]
    scale = (variance + EPS).rsqrt().detach()
    of_rows = min(5e-5, rtol)
    assert_close(rstd, scale, of_rows, 1.0)
    assert_close(whole_out[:ROWS, :width], out.detach(), rtol, out.abs().max().item())
    terms = (dy.double() * weight.double() * scale[:, None]).abs().max().item()
    assert_close(whole_dx[:ROWS, :width], reference[0].grad, rtol, terms)
    assert_close(dweight, reference[1].grad, rtol, max(1.0, reference[1].grad.abs().max().item()))
    if name == "layer_norm":
        assert_close(mean, reference[0].detach().mean(-1), of_rows, 1.0)
        assert_close(dbias, reference[2].grad, rtol, max(1.0, reference[2].grad.abs().max().item()))
    for whole in (whole_out, whole_dx):
        assert (whole[ROWS] == UNTOUCHED).all()
        assert (whole[:, width:] == UNTOUCHED).all()


@pytest.mark.parametrize(
    ("dtype", "width"), list(itertools.product(DTYPES, [1, 7, 64, 1000, 5120, 30000, 70000]))
)
def test_log_softmax_and_both_gradients_are_torchs(kernels: Kernels, dtype: str, width: int) -> None:
    import torch

    x, dy = random(torch, dtype, ROWS, width), random(torch, dtype, ROWS, width)
    rtol = RTOL[dtype]
    out, dx = torch.empty(2, ROWS, width, device="cuda", dtype=x.dtype)
    kernels["log_softmax"](out, x, width, width, width, ROWS)
    assert_close(out, torch.log_softmax(x.double(), -1), rtol, 1.0)
    y, df = out.double(), dy.double()
    kernels["log_softmax_backward"](dx, out, dy, width, width, width, width, ROWS)
    want = df - y.exp() * df.sum(-1, keepdim=True)
    assert_close(dx, want, rtol, max(1.0, want.abs().max().item()))
    y = torch.softmax(x.double(), -1).to(x.dtype)
    kernels["softmax_backward"](dx, y, dy, width, width, width, width, ROWS)
    want = y.double() * (df - (y.double() * df).sum(-1, keepdim=True))
    assert_close(dx, want, rtol, want.abs().max().item())
