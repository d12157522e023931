"""What to build of a Triton kernel: `Kernel`, as the user writes it, and `Plan`, what it expands to.

`Kernel` is checked once, when it is made, and says everything that is wrong with it at a time. Triton is not
imported: a kernel is known by `arg_names`, `params` and `fn`, which every release gives its JIT functions.
"""

from __future__ import annotations

import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kpack.errors import SpecError
from kpack.expr import Expr, parameters_of, trace, trace_grid
from kpack.naming import check_kernel_name
from kpack.objfile import abi
from kpack.target import Target, nearest

__all__ = [
    "Arg",
    "Constexpr",
    "DType",
    "Kernel",
    "Overload",
    "Param",
    "Plan",
    "Value",
    "Variant",
    "expand",
]

DEFAULT_NUM_WARPS = 4  # Triton's, on every backend


@dataclass(frozen=True, slots=True)
class DType:
    """A constexpr that is itself a type, by Triton's spelling: DType("fp16")."""

    name: str

    def __str__(self) -> str:
        return self.name


Value = bool | int | float | str | DType | None


@dataclass(frozen=True, slots=True)
class Arg:
    """What a tuner and a checking launcher may know of one parameter of the call."""

    direction: str = ""
    """of a pointer: "in", "out" or "inout"; empty: not said"""
    least: int | None = None
    """of an integer: the smallest value that the kernel accepts"""
    most: int | None = None
    key: bool | str = False
    """True: part of the tuning key, by bucket; "exact": by value"""
    extent: Any = None
    """expression: bytes from this pointer that the kernel may touch"""


# ---- what it expands to


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
    source order; the three sets hold parameter indices; guard and grid hold no constexpr any more."""

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


@dataclass(frozen=True, slots=True)
class Constexpr:
    name: str
    role: int
    """`abi.CONSTEXPR_...`"""


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a kernel, for given targets: variants by overload, then as the configs are declared, then
    specialised before unspecialised."""

    kernel: Kernel
    name: str
    params: tuple[Param, ...]
    overloads: tuple[Overload, ...]
    variants: tuple[Variant, ...]
    constexprs: tuple[Constexpr, ...]
    guard_text: str
    grid_text: str
    source: str
    """file name and line; never a folder, so that the same input gives the same bytes anywhere"""


# ---- what the user writes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kernel:
    """A Triton kernel and what to build of it.

    signature   "[const ][*]type[:hint]..." of each run-time argument; type: Triton's name of one, or a type
                variable. Hints: "16" divisible by 16, "1" equal to one, "none" null; with "?" both ways
                (all "16?" together make one specialised and one unspecialised variant)
    types       the choices of each type variable; part of the call
    configs     triton.Config or dicts of constexprs and options, or a callable of the Target: alternatives
    constexprs  a list: choices that are part of the call; a single value: fixed
    guard       the condition under which a variant may run
    grid        one to three expressions; names that are no parameters of the kernel join the call
    options     compiler options of every variant; those of a config go first
    args        Arg, or a dict of its fields, by parameter
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
        function = _read_function(self.fn)
        object.__setattr__(self, "name", self.name or function.name)
        object.__setattr__(self, "checked", _check(self, function))


@dataclass(frozen=True, slots=True)
class _Function:
    """What kpack needs to know of a JIT function."""

    name: str
    arguments: tuple[str, ...]
    constexprs: tuple[str, ...]
    defaults: Mapping[str, Value]
    source: str


@dataclass(frozen=True, slots=True)
class _Argument:
    """A run-time argument's signature. A hint is "" (not given), "always" or "both"."""

    name: str
    type: str
    pointer: bool = False
    const: bool = False
    divisible: str = ""
    one: str = ""
    null: str = ""

    def type_name(self, chosen: Mapping[str, str]) -> str:
        return chosen.get(self.type, self.type)

    def code(self, chosen: Mapping[str, str]) -> int:
        return _TYPES[self.type_name(chosen)] | (abi.POINTER if self.pointer else 0)

    def triton(self, chosen: Mapping[str, str]) -> str:
        # Not "*k" for const: to Triton that is memory which nobody writes while the kernel runs, and on AMD it
        # becomes another address space; to us it is a promise of this argument alone.
        return ("*" if self.pointer else "") + self.type_name(chosen)


