"""examples/c: a kernel in a C program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tools import C_COMPILERS, need

if TYPE_CHECKING:
    from conftest import Fake, Project


@pytest.fixture(scope="module")
def built(project) -> Project:
    of = project("c")
    of.make("axpy")
    return of


def test_it_computes(built: Project, fake: Fake) -> None:
    printed, launched = fake.compute(built, "./axpy")
    assert printed.startswith("axpy of 1000000 numbers: -998.999 + 2.5 * 999.999 = 1501, largest error ")
    assert launched == ["axpy_BLOCK1024_w4_a16"]


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_shows_what_would_be_launched(built: Project) -> None:
    done = built.attempt("./axpy")
    assert done.returncode == 0, done.stderr
    assert "image    axpy.BLOCK1024.w4.a16.sm_90, " in done.stdout
    assert "grid     977 x 1 x 1\n" in done.stdout


@pytest.mark.parametrize("standard", ["c11", "c17"])
@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_every_compiler_takes_it(built: Project, fake: Fake, compiler: str, standard: str) -> None:
    need(compiler)
    name = f"axpy-{compiler}-{standard}"
    flags = f"-std={standard} -O2 -Wall -Wextra -Wpedantic -Wshadow -Werror $(kpack config --cflags)"
    link = f"main.c libvec.a $(kpack config --libs) -lm -o {name}"
    done = built.attempt("sh", "-c", f"{compiler} {flags} {link}")
    assert done.returncode == 0, done.stderr
    assert "= 1501," in fake.compute(built, f"./{name}")[0]
