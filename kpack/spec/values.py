"""Values that are fixed when a kernel is compiled: of constexprs and of compiler options."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any, TypeGuard, Union

from kpack.errors import SpecError
from kpack.objfile import abi

__all__ = [
    "INT64",
    "OTHER_NAMES",
    "Constant",
    "DType",
    "Opaque",
    "Value",
    "as_tuple",
    "choices",
    "dtype_name",
    "is_plain",
    "listed",
    "read_constant",
    "read_value",
    "value_type",
]

INT64 = (-(2**63), 2**63 - 1)

# What else types are called: by torch, numpy, C, and Triton itself.
OTHER_NAMES = {
    "bool": "i1",
    "u1": "i1",
    "int1": "i1",
    "int": "i32",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "half": "fp16",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float": "fp32",
    "float32": "fp32",
    "double": "fp64",
    "float64": "fp64",
    "float8e5": "fp8e5",
    "float8_e5m2": "fp8e5",
    "float8e4nv": "fp8e4nv",
    "float8_e4m3fn": "fp8e4nv",
    "float8e4b8": "fp8e4b8",
    "float8_e4m3fnuz": "fp8e4b8",
    "float8e5b16": "fp8e5b16",
    "float8_e5m2fnuz": "fp8e5b16",
    "float8e4b15": "fp8e4b15",
}


@dataclass(frozen=True, slots=True)
class DType:
    """A constexpr that is itself a type, by Triton's spelling: DType("fp16"). tl.float16 and torch.float16 say
    the same.

    A name that is no type is refused when the kernel is declared.
    """

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Opaque:
    """A constexpr that the compiler understands and no call can pass: a JIT function, a layout, a list, an
    integer of more than 64 bits. Two are the same if their texts are, which tell different contents apart."""

    text: str
    value: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text


# What a call can pass, an archive list, and an option be; and what a constexpr can be besides.
Value = bool | int | float | str | DType | None
Constant = Union[Value, Opaque, tuple["Constant", ...]]  # noqa: UP007  # names itself


# ---- reading


def read_value(given: Any) -> Value:
    """A plain value; dtypes, constexprs and scalars of other libraries are known by their shape."""
    if given is None or isinstance(given, (bool, int, float, str, DType)):
        if isinstance(given, int) and not INT64[0] <= given <= INT64[1]:
            raise SpecError(f"expected an integer of 64 bits, got {given}")
        if isinstance(given, DType) and given.name not in abi.DTYPES:
            raise SpecError(f"expected a type among {' '.join(abi.DTYPES)}, got {given!r}")
        return given
    if type(given).__name__ == "constexpr" and hasattr(given, "value"):
        return read_value(given.value)
    if not isinstance(given, type):
        if dtype_name(given) in abi.DTYPES:
            return DType(dtype_name(given))
        if type(given).__module__ == "numpy" and hasattr(given, "item") and not getattr(given, "shape", ()):
            return read_value(given.item())
        if hasattr(given, "__index__"):
            return read_value(given.__index__())
    raise SpecError(f"expected a bool, integer, float, text, None or a type, got {given!r}")


def read_constant(given: Any) -> Constant:
    """Whatever Triton takes for a constexpr: a plain value if it is one, tuples part by part, else an Opaque."""
    if type(given).__name__ == "constexpr" and hasattr(given, "value"):
        return read_constant(given.value)
    if isinstance(given, Opaque):
        return given
    if isinstance(given, tuple):
        return as_tuple(given, map(read_constant, given))
    if isinstance(given, DType):
        return read_value(given)  # a misspelt one is no object of another kind
    try:
        return read_value(given)
    except (SpecError, TypeError):
        return Opaque(_shortened(_content(given, [])), given)


def as_tuple(like: tuple[Any, ...], parts: Iterator[Any]) -> tuple[Any, ...]:
    """A tuple of `parts`, of the class of `like`: a NamedTuple takes them one by one."""
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def dtype_name(dtype: Any) -> str:
    """What a signature calls a dtype of triton.language, which says "int32" and "uint8" of itself, or of torch;
    "" for what is none."""
    if hasattr(dtype, "primitive_bitwidth"):
        return re.sub(r"^(u?)int(?=\d)", lambda match: match[1] or "i", str(dtype))
    if type(dtype).__module__ == "torch" and type(dtype).__name__ == "dtype":
        return OTHER_NAMES.get(str(dtype).removeprefix("torch."), "")
    return ""


# ---- showing


def is_plain(constant: Constant) -> TypeGuard[Value]:
    return not isinstance(constant, (Opaque, tuple))


def listed(constant: Constant) -> Value:
    """What an archive says of a constant: the value, or its text."""
    return constant if is_plain(constant) else _shortened(_text(constant))


def _text(constant: Constant) -> str:
    if isinstance(constant, tuple):
        return f"({', '.join(map(_text, constant))}{',' if len(constant) == 1 else ''})"
    return repr(constant) if isinstance(constant, str) else str(constant)


_LONGEST_TEXT = 80


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 9]}#{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _content(given: Any, around: list[Any]) -> str:
    """What an object is made of, the same in every process: no address, no folder."""
    if any(given is outer for outer in around):
        return "..."
    around = [*around, given]
    if isinstance(given, (list, tuple)):
        return f"[{', '.join(_content(part, around) for part in given)}]"
    if isinstance(given, Mapping):
        return f"{{{', '.join(f'{key!r}: {_content(part, around)}' for key, part in given.items())}}}"
    if isinstance(given, Set):
        return f"{{{', '.join(sorted(_content(part, around) for part in given))}}}"
    if isinstance(given, type):
        return given.__qualname__
    # A JIT function is what it compiles. Its cache_key is not asked: Triton keeps the first answer, and what the
    # function calls may not be defined yet.
    function = given if isinstance(given, FunctionType) else getattr(given, "fn", None)
    if isinstance(function, FunctionType):
        captured = inspect.getclosurevars(function).nonlocals
        content = _code(function.__code__) + _content([function.__defaults__, captured], around)
        return f"{function.__name__}#{_digest(content)}"
    text = repr(given)
    if not re.search(r" at 0x[0-9a-fA-F]+", text):
        return text
    state = _content(getattr(given, "__dict__", {}), around)
    return f"{type(given).__qualname__}#{_digest(state)}"


def _code(code: CodeType) -> str:
    inner = [_code(const) if isinstance(const, CodeType) else repr(const) for const in code.co_consts]
    return f"{code.co_code.hex()} {inner} {code.co_names}"


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
