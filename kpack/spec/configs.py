"""Compile-time choices: constants, compiler options, and configs, which set both for a variant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kpack.spec.function import Function
from kpack.spec.mistakes import Mistakes
from kpack.spec.values import Constant, Value, is_plain, read_constant, read_value
from kpack.target import nearest

__all__ = [
    "ALSO_OPTIONS",
    "DEFAULT_NUM_WARPS",
    "OPTION_NAMES",
    "Config",
    "names_in_configs",
    "read_configs",
    "read_constexprs",
    "read_options",
]

DEFAULT_NUM_WARPS = 4  # Triton's, on every backend

# What a preference may ask of a variant's options, and Triton's default where all backends have the same.
OPTION_NAMES: Mapping[str, int | None] = {"num_warps": DEFAULT_NUM_WARPS, "num_ctas": 1, "num_stages": None}

# A launch gives options and constexprs by the same keywords: a kernel with a parameter of such a name gets both.
ALSO_OPTIONS = frozenset(
    """
    num_warps num_stages num_ctas maxnreg waves_per_eu matrix_instr_nonkdim kpack schedule_hint enable_fp_fusion
    launch_cooperative_grid launch_pdl debug sanitize_overflow
    """.split()
)


@dataclass(frozen=True, slots=True)
class Config:
    constexprs: tuple[tuple[str, Constant], ...]
    options: tuple[tuple[str, Value], ...]


def read_constexprs(
    given: Mapping[str, Any], function: Function, parts: Collection[str], mistakes: Mistakes
) -> tuple[dict[str, Constant], dict[str, tuple[Constant, ...]]]:
    """Constants with one value, and those with a list of them. `parts`: tuples of which only parts are constant,
    which the signature reads."""
    fixed: dict[str, Constant] = {}
    listed: dict[str, tuple[Constant, ...]] = {}
    for name in given:
        if name not in function.parameters:
            mistakes.add(
                f"constexpr {name!r}",
                f"expected a parameter of {function.name}: {' '.join(function.parameters) or '(none)'}, "
                f"got {name!r}{nearest(name, function.parameters)}",
            )
    # In source order: the order of a dict is no part of the contract.
    for name in (name for name in function.constexprs if name in given and name not in parts):
        choice = given[name]
        subject = f"constexpr {name!r}"
        if not isinstance(choice, list):
            fixed[name] = mistakes.attempt(subject, partial(read_constant, choice), None)
            continue
        values = mistakes.attempt(subject, partial(_constants, choice), ())
        if not choice or len({(type(value), value) for value in values}) < len(values):
            mistakes.add(subject, f"expected one or more different values, got {choice}")
        listed[name] = values
    return fixed, listed


def _constants(given: Iterable[Any]) -> tuple[Constant, ...]:
    return tuple(map(read_constant, given))


def read_options(
    subject: str, given: Mapping[str, Any], function: Function, mistakes: Mistakes
) -> tuple[tuple[str, Value], ...]:
    found = {}
    for name, value in given.items():
        if name in function.parameters and name not in ALSO_OPTIONS:
            what = "a constexpr" if name in function.constexprs else "an argument"
            mistakes.add(f"{subject} {name!r}", f"expected a compiler option, got {what} of the kernel")
        if value is not None:  # None is Triton's "not given"
            found[name] = mistakes.attempt(f"{subject} {name!r}", partial(read_value, value), None)
    warps = found.get("num_warps")
    if warps is not None and (type(warps) is not int or warps < 1 or warps & (warps - 1)):
        mistakes.add(f"{subject} 'num_warps'", f"expected a power of two, got {warps!r}")
    return tuple(sorted(found.items()))


def names_in_configs(given: object) -> set[str]:
    """What configs set, if they are a list; a callable is asked for each target."""
    configs = given if isinstance(given, (list, tuple)) else ()
    entries = (getattr(config, "kwargs", config) for config in configs)
    return {name for each in entries if isinstance(each, Mapping) for name in each}


def read_configs(
    given: object,
    subject: str,
    function: Function,
    decided: Collection[str],
    mistakes: Mistakes,
) -> tuple[Config, ...]:
    """`decided`: the constants that constexprs= or heuristics give. An autotuner's own configs may repeat, which
    those of configs= may not."""
    # No generator: the configs are read when the kernel is made, and again for each target.
    if not isinstance(given, (list, tuple)):
        mistakes.add(subject, f"expected a list of configs, or a callable of the target, got {given!r}")
        return ()
    tuned = function.tuning is not None and given is function.tuning.configs
    computed = {heuristic.name for heuristic in function.heuristics}
    found: dict[Config, int] = {}
    missing = dict.fromkeys(
        name for name in function.constexprs if name not in {*decided, *computed, *function.defaults}
    )
    incomplete: set[str] = set()
    for index, config in enumerate(given or [{}]):
        where = f"{subject}[{index}]"
        read, entries = _read_config(config, where, function, decided, mistakes)
        if read in found and not tuned:
            mistakes.add(where, f"expected each config once, got a repetition of {subject}[{found[read]}]")
        found.setdefault(read, index)
        absent = [name for name in missing if name not in entries]
        for name in absent:
            if name not in incomplete:
                mistakes.add(
                    f"constexpr {name!r}",
                    f"expected a value in constexprs= or in every config, got none{f' in {where}' if given else ''}"
                    + nearest(name, entries),
                )
        incomplete.update(absent)
    return tuple(found)


def _read_config(
    config: Any, where: str, function: Function, decided: Collection[str], mistakes: Mistakes
) -> tuple[Config, dict[str, Any]]:
    entries = _config_entries(config, where, mistakes)
    constexprs = []
    for name in (name for name in function.constexprs if name in entries):
        if name in decided:
            mistakes.add(f"{where} {name!r}", "expected it in constexprs= or in configs=, got it in both")
        constexprs.append((name, read_constant(entries[name])))
    options = {
        name: value
        for name, value in entries.items()
        if name not in function.constexprs or (name in ALSO_OPTIONS and is_plain(read_constant(value)))
    }
    return Config(tuple(constexprs), read_options(where, options, function, mistakes)), entries


def _config_entries(config: Any, where: str, mistakes: Mistakes) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return _named(config, where, mistakes)
    if not isinstance(getattr(config, "kwargs", None), Mapping):
        mistakes.add(where, f"expected a triton.Config or a dict, got {config!r}")
        return {}
    if getattr(config, "ir_override", None) is not None:
        mistakes.add(where, "expected a config without ir_override, got one; build the IR file itself")
    options = {name: getattr(config, name, None) for name in ("num_warps", "num_stages", "maxnreg")}
    if getattr(config, "num_ctas", 1) != 1:
        options["num_ctas"] = config.num_ctas
    given = {name: value for name, value in options.items() if value is not None}
    return {**_named(config.kwargs, where, mistakes), **given}


def _named(entries: Mapping[Any, Any], where: str, mistakes: Mistakes) -> dict[str, Any]:
    for name in (name for name in entries if not isinstance(name, str)):
        mistakes.add(where, f"expected names of constexprs and options, got {name!r}")
    return {name: value for name, value in entries.items() if isinstance(name, str)}
