"""Arguments of a call written as text, for a command line: `n=1024 "in_ptr=*fp16" MODE=scale`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kpack.errors import SpecError
from kpack.objfile import abi
from kpack.runtime import LoadedKernel, Pointer
from kpack.spec import DType

__all__ = ["read_arguments"]

_ADDRESS = 0x10000  # of a pointer that says none: aligned to whatever a kernel may ask for
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_POINTER = re.compile(
    r"(?P<const>const\s+)?\*\s*(?P<type>\w+)(?:\+(?P<past>\d+)|@(?P<address>0[xX][0-9a-fA-F]+|\d+))?"
)
_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def read_arguments(kernel: LoadedKernel, texts: Sequence[str]) -> list[object]:
    """The values of a call of `kernel`, in its order: those without a name first, then "name=value" in any order.

    A value is a number, true, false, none, a pointer ("*fp16", "const *fp16", "*fp16+8" for 8 bytes past a
    multiple of 16, "*fp16@0x1000" for an address), a type ("fp16"), or text, for which quotes may be left out.
    """
    values: dict[str, object] = {}
    for text in texts:
        named = _NAMED.fullmatch(text)
        name = named[1] if named else _next_parameter(kernel, values, text)
        if name not in kernel.parameters:
            raise SpecError(f"{name}: no such parameter of {kernel.prototype}")
        if name in values:
            raise SpecError(f"{name}: expected one value, got another: {text!r}")
        values[name] = _read(name, named[2] if named else text)
    missing = [name for name in kernel.parameters if name not in values]
    if missing:
        raise SpecError(
            f"{kernel.name}: expected a value for {', '.join(missing)}, got none: {kernel.prototype}"
        )
    return [values[name] for name in kernel.parameters]


def _next_parameter(kernel: LoadedKernel, values: dict[str, object], text: str) -> str:
    for name in kernel.parameters:
        if name not in values:
            return name
    raise SpecError(f"{text!r}: expected {len(kernel.parameters)} values, got more: {kernel.prototype}")


def _read(name: str, text: str) -> object:
    text = text.strip()
    if text[:1] in ("'", '"') and text[-1:] == text[0] and len(text) > 1:
        return text[1:-1]
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text in abi.DTYPES:
        return DType(text)
    if "*" in text:
        return _read_pointer(name, text)
    for number in (lambda: int(text, 0), lambda: float(text)):
        try:
            return number()
        except ValueError:
            pass
    if text.isidentifier():
        return text
    raise SpecError(
        f"{name}: expected a number, true, false, none, a pointer such as *fp16, a type or 'text', got {text!r}"
    )


def _read_pointer(name: str, text: str) -> Pointer:
    found = _POINTER.fullmatch(text)
    if found is None:
        raise SpecError(f"{name}: expected a pointer such as *fp16, *fp16+8 or *fp16@0x1000, got {text!r}")
    if found["type"] not in abi.DTYPES:
        raise SpecError(f"{name}: expected a type among {' '.join(abi.DTYPES)}, got {found['type']!r}")
    address = int(found["address"], 0) if found["address"] else _ADDRESS + int(found["past"] or 0)
    return Pointer(found["type"], address, read_only=found["const"] is not None)
