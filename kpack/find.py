"""Finding kernels: in files, folders of files, modules and collections of all of these; of each name, one."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeGuard, Union

from kpack.alike import alike
from kpack.errors import SpecError
from kpack.foreign import TABLE_FUNCTIONS, Group, read_table
from kpack.needs import what_to_install
from kpack.spec import Kernel, Plan
from kpack.target import Target

__all__ = ["AnyKernel", "Expands", "Source", "find_kernels"]


class Expands(Protocol):
    """What unfolds by itself: Images, IR, a group of a function table."""

    @property
    def name(self) -> str: ...

    def expand(self, targets: Sequence[Target]) -> Plan: ...


AnyKernel = Kernel | Expands
Source = Union[str, os.PathLike[str], ModuleType, AnyKernel, Iterable["Source"]]  # noqa: UP007  # names itself


def find_kernels(source: Source) -> tuple[AnyKernel, ...]:
    """The kernels that `source` is or holds, sorted by name, each once.

    source  a Python file, a folder of them (those that begin with "_" or "test_" left out), a module, a Kernel
            (or Images, or IR), or a list of all of these; of a file or module count kernels at top level, and those
            in its lists, tuples and dicts; where there is none, but a get_function_table() as ONNX Runtime's scripts
            have it, each group of that table

    Raises SpecError for a source without kernels, for two different kernels of one name, and for a file that
    fails when it is run, with its line.
    """
    found: dict[str, tuple[AnyKernel, str]] = {}
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

    def table(self, function: Callable[[], Any], place: str) -> tuple[Group, ...]:
        """The groups of a function table."""
        try:
            return read_table(
                function, f"{Path(place).name}:{inspect.unwrap(function).__code__.co_firstlineno}"
            )
        except Exception as error:  # the table is the user's code
            self.mistakes += [f"{place}: {line}" for line in _say(error).splitlines()]
            return ()


def _some_kernels_in(source: Source, files: _Files) -> list[tuple[AnyKernel, str]]:
    found = list(_kernels_in(source, files))
    if not found and not files.mistakes:
        raise SpecError(f"kernels: expected at least one kpack.Kernel in {_describe(source)}, got none")
    return found


def _kernels_in(source: Source, files: _Files) -> Iterator[tuple[AnyKernel, str]]:
    """Each kernel, and where it is, for messages."""
    if isinstance(source, Kernel) or _expands(source):
        yield source, _source(source)
    elif isinstance(source, ModuleType):
        place = f"module {source.__name__}"
        for kernel in _kernels_of(source, place, files):
            yield kernel, place
    elif isinstance(source, (str, os.PathLike)):
        for file in _files(Path(source)):
            module = files.load(file)
            for kernel in _kernels_of(module, str(file), files) if module else ():
                yield kernel, _place_of(kernel, file)
    else:
        for item in _each(source):
            yield from _some_kernels_in(item, files)


def _expands(value: object) -> TypeGuard[Expands]:
    """Whether a value is a kernel that is no Kernel: a module may hold other things with a name and an expand()."""
    expand = getattr(type(value), "expand", None)
    if not inspect.isfunction(expand) or not isinstance(getattr(value, "name", None), str):
        return False
    return list(inspect.signature(expand).parameters)[1:] == ["targets"]


def _each(source: Any) -> Iterator[Any]:
    try:
        return iter(source.values() if isinstance(source, Mapping) else source)
    except TypeError:
        raise SpecError(
            f"kernels: expected a file, a folder, a module, a kpack.Kernel or several, got {source!r}"
        ) from None


def _kernels_of(module: ModuleType, place: str, files: _Files) -> Iterable[AnyKernel]:
    """The kernels of a module; without any, the groups of its function table."""
    found = tuple(_members(vars(module).values()))
    table = next((vars(module)[name] for name in TABLE_FUNCTIONS if callable(vars(module).get(name))), None)
    if found or table is None:
        return found
    return files.table(table, place)


def _members(values: Iterable[object]) -> Iterator[AnyKernel]:
    """The kernels among a module's values, and in its lists, tuples and dicts."""
    for value in list(values):
        if isinstance(value, (list, tuple)):
            items: Iterable[object] = value
        elif isinstance(value, dict):
            items = list(value.values())
        else:
            items = (value,)
        yield from (item for item in items if isinstance(item, Kernel) or _expands(item))


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
    _forget_others(folder)
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


_folders: set[str] = set()  # of all files that were run


def _forget_others(folder: str) -> None:
    """Two folders may each have a common.py that their kernels import: what was imported from beside other files is
    no module of this folder's."""
    _folders.add(folder)
    elsewhere = _folders - {folder}
    for name, module in list(sys.modules.items()):
        if "." in name or _folder_of(module) not in elsewhere or not PathFinder.find_spec(name, [folder]):
            continue
        for part in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[part]


def _folder_of(module: ModuleType) -> str:
    """Where a module or package at top level lies; "" for one without a file."""
    known = getattr(module, "__dict__", {})  # not by attribute: modules may make these up
    places = [*known.get("__path__", ()), known.get("__file__")]
    return os.path.dirname(places[0] or "")


def _say(error: BaseException) -> str:
    if isinstance(error, SpecError):
        return str(error)
    advice = what_to_install(error) if isinstance(error, ModuleNotFoundError) else ""
    return advice or f"{type(error).__name__}: {error}"


def _place(error: BaseException, file: Path) -> str:
    """The file and line that failed to load: the last step of the traceback that lies in it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    # The import system makes a relative path absolute.
    path = file.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _source(kernel: AnyKernel) -> str:
    """File name and line of a kernel, as it says."""
    return (
        kernel.checked.function.source if isinstance(kernel, Kernel) else str(getattr(kernel, "source", ""))
    )


def _place_of(kernel: AnyKernel, file: Path) -> str:
    """The file, and the line of the kernel's function where it lies in it."""
    name, _, line = _source(kernel).rpartition(":")
    return f"{file}:{line}" if name == file.name else str(file)


# ---- one kernel, or two


def _same(one: AnyKernel, other: AnyKernel) -> bool:
    """Whether two kernels are one, perhaps from a file that was loaded twice, by us and by a neighbour."""
    if not (isinstance(one, Kernel) and isinstance(other, Kernel)):
        return one is other or alike(one, other)
    # Guards, grids and extents are in `checked`, as what they mean; configs= may be a callable.
    return one is other or alike(
        (one.name, one.fn, one.configs, one.checked), (other.name, other.fn, other.configs, other.checked)
    )
