"""The expansion: every choice of types, selected constexprs, config and specialisation is a variant.

A kernel of two types, three configs and one ":16?" unfolds into twelve: the Cartesian product. One with cases has such
a product for each, and what a call cannot tell apart among them are alternatives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kpack.expr import Expr, const, make, variable
from kpack.objfile import abi
from kpack.spec.argument import TYPES, Argument, check_boxes
from kpack.spec.call import overload_of, params_of, with_keys
from kpack.spec.cases import Case
from kpack.spec.configs import ALSO_OPTIONS, OPTION_NAMES, Config, read_configs
from kpack.spec.heuristics import Environment, outcomes
from kpack.spec.kernel import Checked, Kernel
from kpack.spec.mistakes import Mistakes
from kpack.spec.names import Names
from kpack.spec.plan import Constexpr, Overload, Param, Plan, Variant
from kpack.spec.signature import Fixed
from kpack.spec.specialise import Specialisation, most_special_first, specialisations, suffixes
from kpack.spec.values import Constant, Value, choices, is_plain, listed
from kpack.target import Target

__all__ = ["expand", "takes_all_of", "without"]


@dataclass(slots=True)
class _Found:
    """One overload: its variants, each with what its name adds for the specialisation. `which` is for messages."""

    which: str
    types: tuple[str, ...]
    variants: list[tuple[Variant, tuple[str, ...]]]


def expand(kernel: Kernel, targets: Sequence[Target]) -> Plan:
    """All variants of a kernel for these targets. Raises SpecError, with a line for each mistake."""
    checked = kernel.checked
    mistakes = Mistakes(kernel.name)
    if checked.function.interpreted:
        mistakes.add(
            "kernel",
            "expected a function to compile, got one for Triton's interpreter; build without TRITON_INTERPRET",
        )
    configs = [_configs(checked, case, targets, mistakes.within(case.place)) for case in checked.cases]
    mistakes.raise_any()
    found: dict[Overload, _Found] = {}
    for case, case_configs in zip(checked.cases, configs, strict=True):
        _add_case(found, checked, case, case_configs, mistakes.within(case.place))
    for overload in found.values():
        if not overload.variants:
            mistakes.add(
                f"overload {overload.which}".rstrip(),
                "expected a variant that can run, got none: all guards are false",
            )
    mistakes.raise_any()
    params = params_of(checked, tuple(found))
    if len(checked.cases) > 1:
        _join_cases(found)
    refused = _refuse_nulls(found.values(), params)
    tuned = {name for each in configs for config in each for name, _ in config.constexprs}
    tuned |= {heuristic.name for heuristic in checked.function.heuristics}
    constexprs = tuple(Constexpr(name, _role(checked, name, tuned)) for name in checked.function.constexprs)
    variants = _named(kernel.name, constexprs, found.values())
    return Plan(
        kernel=kernel,
        name=kernel.name,
        params=with_keys(params, variants),
        overloads=tuple(found),
        variants=variants,
        constexprs=constexprs,
        guard_text=_guard_text(checked, found.values(), refused),
        grid_text=checked.grid_text,
        source=checked.function.source,
    )


def _role(checked: Checked, name: str, tuned: Iterable[str]) -> int:
    if name in checked.selected:
        return abi.CONSTEXPR_SELECTED
    return abi.CONSTEXPR_TUNED if name in tuned else abi.CONSTEXPR_FIXED


def _named(kernel: str, constexprs: Sequence[Constexpr], overloads: Iterable[_Found]) -> tuple[Variant, ...]:
    """All variants: what sets them apart can be said when all are known."""
    overloads = list(overloads)
    names = Names(kernel, [variant for each in overloads for variant, _ in each.variants], constexprs)
    named = []
    for number, overload in enumerate(overloads):
        for variant, suffix in overload.variants:
            name, entry = names.take(overload.types, variant, suffix)
            named.append(replace(variant, name=name, entry=entry, overload=number))
    return tuple(named)


def _guard_text(checked: Checked, overloads: Iterable[_Found], refused: Iterable[str]) -> str:
    """The kernel's guard, and what else is in guards of its variants: `refused` have variants that take no null."""
    guarded = any(variant.guard for overload in overloads for variant, _ in overload.variants)
    computed = dict.fromkeys(each.name for each in checked.function.heuristics) if guarded else {}
    texts = [checked.guard_text, f"heuristics of {', '.join(computed)}" if computed else ""]
    texts += (f"{name} not null" for name in refused)
    return " and ".join(filter(None, texts))


# ---- configs


