"""`Kernel`: what the user writes, checked once, when it is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kpack.errors import SpecError
from kpack.expr import Expr, parameters_of, trace, trace_grid
from kpack.naming import check_kernel_name
from kpack.needs import needing
from kpack.spec.args import Arg, read_args
from kpack.spec.argument import Argument
from kpack.spec.cases import Case, Written, check_told_apart, constant_names, read_case, select_differing
from kpack.spec.configs import OPTION_NAMES
from kpack.spec.function import Function, read_function
from kpack.spec.mistakes import Mistakes
from kpack.spec.signature import check_used, integer_names, read_types
from kpack.spec.values import Value
from kpack.target import Target

__all__ = ["Checked", "Kernel"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kernel:
    """A Triton kernel and what to build of it.

    fn          the function under @triton.jit (or @gluon.jit), alone or in a stack of @triton.autotune and
                @triton.heuristics
    name        a C identifier; without one, the function's
    signature   "[const ][*]type[:hint]..." of each run-time argument; type: Triton's name of one, or a type
                variable. Hints: "16" divisible by 16, "1" equal to one, "none" null; with "?" both ways
                (all "16?" together make one specialised and one unspecialised variant). A host tensor
                descriptor is "tensordesc<type[size, ...]>", each size a number or a constexpr; a tuple has a
                tuple of these. What is annotated with a type may be left out
    types       the choices of each type variable; part of the call
    configs     triton.Config or dicts of constexprs and options, or a callable of the Target: alternatives,
                tried in this order; without them, those of the autotuner
    constexprs  of any parameter: a list: choices that are part of the call; a single value: fixed. Of a constexpr
                that a heuristic computes, a list is the values that it may come to, no part of the call
    guard       the condition under which a variant may run, of arguments, constexprs and names of the grid
    grid        one to three expressions; names that are no parameters of the kernel join the call
    prefer      without tuning, the eligible variant of which this is largest runs, the first declared among equals;
                of arguments, constexprs, and num_warps, num_stages and num_ctas of the variant
    options     compiler options of every variant; those of a config go first
    args        kpack.out(bytes=...), inout, in_, an Arg or a dict of its fields, by parameter of the call
    cases       dicts of signature, constexprs, options and configs, that each extend the kernel's: what is built
                instead of one product. Constants that differ between them join the call

    Guards, grids and preferences are lambdas of the names they use, or texts; a grid may also be a number, or a
    tuple. Integers have Python's meaning; `kpack.cdiv`, `next_power_of_2` and `sizeof` (of a pointer or type variable)
    go beside what Python has.
    A parameter that nothing is said of has its default, as a constant. Raises SpecError, with a line for each
    mistake; warns of what an autotuner does on the host. Under TRITON_INTERPRET=1 a kernel can be declared and
    `fn` be called, but nothing be built.
    """

    fn: Any = field(kw_only=False)
    name: str = field(default="", kw_only=False)
    signature: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Sequence[str]] = field(default_factory=dict)
    configs: Sequence[Any] | Callable[[Target], Sequence[Any]] = ()
    constexprs: Mapping[str, Any] = field(default_factory=dict)
    guard: Any = None
    grid: Any = None
    prefer: Any = None
    options: Mapping[str, Value] = field(default_factory=dict)
    args: Mapping[str, Arg | Mapping[str, Any]] = field(default_factory=dict)
    cases: Sequence[Mapping[str, Any]] = ()
    checked: Checked = field(init=False, repr=False)

    def __post_init__(self) -> None:
        function = read_function(self.fn)
        object.__setattr__(self, "name", self.name or function.name)
        object.__setattr__(self, "checked", _check(self, function))

    @classmethod
    def from_call(cls, fn: Any, *args: Any, **meta: Any) -> Kernel:
        """The kernel that this call of Triton's asks for: `fn` and its arguments as in `fn[grid](*args, **meta)`.

        Nothing is launched, no GPU is asked for, and tensors may be without memory (meta, fake, numpy, whatever has
        `data_ptr()` and `dtype`). Signature, constants, options and configs become what Triton's own binder,
        heuristics and autotuners make of the call; None leaves the call. These words of `meta` are kpack's own:

        grid    as a launch has it: as many of grid_x, grid_y, grid_z (without: all) end the kernel's call. Where the
                sizes depend on what an autotuner chooses, they become an expression, whose other names join the call.
                A text is an expression as `Kernel(grid=)` has it, and the kernel computes its grid
        name    the kernel's; without one, the function's
        keep    "exact": specialised as Triton would; "alignment": on what is divisible by 16 alone; "none": on nothing;
                "general": exact, with a variant that is specialised on nothing to fall back on

        Raises SpecError for a call that Triton would refuse, and for what cannot be packed.
        """
        with needing("Kernel.from_call"):  # Triton is imported by those who learn, not by those who write
            from kpack.learn import kernel_of_call

        own: dict[str, Any] = {"grid": None, "name": "", "keep": "exact"}
        own.update((word, meta.pop(word)) for word in list(own) if word in meta)
        return kernel_of_call(fn, args, meta, **own)

    def arguments(self, *args: Any, grid: Any = None, **meta: Any) -> list[Any]:
        """The values of the call of the built kernel that does what `fn[grid](*args, **meta)` would:
        `kpack.load(file)[name](*kernel.arguments(*args, grid=grid, **meta))`.

        Parts of tuples, selected constants and the sizes of the grid are at their places; what else the kernel's grid
        names is given by name in `meta`. Raises SpecError where a value is missing, and for a call with other constants
        than are compiled in.
        """
        with needing("Kernel.arguments"):
            from kpack.learn import arguments_of_call

        return arguments_of_call(self, args, grid, meta)


@dataclass(frozen=True, slots=True)
class Checked:
    """A Kernel that has passed its check, read into values."""

    function: Function
    cases: tuple[Case, ...]
    types: tuple[tuple[str, tuple[str, ...]], ...]
    launch: tuple[str, ...]
    guard: Expr | None
    grid: tuple[Expr, ...]
    prefer: Expr | None
    guard_text: str
    grid_text: str
    args: Mapping[str, Arg]
    extents: Mapping[str, Expr]

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The run-time arguments of the call, as the first case has them."""
        return self.cases[0].arguments

    @property
    def selected(self) -> tuple[str, ...]:
        """The constexprs that are part of the call, in its order."""
        return tuple(self.cases[0].selected)


