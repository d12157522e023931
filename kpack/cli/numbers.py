"""Numbers on the command line."""

from __future__ import annotations

import contextlib
import math

import click

__all__ = ["jobs", "seconds"]


def jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"expected 1 or more, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)) and value > 0:
            return value
    raise click.BadParameter(f"expected more than 0 seconds, got {text!r}")
