"""softmax from an archive that was built without a GPU computes on one what torch does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kpack.errors

if TYPE_CHECKING:
    import torch

    from kpack.runtime import LoadedKernel

WIDTHS = [
    1,
    2,
    8,
    63,
    127,
    128,
    129,
    250,
    500,
    777,
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
    12000,
    16384,
    20000,
    32767,
    32768,
    50264,
    65535,
    65536,
    100000,
    131071,
    131072,
    200001,
]
DTYPES = ["float16", "bfloat16", "float32", "float64"]
# Elements behind a row, of input and output.
GAPS = {"contiguous": (0, 0), "padded": (64, 16), "odd": (1, 7), "alike": (3, 3)}
ROWS = 37
# One rounding of the type; float32: the sum of up to 200,001 powers in another order, and a fast exp.
RTOL = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2e-5, "float64": 1e-12}
ATOL = {"float16": 2**-24, "bfloat16": 1e-30, "float32": 1e-30, "float64": 1e-30}
UNTOUCHED = 7.0
INF, NAN = float("inf"), float("nan")


@pytest.fixture(scope="module")
def softmax(library: Path) -> LoadedKernel:
    from kpack.runtime import load

    return load(library)["softmax"]


@pytest.fixture
def cuda(library: Path) -> Iterator[Any]:
    import torch

    yield torch
    torch.cuda.synchronize()  # a failure belongs to the test that caused it
    torch.cuda.empty_cache()


def expected_of(x: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.softmax(x.double(), dim=-1).to(x.dtype)


def assert_softmax(got: torch.Tensor, x: torch.Tensor, dtype: str) -> None:
    import torch

    torch.testing.assert_close(got, expected_of(x), rtol=RTOL[dtype], atol=ATOL[dtype], equal_nan=True)


@pytest.mark.parametrize(
    ("dtype", "width", "gaps"),
    list(itertools.product(DTYPES, WIDTHS, GAPS)),
    ids=str,
)
def test_softmax_is_torchs_and_leaves_the_gaps_alone(
    cuda: Any, softmax: LoadedKernel, dtype: str, width: int, gaps: str
) -> None:
    in_gap, out_gap = GAPS[gaps]
    source = cuda.full((ROWS, width + in_gap), NAN, device="cuda", dtype=getattr(cuda, dtype))
    source[:, :width] = cuda.randn(ROWS, width, device="cuda", dtype=cuda.float64) * 4
    out = cuda.full((ROWS, width + out_gap), UNTOUCHED, device="cuda", dtype=source.dtype)
    softmax(out, source, source.stride(0), out.stride(0), width, ROWS)
    assert_softmax(out[:, :width], source[:, :width], dtype)
    assert (out[:, width:] == UNTOUCHED).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_pointers_that_are_aligned_to_one_element_only(cuda: Any, softmax: LoadedKernel, dtype: str) -> None:
    memory = cuda.randn(2, 1 + 4 * 1024, device="cuda", dtype=cuda.float64).to(getattr(cuda, dtype))
    x = memory[0][1:].view(4, 1024)
    out = cuda.empty(1 + 4 * 1024, device="cuda", dtype=x.dtype)[1:].view(4, 1024)
    softmax(out, x, 1024, 1024, 1024, 4)
    assert_softmax(out, x, dtype)


@pytest.mark.parametrize(
    ("row", "all_nan"),
    [
        pytest.param([-INF, -INF, -INF, -INF], True, id="all -inf"),
        pytest.param([1.0, INF, 0.0, -1.0], True, id="one inf"),
        pytest.param([INF, -INF, 0.0, 0.0], True, id="inf and -inf"),
        pytest.param([0.0, 1.0, 2.0, NAN], True, id="nan last"),
        pytest.param([-INF, NAN, -INF, -INF], True, id="nan among -inf"),
        pytest.param([-INF, 1.0, -INF, 3.0], False, id="some -inf"),
        pytest.param([60000.0, 59968.0, -60000.0, 0.0], False, id="the largest"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_inf_and_nan_are_torchs(
    cuda: Any, softmax: LoadedKernel, dtype: str, row: list[float], all_nan: bool
) -> None:
    x = cuda.tensor([row], device="cuda", dtype=getattr(cuda, dtype))
    out = cuda.empty_like(x)
    softmax(out, x, 4, 4, 4, 1)
    assert_softmax(out, x, dtype)
    assert out.isnan().all() if all_nan else out.isfinite().all()


def test_more_than_2_31_elements(cuda: Any, softmax: LoadedKernel) -> None:
    rows, width = 2**15 + 3, 2**16
    if cuda.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("12 GiB of free device memory")
    x = cuda.empty(rows, width, device="cuda", dtype=cuda.float16).normal_()
    out = cuda.empty_like(x)
    assert x.numel() > 2**31
    softmax(out, x, width, width, width, rows)
    some = [0, 1, rows // 2, 2**15 - 1, 2**15, rows - 1]  # both sides of element 2^31, and the ends
    assert_softmax(out[some], x[some], "float16")


def test_a_stream_of_ones_own(cuda: Any, softmax: LoadedKernel) -> None:
    x = cuda.randn(64, 1024, device="cuda")
    out = cuda.empty_like(x)
    stream = cuda.cuda.Stream()
    stream.wait_stream(cuda.cuda.current_stream())
    softmax(out, x, 1024, 1024, 1024, 64, stream=stream)
    stream.synchronize()
    assert_softmax(out, x, "float32")


def test_a_captured_launch_can_be_replayed(cuda: Any, softmax: LoadedKernel) -> None:
    x = cuda.randn(64, 1024, device="cuda")
    out = cuda.empty_like(x)
    softmax(out, x, 1024, 1024, 1024, 64)  # loaded before the capture
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        softmax(out, x, 1024, 1024, 1024, 64, stream=cuda.cuda.current_stream())
    x.normal_()
    graph.replay()
    assert_softmax(out, x, "float32")


def test_no_rows_are_no_launch(cuda: Any, softmax: LoadedKernel) -> None:
    x = cuda.ones(1, 8, device="cuda")
    out = cuda.full_like(x, UNTOUCHED)
    softmax(out, x, 8, 8, 8, 0)
    assert (out == UNTOUCHED).all()


def test_a_wrong_dtype_is_refused_by_name(cuda: Any, softmax: LoadedKernel) -> None:
    x = cuda.ones(1, 8, device="cuda", dtype=cuda.int64)
    with pytest.raises(kpack.errors.LaunchError, match=r"softmax: .*i64"):
        softmax(x, x, 8, 8, 8, 1)


@pytest.mark.parametrize("width", [7, 8, 100, 130, 256, 500])
@pytest.mark.parametrize("dtype", DTYPES)
def test_more_rows_than_a_program_has(cuda: Any, softmax: LoadedKernel, dtype: str, width: int) -> None:
    rows = 1001
    x = cuda.randn(rows, width, device="cuda", dtype=cuda.float64).to(getattr(cuda, dtype))
    out = cuda.full((rows + 1, width), UNTOUCHED, device="cuda", dtype=x.dtype)
    softmax(out, x, width, width, width, rows)
    assert_softmax(out[:rows], x, dtype)
    assert (out[rows] == UNTOUCHED).all()


def test_a_row_too_long_for_every_variant_is_refused(cuda: Any, softmax: LoadedKernel) -> None:
    x = cuda.ones(1, 8, device="cuda")
    with pytest.raises(kpack.errors.LaunchError, match="n_cols <= LONGEST"):
        softmax(x, x, 2**30 + 1, 2**30 + 1, 2**30 + 1, 1)
