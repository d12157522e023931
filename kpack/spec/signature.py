"""The signature: the type of each run-time argument, those in tuples too, and type variables.

A tuple parameter has a tuple of types, one a part, nested as it is: the call passes its parts one by one, as
`shape_0`, `shape_1`. A part that is "constexpr" is a constant, whose value lies at its place in `constexprs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from kpack.objfile import abi
from kpack.spec.argument import TYPES, Argument, Types, is_integer, read_argument, unknown_type
from kpack.spec.function import Function
from kpack.spec.mistakes import Mistakes
from kpack.spec.values import Constant, as_tuple, read_constant
from kpack.target import nearest

__all__ = ["Bound", "Fixed", "Signature", "check_used", "integer_names", "read_signature", "read_types"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the compiler knows of a parameter, or of a part of one, in place of an argument."""

    value: Constant


# What a parameter is bound to: an argument of the call by its number, a constant, or a tuple of these.
Bound = Union[int, Fixed, tuple["Bound", ...]]  # noqa: UP007  # names itself


@dataclass(frozen=True, slots=True)
class Signature:
    """The run-time arguments of the call, and what each parameter of the function that is one is made of."""

    arguments: tuple[Argument, ...]
    bound: Mapping[str, Bound]


def integer_names(arguments: Sequence[Argument], types: Types) -> set[str]:
    return {argument.name for argument in arguments if is_integer(argument, types)}


def read_types(
    given: Mapping[str, Sequence[str]], mistakes: Mistakes
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for name, types in given.items():
        subject = f"type variable {name!r}"
        if name in TYPES:
            mistakes.add(subject, "expected a name of its own, got a type's; call it for example 'T'")
        if not isinstance(types, (list, tuple)) or not types or not all(isinstance(t, str) for t in types):
            one = f"; write [{types!r}]" if isinstance(types, str) else ""
            mistakes.add(subject, f"expected a list of types, got {types!r}{one}")
            found.append((name, ("i32",)))  # stands in, so that its arguments are no mistakes, too
            continue
        for choice in types:
            if choice not in abi.DTYPES:
                mistakes.add(subject, unknown_type(choice, abi.DTYPES))
        if len(set(types)) < len(types):
            mistakes.add(subject, f"expected each type once, got {list(types)}")
        found.append((name, tuple(types)))
    return tuple(found)


def check_used(types: Iterable[str], signatures: Iterable[Signature], mistakes: Mistakes) -> None:
    used = {argument.type for signature in signatures for argument in signature.arguments}
    for name in types:
        if name not in used:
            mistakes.add(f"type variable {name!r}", "expected an argument of that type, got none")


def read_signature(
    given: Mapping[str, Any],
    constexprs: Mapping[str, Any],
    function: Function,
    types: Types,
    mistakes: Mistakes,
) -> Signature:
    """`constexprs`: as given, for the constants inside of tuples."""
    for name, said in given.items():
        # What Triton's own signatures call a constant may stay.
        if name in function.constexprs and said != "constexpr":
            mistakes.add(
                f"signature {name!r}",
                "expected a run-time argument, got a constexpr; it belongs in constexprs= or configs=",
            )
        elif name not in function.parameters:
            mistakes.add(
                f"signature {name!r}",
                f"expected an argument of {function.name}: {' '.join(function.arguments) or '(none)'}, "
                f"got {name!r}{nearest(name, function.arguments)}",
            )
    reading = _Reading(function, types, mistakes)
    bound: dict[str, Bound] = {}
    for name in function.arguments:
        said = given.get(name, function.annotations.get(name))
        if said is None:
            mistakes.add(f"argument {name!r}", "expected a type in signature=, got none")
        else:
            bound[name] = reading.read(name, said, constexprs.get(name))
    names = [argument.name for argument in reading.arguments]
    whole = {name for name, part in bound.items() if isinstance(part, int)}
    for name in dict.fromkeys(names):
        if names.count(name) > 1 or name in {*function.parameters} - whole:
            mistakes.add(
                f"argument {name!r}",
                "expected a name of its own for a part of a tuple, got a parameter's; rename that",
            )
    return Signature(tuple(reading.arguments), bound)


class _Reading:
    """Collects the arguments of a signature, the parts of tuples one by one."""

    def __init__(self, function: Function, types: Types, mistakes: Mistakes) -> None:
        self.function, self.types, self.mistakes = function, types, mistakes
        self.arguments: list[Argument] = []

    def read(self, name: str, said: Any, constant: Any) -> Bound:
        if isinstance(said, (tuple, list)):
            return self._read_tuple(name, tuple(said) if isinstance(said, list) else said, constant)
        if said == "constexpr":
            return Fixed(read_constant(constant))
        if constant is not None:
            self.mistakes.add(
                f"argument {name!r}", f"expected a constant or a type, got both: {constant!r} and {said!r}"
            )
        self.arguments.append(read_argument(name, said, self.function, self.types, self.mistakes))
        return len(self.arguments) - 1

    def _read_tuple(self, name: str, said: tuple[Any, ...], constant: Any) -> Bound:
        constants = constant if isinstance(constant, (tuple, list)) else (constant,) * len(said)
        if len(constants) != len(said):
            self.mistakes.add(
                f"argument {name!r}",
                f"expected constants for {len(said)} parts, got {len(constants)}: {constant!r}",
            )
            constants = (None,) * len(said)

        def parts() -> Iterator[Bound]:
            for number, (part, value) in enumerate(zip(said, constants, strict=True)):
                yield self.read(f"{name}_{number}", part, value)

        return as_tuple(said, parts())
