"""A target as Triton has it: its GPUTarget, and the suffix of a CUDA arch, which Triton does not ask for: it compiles
sm_90 and up as "a" code, for that arch alone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from triton.backends.compiler import GPUTarget

from kpack.objfile import abi
from kpack.target import Target

__all__ = ["arch_suffix", "gpu_target"]


def gpu_target(target: Target) -> GPUTarget:
    if target.vendor == abi.VENDOR_CUDA:
        return GPUTarget("cuda", target.arch, target.warp_size)
    return GPUTarget("hip", target.processor, target.warp_size)


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
