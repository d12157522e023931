"""kpack's docstrings are plain text: paragraphs, `code`, tables of names in two columns, and indented examples.

autodoc reads reStructuredText, so each becomes that here: of a table a list of definitions, of an indented block
code, and what else would be markup is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

_ROW = re.compile(r"(?P<name>\S+) {2,}(?P<text>\S.*)")
_CODE = re.compile(r"(`[^`]*`)")
_MARKUP = re.compile(r"([*|\\]|_(?=\W|$))")


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    app.connect("sphinx-click-process-description", _process_help)
    return {"parallel_read_safe": True}


def _process(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = to_rst(lines)


def _process_help(app: Any, command: object, lines: list[str]) -> None:
    lines[:] = [_escape(line) for line in lines]


def to_rst(lines: Iterable[str]) -> list[str]:
    """Lines of plain text as lines of reStructuredText."""
    written: list[str] = []
    for paragraph in _paragraphs(lines):
        if paragraph[0].startswith(" "):
            written += ["::", "", *(f"    {line}" for line in paragraph)]
        elif _ROW.fullmatch(paragraph[0]) and _column(paragraph):
            written += _definitions(paragraph, _column(paragraph))
        else:
            written += [_escape(line) for line in paragraph]
        written.append("")
    return written


def _paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line.rstrip())
        elif paragraph:
            yield paragraph
            paragraph = []
    if paragraph:
        yield paragraph


def _column(paragraph: list[str]) -> int:
    """Where the second column begins; 0 where the paragraph is no table."""
    match = _ROW.fullmatch(paragraph[0])
    column = match.start("text") if match else 0
    fits = all(
        _is_name(line) or (line[column - 1 : column] == " " != line[column : column + 1])
        for line in paragraph
    )
    return column if fits else 0


def _is_name(line: str) -> bool:
    """Whether a line is a name alone, too long for the first column."""
    return not line.startswith(" ") and "  " not in line


def _definitions(paragraph: list[str], column: int) -> Iterator[str]:
    for line in paragraph:
        if _is_name(line):
            yield f"``{line}``"
            continue
        if not line.startswith(" "):
            yield f"``{line[:column].strip()}``"
        yield f"    {_escape(line[column:])}"


def _escape(line: str) -> str:
    """Text with `code` in it, and no other markup."""
    parts = _CODE.split(line)
    return "".join(part if _CODE.fullmatch(part) else _MARKUP.sub(r"\\\1", part) for part in parts)
