"""Where an archive goes: what is wrong with that is refused before anything is made, which may take minutes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kpack.errors import PackError

__all__ = ["check_output"]


def check_output(output: Path) -> None:
    if output.is_dir():
        raise PackError(f"{output}: expected a file to write the archive to, got a folder")
    if output.suffix != ".a":
        linked = output.with_suffix(".a").name
        raise PackError(
            f"{output}: expected a name that ends in .a, got {output.suffix or 'none'!r}; write an archive and "
            f"link it: c++ -shared -Wl,--whole-archive {linked} -Wl,--no-whole-archive -o {output.stem}.so"
        )
    if not output.parent.is_dir():
        raise PackError(f"{output}: expected an existing folder to write to, got {str(output.parent)!r}")
    try:
        # Permissions do not tell of file systems that are read-only, or take no files.
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise PackError(
            f"{output}: expected a folder that can be written to, got {error.strerror}"
        ) from error
