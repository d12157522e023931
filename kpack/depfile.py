"""What a build has read, written as a rule for make and ninja: whoever edits it, has the archive built again."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import BYTECODE_SUFFIXES
from pathlib import Path

__all__ = ["Reads", "watch_reads", "write_depfile"]

_FOREIGN = ("site-packages", "dist-packages")
_MACHINE = ("/proc", "/sys", "/dev", "/etc")
# Of what is installed, one file stands for all of a release: installing another writes it anew.
_STANDING_FOR_ALL = ("kpack", "triton")


class Reads:
    """The files that Python has opened to read, and the extension modules that it has loaded, while `watch_reads`
    lasted, in this process: kernel files, what they import, images, tables. What a library opens in C is not seen."""

    def __init__(self) -> None:
        self.watching = True
        self._opened: dict[str, None] = {}

    def files(self) -> tuple[Path, ...]:
        """Those that are still there, absolute and sorted: none of Python's own or of an installed package, but for
        one of kpack and one of Triton."""
        packages = [sys.modules[name].__file__ for name in _STANDING_FOR_ALL if name in sys.modules]
        standing = {Path(os.path.abspath(file)) for file in packages if file}
        folders: list[str | Path] = [
            *_MACHINE,
            sysconfig.get_path("stdlib"),
            sysconfig.get_path("platstdlib"),
            *(file.parent for file in standing),
        ]
        found = {
            path
            for path in (Path(os.path.abspath(name)) for name in self._opened)
            if not any(path.is_relative_to(folder) for folder in folders)
            and not any(folder in path.parts for folder in _FOREIGN)
            and path.is_file()
        }
        return tuple(sorted(found | standing))

    def _see(self, event: str, args: tuple[object, ...]) -> None:
        """An audit hook."""
        if not self.watching:
            return
        if event == "open":
            name, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if isinstance(name, (str, bytes)) and not writes:
                self._opened[_source_of(os.fsdecode(name))] = None
        elif event == "import" and isinstance(args[1], str):  # an extension module, and where it is
            self._opened[args[1]] = None


def _source_of(name: str) -> str:
    """The file that a cached module was compiled from."""
    if name.endswith(tuple(BYTECODE_SUFFIXES)):
        try:
            return importlib.util.source_from_cache(name)
        except ValueError:  # one without a source
            return name
    return name


@contextmanager
def watch_reads() -> Iterator[Reads]:
    """See what is read from now on. For a process that builds and ends: an audit hook stays until then."""
    reads = Reads()
    sys.addaudithook(reads._see)
    # A folder of kernels is read, too: what Python caches there would make it newer than what is built of it.
    sys.dont_write_bytecode = True
    try:
        yield reads
    finally:
        reads.watching = False


def write_depfile(path: Path, output: str, inputs: Iterable[Path]) -> None:
    """One rule, `output: inputs`, and an empty one for each input, so that one which is gone stops no build."""
    names = [_escape(str(name)) for name in inputs]
    rules = [f"{_escape(output)}: \\\n  " + " \\\n  ".join(names), *(f"{name}:" for name in names)]
    path.write_text("\n\n".join(rules) + "\n")


def _escape(name: str) -> str:
    """As compilers write it, and make and ninja read it."""
    return name.replace("$", "$$").replace("#", r"\#").replace(" ", r"\ ")
