"""From launches to Kernels: those of one function become one kernel, as far as one call can stand for them all.

What differs between its launches becomes part of the call where a caller can pass it: types of pointers, integers,
texts. What it cannot tell apart (i32 and i64 in one place, two functions handed in) makes another kernel.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kpack.compile.binder import Constant, Part, Scalar
from kpack.errors import SpecError
from kpack.learn.call import Alternative, Call, constant_key, leaves, part_key, signature_text
from kpack.learn.grid import AXES
from kpack.naming import check_kernel_name
from kpack.spec import Kernel, expand
from kpack.spec.values import INT64, is_plain, read_constant
from kpack.target import parse_target

__all__ = ["KEEP", "Keep", "axes_of", "kernels_of", "names_once"]

Keep = Literal["exact", "alignment", "none", "general"]
KEEP = ("exact", "alignment", "none", "general")

_INTEGERS = frozenset("i8 i16 i32 i64 u8 u16 u32 u64".split())


# ---- bundles: what one launch asks for


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Alternatives of one launch that a call cannot tell apart: one case of a Kernel. `parts`: of all parameters
    but those that a config or a heuristic sets."""

    parts: Mapping[str, Part]
    options: Mapping[str, Any]
    configs: tuple[Mapping[str, Any], ...]
    computed: Mapping[str, tuple[Any, ...]]

    @property
    def key(self) -> str:
        shown = [f"{name}={part_key(part)}" for name, part in self.parts.items()]
        settings = [_settings_key(each) for each in (self.options, *self.configs)]
        found = [(name, list(map(constant_key, values))) for name, values in self.computed.items()]
        return f"{shown} {settings} {found}"


def _bundles(call: Call, traced: bool) -> list[_Bundle]:
    """`traced`: what heuristics set is left to them, under guards; else it is a constant of the launch."""
    found: list[_Bundle] = []
    for alternative in call.alternatives:
        # A caller that passes a grid which depends on the config says which config it means.
        tuned = alternative.tuned - call.grid.tuned
        computed = alternative.computed if traced else frozenset[str]()
        apart = tuned | computed
        bundle = _Bundle(
            parts={name: part for name, part in alternative.parts.items() if name not in apart},
            options={name: value for name, value in alternative.options.items() if name not in apart},
            configs=(_settings(alternative, tuned),) if tuned else (),
            computed={name: (value,) for name, value in _settings(alternative, computed).items()},
        )
        # Neighbours alone, so that configs stay in their order.
        if found and replace(found[-1], configs=()).key == replace(bundle, configs=()).key:
            configs = {_settings_key(each): each for each in (*found[-1].configs, *bundle.configs)}
            found[-1] = replace(bundle, configs=tuple(configs.values()))
        else:
            found.append(bundle)
    return found


def _settings_key(settings: Mapping[str, Any]) -> str:
    return repr(sorted((name, constant_key(value)) for name, value in settings.items()))


def _settings(alternative: Alternative, names: frozenset[str]) -> dict[str, Any]:
    parts = {name: part for name, part in alternative.parts.items() if name in names}
    constants = {name: part.value for name, part in parts.items() if isinstance(part, Constant)}
    return constants | {name: value for name, value in alternative.options.items() if name in names}


# ---- how much to keep


def _kept(bundle: _Bundle, keep: Keep) -> list[_Bundle]:
    if keep == "exact":
        return [bundle]
    loose = _loosened(bundle, divisible=keep == "alignment")
    if keep != "general":
        return [loose]
    # Truth that a heuristic finds may be otherwise for the next call; what else it finds cannot be foreseen.
    either = {
        name: (True, False) if all(isinstance(value, bool) for value in values) else values
        for name, values in bundle.computed.items()
    }
    loose = replace(loose, computed=either)
    return [bundle, loose] if loose.key != bundle.key else [bundle]


def _loosened(bundle: _Bundle, *, divisible: bool) -> _Bundle:
    return replace(bundle, parts={name: _loose(part, divisible) for name, part in bundle.parts.items()})


