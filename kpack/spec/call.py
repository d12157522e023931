"""What a call passes, and what a call can tell apart: parameters, in their order, and overloads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kpack.objfile import abi
from kpack.spec.args import DIRECTIONS, Arg
from kpack.spec.argument import integer_range
from kpack.spec.cases import Case
from kpack.spec.kernel import Checked
from kpack.spec.plan import Overload, Param, Variant
from kpack.spec.values import INT64, Value, value_type

__all__ = ["overload_of", "params_of", "with_keys"]


def overload_of(
    checked: Checked, case: Case, chosen: Mapping[str, str], selected: Mapping[str, Value]
) -> Overload:
    types = (
        *(argument.code(chosen) for argument in case.arguments),
        *map(value_type, selected.values()),
        *(abi.I64 for _ in checked.launch),
    )
    return Overload(types, tuple(selected.values()))


def params_of(checked: Checked, overloads: Sequence[Overload]) -> tuple[Param, ...]:
    columns = list(zip(*(overload.types for overload in overloads), strict=True))
    const_names, nullable = _pointers(checked.cases)
    kinds = (
        *((argument.name, abi.PARAM_ARGUMENT) for argument in checked.arguments),
        *((name, abi.PARAM_SELECTED) for name in checked.selected),
        *((name, abi.PARAM_LAUNCH) for name in checked.launch),
    )
    found = []
    for (name, kind), types in zip(kinds, columns, strict=True):
        arg = checked.args.get(name, Arg())
        ranges = [
            INT64 if kind == abi.PARAM_SELECTED and code == abi.I64 else integer_range(code) for code in types
        ]
        direction = DIRECTIONS[arg.direction] or (abi.DIRECTION_IN if name in const_names else 0)
        found.append(
            Param(
                name=name,
                kind=kind,
                type=types[0] if len(set(types)) == 1 else abi.VARIES,
                const=name in const_names,
                nullable=name in nullable,
                least=min(low for low, _ in ranges) if arg.least is None else arg.least,
                most=max(high for _, high in ranges) if arg.most is None else arg.most,
                direction=direction,
                key={False: 0, True: abi.PARAM_KEY, "exact": abi.PARAM_KEY_EXACT}[arg.key],
                extent=checked.extents.get(name),
            )
        )
    return tuple(found)


def with_keys(params: tuple[Param, ...], variants: Iterable[Variant]) -> tuple[Param, ...]:
    """The parameters, with what a tuning table tells calls apart by: where none is said to be, every integer that
    guards, grids and preferences read."""
    if any(param.key for param in params):
        return params
    exprs = (expr for each in variants for expr in (each.guard, each.prefer, *each.grid) if expr)
    read = frozenset[str]().union(*(expr.names() for expr in exprs))
    return tuple(
        replace(param, key=abi.PARAM_KEY)
        if param.name in read and param.kind != abi.PARAM_SELECTED and any(integer_range(param.type))
        else param
        for param in params
    )


def _pointers(cases: Iterable[Case]) -> tuple[set[str], set[str]]:
    """The arguments that are const in all cases, and those that may be null in any."""
    arguments = [argument for case in cases for argument in case.arguments]
    written = {argument.name for argument in arguments if not argument.const}
    nullable = {argument.name for argument in arguments if argument.null}
    return {argument.name for argument in arguments} - written, nullable
