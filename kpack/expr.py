"""Integer expressions: guards and grids, traced from lambdas or parsed from text, as a tree and as bytecode.

A lambda is traced by calling it with symbolic values. Each time Python asks whether one is true, the trace
takes one answer and comes back for the other, so `min`, `and` and `if` inside a lambda work as they are.
What comes out has Python's meaning of integers; a result outside int64 is an error, here and on the host.
"""

from __future__ import annotations

import ast
import inspect
import operator
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kpack.errors import SpecError
from kpack.objfile import abi
from kpack.target import nearest

__all__ = ["Expr", "cdiv", "next_power_of_2", "parameters_of", "trace", "trace_grid"]

MAX_PATHS = 64
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


# ---- the operations


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _next_power_of_2(n: int) -> int:
    if n < 0:
        raise ValueError(f"next_power_of_2: expected a number not below 0, got {n}")
    return 1 << max(n - 1, 0).bit_length()


def _shift_left(a: int, b: int) -> int:
    if b >= 64 and a:  # else Python would build the number, however large
        raise OverflowError(f"{a} << {b} does not fit int64")
    return a << b if a else _shift_right(a, b)


def _shift_right(a: int, b: int) -> int:
    return a >> b


def _not(a: int) -> int:
    return int(not a)


@dataclass(frozen=True, slots=True)
class _Op:
    """One operation: its opcode, its meaning, and how it is written. Rank 9 is a function call."""

    code: int
    apply: Callable[..., int]
    text: str
    rank: int = 9
    boolean: bool = False


# Ranks as Python binds: or 1, and 2, not 3, comparison 4, | 5, ^ 5, & 5, shift 6, sum 7, product 8.
# | ^ & share a rank, and so always show their parentheses.
_OPS: dict[str, _Op] = {
    "neg": _Op(abi.OP_NEG, operator.neg, "-", 8),
    "not": _Op(abi.OP_NOT, _not, "not ", 3, boolean=True),
    "abs": _Op(abi.OP_ABS, abs, "abs"),
    "next_power_of_2": _Op(abi.OP_NEXT_POWER_OF_2, _next_power_of_2, "next_power_of_2"),
    "add": _Op(abi.OP_ADD, operator.add, "+", 7),
    "sub": _Op(abi.OP_SUB, operator.sub, "-", 7),
    "mul": _Op(abi.OP_MUL, operator.mul, "*", 8),
    "floordiv": _Op(abi.OP_FLOORDIV, operator.floordiv, "//", 8),
    "mod": _Op(abi.OP_MOD, operator.mod, "%", 8),
    "cdiv": _Op(abi.OP_CDIV, _cdiv, "cdiv"),
    "min": _Op(abi.OP_MIN, min, "min"),
    "max": _Op(abi.OP_MAX, max, "max"),
    "eq": _Op(abi.OP_EQ, operator.eq, "==", 4, boolean=True),
    "ne": _Op(abi.OP_NE, operator.ne, "!=", 4, boolean=True),
    "lt": _Op(abi.OP_LT, operator.lt, "<", 4, boolean=True),
    "le": _Op(abi.OP_LE, operator.le, "<=", 4, boolean=True),
    "gt": _Op(abi.OP_GT, operator.gt, ">", 4, boolean=True),
    "ge": _Op(abi.OP_GE, operator.ge, ">=", 4, boolean=True),
    "band": _Op(abi.OP_AND, operator.and_, "&", 5),
    "bor": _Op(abi.OP_OR, operator.or_, "|", 5),
    "xor": _Op(abi.OP_XOR, operator.xor, "^", 5),
    "shl": _Op(abi.OP_SHL, _shift_left, "<<", 6),
    "shr": _Op(abi.OP_SHR, _shift_right, ">>", 6),
}


# ---- the tree


