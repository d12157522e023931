"""Tuning an archive for a file of shapes, where there is a GPU: searches run in a process of their own, which is
started again when a contender ends it or leaves the device unusable; the table's journal says which one it was."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpack.errors import KpackError
from kpack.link import as_shared_object
from kpack.runtime import Trial
from kpack.tuning.shapes import Shape

__all__ = ["Outcome", "tune_shapes"]

# The worker finds modules where this process does, and not first in the folder that it runs in.
_START = (
    "import json, sys; sys.path = json.loads(sys.argv.pop(1)); from kpack.tuning.worker import main; main()"
)
_ERROR_DRIVER = 10  # kpk_status: the device is perhaps of no more use to this process
_MOST_STARTS = 64  # for one shape: more contenders than that do not all crash
_GRACE_S = 60  # beyond the budget, for loading and first runs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one shape. Neither trials nor an error: there was nothing to choose from."""

    shape: Shape
    trials: tuple[Trial, ...]
    error: str = ""
    crashes: tuple[str, ...] = ()
    """how processes ended that tried this shape, before one came to an end of it"""

    @property
    def chosen(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.chosen), None)


def tune_shapes(
    file: str | os.PathLike[str],
    shapes: Sequence[Shape],
    *,
    table: str | os.PathLike[str],
    pack: str | None = None,
    budget_ms: float | None = None,
    exhaustive: bool = False,
    again: bool = False,
    tolerance: float = 1.0,
    timeout_s: float | None = None,
    step: Callable[[str, bool], None] = lambda what, succeeded: None,
) -> tuple[Outcome, ...]:
    """Tune the kernels of `file`, an archive (the C compiler links it) or a shared object, for these calls, on memory
    made as their extents say, and add what is found to `table`.

    `budget_ms` is for one search (None: 2000); `timeout_s` for one shape, after which its process is ended and the
    contender that hung is left out (None: from the budget). `step` is called after each shape. Raises FormatError for
    a file that is no pack, KpackError where no process starts.
    """
    options = {
        "allocate": True,
        "exhaustive": exhaustive,
        "again": again,
        "tolerance": tolerance,
        "budget_ms": budget_ms,
    }
    limit_s = timeout_s if timeout_s is not None else _GRACE_S + 10 * (budget_ms or 2000) / 1000
    found = []
    with as_shared_object(Path(file)) as library:
        command = [sys.executable, "-c", _START, json.dumps(sys.path), str(library.absolute()), pack or ""]
        command += [os.path.abspath(table), json.dumps(options)]
        with _Worker(command, limit_s).running() as worker:
            for shape in shapes:
                outcome = _tune(worker, shape)
                found.append(outcome)
                step(str(shape), not outcome.error)
    return tuple(found)


def _tune(worker: _Worker, shape: Shape) -> Outcome:
    crashes: list[str] = []
    while len(crashes) < _MOST_STARTS:
        try:
            answer = worker.ask([shape.kernel, dict(shape.values)])
        except _Ended as ended:
            crashes.append(str(ended))
            continue
        if answer.get("status") == _ERROR_DRIVER:
            worker.stop()
            # Once more in a fresh process: what made the device unusable may not be to blame for what comes next.
            crashes.append(answer["error"])
            if crashes.count(answer["error"]) < 2:
                continue
        trials = tuple(Trial(**trial) for trial in answer.get("trials", ()))
        return Outcome(shape, trials, answer.get("error", ""), tuple(crashes))
    return Outcome(shape, (), f"expected a search to end, got {len(crashes)} that did not", tuple(crashes))


# ---- the process


class _Ended(Exception):
    """The process is no more; how it ended."""


class _Worker:
    """A process that answers one line at a time, started when it is asked and there is none."""

    def __init__(self, command: Sequence[str], limit_s: float) -> None:
        self._command, self._limit_s = list(command), limit_s
        self._process: subprocess.Popen[str] | None = None

    @contextmanager
    def running(self) -> Iterator[_Worker]:
        try:
            yield self
        finally:
            self.stop()

    def ask(self, question: Any) -> dict[str, Any]:
        if self._process is None:
            self._start()
        assert self._process
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended("") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        process = self._process
        assert process
        assert process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(self._limit_s):
                process.kill()
                raise self._ended(f"took longer than {self._limit_s:g} s")
        line = process.stdout.readline()
        if not line.endswith("\n"):
            raise self._ended("")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()

    def _start(self) -> None:
        # What it says on standard error is for the user.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="surrogateescape"
        )
        # It greets when the pack is loaded: what ends it before is no contender's fault.
        try:
            greeting = self._answer()
        except _Ended as ended:
            raise KpackError(f"kpack tune: expected a process to tune in, got one that {ended}") from None
        if "error" in greeting:
            raise KpackError(greeting["error"])

    def _ended(self, how: str) -> _Ended:
        assert self._process
        process, self._process = self._process, None
        process.communicate()
        status = process.returncode
        return _Ended(
            how or (f"was ended by signal {-status}" if status < 0 else f"ended with status {status}")
        )
