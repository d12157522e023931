"""Finding kernels: in files, folders of files, modules and collections of all of these; of each name, one."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Union

from kpack.alike import alike
from kpack.errors import SpecError
from kpack.spec import Kernel

__all__ = ["Source", "find_kernels"]

Source = Union[str, os.PathLike[str], ModuleType, Kernel, Iterable["Source"]]  # noqa: UP007  # names itself


def find_kernels(source: Source) -> tuple[Kernel, ...]:
    """The kernels that `source` is or holds, sorted by name, each once.

    source  a Python file, a folder of them (those that begin with "_" or "test_" left out), a module, a Kernel,
            or a list of all of these; of a file or module count Kernels at top level, and those in its lists,
            tuples and dicts

    Raises SpecError for a source without kernels, for two different kernels of one name, and for a file that
    fails when it is run, with its line.
    """
    found: dict[str, tuple[Kernel, str]] = {}
    files = _Files()
    kernels = _some_kernels_in(source, files)
    if files.mistakes:
        raise SpecError("\n".join(files.mistakes))
    for kernel, place in kernels:
        other, other_place = found.setdefault(kernel.name, (kernel, place))
        if not _same(kernel, other):
            raise SpecError(
                f"kernel {kernel.name!r}: expected one of this name, got one in {other_place} and one in {place}; "
                "give one of them another name="
            )
    return tuple(found[name][0] for name in sorted(found))


def _describe(source: Source) -> str:
    if isinstance(source, ModuleType):
        return f"module {source.__name__}"
    return repr(str(source)) if isinstance(source, (str, os.PathLike)) else repr(source)


# ---- where kernels are


class _Files:
    """The files that have been run, each once however often it is named, and what was wrong with them."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self._loaded: dict[Path, ModuleType | None] = {}

    def load(self, file: Path) -> ModuleType | None:
        path = file.resolve()
        if path not in self._loaded:
            self._loaded[path] = None
            try:
                self._loaded[path] = _load(file)
            except SpecError as error:
                self.mistakes.append(str(error))
        return self._loaded[path]


def _some_kernels_in(source: Source, files: _Files) -> list[tuple[Kernel, str]]:
    found = list(_kernels_in(source, files))
    if not found and not files.mistakes:
        raise SpecError(f"kernels: expected at least one kpack.Kernel in {_describe(source)}, got none")
    return found


def _kernels_in(source: Source, files: _Files) -> Iterator[tuple[Kernel, str]]:
    """Each kernel, and where it is, for messages."""
    if isinstance(source, Kernel):
        yield source, source.checked.function.source
    elif isinstance(source, ModuleType):
        for kernel in _members(vars(source).values()):
            yield kernel, f"module {source.__name__}"
    elif isinstance(source, (str, os.PathLike)):
        for file in _files(Path(source)):
            module = files.load(file)
            for kernel in _members(vars(module).values()) if module else ():
                yield kernel, _place_of(kernel, file)
    else:
        for item in _each(source):
            yield from _some_kernels_in(item, files)


def _each(source: Any) -> Iterator[Any]:
    try:
        return iter(source.values() if isinstance(source, Mapping) else source)
    except TypeError:
        raise SpecError(
            f"kernels: expected a file, a folder, a module, a kpack.Kernel or several, got {source!r}"
        ) from None


def _members(values: Iterable[object]) -> Iterator[Kernel]:
    """The kernels among a module's values, and in its lists, tuples and dicts."""
    for value in list(values):
        if isinstance(value, Kernel):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (item for item in value if isinstance(item, Kernel))
        elif isinstance(value, dict):
            yield from (item for item in value.values() if isinstance(item, Kernel))


def _files(path: Path) -> Sequence[Path]:
    """The Python files of a folder, without private and test ones, or the one that `path` is."""
    if path.is_dir():
        return [
            file
            for file in sorted(path.glob("*.py"))
            if not file.name.startswith(("_", "test_", "conftest", "setup."))
        ]
    if not path.is_file():
        raise SpecError(f"kernels: expected a file or folder, got {str(path)!r}, which does not exist")
    return [path]


# ---- running a file


def _load(file: Path) -> ModuleType:
    """Run a file as a module, with its folder on sys.path for what it imports from beside it."""
    # The folder is no part of the name: Triton mangles it into device functions, and bytes would differ. In
    # sys.modules, since dataclasses and typing look there for the module of a class.
    name = "kpack_kernels_" + re.sub(r"\W", "_", file.stem)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SpecError(f"kernels: expected a Python file, got {str(file)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(file.parent.resolve())
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        place = _place(error, file)
        lines = _say(error).splitlines() or [""]
        raise SpecError("\n".join(f"{place}: {line}" for line in lines)) from error
    finally:
        sys.path.remove(folder)
    return module


def _say(error: BaseException) -> str:
    return str(error) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"


def _place(error: BaseException, file: Path) -> str:
    """The file and line that failed to load: the last step of the traceback that lies in it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    # The import system makes a relative path absolute.
    path = file.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _place_of(kernel: Kernel, file: Path) -> str:
    """The file, and the line of the kernel's function where it lies in it."""
    name, _, line = kernel.checked.function.source.rpartition(":")
    return f"{file}:{line}" if name == file.name else str(file)


# ---- one kernel, or two


def _same(one: Kernel, other: Kernel) -> bool:
    """Whether two kernels are one, perhaps from a file that was loaded twice, by us and by a neighbour."""
    # Guards, grids and extents are in `checked`, as what they mean; configs= may be a callable.
    return one is other or alike(
        (one.name, one.fn, one.configs, one.checked), (other.name, other.fn, other.configs, other.checked)
    )
