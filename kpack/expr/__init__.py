"""Integer expressions: guards, grids and extents, from a lambda or text to a tree and bytecode."""

from __future__ import annotations

from kpack.expr.trace import Branch, cdiv, decide, next_power_of_2, parameters_of, trace, trace_grid
from kpack.expr.tree import Expr, choose, const, is_boolean, make, variable

__all__ = [
    "Branch",
    "Expr",
    "cdiv",
    "choose",
    "const",
    "decide",
    "is_boolean",
    "make",
    "next_power_of_2",
    "parameters_of",
    "trace",
    "trace_grid",
    "variable",
]
