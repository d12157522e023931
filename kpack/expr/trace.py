"""Expressions from what the user wrote: callables are traced, texts parsed, integers taken as they are.

A lambda is traced by calling it with symbolic values (symbolic execution). Each time Python asks whether one is
true, the trace takes one answer and comes back for the other, so `min`, `and` and `if` inside a lambda work as
they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kpack.errors import SpecError
from kpack.expr import tree
from kpack.expr.parse import NO_DIVISION, NO_POWER, names_in, no_size, parse, parse_parts, unknown_name
from kpack.expr.tree import Expr, ceil_div, ceil_power_of_2, choose, const, literal, make, variable
from kpack.objfile import abi

__all__ = ["Branch", "cdiv", "decide", "next_power_of_2", "parameters_of", "sizeof", "trace", "trace_grid"]

MAX_PATHS = 64


# ---- sources


def parameters_of(source: object) -> tuple[str, ...]:
    """The names that an expression's source uses, in order: a callable's parameters, a text's variables."""
    if isinstance(source, str):
        return names_in(source)
    if isinstance(source, (tuple, list)):
        return tuple(dict.fromkeys(name for part in source for name in parameters_of(part)))
    if callable(source):
        # A parameter with a default is how a lambda keeps a value of its surroundings.
        return tuple(
            name for name, default in _callable_parameters(source) if default is inspect.Parameter.empty
        )
    return ()


def trace(source: object, names: Iterable[str], sized: Iterable[str] = ()) -> Expr:
    """The expression that `source` (an integer, a text or a callable of `names`) means. `sized`: what sizeof() may be
    asked of, pointers and type variables."""
    return _single(source, frozenset(names), frozenset(sized))


def trace_grid(source: object, names: Iterable[str], sized: Iterable[str] = ()) -> tuple[Expr, ...]:
    """The one to three expressions of a launch grid: a single source, a tuple, or a callable of either."""
    known, with_size = frozenset(names), frozenset(sized)
    if isinstance(source, str):
        grid = parse_parts(source, known, with_size)
    elif isinstance(source, (tuple, list)):
        grid = tuple(_single(part, known, with_size) for part in source)
    elif callable(source):
        grid = _explore(source, known, with_size)
    else:
        grid = (_single(source, known, with_size),)
    if not 1 <= len(grid) <= 3:
        raise SpecError(f"expected 1 to 3 dimensions, got {len(grid)}")
    return grid


def _single(source: object, names: frozenset[str], sized: frozenset[str]) -> Expr:
    if isinstance(source, str):
        return parse(source, names, sized)
    if callable(source):
        values = _explore(source, names, sized)
        if len(values) != 1:
            raise SpecError(f"expected one value, got {len(values)}")
        return values[0]
    return literal(source, "an integer, a text or a callable")


def _callable_parameters(source: Callable[..., Any]) -> list[tuple[str, Any]]:
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError) as error:
        raise SpecError(f"expected a callable with a signature, got {source!r}") from error
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise SpecError(f"expected named parameters, got {str(parameter)!r}; name each value used")
    return [(parameter.name, parameter.default) for parameter in parameters]


# ---- symbolic values


class _TooManyPaths(Exception):
    pass


class _Path:
    """The answers one call of a lambda has given to its truth tests; new ones begin with True."""

    def __init__(self, answers: Sequence[bool]) -> None:
        self.answers = list(answers)
        self.tests: list[Expr] = []

    def ask(self, test: Expr) -> bool:
        if test.op == "const":
            return bool(test.value)
        if test in self.tests:
            return self.answers[self.tests.index(test)]
        self.tests.append(test)
        if len(self.tests) > len(self.answers):
            self.answers.append(True)
        if len(self.tests) > MAX_PATHS:  # a loop that waits for a symbolic value
            raise _TooManyPaths
        return self.answers[len(self.tests) - 1]


def _refuse(reason: str) -> Callable[..., NoReturn]:
    def method(self: object, *_: object) -> NoReturn:
        raise SpecError(reason)

    return method


def _binary(op: str, swapped: bool = False) -> Callable[..., Any]:
    def method(self: _Symbol, other: object) -> _Symbol:
        pair = (self.expr, self.lift(other))
        return _Symbol(make(op, *(reversed(pair) if swapped else pair)), self.path)

    return method


