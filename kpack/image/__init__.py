"""Images: compiled code and all that a launcher must know of it, read out of the code itself."""

from __future__ import annotations

from kpack.image.facts import Facts
from kpack.image.fit import why_unfit
from kpack.image.identify import Contents, identify
from kpack.image.image import Compiled, Image, Slot, Tensordesc
from kpack.image.read import read_facts, read_image, serves

__all__ = [
    "Compiled",
    "Contents",
    "Facts",
    "Image",
    "Slot",
    "Tensordesc",
    "identify",
    "read_facts",
    "read_image",
    "serves",
    "why_unfit",
]
