"""What to build of a Triton kernel: `Kernel`, as the user writes it, and `Plan`, what it expands to."""

from __future__ import annotations

from kpack.spec.args import Arg
from kpack.spec.configs import DEFAULT_NUM_WARPS
from kpack.spec.expand import expand
from kpack.spec.kernel import Kernel
from kpack.spec.plan import Constexpr, Overload, Param, Plan, Variant
from kpack.spec.values import DType, Value, dtype_name

__all__ = [
    "DEFAULT_NUM_WARPS",
    "Arg",
    "Constexpr",
    "DType",
    "Kernel",
    "Overload",
    "Param",
    "Plan",
    "Value",
    "Variant",
    "dtype_name",
    "expand",
]
