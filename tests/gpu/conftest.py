"""What the tests of this folder need: a GPU, and the shared object that `make gpu` links."""

from __future__ import annotations

from pathlib import Path

import pytest

BUILT = Path(__file__).parents[2] / "build" / "gpu"


def built(name: str) -> Path:
    torch = pytest.importorskip("torch", reason="torch is what results are compared with")
    if not torch.cuda.is_available():
        pytest.skip("torch.cuda is not available")
    # With a GPU, a missing library is a mistake, not a reason to skip.
    assert (BUILT / name).exists(), f"{BUILT / name}: expected from `make gpu`"
    return BUILT / name


@pytest.fixture(scope="session")
def library() -> Path:
    """The kernels of kernels/."""
    return built("libtk.so")


@pytest.fixture(scope="session")
def tests_library() -> Path:
    """The kernels of tests/cpp/kernels.py."""
    return built("libtests.so")


@pytest.fixture(scope="session")
def ways_library() -> Path:
    """The kernels of ways/."""
    return built("libways.so")


@pytest.fixture(scope="session")
def planted_library() -> Path:
    """The kernels of planted/."""
    return built("libplanted.so")


@pytest.fixture(scope="session")
def both_library(library: Path) -> Path:
    """Pack tk, which the newest Triton made, and pack old, of the oldest one that kpack takes."""
    if not (BUILT / "libboth.so").exists():
        pytest.skip("build/archives/libold.a, which `make archives` builds where Triton 3.4 can be installed")
    return BUILT / "libboth.so"
