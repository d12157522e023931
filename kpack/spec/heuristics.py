"""Heuristics, when a kernel is built: constants of what they compute from constants, guards of the rest.

A heuristic is called with a dict, as Triton calls it: constants are in it as they are, integers of the call as symbols
that record what is asked of them, and the rest as stand-ins that say what is known of them (None or not, the type) and
refuse what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from kpack.errors import SpecError
from kpack.expr import Branch, Expr, choose, const, decide, is_boolean, make
from kpack.objfile import abi
from kpack.spec.argument import TYPES, Argument, integer_range
from kpack.spec.mistakes import Mistakes
from kpack.spec.signature import Bound, Fixed
from kpack.spec.values import Constant, DType, Opaque, as_tuple, dtype_name, read_constant
from kpack.spec.wrappers import Heuristic

__all__ = ["Environment", "Outcome", "outcomes"]

# Values of the heuristics, and the condition under which they are these.
Outcome = tuple[dict[str, Constant], Expr]

_TRUE, _FALSE = const(1), const(0)


class Environment:
    """What a launch of one specialisation would hand to a heuristic."""

    def __init__(
        self,
        arguments: Sequence[Argument],
        bound: Mapping[str, Bound],
        chosen: Mapping[str, str],
        ones: Iterable[int],
        nulls: Iterable[int],
    ) -> None:
        self.arguments, self.bound, self.chosen = arguments, bound, chosen
        self.ones, self.nulls = frozenset(ones), frozenset(nulls)

    def values(self, constants: Mapping[str, Constant], symbol: Callable[[str], Any]) -> dict[str, Any]:
        found = {name: _shown(value) for name, value in constants.items()}
        return found | {name: self._value(bound, symbol) for name, bound in self.bound.items()}

    def _value(self, bound: Bound, symbol: Callable[[str], Any]) -> Any:
        if isinstance(bound, tuple):
            return as_tuple(bound, (self._value(part, symbol) for part in bound))
        if isinstance(bound, Fixed):
            return _shown(bound.value)
        argument = self.arguments[bound]
        code = argument.code(self.chosen)
        if bound in self.nulls:
            return None
        if bound in self.ones:
            return 1
        if code == abi.I1:
            return symbol(argument.name) != 0
        return symbol(argument.name) if any(integer_range(code)) else _Unknown(argument, self.chosen)


def outcomes(
    heuristics: Iterable[Heuristic],
    environment: Environment,
    constants: Mapping[str, Constant],
    enumerated: Mapping[str, Sequence[Constant]],
    mistakes: Mistakes,
) -> Iterator[Outcome]:
    """All that the heuristics may come to, one after the other, each knowing those before it."""
    found: list[Outcome] = [({}, _TRUE)]
    for heuristic in heuristics:
        next_: list[Outcome] = []
        for values, guard in found:
            known = {**constants, **values}
            action = partial(_decided, heuristic, environment, known, enumerated)
            read = mistakes.attempt(f"heuristic {heuristic.name!r}", action, ())
            next_ += [
                ({**values, heuristic.name: value}, both)
                for value, condition in read
                if (both := make("and", guard, condition)) != _FALSE
            ]
        found = next_
    yield from found


def _decided(
    heuristic: Heuristic,
    environment: Environment,
    constants: Mapping[str, Constant],
    enumerated: Mapping[str, Sequence[Constant]],
) -> list[tuple[Constant, Expr]]:
    """The values of one heuristic, and the condition of each."""
    tree = decide(lambda symbol: heuristic.compute(environment.values(constants, symbol)))
    name = heuristic.name
    values = enumerated[name] if name in enumerated else _values(tree, name)
    return [(value, condition) for value in values if (condition := _is(tree, value)) != _FALSE]


def _values(tree: Any, name: str) -> list[Constant]:
    found: dict[str, Constant] = {}
    for leaf in _leaves(tree):
        if isinstance(leaf, Expr) and not is_boolean(leaf):
            raise SpecError(
                f"expected constants, a truth value or values to choose from, got {leaf}; give these in "
                f"constexprs={{{name!r}: [...]}}"
            )
        for value in (True, False) if isinstance(leaf, Expr) else (read_constant(leaf),):
            found.setdefault(repr(value), value)
    return list(found.values())


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Branch):
        yield from _leaves(tree.then)
        yield from _leaves(tree.other)
    else:
        yield tree


def _is(tree: Any, value: Constant) -> Expr:
    """Whether a heuristic comes to this value."""
    if isinstance(tree, Branch):
        return choose(tree.test, _is(tree.then, value), _is(tree.other, value))
    if not isinstance(tree, Expr):
        return const(repr(read_constant(tree)) == repr(value))  # True is not 1
    if isinstance(value, bool):
        return tree if value else make("not", tree)
    return make("eq", tree, const(value)) if isinstance(value, int) else _FALSE


# ---- what a heuristic sees


def _shown(constant: Constant) -> Any:
    """A constant as a heuristic would get it at a launch."""
    if isinstance(constant, tuple):
        return as_tuple(constant, map(_shown, constant))
    if isinstance(constant, DType):
        return _Type(constant.name)
    return constant.value if isinstance(constant, Opaque) else constant


class _Type:
    """A type, equal to what triton.language or torch calls so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.itemsize = abi.ELEMENT_BYTES.get(TYPES[name], 0)
        self.primitive_bitwidth = 1 if name == "i1" else 8 * self.itemsize

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (_Type, DType)):
            return self.name == other.name
        name = dtype_name(other)
        if not name:
            raise SpecError(f"expected a comparison of types, got {self.name} beside {other!r}")
        return self.name == name

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raise SpecError(f"expected a comparison of types, got the text of {self.name}")


class _Unknown:
    """An argument of which a build knows the type, and that it is not None."""

    def __init__(self, argument: Argument, chosen: Mapping[str, str]) -> None:
        self._name = argument.name
        self._type = "tensordesc" if argument.box else argument.triton(chosen, {})
        if argument.pointer or argument.box:
            self.dtype = _Type(argument.type_name(chosen))

    def element_size(self) -> int:
        return self.dtype.itemsize

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):  # what Python itself asks for
            raise AttributeError(attribute)
        self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise SpecError(
            f"expected constants, integers of the call, and whether a pointer is None, got a use of the "
            f"{self._type} {self._name!r}; give the value in constexprs="
        )

    __bool__ = __int__ = __index__ = __float__ = __len__ = __iter__ = __getitem__ = __call__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __neg__ = __abs__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse

    def __eq__(self, other: object) -> bool:
        return False if other is None else self._refuse()

    __hash__ = None  # type: ignore[assignment]
