"""docs/errors.md has a section for each status and exception, and each exception leads to its own."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from snippets import DOCS, ROOT, slug

import kpack
from kpack import errors

PAGE = (DOCS / "errors.md").read_text()
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
CLASSES = [
    each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.KpackError)
]


def test_statuses_are_those_of_the_header() -> None:
    header = (ROOT / "csrc" / "include" / "kpack" / "kpack.h").read_text()
    body = header.partition("typedef enum kpk_status {")[2].partition("}")[0]
    assert re.findall(r"(KPK_\w+) = (\d+)", body) == [
        (name, str(n)) for n, name in enumerate(errors.STATUSES)
    ]


def test_each_status_and_exception_has_a_section_and_nothing_else_has() -> None:
    assert sorted(HEADINGS) == sorted([*errors.STATUSES, *(each.__name__ for each in CLASSES)])


def made(kind: type[errors.KpackError]) -> errors.KpackError:
    if kind is errors.CompileError:
        return kind((errors.Failure("softmax", "fp16", "sm_90", "too large"),))
    return errors.LaunchError("no", 99) if kind is errors.LaunchError else kind("no")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_exception_leads_to_its_section(kind: type[errors.KpackError]) -> None:
    error = made(kind)
    file, _, anchor = error.page.partition("#")
    assert anchor in [slug(heading) for heading in HEADINGS] and anchor == kind.__name__.lower()
    assert Path(file).read_text() == PAGE


@pytest.mark.parametrize("status", range(len(errors.STATUSES)))
def test_a_failed_launch_leads_to_the_section_of_its_status(status: int) -> None:
    error = errors.LaunchError("softmax: no", status)
    assert error.page.endswith(f"#{errors.STATUSES[status].lower()}")


def test_a_class_of_another_module_leads_to_what_it_is() -> None:
    class Odd(errors.PackError):
        pass

    assert Odd("no").page.endswith("#packerror")


def test_a_traceback_ends_with_the_page_and_the_text_stays_as_it_is() -> None:
    with pytest.raises(kpack.TargetError) as caught:
        kpack.build("softmax.py", "sm_9")
    assert "errors.md" not in str(caught.value)
    done = subprocess.run(
        [sys.executable, "-c", "import kpack; kpack.build('softmax.py', 'sm_9')"],
        capture_output=True,
        text=True,
    )
    assert done.stderr.rstrip().endswith("docs/errors.md#targeterror")