def _check(kernel: Kernel, bare: Function) -> Checked:
    """Read part after part. One that is wrong is noted and stands in for itself, so that the next can be read."""
    mistakes = Mistakes(kernel.name)
    mistakes.attempt("name", lambda: check_kernel_name(kernel.name), None)
    types = read_types(_mapping(kernel, "types", mistakes), mistakes)
    written = _written(kernel, bare, mistakes)
    function = bare.fixing(constant_names(written, bare, mistakes))
    cases = select_differing(
        [read_case(each, function, dict(types), mistakes) for each in written], function, mistakes
    )
    check_used(dict(types), [case.signature for case in cases], mistakes)
    arguments = cases[0].arguments
    # Only names of the grid join the call: one that the guard alone has is a slip more often than a wish.
    sized = {*dict(types), *(argument.name for argument in arguments if argument.pointer)}
    known = {*function.parameters, *(argument.name for argument in arguments), *dict(types)}
    named = mistakes.attempt("grid", partial(parameters_of, kernel.grid), None)
    launch = tuple(name for name in named or () if name not in known)
    whole = set.intersection(*(integer_names(case.arguments, dict(types)) for case in cases))
    integers = whole | {*function.constexprs, *launch}
    grid = _check_grid(kernel, arguments, integers, sized, mistakes)
    if named is None:  # the grid does not say its names: any of the guard's may be one
        integers |= {*mistakes.attempt("guard", partial(parameters_of, kernel.guard), ())}
    guard = _check_single(kernel, "guard", arguments, integers, sized, mistakes)
    prefer = _check_single(kernel, "prefer", arguments, integers | {*OPTION_NAMES}, sized, mistakes)
    given = _mapping(kernel, "args", mistakes)
    if named is None:  # nor which parameters there are
        mistakes.raise_any()
    args, extents = read_args(
        given,
        [case.arguments for case in cases],
        cases[0].selected,
        launch,
        integers,
        dict(types),
        function.tuning,
        mistakes,
    )
    mistakes.raise_any()
    checked = Checked(
        function=function,
        cases=cases,
        types=types,
        launch=launch,
        guard=guard,
        grid=grid,
        prefer=prefer,
        guard_text=_text(kernel.guard, (guard,) if guard else ()),
        grid_text=_text(kernel.grid, grid),
        args=args,
        extents=extents,
    )
    check_told_apart(cases, dict(types), mistakes)
    mistakes.raise_any()
    _warn_of_hooks(kernel, function)
    return checked