_NO_INT = "expected arithmetic, got a use that needs the number itself (range, int, an index)"
_NO_INDEX = "expected a parameter for each name, got an index; write `BLOCK`, not `meta['BLOCK']`"
_NO_FLOAT = "expected integers only, got a conversion to float; use // or cdiv(a, b)"


class _Symbol:
    """What a traced lambda gets for a parameter: it records what is done to it."""

    def __init__(self, expr: Expr, path: _Path) -> None:
        self.expr = expr
        self.path = path

    def lift(self, other: object) -> Expr:
        if isinstance(other, _Symbol):
            return other.expr
        return literal(other, f"an integer beside '{self.expr}'")

    def __bool__(self) -> bool:
        return self.path.ask(self.expr)

    def __neg__(self) -> _Symbol:
        return _Symbol(make("neg", self.expr), self.path)

    def __pos__(self) -> _Symbol:
        return self

    def __abs__(self) -> _Symbol:
        return _Symbol(make("abs", self.expr), self.path)

    def __invert__(self) -> _Symbol:
        return _Symbol(make("sub", const(-1), self.expr), self.path)

    def __divmod__(self, other: object) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: object) -> tuple[Any, Any]:
        return other // self, other % self

    __add__, __radd__ = _binary("add"), _binary("add", swapped=True)
    __sub__, __rsub__ = _binary("sub"), _binary("sub", swapped=True)
    __mul__, __rmul__ = _binary("mul"), _binary("mul", swapped=True)
    __floordiv__, __rfloordiv__ = _binary("floordiv"), _binary("floordiv", swapped=True)
    __mod__, __rmod__ = _binary("mod"), _binary("mod", swapped=True)
    __and__, __rand__ = _binary("band"), _binary("band", swapped=True)
    __or__, __ror__ = _binary("bor"), _binary("bor", swapped=True)
    __xor__, __rxor__ = _binary("xor"), _binary("xor", swapped=True)
    __lshift__, __rlshift__ = _binary("shl"), _binary("shl", swapped=True)
    __rshift__, __rrshift__ = _binary("shr"), _binary("shr", swapped=True)
    __lt__, __le__, __gt__, __ge__ = _binary("lt"), _binary("le"), _binary("gt"), _binary("ge")
    __eq__ = _binary("eq")
    __ne__ = _binary("ne")
    __hash__ = None  # type: ignore[assignment]

    __truediv__ = __rtruediv__ = _refuse(NO_DIVISION)
    __pow__ = __rpow__ = _refuse(NO_POWER)
    __int__ = __index__ = __len__ = __iter__ = _refuse(_NO_INT)
    __float__ = __floor__ = __ceil__ = __round__ = __trunc__ = _refuse(_NO_FLOAT)
    __getitem__ = _refuse(_NO_INDEX)
    __call__ = _refuse("expected a number, got a call of a parameter")


class _Sized:
    """What a traced lambda gets for a pointer or a type variable: only sizeof() can do anything with it."""

    def __init__(self, symbol: _Symbol) -> None:
        self.symbol = symbol

    @property
    def bytes(self) -> _Symbol:
        return _Symbol(tree.sizeof(self.symbol.expr.name), self.symbol.path)

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):  # what Python itself asks for
            raise AttributeError(attribute)
        self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        name = self.symbol.expr.name
        raise SpecError(
            f"expected an integer, got {name!r}; kpack.sizeof({name}) is the bytes of one element"
        )

    __bool__ = __int__ = __index__ = __float__ = __len__ = __iter__ = __getitem__ = __call__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __neg__ = __abs__ = __invert__ = _refuse
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refuse
    __hash__ = None  # type: ignore[assignment]


def sizeof(what: Any) -> Any:
    """Bytes of one element: of a type ("fp16"), or, inside a traced guard, grid or extent, of what a pointer points to
    or of a type variable, by the lambda's parameter of that name.

    Raises SpecError for anything else.
    """
    if isinstance(what, _Sized):
        return what.bytes
    name = str(what.expr if isinstance(what, _Symbol) else getattr(what, "name", what))
    if name in abi.DTYPES and not isinstance(what, _Symbol):
        return abi.ELEMENT_BYTES[abi.DTYPES[name]]
    raise SpecError(no_size(name, ()))


