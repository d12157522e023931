"""The kernels that the C++ tests launch on fakes, on a GPU: what arrives in a kernel is what was passed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kpack.errors

if TYPE_CHECKING:
    from kpack.runtime import LoadedPack


@pytest.fixture(scope="module")
def kernels(tests_library: Path) -> LoadedPack:
    from kpack.runtime import load

    return load(tests_library)


@pytest.fixture
def cuda(tests_library: Path) -> Any:
    import torch

    return torch


@pytest.mark.parametrize(
    ("dtype", "stride", "offset", "n"),
    list(itertools.product(["float16", "float32"], [1, 3], [0, 1], [1, 128, 1000, 50_000])),
    ids=str,
)
def test_scale_in_every_variant(
    cuda: Any, kernels: LoadedPack, dtype: str, stride: int, offset: int, n: int
) -> None:
    source = cuda.randn(offset + stride * n, device="cuda").to(getattr(cuda, dtype))[offset:]
    out = cuda.zeros(n, device="cuda", dtype=source.dtype)
    kernels["scale"](out, source, 2.5, stride, n)
    cuda.testing.assert_close(out, (source[::stride][:n].float() * 2.5).to(source.dtype))


def test_every_scalar_type_arrives(cuda: Any, kernels: LoadedPack) -> None:
    values = (True, -100, -30_000, -(2**31), 2**40, 200, 60_000, 2**32 - 1, 2**50, 1.5, -2.25, 0.1, 1e-3)
    out = cuda.zeros(1, device="cuda", dtype=cuda.float64)
    kernels["scalars"](out, *values)
    expected = sum(values[:11]) + float(cuda.tensor(0.1, dtype=cuda.float32)) + values[12]
    assert out.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("mode", "fast"), list(itertools.product(["double", "single"], [True, False])), ids=str
)
def test_selected_constexprs(cuda: Any, kernels: LoadedPack, mode: str, fast: bool) -> None:
    out = cuda.zeros(1, device="cuda")
    kernels["choose"](out, 7, mode, fast, 1, 1)
    assert out.item() == 7 * (2 if mode == "double" else 1) + 0.5 * fast


# More than 48 KB of shared memory, and 208 KB of it on sm_90.
@pytest.mark.parametrize(("name", "size"), [("product", 128), ("big_shared", 64)])
def test_shared_memory_that_is_opted_into(cuda: Any, kernels: LoadedPack, name: str, size: int) -> None:
    a, b = (cuda.randn(20, size, size, device="cuda").half() for _ in range(2))
    out = cuda.zeros(size, size, device="cuda")
    kernels[name](out, a, b, 20)
    cuda.testing.assert_close(out, (a.float() @ b.float()).sum(0), rtol=1e-3, atol=1e-1)


# As tests/cpp/kernels.py declares them: pointers to fp32, i32, i64, fp32.
@pytest.mark.parametrize(
    ("name", "counts"), [("args7", (2, 2, 1, 1)), ("args16", (3, 4, 4, 4)), ("args58", (9, 16, 16, 16))]
)
@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "unaligned"])
def test_many_arguments(
    cuda: Any, kernels: LoadedPack, name: str, counts: tuple[int, int, int, int], offset: int
) -> None:
    pointers, ints, longs, floats = counts
    memory = cuda.arange(4.0 * pointers + 1, device="cuda")[offset:]
    numbers = [*range(1, ints + 1), *(2**33 + i for i in range(longs)), *(0.5 * i for i in range(floats))]
    out = cuda.zeros(1, device="cuda", dtype=cuda.float64)
    kernels[name](out, *(memory[4 * i :] for i in range(pointers)), *numbers)
    assert out.item() == sum(numbers) + sum(4 * i + offset for i in range(pointers))


def test_a_pointer_that_may_be_none(cuda: Any, kernels: LoadedPack) -> None:
    out, bias = cuda.zeros(1, device="cuda"), cuda.full((1,), 0.25, device="cuda")
    kernels["optional"](out, None, 3)
    assert out.item() == 3
    kernels["optional"](out, bias, 3)
    assert out.item() == 3.25


def test_a_side_stream_and_a_graph(cuda: Any, kernels: LoadedPack) -> None:
    source, out = cuda.ones(256, device="cuda"), cuda.zeros(256, device="cuda")
    stream = cuda.cuda.Stream()
    stream.wait_stream(cuda.cuda.current_stream())
    kernels["scale"](out, source, 2.0, 1, 256, stream=stream)
    stream.synchronize()
    assert (out == 2).all()
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        kernels["scale"](out, source, 3.0, 1, 256, stream=cuda.cuda.current_stream())
    source.fill_(5)
    graph.replay()
    cuda.cuda.synchronize()
    assert (out == 15).all()


@pytest.mark.parametrize("name", ["clustered", "wide_cluster", "cooperative", "dependent"])
def test_launch_attributes(cuda: Any, kernels: LoadedPack, name: str) -> None:
    out = cuda.zeros(3000, device="cuda", dtype=cuda.int32)
    kernels[name](out, 3000)
    assert (out == cuda.arange(3000, device="cuda")).all()


def test_scratch_memory_for_descriptors_made_on_the_device(cuda: Any, kernels: LoadedPack) -> None:
    source = cuda.randn(200, 144, device="cuda").half()
    out = cuda.zeros_like(source)
    for _ in range(3):
        kernels["described"](out, source, 200, 144)
    assert (out == source * 2).all()


def test_a_wrong_call_launches_nothing(cuda: Any, kernels: LoadedPack) -> None:
    out = cuda.zeros(4, device="cuda")
    with pytest.raises(kpack.errors.LaunchError, match="argument 1 'out_ptr': expected"):
        kernels["scale"](out.long(), out, 1.0, 1, 4)
    with pytest.raises(kpack.errors.LaunchError, match="expected memory of a GPU, got memory of device cpu"):
        kernels["scale"](out.cpu(), out, 1.0, 1, 4)
