"""A listing in words, as JSON has it: codes of abi.h as a person and jq read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kpack.objfile import abi
from kpack.objfile.listing import (
    ConstexprListing,
    Dtype,
    ImageListing,
    ParamListing,
    RequirementListing,
    SlotListing,
    TargetListing,
    TensordescListing,
    TunedListing,
)

__all__ = ["in_words", "type_name"]

_TYPES: dict[int, str] = {
    **{code: name for name, code in abi.DTYPES.items()},
    **{getattr(abi, name): name.lower() for name in "VOID STRING NONE DTYPE VARIES".split()},
}


def type_name(code: int) -> str:
    """ "fp16", "*fp16", "tensordesc<fp16>", "varies"; a number where this kpack has no name."""
    if code == abi.VARIES:
        return _TYPES[code]
    if abi.is_tensordesc(code):
        return f"tensordesc<{type_name(code & ~abi.TENSORDESC)}>"
    name = _TYPES.get(code & ~abi.POINTER, str(code))
    return f"*{name}" if code & abi.POINTER else name


# ---- what a field's number says


def _numbered(prefix: str, names: str) -> dict[int, str]:
    return {getattr(abi, f"{prefix}_{name}"): name.lower() for name in names.split()}


def _one_of(prefix: str, names: str) -> Callable[[int], object]:
    words = _numbered(prefix, names)
    return lambda code: words.get(code, code)


def _all_of(prefix: str, names: str) -> Callable[[int], object]:
    """Flags: a list of those that are set; bits that have no name here stay a number."""
    words = _numbered(prefix, names)

    def listed(flags: int) -> list[object]:
        known = sum(words)
        rest = [flags & ~known] if flags & ~known else []
        return [*(word for flag, word in words.items() if flags & flag), *rest]

    return listed


_FIELDS: Mapping[tuple[type, str], Callable[[int], object]] = {
    (ParamListing, "kind"): _one_of("PARAM", "ARGUMENT SELECTED LAUNCH"),
    (ParamListing, "flags"): _all_of("PARAM", "CONST NULLABLE KEY KEY_EXACT"),
    (ParamListing, "direction"): _one_of("DIRECTION", "UNKNOWN IN OUT INOUT"),
    (RequirementListing, "kind"): _one_of("REQUIRE", "DIVISIBLE EQUAL NULL EXTENT_BELOW"),
    (TargetListing, "vendor"): _one_of("VENDOR", "CUDA HIP"),
    (TargetListing, "kind"): _one_of("IMAGE", "CUBIN PTX HSACO"),
    (TargetListing, "reach"): _one_of("REACH", "EXACT FAMILY MAJOR FORWARD"),
    (SlotListing, "source"): _one_of(
        "SLOT",
        "ARGUMENT GLOBAL_SCRATCH PROFILE_SCRATCH DESC_MAP DESC_BASE DESC_SHAPE DESC_STRIDE DESC_NAN_PADDING "
        "DESC_ROUND_TF32",
    ),
    (TensordescListing, "flags"): _all_of("DESC", "FP4_PADDED IM2COL"),
    (ImageListing, "codec"): _one_of("CODEC", "RAW ZSTD"),
    (ImageListing, "flags"): _all_of(
        "IMAGE", "COOPERATIVE PDL GRID_TIMES_CLUSTER NONPORTABLE_CLUSTER SCRATCH_PER_CTA"
    ),
    (ConstexprListing, "role"): _one_of("CONSTEXPR", "FIXED SELECTED TUNED"),
}


def in_words(value: Any) -> Any:
    """A listing as JSON has it: dataclasses as objects, hashes and programs in hex, image bytes left out."""
    if isinstance(value, Dtype):
        return {"dtype": type_name(value.code)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        each = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _field(type(value), name, v) for name, v in each if not isinstance(v, memoryview)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [in_words(item) for item in value]
    return value


def _field(listing: type, name: str, value: Any) -> Any:
    if name in ("hash", "key", "signature") or (listing is TunedListing and name == "variant"):
        return f"{value:016x}"  # jq counts in doubles
    if name == "type":
        return type_name(value)
    if name == "types":
        return [type_name(code) for code in value]
    word = _FIELDS.get((listing, name))
    return in_words(value) if word is None else word(value)
