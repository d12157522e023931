"""What a shell may complete: archs, and names in the file that a command line has. Never an error, never slow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

import click

from kpack.errors import KpackError

__all__ = ["archs", "hosts", "kernels", "patterns"]

_MOST_BYTES = 1 << 26  # of a file that is read for the names in it


def archs(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Names of targets, after a comma, too."""
    from kpack.target import KNOWN

    before, comma, last = typed.rpartition(",")
    return [before + comma + name for name in KNOWN if name.startswith(last)]


def hosts(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return _beginning(["x86_64", "aarch64"], typed)


def kernels(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return _beginning(_kernels(context.params.get("file")), typed)


def patterns(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """KERNEL, then KERNEL/VARIANT, then KERNEL/VARIANT@TARGET."""
    file = context.params.get("file")
    kernel, slash, rest = typed.partition("/")
    if not slash:
        return _beginning(_kernels(file), typed)
    variant, at, _ = rest.partition("@")
    found = [(name, targets) for name, targets in _variants(file, kernel) if not at or name == variant]
    names = [f"{kernel}/{name}" for name, _ in found]
    with_targets = [f"{kernel}/{name}@{target}" for name, targets in found for target in targets]
    return _beginning(with_targets if at else names, typed)


def _beginning(names: Iterable[str], typed: str) -> list[str]:
    return [name for name in names if name.startswith(typed)]


def _kernels(file: object) -> list[str]:
    """Of an archive by its members' names alone: it may be gigabytes."""
    from kpack.objfile.archive import member_names

    if not isinstance(file, str):
        return []
    with contextlib.suppress(KpackError):
        stems = [name.removesuffix(".o") for name in member_names(file)]
        return sorted(stem for stem in stems if "." not in stem)
    return [kernel for kernel, _ in _read(file)]


def _variants(file: object, kernel: str) -> list[tuple[str, list[str]]]:
    found = (variants for name, variants in _read(file) if name == kernel)
    return next(found, [])


def _read(file: object) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Kernel, and of each variant the targets; nothing of what is large or damaged."""
    from kpack.objfile.reading import read_packs

    with contextlib.suppress(KpackError, OSError):
        if isinstance(file, str) and os.path.getsize(file) <= _MOST_BYTES:
            return [
                (
                    kernel.name,
                    [
                        (v.name, [kernel.targets[image.target].name for image in kernel.images_of(v)])
                        for v in kernel.variants
                    ],
                )
                for pack in read_packs(file)
                for kernel in pack.kernels
            ]
    return []
