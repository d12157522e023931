"""One launch, as Triton is given it, and all that it may be compiled for: an alternative for each config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kpack.compile.binder import (
    Bound,
    Choice,
    Constant,
    Part,
    Scalar,
    bind,
    choices,
    function_key,
    inner_function,
    named_values,
)
from kpack.learn.grid import Grid, read_grid
from kpack.spec.values import listed, read_constant

__all__ = [
    "Alternative",
    "Call",
    "call_key",
    "constant_key",
    "describe",
    "leaves",
    "part_key",
    "signature_text",
]


@dataclass(frozen=True, slots=True)
class Alternative:
    """What one config makes of a launch: what becomes of each parameter, and the compiler's options."""

    parts: Mapping[str, Part]
    options: Mapping[str, Any]
    tuned: frozenset[str]
    """of the parameters and options, those that the config sets"""
    computed: frozenset[str]
    """those that heuristics set"""


@dataclass(frozen=True, slots=True)
class Call:
    """One launch. It keeps no tensors."""

    fn: Any
    jit: Any
    alternatives: tuple[Alternative, ...]
    grid: Grid
    hooks: bool
    """whether a hook of a config does more than to set the blocks of tensor descriptors"""
    shown: tuple[tuple[str, str], ...]
    """each parameter in words, as the first config has it"""

    @property
    def function(self) -> tuple[object, ...]:
        """Equal for launches of one function through one stack of wrappers."""
        stack: list[tuple[str, tuple[str, ...]]] = []
        inner = self.fn
        while inner is not self.jit:
            values = getattr(inner, "values", ())
            stack.append((type(inner).__name__, tuple(values) if isinstance(values, Mapping) else ()))
            inner = inner.fn
        # Not all releases count what a function has from its surroundings among what it compiles to.
        return function_key(self.jit), constant_key(self.jit), tuple(stack)


def describe(
    fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], grid: Any, *, best_first: bool = False
) -> Call:
    """`best_first`: an autotuner has just run this call; begin with the config that it chose. Raises SpecError for
    a call that Triton would refuse."""
    jit = inner_function(fn)
    found = choices(fn, args, kwargs)
    if best_first:
        best = _best(fn)
        found.sort(key=lambda choice: choice.tuned != best)
    values = [named_values(jit, choice.args, choice.kwargs) for choice in found]
    varying = {name for choice in found for name in (*choice.tuned, *choice.computed)}
    alternatives = tuple(_alternative(choice, bind(jit, choice.args, choice.kwargs)) for choice in found)
    return Call(
        fn=fn,
        jit=jit,
        alternatives=alternatives,
        grid=read_grid(grid, values, varying),
        hooks=any(choice.pre_hook is not None for choice in found),
        shown=tuple((name, _shown(part, values[0][name])) for name, part in alternatives[0].parts.items()),
    )


def _best(fn: Any) -> Mapping[str, Any]:
    while fn is not None:
        config = getattr(fn, "best_config", None)
        if config is not None:
            settings: Mapping[str, Any] = config.all_kwargs()
            return settings
        fn = getattr(fn, "fn", None)
    return {}


def _shown(part: Part, value: Any) -> str:
    """An argument for people: "*fp16:16 of 4 x 128", "i32:16 1024"."""
    if isinstance(part, Constant):
        return str(listed(read_constant(part.value)))
    if isinstance(part, tuple):
        return f"({', '.join(map(_shown, part, value))})"
    if isinstance(value, (bool, int, float)):
        return f"{signature_text(part)} {value}"
    shape = getattr(value, "shape", None)
    sizes = " x ".join(map(str, shape)) if isinstance(shape, (tuple, list)) else ""
    return f"{signature_text(part)}{sizes and ' of '}{sizes}"


def _alternative(choice: Choice, bound: Bound) -> Alternative:
    options = {
        name: value
        for name, value in bound.options.items()
        if value is not None and (name, value) != ("num_ctas", 1)
    }
    return Alternative(bound.parts, options, frozenset(choice.tuned), choice.computed - {*choice.tuned})


# ---- words


def signature_text(part: Scalar) -> str:
    """In the language of `Kernel(signature=)`."""
    kind = part.type.replace("u1", "i1") if part.type.lstrip("*k") == "u1" else part.type
    text = f"const *{kind[2:]}" if kind.startswith("*k") else kind
    return text + (":1" if part.one else ":16" if part.divisible else "")


def constant_key(value: Any) -> str:
    """Equal for constants that compile to the same; 1, 1.0 and True do not."""
    constant = read_constant(value)
    return f"{type(constant).__name__} {constant!r}"


def call_key(call: Call) -> str:
    """Equal for launches that ask for the same kernels."""
    seen = [
        (
            [f"{name}={part_key(part)}" for name, part in each.parts.items()],
            sorted((name, constant_key(value)) for name, value in each.options.items()),
        )
        for each in call.alternatives
    ]
    return f"{call.function} {seen} {len(call.grid.sizes)} {call.grid.text} {sorted(call.grid.tuned)}"


def part_key(part: Part) -> str:
    if isinstance(part, tuple):
        return f"{type(part).__name__}({', '.join(map(part_key, part))})"
    return signature_text(part) if isinstance(part, Scalar) else constant_key(part.value)


def leaves(part: Part) -> Iterator[Scalar | Constant]:
    if isinstance(part, tuple):
        for inner in part:
            yield from leaves(inner)
    else:
        yield part