@dataclass(frozen=True, slots=True)
class _Config:
    constexprs: tuple[tuple[str, Value], ...]
    options: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A Kernel that has passed its check, read into values."""

    function: _Function
    arguments: tuple[_Argument, ...]
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


_TYPES: dict[str, int] = {**abi.DTYPES, "void": abi.VOID}
_OTHER_NAMES = {
    "bool": "i1",
    "int": "i32",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "half": "fp16",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float": "fp32",
    "float32": "fp32",
    "double": "fp64",
    "float64": "fp64",
    "float8e5": "fp8e5",
    "float8e4nv": "fp8e4nv",
}
_INTEGERS = frozenset(name for name, code in abi.DTYPES.items() if abi.I1 <= code <= abi.U64)
_DIRECTIONS = {
    "": abi.DIRECTION_UNKNOWN,
    "in": abi.DIRECTION_IN,
    "out": abi.DIRECTION_OUT,
    "inout": abi.DIRECTION_INOUT,
}
_HINTS = {"16": "divisible", "1": "one", "none": "null"}
_SIGNATURE = re.compile(
    r"(?P<const>const\s+)?(?P<pointer>\*)?(?P<type>\w+)(?P<hints>(?:\s*:\s*[\w?]*)*)", re.ASCII
)
INT64 = (-(2**63), 2**63 - 1)


def _range(code: int) -> tuple[int, int]:
    """The values of a type code; (0, 0) for what is no integer."""
    if code == abi.I1:
        return 0, 1
    if not abi.I1 < code <= abi.U64:
        return 0, 0
    bits = 8 * abi.ELEMENT_BYTES[code]
    # What u64 holds beyond int64 cannot be said in the call's int64 bounds.
    return (0, min(2**bits - 1, INT64[1])) if code >= abi.U8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


# ---- the check


class _Mistakes:
    """What is wrong with a kernel, a line each."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.lines: list[str] = []

    def add(self, subject: str, problem: str) -> None:
        self.lines += [f"{self.kernel}: {subject}: {line}" for line in problem.splitlines()]

    def attempt(self, subject: str, action: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return action()
        except SpecError as error:
            self.add(subject, str(error))
            return otherwise

    def raise_any(self) -> None:
        if self.lines:
            raise SpecError("\n".join(dict.fromkeys(self.lines)))


def _read_function(fn: Any) -> _Function:
    python = getattr(fn, "fn", None)
    if not (hasattr(fn, "arg_names") and hasattr(fn, "params") and inspect.isfunction(python)):
        raise SpecError(
            f"kernel: expected a function decorated with @triton.jit alone, got {type(fn).__name__} {fn!r}; "
            "autotuning belongs in configs=, and TRITON_INTERPRET must not be set"
        )
    constexprs = tuple(
        name for name, param in zip(fn.arg_names, fn.params, strict=True) if param.is_constexpr
    )
    defaults = {
        name: _value(parameter.default)
        for name, parameter in inspect.signature(python).parameters.items()
        if name in constexprs and parameter.default is not inspect.Parameter.empty
    }
    code = python.__code__
    return _Function(
        name=python.__name__,
        arguments=tuple(name for name in fn.arg_names if name not in constexprs),
        constexprs=constexprs,
        defaults=defaults,
        source=f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}",
    )


