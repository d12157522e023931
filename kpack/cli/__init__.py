"""The command line: a module a command, and what each of them shows and refuses alike.

Exit status: 0 done, 1 refused (the reason on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings

import click

from kpack.cli.build import build
from kpack.cli.config import config
from kpack.cli.explain import explain
from kpack.cli.join import join
from kpack.cli.ls import list_archive
from kpack.cli.report import report
from kpack.cli.tune import tune
from kpack.errors import KpackError

__all__ = ["main"]


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


for command in (build, join, list_archive, report, explain, tune, config):
    commands.add_command(command)
