"""`Kernel`: what the user writes, checked once, when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kpack.errors import SpecError
from kpack.expr import Expr, parameters_of, trace, trace_grid
from kpack.naming import check_kernel_name
from kpack.spec.args import Arg, read_args
from kpack.spec.configs import read_configs, read_constexprs, read_options
from kpack.spec.function import Function, read_function
from kpack.spec.mistakes import Mistakes
from kpack.spec.signature import Argument, check_overloads, integer_names, read_signature, read_types
from kpack.spec.values import Value
from kpack.target import Target

__all__ = ["Checked", "Kernel"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kernel:
    """A Triton kernel and what to build of it.

    fn          the function under @triton.jit
    name        a C identifier; without one, the function's
    signature   "[const ][*]type[:hint]..." of each run-time argument; type: Triton's name of one, or a type
                variable. Hints: "16" divisible by 16, "1" equal to one, "none" null; with "?" both ways
                (all "16?" together make one specialised and one unspecialised variant). A host tensor
                descriptor is "tensordesc<type[size, ...]>", each size a number or a constexpr
    types       the choices of each type variable; part of the call
    configs     triton.Config or dicts of constexprs and options, or a callable of the Target: alternatives,
                tried in this order
    constexprs  a list: choices that are part of the call; a single value: fixed
    guard       the condition under which a variant may run, of arguments, constexprs and names of the grid
    grid        one to three expressions; names that are no parameters of the kernel join the call
    options     compiler options of every variant; those of a config go first
    args        Arg, or a dict of its fields, by parameter of the call

    Guards and grids are lambdas of the names they use, or texts; a grid may also be a number, or a tuple.
    Raises SpecError, with a line for each mistake. Under TRITON_INTERPRET=1 a kernel can be declared and
    `fn` be called, but nothing be built.
    """

    fn: Any = field(kw_only=False)
    name: str = field(default="", kw_only=False)
    signature: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    configs: Sequence[Any] | Callable[[Target], Sequence[Any]] = ()
    constexprs: Mapping[str, Any] = field(default_factory=dict)
    guard: Any = None
    grid: Any = None
    options: Mapping[str, Value] = field(default_factory=dict)
    args: Mapping[str, Arg | Mapping[str, Any]] = field(default_factory=dict)
    checked: Checked = field(init=False, repr=False)

    def __post_init__(self) -> None:
        function = read_function(self.fn)
        object.__setattr__(self, "name", self.name or function.name)
        object.__setattr__(self, "checked", _check(self, function))


@dataclass(frozen=True, slots=True)
class Checked:
    """A Kernel that has passed its check, read into values."""

    function: Function
    arguments: tuple[Argument, ...]
    types: tuple[tuple[str, tuple[str, ...]], ...]
    fixed: Mapping[str, Value]
    selected: Mapping[str, tuple[Value, ...]]
    options: tuple[tuple[str, Value], ...]
    launch: tuple[str, ...]
    guard: Expr | None
    grid: tuple[Expr, ...]
    guard_text: str
    grid_text: str
    args: Mapping[str, Arg]
    extents: Mapping[str, Expr]


def _check(kernel: Kernel, function: Function) -> Checked:
    """Read part after part. One that is wrong is noted and stands in for itself, so that the next can be read."""
    mistakes = Mistakes(kernel.name)
    mistakes.attempt("name", lambda: check_kernel_name(kernel.name), None)
    types = read_types(_mapping(kernel, "types", mistakes), mistakes)
    arguments = read_signature(_mapping(kernel, "signature", mistakes), function, dict(types), mistakes)
    fixed, selected = read_constexprs(_mapping(kernel, "constexprs", mistakes), function, mistakes)
    options = read_options("options", _mapping(kernel, "options", mistakes), function, mistakes)
    # Only names of the grid join the call: one that the guard alone has is a slip more often than a wish.
    known = {*function.arguments, *function.constexprs}
    named = mistakes.attempt("grid", partial(parameters_of, kernel.grid), None)
    launch = tuple(name for name in named or () if name not in known)
    integers = integer_names(arguments, dict(types)) | {*function.constexprs, *launch}
    grid = _check_grid(kernel, arguments, integers, mistakes)
    if named is None:  # the grid does not say its names: any of the guard's may be one
        integers |= {*mistakes.attempt("guard", partial(parameters_of, kernel.guard), ())}
    guard = _check_guard(kernel, arguments, integers, mistakes)
    if not callable(kernel.configs):
        read_configs(kernel.configs, "configs", function, fixed, selected, mistakes)
    given = _mapping(kernel, "args", mistakes)
    if named is None:  # nor which parameters there are
        mistakes.raise_any()
    args, extents = read_args(given, arguments, selected, launch, integers, mistakes)
    mistakes.raise_any()
    checked = Checked(
        function=function,
        arguments=arguments,
        types=types,
        fixed=fixed,
        selected=selected,
        options=options,
        launch=launch,
        guard=guard,
        grid=grid,
        guard_text=_text(kernel.guard, (guard,) if guard else ()),
        grid_text=_text(kernel.grid, grid),
        args=args,
        extents=extents,
    )
    check_overloads(arguments, types, mistakes)
    mistakes.raise_any()
    return checked


def _mapping(kernel: Kernel, name: str, mistakes: Mistakes) -> Mapping[str, Any]:
    """A field that is a dict by name, or nothing where it is something else."""
    given = getattr(kernel, name)
    if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
        return given
    mistakes.add(name, f"expected a dict with a name for each key, got {given!r}")
    return {}


def _text(source: object, traced: Iterable[Expr]) -> str:
    return source if isinstance(source, str) else ", ".join(map(str, traced))


def _check_guard(
    kernel: Kernel, arguments: Iterable[Argument], names: Iterable[str], mistakes: Mistakes
) -> Expr | None:
    if kernel.guard is None:
        return None

    def read() -> Expr:
        _refuse_tensordescs(kernel.guard, arguments)
        return trace(kernel.guard, names)

    guard: Expr | None = mistakes.attempt("guard", read, None)
    return guard


def _check_grid(
    kernel: Kernel, arguments: Iterable[Argument], names: Iterable[str], mistakes: Mistakes
) -> tuple[Expr, ...]:
    if kernel.grid is None:
        mistakes.add("grid", "expected an expression, or a lambda of up to three, got none")
        return ()

    def read() -> tuple[Expr, ...]:
        _refuse_tensordescs(kernel.grid, arguments)
        return trace_grid(kernel.grid, names)

    grid: tuple[Expr, ...] = mistakes.attempt("grid", read, ())
    return grid


def _refuse_tensordescs(source: object, arguments: Iterable[Argument]) -> None:
    """A descriptor's shape is what an expression may well ask for, and cannot."""
    used = parameters_of(source)
    for argument in arguments:
        if argument.box and argument.name in used:
            raise SpecError(
                f"expected integers of the call, got {argument.name!r}, a tensor descriptor; name what you need of "
                "its shape: a name that is the grid's alone joins the call"
            )
