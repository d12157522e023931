"""What to build of a Triton kernel: `Kernel`, as the user writes it, and `Plan`, what it expands to."""

from __future__ import annotations

from kpack.spec.args import Arg, in_, inout, out
from kpack.spec.call import with_keys
from kpack.spec.configs import DEFAULT_NUM_WARPS
from kpack.spec.expand import expand, takes_all_of, without
from kpack.spec.kernel import Kernel
from kpack.spec.plan import Constexpr, Overload, Param, Plan, Variant
from kpack.spec.signature import Bound, Fixed
from kpack.spec.values import Constant, DType, Opaque, Value, as_tuple, dtype_name, read_constant

__all__ = [
    "DEFAULT_NUM_WARPS",
    "Arg",
    "Bound",
    "Constant",
    "Constexpr",
    "DType",
    "Fixed",
    "Kernel",
    "Opaque",
    "Overload",
    "Param",
    "Plan",
    "Value",
    "Variant",
    "as_tuple",
    "dtype_name",
    "expand",
    "in_",
    "inout",
    "out",
    "read_constant",
    "takes_all_of",
    "with_keys",
    "without",
]
