"""Other ways in: kernels that are no functions any more, and what other systems declare kernels with.

Each is an object with a `name`, and with `expand(targets)`, which gives a plan that knows how its images are made.
"""

from __future__ import annotations

from kpack.foreign.images import Images
from kpack.foreign.ir import IR
from kpack.foreign.table import TABLE_FUNCTIONS, Group, read_table

__all__ = ["IR", "TABLE_FUNCTIONS", "Group", "Images", "read_table"]
