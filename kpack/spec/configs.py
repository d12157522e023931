"""Compile-time choices: constexprs, compiler options, and configs, which set both for a variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kpack.spec.function import Function
from kpack.spec.mistakes import Mistakes
from kpack.spec.values import Value, read_value
from kpack.target import nearest

__all__ = ["DEFAULT_NUM_WARPS", "Config", "read_configs", "read_constexprs", "read_options"]

DEFAULT_NUM_WARPS = 4  # Triton's, on every backend


@dataclass(frozen=True, slots=True)
class Config:
    constexprs: tuple[tuple[str, Value], ...]
    options: tuple[tuple[str, Value], ...]


def read_constexprs(
    given: Mapping[str, Any], function: Function, mistakes: Mistakes
) -> tuple[dict[str, Value], dict[str, tuple[Value, ...]]]:
    fixed: dict[str, Value] = {}
    selected: dict[str, tuple[Value, ...]] = {}
    for name in given:
        if name not in function.constexprs:
            mistakes.add(
                f"constexpr {name!r}",
                f"expected a tl.constexpr parameter of {function.name}: "
                f"{' '.join(function.constexprs) or '(none)'}, got {name!r}{nearest(name, function.constexprs)}",
            )
    # In source order: the order of a dict is no part of the contract.
    for name in (name for name in function.constexprs if name in given):
        choice = given[name]
        subject = f"constexpr {name!r}"
        if not isinstance(choice, (list, tuple)):
            fixed[name] = mistakes.attempt(subject, partial(read_value, choice), None)
            continue
        values = mistakes.attempt(subject, partial(_values, choice), ())
        if not choice or len({(type(value), value) for value in values}) < len(values):
            mistakes.add(subject, f"expected one or more different values, got {list(choice)}")
        selected[name] = values
    return fixed, selected


def _values(given: Iterable[Any]) -> tuple[Value, ...]:
    return tuple(map(read_value, given))


def read_options(
    subject: str, given: Mapping[str, Any], function: Function, mistakes: Mistakes
) -> tuple[tuple[str, Value], ...]:
    found = {}
    for name, value in given.items():
        if name in function.constexprs:
            mistakes.add(f"{subject} {name!r}", "expected a compiler option, got a constexpr of the kernel")
        if value is not None:  # None is Triton's "not given"
            found[name] = mistakes.attempt(f"{subject} {name!r}", partial(read_value, value), None)
    warps = found.get("num_warps")
    if warps is not None and (type(warps) is not int or warps < 1 or warps & (warps - 1)):
        mistakes.add(f"{subject} 'num_warps'", f"expected a power of two, got {warps!r}")
    return tuple(sorted(found.items()))


def read_configs(
    given: object,
    subject: str,
    function: Function,
    fixed: Mapping[str, Value],
    selected: Mapping[str, tuple[Value, ...]],
    mistakes: Mistakes,
) -> tuple[Config, ...]:
    # No generator: the configs are read when the kernel is made, and again for each target.
    if not isinstance(given, (list, tuple)):
        mistakes.add(subject, f"expected a list of configs, or a callable of the target, got {given!r}")
        return ()
    found: dict[Config, int] = {}
    missing = dict.fromkeys(
        name for name in function.constexprs if name not in {*fixed, *selected, *function.defaults}
    )
    incomplete: set[str] = set()
    for index, config in enumerate(given or [{}]):
        where = f"{subject}[{index}]"
        entries = _config_entries(config, where, mistakes)
        constexprs = []
        for name in (name for name in function.constexprs if name in entries):
            if name in fixed or name in selected:
                mistakes.add(f"{where} {name!r}", "expected it in constexprs= or in configs=, got it in both")
            value = mistakes.attempt(f"{where} {name!r}", partial(read_value, entries[name]), None)
            constexprs.append((name, value))
        options = {name: value for name, value in entries.items() if name not in function.constexprs}
        read = Config(tuple(constexprs), read_options(where, options, function, mistakes))
        if read in found:
            mistakes.add(where, f"expected each config once, got a repetition of {subject}[{found[read]}]")
        found.setdefault(read, index)
        absent = [name for name in missing if name not in entries]
        for name in absent:
            if name not in incomplete:
                mistakes.add(
                    f"constexpr {name!r}",
                    f"expected a value in constexprs= or in every config, got none{f' in {where}' if given else ''}"
                    + nearest(name, options),
                )
        incomplete.update(absent)
    return tuple(found)


def _config_entries(config: Any, where: str, mistakes: Mistakes) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return _named(config, where, mistakes)
    if not isinstance(getattr(config, "kwargs", None), Mapping):
        mistakes.add(where, f"expected a triton.Config or a dict, got {config!r}")
        return {}
    for refused in ("pre_hook", "ir_override"):
        if getattr(config, refused, None) is not None:
            mistakes.add(where, f"expected a config without {refused}, got one; it cannot be compiled ahead")
    options = {name: getattr(config, name, None) for name in ("num_warps", "num_stages", "maxnreg")}
    if getattr(config, "num_ctas", 1) != 1:
        options["num_ctas"] = config.num_ctas
    return {**_named(config.kwargs, where, mistakes), **options}


def _named(entries: Mapping[Any, Any], where: str, mistakes: Mistakes) -> dict[str, Any]:
    for name in (name for name in entries if not isinstance(name, str)):
        mistakes.add(where, f"expected names of constexprs and options, got {name!r}")
    return {name: value for name, value in entries.items() if isinstance(name, str)}
