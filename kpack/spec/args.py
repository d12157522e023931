"""What is said of a call's parameters beyond their types: for tuners, and for a launcher that checks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kpack.expr import Expr, trace
from kpack.objfile import abi
from kpack.spec.argument import Argument, Types
from kpack.spec.mistakes import Mistakes
from kpack.spec.values import INT64
from kpack.spec.wrappers import Tuning
from kpack.target import nearest

__all__ = ["DIRECTIONS", "Arg", "in_", "inout", "out", "read_args"]

DIRECTIONS = {
    "": abi.DIRECTION_UNKNOWN,
    "in": abi.DIRECTION_IN,
    "out": abi.DIRECTION_OUT,
    "inout": abi.DIRECTION_INOUT,
}


@dataclass(frozen=True, slots=True)
class Arg:
    """What a tuner and a checking launcher may know of one parameter of the call.

    Checked by the Kernel that it is given to, which raises SpecError.
    """

    direction: str = ""
    """of a pointer or a tensor descriptor: "in", "out" or "inout"; empty: not said"""
    least: int | None = None
    """of an integer: the smallest value that the kernel accepts; None: the smallest of its type"""
    most: int | None = None
    """of an integer: the largest value that the kernel accepts; None: the largest of its type"""
    key: bool | str = False
    """True: part of the tuning key, by bucket; "exact": by value"""
    extent: Any = None
    """expression, as a guard is: bytes from this pointer that the kernel may touch; sizeof(T) is the bytes of one
    element of a type variable, sizeof(x_ptr) of what a pointer points to"""


def in_(bytes: Any = None) -> Arg:
    """Of a pointer: the kernel only reads, up to `bytes` (an expression, `Arg.extent`) from it; None: not said."""
    return Arg(direction="in", extent=bytes)


def out(bytes: Any = None) -> Arg:
    """Of a pointer: the kernel writes all of its result there and reads none of what was there before. `bytes`:
    `Arg.extent`. With it a tuner can compare what variants write, and run them where nobody else's memory is."""
    return Arg(direction="out", extent=bytes)


def inout(bytes: Any = None) -> Arg:
    """Of a pointer: the kernel changes what is there. `bytes`: `Arg.extent`."""
    return Arg(direction="inout", extent=bytes)


def read_args(
    given: Mapping[str, Arg | Mapping[str, Any]],
    cases: Sequence[Sequence[Argument]],
    selected: Iterable[str],
    launch: Sequence[str],
    integers: Iterable[str],
    types: Types,
    tuning: Tuning | None,
    mistakes: Mistakes,
) -> tuple[dict[str, Arg], dict[str, Expr]]:
    """Facts and extents by parameter of the call, whose arguments each case has; an autotuner's facts go last."""
    pointers = {argument.name for arguments in cases for argument in arguments if argument.pointer}
    # Of a type variable the archive knows no size, but of the first argument that has its type.
    sized: dict[str, int | str] = {name: name for name in pointers}
    sized |= {each.type: each.name for each in reversed(cases[0]) if each.type in types}
    memory = {*pointers, *(argument.name for arguments in cases for argument in arguments if argument.box)}
    call = [*(argument.name for argument in cases[0]), *selected, *launch]
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
        if not isinstance(arg.direction, str) or arg.direction not in DIRECTIONS:
            mistakes.add(subject, f"direction: expected 'in', 'out' or 'inout', got {arg.direction!r}")
            continue
        if arg.key not in (False, True, "exact"):
            mistakes.add(subject, f"key: expected True, False or 'exact', got {arg.key!r}")
        if (arg.direction or arg.extent is not None) and name not in memory:
            mistakes.add(subject, "direction and extent: expected a pointer, got a value")
        elif arg.extent is not None and name not in pointers:
            mistakes.add(subject, "extent: expected a pointer, got a tensor descriptor, which says its shape")
        if arg.key and name in memory:
            mistakes.add(subject, "key: expected a value, got memory")
        if (arg.least is not None or arg.most is not None) and name not in integers:
            mistakes.add(subject, "least and most: expected an integer, got another type")
        _check_range(arg, subject, mistakes)
        if arg.extent is not None:
            read = partial(trace, arg.extent, integers, sized)
            extent = mistakes.attempt(f"{subject}: extent", read, None)
            if extent:
                extents[name] = extent.fold({}, sized)
        args[name] = arg
    if tuning:
        _add_tuning(args, tuning, call, memory)
    return args, extents


def _add_tuning(args: dict[str, Arg], tuning: Tuning, call: Iterable[str], memory: Collection[str]) -> None:
    """What an autotuner says in other words: its key is by value, and what it resets or restores, a run changes."""
    changed = {*tuning.reset_to_zero, *tuning.restore_value} & {*memory}
    for name in call:
        arg = args.get(name, Arg())
        if name in changed and not arg.direction:
            arg = replace(arg, direction="inout")
        if name in tuning.key and not arg.key and name not in memory:
            arg = replace(arg, key="exact")
        if arg != Arg():
            args[name] = arg


def _check_range(arg: Arg, subject: str, mistakes: Mistakes) -> None:
    low, high = INT64
    fitting = True
    for name, bound in (("least", arg.least), ("most", arg.most)):
        if bound is not None and not (type(bound) is int and low <= bound <= high):
            mistakes.add(subject, f"{name}: expected an integer of 64 bits, got {bound!r}")
            fitting = False
    if fitting and arg.least is not None and arg.most is not None and arg.least > arg.most:
        mistakes.add(subject, f"least and most: expected least <= most, got {arg.least} and {arg.most}")