def _written(kernel: Kernel, function: Function, mistakes: Mistakes) -> list[Written]:
    tuned = function.tuning.configs if function.tuning else ()
    own = isinstance(kernel.configs, (list, tuple)) and not kernel.configs
    whole = Written(
        place="",
        signature=_mapping(kernel, "signature", mistakes),
        constexprs=_mapping(kernel, "constexprs", mistakes),
        options=_mapping(kernel, "options", mistakes),
        configs=tuned if own else kernel.configs,
    )
    if not isinstance(kernel.cases, (list, tuple)):
        mistakes.add("cases", f"expected a list of dicts, got {kernel.cases!r}")
        return [whole]
    return [whole.extended(index, case, mistakes) for index, case in enumerate(kernel.cases)] or [whole]


def _warn_of_hooks(kernel: Kernel, function: Function) -> None:
    hooks = function.tuning.hooks if function.tuning and not kernel.configs else ()
    given = kernel.configs if isinstance(kernel.configs, (list, tuple)) else ()
    if any(getattr(config, "pre_hook", None) for config in given):
        hooks = ("pre_hook of configs=",)
    if hooks:
        warnings.warn(
            f"{kernel.name}: expected only what an archive can hold, got functions of the host: {', '.join(hooks)}; "
            "the kernel is built without, so a program has to do before or after a launch what they do",
            stacklevel=5,
        )


def _mapping(kernel: Kernel, name: str, mistakes: Mistakes) -> Mapping[str, Any]:
    """A field that is a dict by name, or nothing where it is something else."""
    given = getattr(kernel, name)
    if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
        return given
    mistakes.add(name, f"expected a dict with a name for each key, got {given!r}")
    return {}


def _text(source: object, traced: Iterable[Expr]) -> str:
    return source if isinstance(source, str) else ", ".join(map(str, traced))


def _check_single(
    kernel: Kernel,
    field: str,
    arguments: Iterable[Argument],
    names: Iterable[str],
    sized: Iterable[str],
    mistakes: Mistakes,
) -> Expr | None:
    """A field that is one expression, or None."""
    source = getattr(kernel, field)
    if source is None:
        return None

    def read() -> Expr:
        _refuse_tensordescs(source, arguments)
        return trace(source, names, sized)

    found: Expr | None = mistakes.attempt(field, read, None)
    return found


def _check_grid(
    kernel: Kernel,
    arguments: Iterable[Argument],
    names: Iterable[str],
    sized: Iterable[str],
    mistakes: Mistakes,
) -> tuple[Expr, ...]:
    if kernel.grid is None:
        mistakes.add("grid", "expected an expression, or a lambda of up to three, got none")
        return ()

    def read() -> tuple[Expr, ...]:
        _refuse_tensordescs(kernel.grid, arguments)
        return trace_grid(kernel.grid, names, sized)

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
