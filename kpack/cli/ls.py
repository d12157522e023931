"""`kpack ls`: what is in an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kpack.cli.show import console, count, images_in, plain, print_json, size, table
from kpack.cli.teach import command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kpack.objfile.listing import ImageListing, KernelListing, PackListing

__all__ = ["list_archive"]


@command(
    "ls",
    short="Show what is in an archive or a program.",
    examples="""
        kpack ls libtk.a                # a line an image: bytes, registers, spills, shared memory
        kpack ls --summary libtk.a      # a line a target
        kpack ls app                    # what a program was linked with
        kpack ls --json libtk.a | jq '.kernels[].variants[].name'
    """,
)
@click.argument("archive", type=click.Path(), metavar="FILE")
@click.option("--summary", is_flag=True, help="One line a kernel and target instead of one an image.")
@click.option("--json", "as_json", is_flag=True, help="Every fact of the archive, for jq.")
def list_archive(archive: str, summary: bool, as_json: bool) -> None:
    """Show what is in FILE: kernels, variants, targets, sizes, registers, spills, shared memory.

    FILE is an archive, a kernel's object, or a program or shared object that archives were linked into. JSON is one
    object a pack, one after the other, of which an archive has one.
    """
    from kpack.objfile.reading import read_packs
    from kpack.objfile.words import in_words

    packs = read_packs(archive)
    if as_json:
        for pack in packs:
            print_json(in_words(pack))
        return
    screen = console()
    for number, pack in enumerate(packs):
        if number:
            screen.print()
        _show(screen, pack, summary, Path(archive).stat().st_size)


def _show(screen: Console, pack: PackListing, summary: bool, file_bytes: int) -> None:
    images = sum(len(kernel.images) for kernel in pack.kernels)
    missing = sum(len(kernel.holes) for kernel in pack.kernels)
    screen.print(
        f"pack [bold]{plain(pack.name)}[/]: {count(len(pack.kernels), 'kernel')}, {images_in(images)}"
        f"{f' ([red]{missing} missing[/])' if missing else ''}, host {pack.host}, {size(file_bytes)}"
    )
    for kernel in pack.kernels:
        screen.print(
            f"\n[bold]{plain(kernel.name)}[/]({plain(_call(kernel))})  [dim]{plain(kernel.source)}[/]"
        )
        for label, text in (("guard", kernel.guard_text), ("grid", kernel.grid_text)):
            if text:
                screen.print(f"  {label} {plain(text)}")
        if kernel.tuning:
            screen.print(f"  tuned for {len(kernel.tuning.entries)} keys")
        if kernel.images:
            screen.print(_summary(kernel) if summary else _images(kernel))
        for line in _missing(kernel) if summary else _holes(kernel):
            screen.print(f"  [red]missing[/] {plain(line)}")


def _holes(kernel: KernelListing) -> Iterator[str]:
    for hole in kernel.holes:
        yield f"{hole.name} for {kernel.targets[hole.target].name}: {hole.reason}"


def _missing(kernel: KernelListing) -> Iterator[str]:
    """A line a target: how many variants, and the first one's reason."""
    for number, target in enumerate(kernel.targets):
        if holes := [hole for hole in kernel.holes if hole.target == number]:
            yield (
                f"{count(len(holes), 'variant')} for {target.name}: "
                f"{holes[0].name}: {holes[0].reason}{', ...' if len(holes) > 1 else ''}"
            )


def _images(kernel: KernelListing) -> Table:
    made = table("variant", "target", "bytes", "warps", "registers", "spills", "shared")
    for variant in kernel.variants:
        for image in kernel.images_of(variant):
            made.add_row(
                plain(variant.name),
                plain(kernel.targets[image.target].name),
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
                plain(target.name),
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
