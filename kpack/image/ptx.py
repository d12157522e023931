"""PTX: NVIDIA's assembly text, which the driver compiles. The entry's declaration says what a launch needs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from kpack.errors import FormatError
from kpack.image.facts import Facts, natural
from kpack.target import Target, cuda_target

__all__ = ["ptx_entries", "ptx_target", "read_ptx"]

# The driver that came with the first CUDA to know a PTX version; 7.5 and older do not occur.
_PTX_DRIVERS = {
    76: 11060,
    77: 11070,
    78: 11080,
    80: 12000,
    81: 12010,
    82: 12020,
    83: 12030,
    84: 12040,
    85: 12050,
    86: 12070,
    87: 12080,
    88: 12090,
}
_PTX_ENTRY = r"\.entry\s+{}\s*\((?P<params>[^()]*)\)(?P<directives>[^{{(]*)\{{"
_PTX_NAME = re.compile(r"\.entry\s+([\w$%]+)")
_PTX_TARGET = re.compile(r"^\.target\s+sm_([0-9]{2,3})([af]?)\b", re.MULTILINE)
_PTX_COMMENT = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_PTX_PARAM = re.compile(
    r"\.param\b(?P<attributes>[^,]*?)\s(?P<name>[\w$%]+)(?:\[(?P<count>\d+)\])?\s*(?:,|$)"
)
_PTX_TYPE = re.compile(r"\.[busf](8|16|32|64)\b")


def ptx_entries(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_PTX_NAME.findall(_PTX_COMMENT.sub(" ", text))))


def ptx_target(text: str) -> Target:
    """What PTX is for: "sm_90a" is for that arch alone, what has no suffix also for all that come later."""
    match = _PTX_TARGET.search(text)
    if match is None:
        raise FormatError(f"PTX: expected a line .target sm_..., got none in {text[:60]!r}")
    return cuda_target(int(match[1]), match[2], ptx=True)


def read_ptx(code: bytes, entry: str) -> Facts:
    if not code.endswith(b"\0"):
        raise FormatError(f"{entry}: expected PTX text with a NUL at its end, as drivers read it, got none")
    text = _PTX_COMMENT.sub(" ", code[:-1].decode(errors="replace"))
    version = re.search(r"^\.version\s+(\d+)\.(\d+)", text, re.MULTILINE)
    function = re.search(_PTX_ENTRY.format(re.escape(entry)), text)
    if version is None or function is None:
        raise FormatError(f"{entry}: expected PTX text with .version and this entry, got {text[:60]!r}")
    params = tuple(natural(_ptx_values(function["params"])))
    required = _directive("reqntid", function["directives"])
    allowed = required if required[0] else _directive("maxntid", function["directives"])
    number = 10 * int(version[1]) + int(version[2])
    return Facts(
        params=params,
        param_bytes=max((offset + size for offset, size in params), default=0),
        max_threads=math.prod(allowed),
        # From 9.0 on, PTX and CUDA are counted together: 9.1 came with CUDA 13.1.
        least_driver=_PTX_DRIVERS.get(number, 13000 + 10 * (number - 90) if number >= 90 else 0),
        ptx_version=number,
        block=required,
        cluster=_directive("reqnctapercluster", function["directives"]),
        target=ptx_target(text),
    )


def _ptx_values(params: str) -> Iterator[tuple[int, int]]:
    """Size and alignment of each parameter, bytes; LLVM writes a half as two aligned bytes."""
    for match in _PTX_PARAM.finditer(params.strip()):
        type_ = _PTX_TYPE.search(match["attributes"])
        align = re.search(r"\.align (\d+)", match["attributes"]) if match["count"] else None
        if type_ is None:
            raise FormatError(f"PTX parameter: expected a type of known size, got {match[0].strip()!r}")
        size = int(type_[1]) // 8
        yield size * int(match["count"] or 1), int(align[1]) if align else size


def _directive(name: str, directives: str) -> tuple[int, int, int]:
    """The numbers of a directive, which may be one to three; zeros without it."""
    match = re.search(rf"\.{name}\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", directives)
    return (int(match[1]), int(match[2] or 1), int(match[3] or 1)) if match else (0, 0, 0)
