"""Archives to draw: many kernels with made-up code of different sizes, and names as hostile as a file can have them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from packs import DType, image, plan, variant

from kpack.errors import Failure
from kpack.objfile import abi
from kpack.objfile.archive import write_archive
from kpack.objfile.encode import encode_index, encode_kernel
from kpack.target import parse_targets

TARGETS = ("gfx90a", "sm_80", "sm_90", "ptx_80")
HOSTILE = (
    '"><img src=x onerror="window.hacked=1">',
    "</script><script>window.hacked=1</script>",
    "<!--<script>'`${window.hacked=1}",
    "@data@ &lt;b&gt; \\u003c",
    "left\u202eright\u0007\u2028end",
)


def write(
    path: Path,
    kernels: Iterable[str],
    variants: int | Sequence[str] = 4,
    *,
    targets: Sequence[str] = TARGETS,
    seed: int = 1,
    missing: Sequence[str] = (),
    **facts: str,
) -> Path:
    """Each kernel has these variants for these targets; `missing`: reasons, of as many images of each kernel, those of
    one target first."""
    known = parse_targets(targets)
    names = [f"fp16.BLOCK{64 << i}.w4" for i in range(variants)] if isinstance(variants, int) else variants
    members = []
    for kernel in kernels:
        numbers = random.Random(f"{kernel} {seed}")
        made = tuple(
            variant(name, (64 << at, DType("fp16"), 0.5, True, "fast"), targets=known)
            for at, name in enumerate(names)
        )
        of = plan(kernel, variants=made, overloads=plan().overloads[:1], **facts)
        base = int(numbers.lognormvariate(6, 1)) + 80
        images = {
            (at, target.name): image(
                target.name,
                numbers.randbytes(base + numbers.randrange(base)).replace(b"\0", b" ")
                + b"\0" * (target.kind == abi.IMAGE_PTX),
                entry=f"{kernel}_{at}",
                num_warps=1 << numbers.randrange(5),
                registers=numbers.randrange(16, 160),
                spill_bytes=numbers.choice([0, 0, 0, 24]),
                shared_bytes=numbers.choice([0, 1024, 32768]),
            )
            for at in range(len(names))
            for target in known
        }
        holes = []
        for reason, key in zip(missing, sorted(images, key=lambda key: key[1]), strict=False):
            del images[key]
            holes.append(Failure(kernel, names[key[0]], key[1], reason))
        members.append(encode_kernel("tk", of, images, holes, info="{}", host="x86_64"))
    write_archive(path, [*members, encode_index("tk", members, "x86_64")])
    return path


def single(path: Path, kernel: str, target: str = "sm_90", **facts: object) -> Path:
    """An archive of one kernel with one image of one variant, with these facts."""
    known = parse_targets((target,))
    made = (variant("fp16.BLOCK64.w4", (64, DType("fp16"), 0.5, True, "fast"), targets=known),)
    of = plan(kernel, variants=made, overloads=plan().overloads[:1])
    images = {(0, target): replace(image(target, b"code " * 40, entry=f"{kernel}_0"), **facts)}  # type: ignore[arg-type]
    members = [encode_kernel("tk", of, images, info="{}", host="x86_64")]
    write_archive(path, [*members, encode_index("tk", members, "x86_64")])
    return path
