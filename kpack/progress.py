"""How a long build tells a person that it goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(title: str, total: int, show: bool | None = None) -> Iterator[Callable[[str, bool], None]]:
    """A bar of `total` steps on stderr; call what it yields with what has ended, and whether it went well.

    `show` None: only where stderr is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda what, succeeded: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
        TextColumn("[red]{task.fields[failed]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, last="", failed="")
        failed = 0

        def step(what: str, succeeded: bool) -> None:
            nonlocal failed
            failed += not succeeded
            bar.update(task, advance=1, last=what, failed=f"{failed} failed" if failed else "")

        yield step
