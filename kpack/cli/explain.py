"""`kpack explain`: what a call would run."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kpack.cli.completing import archs as complete_archs
from kpack.cli.completing import kernels as complete_kernels
from kpack.cli.show import print_json
from kpack.cli.teach import command
from kpack.errors import FormatError

__all__ = ["explain"]


# Values may begin with a minus: what looks like no option of this command is a value.
@command(
    "explain",
    short="Say what a call would run, and why nothing else.",
    examples="""
        kpack explain libtk.a softmax '*fp16' 'const *fp16' 4096 4096 4000 64 --arch sm_90
        kpack explain libtk.so scale n=4000 out='*fp32+4' --arch gfx90a    # a pointer 4 bytes off
        kpack explain libtk.a scale '*fp32' 1 --json | jq .runs
    """,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("file", type=click.Path())
@click.argument("kernel", shell_complete=complete_kernels)
@click.argument("values", nargs=-1, metavar="[VALUE|NAME=VALUE]...", type=click.UNPROCESSED)
@click.option(
    "--arch",
    help="Of the device, which need not be there; sm_90/132: with so many multiprocessors, for what was tuned on "
    "one. Without it the machine's, or the first target.",
    shell_complete=complete_archs,
)
@click.option("--pack", help="Of the kernel, where FILE has several.")
@click.option("--json", "as_json", is_flag=True, help="Whether it would run, and the lines, for jq.")
def explain(
    file: str, kernel: str, values: tuple[str, ...], arch: str | None, pack: str | None, as_json: bool
) -> int:
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
    text, runs = asked.explain(*call, arch=arch), asked.supports(*call, arch=arch)
    if as_json:
        print_json({"kernel": kernel, "runs": runs, "lines": text.splitlines()})
    else:
        click.echo(text)
    return 0 if runs else 1
