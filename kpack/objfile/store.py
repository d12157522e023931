"""What is packed: the variants that have images, and where each image lies in the section of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpack.errors import PackError
from kpack.naming import KernelName
from kpack.objfile import abi

if TYPE_CHECKING:
    from kpack.image import Image
    from kpack.spec import Plan, Variant

__all__ = ["Choice", "ImageStore", "choose", "store_images"]

# Bytes. hsaco: HIP reads the headers in place and documents no alignment, but clang's offload wrapper always
# gives 4096, so nothing else is tried in the field. cubin and PTX: the driver copies them; 64, a cache line,
# keeps the ELF's own tables aligned.
_IMAGE_ALIGN = {abi.IMAGE_HSACO: 4096, abi.IMAGE_CUBIN: 64, abi.IMAGE_PTX: 64}


@dataclass(frozen=True, slots=True)
class Choice:
    """A variant that goes in: its index in the plan, and its images in the order of its targets."""

    index: int
    variant: Variant
    images: tuple[Image, ...]


def choose(plan: Plan, images: Mapping[tuple[int, str], Image]) -> tuple[Choice, ...]:
    wanted = {(i, t.name) for i, variant in enumerate(plan.variants) for t in variant.targets}
    if unknown := sorted(set(images) - wanted):
        raise PackError(f"{plan.name}: expected images of the plan's variants and targets, got {unknown}")
    chosen = []
    for index, variant in enumerate(plan.variants):
        found = tuple(images[index, t.name] for t in variant.targets if (index, t.name) in images)
        if found:
            chosen.append(Choice(index, variant, found))
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class ImageStore:
    """The image section: its content, and where each image lies in it, by variant index and target name."""

    content: bytes
    align: int
    offsets: Mapping[tuple[int, str], int]


def store_images(kernel: KernelName, chosen: Sequence[Choice]) -> ImageStore:
    """Lay the images out one after another, equal ones once."""
    parts: list[bytes] = []
    end, offsets, seen = 0, {}, {}
    for choice in chosen:
        for image in choice.images:
            if not image.code:
                raise PackError(f"{kernel}.{choice.variant.name}: the image for {image.target.name} is empty")
            key = (image.target.kind, image.code)
            if key not in seen:
                padding = -end % _IMAGE_ALIGN[image.target.kind]
                parts += [bytes(padding), image.code]
                seen[key] = end + padding
                end += padding + len(image.code)
            offsets[choice.index, image.target.name] = seen[key]
    align = max((_IMAGE_ALIGN[image.target.kind] for choice in chosen for image in choice.images), default=1)
    return ImageStore(b"".join(parts), align, offsets)
