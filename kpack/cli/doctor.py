"""`kpack doctor`: what works on this machine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from kpack.cli.numbers import seconds
from kpack.cli.show import console, plain, print_json
from kpack.cli.teach import command

if TYPE_CHECKING:
    from rich.console import Console

    from kpack.doctor import Check

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "missing": "yellow", "broken": "red"}
_TOPICS = ("install", "triton", "drivers", "linking")  # as doctor.TOPICS, whose import is slow


@command(
    "doctor",
    short="Try what works on this machine, and say what to do.",
    examples="""
        kpack doctor                   # everything, in a few seconds
        kpack doctor drivers           # which GPUs there are
        kpack doctor triton linking    # what a machine that builds needs
        kpack doctor --json | jq '.checks[] | select(.status != "ok")'
    """,
)
@click.argument("topics", nargs=-1, type=click.Choice(_TOPICS), metavar=f"[{'|'.join(_TOPICS)}]...")
@click.option(
    "--timeout",
    type=seconds,
    default="60",
    show_default=True,
    metavar="SECONDS",
    help="For each program that is tried.",
)
@click.option("--json", "as_json", is_flag=True, help="All that was found, for jq.")
def doctor(topics: tuple[str, ...], timeout: float, as_json: bool) -> int:
    """Compile and pack kernels, link and run programs with each linker, ask the drivers; without a GPU, CUDA or ROCm.

    A line a thing: ok; warn, it works, but look; missing; broken, it is there and does not work. Exit status: 0 if
    kernels can be built, for one vendor at least, as far as the topics tell.
    """
    from kpack.doctor import builds_work, examine

    checks: list[Check] = []
    screen = console()
    for check in examine(topics, limit_s=timeout):
        if not as_json:
            _show(screen, check, heading=not checks or checks[-1].topic != check.topic)
        checks.append(check)
    works = builds_work(checks)
    if as_json:
        print_json({"builds": works, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        screen.print(
            "\n[green]kernels can be built here[/]" if works else "\n[red]kernels cannot be built here[/]"
        )
    return 0 if works else 1


def _show(screen: Console, check: Check, heading: bool) -> None:
    if heading:
        screen.print(f"[bold]{check.topic}[/]")
    colour = _COLOURS[check.status]
    # Wrapped by the terminal, if at all: paths are to be copied.
    screen.print(
        f"  [{colour}]{check.status:8}[/]{plain(check.subject)}: {plain(check.found)}", soft_wrap=True
    )
    if check.advice:
        screen.print(f"  {'':8}[dim]{plain(check.advice)}[/]", soft_wrap=True)
