"""One function, packed by every way there is (ways/): each launch leaves what Triton's JIT leaves, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kpack

if TYPE_CHECKING:
    from kpack.runtime import LoadedPack

sys.path.insert(0, str(Path(__file__).parent / "ways"))

N = 100_001  # neither blocks of 128 nor of 256 are full


@pytest.fixture(scope="module")
def kernels(ways_library: Path) -> LoadedPack:
    from kpack.runtime import load

    return load(ways_library)


@pytest.fixture(scope="module")
def x(ways_library: Path) -> Any:
    import torch

    return torch.randn(N, device="cuda")


@pytest.fixture(scope="module")
def by_jit(x: Any) -> Any:
    import program

    out = x.new_zeros(N)
    program.run(out, x, N)
    assert out.count_nonzero() > 0
    return out


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("ready", ()),
        ("lowered", ()),
        ("scaled_kernel", (-(-N // 128),)),
        ("table", ("table_128", -(-N // 128), 1, 1)),
        ("table", ("table_256", -(-N // 256), 1, 1)),
    ],
    ids=str,
)
def test_it_computes_what_the_jit_does(
    kernels: LoadedPack, x: Any, by_jit: Any, name: str, more: tuple[Any, ...]
) -> None:
    out = x.new_zeros(N)
    kernels[name](x, out, 2.5, N, *more)
    assert out.equal(by_jit)


@pytest.mark.parametrize("name", ["ready", "lowered"])
def test_code_for_aligned_memory_refuses_other(kernels: LoadedPack, x: Any, name: str) -> None:
    with pytest.raises(kpack.LaunchError, match="x_ptr"):
        kernels[name](x[1:], x.new_zeros(N), 2.5, N - 1)


def test_a_program_is_recorded_while_it_runs(kernels: LoadedPack, x: Any, by_jit: Any) -> None:
    import program

    out, other = x.new_zeros(N), x.new_zeros(N - 1)
    with kpack.record() as recording:
        program.run(out, x, N)
        program.run(other, x[1:], N - 1)
    assert out.equal(by_jit)
    assert other.equal(x[1:] * 2.5)
    (kernel,) = recording.kernels()
    # The archive has it from a recording without a GPU.
    arguments = kernel.arguments(x, x.new_zeros(N), 2.5, N, BLOCK=128, grid=(-(-N // 128),))
    kernels["scaled_kernel"](*arguments)
    assert arguments[1].equal(by_jit)
