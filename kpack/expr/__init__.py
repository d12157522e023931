"""Integer expressions: guards, grids, preferences and extents, from a lambda or text to a tree and bytecode."""

from __future__ import annotations

from kpack.expr.imply import implies
from kpack.expr.trace import Branch, cdiv, decide, next_power_of_2, parameters_of, sizeof, trace, trace_grid
from kpack.expr.tree import Expr, choose, const, is_boolean, make, variable

__all__ = [
    "Branch",
    "Expr",
    "cdiv",
    "choose",
    "const",
    "decide",
    "implies",
    "is_boolean",
    "make",
    "next_power_of_2",
    "parameters_of",
    "sizeof",
    "trace",
    "trace_grid",
    "variable",
]
