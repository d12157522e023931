"""The signature: a little language, "[const ][*]type[:hint]...", for each run-time argument, and type variables.

A hint specialises: ":16" divisible by 16, ":1" equal to one, ":none" null; with "?" both ways are built.
A host tensor descriptor is "tensordesc<type[size, ...]>"; a size is a number or a constexpr of the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kpack.objfile import abi
from kpack.spec.function import Function
from kpack.spec.mistakes import Mistakes
from kpack.spec.values import INT64, Value, choices
from kpack.target import nearest

__all__ = [
    "Argument",
    "check_boxes",
    "check_overloads",
    "integer_names",
    "integer_range",
    "read_signature",
    "read_types",
]

_TYPES: dict[str, int] = {**abi.DTYPES, "void": abi.VOID}
_OTHER_NAMES = {
    "bool": "i1",
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
    "float8e4nv": "fp8e4nv",
}
_INTEGERS = frozenset(name for name, code in abi.DTYPES.items() if abi.I1 <= code <= abi.U64)
_HINTS = {"16": "divisible", "1": "one", "none": "null"}
_SIGNATURE = re.compile(
    r"(?P<const>const\s+)?(?P<pointer>\*)?(?P<type>\w+)(?P<hints>(?:\s*:\s*[\w?]*)*)", re.ASCII
)
_TENSORDESC = re.compile(
    r"(?P<before>const\s+|\*)*tensordesc\s*<\s*(?P<type>\w+)\s*\[(?P<box>[^][]*)\]\s*>(?P<after>.*)", re.ASCII
)
_MOST_DIMENSIONS = 5  # of a tensor map


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

    def type_name(self, chosen: Mapping[str, str]) -> str:
        return chosen.get(self.type, self.type)

    def code(self, chosen: Mapping[str, str]) -> int:
        kind = abi.TENSORDESC if self.box else abi.POINTER if self.pointer else 0
        return _TYPES[self.type_name(chosen)] | kind

    def triton(self, chosen: Mapping[str, str], constexprs: Mapping[str, Value]) -> str:
        if self.box:
            sizes = (str(constexprs[size] if isinstance(size, str) else size) for size in self.box)
            return f"tensordesc<{self.type_name(chosen)}[{','.join(sizes)}]>"
        # Not "*k" for const: to Triton that is memory which nobody writes while the kernel runs, and on AMD it
        # becomes another address space; to us it is a promise of this argument alone.
        return ("*" if self.pointer else "") + self.type_name(chosen)


def integer_range(code: int) -> tuple[int, int]:
    """The values of a type code; (0, 0) for what is no integer."""
    if code == abi.I1:
        return 0, 1
    if not abi.I1 < code <= abi.U64:
        return 0, 0
    bits = 8 * abi.ELEMENT_BYTES[code]
    # What u64 holds beyond int64 cannot be said in the call's int64 bounds.
    return (0, min(2**bits - 1, INT64[1])) if code >= abi.U8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def integer_names(arguments: Sequence[Argument], types: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {
        argument.name
        for argument in arguments
        if not (argument.pointer or argument.box)
        and all(t in _INTEGERS for t in types.get(argument.type, (argument.type,)))
    }


# ---- reading


def read_types(
    given: Mapping[str, Sequence[str]], mistakes: Mistakes
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for name, types in given.items():
        subject = f"type variable {name!r}"
        if name in _TYPES:
            mistakes.add(subject, "expected a name of its own, got a type's; call it for example 'T'")
        if not isinstance(types, (list, tuple)) or not types or not all(isinstance(t, str) for t in types):
            one = f"; write [{types!r}]" if isinstance(types, str) else ""
            mistakes.add(subject, f"expected a list of types, got {types!r}{one}")
            found.append((name, ("i32",)))  # stands in, so that its arguments are no mistakes, too
            continue
        for choice in types:
            if choice not in abi.DTYPES:
                mistakes.add(subject, _unknown_type(choice, abi.DTYPES))
        if len(set(types)) < len(types):
            mistakes.add(subject, f"expected each type once, got {list(types)}")
        found.append((name, tuple(types)))
    return tuple(found)


def _is_variable(name: str) -> bool:
    """Whether a name that is no type's looks like a type variable: "T", "T2", "IN_T", but not "FP16"."""
    return name.isupper() and name.lower() not in {*_TYPES, *_OTHER_NAMES}


def _unknown_type(got: object, known: Iterable[str], hint: str = "") -> str:
    names = list(known)
    other = _OTHER_NAMES.get(str(got))
    hint = f"; did you mean {other!r}?" if other else nearest(str(got), names) or hint
    return f"expected a type among {' '.join(names)}, got {got!r}{hint}"


