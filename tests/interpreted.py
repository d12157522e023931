"""Launches a kpack.Kernel of kernels/ in Triton's interpreter, by the variant that kpack would take on sm_90.

For a process that was started with TRITON_INTERPRET=1: it counts when triton is imported.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton

import kpack
from kpack.target import parse_target

KERNELS = Path(__file__).parents[1] / "kernels"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
FUNCTIONS = {"min": min, "max": max, "cdiv": triton.cdiv}


def load(name: str) -> ModuleType:
    """kernels/<name>.py, which imports from beside itself."""
    if str(KERNELS) not in sys.path:
        sys.path.insert(0, str(KERNELS))
    spec = importlib.util.spec_from_file_location(name, KERNELS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch(kernel: kpack.Kernel, *args: Any) -> dict[str, Any]:
    """With a call's arguments in kpack's order; returns the constants that were taken."""
    for taken in launch_each(kernel, *args):
        return taken
    raise AssertionError(f"{kernel.name}: no variant for {[shown(arg) for arg in args]}")


def launch_each(kernel: kpack.Kernel, *args: Any) -> Iterator[dict[str, Any]]:
    """By each variant that may take the call, in their order."""
    fixed = dict(kernel.constexprs)
    cases = kernel.cases or [{"signature": {}}]
    names = [name for name in kernel.fn.arg_names if name in signature_of(kernel, cases[0])]
    call = dict(zip(names, args, strict=True))
    for case in cases:
        signature = signature_of(kernel, case)
        if not all(takes(kernel, text, call[name]) for name, text in signature.items()):
            continue
        configs = case.get("configs", kernel.configs)
        for config in configs(parse_target("sm_90")) if callable(configs) else configs:
            known = {**call, **fixed, **config.kwargs, **FUNCTIONS}
            if eval(kernel.guard or "True", known):
                grid = (eval(kernel.grid, known),)
                kernel.fn[grid](**call, **fixed, **config.kwargs)
                yield dict(config.kwargs)


def signature_of(kernel: kpack.Kernel, case: Any) -> dict[str, str]:
    return {**kernel.signature, **case["signature"]}


def takes(kernel: kpack.Kernel, text: str, value: Any) -> bool:
    """Whether "const *T:16" is what a tensor is; a number fits what is no pointer."""
    kind, _, hint = text.removeprefix("const ").partition(":")
    if not kind.startswith("*"):
        return not isinstance(value, torch.Tensor)
    choices = kernel.types.get(kind[1:], [kind[1:]])
    return any(value.dtype == DTYPES[name] for name in choices) and (not hint or value.data_ptr() % 16 == 0)


def shown(arg: Any) -> Any:
    return f"{arg.dtype} at {arg.data_ptr() % 16}" if isinstance(arg, torch.Tensor) else arg


# ---- rows with something behind them

UNTOUCHED = 7.0  # what lies where a kernel has nothing to write
POISON = float("nan")  # what lies where it has nothing to read: it would be seen in every result of the row


def padded(x: torch.Tensor, gap: int, filler: float) -> torch.Tensor:
    """With `gap` elements of filler behind each row: the stride of a part of a wider matrix."""
    return torch.cat([x, x.new_full((x.shape[0], gap), filler)], dim=1)