@dataclass(frozen=True, slots=True)
class Expr:
    """A node: "const" (value), "name" (name), "and", "or", "if" (test, then, else), or one of _OPS."""

    op: str
    operands: tuple[Expr, ...] = ()
    value: int = 0
    name: str = ""

    def names(self) -> frozenset[str]:
        if self.op == "name":
            return frozenset((self.name,))
        return frozenset().union(*(operand.names() for operand in self.operands))

    def fold(self, constants: Mapping[str, int]) -> Expr:
        """This expression with `constants` put in and all that is then constant worked out."""
        if self.op == "name":
            return const(constants[self.name]) if self.name in constants else self
        if not self.operands:
            return self
        return _make(self.op, *(operand.fold(constants) for operand in self.operands))

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The value with Python's meaning. Raises OverflowError where a step leaves int64, else as Python."""
        match self.op:
            case "const":
                return self.value
            case "name":
                return _int64(int(values[self.name]), self)
            case "if":
                test, then, other = self.operands
                return (then if test.evaluate(values) else other).evaluate(values)
            case "and":
                left, right = self.operands
                return left.evaluate(values) and right.evaluate(values)
            case "or":
                left, right = self.operands
                return left.evaluate(values) or right.evaluate(values)
        return _apply(self, [operand.evaluate(values) for operand in self.operands])

    def code(self, params: Mapping[str, int]) -> bytes:
        """The program of abi.h, "Expressions". `params`: the parameter index of each name."""
        body, depth = _assemble(self, params)
        if depth > abi.EXPR_STACK:
            raise SpecError(
                f"expression {self}: expected a stack of at most {abi.EXPR_STACK} values, "
                f"got {depth}; simplify it"
            )
        return body + bytes((abi.OP_END,))

    def __str__(self) -> str:
        return _show(self)[0]


def const(value: int) -> Expr:
    return Expr("const", value=_int64(int(value), value))


def variable(name: str) -> Expr:
    return Expr("name", name=name)


def _int64(value: int, subject: object) -> int:
    if not INT64_MIN <= value <= INT64_MAX:
        raise OverflowError(f"{subject} does not fit int64")
    return value


def _apply(node: Expr, values: Sequence[int]) -> int:
    return _int64(int(_OPS[node.op].apply(*values)), node)


def _is_boolean(node: Expr) -> bool:
    """Whether the value can only be 0 or 1."""
    if node.op in ("and", "or"):
        return all(map(_is_boolean, node.operands))
    if node.op == "if":
        return all(map(_is_boolean, node.operands[1:]))
    if node.op == "const":
        return node.value in (0, 1)
    return node.op in _OPS and _OPS[node.op].boolean


def _cannot_fail(node: Expr) -> bool:
    harmless = ("const", "name", "and", "or", "if", "min", "max")
    return (_is_boolean(node) or node.op in harmless) and all(map(_cannot_fail, node.operands))


def _make(op: str, *operands: Expr) -> Expr:
    """A node, or what it comes to: constants are worked out, choices with a known test are taken."""
    node = Expr(op, operands)
    first = operands[0]
    if op == "if":
        return _choose(*operands)
    if op == "and" and first.op == "const":
        return operands[1] if first.value else first
    if op == "or" and first.op == "const":
        return first if first.value else operands[1]
    if op not in ("and", "or") and all(operand.op == "const" for operand in operands):
        try:
            return const(_apply(node, [operand.value for operand in operands]))
        except (ArithmeticError, ValueError):
            return node  # an error of the call, should it get here
    return node


def _choose(test: Expr, then: Expr, other: Expr) -> Expr:
    """`then if test else other`, written as what the user most likely wrote."""
    if test.op == "const":
        return then if test.value else other
    if then == other and _cannot_fail(test):
        return then
    # Builtin min and max ask `second < first`, or Python turns it round beside a constant.
    if test.op in ("lt", "gt") and test.operands in ((then, other), (other, then)):
        smaller = (test.op == "lt") == (test.operands[0] == then)
        return Expr("min" if smaller else "max", (other, then))
    zero_if_false = other == const(0) or other == test
    if zero_if_false and then == const(1) and _is_boolean(test):
        return test
    if zero_if_false:
        return Expr("and", (test, then))
    if then == test or (then == const(1) and _is_boolean(test)):
        return Expr("or", (test, other))
    if then == const(0) and other == const(1):
        return _make("not", test)
    return Expr("if", (test, then, other))


# ---- text


