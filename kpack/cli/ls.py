"""`kpack ls`: what is in an archive."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from kpack.cli.show import console, images_in, size, table

if TYPE_CHECKING:
    from rich.table import Table

    from kpack.objfile.listing import ImageListing, KernelListing

__all__ = ["list_archive"]


@click.command(name="ls")
@click.argument("archive", type=click.Path())
@click.option("--summary", is_flag=True, help="One line a kernel and target instead of one an image.")
@click.option("--json", "as_json", is_flag=True, help="Every fact of the archive, for jq.")
def list_archive(archive: str, summary: bool, as_json: bool) -> None:
    """Show what is in ARCHIVE: kernels, variants, targets, sizes, registers, spills, shared memory."""
    from kpack.objfile.reading import read_pack
    from kpack.objfile.words import in_words

    pack = read_pack(archive)
    if as_json:
        click.echo(json.dumps(in_words(pack), indent=1))
        return
    screen = console()
    kernels, images = len(pack.kernels), sum(len(kernel.images) for kernel in pack.kernels)
    missing = sum(len(kernel.holes) for kernel in pack.kernels)
    screen.print(
        f"pack [bold]{pack.name}[/]: {kernels} kernel{'s' if kernels != 1 else ''}, {images_in(images)}"
        f"{f' ([red]{missing} missing[/])' if missing else ''}, "
        f"host {pack.host}, {size(Path(archive).stat().st_size)}"
    )
    for kernel in pack.kernels:
        screen.print(f"\n[bold]{kernel.name}[/]({escape(_call(kernel))})  [dim]{kernel.source}[/]")
        for label, text in (("guard", kernel.guard_text), ("grid", kernel.grid_text)):
            if text:
                screen.print(f"  {label} {escape(text)}")
        if kernel.tuning:
            screen.print(f"  tuned for {len(kernel.tuning.entries)} keys")
        if kernel.images:
            screen.print(_summary(kernel) if summary else _images(kernel))
        for line in _missing(kernel) if summary else _holes(kernel):
            screen.print(f"  [red]missing[/] {escape(line)}")


def _holes(kernel: KernelListing) -> Iterator[str]:
    for hole in kernel.holes:
        yield f"{hole.name} for {kernel.targets[hole.target].name}: {hole.reason}"


def _missing(kernel: KernelListing) -> Iterator[str]:
    """A line a target: how many variants, and the first one's reason."""
    for number, target in enumerate(kernel.targets):
        if holes := [hole for hole in kernel.holes if hole.target == number]:
            count = len(holes)
            yield (
                f"{count} variant{'s' if count != 1 else ''} for {target.name}: "
                f"{holes[0].name}: {holes[0].reason}{', ...' if count > 1 else ''}"
            )


def _images(kernel: KernelListing) -> Table:
    made = table("variant", "target", "bytes", "warps", "registers", "spills", "shared")
    for variant in kernel.variants:
        for image in kernel.images[variant.first_image : variant.first_image + variant.image_count]:
            made.add_row(
                variant.name,
                kernel.targets[image.target].name,
                f"{image.raw_bytes:,}",
                f"{image.num_warps}",
                "-" if _is_ptx(kernel, image) else f"{image.registers}",
                "-" if _is_ptx(kernel, image) else f"{image.spill_bytes}",
                f"{image.shared_bytes + image.static_shared_bytes:,}",
            )
    return made


def _summary(kernel: KernelListing) -> Table:
    made = table("target", "variants", "bytes", "registers", "spills", "shared")
    for index, target in enumerate(kernel.targets):
        images = [image for image in kernel.images if image.target == index]
        if images:
            made.add_row(
                target.name,
                f"{len(images)}",
                f"{sum(image.raw_bytes for image in images):,}",
                "-" if _is_ptx(kernel, images[0]) else _range(images, lambda image: image.registers),
                "-" if _is_ptx(kernel, images[0]) else _range(images, lambda image: image.spill_bytes),
                _range(images, lambda image: image.shared_bytes + image.static_shared_bytes),
            )
    return made


def _is_ptx(kernel: KernelListing, image: ImageListing) -> bool:
    """Whether only the driver will know what registers the code takes."""
    from kpack.objfile import abi

    return kernel.targets[image.target].kind == abi.IMAGE_PTX


def _range(images: Iterable[ImageListing], fact: Callable[[ImageListing], int]) -> str:
    values = [fact(image) for image in images]
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _call(kernel: KernelListing) -> str:
    """The parameters as a person reads them: "const *{fp16,fp32} in_ptr, i32 n, selected MODE, launch rows"."""
    from kpack.objfile import abi
    from kpack.objfile.words import type_name

    prefixes = {abi.PARAM_ARGUMENT: "", abi.PARAM_SELECTED: "selected ", abi.PARAM_LAUNCH: "launch "}
    shown = []
    for index, param in enumerate(kernel.params):
        text = prefixes[param.kind]
        if param.kind == abi.PARAM_ARGUMENT:
            codes = dict.fromkeys(overload.types[index] for overload in kernel.overloads)
            names = [type_name(code & ~abi.POINTER) for code in codes]
            text += "const " if param.flags & abi.PARAM_CONST else ""
            text += "*" if any(code & abi.POINTER for code in codes) else ""
            text += (names[0] if len(names) == 1 else "{" + ",".join(names) + "}") + " "
        shown.append(text + param.name)
    return ", ".join(shown)
