"""What a page shows of an archive, as its script reads it: plain values, columns where there are many rows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from kpack.errors import FormatError, TargetError
from kpack.image.hsaco import read_hsaco
from kpack.objfile import abi
from kpack.objfile.listing import ImageListing, KernelListing, PackListing
from kpack.report.compare import Change
from kpack.report.occupancy import Needs, Occupancy, occupancy_of
from kpack.report.treemap import Box, squarify
from kpack.report.tuning import TuningResults

__all__ = ["content"]

_CANVAS = Box(0, 0, 1000, 440)  # of a treemap; its page keeps the proportions, or stretches both ways alike
_UNIT = 100_000  # coordinates are whole numbers of this part of a side


def content(
    file: str, file_bytes: int, pack: PackListing, tuning: TuningResults, changes: Sequence[Change] | None
) -> dict[str, Any]:
    """`changes`: None where nothing was compared."""
    targets = list(dict.fromkeys(target.name for kernel in pack.kernels for target in kernel.targets))
    images = _Images(targets)
    for number, kernel in enumerate(pack.kernels):
        images.add(number, kernel)
    values = {
        "file": file,
        "bytes": file_bytes,
        "pack": {"name": pack.name, "host": pack.host},
        "targets": targets,
        "kernels": [
            {
                "name": kernel.name,
                "source": kernel.source,
                "guard": kernel.guard_text,
                "grid": kernel.grid_text,
                "variants": [variant.name for variant in kernel.variants],
                "images": len(kernel.images),
            }
            for kernel in pack.kernels
        ],
        "images": images.columns,
        "texts": list(images.texts),
        "overview": _overview(images.columns),
        "closeups": [_closeup(images.columns, number) for number in range(len(pack.kernels))],
        "missing": [
            [number, hole.name, targets.index(kernel.targets[hole.target].name), hole.reason]
            for number, kernel in enumerate(pack.kernels)
            for hole in kernel.holes
        ],
        "maps": [_fields(each, "kind kernel device group rows columns cells") for each in tuning.maps],
        "remarks": list(tuning.remarks),
        "changes": None if changes is None else _changes(changes),
    }
    return {key: _printable(each) for key, each in values.items()}


def _fields(value: Any, names: str) -> dict[str, Any]:
    return {
        name: [list(astuple(cell)) for cell in value.cells] if name == "cells" else getattr(value, name)
        for name in names.split()
    }


_HASH_DIGITS = 8  # of 16: enough for people


def _changes(changes: Iterable[Change]) -> dict[str, Any]:
    """Rows as astuple() has them, whose texts are numbers in `words`: of many changes most say the same."""
    words: dict[str, int] = {}

    def short(value: Any) -> Any:
        return [words.setdefault(value, len(words))] if isinstance(value, str) else value

    def fact(name: str, before: Any, after: Any) -> list[Any]:
        if name == "hash":
            before, after = (value and value[:_HASH_DIGITS] for value in (before, after))
        return [short(name), short(before), short(after)]

    rows = []
    for change in changes:
        kind, kernel, variant, target, before, after, facts = astuple(change)
        texts = [short(each) for each in (kind, kernel, variant, target)]
        rows.append([*texts, before, after, [fact(*each) for each in facts]])
    return {"words": list(words), "rows": rows}


def _printable(value: Any) -> Any:
    """What cannot be seen, or changes how what is beside it looks, as an escape: texts come from files."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in value
        )
    if isinstance(value, dict):
        return {key: _printable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(each) for each in value]
    return value


# ---- images


_COLUMNS = "kernel variant target bytes stored warps registers spills shared occupancy blocks most why"


