"""The expression tree: folded, evaluated, shown as text, and assembled to the bytecode of abi.h.

Making a node works out what is constant already (constant folding), so what is left needs a value of the call.
A tree has Python's meaning of integers; a result outside int64 is an error, here and on the host.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kpack.errors import SpecError
from kpack.objfile import abi

__all__ = [
    "Expr",
    "ceil_div",
    "ceil_power_of_2",
    "choose",
    "const",
    "is_boolean",
    "literal",
    "make",
    "sizeof",
    "variable",
]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


# ---- the operations


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def ceil_power_of_2(n: int) -> int:
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
    "next_power_of_2": _Op(abi.OP_NEXT_POWER_OF_2, ceil_power_of_2, "next_power_of_2"),
    "add": _Op(abi.OP_ADD, operator.add, "+", 7),
    "sub": _Op(abi.OP_SUB, operator.sub, "-", 7),
    "mul": _Op(abi.OP_MUL, operator.mul, "*", 8),
    "floordiv": _Op(abi.OP_FLOORDIV, operator.floordiv, "//", 8),
    "mod": _Op(abi.OP_MOD, operator.mod, "%", 8),
    "cdiv": _Op(abi.OP_CDIV, ceil_div, "cdiv"),
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
    """A node: "const" (value), "name" (name), "sizeof" (name: whose elements), "and", "or", "if" (test, then, else),
    or one of _OPS."""

    op: str
    operands: tuple[Expr, ...] = ()
    value: int = 0
    name: str = ""

    def names(self) -> frozenset[str]:
        """The integers that it asks for."""
        if self.op == "name":
            return frozenset((self.name,))
        return frozenset().union(*(operand.names() for operand in self.operands))

    def fold(self, constants: Mapping[str, int], sizes: Mapping[str, int | str] = {}) -> Expr:
        """This expression with `constants` put in and all that is then constant worked out. `sizes`: what sizeof() of
        a name is, bytes, or of which parameter it is."""
        if self.op == "name":
            return const(constants[self.name]) if self.name in constants else self
        if self.op == "sizeof":
            size = sizes.get(self.name, self.name)
            return sizeof(size) if isinstance(size, str) else const(size)
        if not self.operands:
            return self
        return make(self.op, *(operand.fold(constants, sizes) for operand in self.operands))

    def evaluate(self, values: Mapping[str, int], sizes: Mapping[str, int] = {}) -> int:
        """The value with Python's meaning. Raises OverflowError where a step leaves int64, else as Python."""
        match self.op:
            case "const":
                return self.value
            case "name":
                return _int64(int(values[self.name]), self)
            case "sizeof":
                return sizes[self.name]
            case "if":
                test, then, other = self.operands
                return (then if test.evaluate(values, sizes) else other).evaluate(values, sizes)
            case "and":
                left, right = self.operands
                return left.evaluate(values, sizes) and right.evaluate(values, sizes)
            case "or":
                left, right = self.operands
                return left.evaluate(values, sizes) or right.evaluate(values, sizes)
        return _apply(self, [operand.evaluate(values, sizes) for operand in self.operands])

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


def sizeof(name: str) -> Expr:
    """Bytes of one element: of what a pointer points to, or of a type variable."""
    return Expr("sizeof", name=name)


def literal(value: Any, expected: str) -> Expr:
    try:
        return const(operator.index(value))
    except TypeError:
        raise SpecError(f"expected {expected}, got {value!r}") from None
    except OverflowError:
        raise SpecError(f"expected {expected}, got {value} which does not fit int64") from None


def _int64(value: int, subject: object) -> int:
    if not INT64_MIN <= value <= INT64_MAX:
        raise OverflowError(f"{subject} does not fit int64")
    return value


def _apply(node: Expr, values: Sequence[int]) -> int:
    return _int64(int(_OPS[node.op].apply(*values)), node)


def is_boolean(node: Expr) -> bool:
    """Whether the value can only be 0 or 1."""
    if node.op in ("and", "or", "band", "bor", "xor"):
        return all(map(is_boolean, node.operands))
    if node.op == "if":
        return all(map(is_boolean, node.operands[1:]))
    if node.op == "const":
        return node.value in (0, 1)
    return node.op in _OPS and _OPS[node.op].boolean


def _cannot_fail(node: Expr) -> bool:
    harmless = ("const", "name", "sizeof", "and", "or", "if", "min", "max")
    return (is_boolean(node) or node.op in harmless) and all(map(_cannot_fail, node.operands))


def make(op: str, *operands: Expr) -> Expr:
    """A node, or what it comes to: constants are worked out, choices with a known test are taken."""
    node = Expr(op, operands)
    first = operands[0]
    if op == "if":
        return choose(*operands)
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


def choose(test: Expr, then: Expr, other: Expr) -> Expr:
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
    if zero_if_false and then == const(1) and is_boolean(test):
        return test
    if zero_if_false:
        return Expr("and", (test, then))
    if then == test or (then == const(1) and is_boolean(test)):
        return Expr("or", (test, other))
    if then == const(0) and other == const(1):
        return make("not", test)
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
        case "sizeof":
            return f"sizeof({node.name})", 10
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
        case "sizeof":
            return struct.pack("<BH", abi.OP_SIZEOF, params[node.name]), 1
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
            again = const(1) if is_boolean(left) else left
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
