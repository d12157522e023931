"""One run-time argument: its type in a little language, "[const ][*]type[:hint]...", and what it means to Triton.

A hint specialises: ":16" divisible by 16, ":1" equal to one, ":none" null; with "?" both ways are built.
A host tensor descriptor is "tensordesc<type[size, ...]>"; a size is a number or a constexpr of the kernel. Gluon's
has a layout, too: "tensordesc<type[size, ...],NVMMASharedLayout(...)>".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kpack.objfile import abi
from kpack.spec.function import Function
from kpack.spec.mistakes import Mistakes
from kpack.spec.values import INT64, OTHER_NAMES, Constant
from kpack.target import nearest

__all__ = ["TYPES", "Argument", "check_boxes", "integer_range", "is_integer", "read_argument", "unknown_type"]

TYPES: dict[str, int] = {**abi.DTYPES, "void": abi.VOID}
_INTEGERS = frozenset(name for name, code in abi.DTYPES.items() if abi.I1 <= code <= abi.U64)
_HINTS = {"16": "divisible", "1": "one", "none": "null"}
_SIGNATURE = re.compile(
    r"(?P<const>const\s+)?(?P<pointer>\*)?(?P<type>\w+)(?P<hints>(?:\s*:\s*[\w?]*)*)", re.ASCII
)
_TENSORDESC = re.compile(
    r"(?P<before>const\s+|\*)*tensordesc\s*<\s*(?P<type>\w+)\s*\[(?P<box>[^][]*)\]"
    r"(?:\s*,\s*(?P<layout>\w+\(.*\)))?\s*>(?P<after>.*)",
    re.ASCII,
)
_MOST_DIMENSIONS = 5  # of a tensor map

Types = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Argument:
    """A run-time argument's signature. A hint is "" (not given), "always" or "both". `box`: of a host tensor
    descriptor, the block that the kernel moves at a time; a dimension is a number, or the constexpr that says it."""

    name: str
    type: str
    pointer: bool = False
    const: bool = False
    divisible: str = ""
    one: str = ""
    null: str = ""
    box: tuple[int | str, ...] = ()
    layout: str = ""
    """of a Gluon descriptor: how a block lies in shared memory"""
    read_only: bool = False
    """Triton's "*k": the function says that nobody writes this memory while it runs"""

    def type_name(self, chosen: Mapping[str, str]) -> str:
        return chosen.get(self.type, self.type)

    def code(self, chosen: Mapping[str, str]) -> int:
        kind = abi.TENSORDESC if self.box else abi.POINTER if self.pointer else 0
        return TYPES[self.type_name(chosen)] | kind

    def triton(self, chosen: Mapping[str, str], constexprs: Mapping[str, Constant]) -> str:
        type_ = self.type_name(chosen)
        if self.box:
            sizes = (str(constexprs[size] if isinstance(size, str) else size) for size in self.box)
            return f"tensordesc<{type_}[{','.join(sizes)}]{self.layout and ','}{self.layout}>"
        # Not "*k" for const: to Triton that is memory which nobody writes while the kernel runs, and on AMD it
        # becomes another address space; to us it is a promise of this argument alone.
        return f"*{'k' if self.read_only else ''}{type_}" if self.pointer else type_


def integer_range(code: int) -> tuple[int, int]:
    """The values of a type code; (0, 0) for what is no integer."""
    if code == abi.I1:
        return 0, 1
    if not abi.I1 < code <= abi.U64:
        return 0, 0
    bits = 8 * abi.ELEMENT_BYTES[code]
    # What u64 holds beyond int64 cannot be said in the call's int64 bounds.
    return (0, min(2**bits - 1, INT64[1])) if code >= abi.U8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def is_integer(argument: Argument, types: Types) -> bool:
    choices = types.get(argument.type, (argument.type,))
    return not (argument.pointer or argument.box) and all(choice in _INTEGERS for choice in choices)


def unknown_type(got: object, known: Iterable[str], hint: str = "") -> str:
    names = list(known)
    other = OTHER_NAMES.get(str(got))
    hint = f"; did you mean {other!r}?" if other else nearest(str(got), names) or hint
    return f"expected a type among {' '.join(names)}, got {got!r}{hint}"


def read_argument(name: str, text: object, function: Function, types: Types, mistakes: Mistakes) -> Argument:
    if isinstance(text, str) and "tensordesc" in text:
        return _read_tensordesc(name, text, function, types, mistakes)
    subject = f"argument {name!r}"
    match = _SIGNATURE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        mistakes.add(subject, f"expected '[const ][*]type[:hint]', got {text!r}")
        return Argument(name, "i32")
    pointer, const, type_ = bool(match["pointer"]), bool(match["const"]), match["type"]
    type_ = _check_type(subject, type_, types, mistakes, void=pointer)
    if not pointer and any(choice.startswith("fp8") for choice in types.get(type_, (type_,))):
        mistakes.add(
            subject,
            f"expected a pointer or another type, got {text!r}; Triton's launchers pass no fp8 scalar: "
            "pass a pointer or fp16",
        )
    if const and not pointer:
        mistakes.add(subject, f"expected const on a pointer only, got {text!r}")
    return _with_hints(
        Argument(name, type_, pointer, const, read_only=pointer and name in function.read_only),
        [part.strip() for part in match["hints"].split(":")[1:]],
        str(text),
        types,
        mistakes,
    )


