"""Many compilations at a time, each in a process that may crash or hang without taking the others along.

Processes are forked, so a kernel needs no pickling: a worker finds its job by number in what it inherited. Only
images and reasons come back, in the order of the jobs however many processes there were.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from kpack.errors import CompileError, Failure
from kpack.image import Image
from kpack.spec import Plan
from kpack.target import Target

__all__ = ["Job", "compile_all", "jobs_of"]

TIMEOUT_S = 600.0  # for one image: the largest attention kernels take about one minute
_LOG_LINES = 10  # of what a compiler printed before it failed
_TELLING = re.compile(r"error|fatal|assert|unsupported|not supported", re.IGNORECASE)

Compile = Callable[["Job"], Image]


@dataclass(frozen=True, slots=True)
class Job:
    """One image to make."""

    plan: Plan
    variant: int
    target: Target

    def failure(self, reason: str) -> Failure:
        name = self.plan.variants[self.variant].name
        return Failure(self.plan.name, name, self.target.name, reason)


@dataclass(frozen=True, slots=True)
class _Work:
    """What workers inherit."""

    jobs: Sequence[Job]
    compile: Compile
    folder: Path
    """for logs, and for what a compiler writes besides; removed in the end"""


_work: _Work | None = None


def jobs_of(plans: Sequence[Plan]) -> tuple[Job, ...]:
    return tuple(
        Job(plan, index, target)
        for plan in plans
        for index, variant in enumerate(plan.variants)
        for target in variant.targets
    )


def compile_all(
    jobs: Sequence[Job],
    *,
    processes: int | None = None,
    done: Callable[[Job, bool], None] = lambda job, succeeded: None,
    timeout_s: float = TIMEOUT_S,
    compile: Compile | None = None,
) -> tuple[Image, ...]:
    """The images of these jobs, in their order. Raises one CompileError with all that failed.

    `done` is called, from another thread, with each job that has ended. `compile` stands in for the compiler.
    """
    global _work
    if not jobs:
        return ()
    count = min(processes or len(os.sched_getaffinity(0)), len(jobs))
    # A compiler that an interrupt has cut off may still write when the folder is removed.
    with tempfile.TemporaryDirectory(prefix="kpack-", ignore_cleanup_errors=True) as folder:
        _work = _Work(jobs, compile or _compile, Path(folder))
        try:
            results = _run(count, done, timeout_s)
        finally:
            _work = None
    failures = tuple(result for result in results if isinstance(result, Failure))
    if failures:
        raise CompileError(failures)
    return tuple(result for result in results if isinstance(result, Image))


def _run(processes: int, done: Callable[[Job, bool], None], timeout_s: float) -> list[Image | Failure]:
    assert _work is not None
    pool: Any = ProcessPool(max_workers=processes, context=get_context("fork"), initializer=_start_worker)
    try:
        futures: list[Future[Image | Failure]] = []
        for number, job in enumerate(_work.jobs):
            future = pool.schedule(_do, args=(number,), timeout=timeout_s)
            future.add_done_callback(partial(_tell, done, job))
            futures.append(future)
        results = [
            _result(future, job, _log(number), timeout_s)
            for number, (future, job) in enumerate(zip(futures, _work.jobs, strict=True))
        ]
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
    return results


def _tell(done: Callable[[Job, bool], None], job: Job, ended: Future[Image | Failure]) -> None:
    if not ended.cancelled():
        done(job, ended.exception() is None and isinstance(ended.result(), Image))


def _result(future: Future[Image | Failure], job: Job, log: Path, timeout_s: float) -> Image | Failure:
    try:
        return future.result()
    except ProcessExpired as error:
        return job.failure(_with_log(f"the compiler crashed ({_exit_name(error.exitcode)})", log))
    except TimeoutError:
        return job.failure(_with_log(f"expected a result within {timeout_s:g} s, got none", log))


def _exit_name(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit status {code}"


# ---- in a worker


def _start_worker() -> None:
    # Ctrl-C goes to all processes of a terminal; the parent's pool ends its workers, by SIGTERM. Each is a group
    # of its own, so that the assembler which it waits for ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, lambda signum, frame: os.killpg(0, signal.SIGKILL))
    # Triton: ptxas gets its input and output by temporary files, which a killed worker does not remove.
    assert _work is not None
    os.environ["TMPDIR"] = tempfile.tempdir = str(_work.folder)
    # Fresh streams: a thread of the parent (the progress bar's) may have held the inherited ones' locks.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    from kpack.compile.adapter import pin_environment

    pin_environment()


def _compile(job: Job) -> Image:
    from kpack.compile.adapter import compile_variant

    return compile_variant(job.plan, job.plan.variants[job.variant], job.target)


def _do(number: int) -> Image | Failure:
    """Compile job `number`. What the compiler prints goes to the job's log: MLIR and ptxas say there why."""
    assert _work is not None
    job, log = _work.jobs[number], _log(number)
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        return _work.compile(job)
    except Exception as error:
        from kpack.compile.adapter import reason_of

        return job.failure(_with_log(reason_of(error, job.plan), log))


def _log(number: int) -> Path:
    assert _work is not None
    return _work.folder / f"{number}.log"


def _with_log(reason: str, log: Path) -> str:
    """The reason, and what the compiler printed besides: MLIR prints whole modules, so the telling lines of it."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return reason
    lines = [line for line in lines if _TELLING.search(line)] or lines
    lines = [line for line in dict.fromkeys(lines) if line not in reason]
    return "\n".join([reason, *lines[:_LOG_LINES]])
