"""The key of a tuning entry, as a number and in words: what csrc/src/tune/key.cc makes of a call, here of a plan or
listing and the entry's text.

    device "sm_90/132" · overload "*fp16,*fp16,i64;CAUSAL=True" · call "n_cols=1024 n_rows=8192 16=out_ptr,in_ptr"
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kpack.errors import FormatError
from kpack.objfile import abi

__all__ = ["KeyCall", "KeyRule", "bucket", "overload_text", "quoted", "tuning_hash", "type_text", "word_hash"]

_MASK64 = 0xFFFFFFFFFFFFFFFF
_INT64 = (-(1 << 63), (1 << 63) - 1)
_EXACT_TO = 16  # buckets up to here have one value each
_INTEGER = re.compile(r"-?[0-9]+")
_CLASSES = ("16", "1", "null")  # of a call, in the order of a key
_EMPTY = "-"


def word_hash(words: Iterable[int]) -> int:
    """Of words of 64 bits, negative ones in two's complement; never 0."""
    value = abi.NAME_SEED
    for word in words:
        value = (value ^ (word & _MASK64)) * abi.NAME_PRIME & _MASK64
        value ^= value >> 32
    return value or 1


def tuning_hash(variants: Iterable[int]) -> int:
    """Of a kernel, by the hashes of its variants in order: entries with another one are stale."""
    return word_hash(variants)


def bucket(value: int) -> int:
    """What stands for `value` in a key by bucket: itself up to 16, above the next of 20, 24, 28, 32, 40, ...: m * 2**k
    with m from 4 to 8; the last ends at the largest integer of 64 bits."""
    if value <= _EXACT_TO:
        return value
    quarter = 1 << (value - 1).bit_length() - 3
    return min(-(-value // quarter) * quarter, _INT64[1])


@dataclass(frozen=True, slots=True)
class KeyCall:
    """The call of an entry: values by name, and the parameters that are divisible by 16, 1, or null."""

    values: Mapping[str, int]
    classes: Mapping[str, frozenset[str]]

    @property
    def special(self) -> int:
        """How much is known of it."""
        return sum(map(len, self.classes.values()))


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How entries of one overload are keyed. `params`: the names of the call's parameters, in order; `keys`: those
    whose values count, and whether by value rather than by bucket; `classes`: by "16", "1" and "null", the parameters
    that some variant wants divisible by 16, equal to 1, or null."""

    overload: str
    params: tuple[str, ...]
    keys: Mapping[str, bool]
    classes: Mapping[str, frozenset[str]]

    def key(self, device: str, call: KeyCall) -> int:
        """The 64-bit key of an entry."""
        known = (call.classes.get(each, frozenset()) & self.classes[each] for each in _CLASSES)
        masks = (sum(1 << self.params.index(name) for name in names) for names in known)
        seed = (abi.fnv1a(text.encode(errors="surrogateescape")) for text in (device, self.overload))
        values = ((call.values[name], exact) for name, exact in self.keys.items())
        return word_hash((*seed, *masks, *(value if exact else bucket(value) for value, exact in values)))

    def read(self, call: str) -> KeyCall:
        """Raises FormatError for a call that is none of this overload."""
        values: dict[str, int] = {}
        classes: dict[str, frozenset[str]] = {}
        for part in call.split(" ") if call and call != _EMPTY else ():
            name, _, said = part.partition("=")
            names = said.split(",")
            if name in _CLASSES and name not in classes and self.classes[name].issuperset(names):
                classes[name] = frozenset(names)
            elif name in self.keys and name not in values and _is_integer(said):
                values[name] = int(said)
            else:
                raise FormatError(f"expected {self._form()}, got {part!r} in {call!r}")
        if len(values) < len(self.keys):
            raise FormatError(f"expected {self._form()}, got {call!r}")
        return KeyCall(values, classes)

    def _form(self) -> str:
        parts = [f"{name}=integer" for name in self.keys]
        parts += [f"{each}={','.join(sorted(names))}" for each, names in self.classes.items() if names]
        return " ".join(parts) or _EMPTY


def _is_integer(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text)) and _INT64[0] <= int(text) <= _INT64[1]


# ---- overloads in words


def type_text(code: int) -> str:
    """ "fp16", "*fp16", "tensordesc<fp16>" """
    if abi.is_tensordesc(code):
        return f"tensordesc<{_NAMES[code & ~abi.TENSORDESC]}>"
    return ("*" if code & abi.POINTER else "") + _NAMES[code & ~abi.POINTER]


_NAMES = {abi.VOID: "void", **{code: name for name, code in abi.DTYPES.items()}}


def overload_text(
    types: Sequence[int], kinds: Sequence[int], selected: Mapping[str, tuple[int, int | str]]
) -> str:
    """An overload in one line: types of the arguments, then names and values (as a kpk_value) of what is selected."""
    arguments = (
        type_text(code) for code, kind in zip(types, kinds, strict=True) if kind == abi.PARAM_ARGUMENT
    )
    chosen = ",".join(f"{name}={_value_text(*value)}" for name, value in selected.items())
    return ",".join(arguments) + (f";{chosen}" if chosen else "")


def _value_text(code: int, bits: int | str) -> str:
    if isinstance(bits, str):
        return quoted(bits)
    words: Mapping[int, Callable[[int], str]] = {
        abi.I1: lambda bits: str(bits != 0),
        abi.FP64: _float_text,
        abi.NONE: lambda _: "None",
        abi.DTYPE: lambda bits: _NAMES[bits & ~abi.POINTER],
    }
    return words.get(code, str)(bits)


def _float_text(bits: int) -> str:
    (value,) = struct.unpack("<d", struct.pack("<q", bits))
    return "nan" if math.isnan(value) else f"{value:.17g}"


def quoted(text: str) -> str:
    """In single quotes, in one line."""
    raw = text.encode(errors="surrogateescape")
    parts = []
    for byte in raw:
        escaped = byte < 0x20 or byte == 0x7F
        slash = b"\\" if byte in b"'\\" else b""
        parts.append(b"\\x%02x" % byte if escaped else slash + bytes([byte]))
    return "'" + b"".join(parts).decode(errors="surrogateescape") + "'"