class _Images:
    """The images of all kernels in columns; texts that many have are kept once."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS.split()}
        self.texts: dict[str, int] = {}
        self._targets = {name: number for number, name in enumerate(targets)}

    def add(self, number: int, kernel: KernelListing) -> None:
        seen: set[int] = set()
        for at, variant in enumerate(kernel.variants):
            for image in kernel.images_of(variant):
                target = kernel.targets[image.target]
                is_ptx = target.kind == abi.IMAGE_PTX
                found = _occupancy(target.name, image)
                full = found if isinstance(found, Occupancy) else None
                self._row(
                    kernel=number,
                    variant=at,
                    target=self._targets[target.name],
                    bytes=image.raw_bytes,
                    # Code that several images have is in the archive once.
                    stored=0 if image.hash in seen else image.stored_bytes,
                    warps=image.num_warps,
                    registers=None if is_ptx else image.registers,
                    spills=None if is_ptx else image.spill_bytes,
                    shared=image.shared_bytes + image.static_shared_bytes,
                    occupancy=round(1000 * full.share) if full else None,
                    blocks=full.blocks if full else None,
                    most=full.most_warps if full else None,
                    why=self._text(found.limit if isinstance(found, Occupancy) else found),
                )
                seen.add(image.hash)

    def _row(self, **values: Any) -> None:
        for name, value in values.items():
            self.columns[name].append(value)

    def _text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))


def _occupancy(target: str, image: ImageListing) -> Occupancy | str:
    scalars, cu_mode = 0, False
    if target.startswith("gfx"):
        # What the archive does not say of AMD's code, the code does.
        if image.codec != abi.CODEC_RAW:
            return "code compressed"
        try:
            facts = read_hsaco(image.code, image.entry)
        except FormatError:
            return "code not readable"
        scalars, cu_mode = facts.scalar_registers, facts.cu_mode
    shared = image.shared_bytes + image.static_shared_bytes
    needs = Needs(image.num_warps, image.registers, shared, image.warp_size, scalars, cu_mode)
    try:
        return occupancy_of(target, needs)
    except TargetError:
        return "limits not known"


# ---- treemaps


def _overview(images: Mapping[str, Sequence[Any]]) -> list[list[int]]:
    """The frame of each kernel, then the boxes of targets in it: x, y, width, height, kernel, target (-1: frame)."""
    sizes: dict[int, dict[int, int]] = {}
    for kernel, target, stored in zip(images["kernel"], images["target"], images["stored"], strict=True):
        of_kernel = sizes.setdefault(kernel, {})
        of_kernel[target] = of_kernel.get(target, 0) + stored
    boxes: list[list[int]] = []
    frames = squarify([sum(of.values()) for of in sizes.values()], _CANVAS)
    for (kernel, of_kernel), frame in zip(sizes.items(), frames, strict=True):
        if frame.area:
            boxes.append([*_scaled(frame), kernel, -1])
            inside = squarify(list(of_kernel.values()), frame)
            boxes += (
                [*_scaled(box), kernel, target]
                for target, box in zip(of_kernel, inside, strict=True)
                if box.area
            )
    return boxes


def _closeup(images: Mapping[str, Sequence[Any]], kernel: int) -> list[list[int]]:
    """The boxes of one kernel's images, those of a target together: x, y, width, height, number of the image."""
    by_target: dict[int, list[int]] = {}
    first = bisect_left(images["kernel"], kernel)  # rows go kernel by kernel
    for at in range(first, bisect_right(images["kernel"], kernel)):
        by_target.setdefault(images["target"][at], []).append(at)
    sizes = [sum(images["stored"][at] for at in numbers) for numbers in by_target.values()]
    boxes: list[list[int]] = []
    for numbers, frame in zip(by_target.values(), squarify(sizes, _CANVAS), strict=True):
        inside = squarify([images["stored"][at] for at in numbers], frame)
        boxes += ([*_scaled(box), at] for at, box in zip(numbers, inside, strict=True) if box.area)
    return boxes


def _scaled(box: Box) -> Iterable[int]:
    """Edges are rounded, so that boxes that touch still do."""
    left, right = (round(_UNIT * x / _CANVAS.width) for x in (box.x, box.x + box.width))
    top, bottom = (round(_UNIT * y / _CANVAS.height) for y in (box.y, box.y + box.height))
    return left, top, right - left, bottom - top
