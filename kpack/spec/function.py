"""A JIT function as kpack sees it: by `arg_names`, `params` and `fn`, which every release of Triton gives it.

So Triton itself is not imported.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kpack.spec.values import OTHER_NAMES, Constant, read_constant
from kpack.spec.wrappers import Heuristic, Tuning, unwrap

__all__ = ["Function", "read_function"]


@dataclass(frozen=True, slots=True)
class Function:
    """What kpack needs to know of a JIT function, and of what is wrapped around it."""

    name: str
    jit: Any
    """the JIT function itself"""
    parameters: tuple[str, ...]
    constexprs: tuple[str, ...]
    """those that are constants of the compiler, in source order: by annotation, or because the kernel fixes them"""
    defaults: Mapping[str, Constant]
    annotations: Mapping[str, str]
    """types that annotations give run-time arguments, as a signature says them"""
    read_only: tuple[str, ...]
    """annotated tl.const: to Triton, memory that nobody writes while the kernel runs"""
    source: str
    tuning: Tuning | None = None
    heuristics: tuple[Heuristic, ...] = ()
    gluon: bool = False
    interpreted: bool = False
    """made under TRITON_INTERPRET=1: for Triton's interpreter, and for no compiler"""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The parameters that a call passes, in source order."""
        return tuple(name for name in self.parameters if name not in self.constexprs)

    def fixing(self, names: Iterable[str]) -> Function:
        """The same function with these parameters among its constants: Triton makes one of any."""
        fixed = {*self.constexprs, *names}
        return replace(self, constexprs=tuple(name for name in self.parameters if name in fixed))


def read_function(fn: Any) -> Function:
    """Raises SpecError for what is no JIT function, nor a stack around one."""
    jit, tuning, heuristics = unwrap(fn)
    python = jit.fn
    parameters = inspect.signature(python).parameters
    params = dict(zip(jit.arg_names, getattr(jit, "params", ()), strict=False))
    interpreted = not hasattr(jit, "params")
    if interpreted:  # then only its annotations say what is a constexpr, as Triton reads them
        constexprs = tuple(name for name, each in parameters.items() if "constexpr" in str(each.annotation))
    else:
        constexprs = tuple(name for name, param in params.items() if param.is_constexpr)
    code = python.__code__
    return Function(
        name=python.__name__,
        jit=jit,
        parameters=tuple(jit.arg_names),
        constexprs=constexprs,
        defaults={
            name: read_constant(parameter.default)
            for name, parameter in parameters.items()
            if parameter.default is not inspect.Parameter.empty
        },
        annotations={
            name: _signature_of(param.annotation_type)
            for name, param in params.items()
            if getattr(param, "annotation_type", "")
        },
        read_only=tuple(name for name, param in params.items() if getattr(param, "is_const", False)),
        source=f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}",
        tuning=tuning,
        heuristics=heuristics,
        gluon=bool(getattr(jit, "is_gluon", bool)()),
        interpreted=interpreted,
    )


def _signature_of(annotation: str) -> str:
    """A type as Triton normalises it in annotations: "*kfp16" is a const pointer, "u1" a bool."""
    const = annotation.startswith("*k")
    pointer = "*" if annotation.startswith("*") else ""
    name = annotation.removeprefix("*k" if const else "*")
    return f"{'const ' if const else ''}{pointer}{OTHER_NAMES.get(name, name)}"