def read_signature(
    given: Mapping[str, str], function: Function, types: Mapping[str, tuple[str, ...]], mistakes: Mistakes
) -> tuple[Argument, ...]:
    for name in given:
        if name in function.constexprs:
            mistakes.add(
                f"signature {name!r}",
                "expected a run-time argument, got a constexpr; it belongs in constexprs= or configs=",
            )
        elif name not in function.arguments:
            mistakes.add(
                f"signature {name!r}",
                f"expected an argument of {function.name}: {' '.join(function.arguments) or '(none)'}, "
                f"got {name!r}{nearest(name, function.arguments)}",
            )
    found = []
    for name in function.arguments:
        text = given.get(name)
        if text is None:
            mistakes.add(f"argument {name!r}", "expected a type in signature=, got none")
            continue
        if isinstance(text, str) and "tensordesc" in text:
            found.append(_read_tensordesc(name, text, function, types, mistakes))
        else:
            found.append(_read_argument(name, text, types, mistakes))
    used = {argument.type for argument in found}
    for name in types:
        if name not in used:
            mistakes.add(f"type variable {name!r}", "expected an argument of that type, got none")
    return tuple(found)


def _read_argument(
    name: str, text: object, types: Mapping[str, tuple[str, ...]], mistakes: Mistakes
) -> Argument:
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
    integer = not pointer and all(choice in _INTEGERS for choice in types.get(type_, (type_,)))
    hints = dict.fromkeys(_HINTS.values(), "")
    for hint in (part.strip() for part in match["hints"].split(":")[1:]):
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
    return Argument(name, type_, pointer, const, hints["divisible"], hints["one"], hints["null"])


def _check_type(
    subject: str, type_: str, types: Mapping[str, tuple[str, ...]], mistakes: Mistakes, *, void: bool = False
) -> str:
    """The type, or what stands in for it."""
    if type_ in types or (type_ in _TYPES and (type_ != "void" or void)):
        return type_
    hint = f"; a type variable has its choices in types={{{type_!r}: [...]}}" if _is_variable(type_) else ""
    mistakes.add(subject, _unknown_type(type_, [*types, *abi.DTYPES], hint))
    return "i32"


def _read_tensordesc(
    name: str, text: str, function: Function, types: Mapping[str, tuple[str, ...]], mistakes: Mistakes
) -> Argument:
    subject = f"argument {name!r}"
    match = _TENSORDESC.fullmatch(text.strip())
    if match is None:
        gluon = "im2col" in text or re.search(r"\]\s*,", text)
        mistakes.add(
            subject,
            f"expected 'tensordesc<type[size, ...]>', got {text!r}"
            + ("; descriptors with a layout or im2col are Gluon's, which is not built yet" if gluon else ""),
        )
        return Argument(name, "i32")
    if match["before"] or match["after"]:
        mistakes.add(
            subject,
            f"expected a tensor descriptor without const, '*' and hints, got {text!r}; the call checks what TMA "
            "asks of address and strides, and args= says the direction",
        )
    type_ = _check_type(subject, match["type"], types, mistakes)
    if "i1" in types.get(type_, (type_,)):
        mistakes.add(subject, f"expected elements of whole bytes, got i1 in {text!r}; use i8 or u8")
    return Argument(name, type_, box=_read_box(subject, match["box"], function, mistakes))


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


def _check_size(subject: str, size: str, value: Value, mistakes: Mistakes) -> None:
    if type(value) is not int or value < 1 or value & (value - 1):
        said = f"{size}={value!r}" if size != str(value) else size
        mistakes.add(subject, f"expected a power of two as size of a dimension, got {said}")


def check_boxes(arguments: Iterable[Argument], constexprs: Mapping[str, Value], mistakes: Mistakes) -> None:
    """What the constexprs of a variant make of its tensor descriptors."""
    for argument in arguments:
        for size in argument.box:
            if isinstance(size, str):
                _check_size(f"argument {argument.name!r}", size, constexprs[size], mistakes)


def check_overloads(
    arguments: Sequence[Argument], types: Sequence[tuple[str, Sequence[str]]], mistakes: Mistakes
) -> None:
    """A call must be able to tell overloads apart: it sees classes of types, not widths of scalars."""
    seen: dict[tuple[object, ...], dict[str, str]] = {}
    for chosen in choices(types):
        classes = tuple(abi.type_class(argument.code(chosen)) for argument in arguments)
        if classes in seen:
            mistakes.add(
                f"types {' '.join(chosen.values())}",
                f"expected a choice that a call can tell from {' '.join(seen[classes].values())}, got the same "
                "call for both; only pointers differ by type, so give scalars a fixed one",
            )
        seen.setdefault(classes, chosen)
