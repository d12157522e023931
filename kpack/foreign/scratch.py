"""The pointers to scratch memory at the end of Triton's parameters, as the user of ready-made code declares them."""

from __future__ import annotations

from collections.abc import Mapping

from kpack.objfile import abi

__all__ = ["Scratch", "scratch_mistakes", "scratch_sizes", "scratch_slots"]

Scratch = int | tuple[int, int]
"""bytes for each block, or a pair of these and their alignment"""

_SLOTS = {"global": abi.SLOT_GLOBAL_SCRATCH, "profile": abi.SLOT_PROFILE_SCRATCH}
_ALIGN = 128  # bytes; the most that Triton asks for


def scratch_slots(given: Mapping[str, Scratch]) -> tuple[int, ...]:
    """The slots that follow the arguments, in Triton's order."""
    return tuple(slot for name, slot in _SLOTS.items() if name in given)


def scratch_sizes(given: Mapping[str, Scratch], name: str) -> tuple[int, int]:
    """Bytes for each block that a launch brings, and their alignment."""
    return _pair(given.get(name, (0, 1)))


def scratch_mistakes(given: object) -> list[str]:
    if not isinstance(given, Mapping):
        return [f"scratch: expected a dict of bytes, got {given!r}"]
    mistakes = [
        f"scratch: expected one of {' '.join(_SLOTS)}, got {name!r}" for name in given if name not in _SLOTS
    ]
    for name, value in given.items():
        pair = _pair(value)
        whole = len(pair) == 2 and all(type(each) is int for each in pair)
        if not whole or pair[0] < 0 or pair[1] < 1 or pair[1] & (pair[1] - 1):
            mistakes.append(
                f"scratch {name!r}: expected bytes, or a pair of bytes and alignment, got {value!r}"
            )
    return mistakes


def _pair(value: Scratch) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, _ALIGN)