def _loose(part: Part, divisible: bool) -> Part:
    if isinstance(part, tuple):
        inner = [_loose(each, divisible) for each in part]
        return part._make(inner) if hasattr(part, "_make") else tuple(inner)
    if isinstance(part, Scalar):
        return replace(part, one=False, divisible=part.divisible and divisible)
    return part


# ---- what one call can stand for


class _Group:
    """Bundles that one kernel can have, as far as each parameter by itself goes."""

    def __init__(self, first: _Bundle) -> None:
        self.bundles = {first.key: first}

    def add(self, bundle: _Bundle) -> bool:
        if not all(self._together(bundle, other) for other in self.bundles.values()):
            return False
        self.bundles.setdefault(bundle.key, bundle)
        return True

    @staticmethod
    def _together(one: _Bundle, other: _Bundle) -> bool:
        return (
            one.parts.keys() == other.parts.keys()
            and one.computed.keys() == other.computed.keys()
            and all(_together(part, other.parts[name]) for name, part in one.parts.items())
        )


def _together(one: Part, other: Part) -> bool:
    """Whether both may be what one parameter of a kernel becomes."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        same = type(one) is type(other) and len(one) == len(other)
        return same and all(_together_inside(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        return _same_scalar(one, other)
    if isinstance(one, Constant) and isinstance(other, Constant):
        return constant_key(one.value) == constant_key(other.value) or (_passable(one) and _passable(other))
    pointer, constant = (one, other) if isinstance(one, Scalar) else (other, one)
    null = isinstance(constant, Constant) and constant.value is None
    return null and isinstance(pointer, Scalar) and pointer.type.startswith("*")


def _together_inside(one: Part, other: Part) -> bool:
    """The same of parts of a tuple, where a constant is part of its form."""
    if isinstance(one, Constant) or isinstance(other, Constant):
        return part_key(one) == part_key(other)
    return _together(one, other)


def _same_scalar(one: Scalar, other: Scalar) -> bool:
    for prefix in ("*", "tensordesc"):
        if one.type.startswith(prefix) or other.type.startswith(prefix):
            return one.type.startswith(prefix) and other.type.startswith(prefix)
    # What is always 1 is compiled in: its width is anybody's.
    widths = {each.type for each in (one, other) if not (each.one and each.type in _INTEGERS)}
    return len(widths) < 2 and (not widths or widths <= _INTEGERS or one.type == other.type)


def _passable(constant: Constant) -> bool:
    value = read_constant(constant.value)
    return is_plain(value) and not (isinstance(value, int) and not INT64[0] <= value <= INT64[1])


def _by_nulls(group: _Group) -> list[list[_Bundle]]:
    """Apart by which pointers are None, unless all combinations are there. A pointer that happens to be null is
    taken by the first variant that has no other wish, and must not find one that would follow it."""
    chosen: dict[str, list[_Bundle]] = {}
    for bundle in group.bundles.values():
        constants = {
            n: part_key(p) for n, p in bundle.parts.items() if isinstance(p, Constant) and p.value is not None
        }
        chosen.setdefault(repr(constants), []).append(bundle)
    if all(_all_nulls(bundles) for bundles in chosen.values()):
        return [[*group.bundles.values(), *itertools.chain(*map(_fall_backs, chosen.values()))]]
    apart: dict[frozenset[str], list[_Bundle]] = {}
    for bundle in group.bundles.values():
        apart.setdefault(_nulls(bundle), []).append(bundle)
    return list(apart.values())


def _nulls(bundle: _Bundle) -> frozenset[str]:
    return frozenset(
        name for name, part in bundle.parts.items() if isinstance(part, Constant) and part.value is None
    )


def _all_nulls(bundles: Sequence[_Bundle]) -> bool:
    patterns = {_nulls(bundle) for bundle in bundles}
    varying = frozenset.union(*patterns) - frozenset.intersection(*patterns)
    return len(patterns) == 1 << len(varying)


def _fall_backs(bundles: Sequence[_Bundle]) -> Iterator[_Bundle]:
    """For each combination of None, one without other wishes, if a call could meet those of a bundle with fewer
    None and of none with these."""
    for nulls in {_nulls(bundle): None for bundle in bundles}:
        mine = [bundle for bundle in bundles if _nulls(bundle) == nulls]
        others = [bundle for bundle in bundles if _nulls(bundle) < nulls]
        if not all(any(_wishes(own) <= _wishes(other) for own in mine) for other in others):
            yield _loosened(mine[0], divisible=False)


def _wishes(bundle: _Bundle) -> set[tuple[str, int, str]]:
    return {
        (name, number, "one" if leaf.one else "divisible")
        for name, part in bundle.parts.items()
        for number, leaf in enumerate(leaves(part))
        if isinstance(leaf, Scalar) and (leaf.one or leaf.divisible)
    }


# ---- a Kernel


def _written(bundles: Sequence[_Bundle], constants: frozenset[str]) -> list[dict[str, Any]]:
    """The cases of a Kernel. `constants`: the parameters that are constexprs by the function's own word."""
    typical: dict[str, Scalar] = {}  # what stands for None and 1, which have no type of their own
    for bundle in bundles:
        for name, part in bundle.parts.items():
            if isinstance(part, Scalar) and not part.one:
                typical.setdefault(name, part)
    cases = []
    for bundle in bundles:
        signature: dict[str, Any] = {}
        constexprs: dict[str, Any] = {name: list(values) for name, values in bundle.computed.items()}
        for name, part in bundle.parts.items():
            if isinstance(part, Constant) and (name in constants or name not in typical):
                # A list would be choices.
                constexprs[name] = read_constant(part.value) if isinstance(part.value, list) else part.value
            elif isinstance(part, Constant):
                signature[name] = (
                    f"{signature_text(_typed(typical, name, bundle, bundles)).partition(':')[0]}:none"
                )
            elif isinstance(part, tuple):
                signature[name] = _tuple_text(part)
                if any(isinstance(leaf, Constant) for leaf in leaves(part)):
                    constexprs[name] = _tuple_constants(part)
            else:
                of_one = part.one and name in typical and typical[name].type in _INTEGERS
                signature[name] = signature_text(replace(part, type=typical[name].type) if of_one else part)
        case: dict[str, Any] = {"signature": signature, "constexprs": constexprs}
        if bundle.options:
            case["options"] = dict(bundle.options)
        if bundle.configs:
            case["configs"] = list(bundle.configs)
        cases.append(case)
    return cases


