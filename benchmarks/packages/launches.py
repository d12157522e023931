"""What packages launch: seen as they launch it, in words that a launch and a packed variant have in common."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from triton.runtime.autotuner import Autotuner, Heuristics
from triton.runtime.jit import JITFunction, KernelInterface

import kpack
from kpack.compile.binder import Scalar, inner_function
from kpack.learn.call import Call, constant_key, describe, signature_text
from kpack.spec import Fixed, Plan, Variant, expand
from kpack.target import parse_target
from packages import Operation, Package

__all__ = [
    "FOLDER",
    "Launched",
    "Rehearsal",
    "function_of",
    "launch_text",
    "rehearse",
    "variants_of",
    "watching",
]

FOLDER = Path(__file__).parents[2] / "build" / "published"

# Before a recording puts its own in their place.
run_jit = JITFunction.run


@dataclass(frozen=True)
class Launched:
    """`fn[grid](*args, **kwargs)`."""

    fn: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    grid: Any


@contextmanager
def watching(seen: Callable[[Launched, Callable[[], Any]], Any]) -> Iterator[None]:
    """Every launch of `fn[grid](...)` in every thread becomes what `seen` makes of it, and of how it would go on."""
    originals = {
        cls: cls.__dict__["__getitem__"]
        for cls in (KernelInterface, JITFunction, Autotuner, Heuristics)
        if "__getitem__" in cls.__dict__
    }

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        def getitem(self: Any, grid: Any) -> Callable[..., Any]:
            return lambda *args, **kwargs: seen(
                Launched(self, args, kwargs, grid), lambda: original(self, grid)(*args, **kwargs)
            )

        return getitem

    try:
        for cls, original in originals.items():
            cls.__getitem__ = replacement(original)
        yield
    finally:
        for cls, original in originals.items():
            cls.__getitem__ = original


# ---- words


def function_of(fn: Any) -> tuple[str, str]:
    """Module and name of the JIT function inside."""
    jit = inner_function(fn)
    return jit.fn.__module__, jit.fn.__name__


def launch_text(call: Call) -> str:
    """What the JIT compiles for a launch; of an autotuner, for its first config."""
    first = call.alternatives[0]
    return _text([_part_text(part) for part in first.parts.values()], first.options, set(first.parts))


def variants_of(plan: Plan) -> dict[str, Variant]:
    """The variants of a kernel, by the same text."""
    names = set(plan.kernel.checked.function.jit.arg_names)
    return {
        _text([_bound_text(variant, bound) for bound in variant.bound], dict(variant.options), names): variant
        for variant in plan.variants
    }


def _text(parts: list[str], options: Mapping[str, Any], names: set[str]) -> str:
    """A parameter that is called as an option is one: to say it once is enough."""
    said = sorted((name, str(value)) for name, value in options.items() if name not in names)
    return f"{', '.join(parts)} | {', '.join(f'{name}={value}' for name, value in said)}"


def _part_text(part: Any) -> str:
    if isinstance(part, tuple):
        return f"({', '.join(map(_part_text, part))})"
    if hasattr(part, "value"):
        return constant_key(part.value)
    return "1" if part.one else signature_text(part).replace(", ", ",")


def _bound_text(variant: Variant, bound: Any) -> str:
    if isinstance(bound, tuple):
        return f"({', '.join(_bound_text(variant, part) for part in bound)})"
    if isinstance(bound, Fixed):
        return constant_key(bound.value)
    if bound in variant.equal_1 or bound in variant.null:
        return "1" if bound in variant.equal_1 else constant_key(None)
    kind = variant.arguments[bound][1]
    return signature_text(Scalar(kind, divisible=bound in variant.divisible_16)).replace(", ", ",")


# ---- a package, without a GPU


@dataclass
class Rehearsal:
    """All operations of a package, gone through without a launch."""

    kernels: list[kpack.Kernel] = field(default_factory=list)
    calls: dict[tuple[tuple[str, str], str], tuple[Launched, Call]] = field(default_factory=dict)
    """one launch of each specialisation, by function and text"""
    failed: dict[str, str] = field(default_factory=dict)
    """operations that could not be gone through, and why"""
    refused: list[str] = field(default_factory=list)
    """launches that no kernel was made of, and why"""
    launches: int = 0

    def variants(self, target: str) -> dict[tuple[tuple[str, str], str], list[tuple[kpack.Kernel, Variant]]]:
        """Where each specialisation is packed."""
        found: dict[tuple[tuple[str, str], str], list[tuple[kpack.Kernel, Variant]]] = {}
        for kernel in self.kernels:
            plan = expand(kernel, (parse_target(target),))
            for text, variant in variants_of(plan).items():
                found.setdefault((function_of(kernel.fn), text), []).append((kernel, variant))
        return found


@contextmanager
def rehearse(package: Package, target: str, only: frozenset[str] = frozenset()) -> Iterator[Rehearsal]:
    """Inside, the stand-in for a device of `target` is still there."""
    found = Rehearsal()

    def seen(launched: Launched, go: Callable[[], Any]) -> Any:
        result = go()
        call = describe(launched.fn, launched.args, launched.kwargs, launched.grid)
        found.calls.setdefault((function_of(launched.fn), launch_text(call)), (launched, call))
        return result

    with kpack.record(target) as recording:
        with watching(seen):
            for name, operation in package.operations.items():
                if not only or name in only:
                    try:
                        seeded(operation)
                    except Exception as error:
                        found.failed[name] = f"{type(error).__name__}: {error}"
        found.launches = len(recording.launches)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.kernels = recording.kernels(configs="first")
        found.refused = [str(each.message) for each in caught]
        yield found


def seeded(operation: Operation) -> None:
    random.seed(0)
    torch.manual_seed(0)
    operation()
