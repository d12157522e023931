"""The command line: a module a command, and what each of them shows and refuses alike.

What a user can do here is in libraries that Python calls as well; the exit statuses are STATUSES.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any, NoReturn

import click

from kpack.cli.build import build
from kpack.cli.completion import completion
from kpack.cli.config import config
from kpack.cli.doctor import doctor
from kpack.cli.explain import explain
from kpack.cli.extract import extract
from kpack.cli.join import join
from kpack.cli.ls import list_archive
from kpack.cli.report import report
from kpack.cli.teach import Group
from kpack.cli.tune import tune
from kpack.cli.verify import verify
from kpack.errors import KpackError

__all__ = ["STATUSES", "main"]

STATUSES = {
    0: "done, or the answer is yes",
    1: "refused or failed, with a line on stderr that says why; or the answer is no",
    2: "not how the command is used",
    70: "not expected: a bug; --traceback shows where",
    130: "interrupted",
}
_REFUSED, _UNEXPECTED, _INTERRUPTED = 1, 70, 130


def main() -> None:
    """The entry point: errors are sentences, tracebacks only with --traceback or KPACK_TRACEBACK=1."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    warnings.showwarning = _warn
    try:
        status = commands(prog_name="kpack", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("kpack: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except KpackError as error:
        _refuse(str(error), page=error.page)
    except BrokenPipeError:  # whoever read the output has seen enough
        _drop_output()
        sys.exit(_REFUSED)
    except OSError as error:
        _drop_output()
        _refuse(f"{error.filename or 'output'}: expected a place to read or write, got {error.strerror}")
    except Exception as error:
        _refuse(f"unexpected {type(error).__name__}: {error}; --traceback shows where", _UNEXPECTED)


def _interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does, once: a second signal would cut the clean-up short."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _warn(message: Warning | str, *where: Any, **facts: Any) -> None:
    print(f"kpack: warning: {message}", file=sys.stderr)


def _refuse(reason: str, status: int = _REFUSED, page: str = "") -> NoReturn:
    """With the page that has causes and remedies; a traceback ends with it anyway."""
    if os.environ.get("KPACK_TRACEBACK") == "1":
        sys.excepthook(*sys.exc_info())
    else:
        print(f"kpack: {reason}", file=sys.stderr)
        if page:
            print(f"kpack: see {page}", file=sys.stderr)
    sys.exit(status)


def _drop_output() -> None:
    """What is still buffered cannot be written: let the interpreter's last flush not fail, too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    statuses=STATUSES,
    examples="""
        kpack doctor                                      # what works on this machine
        kpack build kernels/ --arch sm_90 -o libtk.a      # compile and pack
        kpack ls --summary libtk.a                        # look inside
        g++ app.cc libtk.a $(kpack config --cflags --libs) -o app
        KPACK_DRIVER=dry ./app                            # what it would launch on a GPU
    """,
)
@click.version_option(package_name="kpack")
def commands() -> None:
    """Triton kernels, compiled ahead of time and packed into a static archive that C++ programs link.

    kpack COMMAND --help says what each takes, with examples. Where there is data, --json prints it for machines.
    """


commands.add_section("Make archives", [build, join])
commands.add_section("Look inside", [list_archive, explain, verify, extract, report])
commands.add_section("Make it faster", [tune])
commands.add_section("Use it", [config, doctor, completion])