def cdiv(a: Any, b: Any) -> Any:
    """`a / b` rounded up, of integers or inside a traced guard or grid.

    Raises ZeroDivisionError for b = 0, of integers; in a guard or grid, the launch fails instead.
    """
    if isinstance(a, _Symbol) or isinstance(b, _Symbol):
        return _binary("cdiv")(a, b) if isinstance(a, _Symbol) else _binary("cdiv", swapped=True)(b, a)
    return ceil_div(a, b)


def next_power_of_2(n: Any) -> Any:
    """The smallest power of two not below n (1 for 0), of an integer or inside a traced guard or grid.

    Raises ValueError for n < 0, of an integer; in a guard or grid, the launch fails instead.
    """
    if isinstance(n, _Symbol):
        return _Symbol(make("next_power_of_2", n.expr), n.path)
    return ceil_power_of_2(n)


# ---- every path through a callable


@dataclass(frozen=True, slots=True)
class Branch:
    """A truth test that a callable made, and what it came to for either answer: another Branch, or its result."""

    test: Expr
    then: Any
    other: Any


def decide(call: Callable[[Callable[[str], Any]], Any]) -> Any:
    """Call `call` once for each path through its truth tests: what it returns, or a Branch if that depends on them.

    `call` is handed what makes a symbolic integer of a name. A result that is one comes back as an Expr. Raises
    SpecError where `call` fails with symbolic values, or takes too many paths.
    """
    paths = 0

    def walk(answers: list[bool]) -> Any:
        nonlocal paths
        paths += 1
        if paths > MAX_PATHS:
            raise _TooManyPaths
        path = _Path(answers)
        result = _called(call, lambda name: _Symbol(variable(name), path))
        # Each test this call answered first, from the last back: the other answer, and all behind it.
        for depth in range(len(path.tests) - 1, len(answers) - 1, -1):
            result = Branch(path.tests[depth], result, walk([*path.answers[:depth], False]))
        return result

    try:
        return walk([])
    except _TooManyPaths:
        raise SpecError(
            f"expected at most {MAX_PATHS} paths through the tests of a lambda, got more; simplify it"
        ) from None


def _called(call: Callable[[Callable[[str], Any]], Any], symbol: Callable[[str], Any]) -> Any:
    try:
        result = call(symbol)
    except (SpecError, _TooManyPaths):
        raise
    except Exception as error:
        raise SpecError(
            f"expected a callable of integers, got {type(error).__name__} with symbolic values: {error}"
        ) from error
    return result.expr if isinstance(result, _Symbol) else result


def _explore(source: Callable[..., Any], names: frozenset[str], sized: frozenset[str]) -> tuple[Expr, ...]:
    """Call `source` on every path through its truth tests and join what the paths return."""
    parameters = _callable_parameters(source)
    known = names | sized
    missing = [
        name for name, default in parameters if name not in known and default is inspect.Parameter.empty
    ]
    if missing:
        raise SpecError("\n".join(unknown_name(name, names) for name in missing))
    symbolic = [name for name, _ in parameters if name in known]

    def call(symbol: Callable[[str], Any]) -> tuple[Expr, ...]:
        # By position where Python demands it, else by name: lambdas of `functools.partial` work, too.
        bound = inspect.signature(source).bind_partial()
        symbols = {name: symbol(name) for name in symbolic}
        bound.arguments.update(
            (name, each if name in names else _Sized(each)) for name, each in symbols.items()
        )
        result = source(*bound.args, **bound.kwargs)
        return tuple(_as_expr(part) for part in (result if isinstance(result, (tuple, list)) else (result,)))

    return _joined(decide(call))


def _joined(tree: Any) -> tuple[Expr, ...]:
    if not isinstance(tree, Branch):
        return tree  # type: ignore[no-any-return]
    then, other = _joined(tree.then), _joined(tree.other)
    if len(then) != len(other):
        raise SpecError(f"expected the same dimensions on every path, got {len(then)} and {len(other)}")
    return tuple(choose(tree.test, a, b) for a, b in zip(then, other, strict=True))


def _as_expr(value: object) -> Expr:
    if isinstance(value, _Symbol):
        return value.expr
    if isinstance(value, _Sized):
        value._refuse()
    return literal(value, "an integer as the result")
