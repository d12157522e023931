"""One call in Triton's words: the Kernel that it asks for, and the values that a packed kernel takes for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from kpack.compile.binder import choices, inner_function, named_values
from kpack.errors import SpecError
from kpack.learn.call import constant_key, describe
from kpack.learn.grid import grid_sizes, surrounding_integers
from kpack.learn.merge import Keep, axes_of, kernels_of, names_once
from kpack.spec import Kernel
from kpack.spec.values import listed, read_value

__all__ = ["HOOKS", "arguments_of_call", "kernel_of_call"]

HOOKS = "{}: hooks of its configs write memory before a launch; an archive holds no Python: the program has to do that"


def kernel_of_call(
    fn: Any, args: Sequence[Any], meta: Mapping[str, Any], *, grid: Any, name: str, keep: Keep
) -> Kernel:
    """`Kernel.from_call`."""
    text = grid if isinstance(grid, str) else ""
    call = describe(fn, args, meta, None if text else grid)
    if call.hooks:
        warnings.warn(HOOKS.format(name or call.jit.__name__), stacklevel=3)
    once = names_once()
    kernels = kernels_of([call], keep, lambda jit: name or once(jit), grid=text)
    if len(kernels) > 1:
        raise SpecError(
            f"{kernels[0].name}: expected configs that one call can stand for, got {len(kernels)} calls"
        )
    return kernels[0]


def arguments_of_call(kernel: Kernel, args: Sequence[Any], grid: Any, meta: Mapping[str, Any]) -> list[Any]:
    """`Kernel.arguments`."""
    jit, checked = inner_function(kernel.fn), kernel.checked
    own = {name: value for name, value in meta.items() if name in checked.launch}
    rest = {name: value for name, value in meta.items() if name not in own}
    choice = choices(kernel.fn, args, rest)[0]
    values = named_values(jit, choice.args, choice.kwargs)
    _check_constants(kernel, values)
    launch = {**_launch_values(kernel, grid, values), **own}
    missing = [name for name in checked.launch if name not in launch]
    if missing:
        raise SpecError(
            f"{kernel.name}: expected values for {', '.join(checked.launch)}, got none for {', '.join(missing)}; give "
            "the grid as the launch does, or each by its name"
        )
    flat: dict[str, Any] = {}
    for name, value in values.items():
        _flatten(name, value, flat)
    return [
        *(flat[argument.name] for argument in checked.arguments),
        *(read_value(values[name]) for name in checked.selected),
        *(launch[name] for name in checked.launch),
    ]


def _check_constants(kernel: Kernel, values: Mapping[str, Any]) -> None:
    """What is compiled in and left the call is what this call has. A null pointer is a constant, too."""
    checked = kernel.checked
    mistakes = []
    for name, value in values.items():
        fixed = [case.fixed[name] for case in checked.cases if name in case.fixed]
        nullable = any(
            argument.null for case in checked.cases for argument in case.arguments if argument.name == name
        )
        if fixed and name not in checked.selected and constant_key(value) not in map(constant_key, fixed):
            mistakes.append(
                f"{kernel.name}: {name!r}: expected {listed(fixed[0])}, which is compiled in, got {_kind(value)}"
            )
        elif value is None and not nullable and any(name == argument.name for argument in checked.arguments):
            mistakes.append(
                f"{kernel.name}: {name!r}: expected an argument, got None, which no variant is made for"
            )
    if mistakes:
        raise SpecError("\n".join(mistakes))


def _kind(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, (bool, int, float, str)) or value is None
        else f"a {type(value).__name__}"
    )


def _launch_values(kernel: Kernel, grid: Any, values: Mapping[str, Any]) -> dict[str, int]:
    if grid is None:
        return {}
    wanted, axes = kernel.checked.launch, axes_of(inner_function(kernel.fn))
    if not {*wanted} & {*axes}:
        return surrounding_integers(grid, values)
    sizes = grid_sizes(grid, values)
    passed = [axis for axis in axes if axis in wanted]
    if any(size != 1 for size in sizes[len(passed) :]):
        raise SpecError(f"{kernel.name}: expected a grid of {len(passed)} dimensions, got {sizes}")
    return dict(zip(axes, (*sizes, 1, 1), strict=False))


def _flatten(name: str, value: Any, found: dict[str, Any]) -> None:
    found[name] = value
    if isinstance(value, tuple):
        for number, part in enumerate(value):
            _flatten(f"{name}_{number}", part, found)
