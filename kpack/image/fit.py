"""Whether any device of its target can launch an image: compilers accept more than devices do."""

from __future__ import annotations

from kpack.image.image import Image

__all__ = ["MAX_THREADS", "why_unfit"]

MAX_THREADS = 1024  # of a block, on every target


def why_unfit(image: Image) -> str:
    """Why no device of the image's target can launch it, or ""."""
    target = image.target
    threads = image.num_warps * image.warp_size
    if threads > MAX_THREADS:
        return (
            f"threads of a block: expected at most {MAX_THREADS}, "
            f"got {threads}: {image.num_warps} warps of {image.warp_size}; lower num_warps for {target.name}"
        )
    wanted = image.shared_bytes + image.static_shared_bytes
    if wanted > target.shared_bytes:
        return (
            f"shared memory of a block: expected at most {target.shared_bytes} bytes on {target.name}, "
            f"got {wanted}; use smaller blocks or fewer stages"
        )
    return ""
