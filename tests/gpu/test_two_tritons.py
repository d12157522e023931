"""Machine code of two releases of Triton in one shared object: each is launched by its own convention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def cuda(both_library: Path) -> Any:
    import torch

    return torch


@pytest.mark.parametrize("width", [1, 127, 1000, 4096, 65536])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_both_softmaxes_compute_the_same(cuda: Any, both_library: Path, dtype: str, width: int) -> None:
    from kpack.runtime import load

    x = cuda.randn(37, width, device="cuda").to(getattr(cuda, dtype))
    new, old = cuda.full_like(x, 7.0), cuda.full_like(x, 7.0)
    for out, pack in ((new, "tk"), (old, "old"), (new, "tk")):
        load(both_library, pack)["softmax"](out, x, width, width, width, 37)
    expected = cuda.softmax(x.float(), dim=-1).to(x.dtype)
    rtol = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2e-5}[dtype]
    cuda.testing.assert_close(new, expected, rtol=rtol, atol=2**-24)
    cuda.testing.assert_close(old, expected, rtol=rtol, atol=2**-24)
