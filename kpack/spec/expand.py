"""The expansion: every choice of types, selected constexprs, config and specialisation is a variant.

A kernel of two types, three configs and one ":16?" unfolds into twelve: the Cartesian product.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kpack.expr import Expr
from kpack.objfile import abi
from kpack.spec.args import DIRECTIONS, Arg
from kpack.spec.configs import Config, read_configs
from kpack.spec.kernel import Checked, Kernel
from kpack.spec.mistakes import Mistakes
from kpack.spec.names import Names
from kpack.spec.plan import Constexpr, Overload, Param, Plan, Variant
from kpack.spec.signature import Argument, check_boxes, integer_range
from kpack.spec.values import INT64, Value, choices, value_type
from kpack.target import Target

__all__ = ["expand"]


def expand(kernel: Kernel, targets: Sequence[Target]) -> Plan:
    """All variants of a kernel for these targets. Raises SpecError, with a line for each mistake."""
    checked = kernel.checked
    mistakes = Mistakes(kernel.name)
    if checked.function.interpreted:
        mistakes.add(
            "kernel",
            "expected a function to compile, got one for Triton's interpreter; build without TRITON_INTERPRET",
        )
    configs = _configs(kernel, targets, mistakes)
    mistakes.raise_any()
    tuned = {name for config in configs for name, _ in config.constexprs}
    constexprs = tuple(Constexpr(name, _role(checked, name, tuned)) for name in checked.function.constexprs)
    overloads: list[Overload] = []
    named: list[Variant] = []
    names = Names(kernel.name, checked, configs, constexprs)
    for chosen in choices(checked.types):
        for selected in choices(tuple(checked.selected.items())):
            variants = [
                variant
                for config, config_targets in configs.items()
                for variant in _variants(
                    checked, chosen, selected, config, config_targets, len(overloads), names, mistakes
                )
            ]
            if not variants:
                which = " ".join(map(str, (*chosen.values(), *selected.values())))
                mistakes.add(
                    f"overload {which}".rstrip(),
                    "expected a variant that can run, got none: all guards are false",
                )
            overloads.append(_overload(checked, chosen, selected))
            named += variants
    mistakes.raise_any()
    return Plan(
        kernel=kernel,
        name=kernel.name,
        params=_params(checked, overloads),
        overloads=tuple(overloads),
        variants=tuple(named),
        constexprs=constexprs,
        guard_text=checked.guard_text,
        grid_text=checked.grid_text,
        source=checked.function.source,
    )


# ---- configs


def _configs(
    kernel: Kernel, targets: Sequence[Target], mistakes: Mistakes
) -> dict[Config, tuple[Target, ...]]:
    """The configs of all targets, each with the targets that have it, in an order that keeps every target's."""
    checked = kernel.checked
    found: dict[Config, list[Target]] = {}
    before: dict[Config, set[Config]] = {}
    for target in targets:
        given, subject = kernel.configs, "configs"
        if callable(given):
            given, subject = given(target), f"configs({target.name})"
            if isinstance(given, (list, tuple)) and not given:
                mistakes.add(subject, "expected one or more configs, got none")
                continue
        configs = read_configs(given, subject, checked.function, checked.fixed, checked.selected, mistakes)
        for previous, config in zip((None, *configs), configs, strict=False):
            found.setdefault(config, []).append(target)
            before.setdefault(config, set()).update((previous,) if previous else ())
    ordered: dict[Config, tuple[Target, ...]] = {}
    while len(ordered) < len(found):
        ready = (config for config in found if config not in ordered and before[config] <= ordered.keys())
        first = next(ready, None)
        if first is None:
            mistakes.add(
                "configs", "expected one order on all targets, got the same configs in another order"
            )
            break
        ordered[first] = tuple(found[first])
    return ordered


def _role(checked: Checked, name: str, tuned: Iterable[str]) -> int:
    if name in checked.selected:
        return abi.CONSTEXPR_SELECTED
    return abi.CONSTEXPR_TUNED if name in tuned else abi.CONSTEXPR_FIXED


# ---- variants


