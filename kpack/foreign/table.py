"""ONNX Runtime's function tables: scripts that define `get_function_table()`, taken as they are.

A row says `name`, `group`, `func` (a @triton.jit function), `sig` (the types of its run-time arguments, in the letters
of Triton 2: "*fp32,*fp32,i32") and `kwargs` (`num_warps`, `num_stages`, `constants`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kpack.errors import SpecError
from kpack.foreign.declared import attempt
from kpack.image import Image
from kpack.naming import check_kernel_name
from kpack.objfile import abi
from kpack.spec import Constexpr, Kernel, Overload, Param, Plan, Variant, expand
from kpack.target import Target, nearest

__all__ = ["TABLE_FUNCTIONS", "Group", "read_table"]

# The second is how the first version of ONNX Runtime spelled it.
TABLE_FUNCTIONS = ("get_function_table", "get_funcion_table")

_GRID = ("grid_x", "grid_y", "grid_z")
_SELECTOR = "name"
_ROW = {"name": str, "group": str, "sig": str, "kwargs": Mapping}
# Triton 2's spelling, where ours is another.
_LETTERS = {"B": "i1", "f32": "fp32", "f64": "fp64", "fp8e4": "fp8e4nv"}


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a table: what it is called, and what it compiles."""

    name: str
    kernel: Kernel


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The kernel that a group of a function table becomes. Its rows are its variants.

    A call has the row's run-time arguments, then the row's name, which selects it as ONNX Runtime's launch by name
    does, then the grid, in blocks, which is the caller's there, too:

        LaunchTritonKernel(stream, "softmax_fp16_1024", rows, 1, 1, &args, sizeof(args))         // was
        tk::softmax_fp16(stream, out, in, stride, stride, n, "softmax_fp16_1024", rows, 1, 1)    // is

    The name is an argument since a table says nowhere which row fits which call: that stays in the caller's code, with
    its loop over the rows and its tuner. Shared memory, warps and targets are no longer its business. In a hot loop,
    `pin` the row once. Types and the number of arguments are checked, what a struct packed by hand was not.
    A group's name becomes a C identifier ("softmax-fp16": softmax_fp16); rows keep theirs.
    """

    name: str
    rows: tuple[Row, ...]
    source: str = field(default="", repr=False)

    def expand(self, targets: Sequence[Target]) -> Plan:
        """The plan of all rows. Raises SpecError where rows of the group are not called alike."""
        plans = {row.name: expand(row.kernel, targets) for row in self.rows}
        first_name, first = next(iter(plans.items()))
        mistakes = [
            f"{self.name}: row {name!r}: expected the {len(first.params)} arguments of {first_name!r} and the grid, "
            f"got {len(plan.params)}: rows of a group are called alike"
            for name, plan in plans.items()
            if len(plan.params) != len(first.params)
        ]
        mistakes += [
            f"{self.name}: row {name!r}: expected a function that compiles one way, got {len(plan.variants)} configs"
            for name, plan in plans.items()
            if len(plan.variants) != 1
        ]
        if mistakes:
            raise SpecError("\n".join(mistakes))
        from kpack.compile import adapter

        adapter.check(plans.values(), targets)
        count = len(first.params) - len(_GRID)
        selector = _free(_SELECTOR, {param.name for param in first.params})
        constexprs = tuple(
            dict.fromkeys(constexpr.name for plan in plans.values() for constexpr in plan.constexprs)
        )
        return Plan(
            kernel=self,
            name=self.name,
            params=(
                *(
                    _merged(column)
                    for column in zip(*(plan.params[:count] for plan in plans.values()), strict=True)
                ),
                Param(selector, abi.PARAM_SELECTED, abi.STRING, const=False, nullable=False, least=0, most=0),
                *first.params[count:],
            ),
            overloads=tuple(
                Overload(
                    (*plan.overloads[0].types[:count], abi.STRING, *plan.overloads[0].types[count:]), (name,)
                )
                for name, plan in plans.items()
            ),
            variants=tuple(
                _row_variant(number, name, plan, constexprs)
                for number, (name, plan) in enumerate(plans.items())
            ),
            constexprs=(
                Constexpr(selector, abi.CONSTEXPR_SELECTED),
                *(Constexpr(name, abi.CONSTEXPR_TUNED) for name in constexprs),
            ),
            guard_text="",
            grid_text=", ".join(_GRID),
            source=self.source,
            producer=partial(_compile, plans),
            origin={
                "rows": {name: adapter.provenance(plan, targets) for name, plan in plans.items()},
                "source_key": " ".join(f"{name} {adapter.source_key(plan)}" for name, plan in plans.items()),
            },
        )


def _compile(plans: Mapping[str, Plan], plan: Plan, variant: Variant, target: Target) -> Image:
    """A row's image, by the plan of its own."""
    from kpack.compile import adapter

    (name,) = plan.overloads[variant.overload].selected
    row = plans[str(name)]
    return adapter.compile_variant(row, replace(row.variants[0], entry=variant.entry), target)


