"""`kpack join`: several archives of one pack, made one."""

from __future__ import annotations

from pathlib import Path

import click

from kpack.cli.output import check_output
from kpack.cli.teach import command

__all__ = ["join"]


@command(
    "join",
    short="Make one archive of several of one pack.",
    examples="""
        kpack build softmax.py --arch sm_90 --name tk -o softmax.a    # file by file, as build systems do
        kpack build norms.py --arch sm_90 --name tk -o norms.a
        kpack join softmax.a norms.a -o libtk.a
        kpack join parts/softmax.a parts/norms.a -o libtk.a
    """,
)
@click.argument("archives", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="The archive, for example libtk.a.")
@click.option(
    "--tuned",
    "tables",
    multiple=True,
    type=click.Path(),
    help="A tuning table that is baked in: warns of what is of no kernel of these archives; repeatable.",
)
def join(archives: tuple[str, ...], output: str, tables: tuple[str, ...]) -> None:
    """Make one archive of several of one pack: what was built file by file, with the same --name, as if at once."""
    from kpack.join import join as join_archives

    check_output(Path(output))
    join_archives(archives, output, tables)
