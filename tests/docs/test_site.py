"""The site builds without a warning, and the references have all that there is to refer to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from snippets import DOCS, ROOT

import kpack
from kpack.cli import commands

INCLUDE = ROOT / "csrc" / "include" / "kpack"
STRICT = ("--quiet", "--fail-on-warning", "--keep-going", "--nitpicky")


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", *STRICT, "-c", DOCS, source, site]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(DOCS, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ids(page: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', page.read_text()))


def test_every_public_name_of_the_package_has_an_entry(site: Path) -> None:
    found = ids(site / "reference" / "python.html")
    assert {f"kpack.{name}" for name in kpack.__all__} - {"kpack.__version__"} <= found


def test_every_function_and_type_of_the_c_header_has_an_entry(site: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", (INCLUDE / "kpack.h").read_text(), flags=re.DOTALL)
    functions = set(re.findall(r"^(?:KPK_API|KPK_INLINE|static inline) .*?\b(kpk_\w+)\(", text, re.MULTILINE))
    types = set(re.findall(r"^typedef (?:struct|enum) (kpk_\w+)", text, re.MULTILINE))
    constants = set(re.findall(r"\b(KPK_[A-Z_0-9]+) = ", text))
    assert len(functions) > 60 and len(types) > 10 and len(constants) > 30
    assert functions | types | constants <= ids(site / "reference" / "c.html")


def test_every_class_and_function_of_the_cpp_header_has_an_entry(site: Path) -> None:
    text = (INCLUDE / "kpack.hpp").read_text()
    text = re.sub(
        r"^namespace detail \{$.*?^\}  // namespace detail$", "", text, flags=re.MULTILINE | re.DOTALL
    )
    names = set(re.findall(r"^(?:class|enum class)(?: KPACK_TYPE)? (\w+)", text, re.MULTILINE))
    names |= set(re.findall(r"^inline [^=;(]*?(\w+)\(", text, re.MULTILINE)) | {"KPACK_KERNEL"}
    assert {"Kernel", "Bound", "Status", "linked_kernels", "preload", "find"} <= names
    assert names <= ids(site / "reference" / "cpp.html")


def test_the_references_show_no_bodies_and_nothing_internal(site: Path) -> None:
    for page in ("c", "cpp"):
        text = re.sub(r"<[^>]+>", "", (site / "reference" / f"{page}.html").read_text())
        assert "private:" not in text and "namespace detail" not in text and "return " not in text


def test_every_command_has_an_entry(site: Path) -> None:
    assert {f"kpack-{name}" for name in commands.commands} <= ids(site / "reference" / "command.html")


def test_links_that_lead_nowhere_fail_the_build(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# Page\n\n[a page](nowhere.md) and [a section](index.md#elsewhere)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0 and "nowhere.md" in done.stderr and "elsewhere" in done.stderr