def _configs(
    checked: Checked, case: Case, targets: Sequence[Target], mistakes: Mistakes
) -> dict[Config, tuple[Target, ...]]:
    """The configs of all targets, each with the targets that have it, in an order that keeps every target's."""
    found: dict[Config, list[Target]] = {}
    before: dict[Config, set[Config]] = {}
    for target in targets:
        given, subject = case.configs, "configs"
        if callable(given):
            given, subject = given(target), f"configs({target.name})"
            if isinstance(given, (list, tuple)) and not given:
                mistakes.add(subject, "expected one or more configs, got none")
                continue
        configs = read_configs(given, subject, checked.function, case.decided, mistakes)
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


# ---- variants


def _add_case(
    found: dict[Overload, _Found],
    checked: Checked,
    case: Case,
    configs: Mapping[Config, tuple[Target, ...]],
    mistakes: Mistakes,
) -> None:
    for chosen in choices(checked.types):
        for selected in choices(tuple(case.selected.items())):
            types = tuple(chosen.values())
            which = " ".join(map(str, (*types, *selected.values())))
            key = overload_of(checked, case, chosen, selected)
            overload = found.setdefault(key, _Found(which, types, []))
            for config, targets in configs.items():
                for special in specialisations(case.arguments):
                    made = _variants(checked, case, chosen, selected, config, special, targets, mistakes)
                    overload.variants += ((variant, special.suffix) for variant in made)


def _variants(
    checked: Checked,
    case: Case,
    chosen: Mapping[str, str],
    selected: Mapping[str, Value],
    config: Config,
    special: Specialisation,
    targets: tuple[Target, ...],
    mistakes: Mistakes,
) -> Iterator[Variant]:
    """The variants of one specialisation, one for all that heuristics may come to, without those whose guard is
    false for any call. They have no names yet."""
    function = checked.function
    given = {**case.fixed, **selected, **dict(config.constexprs)}
    # A keyword of a launch is a constexpr and an option at a time; a default is no keyword.
    options = {**dict(case.options), **dict(config.options), **_also_options(given)}
    sizes = _sizes(case.arguments, chosen)
    environment = Environment(case.arguments, case.signature.bound, chosen, special.one, special.null)
    computed = [each for each in function.heuristics if each.name not in case.decided]
    for results, condition in outcomes(
        computed, environment, {**function.defaults, **options, **given}, case.enumerated, mistakes
    ):
        values = {**function.defaults, **given, **results}
        all_options = {**options, **_also_options(results)}
        guard = condition
        if checked.guard:
            guard = make("and", condition, _fold(checked.guard, values, sizes, "guard", mistakes))
        if guard.op == "const" and not guard.value:
            continue
        check_boxes(case.arguments, values, mistakes)
        beside = {name: value for name, value in results.items() if name not in function.parameters}
        yield Variant(
            name="",
            entry="",
            overload=0,
            constexprs=tuple(listed(values[name]) for name in function.constexprs),
            arguments=tuple((argument.name, argument.triton(chosen, values)) for argument in case.arguments),
            divisible_16=special.divisible,
            equal_1=special.one,
            null=special.null,
            options=tuple(sorted({**all_options, **_plain(beside)}.items())),
            guard=None if guard.op == "const" else guard,
            grid=tuple(_fold(part, values, sizes, "grid", mistakes) for part in checked.grid),
            prefer=_prefer(checked, values, all_options, sizes, mistakes),
            targets=targets,
            bound=tuple(
                case.signature.bound[name] if name in case.signature.bound else Fixed(values[name])
                for name in function.parameters
            ),
        )


def _also_options(values: Mapping[str, Constant]) -> dict[str, Value]:
    return _plain({name: value for name, value in values.items() if name in ALSO_OPTIONS})


def _plain(values: Mapping[str, Constant]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if is_plain(value) and value is not None}


def _sizes(arguments: Iterable[Argument], chosen: Mapping[str, str]) -> dict[str, int | str]:
    """What sizeof() of a pointer, and of a type variable, is in one overload, bytes."""
    types = {argument.name: argument.type_name(chosen) for argument in arguments if argument.pointer}
    return {name: abi.ELEMENT_BYTES.get(TYPES[type_], 0) for name, type_ in {**types, **chosen}.items()}


def _prefer(
    checked: Checked,
    values: Mapping[str, Constant],
    options: Mapping[str, Value],
    sizes: Mapping[str, int | str],
    mistakes: Mistakes,
) -> Expr | None:
    if checked.prefer is None:
        return None
    asked = {name: options.get(name, OPTION_NAMES[name]) for name in OPTION_NAMES if name not in values}
    for name in sorted(checked.prefer.names()):
        if name in asked and asked[name] is None:
            mistakes.add("prefer", f"{name!r}: expected it in options= or in every config, got one without")
    known = {**{name: 0 if value is None else value for name, value in asked.items()}, **values}
    return _fold(checked.prefer, known, sizes, "prefer", mistakes)


