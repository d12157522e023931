"""Do two values mean the same? Also two that came from one file, run twice under two module names.

Values are compared part by part; functions by their code, file and all that it reaches: defaults, closure, and
the globals it names. Where that cannot be told, they differ.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["alike"]

_PLAIN = (int, float, complex, str, bytes, type(None))
# What a JIT function adds to its Python function; beside these it holds caches.
_JIT_SETTINGS = ("arg_names", "noinline", "debug", "do_not_specialize", "do_not_specialize_on_alignment")


def alike(one: Any, other: Any) -> bool:
    """Whether `one` and `other` mean the same. False where it cannot be told."""
    return _Comparison().same(one, other)


class _Comparison:
    def __init__(self) -> None:
        # Pairs met before are taken as alike: functions that call each other go in circles. Held, since the id of
        # what is gone is given away again.
        self.met: dict[tuple[int, int], tuple[Any, Any]] = {}

    def same(self, a: Any, b: Any) -> bool:
        if a is b:
            return True
        if isinstance(a, type) and isinstance(b, type):
            return _same_place(_home(a), _home(b))
        if type(a) is not type(b) and not self.same(type(a), type(b)):
            return False
        if isinstance(a, _PLAIN):
            return repr(a) == repr(b)  # tells -0.0 from 0.0, and takes one NaN for another
        if (id(a), id(b)) in self.met:
            return True
        self.met[id(a), id(b)] = (a, b)
        return self._same_parts(a, b)

    def _same_parts(self, a: Any, b: Any) -> bool:
        if isinstance(a, ModuleType):
            return _same_place(_file(a), _file(b))
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(map(self.same, a, b))
        if isinstance(a, Mapping):
            return self.same(list(a), list(b)) and all(self.same(a[key], b[key]) for key in a)
        if isinstance(a, FunctionType):
            return self._same_function(a, b)
        if isinstance(a, partial):
            return self.same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
        if isinstance(getattr(a, "fn", None), FunctionType):
            return self.same(a.fn, b.fn) and self._same_attributes(a, b, _JIT_SETTINGS)
        if is_dataclass(a):
            return self._same_attributes(a, b, (field.name for field in fields(a)))
        if hasattr(a, "__dict__"):
            return self.same(vars(a), vars(b))
        return False

    def _same_attributes(self, a: Any, b: Any, names: Iterable[str]) -> bool:
        return all(self.same(getattr(a, name, None), getattr(b, name, None)) for name in names)

    def _same_function(self, a: FunctionType, b: FunctionType) -> bool:
        same_code = a.__code__ == b.__code__  # constants, names, lines: all but the file
        same_file = os.path.realpath(a.__code__.co_filename) == os.path.realpath(b.__code__.co_filename)
        return (
            same_code
            and same_file
            and self.same((a.__defaults__, a.__kwdefaults__), (b.__defaults__, b.__kwdefaults__))
            and self.same(_closure(a), _closure(b))
            and self.same(_globals(a), _globals(b))
        )


def _closure(function: FunctionType) -> list[Any]:
    empty = object  # stands for a variable that has no value yet
    cells = function.__closure__ or ()
    return [cell.cell_contents if _is_filled(cell) else empty for cell in cells]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # the one way to ask
    except ValueError:
        return False
    return True


def _globals(function: FunctionType) -> dict[str, Any]:
    """What the code names of its module, and a little more: attributes are names, too."""
    return {
        name: function.__globals__[name]
        for name in sorted(_names(function.__code__))
        if name in function.__globals__
    }


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))


# ---- where modules and classes are from

Place = tuple[str, str] | None


def _same_place(a: Place, b: Place) -> bool:
    return a is not None and a == b


def _file(module: Any) -> Place:
    file = getattr(module, "__file__", None)
    return (os.path.realpath(file), "") if file else None


def _home(class_: type) -> Place:
    """The file of a class and its name there, if that is where it can be found."""
    module = sys.modules.get(class_.__module__)
    if getattr(module, class_.__qualname__, None) is not class_:
        return None
    found = _file(module)
    return found and (found[0], class_.__qualname__)
