"""docs/reference/command.md has each environment variable that the sources read, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from snippets import DOCS, ROOT

from kpack.compile.adapter import _KEPT

ROW = re.compile(r"^\| (?P<names>`[A-Z]\w*`(?:, `[A-Z]\w*`)*) \| .+ \| .+ \|$", re.MULTILINE)
# Reads by a name that is not written there, and the names that it has.
NAMES_ELSEWHERE = {("kpack/paths.py", "variable"): ("CC", "CXX")}
# What libraries read: rich, and Triton of what builds leave it.
BY_LIBRARIES = {"NO_COLOR", "TERM"} | _KEPT
READS = ("os.environ.get", "os.getenv")
OF_ALL = ("os.environ.items", "os.environ.update", "list(os.environ)")  # whatever their names


def of_python(path: str, text: str) -> Iterator[str]:
    """The variables that a module reads. What is done to the environment in another way than these is an error."""
    nodes = list(ast.walk(ast.parse(text)))
    understood = 0
    for node in nodes:
        name = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) in READS:
            name = node.args[0]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            name = node.slice if isinstance(node.ctx, ast.Load) else None
        elif not (isinstance(node, ast.Call) and {ast.unparse(node), ast.unparse(node.func)} & {*OF_ALL}):
            continue
        understood += 1
        if isinstance(name, ast.Constant):
            yield str(name.value)
        elif name is not None:
            yield from NAMES_ELSEWHERE[path, ast.unparse(name)]
    used = [
        node
        for node in nodes
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "getenv"))
    ]
    assert len(used) == understood, path


def of_cpp(path: str, text: str) -> Iterator[str]:
    for given in re.findall(r"getenv\(([^)]*)\)", text):
        assert re.fullmatch(r'"\w+"', given), f"{path}: {given}"
        yield given.strip('"')
    assert "environ[" not in text, path


def of_cmake(path: str, text: str) -> Iterator[str]:
    yield from re.findall(r"\$?ENV\{(\w+)\}", text)


READERS = {".py": of_python, ".cc": of_cpp, ".h": of_cpp, ".hpp": of_cpp, ".cmake": of_cmake}


def read_by_the_sources() -> dict[str, str]:
    """Variables, and a file that reads each."""
    files = [
        path for folder in ("kpack", "csrc") for path in (ROOT / folder).rglob("*") if path.suffix in READERS
    ]
    found = {}
    for path in sorted(files):
        name = path.relative_to(ROOT).as_posix()
        found |= dict.fromkeys(READERS[path.suffix](name, path.read_text()), name)
    return found


def documented() -> list[str]:
    rows = ROW.finditer((DOCS / "reference" / "command.md").read_text())
    return [name for row in rows for name in re.findall(r"`(\w+)`", row["names"])]


def test_each_variable_that_is_read_is_documented() -> None:
    found = read_by_the_sources()
    assert len(found) > 10
    missing = {name: where for name, where in found.items() if name not in documented()}
    assert missing == {}
    assert set(documented()) >= BY_LIBRARIES


def test_each_documented_variable_is_read_and_has_one_row() -> None:
    names = documented()
    assert sorted(set(names)) == sorted(names)
    assert set(names) - BY_LIBRARIES <= set(read_by_the_sources())


@pytest.mark.parametrize(
    ("suffix", "text", "names"),
    [
        (".py", "import os\nos.environ.get('A')\nos.environ['B']\nos.getenv('C', '')", "A B C"),
        (".py", "os.environ['A'] = '1'; del os.environ['B']; list(os.environ); os.environ.items()", ""),
        (".cc", 'mode(std::getenv("A")); getenv("B");', "A B"),
        (".cmake", 'set(a "$ENV{A}")\nif(DEFINED ENV{B})', "A B"),
    ],
    ids=["python", "python-not-read", "c++", "cmake"],
)
def test_reads_are_found(suffix: str, text: str, names: str) -> None:
    assert sorted(READERS[suffix]("file", text)) == names.split()


def test_a_read_that_is_not_understood_is_an_error() -> None:
    for suffix, text in (
        (".py", "f(os.environ)"),
        (".py", "from os import environ"),
        (".cc", "getenv(name)"),
    ):
        with pytest.raises(AssertionError):
            list(READERS[suffix]("file", text))
    with pytest.raises(KeyError):
        list(of_python("file", "os.environ.get(name)"))
