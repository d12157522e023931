"""What a kernel's code is made of beside its own text: the functions that it reaches, and the values that it names.

Triton's own key of a function leaves values out, which of them depends on the release: it checks, before each launch,
that they have not changed since. A cache that outlives the program has to have them in the key.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from kpack.spec import Fixed, Opaque, dtype_name, read_constant

__all__ = ["key_of", "place_of", "reached"]


def reached(fn: Any, handed: Iterable[Any] = ()) -> list[Any]:
    """A JIT function, those that it may call, and those among `handed`, what it is given for constexprs."""
    found: dict[int, Any] = {}
    waiting = [fn, *_functions_in(tuple(handed))]
    while waiting:
        current = waiting.pop(0)
        if id(current) not in found:
            found[id(current)] = current
            waiting += [value for _, value in _named(current) if _is_function(value)]
    return list(found.values())


def key_of(fn: Any, handed: Iterable[Any] = ()) -> str:
    """Stands for the texts of all these functions, and the values that they name."""
    functions = reached(fn, handed)
    values = sorted(
        {
            f"{name}={read_constant(value)!r}"
            for each in functions
            for name, value in _named(each)
            if _is_value(value)
        }
    )
    keys = [fn.cache_key, *sorted(each.cache_key for each in functions[1:])]
    return hashlib.sha256("\n".join([*keys, *values]).encode()).hexdigest()


def place_of(error: Any, functions: Iterable[Any]) -> str:
    """File, line and function of a CompilationError: Triton counts from the function's own first line, which is not
    the file's. "" where it does not say."""
    line = getattr(error.node, "lineno", None)
    for fn in functions:
        if line is not None and getattr(fn, "src", None) == error.src:
            lines, first = inspect.getsourcelines(fn.fn)
            # The function's text begins at its "def", behind the decorators.
            decorators = next((n for n, text in enumerate(lines) if text.lstrip().startswith("def ")), 0)
            return f"{fn.fn.__code__.co_filename}:{first + decorators + line - 1}: in {fn.__name__}, "
    return ""


# ---- what code names


def _named(fn: Any) -> Iterator[tuple[str, Any]]:
    """What a function's code names of its closure and its module, and of modules that it names; and a little more:
    attributes are names, too."""
    python = fn.fn
    scope = {**python.__globals__, **inspect.getclosurevars(python).nonlocals}
    names = sorted(_names(python.__code__))
    yield from _members(scope, names, set())


def _members(scope: Mapping[str, Any], names: Iterable[str], seen: set[int]) -> Iterator[tuple[str, Any]]:
    for name in (name for name in names if name in scope):
        value = scope[name]
        if not isinstance(value, ModuleType):
            yield name, value
        elif id(value) not in seen and value.__name__.partition(".")[0] != "triton":
            seen.add(id(value))
            yield from _members(vars(value), names, seen)


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return {*code.co_names, *code.co_freevars}.union(*map(_names, inner))


def _is_function(value: Any) -> bool:
    return hasattr(value, "cache_key") and isinstance(getattr(value, "fn", None), FunctionType)


def _functions_in(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _functions_in(part)
    elif isinstance(value, (Fixed, Opaque)):
        yield from _functions_in(value.value)
    elif _is_function(value):
        yield value


def _is_value(value: Any) -> bool:
    """What a kernel can take from its surroundings; other objects of a name change nothing of its code."""
    is_constexpr = type(value).__name__ == "constexpr"
    return is_constexpr or isinstance(value, (bool, int, float, str, tuple)) or bool(dtype_name(value))