def _typed(typical: Mapping[str, Scalar], name: str, bundle: _Bundle, bundles: Iterable[_Bundle]) -> Scalar:
    """The type of a pointer that is None here: its type where the other pointers have the same ones as here."""

    def types(each: _Bundle) -> dict[str, str]:
        return {n: p.type for n, p in each.parts.items() if isinstance(p, Scalar) and p.type.startswith("*")}

    mine = types(bundle)
    for other in bundles:
        part = other.parts[name]
        theirs = types(other)
        if isinstance(part, Scalar) and all(theirs.get(n, t) == t for n, t in mine.items()):
            return part
    return typical[name]


def _tuple_text(part: Any) -> Any:
    if isinstance(part, tuple):
        inner = list(map(_tuple_text, part))
        return part._make(inner) if hasattr(part, "_make") else tuple(inner)
    return signature_text(part) if isinstance(part, Scalar) else "constexpr"


def _tuple_constants(part: Any) -> Any:
    if isinstance(part, tuple):
        return tuple(map(_tuple_constants, part))
    return part.value if isinstance(part, Constant) else None


def _kernel(call: Call, bundles: Sequence[_Bundle], grid: str) -> Kernel:
    constants = frozenset(param.name for param in call.jit.params if param.is_constexpr)
    cases = _written(bundles, constants)
    fields: dict[str, Any] = cases[0] if len(cases) == 1 else {"cases": cases}
    with warnings.catch_warnings():  # of what an autotuner does on the host: here its launches were seen
        warnings.simplefilter("ignore")
        return Kernel(call.fn, name=_identifier(call.jit), grid=grid, **fields)


