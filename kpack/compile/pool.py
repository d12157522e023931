"""Many compilations at a time, each in a process that may crash, hang or be killed without taking others along.

Processes are forked, so a kernel needs no pickling: a worker finds its job by number in what it inherited. Only
images and reasons come back, in the order of the jobs however many processes there were. Each worker has a pipe
of its own: one that ends in the middle of a word garbles no other's, and it is known which job it had.

A job is blamed for what it does alone. If a worker crashes that has done other jobs before, one of them may have
spoiled its memory: the job is done again in a fresh one. If memory ran out, another worker may have had it all:
the job is done again when all others are through.
"""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from kpack.errors import CompileError, Failure, KpackError
from kpack.image import Image
from kpack.spec import Plan
from kpack.target import Target

__all__ = ["Job", "compile_all", "jobs_of"]

TIMEOUT_S = 600.0  # for one image: the largest attention kernels take about one minute
_TICK_S = 1.0  # between looks at whether workers live
_GRACE_S = 5.0  # for a worker whose pipe has ended to end, too
_GROWTH_BYTES = 1 << 30  # what compilers may leave behind in a worker before another takes its place
_LOG_LINES = 10  # of what a compiler printed before it failed
_LOG_BYTES = 1 << 22  # that are looked through for them
_TELLING = re.compile(r"error|fatal|assert|unsupported|not supported", re.IGNORECASE)
# Signs that there was too little memory, for this job or for what ran beside it; -9: of Triton's assembler.
_STARVED = re.compile(
    r"SIGKILL|error code -9\b|out of memory|bad_alloc|MemoryError|cannot allocate memory", re.IGNORECASE
)