def _show(node: Expr) -> tuple[str, int]:
    """The text of a node and the rank it binds with (see _OPS)."""

    def inner(operand: Expr, above: int) -> str:
        text, rank = _show(operand)
        return text if rank > above else f"({text})"

    match node.op:
        case "const":
            return str(node.value), 10 if node.value >= 0 else 7
        case "name":
            return node.name, 10
        case "if":
            test, then, other = node.operands
            return f"{inner(then, 0)} if {inner(test, 0)} else {inner(other, -1)}", 0
        case "and" | "or":
            rank = 2 if node.op == "and" else 1
            left, right = node.operands
            return f"{inner(left, rank - 1)} {node.op} {inner(right, rank)}", rank
    op = _OPS[node.op]
    if op.rank == 9:
        return f"{op.text}({', '.join(_show(operand)[0] for operand in node.operands)})", 10
    if len(node.operands) == 1:
        return op.text + inner(node.operands[0], op.rank - 1 if node.op == "not" else op.rank), op.rank
    left, right = node.operands
    chains = op.rank >= 6  # a - b - c reads from the left; comparisons and | ^ & show their parentheses
    return f"{inner(left, op.rank - chains)} {op.text} {inner(right, op.rank)}", op.rank


# ---- bytecode


def _assemble(node: Expr, params: Mapping[str, int]) -> tuple[bytes, int]:
    """The program that leaves the node's value on the stack, and the deepest stack it needs."""
    match node.op:
        case "const":
            small = -128 <= node.value <= 127
            return struct.pack("<Bb" if small else "<Bq", abi.OP_I8 if small else abi.OP_I64, node.value), 1
        case "name":
            return struct.pack("<BH", abi.OP_PARAM, params[node.name]), 1
        case "if":
            parts = [_assemble(operand, params) for operand in node.operands]
            return _branch(node, parts[0], parts[1], parts[2])
        case "and":
            left, right = node.operands
            parts = [_assemble(operand, params) for operand in (left, right, const(0))]
            return _branch(node, parts[0], parts[1], parts[2])
        case "or":
            left, right = node.operands
            # There is no opcode to keep a copy: what is not 0 or 1 is computed a second time.
            again = const(1) if _is_boolean(left) else left
            parts = [_assemble(operand, params) for operand in (left, again, right)]
            return _branch(node, parts[0], parts[1], parts[2])
    code, depth = b"", 0
    for held, operand in enumerate(node.operands):
        part, part_depth = _assemble(operand, params)
        code, depth = code + part, max(depth, held + part_depth)
    return code + bytes((_OPS[node.op].code,)), depth


def _branch(
    node: Expr, test: tuple[bytes, int], then: tuple[bytes, int], other: tuple[bytes, int]
) -> tuple[bytes, int]:
    jump = struct.calcsize("<BH")
    if max(len(then[0]) + jump, len(other[0])) > 0xFFFF:
        raise SpecError(f"expression: expected branches of at most 65535 bytes, got more; simplify {node}")
    code = (
        test[0]
        + struct.pack("<BH", abi.OP_JUMP_IF_ZERO, len(then[0]) + jump)
        + then[0]
        + struct.pack("<BH", abi.OP_JUMP, len(other[0]))
        + other[0]
    )
    return code, max(test[1], then[1], other[1])


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
        return _Symbol(_make(op, *(reversed(pair) if swapped else pair)), self.path)

    return method


_NO_DIVISION = "expected integers only, got a true division; write // or cdiv(a, b)"
_NO_POWER = "expected + - * // % and shifts, got a power; write 1 << n for 2 ** n"
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
        return _literal(other, f"an integer beside '{self.expr}'")

    def __bool__(self) -> bool:
        return self.path.ask(self.expr)

    def __neg__(self) -> _Symbol:
        return _Symbol(_make("neg", self.expr), self.path)

    def __pos__(self) -> _Symbol:
        return self

    def __abs__(self) -> _Symbol:
        return _Symbol(_make("abs", self.expr), self.path)

    def __invert__(self) -> _Symbol:
        return _Symbol(_make("sub", const(-1), self.expr), self.path)

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

    __truediv__ = __rtruediv__ = _refuse(_NO_DIVISION)
    __pow__ = __rpow__ = _refuse(_NO_POWER)
    __int__ = __index__ = __len__ = __iter__ = _refuse(_NO_INT)
    __float__ = __floor__ = __ceil__ = __round__ = __trunc__ = _refuse(_NO_FLOAT)
    __getitem__ = _refuse(_NO_INDEX)
    __call__ = _refuse("expected a number, got a call of a parameter")


