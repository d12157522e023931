"""examples/migration: a JIT program, and the same launches from a pack: they compute the same."""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Fake, Project

# torch without CUDA has no memory of a GPU. The fake driver's is the host's: what after.py gets says it were one.
ON_THE_FAKE = """
import runpy, sys, torch
import inputs

class OnDevice(torch.Tensor):
    is_cuda = True

of_the_host = inputs.inputs
inputs.inputs = lambda: [tuple(t.as_subclass(OnDevice) for t in tensors) for tensors in of_the_host()]
sys.argv = ["after.py", "after.bin"]
runpy.run_path("after.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def built(project, need_module) -> Project:
    need_module("torch")
    need_module("kpack._runtime")
    of = project("migration")
    of.make("all")
    # Triton's own interpreter, in Python: what the JIT would compute.
    done = of.attempt(sys.executable, "before.py", "before.bin", environment={"TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr
    return of


def test_both_programs_compute_what_the_jit_program_does(built: Project, fake: Fake) -> None:
    launched = fake.compute(built, "./after", "after_cc.bin")[1]
    assert [name.split("_")[2] for name in launched] == ["BLOCK256", "BLOCK1024", "BLOCK4096"]
    (built.folder / "fake.py").write_text(ON_THE_FAKE)
    assert fake.compute(built, sys.executable, "fake.py")[1] == launched
    before, after, after_cc = (
        np.fromfile(built.folder / name, np.float32) for name in ("before.bin", "after.bin", "after_cc.bin")
    )
    assert before.size == 64 * 256 + 37 * 1000 + 3 * 4096
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after_cc, after)
    compare = (sys.executable, "compare.py", "before.bin", "after.bin", "after_cc.bin")
    assert built.attempt(*compare).returncode == 0
    (built.folder / "after.bin").write_bytes((after + 1).tobytes())
    assert built.attempt(*compare).returncode != 0


def test_the_readme_shows_the_difference(built: Project) -> None:
    before, after = (
        re.search(r"    n_rows, n_cols = x.shape\n(.*?)    return out", path.read_text(), re.DOTALL)[
            1
        ].splitlines()
        for path in (built.folder / "before.py", built.folder / "after.py")
    )
    shown = re.search(r"```diff\n(.*?)\n```", (built.folder / "README.md").read_text(), re.DOTALL)[1]
    difference = list(difflib.unified_diff(before, after, n=0, lineterm=""))[3:]
    assert shown.splitlines() == difference


def test_a_wider_row_is_refused_and_not_compiled(built: Project, fake: Fake) -> None:
    source = built.folder / "after.cc"
    source.write_text(source.read_text().replace("{3, 4096}", "{3, 5000}"))
    built.make("after")
    done = built.attempt("./after", "wide.bin", environment=fake.environment(built.folder / "log"))
    assert done.returncode == 1
    assert "rms_norm: no variant" in done.stderr
