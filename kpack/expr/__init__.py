"""Integer expressions: guards, grids and extents, from a lambda or text to a tree and bytecode."""

from __future__ import annotations

from kpack.expr.trace import cdiv, next_power_of_2, parameters_of, trace, trace_grid
from kpack.expr.tree import Expr, const

__all__ = ["Expr", "cdiv", "const", "next_power_of_2", "parameters_of", "trace", "trace_grid"]
