"""Commands whose help ends with examples, and the group that has them by what they are for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from textwrap import dedent
from typing import Any, TypeVar

import click

__all__ = ["Command", "Group", "command"]

F = TypeVar("F", bound=Callable[..., Any])


def _want_traceback(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:  # by which completion parses
        os.environ["KPACK_TRACEBACK"] = "1"


def _traceback(hidden: bool) -> click.Option:
    """Of the group, and for those who think of it later of each command."""
    return click.Option(
        ["--traceback"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        hidden=hidden,
        callback=_want_traceback,
        help="With an error, show where in Python it comes from.",
    )


class Command(click.Command):
    """A command with `examples`: shell lines, each with what it does behind a #."""

    def __init__(self, *args: Any, examples: str = "", **facts: Any) -> None:
        super().__init__(*args, **facts)
        self.examples = dedent(examples).strip().splitlines()
        self.params.append(_traceback(hidden=True))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_lines(formatter, "Examples", self.examples)


def command(name: str, short: str, examples: str, **facts: Any) -> Callable[[Callable[..., Any]], Command]:
    """`short`: what the group's help says of it."""
    return click.command(name, cls=Command, short_help=short, examples=examples, **facts)


class Group(click.Group):
    """Commands in sections, then examples and what exit statuses mean."""

    def __init__(self, *args: Any, examples: str, statuses: Mapping[int, str], **facts: Any) -> None:
        super().__init__(*args, **facts)
        self.sections: dict[str, list[str]] = {}
        self.examples = dedent(examples).strip().splitlines()
        self.statuses = statuses
        self.params.append(_traceback(hidden=False))

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        for each in commands:
            self.add_command(each)
            self.sections.setdefault(title, []).append(str(each.name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in self.sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].get_short_help_str(100)) for name in names]
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_lines(formatter, "Examples", self.examples)
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status), text) for status, text in self.statuses.items()])


def _write_lines(formatter: click.HelpFormatter, title: str, lines: Sequence[str]) -> None:
    """As they are: what is to be typed is not wrapped."""
    with formatter.section(title):
        for line in lines:
            formatter.write(f"{'':{formatter.current_indent}}{line}".rstrip() + "\n")
