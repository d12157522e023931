"""`Plan`: a kernel expanded. Its call (parameters, overloads), and its variants, each for given targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kpack.expr import Expr
from kpack.objfile import abi
from kpack.spec.signature import Bound
from kpack.spec.values import Value
from kpack.target import Target

__all__ = ["Constexpr", "Overload", "Param", "Plan", "Variant"]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of the call. `type` is a type code, or abi.VARIES where overloads differ in it."""

    name: str
    kind: int
    type: int
    const: bool
    nullable: bool
    least: int
    most: int
    direction: int = abi.DIRECTION_UNKNOWN
    key: int = 0
    extent: Expr | None = None


@dataclass(frozen=True, slots=True)
class Overload:
    """One choice of everything selected: a type code a parameter, and the selected constexprs' values."""

    types: tuple[int, ...]
    selected: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One specialisation, for `targets`. `arguments` is Triton's signature of the run-time arguments in
    source order; the three sets hold parameter indices; guard and grid hold no constexpr any more.
    `constexprs` are as an archive lists them."""

    name: str
    entry: str
    overload: int
    constexprs: tuple[Value, ...]
    arguments: tuple[tuple[str, str], ...]
    divisible_16: frozenset[int]
    equal_1: frozenset[int]
    null: frozenset[int]
    options: tuple[tuple[str, Value], ...]
    guard: Expr | None
    grid: tuple[Expr, ...]
    targets: tuple[Target, ...]
    prefer: Expr | None = None
    bound: tuple[Bound, ...] = ()
    """what each parameter of the function is, in source order: for the compiler"""


@dataclass(frozen=True, slots=True)
class Constexpr:
    name: str
    role: int
    """`abi.CONSTEXPR_...`"""


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a kernel, for given targets: variants by overload, then as the configs are declared, then
    specialised before unspecialised."""

    kernel: Any
    """what it is of: a Kernel, or what `producer` knows"""
    name: str
    params: tuple[Param, ...]
    overloads: tuple[Overload, ...]
    variants: tuple[Variant, ...]
    constexprs: tuple[Constexpr, ...]
    guard_text: str
    grid_text: str
    source: str
    """file name and line; never a folder, so that the same input gives the same bytes anywhere"""
    producer: Callable[[Plan, Variant, Target], Any] | None = None
    """makes the Image of a variant for a target, in a process of its own kind, and may raise KpackError; Triton's
    environment is pinned there if Triton was loaded when the plan was made. None: Triton compiles the variant"""
    origin: Mapping[str, Any] | None = None
    """of a plan with a producer: where its code comes from, for `.kpack.info`; no path and no time. Its entry
    "source_key" stands for that code in the hashes of variants."""