def _fold(
    expr: Expr,
    values: Mapping[str, Constant],
    sizes: Mapping[str, int | str],
    subject: str,
    mistakes: Mistakes,
) -> Expr:
    constants = {}
    for name in sorted(expr.names() & values.keys()):
        value = values[name]
        if isinstance(value, int):
            constants[name] = int(value)
        else:
            mistakes.add(subject, f"{name!r}: expected an integer constexpr, got {listed(value)!r}")
            constants[name] = 0
    return expr.fold(constants, sizes)


# ---- several cases


def _join_cases(found: Mapping[Overload, _Found]) -> None:
    """Drop what several cases have in common, put alternatives in order, and find words for what differs."""
    signatures = [
        [text for _, text in variant.arguments] for each in found.values() for variant, _ in each.variants
    ]
    differing = [number for number, texts in enumerate(zip(*signatures, strict=True)) if len(set(texts)) > 1]
    for overload in found.values():
        once: dict[str, Variant] = {}
        for variant, _ in overload.variants:
            key = repr(replace(variant, targets=()))  # repr: True is not 1
            known = once.setdefault(key, variant)
            once[key] = replace(known, targets=tuple(dict.fromkeys((*known.targets, *variant.targets))))
        ordered = most_special_first(once.values())
        overload.variants = [(variant, suffixes(variant, ordered)) for variant in ordered]
        texts = (ordered[0].arguments[number][1] for number in differing)
        overload.types = tuple(dict.fromkeys(text.removeprefix("*") for text in texts))


# ---- null pointers


def _refuse_nulls(overloads: Iterable[_Found], params: Sequence[Param]) -> list[str]:
    """Guard the variants of all overloads; the pointers that some guard is about."""
    refused = set()
    for overload in overloads:
        alternatives = [variant for variant, _ in overload.variants]
        guarded = [_without_null(each, alternatives, params) for each in alternatives]
        for before, after in zip(alternatives, guarded, strict=True):
            if after is not before:
                refused |= {*range(len(params))} - before.null
        overload.variants = [
            (new, suffix) for new, (_, suffix) in zip(guarded, overload.variants, strict=True)
        ]
    return [param.name for at, param in enumerate(params) if param.nullable and at in refused]


def _without_null(variant: Variant, alternatives: Sequence[Variant], params: Sequence[Param]) -> Variant:
    """A variant, guarded against null pointers that others were compiled for, or would have been: other cases have
    None there, or guards depend on it. Not where alternatives before it take all of these calls."""
    free = [at for at, param in enumerate(params) if param.nullable and at not in variant.null]
    taken = {
        each.null
        for each in alternatives
        if each.null > variant.null and each.prefer == variant.prefer and _takes_more(each, variant)
    }
    if len(taken) == (1 << len(free)) - 1:
        return variant
    guard = variant.guard
    for at in reversed(free):
        given = make("ge", variable(params[at].name), const(1))
        guard = make("and", given, guard) if guard else given
    return replace(variant, guard=guard)


def _takes_more(one: Variant, other: Variant) -> bool:
    """Whether a variant runs whatever another does, but for null pointers."""
    return (
        one.equal_1 <= other.equal_1
        and one.divisible_16 <= other.divisible_16
        and one.guard in (None, other.guard)
        and {*one.targets} >= {*other.targets}
    )


def without(plan: Plan, missing: Iterable[tuple[int, str]]) -> Plan:
    """The plan of a pack in which variants, by number, are missing for targets, by name: what is left takes no null
    pointer that one of these was for."""
    lost = set(missing)
    if not any(plan.variants[number].null for number, _ in lost):
        return plan
    left = [
        replace(each, targets=tuple(t for t in each.targets if (number, t.name) not in lost))
        for number, each in enumerate(plan.variants)
    ]
    guarded = [
        _without_null(each, [other for other in left if other.overload == each.overload], plan.params)
        for each in left
    ]
    nullable = [f"{param.name} not null" for param in plan.params if param.nullable]
    return replace(
        plan,
        variants=tuple(
            replace(each, guard=new.guard) for each, new in zip(plan.variants, guarded, strict=True)
        ),
        guard_text=" and ".join(dict.fromkeys(filter(None, (plan.guard_text, *nullable)))),
    )


def takes_all_of(one: Variant, other: Variant) -> bool:
    """Whether every call that `other` may run, `one` may run as well: they are alternatives of one overload."""
    return one.overload == other.overload and one.null == other.null and _takes_more(one, other)
