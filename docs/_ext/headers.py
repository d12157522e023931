"""The directive `header`: the reference of a C or C++ header, written from the header.

A header is its own documentation: sections begin with `---- Title ----` in a comment, a comment stands before what it
is about, or behind it on the same line. So the page shows these in order: a heading for each section, each comment as
text, and each declaration as it is written, under its name, to which other pages link.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes

INCLUDE = Path(__file__).parents[2] / "csrc" / "include"

_TITLE = re.compile(r"^(?:/\*|//) -{4} (?P<title>.*?) -{4,}(?: \*/)?$")
_NAMES = (
    re.compile(r"^#define (?P<name>KPA?C?K_[A-Z]\w+)"),
    re.compile(r"typedef \w[\w ]*\(\*(?P<name>\w+)\)"),
    re.compile(r"^typedef (?:struct|enum) (?P<name>\w+)"),
    re.compile(r"^(?:class|struct|enum class)(?: KPACK_TYPE)? (?P<name>\w+)"),
    re.compile(r"\b(?P<name>kpk_\w+)\("),
    re.compile(r"^inline [\w:<>* ]+?\*?(?P<name>\w+)\("),
)
# What is no one's to call.
_INTERNAL = re.compile(r"^namespace detail \{$.*?^\}  // namespace detail$", re.MULTILINE | re.DOTALL)
_PRIVATE = re.compile(r"^ +private:\n.*?(?=^ *\};)", re.MULTILINE | re.DOTALL)
_INITIALISERS = re.compile(r"\)\s*:(?!:)[^{};/]*(?:\{[^{};]*\}\s*)?(?=\{)")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
# What is there for the compiler.
_PLUMBING = re.compile(
    r"\s*#\s*(?!define)|#define (?:\w+_H|KPK_API|KPK_INLINE|KPK_AS|KPK_ADDRESS|KPK_HAS_FLOAT16|KPACK_TYPE|KPACK_INLINE|"
    r"KPACK_APART)\b|extern \"C\" \{$|\}$|(?:inline )?namespace \w+ \{$|\}  // namespace|struct \w+;$|static_assert\("
)
# Attributes say nothing to a reader of the page.
_NOISE = re.compile(r"\b(?:KPK_API|KPACK_INLINE|KPACK_TYPE|KPACK_APART|KPK_INLINE) ")


@dataclass(frozen=True, slots=True)
class Block:
    """A comment and what it is about; a title alone begins a section."""

    title: str
    comment: str
    code: str

    @property
    def names(self) -> tuple[str, ...]:
        """What is declared here, and may be linked to."""
        found: dict[str, None] = {}
        for line in self.code.splitlines():
            for pattern in _NAMES:
                if match := pattern.search(line):
                    found[match["name"]] = None
                    break
        for body in re.findall(r"\benum(?: \w+)? \{(.*?)\}", self.code, re.DOTALL):
            found.update(dict.fromkeys(re.findall(r"\bKPK_\w+(?= ?[=,\n])", body)))
        return tuple(found)


def public(text: str) -> str:
    """A header without what is internal, and functions without their bodies."""
    text = _PRIVATE.sub("", _INTERNAL.sub("", text))
    text = _INITIALISERS.sub(") ", text)
    written, at = [], 0
    comments = [match.span() for match in _COMMENT.finditer(text)]
    for match in re.finditer(r"\)(?: const)?\s*\{", text):
        if match.start() < at or any(start < match.start() < end for start, end in comments):
            continue  # inside a body
        body = match.end() - 1
        written.append(text[at:body].rstrip() + ";")
        at = _end_of_body(text, body)
    return "".join(written) + text[at:]


def _end_of_body(text: str, at: int) -> int:
    """Behind the brace that closes the one at `at`. No header has one in a text or comment of a body."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end()
    raise ValueError(f"no end of the body at {at}")


