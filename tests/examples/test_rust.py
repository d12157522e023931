"""examples/rust: a kernel in a Rust program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tools import need

if TYPE_CHECKING:
    from conftest import Fake, Project


@pytest.fixture(scope="module")
def built(project) -> Project:
    need("rustc")
    of = project("rust")
    of.make("RUSTFLAGS=-D warnings", "row_sum")
    return of


def test_it_computes(built: Project, fake: Fake) -> None:
    printed, launched = fake.compute(built, "./row_sum")
    assert printed == "row_sum of 1000 x 777 numbers: 4720.625 ... 4964.75\n"
    assert launched == ["row_sum_BLOCK1024_w4"]


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_shows_what_would_be_launched(built: Project) -> None:
    done = built.attempt("./row_sum")
    assert done.returncode == 0, done.stderr
    assert "image    row_sum.BLOCK1024.w4.sm_90, " in done.stdout
    assert "row_stride=777 n_cols=777 n_rows=1000" in done.stdout


def test_a_refused_launch_is_an_error_with_its_message(built: Project, fake: Fake) -> None:
    source = built.folder / "main.rs"
    source.write_text(source.read_text().replace("COLUMNS: usize = 777", "COLUMNS: usize = 2000"))
    built.make("row_sum")
    done = built.attempt("./row_sum", environment=fake.environment(built.folder / "log"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("row_sum: no variant")
    assert "n_cols <= BLOCK" in done.stderr
