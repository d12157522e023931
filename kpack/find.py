"""Finding kernels: in a file, a folder of files, a module or a collection; of each name, one."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from kpack.errors import SpecError
from kpack.spec import Kernel

__all__ = ["Source", "find_kernels"]

Source = str | os.PathLike[str] | ModuleType | Kernel | Iterable[Kernel]


def find_kernels(source: Source) -> tuple[Kernel, ...]:
    """The kernels that `source` is or holds, by name. Raises SpecError for none, and for two of one name."""
    found: dict[str, tuple[Kernel, str]] = {}
    for kernel, place in _kernels_in(source):
        other, other_place = found.setdefault(kernel.name, (kernel, place))
        if not _same(kernel, other):
            raise SpecError(
                f"kernel {kernel.name!r}: expected one of this name, got one in {other_place} and one in {place}; "
                "give one of them another name="
            )
    if not found:
        raise SpecError(f"kernels: expected at least one kpack.Kernel in {_describe(source)}, got none")
    return tuple(found[name][0] for name in sorted(found))


def _describe(source: Source) -> str:
    if isinstance(source, ModuleType):
        return f"module {source.__name__}"
    return repr(str(source)) if isinstance(source, (str, os.PathLike)) else repr(source)


# ---- where kernels are


def _kernels_in(source: Source) -> Iterator[tuple[Kernel, str]]:
    """Each kernel, and where it is for messages."""
    if isinstance(source, Kernel):
        yield source, source.checked.function.source
    elif isinstance(source, ModuleType):
        for kernel in _members(vars(source).values()):
            yield kernel, f"module {source.__name__}"
    elif isinstance(source, (str, os.PathLike)):
        for file in _files(Path(source)):
            for kernel in _members(vars(_load(file)).values()):
                yield kernel, str(file)
    else:
        for item in _each(source):
            if not isinstance(item, Kernel):
                raise SpecError(f"kernels: expected a kpack.Kernel, got {item!r}")
            yield item, item.checked.function.source


def _each(source: Any) -> Iterator[Any]:
    try:
        return iter(source)
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
        raise SpecError(f"{_place(error, file)}: {_say(error)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _say(error: BaseException) -> str:
    return str(error) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"


def _place(error: BaseException, file: Path) -> str:
    """The file and line that failed to load: the last step of the traceback that lies in it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return f"{file}:{lines[-1]}" if lines else str(file)


# ---- one kernel, or two


def _same(one: Kernel, other: Kernel) -> bool:
    """Whether two kernels are one, perhaps from a file that was loaded twice, by us and by a neighbour."""
    return one is other or _content(one) == _content(other)


def _content(kernel: Kernel) -> object:
    given = (getattr(kernel, field.name) for field in fields(Kernel) if field.name != "checked")
    return tuple(map(_comparable, given))


def _comparable(value: Any) -> object:
    code = getattr(value, "__code__", None) or getattr(getattr(value, "fn", None), "__code__", None)
    if isinstance(code, CodeType):
        return code.co_filename, code.co_firstlineno, code.co_code
    if isinstance(value, Mapping):
        return tuple((name, _comparable(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_comparable, value))
    return str(value)  # triton.Config says in its text all that it holds
