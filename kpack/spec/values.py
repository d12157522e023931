"""Values that are fixed when a kernel is compiled: of constexprs and of compiler options."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kpack.errors import SpecError
from kpack.objfile import abi

__all__ = ["INT64", "DType", "Value", "choices", "dtype_name", "read_value", "value_type"]

INT64 = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class DType:
    """A constexpr that is itself a type, by Triton's spelling: DType("fp16"). tl.float16 says the same.

    A name that is no type is refused when the kernel is declared.
    """

    name: str

    def __str__(self) -> str:
        return self.name


Value = bool | int | float | str | DType | None


def read_value(given: Any) -> Value:
    """A constexpr's or option's value; triton.language's dtypes and constexprs are known by their shape."""
    if given is None or isinstance(given, (bool, int, float, str, DType)):
        if isinstance(given, int) and not INT64[0] <= given <= INT64[1]:
            raise SpecError(f"expected an integer of 64 bits, got {given}")
        if isinstance(given, DType) and given.name not in abi.DTYPES:
            raise SpecError(f"expected a type among {' '.join(abi.DTYPES)}, got {given!r}")
        return given
    if type(given).__name__ == "constexpr" and hasattr(given, "value"):
        return read_value(given.value)
    if hasattr(given, "primitive_bitwidth") and dtype_name(given) in abi.DTYPES:
        return DType(dtype_name(given))
    if hasattr(given, "__index__"):
        return read_value(given.__index__())
    raise SpecError(f"expected a bool, integer, float, text, None or a type, got {given!r}")


def dtype_name(dtype: Any) -> str:
    """What a signature calls one of triton.language's dtypes, which say "int32" and "uint8" of themselves."""
    return re.sub(r"^(u?)int(?=\d)", lambda match: match[1] or "i", str(dtype))


def value_type(value: Value) -> int:
    """The type code of a selected constexpr. bool before int: in Python it is one."""
    match value:
        case None:
            return abi.NONE
        case bool():
            return abi.I1
        case int():
            return abi.I64
        case float():
            return abi.FP64
        case str():
            return abi.STRING
        case DType():
            return abi.DTYPE


def choices(variables: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[dict[str, Any]]:
    """Every choice of a value for each variable, the last varying fastest."""
    names = [name for name, _ in variables]
    for values in itertools.product(*(given for _, given in variables)):
        yield dict(zip(names, values, strict=True))
