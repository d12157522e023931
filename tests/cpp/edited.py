"""Writes the pack `edited`: `edited.py HOST ARCHIVE`. Kernels whose images say more than their code asks for.

What the runtime does about scratch memory is the image's word alone, and compilers say some of it only in rare
builds (profiling), or for targets that are rare. The code of these kernels takes the pointers and ignores them.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import triton
import triton.language as tl

import kpack
from kpack.build import Pack
from kpack.image import Image
from kpack.objfile import abi

CUDA = ["sm_80", "sm_90"]
HIP = ["gfx90a", "gfx1100", "gfx1250"]


@triton.jit
def number_kernel(out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, at, mask=at < n)


def kernel(name: str, **options: object) -> kpack.Kernel:
    """Launched with its grid: out_ptr, n, x, y, z. Options for the targets that have clusters."""
    return kpack.Kernel(
        number_kernel,
        name=name,
        signature={"out_ptr": "*i32", "n": "i32"},
        configs=lambda target: [
            {"BLOCK": 256, "num_warps": 4, **(options if target.name in ("sm_90", "gfx1250") else {})}
        ],
        grid=lambda x, y, z: (x, y, z),
    )


def marked_as_cluster(image: Image) -> Image:
    """Where the compiler makes none: the image of a device that has no clusters says that it has one."""
    if image.target.name in ("sm_90", "gfx1250"):
        return image
    return replace(image, cluster=(2, 1, 1), flags=image.flags | abi.IMAGE_GRID_TIMES_CLUSTER)


EDITS: Mapping[str, Callable[[Image], Image]] = {
    "profiled": lambda image: replace(image, profile_scratch_bytes=64, profile_scratch_align=512),
    "both": lambda image: replace(
        image,
        global_scratch_bytes=48,
        global_scratch_align=1024,
        profile_scratch_bytes=40,
        profile_scratch_align=8,
    ),
    # An alignment that is no power of two is no compiler's, but nothing forbids it.
    "odd": lambda image: replace(image, global_scratch_bytes=100, global_scratch_align=96),
    "wide": lambda image: replace(image, global_scratch_bytes=128, global_scratch_align=128),
    "marked": marked_as_cluster,
    "huge": lambda image: replace(image, global_scratch_bytes=2**32 - 1),
    "orphan": lambda image: replace(
        image,
        profile_scratch_bytes=64,
        layout=tuple(slot for slot in image.layout if slot.source != abi.SLOT_PROFILE_SCRATCH),
    ),
    "together": lambda image: replace(image, flags=image.flags | abi.IMAGE_COOPERATIVE),
    "team": lambda image: replace(image, flags=image.flags | abi.IMAGE_COOPERATIVE),
    "dependent_too": lambda image: replace(image, flags=image.flags | abi.IMAGE_PDL),
}
CLUSTERED = ("wide", "marked", "team")


def edited(pack: Pack) -> Pack:
    return replace(
        pack,
        parts=tuple(
            replace(
                part,
                images=tuple((variant, EDITS[part.plan.name](image)) for variant, image in part.images),
            )
            for part in pack.parts
        ),
    )


if __name__ == "__main__":
    kernels = [kernel(name, **({"num_ctas": 2} if name in CLUSTERED else {})) for name in EDITS]
    built = kpack.build(kernels, arch=[*CUDA, *HIP], name="edited", host=sys.argv[1], progress=False)
    edited(built).write(sys.argv[2])