def read_header(text: str) -> Iterator[Block]:
    """The blocks of a header, in order. What is between `#if` and `#endif` is like anything else."""
    comment: list[str] = []
    code: list[str] = []
    lines = iter(text.splitlines())

    plumbing = False  # and nothing else: what a comment says of it is no one's to read
    opening = True  # the first comment is about the header

    def flush() -> Iterator[Block]:
        nonlocal plumbing, opening
        if code or (comment and (opening or not plumbing)):
            yield Block("", "\n".join(comment), "\n".join(code))
            opening = False
        comment.clear()
        code.clear()
        plumbing = False

    for line in lines:
        if match := _TITLE.match(line):
            yield from flush()
            yield Block(match["title"], "", "")
        elif line.startswith(("/*", "//")):
            if code:
                yield from flush()
            comment += _comment(line, lines)
        elif not line.strip():
            yield from flush()
        elif line.endswith("\\") and not _PLUMBING.match(line):  # a macro's text is its own business
            code.append(line.rstrip("\\ "))
            while next(lines).endswith("\\"):
                pass
        elif _PLUMBING.match(line):
            plumbing = True
        else:
            code.append(_NOISE.sub("", line))
    yield from flush()


def _comment(first: str, lines: Iterator[str]) -> Iterator[str]:
    if first.startswith("//"):
        yield first[2:].removeprefix(" ")
        return
    line = first[2:].removeprefix(" ")
    while "*/" not in line:
        yield line.rstrip()
        line = next(lines).removeprefix(" *").removeprefix(" ")
    yield line.partition("*/")[0].rstrip()


class Header(Directive):
    """`header` with the header's path below csrc/include."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = INCLUDE / self.arguments[0]
        self.state.document.settings.env.note_dependency(str(path))
        language = "cpp" if path.suffix == ".hpp" else "c"
        written: list[nodes.Node] = []
        section: nodes.section | None = None
        for block in read_header(public(path.read_text())):
            if block.title:
                section = nodes.section(ids=[f"{path.suffix[1:]}-{nodes.make_id(block.title)}"])
                section += nodes.title(text=block.title)
                written.append(section)
                continue
            shown = _text(block.comment)
            if block.code:
                new = [name for name in block.names if name not in self.state.document.nameids]
                targets = [nodes.target(ids=[name], names=[name]) for name in new]
                for target in targets:
                    self.state.document.note_explicit_target(target)
                shown += [*targets, nodes.literal_block(block.code, block.code, language=language)]
            for node in shown:
                (written if section is None else section).append(node)
        return written


def _text(comment: str) -> list[nodes.Node]:
    """A comment as paragraphs; what is indented is code."""
    found: list[nodes.Node] = []
    lines = comment.splitlines()
    for is_code, group in itertools.groupby(
        lines, key=lambda line: line.startswith("  ") or None if line else False
    ):
        part = "\n".join(group)
        if is_code:
            found.append(nodes.literal_block(part, textwrap.dedent(part), language="none"))
        elif part.strip():
            found.append(nodes.paragraph("", "", *_inline(" ".join(part.split()))))
    return found


_CODE = re.compile(r"(`[^`]+`|\bdocs/\w+\.md|\bkpk_\w+(?:\(\))?|\bKPA?C?K_[A-Z]\w*)")
_PAGE = re.compile(r"docs/(?P<name>\w+)\.md")


def _inline(text: str) -> Iterator[nodes.Node]:
    """Text, with names of the API as code, and of pages as links."""
    for number, part in enumerate(_CODE.split(text)):
        if match := _PAGE.fullmatch(part):
            page = f"/{match['name']}"
            yield addnodes.pending_xref(
                "", nodes.literal("", part), refdomain="std", reftype="doc", reftarget=page, refexplicit=True
            )
        elif part:
            yield nodes.literal("", part.strip("`")) if number % 2 else nodes.Text(part)


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("header", Header)
    return {"parallel_read_safe": True}
