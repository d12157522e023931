"""Scratch memory on a GPU: a kernel that makes its descriptors on the device works in memory that exists for one
launch, from the driver's pool or from a reserved one, in order, in a graph, and on streams that run together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kpack.errors

if TYPE_CHECKING:
    from kpack.runtime import LoadedKernel

MIB = 1 << 20


@pytest.fixture(scope="module")
def described(tests_library: Path) -> LoadedKernel:
    from kpack.runtime import load

    return load(tests_library)["described"]


@pytest.fixture
def cuda(tests_library: Path) -> Any:
    import torch

    return torch


@pytest.fixture(params=[0, MIB, 64 * MIB], ids=["not reserved", "1 MiB", "64 MiB"])
def reserved(request: pytest.FixtureRequest, cuda: Any) -> Iterator[int]:
    from kpack.runtime import reserve_scratch

    cuda.cuda.init()
    reserve_scratch(request.param)
    yield request.param
    cuda.cuda.synchronize()
    reserve_scratch(0)


def test_results_are_right(cuda: Any, described: LoadedKernel, reserved: int) -> None:
    for rows, columns in [(32, 32), (200, 144), (4096, 4096)]:  # 256 bytes for each of 1, 35 and 16384 blocks
        source = cuda.randn(rows, columns, device="cuda").half()
        out = cuda.zeros_like(source)
        for _ in range(3):
            described(out, source, rows, columns)
        assert (out == source * 2).all()


def test_a_graph_captures_its_memory_and_is_replayed(
    cuda: Any, described: LoadedKernel, reserved: int
) -> None:
    source, out = cuda.zeros(256, 256, device="cuda").half(), cuda.zeros(256, 256, device="cuda").half()
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        stream = cuda.cuda.current_stream()
        described(out, source, 256, 256, stream=stream)
        described(out, out, 256, 256, stream=stream)
    for number in range(200):
        source.fill_(number)
        graph.replay()
        assert (out == 4 * number).all(), number


def test_a_pool_may_go_before_the_graph_that_was_captured_with_it(cuda: Any, described: LoadedKernel) -> None:
    from kpack.runtime import reserve_scratch

    source, out = cuda.ones(256, 256, device="cuda").half(), cuda.zeros(256, 256, device="cuda").half()
    reserve_scratch(MIB)
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        described(out, source, 256, 256, stream=cuda.cuda.current_stream())
    reserve_scratch(0)
    graph.replay()
    cuda.cuda.synchronize()
    assert (out == 2).all()


def test_two_streams_at_once(cuda: Any, described: LoadedKernel, reserved: int) -> None:
    streams = [cuda.cuda.Stream() for _ in range(2)]
    sources = [cuda.randn(2048, 2048, device="cuda").half() for _ in streams]
    outs = [cuda.zeros_like(source) for source in sources]
    cuda.cuda.synchronize()
    for _ in range(200):
        for stream, source, out in zip(streams, sources, outs, strict=True):
            described(out, source, 2048, 2048, stream=stream)
    cuda.cuda.synchronize()
    for source, out in zip(sources, outs, strict=True):
        assert (out == source * 2).all()


def test_reserved_memory_is_the_devices(cuda: Any) -> None:
    from kpack.runtime import reserve_scratch

    cuda.cuda.init()
    before = cuda.cuda.mem_get_info()[0]
    reserve_scratch(512 * MIB)
    assert cuda.cuda.mem_get_info()[0] <= before - 512 * MIB
    reserve_scratch(0)
    assert cuda.cuda.mem_get_info()[0] >= before - 64 * MIB


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_memory_can_be_reserved_in_a_capture(cuda: Any, described: LoadedKernel, mode: str) -> None:
    from kpack.runtime import reserve_scratch

    source, out = cuda.ones(64, 64, device="cuda").half(), cuda.zeros(64, 64, device="cuda").half()
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph, capture_error_mode=mode):
        reserve_scratch(MIB)
        described(out, source, 64, 64, stream=cuda.cuda.current_stream())
    graph.replay()
    cuda.cuda.synchronize()
    reserve_scratch(0)
    assert (out == 2).all()


def test_what_cannot_be_reserved_is_refused(cuda: Any) -> None:
    from kpack.runtime import reserve_scratch

    with pytest.raises(kpack.errors.LaunchError, match=r"expected one of .* CUDA devices, got ordinal 99"):
        reserve_scratch(MIB, 99)
    with pytest.raises(kpack.errors.LaunchError, match="cuMemAllocFromPoolAsync: CUDA_ERROR_OUT_OF_MEMORY"):
        reserve_scratch(1 << 44)
    with pytest.raises(kpack.errors.LaunchError, match=r"expected 0 to 2\*\*64 - 1 bytes, got -1"):
        reserve_scratch(-1)
