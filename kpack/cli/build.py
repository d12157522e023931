"""`kpack build`: kernels to an archive."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kpack.cli.completing import archs as complete_archs
from kpack.cli.completing import hosts as complete_hosts
from kpack.cli.native import native_archs
from kpack.cli.numbers import jobs as number_of_jobs
from kpack.cli.numbers import seconds
from kpack.cli.output import check_output
from kpack.cli.show import count, images_in, print_json, size
from kpack.cli.teach import command
from kpack.depfile import watch_reads, write_depfile
from kpack.errors import SpecError, tell

if TYPE_CHECKING:
    from kpack.build import Pack

__all__ = ["build"]


@command(
    "build",
    short="Compile kernels into an archive, without a GPU.",
    examples="""
        kpack build kernels/ --arch sm_90 -o libtk.a
        kpack build softmax.py --arch gfx90a,gfx942,sm_80,sm_90 -j 8 -o libtk.a
        kpack build kernels/ --arch sm_90 --on-error skip -o libtk.a         # kpack ls says what is missing
        kpack build kernels/ --arch sm_90 --tuned tk.csv --keep tuned -o libtk.a
        g++ app.cc libtk.a $(kpack config --cflags --libs) -o app            # and link it
    """,
)
@click.argument("kernels", nargs=-1, required=True, type=click.Path())
@click.option(
    "--arch",
    "archs",
    multiple=True,
    required=True,
    help="gfx90a, sm_90, ptx_80, ..., or native; repeatable, or a,b.",
    shell_complete=complete_archs,
)
@click.option("-o", "--output", required=True, type=click.Path(), help="The archive, for example libtk.a.")
@click.option("--name", help="Of the pack; without it, the archive's name without 'lib'.")
@click.option(
    "--host",
    default="x86_64",
    show_default=True,
    shell_complete=complete_hosts,
    help="Of the programs: x86_64 or aarch64.",
)
@click.option(
    "-j", "--jobs", type=number_of_jobs, metavar="NUMBER", help="Processes to compile with; one a core."
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="What does not compile: refuse the build, or pack the rest.",
)
@click.option(
    "--timeout",
    type=seconds,
    default="600",
    show_default=True,
    metavar="SECONDS",
    help="For one variant and target; one that takes longer is a failure.",
)
@click.option(
    "--tuned", "tables", multiple=True, type=click.Path(), help="A tuning table to bake in; repeatable."
)
@click.option(
    "--keep",
    type=click.Choice(["all", "tuned"]),
    default="all",
    show_default=True,
    help="Variants: all, or where tables have entries only what they choose, and what other calls need.",
)
@click.option(
    "--part",
    is_flag=True,
    help="One of several archives for kpack join: does not warn of tables' entries of other kernels.",
)
@click.option(
    "--depfile",
    type=click.Path(dir_okay=False),
    help="Write here, as a rule of make, what the archive was made of: kernel files, and what they import and read.",
)
@click.option("--json", "as_json", is_flag=True, help="What was built, and what was skipped, for jq.")
@click.option(
    "-q", "--quiet", is_flag=True, help="No progress bar, no summary; of what is skipped, the number."
)
def build(
    kernels: tuple[str, ...],
    archs: tuple[str, ...],
    output: str,
    name: str | None,
    host: str,
    jobs: int | None,
    on_error: str,
    timeout: float,
    tables: tuple[str, ...],
    keep: str,
    part: bool,
    depfile: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compile KERNELS (Python files or folders) for each --arch, without a GPU, into one archive.

    With --on-error skip, what does not compile is told on stderr and by the archive (kpack ls), and the exit status
    is 0 as long as there is anything to pack.
    """
    import kpack

    # What is wrong with the output is refused before compiling: it takes minutes.
    check_output(Path(output))
    name = _check_name(name, Path(output))
    began = time.monotonic()
    arch = [part for given in archs for part in given.replace(",", " ").split()]
    if "native" in arch:
        arch = [each for part in arch for each in (native_archs() if part == "native" else [part])]
    watched = watch_reads() if depfile else contextlib.nullcontext()
    with watched as reads:
        pack = kpack.build(
            kernels,
            arch,
            name=name,
            host=host,
            jobs=jobs,
            progress=False if quiet else None,
            on_error=on_error,
            timeout_s=timeout,
            tuned=tables,
            keep=keep,
            part=part,
        )
    if depfile and reads:
        # A folder changes when a kernel file comes, but also when the archive is written to it.
        folders = [Path(each).absolute() for each in kernels if Path(each).is_dir()]
        inputs = [*reads.files(), *(each for each in folders if each != Path(output).absolute().parent)]
        write_depfile(Path(depfile), output, inputs)
    path = pack.write(output)
    _tell_skipped(pack, reasons=not quiet)
    if as_json:
        print_json(_in_words(pack, path))
        return
    if not quiet:
        click.echo(
            f"{path}: {count(len(pack.plans), 'kernel')}, {images_in(len(pack.images))} for "
            f"{', '.join(target.name for target in pack.targets)}, {size(path.stat().st_size)}, "
            f"{time.monotonic() - began:.1f} s"
        )
    if tables and not quiet:
        click.echo(_tuned_in(pack))


def _in_words(pack: Pack, path: Path) -> dict[str, Any]:
    return {
        "archive": str(path),
        "bytes": path.stat().st_size,
        "image_bytes": pack.image_bytes,
        "host": pack.host,
        "targets": [target.name for target in pack.targets],
        "kernels": [plan.name for plan in pack.plans],
        "images": len(pack.images),
        "tuned_entries": pack.tuned_entries,
        "dropped_images": pack.dropped_images,
        "failures": [{**dataclasses.asdict(each), "summary": each.summary} for each in pack.failures],
    }


def _tuned_in(pack: Pack) -> str:
    """How many choices are baked in, and what that has made smaller."""
    text = f"tuned: {count(pack.tuned_entries, 'choice')} baked in"
    if pack.dropped_images:
        text += (
            f"; {images_in(pack.dropped_images)} that none of them takes dropped: code was "
            f"{size(pack.untrimmed_bytes)}, is {size(pack.image_bytes)}"
        )
    return text


def _tell_skipped(pack: Pack, reasons: bool) -> None:
    """How much is missing of what was asked for, and perhaps why."""
    if not pack.failures:
        return
    missing, asked = len(pack.failures), len(pack.failures) + len(pack.images)
    print(
        f"kpack: skipped {missing} of {images_in(asked)}, which did not compile; kpack ls names them",
        file=sys.stderr,
    )
    for plan in pack.plans if reasons else ():
        failures = [failure for failure in pack.failures if failure.kernel == plan.name]
        if failures:
            asked = sum(len(variant.targets) for variant in plan.variants)
            print(f"kpack: {plan.name}: {len(failures)} of {images_in(asked)}", file=sys.stderr)
            print(tell(failures, lambda failure: failure.brief), file=sys.stderr)


def _check_name(given: str | None, output: Path) -> str:
    """The pack's name, in the words of this command's options."""
    from kpack.build import pack_name_of
    from kpack.naming import check_pack_name

    if given is None:
        return pack_name_of(output, option="--name")
    try:
        return check_pack_name(given)
    except SpecError as error:
        raise SpecError(f"--name: {error}") from None
