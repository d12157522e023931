"""The command line: build an archive, look inside one, say what a call would run, tune, and say how to link it.

Exit status: 0 done, 1 refused (the reason on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kpack.depfile import watch_reads, write_depfile
from kpack.errors import FormatError, KpackError, PackError, SpecError, tell
from kpack.report.command import report

if TYPE_CHECKING:
    from kpack.build import Pack
    from kpack.objfile.listing import ImageListing, KernelListing
    from kpack.runtime import Trial
    from kpack.tuning.offline import Outcome

__all__ = ["main"]

UNLIMITED_COLUMNS = 10_000  # where no terminal sets a width, nothing is cut or wrapped


def main() -> None:
    """The entry point: errors are sentences, tracebacks only with KPACK_TRACEBACK=1."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    warnings.showwarning = lambda message, *_: print(f"kpack: {message}", file=sys.stderr)
    try:
        status = commands(prog_name="kpack", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("kpack: interrupted", file=sys.stderr)
        sys.exit(130)
    except KpackError as error:
        _refuse(str(error))
    except BrokenPipeError:  # whoever read the output has seen enough
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        _refuse(f"{error.filename or 'output'}: expected a place to read or write, got {error.strerror}")


def _interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does, once: a second signal would cut the clean-up short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _refuse(reason: str) -> None:
    if os.environ.get("KPACK_TRACEBACK") == "1":
        raise
    print(f"kpack: {reason}", file=sys.stderr)
    sys.exit(1)


def _drop_output() -> None:
    """What is still buffered cannot be written: let the interpreter's last flush not fail, too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kpack")
def commands() -> None:
    """Triton kernels, compiled ahead of time and packed into a static archive that C++ programs link."""


# ---- build


def _jobs(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"expected 1 or more, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)) and value > 0:
            return value
    raise click.BadParameter(f"expected more than 0 seconds, got {text!r}")


@commands.command()
@click.argument("kernels", nargs=-1, required=True, type=click.Path())
@click.option(
    "--arch",
    "archs",
    multiple=True,
    required=True,
    help="gfx90a, sm_90, ptx_80, ..., or native; repeatable, or a,b.",
)
@click.option("-o", "--output", required=True, type=click.Path(), help="The archive, for example libtk.a.")
@click.option("--name", help="Of the pack; without it, the archive's name without 'lib'.")
@click.option("--host", default="x86_64", show_default=True, help="Of the programs: x86_64 or aarch64.")
@click.option("-j", "--jobs", type=_jobs, metavar="NUMBER", help="Processes to compile with; one a core.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="What does not compile: refuse the build, or pack the rest.",
)
@click.option(
    "--timeout",
    type=_seconds,
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
    "--depfile",
    type=click.Path(dir_okay=False),
    help="Write here, as a rule of make, what the archive was made of: kernel files, and what they import and read.",
)
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
    depfile: str | None,
    quiet: bool,
) -> None:
    """Compile KERNELS (Python files or folders) for each --arch, without a GPU, into one archive.

    With --on-error skip, what does not compile is told on stderr and by the archive (kpack ls), and the exit status
    is 0 as long as there is anything to pack.
    """
    import kpack

    # What is wrong with the output is refused before compiling: it takes minutes.
    _check_output(Path(output))
    name = _check_name(name, Path(output))
    began = time.monotonic()
    arch = [part for given in archs for part in given.replace(",", " ").split()]
    if "native" in arch:
        arch = [each for part in arch for each in (_native_archs() if part == "native" else [part])]
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
        )
    if depfile and reads:
        # A folder changes when a kernel file comes, but also when the archive is written to it.
        folders = [Path(each).absolute() for each in kernels if Path(each).is_dir()]
        inputs = [*reads.files(), *(each for each in folders if each != Path(output).absolute().parent)]
        write_depfile(Path(depfile), output, inputs)
    path = pack.write(output)
    _tell_skipped(pack, reasons=not quiet)
    if not quiet:
        count = len(pack.plans)
        click.echo(
            f"{path}: {count} kernel{'s' if count != 1 else ''}, {_images_in(len(pack.images))} for "
            f"{', '.join(target.name for target in pack.targets)}, {_size(path.stat().st_size)}, "
            f"{time.monotonic() - began:.1f} s"
        )
    if tables and not quiet:
        click.echo(_tuned_in(pack))


def _tuned_in(pack: Pack) -> str:
    """How many choices are baked in, and what that has made smaller."""
    count = pack.tuned_entries
    text = f"tuned: {count} choice{'s' if count != 1 else ''} baked in"
    if pack.dropped_images:
        text += (
            f"; {_images_in(pack.dropped_images)} that none of them takes dropped: code was "
            f"{_size(pack.untrimmed_bytes)}, is {_size(pack.image_bytes)}"
        )
    return text


def _tell_skipped(pack: Pack, reasons: bool) -> None:
    """How much is missing of what was asked for, and perhaps why."""
    if not pack.failures:
        return
    missing, asked = len(pack.failures), len(pack.failures) + len(pack.images)
    print(
        f"kpack: skipped {missing} of {_images_in(asked)}, which did not compile; kpack ls names them",
        file=sys.stderr,
    )
    for plan in pack.plans if reasons else ():
        failures = [failure for failure in pack.failures if failure.kernel == plan.name]
        if failures:
            count = sum(len(variant.targets) for variant in plan.variants)
            print(f"kpack: {plan.name}: {len(failures)} of {_images_in(count)}", file=sys.stderr)
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


def _check_output(output: Path) -> None:
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


def _images_in(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"


# ---- join


@commands.command()
@click.argument("archives", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="The archive, for example libtk.a.")
def join(archives: tuple[str, ...], output: str) -> None:
    """Make one archive of several of one pack: what was built file by file, with the same --name, as if at once."""
    from kpack.join import join as join_archives

    _check_output(Path(output))
    join_archives(archives, output)


# ---- ls


@commands.command(name="ls")
@click.argument("archive", type=click.Path())
@click.option("--summary", is_flag=True, help="One line a kernel and target instead of one an image.")
@click.option("--json", "as_json", is_flag=True, help="Every fact of the archive, for jq.")
def list_archive(archive: str, summary: bool, as_json: bool) -> None:
    """Show what is in ARCHIVE: kernels, variants, targets, sizes, registers, spills, shared memory."""
    from kpack.objfile.reading import read_pack
    from kpack.objfile.words import in_words

    pack = read_pack(archive)
    if as_json:
        click.echo(json.dumps(in_words(pack), indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)
    kernels, images = len(pack.kernels), sum(len(kernel.images) for kernel in pack.kernels)
    missing = sum(len(kernel.holes) for kernel in pack.kernels)
    console.print(
        f"pack [bold]{pack.name}[/]: {kernels} kernel{'s' if kernels != 1 else ''}, {_images_in(images)}"
        f"{f' ([red]{missing} missing[/])' if missing else ''}, "
        f"host {pack.host}, {_size(Path(archive).stat().st_size)}"
    )
    for kernel in pack.kernels:
        console.print(f"\n[bold]{kernel.name}[/]({escape(_call(kernel))})  [dim]{kernel.source}[/]")
        for label, text in (("guard", kernel.guard_text), ("grid", kernel.grid_text)):
            if text:
                console.print(f"  {label} {escape(text)}")
        if kernel.tuning:
            console.print(f"  tuned for {len(kernel.tuning.entries)} keys")
        if kernel.images:
            console.print(_summary(kernel) if summary else _images(kernel))
        for line in _missing(kernel) if summary else _holes(kernel):
            console.print(f"  [red]missing[/] {escape(line)}")


def _holes(kernel: KernelListing) -> Iterator[str]:
    for hole in kernel.holes:
        yield f"{hole.name} for {kernel.targets[hole.target].name}: {hole.reason}"


def _missing(kernel: KernelListing) -> Iterator[str]:
    """A line a target: how many variants, and the first one's reason."""
    for number, target in enumerate(kernel.targets):
        if holes := [hole for hole in kernel.holes if hole.target == number]:
            count = len(holes)
            yield (
                f"{count} variant{'s' if count != 1 else ''} for {target.name}: "
                f"{holes[0].name}: {holes[0].reason}{', ...' if count > 1 else ''}"
            )


def _images(kernel: KernelListing) -> Table:
    table = _table("variant", "target", "bytes", "warps", "registers", "spills", "shared")
    for variant in kernel.variants:
        for image in kernel.images[variant.first_image : variant.first_image + variant.image_count]:
            table.add_row(
                variant.name,
                kernel.targets[image.target].name,
                f"{image.raw_bytes:,}",
                f"{image.num_warps}",
                "-" if _is_ptx(kernel, image) else f"{image.registers}",
                "-" if _is_ptx(kernel, image) else f"{image.spill_bytes}",
                f"{image.shared_bytes + image.static_shared_bytes:,}",
            )
    return table


def _summary(kernel: KernelListing) -> Table:
    table = _table("target", "variants", "bytes", "registers", "spills", "shared")
    for index, target in enumerate(kernel.targets):
        images = [image for image in kernel.images if image.target == index]
        if images:
            table.add_row(
                target.name,
                f"{len(images)}",
                f"{sum(image.raw_bytes for image in images):,}",
                "-" if _is_ptx(kernel, images[0]) else _range(images, lambda image: image.registers),
                "-" if _is_ptx(kernel, images[0]) else _range(images, lambda image: image.spill_bytes),
                _range(images, lambda image: image.shared_bytes + image.static_shared_bytes),
            )
    return table


def _is_ptx(kernel: KernelListing, image: ImageListing) -> bool:
    """Whether only the driver will know what registers the code takes."""
    from kpack.objfile import abi

    return kernel.targets[image.target].kind == abi.IMAGE_PTX


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 2), header_style="dim")
    for column in columns:
        left = column in ("variant", "target", "outcome")
        table.add_column(column, justify="left" if left else "right")
    return table


