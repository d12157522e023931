"""The error tree: chosen by what a caller can do about it. Messages say subject, expected, got, what to do.

Causes and remedies are in docs/errors.md, which the package has, too: each error knows its section.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CompileError",
    "Failure",
    "FormatError",
    "KpackError",
    "LaunchError",
    "PackError",
    "SpecError",
    "TargetError",
    "tell",
]


# The names of kpk_status, by number.
STATUSES = (
    *("KPK_OK", "KPK_DRY", "KPK_ERROR_ARGUMENT", "KPK_ERROR_NO_VARIANT", "KPK_ERROR_NO_IMAGE"),
    *("KPK_ERROR_NO_DRIVER", "KPK_ERROR_NO_DEVICE", "KPK_ERROR_STREAM", "KPK_ERROR_GRID", "KPK_ERROR_LIMIT"),
    *("KPK_ERROR_DRIVER", "KPK_ERROR_FORMAT", "KPK_ERROR_MEMORY", "KPK_ERROR_UNSUPPORTED", "KPK_UNPACK"),
)


class KpackError(Exception):
    """Base of every error that kpack raises on purpose."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.add_note(f"see {self.page}")  # which tracebacks show, and str() does not

    @property
    def page(self) -> str:
        """Where causes and remedies are: a section of docs/errors.md, or of the package's copy."""
        return f"{_page()}#{self._section.lower()}"

    @property
    def _section(self) -> str:
        return next(each for each in type(self).__mro__ if each.__module__ == __name__).__name__


def _page() -> Path:
    here = Path(__file__).parent
    installed = here / "doc" / "errors.md"
    return installed if installed.exists() else here.parent / "docs" / "errors.md"


class SpecError(KpackError, ValueError):
    """What the user wrote cannot be built; one error may carry several lines, one a mistake."""


class TargetError(SpecError):
    """An arch name that kpack does not know."""


class FormatError(KpackError, ValueError):
    """An archive, object or image is not what it should be."""


class PackError(KpackError):
    """An object or archive cannot be written."""


class LaunchError(KpackError, RuntimeError):
    """The runtime refused or failed a call; `status` is its `kpk_status`."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)

    @property
    def _section(self) -> str:
        return STATUSES[self.status] if self.status < len(STATUSES) else super()._section


@dataclass(frozen=True, slots=True)
class Failure:
    """One variant that did not compile for one target, and the compiler's reason.

    `reason` is all that the compiler said; `source` is the kernel's file and line, "" where it has none.
    """

    kernel: str
    variant: str
    target: str
    reason: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self._subject}: {self.reason}"

    @property
    def brief(self) -> str:
        """Subject and reason in one line."""
        return f"{self._subject}: {self.summary}"

    @property
    def summary(self) -> str:
        """The reason in one line of at most 300 characters, the same wherever and whenever it is built: without
        folders, names of temporary files and addresses. What an archive keeps of it."""
        return _summary(self.reason)

    @property
    def _subject(self) -> str:
        # A reason that names a place needs no other.
        place = f" ({self.source})" if self.source and not _PLACE.match(self.reason) else ""
        return f"{self.kernel}.{self.variant} for {self.target}{place}"


class CompileError(KpackError):
    """Variants that did not compile, all of them: `failures` has one for each, and its reason."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        count = len(failures)
        super().__init__(f"{count} variant{'s' if count > 1 else ''} did not compile\n" + tell(failures, str))
        self.failures = failures


def tell(failures: Iterable[Failure], words: Callable[[Failure], str]) -> str:
    """Failures in lines: those of a kernel with one reason together, the first in these words."""
    alike: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        alike.setdefault((failure.kernel, failure.summary), []).append(failure)
    lines = []
    for first, *others in alike.values():
        lines.append(words(first))
        for target in dict.fromkeys(other.target for other in others):
            names = ", ".join(other.variant for other in others if other.target == target)
            lines.append(f"  likewise for {target}: {names}")
    return "\n".join(lines)


# ---- a reason in one line

_LONGEST_SUMMARY = 300
_CARET = re.compile(r"\s*\^\s*")  # Triton shows the line at fault, and under it where
_PLACE = re.compile(r"(?:.*/)?(?P<place>[^/\n]+:\d+: in \w+), at \d+:\d+:")
_TELLING = re.compile(r"\berror\b|fatal|assert|unsupported|not supported|cannot|unable", re.IGNORECASE)
_REPLACED = (
    (re.compile(r"(?<![\w.])(?:/[\w.+@-]+)+/(?=[\w.+@-])"), ""),  # folders
    (re.compile(r"(?<![\w.])(?:[\w.+@-]+/)+(?=[\w+@-]+\.\w)"), ""),  # and relative ones of files
    (re.compile(r"\btmp[a-z0-9_]{8}(?![a-z0-9_])"), "tmp"),  # tempfile's names
    (re.compile(r"\b0x[0-9a-fA-F]{6,}\b"), "0x..."),
    (re.compile(r"[\s\x00-\x1f\x7f]+"), " "),
)


def _summary(reason: str) -> str:
    lines = [line for line in reason.splitlines() if line.strip()]
    carets = [number for number, line in enumerate(lines) if _CARET.fullmatch(line)]
    places = [found["place"] for line in lines if (found := _PLACE.fullmatch(line))]
    if carets and carets[-1] + 1 < len(lines):
        # The innermost call that has a place in a file, and what is wrong there.
        parts = [*places[-1:], lines[carets[-1] + 1]]
    else:
        telling = (line for line in lines[1:] if _TELLING.search(line))
        parts = [*lines[:1], *itertools.islice(telling, 1)]
    text = ": ".join(part.strip().rstrip(":.") for part in parts).encode(errors="replace").decode()
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    text = text.strip()
    return text if len(text) <= _LONGEST_SUMMARY else text[: _LONGEST_SUMMARY - 3] + "..."