def _check(kernel: Kernel, function: _Function) -> Checked:
    mistakes = _Mistakes(kernel.name)
    mistakes.attempt("name", lambda: check_kernel_name(kernel.name), None)
    types = _check_types(kernel, mistakes)
    arguments = _check_signature(kernel, function, dict(types), mistakes)
    fixed, selected = _check_constexprs(kernel, function, mistakes)
    options = _check_options("options", kernel.options, function, mistakes)
    known = {*function.arguments, *function.constexprs}
    launch = mistakes.attempt(
        "grid", lambda: tuple(n for n in parameters_of((kernel.grid, kernel.guard)) if n not in known), ()
    )
    integers = _integer_names(arguments, dict(types)) | {*function.constexprs, *launch}
    guard = _check_guard(kernel, integers, mistakes)
    grid = _check_grid(kernel, integers, mistakes)
    args, extents = _check_args(kernel, arguments, selected, launch, integers, mistakes)
    if not callable(kernel.configs):
        _read_configs(kernel.configs, "configs", function, fixed, selected, mistakes)
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
    _check_overloads(checked, mistakes)
    mistakes.raise_any()
    return checked


def _text(source: object, traced: Iterable[Expr]) -> str:
    return source if isinstance(source, str) else ", ".join(map(str, traced))


