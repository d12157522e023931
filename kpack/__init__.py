"""kpack: Triton kernels, compiled ahead of time and packed into static archives that C++ programs link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpack.build import VERSION, Pack, build
from kpack.errors import (
    CompileError,
    Failure,
    FormatError,
    KpackError,
    LaunchError,
    PackError,
    SpecError,
    TargetError,
)
from kpack.expr import cdiv, next_power_of_2, sizeof
from kpack.find import find_kernels
from kpack.foreign import IR, Images
from kpack.spec import Arg, DType, Kernel, in_, inout, out
from kpack.target import Target

if TYPE_CHECKING:
    from kpack.learn import record
    from kpack.runtime import TensorDescriptor, load, set_tuning, use_dry_driver

__all__ = [
    "IR",
    "Arg",
    "CompileError",
    "DType",
    "Failure",
    "FormatError",
    "Images",
    "Kernel",
    "KpackError",
    "LaunchError",
    "Pack",
    "PackError",
    "SpecError",
    "Target",
    "TargetError",
    "TensorDescriptor",
    "__version__",
    "build",
    "cdiv",
    "find_kernels",
    "in_",
    "inout",
    "load",
    "next_power_of_2",
    "out",
    "record",
    "set_tuning",
    "sizeof",
    "use_dry_driver",
]

__version__ = VERSION


def __getattr__(name: str) -> Any:
    # The runtime is a compiled module: archives can be built where it is not.
    if name in ("TensorDescriptor", "load", "set_tuning", "use_dry_driver"):
        from kpack import runtime

        return getattr(runtime, name)
    if name == "record":  # imports Triton
        from kpack.learn import record

        return record
    raise AttributeError(f"module 'kpack' has no attribute {name!r}")
