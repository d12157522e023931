"""An archive as the shared object that a process can load: linked by the C compiler, as a program would be."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kpack.errors import FormatError, KpackError
from kpack.paths import compiler

__all__ = ["as_shared_object"]

_ARCHIVE = b"!<arch>\n"


@contextmanager
def as_shared_object(path: Path) -> Iterator[Path]:
    """The shared object to load for `path`: itself, or what its archive links to, which is gone afterwards (what
    was loaded stays).

    Raises FormatError for an archive that does not link, KpackError where there is no C compiler.
    """
    with path.open("rb") as file:
        is_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
    if not is_archive:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kpack-") as folder:
        # Its stem: packs are looked for by the file's name.
        output = Path(folder, path.stem + ".so")
        _link(path, output)
        yield output


def _link(archive: Path, output: Path) -> None:
    command = compiler("CC")
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"]
    try:
        done = subprocess.run(
            [*command, "-shared", "-o", str(output), *whole],
            capture_output=True,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise KpackError(
            f"{archive}: expected a C compiler to link it with, got {error.strerror} for {command[0]!r}; set CC, or "
            "give a shared object that it is linked into"
        ) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise FormatError(f"{archive}: expected an archive that {command[0]} links, got: {said}")
