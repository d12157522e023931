"""`kpack tune`: the fastest variants for calls of a file."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kpack.cli.numbers import seconds
from kpack.cli.show import console, plain, print_json, table
from kpack.cli.teach import command

if TYPE_CHECKING:
    from rich.console import Console

    from kpack.runtime import Trial
    from kpack.tuning.offline import Outcome

__all__ = ["tune"]


@command(
    "tune",
    short="Time variants on this machine's GPU, and remember the fastest.",
    examples="""
        KPACK_TUNING=record KPACK_TUNING_SHAPES=shapes.csv ./app    # which calls a program makes
        kpack tune libtk.a --shapes shapes.csv --table tk.csv       # on the GPU that it is for
        kpack build kernels/ --arch sm_90 --tuned tk.csv -o libtk.a # for every program, without a table
        kpack tune libtk.a --shapes shapes.csv --json > trials.json # for kpack report --trials
    """,
)
@click.argument("file", type=click.Path())
@click.option("--shapes", required=True, type=click.Path(), help="The calls to tune for: kernel,call a line.")
@click.option("--table", type=click.Path(), help="What to add to; without it, FILE's name with .csv, here.")
@click.option("--pack", help="Of the kernels, where FILE has several.")
@click.option("--budget", type=seconds, metavar="SECONDS", help="For one shape.  [default: 2]")
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
) -> int:
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
        print_json([dataclasses.asdict(outcome) for outcome in outcomes])
    else:
        screen = console()
        for outcome in outcomes:
            _show_outcome(screen, outcome)
        tuned = sum(outcome.chosen is not None for outcome in outcomes)
        screen.print(f"{tuned} of {len(outcomes)} shapes tuned; {path}")
    return 1 if rejected or any(outcome.error for outcome in outcomes) else 0


def _told(trial: Trial) -> str:
    if trial.reason:
        return f"{trial.outcome}: {trial.reason}"
    return "" if trial.chosen else trial.outcome


def _show_outcome(screen: Console, outcome: Outcome) -> None:
    screen.print(f"[bold]{plain(str(outcome.shape))}[/]")
    for crash in outcome.crashes:
        screen.print(f"  [red]the process {plain(crash)}[/]; it was started again")
    if outcome.error:
        screen.print(f"  [red]{plain(outcome.error)}[/]\n")
        return
    if not outcome.trials:
        screen.print("  nothing to choose from\n")
        return
    made = table("variant", "median us", "of best", "samples", "outcome")
    best = min((trial.median_us for trial in outcome.trials if trial.median_us), default=0.0)
    for trial in sorted(outcome.trials, key=lambda trial: (not trial.median_us, trial.median_us)):
        made.add_row(
            plain(trial.name),
            f"{trial.median_us:.2f}" if trial.median_us else "-",
            f"{trial.median_us / best:.2f}" if trial.median_us else "-",
            f"{trial.samples}",
            ("[green]chosen[/] " if trial.chosen else "") + plain(_told(trial)),
        )
    screen.print(made)
    screen.print()
