"""`kpack completion`: what a shell reads to complete command lines of kpack."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

from kpack.cli.teach import command

__all__ = ["completion"]


class _WholeWords(ShellComplete):
    """Of --option=value click says the value alone, which zsh puts in the place of all of it."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not equals or not option.startswith("-"):
            return found
        return [
            CompletionItem(f"{option}={each.value}", each.type, each.help) if each.type == "plain" else each
            for each in found
        ]


class _Bash(_WholeWords, BashComplete):
    # bash splits words at = and @, too, and completes the piece $2: click's own function takes it for the word.
    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' word words=() rest=$COMP_LINE type value
    for word in "${COMP_WORDS[@]:0:COMP_CWORD + 1}"; do
        if [[ ${#words[@]} -eq 0 || $rest == [[:space:]]* ]]; then
            words+=("$word")
        else
            words[-1]+=$word
        fi
        rest=${rest#"${rest%%%%[![:space:]]*}"}
        rest=${rest#"$word"}
    done
    local before=${words[-1]%%"$2"}
    while IFS=, read -r type value; do
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Zsh(_WholeWords, ZshComplete):
    pass


class _Fish(_WholeWords, FishComplete):
    # click: a value ends at its first comma, as in gfx90a,sm_90.
    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


for _each in (_Bash, _Zsh, _Fish):
    add_completion_class(_each)


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

    bash is 4.4 or newer.
    """
    made = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}[shell]
    click.echo(made(context.find_root().command, {}, "kpack", "_KPACK_COMPLETE").source())
