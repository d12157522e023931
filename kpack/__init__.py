"""kpack: Triton kernels, compiled ahead of time and packed into static archives that C++ programs link."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpack.build import VERSION as __version__
    from kpack.build import Pack, build
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
    from kpack.learn import record
    from kpack.runtime import TensorDescriptor, load, set_tuning, use_dry_driver
    from kpack.spec import Arg, DType, Kernel, in_, inout, out
    from kpack.target import Target

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

# A name is imported when it is asked for: a program that only loads packs does not wait for what builds them.
_HOMES = {
    name: module
    for module, names in {
        "kpack.build": "Pack build",
        "kpack.errors": "CompileError Failure FormatError KpackError LaunchError PackError SpecError TargetError",
        "kpack.expr": "cdiv next_power_of_2 sizeof",
        "kpack.find": "find_kernels",
        "kpack.foreign": "IR Images",
        "kpack.learn": "record",
        "kpack.runtime": "TensorDescriptor load set_tuning use_dry_driver",
        "kpack.spec": "Arg DType Kernel in_ inout out",
        "kpack.target": "Target",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("kpack.build").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'kpack' has no attribute {name!r}")
    from kpack.needs import needing

    with needing(f"kpack.{name}"):
        value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """`kpack.build` is the function. The import system would make it the module of that name, once that is loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "build" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
