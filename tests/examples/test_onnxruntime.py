"""examples/onnxruntime: a custom operator in a real session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Fake, Project

HEADERS = Path(__file__).with_name("ort")
ONE_ROW = """
import sys
import numpy as np
from model import DOUBLE, FLOAT
from run import session

wide = np.zeros((2, {columns}), np.{dtype})
session("./libkpack_softmax.so", {type}).run(None, {{"x": wide}})
"""


@pytest.fixture(scope="module")
def built(project, need_module) -> Project:
    need_module("onnxruntime")
    of = project("onnxruntime")
    of.make(f"ORT_INCLUDE={HEADERS}", "libkpack_softmax.so")
    return of


def test_a_session_computes_softmax(built: Project, fake: Fake) -> None:
    printed, launched = fake.compute(built, sys.executable, "run.py", "./libkpack_softmax.so")
    assert printed.splitlines() == [
        f"softmax of {shape} {dtype} numbers: as numpy's"
        for dtype in ("float32", "float16")
        for shape in ("1 x 1", "37 x 1000", "64 x 4096", "3 x 65536")
    ]
    assert [name.split("_")[1] for name in launched] == ["fp32"] * 4 + ["fp16"] * 4


def last_words(built: Project, environment: dict[str, str], **of: object) -> str:
    """What a session's run() raises."""
    script = ONE_ROW.format(**{"columns": 8, "dtype": "float32", "type": "FLOAT", **of})
    done = built.attempt(sys.executable, "-c", script, environment=environment)
    assert done.returncode == 1
    return done.stderr[done.stderr.rindex("onnxruntime.capi.") :]


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_session_says_so(built: Project) -> None:
    assert "Status Message: softmax: no GPU driver: libcuda.so.1: " in last_words(built, {})


def test_a_dry_run_is_an_error_that_shows_the_launch(built: Project) -> None:
    said = last_words(built, {"KPACK_DRIVER": "dry:sm_90"})
    assert "Status Message: softmax on sm_90 (dry)\n" in said
    assert "n_cols=8 n_rows=2" in said


def test_a_type_that_the_operator_does_not_have_is_refused(built: Project, fake: Fake) -> None:
    said = last_words(built, fake.environment(built.folder / "log"), dtype="float64", type="DOUBLE")
    assert "kpack::Softmax: expected a tensor of float, float16 or bfloat16" in said


def test_the_headers_are_asked_for(built: Project) -> None:
    done = built.attempt("make", "--always-make", "--old-file=libtk.a", "libkpack_softmax.so")
    assert done.returncode == 2
    assert "ORT_INCLUDE: expected the folder of onnxruntime_c_api.h, got nothing" in done.stderr
