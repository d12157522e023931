"""The operator on a GPU, beside torch.softmax: alone, with gradients, under torch.compile and in a CUDA graph."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

torch.ops.load_library(Path(__file__).with_name("softmax_op.so"))
softmax = torch.ops.kpack_examples.softmax

TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
NEAR_ZERO = {torch.float32: 1e-5, torch.float16: 1e-4, torch.bfloat16: 1e-3}  # differences of rounded values


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(
        got, expected.to(got.dtype), rtol=TOLERANCE[got.dtype], atol=NEAR_ZERO[got.dtype]
    )


def check_values(x: torch.Tensor) -> None:
    assert_close(softmax(x), torch.softmax(x.double(), dim=-1))


def check_gradient(x: torch.Tensor) -> None:
    mine, theirs = (x.detach().clone().requires_grad_() for _ in range(2))
    dy = torch.randn_like(x)
    softmax(mine).backward(dy)
    torch.softmax(theirs, dim=-1).backward(dy)
    assert mine.grad is not None and theirs.grad is not None
    assert_close(mine.grad, theirs.grad)


def model(x: torch.Tensor) -> torch.Tensor:
    return softmax(x * 2.0) + 1.0


def check_compiled(x: torch.Tensor, backend: str) -> None:
    compiled = torch.compile(model, backend=backend, fullgraph=True)  # a graph break would be an error
    mine, theirs = (x.detach().clone().requires_grad_() for _ in range(2))
    got, expected = compiled(mine), torch.softmax(theirs * 2.0, dim=-1) + 1.0
    assert_close(got, expected)
    dy = torch.randn_like(x)
    got.backward(dy)
    expected.backward(dy)
    assert mine.grad is not None and theirs.grad is not None
    assert_close(mine.grad, theirs.grad)


def check_graph(x: torch.Tensor) -> None:
    """Captured by a stream that is not the default one, as torch does it; replayed with other numbers."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = softmax(x)
    for _ in range(3):
        x.normal_()
        graph.replay()
        assert_close(y, torch.softmax(x.double(), dim=-1))


def main() -> None:
    # Inductor makes Triton kernels of x * 2 and + 1; the operator itself needs none.
    backend = "inductor" if find_spec("triton") else "aot_eager"
    for dtype in TOLERANCE:
        for shape in ((1, 1), (64, 1000), (2, 3, 4096), (5, 16384)):
            x = torch.randn(shape, device="cuda").to(dtype)
            check_values(x)
            check_values(x.transpose(0, -1))
            check_gradient(x)
        x = torch.randn(64, 1000, device="cuda").to(dtype)
        check_compiled(x, backend)
        check_graph(x)
        print(f"{dtype}: values, gradients, torch.compile ({backend}) and a CUDA graph as torch.softmax")


if __name__ == "__main__":
    main()
