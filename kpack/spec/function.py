"""A JIT function as kpack sees it: by `arg_names`, `params` and `fn`, which every release of Triton gives it.

So Triton itself is not imported.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kpack.errors import SpecError
from kpack.spec.values import Value, read_value

__all__ = ["Function", "read_function"]


@dataclass(frozen=True, slots=True)
class Function:
    """What kpack needs to know of a JIT function."""

    name: str
    arguments: tuple[str, ...]
    constexprs: tuple[str, ...]
    defaults: Mapping[str, Value]
    source: str
    interpreted: bool = False
    """made under TRITON_INTERPRET=1: for Triton's interpreter, and for no compiler"""


def read_function(fn: Any) -> Function:
    python = getattr(fn, "fn", None)
    if not (hasattr(fn, "arg_names") and inspect.isfunction(python)):
        raise SpecError(
            f"kernel: expected a function decorated with @triton.jit alone, got {type(fn).__name__} {fn!r}; "
            "autotuning belongs in configs="
        )
    parameters = inspect.signature(python).parameters
    interpreted = not hasattr(fn, "params")
    if interpreted:  # then only its annotations say what is a constexpr, as Triton reads them
        constexprs = tuple(name for name, each in parameters.items() if "constexpr" in str(each.annotation))
    else:
        constexprs = tuple(
            name for name, param in zip(fn.arg_names, fn.params, strict=True) if param.is_constexpr
        )
    defaults = {
        name: read_value(parameter.default)
        for name, parameter in parameters.items()
        if name in constexprs and parameter.default is not inspect.Parameter.empty
    }
    code = python.__code__
    return Function(
        name=python.__name__,
        arguments=tuple(name for name in fn.arg_names if name not in constexprs),
        constexprs=constexprs,
        defaults=defaults,
        source=f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}",
        interpreted=interpreted,
    )