def _row_variant(number: int, name: str, plan: Plan, constexprs: Iterable[str]) -> Variant:
    (variant,) = plan.variants
    values = {each.name: value for each, value in zip(plan.constexprs, variant.constexprs, strict=True)}
    return replace(
        variant,
        name=re.sub(r"[^A-Za-z0-9_.+-]", "_", name),
        entry=_identifier(name),
        overload=number,
        constexprs=(name, *(values.get(constexpr) for constexpr in constexprs)),
    )


def _merged(column: Sequence[Param]) -> Param:
    """One argument, of all rows."""
    first = column[0]
    return replace(
        first,
        type=first.type if all(param.type == first.type for param in column) else abi.VARIES,
        nullable=any(param.nullable for param in column),
        least=min(param.least for param in column),
        most=max(param.most for param in column),
    )


def _free(name: str, taken: Iterable[str]) -> str:
    return f"{name}_" if name in taken else name


def _identifier(name: str) -> str:
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{plain}" if plain[:1].isdigit() else plain


# ---- reading a table


def read_table(function: Callable[[], Any], source: str) -> tuple[Group, ...]:
    """The groups of a table. Raises SpecError with a line for each mistake, and what the function itself raises."""
    table = function()
    if not isinstance(table, (list, tuple)):
        raise SpecError(f"{function.__name__}(): expected a list of rows, got {table!r:.60}")
    mistakes: list[str] = []
    rows: dict[str, tuple[str, Row]] = {}
    for number, given in enumerate(table):
        own: list[str] = []
        found = attempt(partial(_read_row, given), own)
        where = f"{function.__name__}()[{number}]"
        mistakes += [f"{where}: {line}" for line in own]
        if found is None:
            continue
        group, row = found
        if row.name in rows:
            mistakes.append(f"{where}: name: expected each once, got {row.name!r} again")
        rows[row.name] = (group, row)
    identifiers: dict[str, str] = {}
    for name in rows:
        other = identifiers.setdefault(_identifier(name), name)
        if other != name:
            mistakes.append(
                f"row {name!r}: expected an identifier of its own, got {_identifier(name)}, as of {other!r}"
            )
    groups: dict[str, list[Row]] = {}
    spelled: dict[str, str] = {}
    for group, row in rows.values():
        name = _identifier(group)
        if spelled.setdefault(name, group) != group:
            mistakes.append(
                f"group {group!r}: expected an identifier of its own, got {name}, as of {spelled[name]!r}"
            )
        groups.setdefault(name, []).append(row)
    for name in groups:
        attempt(partial(check_kernel_name, name), mistakes)
    if not groups and not mistakes:
        mistakes.append(f"{function.__name__}(): expected one row or more, got none")
    if mistakes:
        raise SpecError("\n".join(mistakes))
    return tuple(Group(name, tuple(members), source) for name, members in groups.items())


