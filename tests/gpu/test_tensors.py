"""Host tensor descriptors on a GPU: what TMA reads and writes by the maps is what torch does, edges included."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kpack.errors

if TYPE_CHECKING:
    from kpack.runtime import LoadedPack

UNTOUCHED = 7.0
# Below and above 128 KiB, where drivers up to CUDA 13.1 make maps that the runtime mends; not of whole blocks.
SIZES = [(1, 8), (3, 64), (64, 64), (65, 72), (100, 200), (256, 256), (257, 256), (1000, 1032)]


@pytest.fixture(scope="module")
def kernels(tests_library: Path) -> LoadedPack:
    from kpack.runtime import load

    return load(tests_library)


@pytest.fixture
def cuda(tests_library: Path) -> Any:
    import torch

    return torch


def described(*args: Any, **options: Any) -> Any:
    from kpack.runtime import TensorDescriptor

    return TensorDescriptor(*args, **options)


def double(kernels: LoadedPack, out: Any, source: Any, n: int = 0, **options: Any) -> None:
    """out = source * 2 + n, by blocks of 64 x 64 over all of `out`."""
    kernels["tensors"](described(out), described(source, **options), n, *out.shape)


@pytest.mark.parametrize(
    ("dtype", "size", "gap"), list(itertools.product(["float16", "float32"], SIZES, [0, 8])), ids=str
)
def test_a_copy_touches_the_tensor_alone(
    cuda: Any, kernels: LoadedPack, dtype: str, size: tuple[int, int], gap: int
) -> None:
    rows, columns = size
    kind = getattr(cuda, dtype)
    source = cuda.randn(rows, columns + gap, device="cuda").to(kind)[:, :columns]
    memory = cuda.full((rows + 64, columns + gap), UNTOUCHED, device="cuda", dtype=kind)
    double(kernels, memory[:rows, :columns], source, 3)
    cuda.testing.assert_close(memory[:rows, :columns], source * 2 + 3)
    assert (memory[rows:] == UNTOUCHED).all()
    assert (memory[:, columns:] == UNTOUCHED).all()


@pytest.mark.parametrize("columns", [1, 7, 63, 65, 100])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_end_at_any_element(cuda: Any, kernels: LoadedPack, dtype: str, columns: int) -> None:
    source = cuda.randn(70, 128, device="cuda").to(getattr(cuda, dtype))[:, :columns]
    memory = cuda.full((70, 128), UNTOUCHED, device="cuda", dtype=source.dtype)
    double(kernels, memory[:, :columns], source)
    assert (memory[:, :columns] == source * 2).all()
    # The hardware writes whole units of 16 bytes; Triton's own launcher does the same.
    unit = 16 // memory.element_size()
    assert (memory[:, -(-columns // unit) * unit :] == UNTOUCHED).all()


@pytest.mark.parametrize("padding", ["zero", "nan"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_outside_the_tensor_there_is_the_padding(
    cuda: Any, kernels: LoadedPack, dtype: str, padding: str
) -> None:
    source = cuda.randn(40, 24, device="cuda").to(getattr(cuda, dtype))
    out = cuda.full((130, 136), UNTOUCHED, device="cuda", dtype=source.dtype)
    double(kernels, out, source, 3, padding=padding)
    assert (out[:40, :24] == source * 2 + 3).all()
    for edge in (out[40:], out[:, 24:]):
        assert edge.isnan().all() if padding == "nan" else (edge == 3).all()


def test_tf32_is_what_is_read(cuda: Any, kernels: LoadedPack) -> None:
    source = cuda.randn(200, 128, device="cuda")
    out = cuda.zeros_like(source)
    double(kernels, out, source, round_f32_to_tf32=True)
    assert ((out / 2).view(cuda.int32) & 0x1FFF == 0).all()  # 10 bits of mantissa
    cuda.testing.assert_close(out, source * 2, rtol=2**-10, atol=0)
    double(kernels, out, source)
    assert (out == source * 2).all()


@pytest.mark.parametrize("size", [(1, 1, 4), (3, 20, 40), (5, 33, 100)], ids=str)
def test_three_dimensions(cuda: Any, kernels: LoadedPack, size: tuple[int, int, int]) -> None:
    source = cuda.randn(size[0], size[1] + 2, size[2] + 4, device="cuda")[:, : size[1], : size[2]]
    memory = cuda.full((size[0] + 1, *size[1:]), UNTOUCHED, device="cuda")
    kernels["tensors3"](described(memory[: size[0]]), described(source), 1, *size)
    assert (memory[: size[0]] == source * 2 + 1).all()
    assert (memory[size[0] :] == UNTOUCHED).all()


@pytest.mark.parametrize("name", ["matmul", "specialised"])
def test_a_product_of_boxes_that_the_compiler_chose(cuda: Any, kernels: LoadedPack, name: str) -> None:
    a = cuda.randn(300, 200, device="cuda").half()
    b = cuda.randn(200, 264, device="cuda").half()
    out = cuda.zeros(300, 264, device="cuda", dtype=cuda.float16)
    kernels[name](described(out), described(a), described(b), 200, 300, 264)
    cuda.testing.assert_close(out, (a.float() @ b.float()).half(), rtol=1e-2, atol=1e-1)


def test_rows_beyond_4_gib(cuda: Any, kernels: LoadedPack) -> None:
    rows, stride = (1 << 16) + 70, 1 << 16  # fp16: 128 KiB from row to row
    if cuda.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("12 GiB of free device memory")
    memory = cuda.empty(rows, stride, device="cuda", dtype=cuda.float16)
    source = memory[:, :64]
    source.copy_(cuda.randn(rows, 64, device="cuda"))
    out = cuda.zeros(rows, 64, device="cuda", dtype=cuda.float16)
    double(kernels, out, source)
    assert (out == source * 2).all()


def test_more_tensors_than_the_runtime_keeps_maps_of(cuda: Any, kernels: LoadedPack) -> None:
    source = cuda.randn(3000, 8, 64, device="cuda").half()
    out = cuda.zeros_like(source)
    for _ in range(2):
        for i in range(len(source)):
            double(kernels, out[i], source[i])
        assert (out == source * 2).all()
        source.normal_()
        out.zero_()


def test_tritons_own_descriptor(cuda: Any, kernels: LoadedPack) -> None:
    own = pytest.importorskip("triton.tools.tensor_descriptor").TensorDescriptor
    source = cuda.randn(100, 128, device="cuda").half()
    out = cuda.zeros_like(source)
    both = (own.from_tensor(tensor, [64, 64]) for tensor in (out, source))
    kernels["tensors"](*both, 0, 100, 128)
    assert (out == source * 2).all()


def test_a_graph_keeps_its_maps(cuda: Any, kernels: LoadedPack) -> None:
    source = cuda.randn(100, 128, device="cuda").half()
    out = cuda.zeros_like(source)
    double(kernels, out, source)
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        stream = cuda.cuda.current_stream()
        kernels["tensors"](described(out), described(source), 5, 100, 128, stream=stream)
    source.normal_()
    graph.replay()
    cuda.cuda.synchronize()
    assert (out == source * 2 + 5).all()


def test_what_no_descriptor_can_be_launches_nothing(cuda: Any, kernels: LoadedPack) -> None:
    source = cuda.ones(64, 72, device="cuda", dtype=cuda.float16)
    out = cuda.zeros_like(source)
    with pytest.raises(
        kpack.errors.LaunchError, match="'source': address: expected device memory at a multiple"
    ):
        double(kernels, out, source[:, 1:65])
    with pytest.raises(kpack.errors.LaunchError, match=r"'source': strides\[0\]: expected"):
        double(kernels, out, cuda.ones(64, 65, device="cuda", dtype=cuda.float16))
    with pytest.raises(kpack.errors.LaunchError, match=r"'source': strides\[1\]: expected 1"):
        double(kernels, out, source[:, ::2])
    cuda.cuda.synchronize()
    assert (out == 0).all()
