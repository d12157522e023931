"""The grid of a launch, as Triton is given it, and what a packed kernel takes in its place.

A caller of a packed kernel passes the sizes of the grid, as Triton's does: `grid_x, grid_y, grid_z`. That will not do
where they depend on what an autotuner chooses, since the variant is chosen in the launch. Then the grid becomes an
expression of the config, traced from the callable: integers that it has from its surroundings join the call, by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

from kpack.errors import SpecError
from kpack.expr import trace_grid

__all__ = ["AXES", "Grid", "grid_sizes", "read_grid", "surrounding_integers"]

AXES = ("grid_x", "grid_y", "grid_z")


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of one launch. `sizes`: as the first config has them; none: not said."""

    sizes: tuple[int, ...] = ()
    text: str = ""
    """what it is, if it depends on the config: an expression"""
    tuned: frozenset[str] = frozenset()
    """what of the config it depends on, where no expression could be had"""


def read_grid(grid: Any, calls: Sequence[Mapping[str, Any]], varying: Set[str]) -> Grid:
    """`calls`: the values of all parameters, for each config; `varying`: what a config or a heuristic sets of them.
    Raises SpecError for what is no grid."""
    if grid is None:
        return Grid()
    read: set[str] = set()
    sizes = [grid_sizes(grid, values, read) for values in calls]
    tuned = frozenset(read & varying)
    if len(calls) < 2 or not tuned:
        return Grid(sizes[0])
    try:
        text = _traced(grid, calls, sizes)
    except SpecError:
        return Grid(sizes[0], tuned=tuned)
    return Grid(sizes[0], text)


def grid_sizes(grid: Any, values: Mapping[str, Any], read: set[str] | None = None) -> tuple[int, ...]:
    """One to three sizes, for a launch with these values. `read` collects what the grid asks of them."""
    if callable(grid):
        try:
            grid = grid(_Meta(values, set() if read is None else read))
        except Exception as error:
            raise SpecError(
                f"grid: expected its sizes for this call, got {type(error).__name__}: {error}"
            ) from error
    found = tuple(grid) if isinstance(grid, (tuple, list)) else (grid,)
    if not 1 <= len(found) <= 3 or not all(hasattr(size, "__index__") for size in found):
        raise SpecError(f"grid: expected one to three sizes, got {grid!r}")
    return tuple(size.__index__() for size in found)


class _Meta(dict[str, Any]):
    """The arguments of a launch, which notes what a grid asks of them."""

    def __init__(self, values: Mapping[str, Any], read: set[str]) -> None:
        super().__init__(values)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        self._read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        return list(self)

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]


# ---- tracing


def surrounding_integers(grid: Any, values: Mapping[str, Any]) -> dict[str, int]:
    """The integers that a grid's callable has from its surroundings, by the names that they join the call with."""
    names = _Names(values)
    if isinstance(grid, FunctionType):
        _rebuilt(grid, names.note)
    return names.values


def _traced(grid: Any, calls: Sequence[Mapping[str, Any]], sizes: Sequence[tuple[int, ...]]) -> str:
    if not isinstance(grid, FunctionType):
        raise SpecError("grid: expected a function, got another callable")
    names = _Names(calls[0])
    _rebuilt(grid, names.note)
    parameters = _integers_of(calls[0])
    known = dict.fromkeys([*names.values, *parameters])

    def source(**symbols: Any) -> Any:
        meta = {
            name: symbols[name] if name in parameters else _refused_tensor(value)
            for name, value in calls[0].items()
        }
        return _rebuilt(grid, lambda name, value: symbols[names.name_of(name, value)])(meta)

    source.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in known]
    )
    parts = trace_grid(source, known)
    for values, expected in zip(calls, sizes, strict=True):
        known_values = {**names.values, **_integers_of(values)}
        if tuple(part.evaluate(known_values) for part in parts) != expected:
            raise SpecError("grid: expected the expression to have its sizes")
    return ", ".join(map(str, parts))


def _integers_of(values: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in values.items() if isinstance(value, int)}


class _Names:
    """What the integers around a grid are called in the kernel's call: as a parameter of the kernel that has the
    same name and value, or by their own names."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.values: dict[str, int] = {}

    def name_of(self, name: str, value: int) -> str:
        if name not in self.parameters:
            return name
        parameter = self.parameters[name]
        same = isinstance(parameter, int) and not isinstance(parameter, bool) and parameter == value
        return name if same else f"grid_{name}"

    def note(self, name: str, value: int) -> int:
        called = self.name_of(name, value)
        if called not in self.parameters:
            self.values[called] = value
        return value


# What is asked for an integer: its name, its value.
_Ask = Callable[[str, int], Any]

_HARMLESS = (bool, str, float, type, type(None), ModuleType, BuiltinFunctionType)


def _rebuilt(function: FunctionType, ask: _Ask) -> FunctionType:
    """The same function with what `ask` gives for each integer of its surroundings."""
    names = function.__code__.co_freevars
    cells = tuple(
        CellType(_replaced(name, cell.cell_contents, ask))
        for name, cell in zip(names, function.__closure__ or (), strict=True)
    )
    rebuilt = FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    parameters = inspect.signature(function).parameters
    defaults = {
        name: _replaced(name, parameter.default, ask)
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    by_name = {name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    rebuilt.__defaults__ = tuple(value for name, value in defaults.items() if name not in by_name)
    rebuilt.__kwdefaults__ = {name: value for name, value in defaults.items() if name in by_name}
    return rebuilt


def _replaced(name: str, value: Any, ask: _Ask) -> Any:
    if isinstance(value, _HARMLESS) or hasattr(value, "__triton_builtin__") or hasattr(value, "cache_key"):
        return value
    if isinstance(value, int):
        return ask(name, value)
    if isinstance(value, (tuple, list)):
        return tuple(_replaced(f"{name}_{number}", part, ask) for number, part in enumerate(value))
    if isinstance(value, FunctionType):
        return _rebuilt(value, ask) if value.__closure__ else value
    if hasattr(value, "shape") and hasattr(value, "numel"):
        return _Sizes(name, value, ask)
    raise SpecError(f"grid: expected integers and tensors around it, got {value!r}")


class _Sizes:
    """A tensor around a grid: its sizes are integers of the call."""

    def __init__(self, name: str, tensor: Any, ask: _Ask) -> None:
        self.dtype, self.ndim = tensor.dtype, len(tensor.shape)
        self.shape = tuple(ask(f"{name}_shape_{at}", int(size)) for at, size in enumerate(tensor.shape))
        self._numel = ask(f"{name}_numel", int(tensor.numel()))
        self._element_size = tensor.element_size()

    def numel(self) -> Any:
        return self._numel

    def size(self, at: int | None = None) -> Any:
        return self.shape if at is None else self.shape[at]

    def dim(self) -> int:
        return self.ndim

    def element_size(self) -> int:
        return int(self._element_size)


def _refused_tensor(value: Any) -> Any:
    """A tensor among the arguments of a launch: a grid that asks it for its sizes is not traced, since nothing
    says which argument of the call they would be."""
    if isinstance(value, _HARMLESS) or not hasattr(value, "data_ptr"):
        return value
    return object()
