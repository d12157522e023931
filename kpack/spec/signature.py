"""The signature: a little language, "[const ][*]type[:hint]...", for each run-time argument, and type variables.

A hint specialises: ":16" divisible by 16, ":1" equal to one, ":none" null; with "?" both ways are built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kpack.objfile import abi
from kpack.spec.function import Function
from kpack.spec.mistakes import Mistakes
from kpack.spec.values import INT64, choices
from kpack.target import nearest

__all__ = ["Argument", "check_overloads", "integer_names", "integer_range", "read_signature", "read_types"]

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


@dataclass(frozen=True, slots=True)
class Argument:
    """A run-time argument's signature. A hint is "" (not given), "always" or "both"."""

    name: str
    type: str
    pointer: bool = False
    const: bool = False
    divisible: str = ""
    one: str = ""
    null: str = ""

    def type_name(self, chosen: Mapping[str, str]) -> str:
        return chosen.get(self.type, self.type)

    def code(self, chosen: Mapping[str, str]) -> int:
        return _TYPES[self.type_name(chosen)] | (abi.POINTER if self.pointer else 0)

    def triton(self, chosen: Mapping[str, str]) -> str:
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
        if not argument.pointer and all(t in _INTEGERS for t in types.get(argument.type, (argument.type,)))
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
    if isinstance(text, str) and text.strip().startswith("tensordesc"):
        mistakes.add(
            subject,
            "expected a scalar or a pointer, got a host tensor descriptor, not supported yet; pass a pointer",
        )
        return Argument(name, "i32")
    match = _SIGNATURE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        mistakes.add(subject, f"expected '[const ][*]type[:hint]', got {text!r}")
        return Argument(name, "i32")
    pointer, const, type_ = bool(match["pointer"]), bool(match["const"]), match["type"]
    if type_ not in types and (type_ not in _TYPES or (type_ == "void" and not pointer)):
        hint = (
            f"; a type variable has its choices in types={{{type_!r}: [...]}}" if _is_variable(type_) else ""
        )
        mistakes.add(subject, _unknown_type(type_, [*types, *abi.DTYPES], hint))
        type_ = "i32"
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