def _identifier(jit: Any) -> str:
    """The function's name, if C++ can write it."""
    name: str = jit.__name__
    try:
        return check_kernel_name(name)
    except SpecError:
        return f"{name}_kernel"


def names_once() -> Callable[[Any], str]:
    """Gives kernels the names of their functions, each once."""
    taken: set[str] = set()

    def take(jit: Any) -> str:
        plain = name = _identifier(jit)
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        return name

    return take


def axes_of(jit: Any) -> tuple[str, ...]:
    """What the sizes of the grid are called in the kernel's call."""
    clash = any(axis in jit.arg_names for axis in AXES)
    return tuple(f"launch_{axis}" for axis in AXES) if clash else AXES


# ---- all of them


def kernels_of(
    calls: Iterable[Call],
    keep: Keep,
    name: Callable[[Any], str],
    *,
    grid: str = "",
    refused: Callable[[SpecError], None] | None = None,
) -> list[Kernel]:
    """The kernels of these launches, in the order of their first ones. `name` gives the name of a JIT function's
    next kernel; `grid`, if given, is everyone's; `refused` hears of what no kernel can have, else it is raised."""
    if keep not in KEEP:
        raise SpecError(f"keep: expected one of {' '.join(KEEP)}, got {keep!r}")
    functions: dict[object, list[Call]] = {}
    for call in calls:
        functions.setdefault((call.function, call.grid.text, call.grid.tuned), []).append(call)
    found: list[Kernel] = []
    for group in functions.values():
        kernels, errors = _of_function(group, keep, grid or _grid(group))
        for error in errors:
            if refused is None:
                raise error
            refused(error)
        with warnings.catch_warnings():  # as in _kernel
            warnings.simplefilter("ignore")
            found += [replace(kernel, name=name(group[0].jit)) for kernel in kernels]
    return found


def _grid(calls: Sequence[Call]) -> str:
    dimensions = max(len(call.grid.sizes) or 3 for call in calls)
    return calls[0].grid.text or ", ".join(axes_of(calls[0].jit)[:dimensions])


_Made = tuple[list[Kernel], list[SpecError]]


def _of_function(calls: Sequence[Call], keep: Keep, grid: str) -> _Made:
    computed = {name for call in calls for each in call.alternatives for name in each.computed}
    if computed and not computed & calls[0].grid.tuned:
        # Heuristics that can be traced become guards, so that no call runs what was computed for another.
        kernels, errors = _drafted(calls, keep, grid, traced=True)
        if not errors:
            return kernels, errors
    return _drafted(calls, keep, grid, traced=False)


def _drafted(calls: Sequence[Call], keep: Keep, grid: str, *, traced: bool) -> _Made:
    groups: list[_Group] = []
    for call in calls:
        for bundle in _bundles(call, traced):
            for kept in _kept(bundle, keep):
                if not any(group.add(kept) for group in groups):
                    groups.append(_Group(kept))
    made = [_split(calls[0], each, grid, traced) for group in groups for each in _by_nulls(group)]
    return [kernel for kernels, _ in made for kernel in kernels], [
        error for _, errors in made for error in errors
    ]


def _split(call: Call, bundles: Sequence[_Bundle], grid: str, traced: bool) -> _Made:
    """One kernel, or where a call could not tell its cases apart after all, halves of it."""
    try:
        kernel = _kernel(call, bundles, grid)
        if traced:
            expand(kernel, (parse_target("sm_90"),))
        return [kernel], []
    except SpecError as error:
        if len(bundles) == 1:
            return [], [error]
    half = len(bundles) // 2
    first, second = (_split(call, each, grid, traced) for each in (bundles[:half], bundles[half:]))
    return [*first[0], *second[0]], [*first[1], *second[1]]
