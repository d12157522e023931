"""Published packages of Triton kernels, and operations of theirs that launch as many of these kernels as possible.

An operation is a function without arguments that makes its inputs on "cuda", runs forward and, where there is one,
backward. It runs the same with a GPU, and in a rehearsal of `kpack.record(target=...)` without one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

__all__ = ["PACKAGES", "Operation", "Package", "backward", "operations_of", "tensor"]

Operation = Callable[[], object]


@dataclass(frozen=True)
class Package:
    """One from PyPI. `requirements`: what of it is installed, pinned; `inside`: the modules whose kernels count."""

    name: str
    requirements: tuple[str, ...]
    inside: tuple[str, ...]
    outside: Mapping[str, str] = field(default_factory=dict)
    """parts of the names of modules among those that are for no GPU of these, and why"""

    @property
    def operations(self) -> dict[str, Operation]:
        return operations_of(importlib.import_module(f"packages.{self.name}"))


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "liger",
            ("liger-kernel==0.8.5",),
            ("liger_kernel.ops",),
            {
                "_ascend": "for Ascend NPUs and their Triton",
                **dict.fromkeys(("_cutedsl", "cutedsl"), "written in CuTe DSL, not in Triton"),
            },
        ),
        Package(
            "fla",
            ("fla-core==0.6.0", "einops==0.8.1"),
            ("fla.ops", "fla.modules"),
            {
                "triton_ascend": "for Ascend NPUs and their Triton",
                "tilelang": "written in TileLang, not in Triton",
            },
        ),
        Package("gemlite", ("gemlite==0.6.0.post2", "tqdm==4.67.1"), ("gemlite",)),
    )
}


def operations_of(module: Any) -> dict[str, Operation]:
    """The table of a module, if it has one, and its public functions, in source order."""
    functions = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and not name.startswith("_")
        and value.__module__ == module.__name__
    }
    return {**getattr(module, "OPERATIONS", {}), **functions}


def tensor(*shape: int, dtype: str = "bfloat16", grad: bool = True, scale: float = 1.0) -> Any:
    """Normally distributed, on the GPU."""
    import torch

    made = (torch.randn(shape, device="cuda") * scale).to(getattr(torch, dtype))
    return made.requires_grad_() if grad else made


def backward(*results: Any) -> None:
    """From every result of an operation that has a gradient, with gradients that are not all one."""
    import torch

    outputs = [each for each in _tensors(results) if each.requires_grad]
    torch.autograd.backward(outputs, [torch.randn_like(each) for each in outputs])


def _tensors(results: Iterable[Any]) -> Iterator[Any]:
    for each in results:
        if isinstance(each, (tuple, list)):
            yield from _tensors(each)
        elif hasattr(each, "requires_grad"):
            yield each
