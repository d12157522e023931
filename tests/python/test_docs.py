"""What docs/kernels.md says is so: the tests that it names exist, and its table has every row. Snippets: tests/docs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import triton
import triton.language as tl

import kpack
from kpack.errors import SpecError

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "python"
PAGE = (ROOT / "docs" / "kernels.md").read_text()

# The files whose tests with a parameter `arch` are rows of the table, and what that parameter is.
ROW_FILES = ("test_kernel_objects.py", "test_argument_kinds.py")
VENDORS = {"sm_90": "NVIDIA", "gfx942": "AMD"}

_TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)(?:\[([^`]*)\])?`")
_ROW = re.compile(r"^\| [^|]+ \| (?P<NVIDIA>[^|]+) \| (?P<AMD>[^|]+) \| (?P<test>`[^`]+`) \|$", re.MULTILINE)

NAMED: list[tuple[str, str, str]] = [(file, test, id_) for file, test, id_ in _TEST.findall(PAGE)]
FILES = sorted({file for file, _, _ in NAMED})


@pytest.fixture(scope="module")
def collected() -> dict[tuple[str, str], list[str]]:
    """The ids of each test of all named files, as pytest has them. Files that need what is not installed have none."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(str(TESTS / file) for file in FILES)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[tuple[str, str], list[str]] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"\S+/(test_\w+\.py)::(test_\w+)(?:\[(.*)\])?", line)
        if match:
            found.setdefault((match[1], match[2]), []).append(match[3] or "")
    return found


def arch_of(id_: str) -> str:
    """The arch at the end of the parameters of a row's test; "" where there is none."""
    return next((arch for arch in VENDORS if id_ == arch or id_.endswith(f"-{arch}")), "")


def covers(id_: str, whole: str) -> bool:
    """Whether the parameters that the page names are these, but for the arch. "": all of a test's are."""
    return not id_ or whole == id_ or whole.startswith(f"{id_}-")


@pytest.mark.parametrize("file", FILES)
def test_a_test_that_is_named_exists(file: str) -> None:
    tree = ast.parse((TESTS / file).read_text())
    known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {test for named, test, _ in NAMED if named == file} <= known


def test_parameters_that_are_named_exist(collected: dict[tuple[str, str], list[str]]) -> None:
    without = [
        f"{file}::{test}[{id_}]"
        for file, test, id_ in NAMED
        if any(known == file for known, _ in collected)  # else it was skipped as a whole
        and not any(covers(id_, whole) for whole in collected.get((file, test), []))
    ]
    assert without == []


def test_every_row_of_the_feature_tests_is_in_the_table(collected: dict[tuple[str, str], list[str]]) -> None:
    rows = [found.groups() for row in _ROW.finditer(PAGE) for found in _TEST.finditer(row["test"])]
    missing = [
        f"{file}::{test}[{whole}]"
        for (file, test), ids in collected.items()
        if file in ROW_FILES
        for whole in ids
        if arch_of(whole) and not any((file, test) == row[:2] and covers(row[2] or "", whole) for row in rows)
    ]
    assert missing == []


def test_a_row_says_something_of_the_vendors_that_its_test_asks(
    collected: dict[tuple[str, str], list[str]],
) -> None:
    for row in _ROW.finditer(PAGE):
        ((file, test, id_),) = _TEST.findall(row["test"])
        asked = {arch_of(whole) for whole in collected.get((file, test), []) if covers(id_, whole)} - {""}
        if file in ROW_FILES and asked:
            said = {arch for arch, vendor in VENDORS.items() if row[vendor].strip() != "-"}
            assert said == asked, row[0]


# ---- what is refused by name, and has no other place


@triton.jit
def moving_kernel(x, BLOCK: tl.constexpr):
    x.load([0, 0])


def test_a_descriptor_for_im2col_is_refused_by_name() -> None:
    signature = {"x": "tensordesc_im2col<fp16[64,64],input_rank=4>"}
    with pytest.raises(SpecError, match="; a descriptor for im2col is not built yet"):
        kpack.Kernel(moving_kernel, signature=signature, constexprs={"BLOCK": 64}, grid=1)


def test_a_config_that_overrides_the_ir_is_refused_by_name() -> None:
    config = triton.Config({"BLOCK": 64}, ir_override="moving.ttir")
    with pytest.raises(SpecError, match="expected a config without ir_override, got one; build the IR file"):
        kpack.Kernel(moving_kernel, signature={"x": "tensordesc<fp16[64,64]>"}, configs=[config], grid=1)
