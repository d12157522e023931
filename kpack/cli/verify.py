"""`kpack verify`: is a file whole, and up to date?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kpack.cli.show import console, count, images_in, plain, print_json
from kpack.cli.teach import command

if TYPE_CHECKING:
    from kpack.objfile.listing import PackListing
    from kpack.verify import Verified

__all__ = ["verify"]


@command(
    "verify",
    short="Check that archives and programs are whole, and up to date.",
    examples="""
        kpack verify libtk.a                        # after a download, before an upload
        kpack verify libtk.a app plugin.so          # what was linked, too
        kpack verify libtk.a --against kernels/     # 1 if a kernel has changed since
        kpack verify --json libtk.a | jq '.[].problems'
    """,
)
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(),
    help="Kernel files or folders that it was built of; repeatable. Nothing is compiled.",
)
@click.option("--json", "as_json", is_flag=True, help="What was found in each file, for jq.")
def verify(files: tuple[str, ...], against: tuple[str, ...], as_json: bool) -> int:
    """Check each FILE: an archive, an object, or a program or shared object that archives were linked into.

    Every reference is followed, every expression read, every hash computed again, and every image asked what it takes.
    With --against, variants are compared with what the sources would give now: source, constants, options, compiler,
    guards, grids, parameters. Exit status: 1 if anything is wrong or stale.
    """
    from kpack.verify import verify as verify_file

    found = [verify_file(file, list(against) or None) for file in files]
    if as_json:
        print_json([_in_words(each) for each in found])
    else:
        for each in found:
            _show(each)
    return 0 if all(each.ok for each in found) else 1


def _in_words(found: Verified) -> dict[str, Any]:
    return {
        "file": found.file,
        "ok": found.ok,
        "packs": [
            {
                "name": pack.name,
                "host": pack.host,
                "kernels": [kernel.name for kernel in pack.kernels],
                "images": _images(pack),
            }
            for pack in found.packs
        ],
        "problems": list(found.problems),
        "stale": list(found.stale),
    }


def _images(pack: PackListing) -> int:
    return sum(len(kernel.images) for kernel in pack.kernels)


def _show(found: Verified) -> None:
    screen = console()
    packs = "; ".join(
        f"pack {pack.name}, {count(len(pack.kernels), 'kernel')}, {images_in(_images(pack))}"
        for pack in found.packs
    )
    verdict = "[red]damaged[/]" if found.problems else "[yellow]stale[/]" if found.stale else "[green]ok[/]"
    screen.print(f"{plain(found.file)}: {verdict}{f'  {plain(packs)}' if packs else ''}", soft_wrap=True)
    for colour, lines in (("red", found.problems), ("yellow", found.stale)):
        for line in lines:
            screen.print(f"  [{colour}]{plain(line)}[/]", soft_wrap=True)
