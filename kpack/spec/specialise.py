"""Specialisations: what of the arguments' values a variant is compiled for, and what its name says of that."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kpack.spec.argument import Argument
from kpack.spec.plan import Variant

__all__ = ["Specialisation", "most_special_first", "specialisations", "suffixes"]

Indices = frozenset[int]


@dataclass(frozen=True, slots=True)
class Specialisation:
    """The arguments that are null, 1 and divisible by 16, by number; and what to add to the name."""

    null: Indices
    one: Indices
    divisible: Indices
    suffix: tuple[str, ...]


def specialisations(arguments: Sequence[Argument]) -> Iterator[Specialisation]:
    """All that the hints ask for, the most special first. All "16?" together are one choice."""
    both = {"always": (True,), "both": (True, False), "": (False,)}
    nulls = itertools.product(*(both[argument.null] for argument in arguments))
    for null in nulls:
        for one in itertools.product(*(both[argument.one] for argument in arguments)):
            free = [not (is_null or is_one) for is_null, is_one in zip(null, one, strict=True)]
            optional = any(
                is_free and argument.divisible == "both"
                for is_free, argument in zip(free, arguments, strict=True)
            )
            suffix = [
                *(
                    f"none_{a.name}"
                    for a, is_null in zip(arguments, null, strict=True)
                    if is_null and a.null == "both"
                ),
                *(
                    f"one_{a.name}"
                    for a, is_one in zip(arguments, one, strict=True)
                    if is_one and a.one == "both"
                ),
            ]
            for aligned in (True, False) if optional else (False,):
                wanted = ("always", "both") if aligned else ("always",)
                divisible = frozenset(
                    index
                    for index, argument in enumerate(arguments)
                    if free[index] and argument.divisible in wanted
                )
                named = (*(["a16"] if aligned else []), *suffix)
                yield Specialisation(_indices(null), _indices(one), divisible, named)


def _indices(flags: Iterable[bool]) -> Indices:
    return frozenset(index for index, flag in enumerate(flags) if flag)


# ---- of several cases


def most_special_first(variants: Iterable[Variant]) -> list[Variant]:
    """Alternatives from several cases: a call takes the first that it meets the conditions of, and one for null
    pointers must be asked before one that would follow them."""
    return sorted(variants, key=lambda v: (-len(v.null), -len(v.equal_1), -len(v.divisible_16)))


def suffixes(variant: Variant, alternatives: Iterable[Variant]) -> tuple[str, ...]:
    """What sets a variant apart from its alternatives, where cases rather than hints with "?" made them."""
    others = list(alternatives)
    nulls, ones = (
        sorted(mine - frozenset.intersection(*all_))
        for mine, all_ in (
            (variant.null, [other.null for other in others]),
            (variant.equal_1, [other.equal_1 for other in others]),
        )
    )
    aligned = any(other.divisible_16 < variant.divisible_16 for other in others)
    return (
        *(["a16"] if aligned else []),
        *(f"none_{variant.arguments[number][0]}" for number in nulls),
        *(f"one_{variant.arguments[number][0]}" for number in ones),
    )
