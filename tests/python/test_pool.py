"""The processes that compile: what one job does to itself, to its neighbours, and to the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from packs import image, plan, variant

from kpack.compile import pool
from kpack.compile.pool import Job, compile_all, jobs_of
from kpack.errors import CompileError, Failure
from kpack.image import Image
from kpack.target import parse_target

SM_90 = parse_target("sm_90")


def jobs(count: int) -> tuple[Job, ...]:
    """So many jobs of one kernel; their plan has a producer, so that no worker imports Triton."""
    facts = (1024, 1, 0.5, True, "fast")
    variants = tuple(variant(f"v{number}", facts, targets=(SM_90,)) for number in range(count))
    return jobs_of([plan(variants=variants, producer=lambda plan, variant, target: None)])


def made(job: Job, code: bytes = b"code") -> Image:
    return image(job.target.name, code, entry=f"v{job.variant}")


def worker(job: Job) -> Image:
    """An image whose code is the process that made it."""
    return made(job, b"%d" % os.getpid())


def reasons(outcomes: tuple[Image | Failure, ...]) -> dict[int, str]:
    """By number of job; every other job has its own image."""
    for number, outcome in enumerate(outcomes):
        name = outcome.variant if isinstance(outcome, Failure) else outcome.entry
        assert name == f"v{number}"
    return {number: each.reason for number, each in enumerate(outcomes) if isinstance(each, Failure)}


def attempt(folder: Path, job: Job) -> int:
    """How often this job was begun before."""
    with open(folder / f"{job.variant}", "ab") as file:
        file.write(b".")
        return file.tell() - 1


def is_running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def expect_gone(pid: int) -> None:
    until = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(pid)


# ---- how a job ends


def abort(job: Job) -> None:
    print("LLVM ERROR: Cannot select: intrinsic", flush=True)
    os.abort()


def fault(job: Job) -> None:
    ctypes.string_at(1)


def exit_natively(job: Job) -> None:
    ctypes.CDLL(None)._exit(0)  # no exception, and a status that says that all is well


def exit_from_python(job: Job) -> None:
    sys.exit(3)


def panic(job: Job) -> None:
    class Panic(BaseException): ...

    raise Panic("at the disco")


def real_time_signal(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGRTMIN + 3)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (abort, "the compiler crashed (SIGABRT)\nLLVM ERROR: Cannot select: intrinsic"),
        (fault, "the compiler crashed (SIGSEGV)"),
        (exit_natively, "the compiler crashed (exit status 0)"),
        (exit_from_python, "SystemExit: 3"),
        (panic, "Panic: at the disco"),
        (real_time_signal, f"the compiler crashed (signal {signal.SIGRTMIN + 3})"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_however_a_job_ends_it_costs_that_job_alone(
    end: Callable[[Job], None], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def compile(job: Job) -> Image:
        if job.variant % 4 == 1:
            end(job)
        return made(job)

    found = reasons(compile_all(jobs(24), compile=compile, processes=3, skip=True))
    assert found == dict.fromkeys(range(1, 24, 4), reason)
    assert capfd.readouterr() == ("", "")


def test_a_crash_that_another_job_has_prepared_is_nobodys(tmp_path: Path) -> None:
    spoiled = []

    def compile(job: Job) -> Image:
        if job.variant == 1:
            attempt(tmp_path, job)
            if spoiled:
                os.abort()
        spoiled.append(job.variant)
        return made(job)

    assert reasons(compile_all(jobs(3), compile=compile, processes=1)) == {}
    assert (tmp_path / "1").read_bytes() == b".."


def test_a_crash_in_a_fresh_process_is_not_tried_again(tmp_path: Path) -> None:
    def compile(job: Job) -> Image:
        attempt(tmp_path, job)
        os.abort()

    with pytest.raises(CompileError):
        compile_all(jobs(2), compile=compile, processes=1)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == b"."


def test_workers_that_are_killed_from_outside_cost_nothing(tmp_path: Path) -> None:
    def compile(job: Job) -> Image:
        if job.variant % 3 == 0 and attempt(tmp_path, job) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return made(job)

    assert reasons(compile_all(jobs(12), compile=compile, processes=3)) == {}


def test_a_job_that_is_killed_alone_too_is_to_blame(tmp_path: Path) -> None:
    at_work = tmp_path / "at work"
    at_work.mkdir()

    def compile(job: Job) -> Image:
        mine = at_work / f"{job.variant}"
        mine.touch()
        if job.variant == 2:
            if attempt(tmp_path, job):
                (tmp_path / "beside").write_text(" ".join(path.name for path in at_work.iterdir()))
            mine.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        mine.unlink()
        return made(job)

    found = reasons(compile_all(jobs(12), compile=compile, processes=3, skip=True))
    assert found == {2: "the compiler crashed (SIGKILL)"}
    assert (tmp_path / "2").read_bytes() == b".."
    assert (tmp_path / "beside").read_text() == "2"


def test_a_job_for_which_others_left_no_memory_gets_it_alone(tmp_path: Path) -> None:
    def compile(job: Job) -> Image:
        if job.variant < 2 and attempt(tmp_path, job) == 0:
            raise MemoryError
        return made(job)

    assert reasons(compile_all(jobs(6), compile=compile, processes=2)) == {}


def test_an_image_that_cannot_be_sent_is_a_failure_of_its_job() -> None:
    def compile(job: Job) -> Image:
        return (lambda: 1) if job.variant == 1 else made(job)  # type: ignore[return-value]

    found = reasons(compile_all(jobs(3), compile=compile, processes=1, skip=True))
    assert list(found) == [1] and found[1].startswith("its image cannot be sent: ")


def test_what_is_missing_is_an_error_unless_it_is_to_be_skipped() -> None:
    def compile(job: Job) -> Image:
        return made(job) if job.variant else exit_from_python(job)  # type: ignore[return-value]

    with pytest.raises(CompileError) as raised:
        compile_all(jobs(2), compile=compile)
    assert [failure.variant for failure in raised.value.failures] == ["v0"]
    with pytest.raises(CompileError):  # nothing is left
        compile_all(jobs(1), compile=compile, skip=True)


# ---- what a job leaves behind


def start_helper(folder: Path, job: Job) -> None:
    """As Triton starts its assembler."""
    helper = subprocess.Popen(["sleep", "600"])
    (folder / f"{job.variant}.pid").write_text(f"{helper.pid} {os.getpid()}")


def helpers(folder: Path) -> list[int]:
    return [int(pid) for path in folder.glob("*.pid") for pid in path.read_text().split()]


@pytest.mark.parametrize("end", [abort, lambda job: time.sleep(600)], ids=["crash", "hang"])
def test_what_a_compiler_has_started_ends_with_it(tmp_path: Path, end: Callable[[Job], None]) -> None:
    def compile(job: Job) -> Image:
        if job.variant == 1:
            start_helper(tmp_path, job)
            end(job)
        return made(job)

    began = time.monotonic()
    found = reasons(compile_all(jobs(4), compile=compile, processes=2, timeout_s=1, skip=True))
    assert list(found) == [1]
    assert time.monotonic() - began < 15
    (helper, process) = helpers(tmp_path)
    expect_gone(helper)
    expect_gone(process)


def test_a_crash_is_seen_though_a_child_holds_the_pipe(tmp_path: Path) -> None:
    def compile(job: Job) -> Image:
        if job.variant == 1:
            child = os.fork()  # it has all files of its parent
            if child == 0:
                time.sleep(600)
            (tmp_path / "1.pid").write_text(f"{child}")
            os.abort()
        return made(job)

    found = reasons(compile_all(jobs(3), compile=compile, processes=2, skip=True))
    assert found == {1: "the compiler crashed (SIGABRT)"}
    expect_gone(*helpers(tmp_path))


def test_many_hangs_cost_their_time_side_by_side() -> None:
    def compile(job: Job) -> Image:
        if job.variant < 8:
            time.sleep(600)
        return made(job)

    began = time.monotonic()
    found = reasons(compile_all(jobs(16), compile=compile, processes=8, timeout_s=1, skip=True))
    assert found == dict.fromkeys(range(8), "expected a result within 1 s, got none")
    assert time.monotonic() - began < 10


def test_an_interrupt_ends_every_process_and_removes_their_folder(tmp_path: Path) -> None:
    def compile(job: Job) -> Image:
        if job.variant:
            start_helper(tmp_path, job)
            time.sleep(600)
        (tmp_path / "folder").write_text(os.environ["TMPDIR"])
        while len(list(tmp_path.glob("*.pid"))) < 2:
            time.sleep(0.01)
        return made(job)

    def interrupt(job: Job, succeeded: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_all(jobs(3), compile=compile, processes=3, done=interrupt)
    assert len(helpers(tmp_path)) == 4
    for pid in helpers(tmp_path):
        expect_gone(pid)
    assert not Path((tmp_path / "folder").read_text()).exists()


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; sys.path[:0] = sys.argv[2:]\n"
        "from test_pool import jobs, made, compile_all\n"
        "def compile(job):\n"
        "    open(f'{sys.argv[1]}/{job.variant}.pid', 'w').write(str(os.getpid()))\n"
        "    time.sleep(0.5)\n"
        "    return made(job)\n"
        "compile_all(jobs(3), compile=compile, processes=3)\n"
    )
    folders = [Path(__file__).parent, Path(__file__).parents[1]]
    parent = subprocess.Popen([sys.executable, "-c", code, tmp_path, *folders])
    while len([path for path in tmp_path.glob("*.pid") if path.read_text()]) < 3:
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    for pid in helpers(tmp_path):
        expect_gone(pid)


def test_a_crash_leaves_no_image_of_its_memory() -> None:
    def compile(job: Job) -> Image:
        return made(job, repr(resource.getrlimit(resource.RLIMIT_CORE)[0]).encode())

    (outcome,) = compile_all(jobs(1), compile=compile)
    assert isinstance(outcome, Image) and outcome.code == b"0"


def test_the_last_words_of_a_talkative_compiler_are_kept() -> None:
    def compile(job: Job) -> Image:
        for _ in range(1000):
            print("module {" + " " * 20_000)
        print("error: the one that counts", flush=True)
        os.abort()

    with pytest.raises(CompileError) as raised:
        compile_all(jobs(1), compile=compile)
    (failure,) = raised.value.failures
    assert failure.reason == "the compiler crashed (SIGABRT)\nerror: the one that counts"


# ---- how much it takes


def test_a_process_does_one_job_after_another() -> None:
    outcomes = compile_all(jobs(20), compile=worker, processes=2)
    assert len({outcome.code for outcome in outcomes if isinstance(outcome, Image)}) <= 2


def test_a_process_that_has_grown_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_GROWTH_BYTES", 100 << 20)
    kept = []

    def compile(job: Job) -> Image:
        kept.append(b"x" * (40 << 20))
        return worker(job)

    outcomes = compile_all(jobs(9), compile=compile, processes=1)
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, Image)]
    assert codes[0] == codes[1] == codes[2] and len(set(codes)) == 3


def test_thousands_of_jobs_take_seconds_and_what_their_images_take() -> None:
    """As for some hundred kernels, of which some crash their compiler, and some are refused."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = len(os.listdir("/proc/self/fd"))
    ended = []

    def compile(job: Job) -> Image:
        if job.variant % 100 == 7:
            os.abort()
        if job.variant % 100 == 8:
            raise ValueError("expected a shape, got none")
        return made(job, bytes(10_000))

    began = time.monotonic()
    outcomes = compile_all(
        jobs(5000), compile=compile, processes=4, skip=True, done=lambda job, succeeded: ended.append(job)
    )
    taken_s = time.monotonic() - began
    grown_bytes = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    found = reasons(outcomes)
    assert set(found.values()) == {
        "the compiler crashed (SIGABRT)",
        "ValueError: expected a shape, got none",
    }
    assert len(found) == 100 and len(ended) == 5000
    assert taken_s < 60
    assert grown_bytes < 5000 * 10_000 + (100 << 20)
    assert len(os.listdir("/proc/self/fd")) == files
