"""examples/torch_op: an operator of PyTorch, whose implementation for CUDA runs on the fake driver."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Fake, Project

LOAD = """
import sys
sys.modules["triton"] = None  # an import of it fails
import torch
torch.ops.load_library("./softmax_op.so")
softmax, softmax_backward = torch.ops.kpack_examples.softmax, torch.ops.kpack_examples.softmax_backward
"""
# The implementation for CUDA takes tensors of the CPU, too, whose memory is the fake driver's as good as any.
ON_THE_FAKE = (
    LOAD
    + """
cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
library = torch.library.Library("kpack_examples", "IMPL")
for op in (softmax.default, softmax_backward.default):
    library.impl(op, lambda *tensors, op=op: op.redispatch(cuda, *tensors), "CPU")

def compare(dtype, shape, function=softmax, reference=lambda x: torch.softmax(x, dim=-1)):
    mine, theirs = (torch.linspace(-3, 3, steps=torch.Size(shape).numel()).view(shape).to(dtype) for _ in range(2))
    mine.requires_grad_(), theirs.requires_grad_()
    got, expected = function(mine), reference(theirs)
    torch.testing.assert_close(got, expected)
    dy = torch.cos(torch.arange(got.numel())).view(shape).to(dtype)
    got.backward(dy), expected.backward(dy)
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert mine.grad.count_nonzero() > 0 or shape[-1] == 1
"""
)


@pytest.fixture(scope="module")
def built(project, need_module) -> Project:
    need_module("torch")
    of = project("torch_op")
    of.make(f"PYTHON={sys.executable}", "CXXFLAGS=-O0 -Wall -Wextra -Werror", "softmax_op.so")
    stream = Path(__file__).with_name("no_stream.c")
    done = of.attempt("cc", "-Wall", "-Wextra", "-fPIC", "-shared", stream, "-o", "no_stream.so")
    assert done.returncode == 0, done.stderr
    return of


def on_the_fake(built: Project, fake: Fake, script: str) -> list[str]:
    """The functions that a script launches, with a stream that torch without CUDA does not have."""
    (built.folder / "script.py").write_text(ON_THE_FAKE + script)
    python = ("env", f"LD_PRELOAD={built.folder / 'no_stream.so'}", sys.executable, "script.py")
    return fake.compute(built, *python)[1]


def test_it_computes_softmax_and_its_gradient(built: Project, fake: Fake) -> None:
    script = """
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    for shape in ((1,), (37, 100), (2, 3, 1024), (4, 5000)):
        compare(dtype, shape)
compare(torch.float32, (0, 8))
"""
    script = script.replace(
        "compare(torch.float32, (0, 8))", "assert softmax(torch.ones(0, 8)).shape == (0, 8)"
    )
    launched = on_the_fake(built, fake, script)
    assert len(launched) == 2 * 3 * 4
    assert {name.split("_")[1] for name in launched} == {"fp32", "fp16", "bf16", "backward"}


def test_strides_are_taken_out_of_the_way(built: Project, fake: Fake) -> None:
    script = """
x = torch.arange(12.0).view(3, 4)
torch.testing.assert_close(softmax(x.t()), torch.softmax(x.t(), dim=-1))
torch.testing.assert_close(softmax(x[:, ::2]), torch.softmax(x[:, ::2], dim=-1))
"""
    assert len(on_the_fake(built, fake, script)) == 2


def test_torch_compile_sees_one_operator_and_breaks_no_graph(built: Project, fake: Fake) -> None:
    script = """
graphs = []
def backend(module, inputs):
    graphs.append([node.target for node in module.graph.nodes if node.op == "call_function"])
    from torch._dynamo.backends.debugging import aot_eager
    return aot_eager(module, inputs)

compiled = torch.compile(lambda x: softmax(x * 2) + 1, backend=backend, fullgraph=True)
compare(torch.float32, (37, 100), compiled, lambda x: torch.softmax(x * 2, dim=-1) + 1)
assert len(graphs) == 1 and str(graphs[0][1]).startswith("kpack_examples.softmax"), graphs
"""
    launched = on_the_fake(built, fake, script)
    assert [name.split("_fp32")[0] for name in launched] == ["softmax", "softmax_backward"]


def test_torch_compile_takes_shapes_as_symbols(built: Project, fake: Fake) -> None:
    script = """
counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
compiled = torch.compile(lambda x: softmax(x * 2) + 1, backend=counter, fullgraph=True, dynamic=True)
for columns in (100, 200, 300):
    compare(torch.float32, (37, columns), compiled, lambda x: torch.softmax(x * 2, dim=-1) + 1)
assert counter.frame_count == 1, counter.frame_count
"""
    assert len(on_the_fake(built, fake, "import torch._dynamo.testing\n" + script)) == 6


def test_it_is_what_an_operator_must_be(built: Project, fake: Fake) -> None:
    script = """
x = torch.randn(3, 8, requires_grad=True)
torch.library.opcheck(softmax, (x,))
some = ["test_schema", "test_faketensor"]  # it has no gradient of its own
torch.library.opcheck(softmax_backward, (torch.randn(3, 8), torch.randn(3, 8)), test_utils=some)
"""
    assert on_the_fake(built, fake, script)


def test_meta_tensors_have_shapes_and_gradients_without_a_launch(built: Project, fake: Fake) -> None:
    script = """
x = torch.empty(3, 5, 7, device="meta", dtype=torch.float16, requires_grad=True)
y = softmax(x)
assert (y.shape, y.dtype, y.device.type) == ((3, 5, 7), torch.float16, "meta")
y.backward(torch.empty_like(y))
assert (x.grad.shape, x.grad.dtype) == ((3, 5, 7), torch.float16)
"""
    assert on_the_fake(built, fake, script) == []


REFUSED = {
    "softmax(torch.ones(3))": "Could not run 'kpack_examples::softmax' with arguments from the 'CPU' backend",
    "softmax(torch.ones((), device='meta'))": "softmax: x: expected 1 dimension or more, got a scalar",
    "softmax(torch.ones(3, dtype=torch.int32, device='meta'))": "x: expected float, half or bfloat16, got Int",
    "softmax_backward(torch.ones(3, device='meta'), torch.ones(4, device='meta'))": (
        "softmax_backward: dy: expected Float[4], got Float[3]"
    ),
}


def test_what_it_does_not_take_is_refused(built: Project) -> None:
    script = f"""
for call in {list(REFUSED)}:
    try:
        eval(call)
    except RuntimeError as error:
        print(str(error).splitlines()[0])
"""
    done = built.attempt(sys.executable, "-c", LOAD + script)
    assert done.returncode == 0, done.stderr
    for said, message in zip(done.stdout.splitlines(), REFUSED.values(), strict=True):
        assert message in said


def test_what_no_kernel_takes_says_the_launch(built: Project, fake: Fake) -> None:
    script = """
try:
    softmax(torch.ones(1, 16385, requires_grad=True)).sum().backward()
except RuntimeError as error:
    assert str(error).startswith("softmax_backward: no variant"), error
else:
    raise AssertionError("nothing was refused")
"""
    on_the_fake(built, fake, script)
