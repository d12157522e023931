"""Images and provenance out of an archive or a linked program, as files: for disassemblers, profilers and people."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from kpack.errors import FormatError, PackError, SpecError
from kpack.objfile import abi
from kpack.objfile.listing import ImageListing, KernelListing, PackListing
from kpack.objfile.reading import read_packs

__all__ = ["Extracted", "extract"]

_SUFFIXES = {abi.IMAGE_CUBIN: "cubin", abi.IMAGE_PTX: "ptx", abi.IMAGE_HSACO: "hsaco"}
_INFO = "kpack.info.json"
# Names come from the file, and are no paths.
_ODD = re.compile(r"[^A-Za-z0-9_.:+-]")


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file that was written; of provenance, `variant` and `target` are "". `entry` is the device function."""

    path: Path
    kernel: str
    variant: str
    target: str
    entry: str
    bytes: int


def extract(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    patterns: Iterable[str] = (),
    *,
    info: bool = False,
    force: bool = False,
) -> tuple[Extracted, ...]:
    """Write the images of an archive, object or linked program into `folder`, which is made: each to a file named by
    kernel, variant and target ("softmax.fp16.BLOCK1024.w4.sm_90.cubin"), and say which.

    patterns  of what to write: "KERNEL", "KERNEL/VARIANT", "KERNEL/VARIANT@TARGET", "@TARGET", each part a shell
              pattern; none: everything
    info      write the provenance instead, of each kernel that a pattern names ("softmax.kpack.info.json")
    force     replace what is there

    All files are written apart first, and then take their places. Raises FormatError for a damaged file, and where
    there is nothing that a pattern names; SpecError for a pattern; PackError where files are in the way, or cannot be
    written.
    """
    packs, name = read_packs(path), os.fspath(path)
    given = tuple(patterns)
    wanted = [_Pattern(pattern) for pattern in given] or [_Pattern("*")]
    found = dict(_provenance(packs, wanted) if info else _images(packs, wanted))
    _expect_all(name, packs, wanted, info)
    if not found:
        what = "provenance, which linking drops" if info else "an image"
        raise FormatError(f"{name}: expected {what}, got none for {', '.join(given) or 'any kernel'}")
    return _write(Path(folder), found, force)


class _Pattern:
    """KERNEL[/VARIANT][@TARGET], each part a shell pattern."""

    def __init__(self, text: str) -> None:
        before, at, target = text.partition("@")
        kernel, slash, variant = before.partition("/")
        if not text or (at and not target) or (slash and not variant):
            raise SpecError(
                f"pattern: expected KERNEL[/VARIANT][@TARGET], such as 'softmax/fp16.*@sm_90', got {text!r}"
            )
        self.text = text
        self.kernel, self.variant, self.target = kernel or "*", variant or "*", target or "*"

    def takes(self, kernel: str, variant: str | None = None, target: str | None = None) -> bool:
        return fnmatchcase(kernel, self.kernel) and (
            (variant is None or fnmatchcase(variant, self.variant))
            and (target is None or fnmatchcase(target, self.target))
        )


def _each(packs: Iterable[PackListing]) -> Iterator[tuple[KernelListing, str, ImageListing]]:
    """All images, with kernel and the variant's name."""
    for pack in packs:
        for kernel in pack.kernels:
            for variant in kernel.variants:
                yield from ((kernel, variant.name, image) for image in kernel.images_of(variant))


def _expect_all(name: str, packs: Sequence[PackListing], wanted: Iterable[_Pattern], info: bool) -> None:
    """A pattern that names nothing is a mistake, also beside others that do."""
    kernels = [kernel for pack in packs for kernel in pack.kernels]
    images = [
        (kernel.name, variant, kernel.targets[image.target].name) for kernel, variant, image in _each(packs)
    ]
    for pattern in wanted:
        if info and any(pattern.takes(kernel.name) for kernel in kernels):
            continue
        if info or not any(pattern.takes(*each) for each in images):
            names = ", ".join(dict.fromkeys(kernel.name for kernel in kernels))
            targets = ", ".join(dict.fromkeys(target for _, _, target in images))
            raise FormatError(
                f"{name}: expected an image that {pattern.text!r} names, got none among kernels "
                f"{names or '(none)'} for {targets or 'no target'}"
            )


Content = tuple[bytes | memoryview, str, str, str, str]  # and kernel, variant, target, entry


def _images(packs: Sequence[PackListing], wanted: Sequence[_Pattern]) -> Iterator[tuple[str, Content]]:
    namer = _Namer(packs)
    for kernel, variant, image in _each(packs):
        target = kernel.targets[image.target]
        if not any(pattern.takes(kernel.name, variant, target.name) for pattern in wanted):
            continue
        if image.codec != abi.CODEC_RAW:
            raise FormatError(f"image {image.symbol}: expected code as it is, got codec {image.codec}")
        # The NUL is the driver's, not the text's.
        code = image.stored[:-1] if target.kind == abi.IMAGE_PTX else image.stored
        file = namer.name(kernel, variant, target.name, _SUFFIXES.get(target.kind, "image"))
        yield file, (code, kernel.name, variant, target.name, image.entry)


def _provenance(packs: Sequence[PackListing], wanted: Sequence[_Pattern]) -> Iterator[tuple[str, Content]]:
    namer = _Namer(packs)
    for kernel in (kernel for pack in packs for kernel in pack.kernels if kernel.info):
        if any(pattern.takes(kernel.name) for pattern in wanted):
            yield namer.name(kernel, _INFO), (kernel.info.encode(), kernel.name, "", "", "")


class _Namer:
    """File names, each once; with the pack's in front where there are several."""

    def __init__(self, packs: Sequence[PackListing]) -> None:
        self._several = len(packs) > 1
        self._taken: set[str] = set()

    def name(self, kernel: KernelListing, *parts: str) -> str:
        words = (kernel.pack, kernel.name, *parts) if self._several else (kernel.name, *parts)
        *front, suffix = (_ODD.sub("_", word).lstrip(".") for word in words)
        plain = stem = ".".join(front)
        number = 1
        while f"{stem}.{suffix}" in self._taken:
            number += 1
            stem = f"{plain}.{number}"
        self._taken.add(f"{stem}.{suffix}")
        return f"{stem}.{suffix}"


def _write(folder: Path, found: dict[str, Content], force: bool) -> tuple[Extracted, ...]:
    """All of it apart, in the folder; then each to its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = [name for name in found if os.path.lexists(folder / name)]
        if there and not force:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise PackError(
                f"{folder / there[0]}{more}: expected nothing there, got a file; give --force to replace it"
            )
        apart = Path(tempfile.mkdtemp(prefix=".kpack-", dir=folder))
        try:
            for name, (content, *_) in found.items():
                (apart / name).write_bytes(content)
            for name in found:
                os.replace(apart / name, folder / name)
        finally:
            shutil.rmtree(apart, ignore_errors=True)
    except OSError as error:
        raise PackError(f"{folder}: expected a folder to write to, got {error.strerror}") from error
    return tuple(
        Extracted(folder / name, kernel, variant, target, entry, len(content))
        for name, (content, kernel, variant, target, entry) in found.items()
    )
