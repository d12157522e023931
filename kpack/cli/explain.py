"""`kpack explain`: what a call would run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from kpack.errors import FormatError

__all__ = ["explain"]


# Values may begin with a minus: what looks like no option of this command is a value.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path())
@click.argument("kernel")
@click.argument("values", nargs=-1, metavar="[VALUE|NAME=VALUE]...", type=click.UNPROCESSED)
@click.option(
    "--arch", help="Of the device, which need not be there; without it the machine's, or the first target."
)
@click.option("--pack", help="Of the kernel, where FILE has several.")
def explain(file: str, kernel: str, values: tuple[str, ...], arch: str | None, pack: str | None) -> None:
    """Say which variant and image of KERNEL this call would run, and why each other one would not.

    FILE is an archive (the C compiler links it: $CC or cc) or a shared object that one is linked into. A VALUE is
    a number, true, false, none, a pointer (*fp16; *fp16+8 is 8 bytes off; *fp16@0x1000; const *fp16), a type, or
    text. Exit status: 0 if the call would run, 1 if not.
    """
    from kpack.arguments import read_arguments
    from kpack.link import as_shared_object
    from kpack.runtime import device_count, load

    with as_shared_object(Path(file)) as library:
        kernels = load(library, pack)
    if kernel not in kernels:
        raise FormatError(f"{file}: expected kernel {kernel}, got {', '.join(kernels) or 'none'}")
    asked = kernels[kernel]
    call = read_arguments(asked, values)
    if arch is None and device_count() == 0 and not os.environ.get("KPACK_DRIVER"):
        arch = ""
    click.echo(asked.explain(*call, arch=arch))
    sys.exit(0 if asked.supports(*call, arch=arch) else 1)