def _check_types(kernel: Kernel, mistakes: _Mistakes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for name, choices in kernel.types.items():
        subject = f"type variable {name!r}"
        if name in _TYPES:
            mistakes.add(subject, "expected a name of its own, got a type's; call it for example 'T'")
        if isinstance(choices, str) or not choices:
            mistakes.add(subject, f"expected a list of types, got {choices!r}")
            continue
        for choice in choices:
            if choice not in abi.DTYPES:
                mistakes.add(subject, _unknown_type(choice, abi.DTYPES))
        if len(set(choices)) < len(choices):
            mistakes.add(subject, f"expected each type once, got {list(choices)}")
        found.append((name, tuple(choices)))
    return tuple(found)


def _unknown_type(got: object, known: Iterable[str]) -> str:
    names = list(known)
    other = _OTHER_NAMES.get(str(got))
    hint = f"; did you mean {other!r}?" if other else nearest(str(got), names)
    return f"expected a type among {' '.join(names)}, got {got!r}{hint}"


def _check_signature(
    kernel: Kernel, function: _Function, types: Mapping[str, tuple[str, ...]], mistakes: _Mistakes
) -> tuple[_Argument, ...]:
    for name in kernel.signature:
        if name in function.constexprs:
            mistakes.add(
                f"signature {name!r}",
                "expected a run-time argument, got a constexpr; it belongs in constexprs= or configs=",
            )
        elif name not in function.arguments:
            mistakes.add(
                f"signature {name!r}",
                f"expected an argument of {function.name}: {' '.join(function.arguments) or '(none)'}, "
                f"got {name!r}{nearest(name, function.arguments)}",
            )
    found = []
    for name in function.arguments:
        text = kernel.signature.get(name)
        if text is None:
            mistakes.add(f"argument {name!r}", "expected a type in signature=, got none")
            continue
        found.append(_read_argument(name, text, types, mistakes))
    used = {argument.type for argument in found}
    for name in types:
        if name not in used:
            mistakes.add(f"type variable {name!r}", "expected an argument of that type, got none")
    return tuple(found)


def _read_argument(
    name: str, text: object, types: Mapping[str, tuple[str, ...]], mistakes: _Mistakes
) -> _Argument:
    subject = f"argument {name!r}"
    if isinstance(text, str) and text.strip().startswith("tensordesc"):
        mistakes.add(
            subject, "expected a scalar or a pointer, got a host tensor descriptor, not supported yet"
        )
        return _Argument(name, "i32")
    match = _SIGNATURE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        mistakes.add(subject, f"expected '[const ][*]type[:hint]', got {text!r}")
        return _Argument(name, "i32")
    pointer, const, type_ = bool(match["pointer"]), bool(match["const"]), match["type"]
    if type_ not in types and (type_ not in _TYPES or (type_ == "void" and not pointer)):
        mistakes.add(subject, _unknown_type(type_, [*types, *abi.DTYPES]))
        type_ = "i32"
    if const and not pointer:
        mistakes.add(subject, f"expected const on a pointer only, got {text!r}")
    choices = types.get(type_, (type_,))
    integer = not pointer and all(choice in _INTEGERS for choice in choices)
    hints = dict.fromkeys(_HINTS.values(), "")
    for hint in (part.strip() for part in match["hints"].split(":")[1:]):
        kind = _HINTS.get(hint.removesuffix("?"))
        if kind is None:
            known = [spelling for base in _HINTS for spelling in (base, base + "?")]
            mistakes.add(
                subject, f"hint: expected one of {' '.join(known)}, got {hint!r}{nearest(hint, known)}"
            )
        elif not (integer or pointer) or (kind == "one" and pointer) or (kind == "null" and not pointer):
            fitting = {"divisible": "an integer or a pointer", "one": "an integer", "null": "a pointer"}[kind]
            mistakes.add(subject, f"hint {hint!r}: expected {fitting}, got {text!r}")
        elif hints[kind]:
            mistakes.add(subject, f"hint {hint!r}: expected it once, got {text!r}")
        else:
            hints[kind] = "both" if hint.endswith("?") else "always"
    if hints["one"] == "always" and hints["divisible"]:
        mistakes.add(subject, f"expected either ':1' or ':16', got {text!r}; 1 is not divisible by 16")
    return _Argument(name, type_, pointer, const, hints["divisible"], hints["one"], hints["null"])


def _check_constexprs(
    kernel: Kernel, function: _Function, mistakes: _Mistakes
) -> tuple[dict[str, Value], dict[str, tuple[Value, ...]]]:
    fixed: dict[str, Value] = {}
    selected: dict[str, tuple[Value, ...]] = {}
    for name in kernel.constexprs:
        if name not in function.constexprs:
            mistakes.add(
                f"constexpr {name!r}",
                f"expected a tl.constexpr parameter of {function.name}: "
                f"{' '.join(function.constexprs) or '(none)'}, got {name!r}{nearest(name, function.constexprs)}",
            )
    # In source order: the order of a dict is no part of the contract.
    for name in (name for name in function.constexprs if name in kernel.constexprs):
        given = kernel.constexprs[name]
        subject = f"constexpr {name!r}"
        if not isinstance(given, (list, tuple)):
            fixed[name] = mistakes.attempt(subject, partial(_value, given), None)
            continue
        values = mistakes.attempt(subject, partial(_values, given), ())
        if not given or len({(type(value), value) for value in values}) < len(values):
            mistakes.add(subject, f"expected one or more different values, got {list(given)}")
        selected[name] = values
    return fixed, selected


def _value(given: Any) -> Value:
    """A constexpr's or option's value; triton.language's dtypes and constexprs are known by their shape."""
    if given is None or isinstance(given, (bool, int, float, str, DType)):
        if isinstance(given, int) and not INT64[0] <= given <= INT64[1]:
            raise SpecError(f"expected an integer of 64 bits, got {given}")
        return given
    if type(given).__name__ == "constexpr" and hasattr(given, "value"):
        return _value(given.value)
    if hasattr(given, "primitive_bitwidth") and str(given) in abi.DTYPES:
        return DType(str(given))
    if hasattr(given, "__index__"):
        return _value(given.__index__())
    raise SpecError(f"expected a bool, integer, float, text, None or a type, got {given!r}")


def _values(given: Iterable[Any]) -> tuple[Value, ...]:
    return tuple(map(_value, given))


def _check_options(
    subject: str, given: Mapping[str, Any], function: _Function, mistakes: _Mistakes
) -> tuple[tuple[str, Value], ...]:
    found = {}
    for name, value in given.items():
        if name in function.constexprs:
            mistakes.add(f"{subject} {name!r}", "expected a compiler option, got a constexpr of the kernel")
        if value is not None:  # None is Triton's "not given"
            found[name] = mistakes.attempt(f"{subject} {name!r}", partial(_value, value), None)
    warps = found.get("num_warps", DEFAULT_NUM_WARPS)
    if not isinstance(warps, int) or warps < 1 or warps & (warps - 1):
        mistakes.add(f"{subject} 'num_warps'", f"expected a power of two, got {warps!r}")
    return tuple(sorted(found.items()))


def _integer_names(arguments: Sequence[_Argument], types: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {
        argument.name
        for argument in arguments
        if not argument.pointer and all(t in _INTEGERS for t in types.get(argument.type, (argument.type,)))
    }


def _check_guard(kernel: Kernel, names: Iterable[str], mistakes: _Mistakes) -> Expr | None:
    if kernel.guard is None:
        return None
    guard: Expr | None = mistakes.attempt("guard", lambda: trace(kernel.guard, names), None)
    return guard


def _check_grid(kernel: Kernel, names: Iterable[str], mistakes: _Mistakes) -> tuple[Expr, ...]:
    if kernel.grid is None:
        mistakes.add("grid", "expected an expression, or a lambda of up to three, got none")
        return ()
    grid: tuple[Expr, ...] = mistakes.attempt("grid", lambda: trace_grid(kernel.grid, names), ())
    return grid


def _check_args(
    kernel: Kernel,
    arguments: Sequence[_Argument],
    selected: Mapping[str, tuple[Value, ...]],
    launch: Sequence[str],
    integers: Iterable[str],
    mistakes: _Mistakes,
) -> tuple[dict[str, Arg], dict[str, Expr]]:
    pointers = {argument.name for argument in arguments if argument.pointer}
    call = [*(argument.name for argument in arguments), *selected, *launch]
    # A fixed or tuned constexpr is no part of the call, so an extent cannot ask for it.
    integers = frozenset(integers) & frozenset(call)
    args: dict[str, Arg] = {}
    extents: dict[str, Expr] = {}
    for name, given in kernel.args.items():
        subject = f"args {name!r}"
        if name not in call:
            mistakes.add(subject, f"expected one of {' '.join(call)}, got {name!r}{nearest(name, call)}")
            continue
        try:
            arg = given if isinstance(given, Arg) else Arg(**given)
        except TypeError as error:
            fields = " ".join(Arg.__dataclass_fields__)
            mistakes.add(subject, f"expected an Arg or a dict of {fields}, got {given!r} ({error})")
            continue
        if arg.direction not in _DIRECTIONS:
            mistakes.add(subject, f"direction: expected 'in', 'out' or 'inout', got {arg.direction!r}")
        if arg.key not in (False, True, "exact"):
            mistakes.add(subject, f"key: expected True, False or 'exact', got {arg.key!r}")
        if (arg.direction or arg.extent is not None) and name not in pointers:
            mistakes.add(subject, "direction and extent: expected a pointer, got a value")
        if (arg.least is not None or arg.most is not None) and name not in integers:
            mistakes.add(subject, "least and most: expected an integer, got another type")
        if arg.extent is not None:
            extents[name] = mistakes.attempt(f"{subject}: extent", partial(trace, arg.extent, integers), None)
        args[name] = arg
    return args, extents


def _read_configs(
    given: Sequence[Any],
    subject: str,
    function: _Function,
    fixed: Mapping[str, Value],
    selected: Mapping[str, tuple[Value, ...]],
    mistakes: _Mistakes,
) -> tuple[_Config, ...]:
    found: dict[_Config, int] = {}
    given = list(given) or [{}]
    missing = dict.fromkeys(
        name for name in function.constexprs if name not in {*fixed, *selected, *function.defaults}
    )
    incomplete: set[str] = set()
    for index, config in enumerate(given):
        where = f"{subject}[{index}]"
        entries = _config_entries(config, where, mistakes)
        constexprs = []
        for name in (name for name in function.constexprs if name in entries):
            if name in fixed or name in selected:
                mistakes.add(f"{where} {name!r}", "expected it in constexprs= or in configs=, got it in both")
            value = mistakes.attempt(f"{where} {name!r}", partial(_value, entries[name]), None)
            constexprs.append((name, value))
        options = {name: value for name, value in entries.items() if name not in function.constexprs}
        read = _Config(tuple(constexprs), _check_options(where, options, function, mistakes))
        if read in found:
            mistakes.add(where, f"expected each config once, got a repetition of {subject}[{found[read]}]")
        found.setdefault(read, index)
        absent = [name for name in missing if name not in entries]
        for name in absent:
            if name not in incomplete:
                mistakes.add(
                    f"constexpr {name!r}",
                    f"expected a value in constexprs= or in every config, got none in {where}"
                    + nearest(name, options),
                )
        incomplete.update(absent)
    return tuple(found)


def _config_entries(config: Any, where: str, mistakes: _Mistakes) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    if not isinstance(getattr(config, "kwargs", None), Mapping):
        mistakes.add(where, f"expected a triton.Config or a dict, got {config!r}")
        return {}
    for refused in ("pre_hook", "ir_override"):
        if getattr(config, refused, None) is not None:
            mistakes.add(where, f"expected a config without {refused}, got one; it cannot be compiled ahead")
    options = {name: getattr(config, name, None) for name in ("num_warps", "num_stages", "maxnreg")}
    if getattr(config, "num_ctas", 1) != 1:
        options["num_ctas"] = config.num_ctas
    return {**config.kwargs, **options}


def _check_overloads(checked: Checked, mistakes: _Mistakes) -> None:
    """A call must be able to tell overloads apart: it sees classes of types, not widths of scalars."""
    seen: dict[tuple[object, ...], dict[str, str]] = {}
    for chosen in _choices(checked.types):
        classes = tuple(abi.type_class(argument.code(chosen)) for argument in checked.arguments)
        if classes in seen:
            mistakes.add(
                f"types {' '.join(chosen.values())}",
                f"expected a choice that a call can tell from {' '.join(seen[classes].values())}, got the same "
                "call for both; only pointers differ by type, so give scalars a fixed one",
            )
        seen.setdefault(classes, chosen)


# ---- the expansion


def expand(kernel: Kernel, targets: Sequence[Target]) -> Plan:
    """All variants of a kernel for these targets."""
    checked = kernel.checked
    mistakes = _Mistakes(kernel.name)
    configs = _configs(kernel, targets, mistakes)
    mistakes.raise_any()
    tuned = {name for config in configs for name, _ in config.constexprs}
    constexprs = tuple(Constexpr(name, _role(checked, name, tuned)) for name in checked.function.constexprs)
    overloads: list[Overload] = []
    named: list[Variant] = []
    names = _Names(kernel.name, checked, configs, constexprs)
    for chosen in _choices(checked.types):
        for selected in _choices(tuple(checked.selected.items())):
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


def _choices(variables: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[dict[str, Any]]:
    """Every choice of a value for each variable, the last varying fastest."""
    names = [name for name, _ in variables]
    for values in itertools.product(*(choices for _, choices in variables)):
        yield dict(zip(names, values, strict=True))


def _configs(
    kernel: Kernel, targets: Sequence[Target], mistakes: _Mistakes
) -> dict[_Config, tuple[Target, ...]]:
    """The configs of all targets, each with the targets that have it, in an order that keeps every target's."""
    checked = kernel.checked
    found: dict[_Config, list[Target]] = {}
    before: dict[_Config, set[_Config]] = {}
    for target in targets:
        given, subject = kernel.configs, "configs"
        if callable(given):
            given, subject = given(target), f"configs({target.name})"
            if not given:
                mistakes.add(subject, "expected one or more configs, got none")
                continue
        configs = _read_configs(given, subject, checked.function, checked.fixed, checked.selected, mistakes)
        for previous, config in zip((None, *configs), configs, strict=False):
            found.setdefault(config, []).append(target)
            before.setdefault(config, set()).update((previous,) if previous else ())
    ordered: dict[_Config, tuple[Target, ...]] = {}
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


def _variants(
    checked: Checked,
    chosen: Mapping[str, str],
    selected: Mapping[str, Value],
    config: _Config,
    targets: tuple[Target, ...],
    overload: int,
    names: _Names,
    mistakes: _Mistakes,
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
    for null, one, divisible, suffix in _specialisations(checked.arguments):
        name, entry = names.take(chosen, values, options, suffix)
        yield Variant(
            name=name,
            entry=entry,
            overload=overload,
            constexprs=tuple(values[name] for name in checked.function.constexprs),
            arguments=tuple((argument.name, argument.triton(chosen)) for argument in checked.arguments),
            divisible_16=divisible,
            equal_1=one,
            null=null,
            options=tuple(sorted(options.items())),
            guard=guard,
            grid=grid,
            targets=targets,
        )


def _fold(expr: Expr, values: Mapping[str, Value], subject: str, mistakes: _Mistakes) -> Expr:
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
    arguments: Sequence[_Argument],
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


class _Names:
    """Gives variants names that say what sets them apart, each once."""

    def __init__(
        self, kernel: str, checked: Checked, configs: Iterable[_Config], constexprs: Sequence[Constexpr]
    ) -> None:
        self.kernel = kernel
        self.shown = [c.name for c in constexprs if c.role != abi.CONSTEXPR_FIXED]
        everywhere = dict(checked.options)
        merged = [{**everywhere, **dict(config.options)} for config in configs]
        options = sorted({name for option in merged for name in option} - {"num_warps"})
        self.differing = [name for name in options if len({option.get(name) for option in merged}) > 1]
        self.taken: set[str] = set()

    def take(
        self,
        chosen: Mapping[str, str],
        values: Mapping[str, Value],
        options: Mapping[str, Value],
        suffix: Iterable[str],
    ) -> tuple[str, str]:
        parts = [
            *chosen.values(),
            *(f"{name}{values[name]}" for name in self.shown),
            f"w{options.get('num_warps', DEFAULT_NUM_WARPS)}",
            *(f"{'s' if name == 'num_stages' else name}{options.get(name)}" for name in self.differing),
            *suffix,
        ]
        name = ".".join(re.sub(r"[^A-Za-z0-9_.+-]", "_", part) for part in parts)
        entry = f"{self.kernel}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        # -1 and .1 look the same in an entry, and odd texts in a name: then the later gets a number.
        number = 1
        while entry in self.taken:
            number += 1
            entry = f"{entry.removesuffix(f'__{number - 1}')}__{number}"
        self.taken.add(entry)
        return (name if number == 1 else f"{name}.{number}"), entry


def _overload(checked: Checked, chosen: Mapping[str, str], selected: Mapping[str, Value]) -> Overload:
    types = (
        *(argument.code(chosen) for argument in checked.arguments),
        *map(_value_type, selected.values()),
        *(abi.I64 for _ in checked.launch),
    )
    return Overload(types, tuple(selected.values()))


def _value_type(value: Value) -> int:
    """The type code of a selected constexpr. bool before int: in Python it is one."""
    match value:
        case None:
            return abi.NONE
        case bool():
            return abi.I1
        case int():
            return abi.I64
        case float():
            return abi.FP64
        case str():
            return abi.STRING
        case DType():
            return abi.DTYPE


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
        argument = by_name.get(name, _Argument(name, ""))
        arg = checked.args.get(name, Arg())
        ranges = [INT64 if kind == abi.PARAM_SELECTED and code == abi.I64 else _range(code) for code in types]
        direction = _DIRECTIONS[arg.direction] or (abi.DIRECTION_IN if argument.const else 0)
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
