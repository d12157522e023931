"""Treemaps: sizes as areas. Squarified (Bruls, Huizing and van Wijk, 2000): each row of rectangles goes along the
shorter side of what is left, and takes one more as long as that makes its worst rectangle squarer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Box", "squarify"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in the unit of the box that it was laid out in."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        return self.width * self.height


def squarify(sizes: Sequence[int], within: Box) -> tuple[Box, ...]:
    """A box for each size, in the order of `sizes`, with its share of the area; one of no area for size 0."""
    boxes = [Box(within.x, within.y, 0, 0)] * len(sizes)
    order = sorted((at for at, size in enumerate(sizes) if size > 0), key=lambda at: -sizes[at])
    left, total = within, sum(sizes[at] for at in order)
    while order and total:
        row = _row([sizes[at] for at in order], left, left.area / total)
        taken, order = order[: len(row)], order[len(row) :]
        placed, left = _place([sizes[at] for at in taken], total, left)
        for at, box in zip(taken, placed, strict=True):
            boxes[at] = box
        total -= sum(sizes[at] for at in taken)
    return tuple(boxes)


def _row(sizes: Sequence[int], left: Box, scale: float) -> Sequence[int]:
    """The first of these sizes that make the best row. They come largest first."""
    side = min(left.width, left.height)
    total, worst = 0.0, float("inf")
    for count, size in enumerate(sizes):
        total += size
        now = _worst(sizes[0] * scale, size * scale, total * scale, side)
        if now > worst:
            return sizes[:count]
        worst = now
    return sizes


def _worst(largest: float, smallest: float, total: float, side: float) -> float:
    """How far from a square the least square one is, in a row of these areas along `side`."""
    if not side or not total:
        return float("inf")
    return max(side * side * largest / (total * total), total * total / (side * side * smallest))


def _place(row: Sequence[int], total: int, left: Box) -> tuple[list[Box], Box]:
    """The boxes of a row, which takes its share of `left`, and what is left after it."""
    share, placed, along = sum(row) / total, [], 0.0
    if left.width >= left.height:
        depth = left.width * share
        for size in row:
            length = left.height * size / sum(row)
            placed.append(Box(left.x, left.y + along, depth, length))
            along += length
        return placed, Box(left.x + depth, left.y, left.width - depth, left.height)
    depth = left.height * share
    for size in row:
        length = left.width * size / sum(row)
        placed.append(Box(left.x + along, left.y, length, depth))
        along += length
    return placed, Box(left.x, left.y + depth, left.width, left.height - depth)
