"""What is said of a call's parameters beyond their types: for tuners, and for a launcher that checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kpack.expr import Expr, trace
from kpack.objfile import abi
from kpack.spec.mistakes import Mistakes
from kpack.spec.signature import Argument
from kpack.target import nearest

__all__ = ["DIRECTIONS", "Arg", "read_args"]

DIRECTIONS = {
    "": abi.DIRECTION_UNKNOWN,
    "in": abi.DIRECTION_IN,
    "out": abi.DIRECTION_OUT,
    "inout": abi.DIRECTION_INOUT,
}


@dataclass(frozen=True, slots=True)
class Arg:
    """What a tuner and a checking launcher may know of one parameter of the call."""

    direction: str = ""
    """of a pointer: "in", "out" or "inout"; empty: not said"""
    least: int | None = None
    """of an integer: the smallest value that the kernel accepts"""
    most: int | None = None
    key: bool | str = False
    """True: part of the tuning key, by bucket; "exact": by value"""
    extent: Any = None
    """expression: bytes from this pointer that the kernel may touch"""


def read_args(
    given: Mapping[str, Arg | Mapping[str, Any]],
    arguments: Sequence[Argument],
    selected: Iterable[str],
    launch: Sequence[str],
    integers: Iterable[str],
    mistakes: Mistakes,
) -> tuple[dict[str, Arg], dict[str, Expr]]:
    pointers = {argument.name for argument in arguments if argument.pointer}
    call = [*(argument.name for argument in arguments), *selected, *launch]
    # A fixed or tuned constexpr is no part of the call, so an extent cannot ask for it.
    integers = frozenset(integers) & frozenset(call)
    args: dict[str, Arg] = {}
    extents: dict[str, Expr] = {}
    for name, facts in given.items():
        subject = f"args {name!r}"
        if name not in call:
            mistakes.add(subject, f"expected one of {' '.join(call)}, got {name!r}{nearest(name, call)}")
            continue
        try:
            arg = facts if isinstance(facts, Arg) else Arg(**facts)
        except TypeError as error:
            fields = " ".join(Arg.__dataclass_fields__)
            mistakes.add(subject, f"expected an Arg or a dict of {fields}, got {facts!r} ({error})")
            continue
        if arg.direction not in DIRECTIONS:
            mistakes.add(subject, f"direction: expected 'in', 'out' or 'inout', got {arg.direction!r}")
        if arg.key not in (False, True, "exact"):
            mistakes.add(subject, f"key: expected True, False or 'exact', got {arg.key!r}")
        if (arg.direction or arg.extent is not None) and name not in pointers:
            mistakes.add(subject, "direction and extent: expected a pointer, got a value")
        if (arg.least is not None or arg.most is not None) and name not in integers:
            mistakes.add(subject, "least and most: expected an integer, got another type")
        if arg.extent is not None:
            extents[name] = mistakes.attempt(f"{subject}: extent", partial(trace, arg.extent, integers), None)
        args[name] = arg
    return args, extents
