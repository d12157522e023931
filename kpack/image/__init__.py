"""Images: compiled code and all that a launcher must know of it, read out of the code itself."""

from __future__ import annotations

from kpack.image.image import Compiled, Image, Slot, Tensordesc
from kpack.image.read import read_image

__all__ = ["Compiled", "Image", "Slot", "Tensordesc", "read_image"]