def _with_hints(
    argument: Argument, given: Iterable[str], text: str, types: Types, mistakes: Mistakes
) -> Argument:
    subject, pointer = f"argument {argument.name!r}", argument.pointer
    integer = is_integer(argument, types)
    hints = dict.fromkeys(_HINTS.values(), "")
    for hint in given:
        kind = _HINTS.get(hint.removesuffix("?"))
        if kind is None:
            known = [spelling for base in _HINTS for spelling in (base, base + "?")]
            mistakes.add(
                subject, f"hint: expected one of {' '.join(known)}, got {hint!r}{nearest(hint, known)}"
            )
        elif not (integer or pointer) or (kind == "one" and pointer) or (kind == "null" and not pointer):
            fitting = {"divisible": "an integer or a pointer", "one": "an integer", "null": "a pointer"}[kind]
            mistakes.add(subject, f"hint {hint!r}: expected {fitting}, got {text!r}")
        elif hints[kind]:
            mistakes.add(subject, f"hint {hint!r}: expected it once, got {text!r}")
        else:
            hints[kind] = "both" if hint.endswith("?") else "always"
    if hints["one"] == "always" and hints["divisible"]:
        mistakes.add(subject, f"expected either ':1' or ':16', got {text!r}; 1 is not divisible by 16")
    return replace(argument, divisible=hints["divisible"], one=hints["one"], null=hints["null"])


def _is_variable(name: str) -> bool:
    """Whether a name that is no type's looks like a type variable: "T", "T2", "IN_T", but not "FP16"."""
    return name.isupper() and name.lower() not in {*TYPES, *OTHER_NAMES}


def _check_type(subject: str, type_: str, types: Types, mistakes: Mistakes, *, void: bool = False) -> str:
    """The type, or what stands in for it."""
    if type_ in types or (type_ in TYPES and (type_ != "void" or void)):
        return type_
    hint = f"; a type variable has its choices in types={{{type_!r}: [...]}}" if _is_variable(type_) else ""
    mistakes.add(subject, unknown_type(type_, [*types, *abi.DTYPES], hint))
    return "i32"


# ---- host tensor descriptors


def _read_tensordesc(name: str, text: str, function: Function, types: Types, mistakes: Mistakes) -> Argument:
    subject = f"argument {name!r}"
    match = _TENSORDESC.fullmatch(text.strip())
    if match is None:
        im2col = "; a descriptor for im2col is not built yet" if "im2col" in text else ""
        mistakes.add(subject, f"expected 'tensordesc<type[size, ...]>', got {text!r}{im2col}")
        return Argument(name, "i32")
    if match["before"] or match["after"]:
        mistakes.add(
            subject,
            f"expected a tensor descriptor without const, '*' and hints, got {text!r}; the call checks what TMA "
            "asks of address and strides, and args= says the direction",
        )
    layout = match["layout"] or ""
    if bool(layout) != function.gluon and not function.interpreted:
        wanted = (
            "with its layout, as Gluon has it" if function.gluon else "without a layout, which is Gluon's"
        )
        mistakes.add(subject, f"expected a tensor descriptor {wanted}, got {text!r}")
    type_ = _check_type(subject, match["type"], types, mistakes)
    if "i1" in types.get(type_, (type_,)):
        mistakes.add(subject, f"expected elements of whole bytes, got i1 in {text!r}; use i8 or u8")
    return Argument(name, type_, box=_read_box(subject, match["box"], function, mistakes), layout=layout)


def _read_box(subject: str, text: str, function: Function, mistakes: Mistakes) -> tuple[int | str, ...]:
    sizes = [size.strip() for size in text.split(",")]
    if len(sizes) > _MOST_DIMENSIONS:
        mistakes.add(subject, f"expected 1 to {_MOST_DIMENSIONS} dimensions, got {len(sizes)} in '[{text}]'")
    box: list[int | str] = []
    for size in sizes:
        if size in function.constexprs:
            box.append(size)
        elif re.fullmatch(r"[0-9]+", size):
            box.append(int(size))
            _check_size(subject, size, int(size), mistakes)
        else:
            mistakes.add(
                subject,
                f"expected a number or a constexpr of {function.name} as size: "
                f"{' '.join(function.constexprs) or '(none)'}, got {size!r}{nearest(size, function.constexprs)}",
            )
            box.append(1)
    return tuple(box)


def _check_size(subject: str, size: str, value: Constant, mistakes: Mistakes) -> None:
    if type(value) is not int or value < 1 or value & (value - 1):
        said = f"{size}={value!r}" if size != str(value) else size
        mistakes.add(subject, f"expected a power of two as size of a dimension, got {said}")


def check_boxes(
    arguments: Iterable[Argument], constexprs: Mapping[str, Constant], mistakes: Mistakes
) -> None:
    """What the constexprs of a variant make of its tensor descriptors."""
    for argument in arguments:
        for size in argument.box:
            if isinstance(size, str):
                _check_size(f"argument {argument.name!r}", size, constexprs[size], mistakes)
