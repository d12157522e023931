"""What may be stacked on a JIT function, `@triton.autotune` and `@triton.heuristics`: read by shape, kept as facts.

Each wrapper holds the next one in `fn`. One with `configs` is an autotuner, whatever its class, one with `values` a
mapping of heuristics; others (a launcher of its own kind) say nothing of what is compiled, and are passed through.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kpack.errors import SpecError

__all__ = ["Heuristic", "Tuning", "unwrap"]


@dataclass(frozen=True, slots=True)
class Heuristic:
    """A value of a constexpr or an option that a callable of all arguments computes for each launch."""

    name: str
    compute: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What an autotuner says. `key`: arguments whose values ask for tuning anew; `reset_to_zero` and
    `restore_value`: pointers to what one run changes for the next."""

    configs: tuple[Any, ...]
    key: tuple[str, ...] = ()
    reset_to_zero: tuple[str, ...] = ()
    restore_value: tuple[str, ...] = ()
    prune: bool = False
    """its configs are pruned by the arguments of a launch; all are built"""
    hooks: tuple[str, ...] = ()
    """functions of the host that it runs before or after a launch, which an archive cannot hold"""


def unwrap(fn: Any) -> tuple[Any, Tuning | None, tuple[Heuristic, ...]]:
    """The JIT function inside, the autotuner around it, and the heuristics, the outermost first, as Triton
    computes them. Raises SpecError for what is no JIT function inside."""
    tunings: list[Tuning] = []
    heuristics: list[Heuristic] = []
    inner = fn
    while inner is not None and not _is_jit(inner):
        if isinstance(getattr(inner, "configs", None), (list, tuple)):
            tunings.append(_tuning(inner))
        elif isinstance(getattr(inner, "values", None), Mapping):
            heuristics += [Heuristic(name, compute) for name, compute in inner.values.items()]
        inner = getattr(inner, "fn", None)
    if inner is None:
        raise SpecError(
            f"kernel: expected a function decorated with @triton.jit, alone or under @triton.autotune and "
            f"@triton.heuristics, got {type(fn).__name__} {fn!r}"
        )
    if len(tunings) > 1:
        raise SpecError(
            "kernel: expected one @triton.autotune, got several on one function; merge their configs"
        )
    return inner, tunings[0] if tunings else None, tuple(heuristics)


def _is_jit(candidate: Any) -> bool:
    return hasattr(candidate, "arg_names") and inspect.isfunction(getattr(candidate, "fn", None))


def _tuning(tuner: Any) -> Tuning:
    hooks = [name for name in ("pre_hook", "post_hook") if getattr(tuner, f"user_defined_{name}", False)]
    if any(getattr(config, "pre_hook", None) for config in tuner.configs):
        hooks.append("pre_hook of its configs")
    return Tuning(
        configs=tuple(tuner.configs),
        key=_names(tuner, "keys") or _names(tuner, "key") or _key_by_index(tuner),
        reset_to_zero=_names(tuner, "reset_to_zero"),
        restore_value=_names(tuner, "restore_value"),
        prune=any(getattr(tuner, name, None) for name in ("early_config_prune", "perf_model")),
        hooks=tuple(hooks),
    )


def _names(tuner: Any, attribute: str) -> tuple[str, ...]:
    given = getattr(tuner, attribute, None)
    given = given if isinstance(given, Iterable) and not isinstance(given, str) else ()
    return tuple(name for name in given if isinstance(name, str))


def _key_by_index(tuner: Any) -> tuple[str, ...]:
    """Triton 2's autotuner, of which copies live on in published packages."""
    return tuple(tuner.arg_names[index] for index in getattr(tuner, "key_idx", ()))
