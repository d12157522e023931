"""`kpack report`: an archive as a page."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kpack.cli.teach import command
from kpack.errors import PackError

__all__ = ["report"]


@command(
    "report",
    short="Draw an archive as one page for a browser.",
    examples="""
        kpack report libtk.a -o report.html
        kpack report libtk.a libtk-before.a -o report.html          # and what has changed
        kpack report libtk.a --tuned tk.csv --trials trials.json -o report.html
    """,
)
@click.argument("archive", type=click.Path())
@click.argument("before", required=False, type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="The page, for example report.html.")
@click.option("--tuned", multiple=True, type=click.Path(), help="A tuning table to show; repeatable.")
@click.option(
    "--trials",
    multiple=True,
    type=click.Path(),
    help="What kpack tune --json wrote: the times of everything; repeatable.",
)
def report(
    archive: str, before: str | None, output: str, tuned: tuple[str, ...], trials: tuple[str, ...]
) -> None:
    """Draw ARCHIVE as one page for a browser: sizes, registers, spills, occupancy, and what tuning found.

    With BEFORE, an older archive, the page also says what has changed since. It is one file, which needs no network.
    """
    from kpack.report.write import write_report

    for source in filter(None, (archive, before, *tuned, *trials)):
        if os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
            raise PackError(
                f"{output}: expected a file to write the page to, got one that it is made from; give another -o"
            )
    write_report(archive, output, before=before, tuned=tuned, trials=trials)
    click.echo(f"{output}: {Path(output).stat().st_size:,} bytes")