def cdiv(a: Any, b: Any) -> Any:
    """`a / b` rounded up, of integers or inside a traced guard or grid."""
    if isinstance(a, _Symbol) or isinstance(b, _Symbol):
        return _binary("cdiv")(a, b) if isinstance(a, _Symbol) else _binary("cdiv", swapped=True)(b, a)
    return _cdiv(a, b)


def next_power_of_2(n: Any) -> Any:
    """The smallest power of two not below n (1 for 0), of an integer or inside a traced guard or grid."""
    if isinstance(n, _Symbol):
        return _Symbol(_make("next_power_of_2", n.expr), n.path)
    return _next_power_of_2(n)


# ---- tracing


def parameters_of(source: object) -> tuple[str, ...]:
    """The names that an expression's source uses, in order: a callable's parameters, a text's variables."""
    if isinstance(source, str):
        nodes = list(ast.walk(_parse(source)))
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        names = [node for node in nodes if isinstance(node, ast.Name) and id(node) not in called]
        return tuple(dict.fromkeys(node.id for node in sorted(names, key=lambda node: node.col_offset)))
    if isinstance(source, (tuple, list)):
        return tuple(dict.fromkeys(name for part in source for name in parameters_of(part)))
    if callable(source):
        # A parameter with a default is how a lambda keeps a value of its surroundings.
        return tuple(
            name for name, default in _callable_parameters(source) if default is inspect.Parameter.empty
        )
    return ()


def trace(source: object, names: Iterable[str]) -> Expr:
    """The expression that `source` (an integer, a text or a callable of `names`) means."""
    return _single(source, frozenset(names))


def trace_grid(source: object, names: Iterable[str]) -> tuple[Expr, ...]:
    """The one to three expressions of a launch grid: a single source, a tuple, or a callable of either."""
    known = frozenset(names)
    if isinstance(source, str):
        body = _parse(source)
        parts: Sequence[ast.expr] = body.elts if isinstance(body, ast.Tuple) else (body,)
        grid = tuple(_from_ast(part, known) for part in parts)
    elif isinstance(source, (tuple, list)):
        grid = tuple(_single(part, known) for part in source)
    elif callable(source):
        grid = _explore(source, known)
    else:
        grid = (_single(source, known),)
    if not 1 <= len(grid) <= 3:
        raise SpecError(f"expected 1 to 3 dimensions, got {len(grid)}")
    return grid


def _single(source: object, names: frozenset[str]) -> Expr:
    if isinstance(source, str):
        return _from_ast(_parse(source), names)
    if callable(source):
        values = _explore(source, names)
        if len(values) != 1:
            raise SpecError(f"expected one value, got {len(values)}")
        return values[0]
    return _literal(source, "an integer, a text or a callable")


def _callable_parameters(source: Callable[..., Any]) -> list[tuple[str, Any]]:
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError) as error:
        raise SpecError(f"expected a callable with a signature, got {source!r}") from error
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise SpecError(f"expected named parameters, got {str(parameter)!r}; name each value used")
    return [(parameter.name, parameter.default) for parameter in parameters]


def _explore(source: Callable[..., Any], names: frozenset[str]) -> tuple[Expr, ...]:
    """Call `source` once for each path through its truth tests and join what the paths return."""
    parameters = _callable_parameters(source)
    missing = [
        name for name, default in parameters if name not in names and default is inspect.Parameter.empty
    ]
    if missing:
        raise SpecError("\n".join(_unknown_name(name, names) for name in missing))
    symbolic = [name for name, _ in parameters if name in names]
    paths = 0

    def walk(answers: list[bool]) -> tuple[Expr, ...]:
        nonlocal paths
        paths += 1
        if paths > MAX_PATHS:
            raise _TooManyPaths
        path = _Path(answers)
        result = _returned(source, {name: _Symbol(variable(name), path) for name in symbolic})
        # Each test this call answered first, from the last back: the other answer, and all behind it.
        for depth in range(len(path.tests) - 1, len(answers) - 1, -1):
            other = walk([*path.answers[:depth], False])
            if len(other) != len(result):
                raise SpecError(
                    f"expected the same dimensions on every path, got {len(result)} and {len(other)}"
                )
            test = path.tests[depth]
            result = tuple(_choose(test, a, b) for a, b in zip(result, other, strict=True))
        return result

    try:
        return walk([])
    except _TooManyPaths:
        raise SpecError(
            f"expected at most {MAX_PATHS} paths through the tests of a lambda, got more; simplify it"
        ) from None