Outcome = Image | Failure
Compile = Callable[["Job"], Image]
Done = Callable[["Job", bool], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One image to make."""

    plan: Plan
    variant: int
    target: Target

    def failure(self, reason: str) -> Failure:
        name = self.plan.variants[self.variant].name
        return Failure(self.plan.name, name, self.target.name, reason, self.plan.source)


@dataclass(frozen=True, slots=True)
class _Work:
    """What workers inherit."""

    jobs: Sequence[Job]
    compile: Compile
    folder: Path
    """for logs, and for what a compiler writes besides; removed in the end"""

    def log(self, number: int) -> Path:
        return self.folder / f"{number}.log"


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
    done: Done = lambda job, succeeded: None,
    timeout_s: float = TIMEOUT_S,
    skip: bool = False,
    compile: Compile | None = None,
) -> tuple[Outcome, ...]:
    """The images of these jobs, in their order. Raises one CompileError with all that failed.

    With `skip`, a failure takes the place of its image, and only where there is no image at all it is an error.
    `done` is called with each job that has ended. `compile` stands in for the compiler.
    """
    if not jobs:
        return ()
    # A compiler that an interrupt has cut off may still write when the folder is removed.
    with tempfile.TemporaryDirectory(prefix="kpack-", ignore_cleanup_errors=True) as folder:
        crew = _Crew(_Work(jobs, compile or _compile, Path(folder)), timeout_s, done)
        try:
            crew.run(range(len(jobs)), processes or len(os.sched_getaffinity(0)))
            crew.run(sorted(crew.starved), 1, alone=True)
        finally:
            crew.end()
    outcomes = tuple(crew.outcomes[number] for number in range(len(jobs)))
    failures = tuple(outcome for outcome in outcomes if isinstance(outcome, Failure))
    if failures and (not skip or len(failures) == len(outcomes)):
        raise CompileError(failures)
    return outcomes


# ---- the workers, from outside


@dataclass(slots=True, eq=False)
class _Worker:
    process: Any
    pipe: Connection
    number: int = -1
    """of its job"""
    deadline: float = 0.0
    used: bool = False
    """has done a job before"""

    def end(self, grace_s: float = 0.0) -> int | None:
        """End it, and what it has started: the assembler that it waits for. Its exit code."""
        self.process.join(grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        code: int | None = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return code


class _Crew:
    """The workers, and what has come of the jobs so far."""

    def __init__(self, work: _Work, timeout_s: float, done: Done) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.starved: list[int] = []
        """jobs that may have lacked memory for the sake of others"""
        self._work, self._timeout_s, self._done = work, timeout_s, done
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def run(self, numbers: Iterable[int], most: int, alone: bool = False) -> None:
        """Do these jobs, at most so many at a time; `alone`: to blame each for whatever happens."""
        waiting, suspects = deque(numbers), set[int]()
        while waiting or self._busy:
            while waiting and len(self._busy) < most:
                number = waiting.popleft()
                self._give(number, fresh=alone or number in suspects)
            for worker in self._ended():
                number, used = worker.number, worker.used
                outcome, crashed = self._take(worker)
                if not alone and isinstance(outcome, Failure) and _STARVED.search(outcome.reason):
                    self.starved.append(number)
                elif crashed and used:
                    suspects.add(number)
                    waiting.appendleft(number)
                else:
                    self.outcomes[number] = outcome
                    self._done(self._work.jobs[number], isinstance(outcome, Image))

    def end(self) -> None:
        for worker in (*self._idle, *self._busy):
            worker.end()

    def _give(self, number: int, fresh: bool) -> None:
        worker = self._idle.pop() if self._idle else None
        if worker and (fresh or not worker.process.is_alive()):
            worker.end()
            worker = None
        worker = worker or self._start()
        worker.number, worker.deadline = number, time.monotonic() + self._timeout_s
        self._busy.append(worker)
        with suppress(OSError):  # one that has just died: found out when it is asked for its answer
            worker.pipe.send(number)

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        # A worker that held the pipe of another would keep it from ending with this process.
        inherited = [ours, *(worker.pipe for worker in (*self._idle, *self._busy))]
        process = get_context("fork").Process(
            target=_serve, args=(self._work, theirs, inherited), name="kpack-compile", daemon=True
        )
        try:
            process.start()
        except OSError as error:
            raise KpackError(
                f"compiling: expected to start a process, got {error.strerror}; lower jobs"
            ) from error
        finally:
            theirs.close()
        with suppress(OSError):  # the worker does it, too: whoever comes first
            os.setpgid(process.pid or 0, process.pid or 0)
        return _Worker(process, ours)

    def _ended(self) -> list[_Worker]:
        """Wait for workers that have an answer, have died or have had their time; they are no more busy."""
        left = min(worker.deadline for worker in self._busy) - time.monotonic()
        ready = wait([worker.pipe for worker in self._busy], max(0.0, min(left, _TICK_S)))
        now = time.monotonic()
        ended = [
            worker
            for worker in self._busy
            if worker.pipe in ready or now >= worker.deadline or not worker.process.is_alive()
        ]
        self._busy = [worker for worker in self._busy if worker not in ended]
        return ended

    def _take(self, worker: _Worker) -> tuple[Outcome, bool]:
        """What has come of a worker's job, and whether the worker crashed over it."""
        job, log = self._work.jobs[worker.number], self._work.log(worker.number)
        hung = False
        try:
            if worker.pipe.poll():
                outcome, grown = worker.pipe.recv()
                worker.used = True
                worker.end() if grown else self._idle.append(worker)
                return outcome, False
            hung = worker.process.is_alive()
        except (EOFError, OSError):
            pass
        code = worker.end(0 if hung else _GRACE_S)
        if hung:
            reason = f"expected a result within {self._timeout_s:g} s, got none"
            return job.failure(_with_log(reason, log)), False
        return job.failure(_with_log(f"the compiler crashed ({_exit_name(code)})", log)), True


def _exit_name(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


# ---- in a worker


def _serve(work: _Work, pipe: Connection, inherited: Sequence[Connection]) -> None:
    """Do one job after another, until the pipe ends."""
    for connection in inherited:
        connection.close()
    _start_worker(work)
    at_first = _resident_bytes()
    with suppress(EOFError, OSError):  # the other end is gone: nobody waits for an answer
        while True:
            number = pipe.recv()
            outcome = _do(work, number)
            grown = _resident_bytes() - at_first > _GROWTH_BYTES
            try:
                pipe.send((outcome, grown))
            except OSError:
                raise
            except Exception as error:
                reason = f"its image cannot be sent: {type(error).__name__}: {error}"
                pipe.send((work.jobs[number].failure(reason), grown))


def _start_worker(work: _Work) -> None:
    # Ctrl-C goes to all processes of a terminal; the parent ends its workers. Each is a group of its own, so that
    # the assembler which it waits for ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError):
        os.setpgid(0, 0)
    # Where the program has asked for it, Python would tell of a crash on the program's own stderr.
    faulthandler.disable()
    # A crash is reported, and an image of a compiler's memory is gigabytes.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Where memory runs out, the kernel ends a compiler, which costs a job, and not who waits for it.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Triton: ptxas gets its input and output by temporary files, which a killed worker does not remove.
    os.environ["TMPDIR"] = tempfile.tempdir = str(work.folder)
    # Fresh streams: a thread of the parent (the progress bar's) may have held the inherited ones' locks.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    # A producer may use Triton, too: it has asked for it before, when its plan was made.
    if "triton" in sys.modules or any(job.plan.producer is None for job in work.jobs):
        from kpack.compile.adapter import pin_environment

        pin_environment()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _compile(job: Job) -> Image:
    produce = job.plan.producer
    if produce is None:
        from kpack.compile.adapter import compile_variant

        produce = compile_variant
    image: Image = produce(job.plan, job.plan.variants[job.variant], job.target)
    return image


def _do(work: _Work, number: int) -> Outcome:
    """Compile job `number`. What the compiler prints goes to the job's log: MLIR and ptxas say there why."""
    job, log = work.jobs[number], work.log(number)
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        image = work.compile(job)
    except BaseException as error:  # SystemExit, too: it ends the job, not the worker
        return job.failure(_with_log(_reason(error, job.plan), log))
    log.unlink(missing_ok=True)
    return image


def _reason(error: BaseException, plan: Plan) -> str:
    # Not of a function whose source cannot be found, or of what a producer makes of no function.
    with suppress(Exception):
        if "triton" in sys.modules:
            from kpack.compile.adapter import reason_of

            return reason_of(error, plan)
    text = str(error).strip()
    return text if isinstance(error, KpackError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _with_log(reason: str, log: Path) -> str:
    """The reason, and what the compiler printed besides: MLIR prints whole modules, so the telling lines of it."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return reason
    lines = [line for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if _TELLING.search(line)] or lines
    lines = [line for line in dict.fromkeys(lines) if line not in reason]
    return "\n".join([reason, *lines[:_LOG_LINES]])
