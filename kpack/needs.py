"""What a part of kpack needs of other packages, said where it is missing: none is imported by `import kpack`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kpack.errors import KpackError

__all__ = ["needing", "what_to_install"]

# By the module's name. The versions are in pyproject.toml, and so in what is installed of kpack.
_PACKAGES = {
    "triton": "triton",
    "lief": "lief",
    "msgpack": "msgpack",
    "rich": "rich",
    "click": "click",
    "torch": "torch",
}


@contextmanager
def needing(what: str) -> Iterator[None]:
    """Around what may be the first to import one of these packages: a missing one is a KpackError that says what to
    install."""
    try:
        yield
    except ModuleNotFoundError as error:
        advice = what_to_install(error)
        if not advice:
            raise
        raise KpackError(f"{what}: {advice}") from error


def what_to_install(error: ModuleNotFoundError) -> str:
    """In a sentence; "" where the module is none of kpack's."""
    package = _PACKAGES.get((error.name or "").partition(".")[0])
    return f"expected the package {package}, got none; pip install {_requirement(package)}" if package else ""


def _requirement(package: str) -> str:
    """With its versions, quoted for a shell."""
    from importlib import metadata  # takes longer than the rest of `import kpack`

    try:
        required = metadata.requires("kpack") or []
    except metadata.PackageNotFoundError:  # a checkout on the path
        required = []
    for each in required:
        found = re.match(r"[\w.-]+", each)
        if found and found[0] == package:
            return f"'{each.partition(';')[0].strip()}'"
    return package
