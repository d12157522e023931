"""The suffix of a CUDA arch: Triton compiles sm_90 and up as "a" code, for that arch alone, and asks nobody."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kpack.objfile import abi
from kpack.target import Target

__all__ = ["arch_suffix"]


@contextmanager
def arch_suffix(target: Target) -> Iterator[None]:
    """Within it, Triton compiles for the arch with the target's own suffix: "sm_100f", or "sm_90" for PTX that later
    devices take, too. What needs the features of "a" fails then. Only in a process of its own kind; Triton's cache
    does not know of it, so keep a folder a suffix."""
    if target.vendor != abi.VENDOR_CUDA:
        yield
        return
    compiler: Any = importlib.import_module("triton.backends.nvidia.compiler")
    own = compiler.sm_arch_from_capability
    compiler.sm_arch_from_capability = lambda capability: f"sm_{capability}{target.suffix}"
    try:
        yield
    finally:
        compiler.sm_arch_from_capability = own
