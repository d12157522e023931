"""`kpack extract`: images and provenance as files."""

from __future__ import annotations

import dataclasses

import click

from kpack.cli.completing import patterns as complete_patterns
from kpack.cli.show import count, print_json, size
from kpack.cli.teach import command

__all__ = ["extract"]


@command(
    "extract",
    short="Write images out as cubin, hsaco and PTX files.",
    examples="""
        kpack extract libtk.a -o out                          # every image
        kpack extract libtk.a 'softmax/fp16.*@sm_90' -o out   # of one kernel, type and target
        kpack extract app '*@gfx90a' -o out                   # of a linked program
        kpack extract libtk.a softmax --info -o out           # what it was made of and by
    """,
)
@click.argument("file", type=click.Path())
@click.argument(
    "patterns",
    nargs=-1,
    metavar="[KERNEL[/VARIANT][@TARGET]]...",
    shell_complete=complete_patterns,
)
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False), help="A folder, which is made."
)
@click.option("--info", is_flag=True, help="The provenance of kernels, as JSON, instead of images.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="What was written, for jq.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def extract(
    file: str, patterns: tuple[str, ...], output: str, info: bool, force: bool, as_json: bool, quiet: bool
) -> None:
    """Write the images of FILE, an archive, an object or a linked program, for disassemblers and profilers.

    Each part of a pattern is a shell's: quote it. Files are named KERNEL.VARIANT.TARGET.cubin, .hsaco or .ptx. What was
    packed is what is written, byte by byte (but for the NUL that ends PTX); a damaged file is refused.
    """
    from kpack.extract import extract as extract_files

    written = extract_files(file, output, patterns, info=info, force=force)
    if as_json:
        print_json([{**dataclasses.asdict(each), "path": str(each.path)} for each in written])
    elif not quiet:
        for each in written:
            click.echo(f"{each.path}")
        click.echo(f"{count(len(written), 'file')}, {size(sum(each.bytes for each in written))}")
