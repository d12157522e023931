"""What commands print alike: tables, JSON, sizes, counts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "count", "images_in", "plain", "print_json", "size", "table"]

UNLIMITED_COLUMNS = 10_000  # where no terminal sets a width, nothing is cut or wrapped


def console() -> Console:
    """Of standard output: with colours on a terminal, as NO_COLOR and TERM allow."""
    from rich.console import Console  # here: help, completion and JSON go without

    return Console(width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)


def table(*columns: str) -> Table:
    from rich.table import Table

    made = Table(box=None, padding=(0, 1, 0, 2), header_style="dim")
    for column in columns:
        left = column in ("variant", "target", "outcome")
        made.add_column(column, justify="left" if left else "right")
    return made


def plain(text: str) -> str:
    """Text of a file for `console`: no markup, and nothing that would steer a terminal."""
    from rich.markup import escape

    return escape("".join(letter if letter.isprintable() else "?" for letter in text))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))


def size(count: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def count(number: int, what: str) -> str:
    """ "1 kernel", "2 kernels" """
    return f"{number} {what}{'' if number == 1 else 's'}"


def images_in(number: int) -> str:
    return count(number, "image")
