"""Expressions from text: Python's own grammar, read with `ast`, of which integers, names and operators count."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

from kpack.errors import SpecError
from kpack.expr.tree import Expr, choose, const, literal, make, sizeof, variable
from kpack.objfile import abi
from kpack.target import nearest

__all__ = ["NO_DIVISION", "NO_POWER", "names_in", "no_size", "parse", "parse_parts", "unknown_name"]

# What neither a text nor a lambda may do.
NO_DIVISION = "expected integers only, got a true division; write // or cdiv(a, b)"
NO_POWER = "expected + - * // % and shifts, got a power; write 1 << n for 2 ** n"
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


def parse(text: str, names: frozenset[str], sized: frozenset[str] = frozenset()) -> Expr:
    """The expression that a text means, with variables among `names`, and sizeof() of what is among `sized`."""
    return _from_ast(_syntax(text), names, sized)


def parse_parts(text: str, names: frozenset[str], sized: frozenset[str] = frozenset()) -> tuple[Expr, ...]:
    """The same of a text that may be a tuple: its parts."""
    body = _syntax(text)
    parts = body.elts if isinstance(body, ast.Tuple) else (body,)
    return tuple(_from_ast(part, names, sized) for part in parts)


def names_in(text: str) -> tuple[str, ...]:
    """The variables of a text, in order; not what only sizeof() asks for."""
    nodes = list(ast.walk(_syntax(text)))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    called |= {
        id(arg) for node in nodes if isinstance(node, ast.Call) and _is_sizeof(node) for arg in node.args
    }
    names = [node for node in nodes if isinstance(node, ast.Name) and id(node) not in called]
    return tuple(dict.fromkeys(node.id for node in sorted(names, key=lambda node: node.col_offset)))


def _syntax(text: str) -> ast.expr:
    try:
        return ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError) as error:
        why = error.msg if isinstance(error, SyntaxError) else error
        raise SpecError(f"expected an expression, got {text!r} ({why})") from error


def _is_sizeof(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "sizeof"


def _from_ast(node: ast.expr, names: frozenset[str], sized: frozenset[str]) -> Expr:
    def inner(part: ast.expr) -> Expr:
        return _from_ast(part, names, sized)

    match node:
        case ast.Constant(value=int(value)):
            return literal(value, "an integer")
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return literal(-value, "an integer")
        case ast.Name(id=name) if name in names:
            return variable(name)
        case ast.Name(id=name) if name in sized:
            raise SpecError(f"expected an integer, got {name!r}; sizeof({name}) is the bytes of one element")
        case ast.Name(id=name):
            raise SpecError(unknown_name(name, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return make("neg", inner(operand))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return inner(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return make("not", inner(operand))
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return make("sub", const(-1), inner(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return make(_BINARY[type(op)], inner(left), inner(right))
        case ast.BinOp(op=ast.Div()):
            raise SpecError(NO_DIVISION)
        case ast.BinOp(op=ast.Pow()):
            raise SpecError(NO_POWER)
        case ast.BoolOp(op=op, values=values):
            return _chain("and" if isinstance(op, ast.And) else "or", [inner(value) for value in values])
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            terms = [inner(left), *map(inner, others)]
            links = [make(_COMPARE[type(op)], a, b) for op, a, b in zip(ops, terms, terms[1:], strict=False)]
            return _chain("and", links)
        case ast.IfExp(test=test, body=then, orelse=other):
            return choose(inner(test), inner(then), inner(other))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _call(name, [inner(arg) for arg in args])
        case ast.Call(args=[ast.Name(id=name)], keywords=[]) if _is_sizeof(node):
            if name in sized:
                return sizeof(name)
            if name in abi.DTYPES:
                return const(abi.ELEMENT_BYTES[abi.DTYPES[name]])
            raise SpecError(no_size(name, sized))
        case ast.Call():
            raise SpecError(f"expected a call of {' '.join(_FUNCTIONS)} sizeof, got {ast.unparse(node)!r}")
    raise SpecError(f"expected integers, names and operators, got {ast.unparse(node)!r}")


def _chain(op: str, terms: Sequence[Expr]) -> Expr:
    """`a op b op c`, from the left."""
    result = terms[0]
    for term in terms[1:]:
        result = make(op, result, term)
    return result


def _call(name: str, args: Sequence[Expr]) -> Expr:
    expected = _FUNCTIONS[name]
    if expected is None and len(args) >= 2:
        return _chain(name, args)
    if len(args) != expected:
        raise SpecError(f"{name}: expected {expected or 'two or more'} arguments, got {len(args)}")
    return make(name, *args)


def no_size(name: str, sized: Iterable[str]) -> str:
    known = [*sorted(sized), *abi.DTYPES]
    return (
        f"sizeof: expected a pointer of the call, a type variable or a type: {' '.join(known)}, "
        f"got {name!r}{nearest(name, known)}"
    )


def unknown_name(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    return f"expected names among {' '.join(known) or '(none)'}, got {name!r}{nearest(name, known)}"