def _read_row(row: Any) -> tuple[str, Row]:
    if not isinstance(row, Mapping):
        raise SpecError(f"expected a dict, got {row!r:.60}")
    known = (*_ROW, "func")
    wrong = [
        f"{key}: expected {'a dict' if type_ is Mapping else 'a text'}, got {row.get(key)!r:.60}"
        for key, type_ in _ROW.items()
        if not isinstance(row.get(key), type_) or (not row.get(key) and type_ is str and key != "sig")
    ]
    wrong += [
        f"expected keys {' '.join(known)}, got {key!r}{nearest(str(key), known)}"
        for key in row
        if key not in known
    ]
    if not hasattr(row.get("func"), "arg_names"):
        wrong.append(f"func: expected a function decorated with @triton.jit, got {row.get('func')!r:.60}")
    if wrong:
        raise SpecError("\n".join(wrong))
    return row["group"], Row(row["name"], _row_kernel(row))


def _row_kernel(row: Mapping[str, Any]) -> Kernel:
    function, kwargs = row["func"], dict(row["kwargs"])
    names = list(function.arg_names)
    constants = kwargs.pop("constants", {})
    if not isinstance(constants, Mapping):
        raise SpecError(f"constants: expected a dict, got {constants!r:.60}")
    constexprs = {_parameter(key, names): value for key, value in constants.items()}
    hints = _hints(kwargs.pop("configs", None))
    signature = _signature(row["sig"], names, constexprs, hints)
    if clash := sorted(set(_GRID) & set(signature)):
        raise SpecError(
            f"func: expected arguments that are not called {' '.join(_GRID)}, got {' '.join(clash)}"
        )
    return Kernel(
        function,
        name=_identifier(row["name"]),
        signature=signature,
        constexprs=constexprs,
        grid=", ".join(_GRID),
        options=kwargs,
    )


def _parameter(key: object, names: Sequence[str]) -> str:
    """A parameter by its name, or its number."""
    if type(key) is int and 0 <= key < len(names):
        return names[key]
    if isinstance(key, str) and key in names:
        return key
    raise SpecError(
        f"constants: expected parameters among {' '.join(names)}, got {key!r}{nearest(str(key), names)}"
    )


def _signature(
    text: str, names: Sequence[str], constexprs: Mapping[str, Any], hints: Mapping[int, str]
) -> dict[str, str]:
    """Types by name: of the arguments that are no constants or, as Triton 2 counts, of all parameters."""
    types = [part.strip() for part in text.split(",")] if text.strip() else []
    passed = [name for name in names if name not in constexprs]
    places = passed if len(types) == len(passed) else names
    if len(types) != len(places):
        raise SpecError(
            f"sig: expected {len(passed)} types, for {' '.join(passed) or 'nothing'}, got {text!r}"
        )
    signature = {}
    for number, name in enumerate(names):
        if name in passed:
            given = types[places.index(name)]
            pointer, letters = ("*", given[1:]) if given.startswith("*") else ("", given)
            letters, _, hint = letters.partition(":")
            hint = hint or hints.get(number, "")
            signature[name] = f"{pointer}{_LETTERS.get(letters, letters)}{':' + hint if hint else ''}"
    return signature


def _hints(configs: Any) -> dict[int, str]:
    """Triton 2's instance_descriptor: numbers of parameters that are divisible by 16, and equal to 1."""
    if configs is None:
        return {}
    if not isinstance(configs, (list, tuple)) or len(configs) != 1:
        raise SpecError(f"configs: expected a list of one instance_descriptor, got {configs!r:.60}")
    found = dict.fromkeys(getattr(configs[0], "divisible_by_16", None) or (), "16")
    return found | dict.fromkeys(getattr(configs[0], "equal_to_1", None) or (), "1")
