"""Where files are: those that a C++ program needs, beside kpack._installed in every kind of install; the cache.

And which words compile and link such a program.
"""

from __future__ import annotations

import os
import shlex
from importlib.util import find_spec
from pathlib import Path

from kpack.errors import KpackError

__all__ = [
    "cache_dir",
    "cmake_dir",
    "compile_flags",
    "compiler",
    "include_dir",
    "library_path",
    "link_flags",
    "pkgconfig_dir",
]


def include_dir() -> Path:
    """What `-I` gets: the folder that holds kpack/kpack.hpp."""
    return _installed("include")


def library_path() -> Path:
    """The runtime archive, libkpack_runtime.a."""
    return _installed("lib", "libkpack_runtime.a")


def cmake_dir() -> Path:
    """What `kpack_DIR` gets, for `find_package(kpack CONFIG)`."""
    return _installed("lib", "cmake", "kpack")


def pkgconfig_dir() -> Path:
    """What `PKG_CONFIG_PATH` gets: the folder that holds kpack.pc."""
    return _installed("lib", "pkgconfig")


def compile_flags() -> list[str]:
    """What a compiler gets."""
    return [f"-I{include_dir()}"]


def link_flags() -> list[str]:
    """What a linker gets, behind objects and archives."""
    return [str(library_path()), "-ldl", "-lpthread"]


def compiler(variable: str) -> list[str]:
    """The command that the environment's CC or CXX names, or that there usually is."""
    return shlex.split(os.environ.get(variable, "")) or [{"CC": "cc", "CXX": "c++"}[variable]]


def cache_dir() -> Path:
    """Where what has been compiled is kept; it may be deleted at any time, and need not be there."""
    given = os.environ.get("KPACK_CACHE_DIR")
    if given:
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kpack"


def _installed(*parts: str) -> Path:
    # An editable install leaves the Python files in the checkout and puts what was built elsewhere: only the
    # import system knows where.
    spec = find_spec("kpack._installed")
    if spec is None or spec.origin is None:
        raise KpackError("kpack: expected an installation, got a bare checkout; install kpack with pip")
    path = Path(spec.origin).parent.joinpath(*parts)
    if not path.exists():
        raise KpackError(f"{path}: expected from the installation, got nothing; install kpack again")
    return path
