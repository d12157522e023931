"""What is said beforehand, and what happens, on a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kpack.errors import LaunchError

if TYPE_CHECKING:
    from kpack.runtime import LoadedPack


@pytest.fixture(scope="module")
def kernels(tests_library: Path) -> LoadedPack:
    from kpack.runtime import load

    return load(tests_library)


def arguments(offset: int, n: int) -> tuple[Any, ...]:
    import torch

    source = torch.ones(1 << 16, device="cuda")[offset:]
    return torch.zeros(1 << 16, device="cuda"), source, 2.5, 2, n


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("n", [0, 1, 1000, 10_000, 1 << 17, 1 << 31])
def test_yes_or_no_is_what_a_launch_says(kernels: LoadedPack, offset: int, n: int) -> None:
    import torch

    scale, call = kernels["scale"], arguments(offset, n)
    supported = scale.supports(*call, device=torch.device("cuda", 0))
    text = scale.explain(*call, device=torch.device("cuda", 0))
    if supported:
        assert re.match(r"scale on sm_\d+: (runs|launches nothing, for the grid is empty, of) fp32", text)
        scale(*call)
        torch.cuda.synchronize()
    else:
        with pytest.raises(LaunchError) as caught:
            scale(*call)
        assert str(caught.value).splitlines()[0] == text.splitlines()[0]


def test_what_is_preloaded_is_what_explain_names(kernels: LoadedPack) -> None:
    name = re.search(r"image (scale\.\S+)\.sm_\w+ ", kernels["scale"].explain(*arguments(0, 1000)))
    assert name
    assert kernels.preload(name[1], device=0) == 1


SCRIPT = """
import sys, torch
from kpack.runtime import load
x = torch.ones(1 << 16, device="cuda")
scale = load(sys.argv[1])["scale"]
for _ in range(2):
    scale(x, x, 2.5, 2, 1000)
torch.cuda.synchronize()
"""


def test_the_log_has_a_line_for_the_load_and_each_launch(tests_library: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(tests_library)],
        env={**os.environ, "KPACK_LOG": "debug"},
        capture_output=True,
        text=True,
        check=True,
    )
    where = r"scale\.fp32\.\S+ on CUDA device 0"
    lines = [line for line in done.stderr.splitlines() if line.startswith("kpack: ")]
    assert len(lines) == 3
    assert re.fullmatch(rf"kpack: load {where}: [\d.]+ us", lines[0])
    for line in lines[1:]:
        assert re.fullmatch(rf"kpack: launch {where}, grid \d+ x 1 x 1, stream \S+: [\d.]+ us", line)
