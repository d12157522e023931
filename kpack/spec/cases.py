"""Cases: what the products of types, selected constexprs and configs are made from.

A kernel without `cases=` is one case. With them, each extends and overrides what the kernel says, and the constants
that differ between cases become part of the call, which is how it tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kpack.objfile import abi
from kpack.spec.argument import Argument, Types
from kpack.spec.configs import ALSO_OPTIONS, names_in_configs, read_configs, read_constexprs, read_options
from kpack.spec.function import Function
from kpack.spec.mistakes import Mistakes
from kpack.spec.signature import Signature, read_signature
from kpack.spec.values import Constant, Value, choices, is_plain
from kpack.target import Target, nearest

__all__ = ["FIELDS", "Case", "Written", "check_told_apart", "constant_names", "read_case", "select_differing"]

FIELDS = ("signature", "constexprs", "options", "configs")

Configs = Sequence[Any] | Callable[[Target], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Written:
    """One case as the user writes it, with what it takes over from the kernel. `place`: "cases[1]", or "" for a
    kernel without cases."""

    place: str
    signature: Mapping[str, Any]
    constexprs: Mapping[str, Any]
    options: Mapping[str, Any]
    configs: Configs

    def extended(self, index: int, given: object, mistakes: Mistakes) -> Written:
        place = f"cases[{index}]"
        here = mistakes.within(place)
        if not isinstance(given, Mapping):
            here.add("case", f"expected a dict of {' '.join(FIELDS)}, got {given!r}")
            return replace(self, place=place)
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name not in FIELDS:
                here.add("case", f"expected {' '.join(FIELDS)}, got {name!r}{nearest(str(name), FIELDS)}")
            elif name == "configs":
                fields[name] = value
            elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
                fields[name] = {**getattr(self, name), **value}
            else:
                here.add(name, f"expected a dict with a name for each key, got {value!r}")
        return replace(self, place=place, **fields)

    @property
    def parts(self) -> frozenset[str]:
        """The parameters that are tuples of types, of which only parts may be constant."""
        return frozenset(name for name, said in self.signature.items() if isinstance(said, (tuple, list)))


@dataclass(frozen=True, slots=True)
class Case:
    """A case read into values. `enumerated`: constants that a heuristic chooses, and the values it may choose."""

    place: str
    signature: Signature
    fixed: Mapping[str, Constant]
    selected: Mapping[str, tuple[Constant, ...]]
    enumerated: Mapping[str, tuple[Constant, ...]]
    options: tuple[tuple[str, Value], ...]
    configs: Configs

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return self.signature.arguments

    @property
    def decided(self) -> frozenset[str]:
        """The constants that constexprs= decides, so that neither a config nor a heuristic may."""
        return frozenset((*self.fixed, *self.selected))


# ---- reading


def constant_names(cases: Iterable[Written], function: Function, mistakes: Mistakes) -> set[str]:
    """The parameters that are constants beside those that are annotated so, in any case."""
    names = {heuristic.name for heuristic in function.heuristics}
    typed: set[str] = set()
    for case in cases:
        names |= names_in_configs(case.configs)
        names |= case.constexprs.keys() - case.parts
        names |= case.options.keys() & ALSO_OPTIONS
        names |= {name for name, said in case.signature.items() if said == "constexpr"}
        typed |= {name for name, said in case.signature.items() if said != "constexpr"}
    names &= set(function.parameters)
    for name in sorted(names & typed - {*function.constexprs}):
        mistakes.add(
            f"argument {name!r}",
            "expected a type in signature= or a constant, got both; a constant leaves the call, and a pointer that "
            "may be None is '*fp16:none?'",
        )
    return (names | (function.defaults.keys() - typed)) - typed


def read_case(written: Written, function: Function, types: Types, all_mistakes: Mistakes) -> Case:
    mistakes = all_mistakes.within(written.place)
    signature = read_signature(written.signature, written.constexprs, function, types, mistakes)
    fixed, several = read_constexprs(written.constexprs, function, written.parts, mistakes)
    options = read_options("options", written.options, function, mistakes)
    for name, value in options:
        if name in function.constexprs and name not in several:
            fixed.setdefault(name, value)
    computed = {heuristic.name for heuristic in function.heuristics}
    selected = {name: values for name, values in several.items() if name not in computed}
    for name, values in selected.items():
        _check_passable(name, values, mistakes)
    case = Case(
        place=written.place,
        signature=signature,
        fixed=fixed,
        selected=selected,
        enumerated={name: values for name, values in several.items() if name in computed},
        options=options,
        configs=written.configs,
    )
    if not callable(written.configs):
        read_configs(written.configs, "configs", function, case.decided, mistakes)
    return case


def _check_passable(name: str, values: Iterable[Constant], mistakes: Mistakes) -> None:
    for value in values:
        if not is_plain(value):
            mistakes.add(
                f"constexpr {name!r}",
                f"expected values that a call can pass, got {value}; give it alone, or make a kernel for each",
            )
            return


# ---- several cases


def select_differing(cases: Sequence[Case], function: Function, mistakes: Mistakes) -> tuple[Case, ...]:
    """The cases, with the constants that differ between them among the selected."""
    promoted = [name for name in function.constexprs if _differs(name, cases, function)]
    found = []
    for case in cases:
        selected = dict(case.selected)
        for name in promoted:
            value = case.fixed.get(name, function.defaults.get(name))
            selected.setdefault(name, (value,))
            _check_passable(name, selected[name], mistakes.within(case.place))
        fixed = {name: value for name, value in case.fixed.items() if name not in promoted}
        ordered = {name: selected[name] for name in function.constexprs if name in selected}
        found.append(replace(case, fixed=fixed, selected=ordered))
    for case in found[1:]:
        names, first = ([a.name for a in each.arguments] for each in (case, found[0]))
        if names != first:
            mistakes.within(case.place).add(
                "arguments", f"expected one call for all cases: {' '.join(first)}, got {' '.join(names)}"
            )
    return tuple(found)


def _differs(name: str, cases: Sequence[Case], function: Function) -> bool:
    if any(name in case.selected for case in cases):
        return True
    known = [
        case.fixed.get(name, function.defaults.get(name))
        for case in cases
        if name in case.fixed or name in function.defaults
    ]
    computed = any(name == heuristic.name for heuristic in function.heuristics)
    tuned = any(name in names_in_configs(case.configs) for case in cases)
    # What a config or a heuristic decides in another case is no question of the call.
    return not tuned and not (computed and len(known) < len(cases)) and len(set(map(repr, known))) > 1


def check_told_apart(cases: Sequence[Case], types: Types, mistakes: Mistakes) -> None:
    """A call must be able to tell overloads apart: it sees classes of types, not widths of scalars."""
    seen: dict[tuple[object, ...], tuple[tuple[int, ...], str]] = {}
    for case in cases:
        for chosen in choices(tuple(types.items())):
            codes = tuple(argument.code(chosen) for argument in case.arguments)
            classes = tuple(map(abi.type_class, codes))
            place = case.place or f"types {' '.join(chosen.values())}".rstrip()
            for selected in choices(tuple(case.selected.items())):
                key = (classes, repr(selected))
                other, other_place = seen.setdefault(key, (codes, place))
                if other != codes:
                    mistakes.add(
                        place,
                        f"expected a choice that a call can tell from {other_place.removeprefix('types ')}, got the "
                        "same call for both; only pointers differ by type, so give scalars a fixed one",
                    )
                    break
