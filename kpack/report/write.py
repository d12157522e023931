"""The stages of a report: read, compare, lay out, write."""

from __future__ import annotations

import os
from collections.abc import Iterable

from kpack.build import VERSION
from kpack.objfile.reading import read_pack
from kpack.report.compare import compare
from kpack.report.content import content
from kpack.report.page import render, write_page
from kpack.report.tuning import read_results

__all__ = ["write_report"]


def write_report(
    archive: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    before: str | os.PathLike[str] | None = None,
    tuned: Iterable[str | os.PathLike[str]] = (),
    trials: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Write a page about `archive` to `output`, whole or not at all. Same input, same bytes.

    before  an archive to compare with: what has changed since
    tuned   tuning tables: what they chose
    trials  files that `kpack tune --json` wrote: what everything took

    Raises FormatError for a file that is not what it should be, PackError where the page cannot be written.
    """
    pack = read_pack(archive)
    changes = None if before is None else compare(read_pack(before), pack)
    results = read_results(pack, tuned, trials)
    name = os.path.basename(archive)
    data = content(name, os.stat(archive).st_size, pack, results, changes)
    since = "" if before is None else f" Compared with {os.path.basename(before)}."
    write_page(output, render(name, f"Made by kpack {VERSION}.{since}", data))
