"""What commands print alike: tables, sizes, counts."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

__all__ = ["console", "images_in", "size", "table"]

UNLIMITED_COLUMNS = 10_000  # where no terminal sets a width, nothing is cut or wrapped


def console() -> Console:
    """Of standard output."""
    return Console(width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)


def table(*columns: str) -> Table:
    made = Table(box=None, padding=(0, 1, 0, 2), header_style="dim")
    for column in columns:
        left = column in ("variant", "target", "outcome")
        made.add_column(column, justify="left" if left else "right")
    return made


def size(count: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def images_in(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"
