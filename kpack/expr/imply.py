"""Whether one condition follows from another: said only where it is plain, by bounds of single names."""

from __future__ import annotations

from kpack.expr.tree import INT64_MAX, INT64_MIN, Expr

__all__ = ["implies"]

_TURNED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq"}


def implies(given: Expr | None, then: Expr | None) -> bool:
    """Whether `then` holds wherever `given` does; None holds always. False also where that cannot be told."""
    if then is None or given == then:
        return True
    if given is None:
        return False
    if then.op == "and":
        return all(implies(given, part) for part in then.operands)
    if given.op == "or":
        return all(implies(part, then) for part in given.operands)
    if given.op == "and" and any(implies(part, then) for part in given.operands):
        return True
    if then.op == "or":
        return any(implies(given, part) for part in then.operands)
    inner, outer = _interval(given), _interval(then)
    if inner is None or outer is None:
        return False
    return inner[0] == outer[0] and outer[1] <= inner[1] and inner[2] <= outer[2]


def _interval(test: Expr) -> tuple[str, int, int] | None:
    """The name, and its least and largest value, of a comparison with a constant."""
    if test.op not in _TURNED:
        return None
    (left, right), op = test.operands, test.op
    if left.op == "const":
        left, right, op = right, left, _TURNED[op]
    if left.op != "name" or right.op != "const":
        return None
    least = {"gt": right.value + 1, "ge": right.value, "eq": right.value}.get(op, INT64_MIN)
    most = {"lt": right.value - 1, "le": right.value, "eq": right.value}.get(op, INT64_MAX)
    return left.name, least, most