def _variants(
    checked: Checked,
    chosen: Mapping[str, str],
    selected: Mapping[str, Value],
    config: Config,
    targets: tuple[Target, ...],
    overload: int,
    names: Names,
    mistakes: Mistakes,
) -> Iterator[Variant]:
    """The variants of one config, specialised first, without those whose guard is false for any call."""
    values = {**checked.function.defaults, **checked.fixed, **selected, **dict(config.constexprs)}
    options = {**dict(checked.options), **dict(config.options)}
    guard = _fold(checked.guard, values, "guard", mistakes) if checked.guard else None
    if guard and guard.op == "const":
        if not guard.value:
            return
        guard = None
    grid = tuple(_fold(part, values, "grid", mistakes) for part in checked.grid)
    check_boxes(checked.arguments, values, mistakes)
    for null, one, divisible, suffix in _specialisations(checked.arguments):
        name, entry = names.take(chosen, values, options, suffix)
        yield Variant(
            name=name,
            entry=entry,
            overload=overload,
            constexprs=tuple(values[name] for name in checked.function.constexprs),
            arguments=tuple(
                (argument.name, argument.triton(chosen, values)) for argument in checked.arguments
            ),
            divisible_16=divisible,
            equal_1=one,
            null=null,
            options=tuple(sorted(options.items())),
            guard=guard,
            grid=grid,
            targets=targets,
        )


def _fold(expr: Expr, values: Mapping[str, Value], subject: str, mistakes: Mistakes) -> Expr:
    constants = {}
    for name in sorted(expr.names() & values.keys()):
        value = values[name]
        if isinstance(value, int):
            constants[name] = int(value)
        else:
            mistakes.add(subject, f"{name!r}: expected an integer constexpr, got {value!r}")
            constants[name] = 0
    return expr.fold(constants)


Indices = frozenset[int]


def _specialisations(
    arguments: Sequence[Argument],
) -> Iterator[tuple[Indices, Indices, Indices, tuple[str, ...]]]:
    """Null, equal to one, divisible by 16, and what to add to the name; the most special first."""
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
                yield _indices(null), _indices(one), divisible, (*(["a16"] if aligned else []), *suffix)


def _indices(flags: Iterable[bool]) -> Indices:
    return frozenset(index for index, flag in enumerate(flags) if flag)


# ---- the call


def _overload(checked: Checked, chosen: Mapping[str, str], selected: Mapping[str, Value]) -> Overload:
    types = (
        *(argument.code(chosen) for argument in checked.arguments),
        *map(value_type, selected.values()),
        *(abi.I64 for _ in checked.launch),
    )
    return Overload(types, tuple(selected.values()))


def _params(checked: Checked, overloads: Sequence[Overload]) -> tuple[Param, ...]:
    columns = list(zip(*(overload.types for overload in overloads), strict=True))
    by_name = {argument.name: argument for argument in checked.arguments}
    kinds = (
        *((name, abi.PARAM_ARGUMENT) for name in by_name),
        *((name, abi.PARAM_SELECTED) for name in checked.selected),
        *((name, abi.PARAM_LAUNCH) for name in checked.launch),
    )
    found = []
    for (name, kind), types in zip(kinds, columns, strict=True):
        argument = by_name.get(name, Argument(name, ""))
        arg = checked.args.get(name, Arg())
        ranges = [
            INT64 if kind == abi.PARAM_SELECTED and code == abi.I64 else integer_range(code) for code in types
        ]
        direction = DIRECTIONS[arg.direction] or (abi.DIRECTION_IN if argument.const else 0)
        found.append(
            Param(
                name=name,
                kind=kind,
                type=types[0] if len(set(types)) == 1 else abi.VARIES,
                const=argument.const,
                nullable=bool(argument.null),
                least=min(low for low, _ in ranges) if arg.least is None else arg.least,
                most=max(high for _, high in ranges) if arg.most is None else arg.most,
                direction=direction,
                key={False: 0, True: abi.PARAM_KEY, "exact": abi.PARAM_KEY_EXACT}[arg.key],
                extent=checked.extents.get(name),
            )
        )
    return tuple(found)
