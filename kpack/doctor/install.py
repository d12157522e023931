"""Is kpack itself whole: its files, what it needs of other packages, and the archive that it writes?"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from kpack import paths
from kpack.doctor.check import (
    AGAIN,
    BROKEN,
    MISSING,
    OK,
    WARN,
    WITH_HEADERS,
    Check,
    Tools,
    package,
    version_of,
)
from kpack.errors import KpackError

__all__ = ["PROBES"]


def _python(tools: Tools) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("install", "Python", OK, f"{version}, {sys.executable}")
    yield Check(
        "install", "kpack", OK, f"{version_of('kpack') or 'not installed'}, {Path(__file__).parents[1]}"
    )
    found, scripts = shutil.which("kpack"), sysconfig.get_path("scripts")
    if found is None:
        yield Check("install", "command kpack", WARN, "not on the PATH", f"add {scripts} to PATH")
    elif Path(found).resolve().parent != Path(scripts).resolve():
        yield Check(
            "install",
            "command kpack",
            WARN,
            f"{found}, of another Python",
            f"put {scripts} first on the PATH",
        )
    else:
        yield Check("install", "command kpack", OK, found)


def _packages(tools: Tools) -> Iterator[Check]:
    for name in ("lief", "msgpack"):
        yield package("install", name, needed=True, without=AGAIN)
    for name, use in (
        ("torch", "kpack.record of programs that use it"),
        ("zstandard", "compressed offload bundles"),
    ):
        yield package("install", name, needed=False, without=f"only for {use}: pip install {name}")


def _files(tools: Tools) -> Iterator[Check]:
    finders: tuple[tuple[str, Callable[[], Path]], ...] = (
        ("headers", paths.include_dir),
        ("runtime", paths.library_path),
        ("CMake package", paths.cmake_dir),
        ("pkg-config file", paths.pkgconfig_dir),
    )
    for subject, find in finders:
        try:
            yield Check("install", subject, OK, str(find()))
        except KpackError as error:
            yield Check("install", subject, MISSING, str(error), AGAIN)


def _extension(tools: Tools) -> Iterator[Check]:
    subject = "extension kpack._runtime"
    if find_spec("kpack._runtime") is None:
        yield Check("install", subject, MISSING, "not built", WITH_HEADERS)
        return
    out, why = tools.python("import kpack._runtime; print(kpack._runtime.__file__)")
    yield Check("install", subject, BROKEN if why else OK, why or out.strip(), AGAIN if why else "")


def _cache(tools: Tools) -> Iterator[Check]:
    path = paths.cache_dir()
    there = next(each for each in (path, *path.parents) if each.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
        yield Check("install", "cache", OK, str(path))
    except OSError as error:
        advice = "set KPACK_CACHE_DIR to a folder that can be written to"
        yield Check("install", "cache", BROKEN, f"{path}: {error.strerror}", advice, needed=True)


def _packing(tools: Tools) -> Iterator[Check]:
    path, why = tools.pack()
    found = why or f"an archive of {path.stat().st_size} bytes"
    yield Check("install", "packing", BROKEN if why else OK, found, AGAIN if why else "", needed=True)


PROBES = (_python, _packages, _files, _extension, _cache, _packing)
