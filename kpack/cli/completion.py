"""`kpack completion`: what a shell reads to complete command lines of kpack."""

from __future__ import annotations

import click

from kpack.cli.teach import command

__all__ = ["completion"]


@command(
    "completion",
    short="Print what makes a shell complete kpack's commands.",
    examples="""
        eval "$(kpack completion bash)"                           # in ~/.bashrc
        eval "$(kpack completion zsh)"                            # in ~/.zshrc, after compinit
        kpack completion fish > ~/.config/fish/completions/kpack.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for SHELL that completes commands, options, files, archs, and names of kernels in archives.

    bash is 4.4 or newer, and splits words at @.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:  # a click without it
        raise click.UsageError(f"expected a click that completes for {shell}; pip install --upgrade click")
    click.echo(made(context.find_root().command, {}, "kpack", "_KPACK_COMPLETE").source())
