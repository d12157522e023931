"""Files of shapes: the calls that `kpack tune` tunes for, as an application recorded them or a person wrote them.

    # kpack shapes 1
    kernel,call
    softmax,out_ptr=*fp16:16 in_ptr=*fp16:256 n_cols=1000 n_rows=4096
    softmax,"out_ptr=*fp16 in_ptr=*fp16 n_cols=[512..65536*2] n_rows=[1,4096]"

A value may be a list, [1,4096], or a range, [a..b], [a..b+step], [a..b*factor]: a row stands for all combinations.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kpack.errors import FormatError
from kpack.objfile import abi
from kpack.runtime import Pointer, TensorDescriptor
from kpack.spec import DType

__all__ = ["Shape", "read_shapes", "read_value"]

_TITLE = "# kpack shapes 1"
_COLUMNS = "kernel,call"
_ROW = re.compile(r'(?P<kernel>[^",]+),(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^",]*))')
_MOST_CALLS = 100_000  # that a row may stand for: more is a slip
_ALIGNED = 256  # bytes: what pointers have that say nothing else
_WORDS = {"true": True, "false": False, "none": None, "null": None}
# Split at spaces and commas outside of quotes and brackets.
_PART = re.compile(r"(?:'(?:\\.|[^'\\])*'|\[[^\]]*\]|[^\s'\[])+")
_ITEM = re.compile(r"(?:'(?:\\.|[^'\\])*'|\[[^\]]*\]|[^,'\[])+")
_RANGE = re.compile(r"(?P<low>-?\d+)\.\.(?P<high>-?\d+)(?:(?P<kind>[+*])(?P<step>\d+))?")
_POINTER = re.compile(r"\*(?P<type>\w+)(?::(?P<align>\d+))?")
_TENSOR = re.compile(
    r"tensordesc<(?P<type>\w+)>\[(?P<shape>[-\d,]*)\]\[(?P<strides>[-\d,]*)\](?::(?P<align>\d+))?(?P<flags>(?:\+\w+)*)"
)
_TEXT = re.compile(r"'(?P<text>(?:\\.|[^'\\])*)'")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Shape:
    """One call of a kernel: the text of each value by name, in the order of the row. `line`: from 1, in its file."""

    kernel: str
    values: Mapping[str, str]
    line: int

    @property
    def call(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values.items())

    def __str__(self) -> str:
        return f"{self.kernel} {self.call}".rstrip()


def read_shapes(path: str | os.PathLike[str]) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
    """The calls of a file, each once, and the lines that are none: number, expected and got. Raises FormatError for
    what is no readable file."""
    try:
        lines = Path(path).read_text(errors="surrogateescape").removeprefix("\ufeff").split("\n")
    except OSError as error:
        raise FormatError(f"{os.fspath(path)}: expected a file of shapes, got {error.strerror}") from error
    found: dict[tuple[str, str], Shape] = {}
    rejected = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line in (_TITLE, _COLUMNS) or (line[0] == "#" and "kpack shapes" not in line):
            continue
        try:
            for shape in _read_row(line, number):
                found.setdefault((shape.kernel, shape.call), shape)
        except FormatError as error:
            rejected.append(f"{os.fspath(path)}:{number}: {error}")
    return tuple(found.values()), tuple(rejected)


def _read_row(line: str, number: int) -> Iterator[Shape]:
    row = _ROW.fullmatch(line)
    if row is None:
        raise FormatError(f"expected kernel,call of version 1, got {line[:200]!r}")
    call = row["plain"] if row["quoted"] is None else row["quoted"].replace('""', '"')
    choices: dict[str, list[str]] = {}
    for part in _PART.findall(call):
        name, equals, value = part.partition("=")
        if not (equals and name.isidentifier() and value) or name in choices:
            raise FormatError(f"expected name=value, each name once, got {part!r}")
        choices[name] = _choices(name, value)
    count = 1
    for values in choices.values():
        count *= len(values)
    if count > _MOST_CALLS:
        raise FormatError(f"expected at most {_MOST_CALLS} calls of one row, got {count}")
    for combination in itertools.product(*choices.values()):
        yield Shape(row["kernel"], dict(zip(choices, combination, strict=True)), number)


def _choices(name: str, text: str) -> list[str]:
    """What a value stands for; each one is checked."""
    if not text.startswith("["):
        read_value(name, text)
        return [text]
    values: list[str] = []
    for item in _ITEM.findall(text[1:-1] if text.endswith("]") else ""):
        stripped = item.strip()
        range_ = _RANGE.fullmatch(stripped)
        if range_ is None:
            read_value(name, stripped)
        values += [stripped] if range_ is None else map(str, _numbers(name, stripped, range_))
    if not values:
        raise FormatError(f"{name}: expected [values] or [a..b], got {text!r}")
    return list(dict.fromkeys(values))


def _numbers(name: str, text: str, range_: re.Match[str]) -> Iterator[int]:
    low, high = int(range_["low"]), int(range_["high"])
    step = int(range_["step"] or 1)
    grows = range_["kind"] == "*"
    if low > high or step < (2 if grows else 1) or (grows and low < 1):
        raise FormatError(
            f"{name}: expected a range that grows from its first value to its last, got [{text}]"
        )
    if not grows and (high - low) // step > _MOST_CALLS:
        raise FormatError(f"{name}: expected at most {_MOST_CALLS} values, got [{text}]")
    while low <= high:
        yield low
        low = low * step if grows else low + step


# ---- values


def read_value(name: str, text: str) -> object:
    """The value that a call passes. A pointer points at nothing: it says its type, whether it is null, and, by its low
    bits, how it is aligned, for memory that the tuner makes. Raises FormatError."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text in abi.DTYPES:
        return DType(text)
    if found := _POINTER.fullmatch(text):
        return Pointer(_dtype(name, found["type"]), _address(name, found["align"]))
    if found := _TENSOR.fullmatch(text):
        return _tensor(name, found)
    if found := _TEXT.fullmatch(text):
        raw = found["text"].encode(errors="surrogateescape")
        plain = _ESCAPE.sub(lambda e: bytes([int(e[1], 16)]) if e[1] else e[2], raw)
        return plain.decode(errors="surrogateescape")
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    raise FormatError(
        f"{name}: expected a number, true, false, none, a pointer such as *fp16 or *fp16:16, null, a type, "
        f"tensordesc<fp16>[64,128][128,1] or 'text', got {text!r}"
    )


def _dtype(name: str, type_: str) -> str:
    if type_ not in abi.DTYPES:
        raise FormatError(f"{name}: expected a type among {' '.join(abi.DTYPES)}, got {type_!r}")
    return type_


def _address(name: str, align: str | None) -> int:
    """One that is a multiple of `align` and of no larger power of two."""
    bytes_ = int(align or _ALIGNED)
    if bytes_ < 1 or bytes_ & (bytes_ - 1):
        raise FormatError(f"{name}: expected an alignment that is a power of two, got {align}")
    return 0x10000 + (bytes_ if bytes_ < _ALIGNED else 0)


def _tensor(name: str, found: re.Match[str]) -> TensorDescriptor:
    shape, strides = (
        [int(size) for size in found[field].split(",") if size] for field in ("shape", "strides")
    )
    flags = found["flags"].split("+")[1:]
    if unknown := sorted({*flags} - {"nan", "tf32"}):
        raise FormatError(f"{name}: expected +nan and +tf32, got +{unknown[0]}")
    base = Pointer(_dtype(name, found["type"]), _address(name, found["align"]))
    return TensorDescriptor(
        base, shape, strides, padding="nan" if "nan" in flags else "zero", round_f32_to_tf32="tf32" in flags
    )