def _range(images: Iterable[ImageListing], fact: Callable[[ImageListing], int]) -> str:
    values = [fact(image) for image in images]
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _call(kernel: KernelListing) -> str:
    """The parameters as a person reads them: "const *{fp16,fp32} in_ptr, i32 n, selected MODE, launch rows"."""
    from kpack.objfile import abi
    from kpack.objfile.words import type_name

    prefixes = {abi.PARAM_ARGUMENT: "", abi.PARAM_SELECTED: "selected ", abi.PARAM_LAUNCH: "launch "}
    shown = []
    for index, param in enumerate(kernel.params):
        text = prefixes[param.kind]
        if param.kind == abi.PARAM_ARGUMENT:
            codes = dict.fromkeys(overload.types[index] for overload in kernel.overloads)
            names = [type_name(code & ~abi.POINTER) for code in codes]
            text += "const " if param.flags & abi.PARAM_CONST else ""
            text += "*" if any(code & abi.POINTER for code in codes) else ""
            text += (names[0] if len(names) == 1 else "{" + ",".join(names) + "}") + " "
        shown.append(text + param.name)
    return ", ".join(shown)


def _size(count: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


# ---- report

commands.add_command(report)


# ---- explain


# Values may begin with a minus: what looks like no option of this command is a value.
@commands.command(context_settings={"ignore_unknown_options": True})
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


# ---- tune


@commands.command()
@click.argument("file", type=click.Path())
@click.option("--shapes", required=True, type=click.Path(), help="The calls to tune for: kernel,call a line.")
@click.option("--table", type=click.Path(), help="What to add to; without it, FILE's name with .csv, here.")
@click.option("--pack", help="Of the kernels, where FILE has several.")
@click.option("--budget", type=_seconds, metavar="SECONDS", help="For one shape.  [default: 2]")
@click.option("--tolerance", type=float, default=1.0, help="Factor of what results may differ by.")
@click.option("--exhaustive", is_flag=True, help="Time every variant to the end.")
@click.option("--again", is_flag=True, help="Also what the table has.")
@click.option("--json", "as_json", is_flag=True, help="What became of each shape and variant, for jq.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def tune(
    file: str,
    shapes: str,
    table: str | None,
    pack: str | None,
    budget: float | None,
    tolerance: float,
    exhaustive: bool,
    again: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Find out on this machine's GPU which variants are the fastest for the calls of a file of shapes.

    FILE is an archive (the C compiler links it: $CC or cc) or a shared object that one is linked into. What is found is
    added to the table, for kpack build --tuned and KPACK_TUNING_TABLE. Exit status: 1 if a shape could not be tuned.
    """
    from kpack.progress import progress_bar
    from kpack.tuning.offline import tune_shapes
    from kpack.tuning.shapes import read_shapes

    calls, rejected = read_shapes(shapes)
    for line in rejected:
        print(f"kpack: {line}", file=sys.stderr)
    path = table or f"{Path(file).name.partition('.')[0].removeprefix('lib')}.csv"
    with progress_bar("tuning", len(calls), False if quiet else None) as step:
        outcomes = tune_shapes(
            file,
            calls,
            table=path,
            pack=pack,
            budget_ms=None if budget is None else budget * 1000,
            exhaustive=exhaustive,
            again=again,
            tolerance=tolerance,
            step=step,
        )
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1))
    else:
        console = Console(width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)
        for outcome in outcomes:
            _show_outcome(console, outcome)
        tuned = sum(outcome.chosen is not None for outcome in outcomes)
        console.print(f"{tuned} of {len(outcomes)} shapes tuned; {path}")
    sys.exit(1 if rejected or any(outcome.error for outcome in outcomes) else 0)


def _told(trial: Trial) -> str:
    if trial.reason:
        return f"{trial.outcome}: {trial.reason}"
    return "" if trial.chosen else trial.outcome


def _show_outcome(console: Console, outcome: Outcome) -> None:
    console.print(f"[bold]{escape(str(outcome.shape))}[/]")
    for crash in outcome.crashes:
        console.print(f"  [red]the process {escape(crash)}[/]; it was started again")
    if outcome.error:
        console.print(f"  [red]{escape(outcome.error)}[/]\n")
        return
    if not outcome.trials:
        console.print("  nothing to choose from\n")
        return
    table = _table("variant", "median us", "of best", "samples", "outcome")
    best = min((trial.median_us for trial in outcome.trials if trial.median_us), default=0.0)
    for trial in sorted(outcome.trials, key=lambda trial: (not trial.median_us, trial.median_us)):
        table.add_row(
            escape(trial.name),
            f"{trial.median_us:.2f}" if trial.median_us else "-",
            f"{trial.median_us / best:.2f}" if trial.median_us else "-",
            f"{trial.samples}",
            ("[green]chosen[/] " if trial.chosen else "") + escape(_told(trial)),
        )
    console.print(table)
    console.print()


# ---- config


@commands.command()
@click.option("--cflags", is_flag=True, help="What the compiler gets: the header folder.")
@click.option("--libs", is_flag=True, help="What the linker gets: the runtime, and what it needs.")
@click.option("--includedir", is_flag=True)
@click.option("--libdir", is_flag=True)
@click.option("--cmakedir", is_flag=True, help="What kpack_DIR gets, for find_package(kpack CONFIG).")
@click.option("--pkgconfigdir", is_flag=True, help="What PKG_CONFIG_PATH gets, for pkg-config kpack.")
@click.option("--native", is_flag=True, help="The archs of this machine's GPUs: what --arch gets here.")
def config(
    cflags: bool, libs: bool, includedir: bool, libdir: bool, cmakedir: bool, pkgconfigdir: bool, native: bool
) -> None:
    """Say how to compile and link a program; flags may be combined."""
    from kpack import paths

    words: list[str] = []
    if includedir:
        words.append(str(paths.include_dir()))
    if libdir:
        words.append(str(paths.library_path().parent))
    if cmakedir:
        words.append(str(paths.cmake_dir()))
    if pkgconfigdir:
        words.append(str(paths.pkgconfig_dir()))
    if native:
        words += _native_archs()
    if cflags:
        words.append(f"-I{paths.include_dir()}")
    if libs:
        words += [str(paths.library_path()), "-ldl", "-lpthread"]
    if not words:
        raise click.UsageError(
            "say what to show: --cflags, --libs, --includedir, --libdir, --cmakedir, --pkgconfigdir or --native"
        )
    click.echo(" ".join(words))


def _native_archs() -> list[str]:
    """What to build for the GPUs of this machine, each once. The drivers are asked, as a program would."""
    from kpack import runtime

    # Code that names no features (":xnack-") runs with any.
    archs = dict.fromkeys(arch.partition(":")[0] for arch in runtime.device_archs())
    if not archs:
        raise KpackError(
            "native: expected a GPU in this machine, got none that libcuda.so.1 or libamdhip64.so knows of; "
            "say what to build for by name: sm_90, gfx942, ..."
        )
    return list(archs)