def _returned(source: Callable[..., Any], arguments: dict[str, _Symbol]) -> tuple[Expr, ...]:
    # By position where Python demands it, else by name: lambdas of `functools.partial` work, too.
    signature = inspect.signature(source)
    bound = signature.bind_partial()
    bound.arguments.update(arguments)
    try:
        result = source(*bound.args, **bound.kwargs)
        parts = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(_as_expr(part) for part in parts)
    except (SpecError, _TooManyPaths):
        raise
    except Exception as error:
        raise SpecError(
            f"expected a callable of integers, got {type(error).__name__} with symbolic values: {error}"
        ) from error


def _as_expr(value: object) -> Expr:
    if isinstance(value, _Symbol):
        return value.expr
    return _literal(value, "an integer as the result")


def _literal(value: Any, expected: str) -> Expr:
    try:
        return const(operator.index(value))
    except TypeError:
        raise SpecError(f"expected {expected}, got {value!r}") from None
    except OverflowError:
        raise SpecError(f"expected {expected}, got {value} which does not fit int64") from None


def _unknown_name(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    return f"expected names among {' '.join(known) or '(none)'}, got {name!r}{nearest(name, known)}"


# ---- parsing

_FUNCTIONS: dict[str, int | None] = {"min": None, "max": None, "abs": 1, "cdiv": 2, "next_power_of_2": 1}
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.BitAnd: "band",
    ast.BitOr: "bor",
    ast.BitXor: "xor",
    ast.LShift: "shl",
    ast.RShift: "shr",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError) as error:
        why = error.msg if isinstance(error, SyntaxError) else error
        raise SpecError(f"expected an expression, got {text!r} ({why})") from error


def _from_ast(node: ast.expr, names: frozenset[str]) -> Expr:
    def inner(part: ast.expr) -> Expr:
        return _from_ast(part, names)

    match node:
        case ast.Constant(value=int(value)):
            return _literal(value, "an integer")
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return _literal(-value, "an integer")
        case ast.Name(id=name) if name in names:
            return variable(name)
        case ast.Name(id=name):
            raise SpecError(_unknown_name(name, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _make("neg", inner(operand))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return inner(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _make("not", inner(operand))
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return _make("sub", const(-1), inner(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _make(_BINARY[type(op)], inner(left), inner(right))
        case ast.BinOp(op=ast.Div()):
            raise SpecError(_NO_DIVISION)
        case ast.BinOp(op=ast.Pow()):
            raise SpecError(_NO_POWER)
        case ast.BoolOp(op=op, values=values):
            return _chain("and" if isinstance(op, ast.And) else "or", [inner(value) for value in values])
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            terms = [inner(left), *map(inner, others)]
            links = [_make(_COMPARE[type(op)], a, b) for op, a, b in zip(ops, terms, terms[1:], strict=False)]
            return _chain("and", links)
        case ast.IfExp(test=test, body=then, orelse=other):
            return _choose(inner(test), inner(then), inner(other))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _call(name, [inner(arg) for arg in args])
        case ast.Call():
            raise SpecError(f"expected a call of {' '.join(_FUNCTIONS)}, got {ast.unparse(node)!r}")
    raise SpecError(f"expected integers, names and operators, got {ast.unparse(node)!r}")


def _chain(op: str, terms: Sequence[Expr]) -> Expr:
    """`a op b op c`, from the left."""
    result = terms[0]
    for term in terms[1:]:
        result = _make(op, result, term)
    return result


def _call(name: str, args: Sequence[Expr]) -> Expr:
    expected = _FUNCTIONS[name]
    if expected is None and len(args) >= 2:
        return _chain(name, args)
    if len(args) != expected:
        raise SpecError(f"{name}: expected {expected or 'two or more'} arguments, got {len(args)}")
    return _make(name, *args)
