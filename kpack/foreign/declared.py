"""A kernel of which there is code, but no function: its call is declared as a Kernel's is, by the same words.

`Kernel` knows a JIT function by its shape alone (`arg_names`, `params`, `fn`), so a stand-in of that shape lets one
reader read all signatures, guards and grids.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, TypeVar

from kpack.errors import SpecError
from kpack.image import Image
from kpack.objfile import abi
from kpack.spec import Arg, Kernel, Plan, Value, Variant, expand
from kpack.target import Target

__all__ = ["attempt", "declare", "one_variant", "packed_arguments", "place_of_caller"]


Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class _Parameter:
    """As kpack.spec looks at a parameter of a JIT function."""

    name: str
    is_constexpr: bool


class _StandIn:
    """The shape of a JIT function whose parameters have these names."""

    def __init__(self, name: str, arguments: Iterable[str], constexprs: Iterable[str]) -> None:
        self.params = [
            *(_Parameter(argument, False) for argument in arguments),
            *(_Parameter(constexpr, True) for constexpr in constexprs),
        ]
        self.arg_names = [parameter.name for parameter in self.params]

        def function(*_: object) -> None:
            raise SpecError(f"{name}: expected a launch from a built archive, got a call of its declaration")

        function.__name__ = name
        any_kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what inspect itself reads
            [inspect.Parameter(parameter.name, any_kind) for parameter in self.params]
        )
        self.fn = function
        self.__name__ = name


def declare(
    name: str,
    signature: Mapping[str, str],
    *,
    constexprs: Mapping[str, Value],
    guard: Any,
    grid: Any,
    args: Mapping[str, Arg | Mapping[str, Any]],
    options: Mapping[str, Value] | None = None,
) -> Kernel:
    """The call of code that was compiled one way, as a Kernel. Raises SpecError, with a line for each mistake."""
    _check_names(name, signature, "signature")
    _check_names(name, constexprs, "constexprs")
    mistakes = [
        *(
            f"{name}: argument {argument!r}: expected '[const ][*]type[:hint]', got {text!r}"
            for argument, text in signature.items()
            if not isinstance(text, str)
        ),
        *_hints_both_ways(name, signature),
        *(
            f"{name}: constexpr {constexpr!r}: expected the one value that the code was compiled with, got {value!r}"
            for constexpr, value in constexprs.items()
            if isinstance(value, (list, tuple))
        ),
        *(
            f"{name}: constexpr {constexpr!r}: expected a name that is no argument's, got one in signature="
            for constexpr in constexprs
            if constexpr in signature
        ),
    ]
    if mistakes:
        raise SpecError("\n".join(mistakes))
    return Kernel(
        _StandIn(name, signature, constexprs),
        name=name,
        signature=signature,
        constexprs=constexprs,
        guard=guard,
        grid=grid,
        args=args,
        options=options or {},
    )


def _check_names(name: str, given: object, field: str) -> None:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise SpecError(f"{name}: {field}: expected a dict with a name for each key, got {given!r}")
    for key in given:
        if not key.isidentifier():
            raise SpecError(f"{name}: {field}: expected names, got {key!r}")


def _hints_both_ways(name: str, signature: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: argument {argument!r}: expected the one way that the code was compiled, got {text!r}; "
        "leave the hint out, or write it without '?'"
        for argument, text in signature.items()
        if isinstance(text, str) and "?" in text
    ]


def one_variant(
    kernel: Kernel,
    targets: Sequence[Target],
    *,
    name: str,
    entry: str,
    options: tuple[tuple[str, Value], ...],
    source: str,
    producer: Callable[[Plan, Variant, Target], Image],
    origin: Mapping[str, Any],
) -> Plan:
    """The plan of a kernel that there is one way: its only variant, called `name`, for `targets`."""
    plan = expand(kernel, targets)
    (variant,) = plan.variants
    return replace(
        plan,
        variants=(replace(variant, name=name, entry=entry, options=options),),
        source=source,
        producer=producer,
        origin=origin,
    )


def packed_arguments(plan: Plan, variant: Variant) -> tuple[tuple[int, int], ...]:
    """Index and type code of each argument that the code has: those that are 1 or null have been folded away."""
    types = plan.overloads[variant.overload].types
    folded = variant.equal_1 | variant.null
    count = sum(param.kind == abi.PARAM_ARGUMENT for param in plan.params)
    return tuple((index, types[index]) for index in range(count) if index not in folded)


def attempt(read: Callable[[], Read], mistakes: list[str]) -> Read | None:
    """What `read` gives; None, and a line for each mistake, where it raises SpecError."""
    try:
        return read()
    except SpecError as error:
        mistakes += str(error).splitlines()
        return None


def place_of_caller() -> str:
    """File name and line of what declares the kernel: the nearest caller outside this package."""
    frame: FrameType | None = sys._getframe(1)
    here = os.path.dirname(__file__)
    while frame and (
        os.path.dirname(frame.f_code.co_filename) == here or frame.f_code.co_filename == "<string>"
    ):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""
