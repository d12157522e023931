"""What a page of the documentation shows: its fenced blocks, and how each of them is tried.

    file       the first line is a comment with the file's name: it is written, and what follows uses it
    sh         run, in the page's folder
    python     run, with what the page's Python before it has defined
    text       behind one of these two: what it prints; `...` stands for anything, also for lines
    c, cpp     otherwise: a fragment, which a file of pages/<page> includes by the name of its heading ("handles.inc")

What is not tried says so, and why, in a line that readers see: *Not run by the tests: it needs a GPU.*
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[\w+-]*)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$")
_FILE = re.compile(
    r"^(?:#|//|/\*) (?P<name>[\w./-]+\.(?:py|c|cc)|(?:[\w./-]+/)?(?:Makefile|CMakeLists\.txt))(?::.*)?(?: \*/)?$"
)
_NOT_RUN = re.compile(r"^\*Not run by the tests: (?P<reason>.+)\.\*$")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A fenced block; `name` is unique on its page, `reason` why it is not tried."""

    name: str
    language: str
    text: str
    line: int
    reason: str = ""

    @property
    def file(self) -> str:
        """The file that this is; "" for what is none."""
        match = _FILE.match(self.text.partition("\n")[0])
        return match["name"] if match else ""


def read_page(path: Path) -> tuple[Snippet, ...]:
    """The blocks of a page, in order."""
    return tuple(_snippets(path.read_text().splitlines()))


def _snippets(lines: list[str]) -> Iterator[Snippet]:
    heading, before, at = "", "", 0
    names: Counter[str] = Counter()
    while at < len(lines):
        if match := _HEADING.match(lines[at]):
            heading = slug(match["title"])
        elif match := _FENCE.match(lines[at]):
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == match["fence"])
            names[heading] += 1
            name = heading if names[heading] == 1 else f"{heading}-{names[heading]}"
            reason = _NOT_RUN.match(before)
            text = "\n".join(lines[at + 1 : end]) + "\n"
            yield Snippet(name, match["language"], text, at + 2, reason["reason"] if reason else "")
            at, before = end, ""
        if lines[at].strip() and not lines[at].startswith("```"):
            before = lines[at]
        at += 1


def slug(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
    return re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")


def agrees(expected: str, printed: str) -> bool:
    """Whether this was printed, where `...` stands for anything, and alone on a line for any lines."""
    parts = []
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*?".join(re.escape(part.rstrip()) for part in line.split("...")) + r"[ ]*\n")
    return re.fullmatch("".join(parts), printed.rstrip("\n") + "\n") is not None
