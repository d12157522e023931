"""The doctor tries what it says, waits for nobody, and does not fall ill itself."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools import PROGRAMS, need, run

from kpack import doctor
from kpack.doctor import TOPICS, Check, builds_work, examine
from kpack.doctor.check import Tools
from kpack.errors import SpecError


def checks(*topics: str, limit_s: float = 60.0) -> dict[str, Check]:
    return {check.subject: check for check in examine(topics, limit_s=limit_s)}


def test_on_a_machine_that_builds_everything_is_tried_and_works() -> None:
    need("cc", "c++", *PROGRAMS.values())
    command = [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["builds"] is True
    assert {check["topic"] for check in said["checks"]} == set(TOPICS)
    found = {check["subject"]: check for check in said["checks"]}
    works = ["packing", "headers", "runtime", "triton", "compiles for NVIDIA", "C compiler", "C++ compiler"]
    works += [f"linker {name}" for name in PROGRAMS]
    assert {subject: found[subject]["status"] for subject in works} == dict.fromkeys(works, "ok"), said
    assert found["compiles for NVIDIA"]["found"].startswith("a kernel for sm_80, ")
    for check in said["checks"]:
        assert check["status"] in ("ok", "warn", "missing", "broken")
        assert (check["status"] == "ok") == (not check["advice"]), check


# ---- compilers and linkers


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that a test writes."""
    path = tmp_path / "bin" / "compiler"
    path.parent.mkdir()
    path.touch(0o755)
    monkeypatch.setenv("CC", str(path))
    monkeypatch.setenv("CXX", "none")
    return path


def test_without_a_compiler_kernels_are_built_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    found = checks("linking")
    assert [check.status for check in found.values()] == ["missing"] * 6
    assert (found["C compiler"].found, found["linker mold"].found) == ("no cc", "no mold")
    assert all(check.advice for check in found.values())
    assert builds_work(found.values())


def test_a_compiler_that_fails_is_quoted(script: Path) -> None:
    script.write_text(
        "#!/bin/sh\necho 'note: x' >&2; echo 'probe.c:2: fatal error: no such header' >&2; exit 1\n"
    )
    check = checks("linking")["C compiler"]
    assert (check.status, check.topic) == ("broken", "linking")
    assert check.found.endswith(": probe.c:2: fatal error: no such header")


def test_a_program_that_does_not_run_is_found(script: Path) -> None:
    # As with a linker that makes nonsense, or a loader that is not there.
    script.write_text(
        '#!/bin/sh\nfor last; do :; done\n[ "$last" = --version ] && exit\n'
        'printf "#!/bin/sh\\nkill -SEGV \\$\\$\\n" > "$last"; chmod +x "$last"\n'
    )
    assert checks("linking")["C compiler"].found.endswith("ended by SIGSEGV")


def test_nothing_is_waited_for_longer_than_the_limit(script: Path, tmp_path: Path) -> None:
    script.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/started\nsleep 1000 & wait\n")
    began = time.monotonic()
    tools = Tools(tmp_path, 0.5)
    _, why = tools.run([str(script)])
    assert why == "gave no answer within 0.5 s"
    assert time.monotonic() - began < 30
    (started,) = (tmp_path / "started").read_text().split()
    assert gone(started)


def gone(group: str) -> bool:
    """Whether no process of a group runs any more, soon."""
    give_up = time.monotonic() + 10
    while running := list(processes_of(group)):
        if time.monotonic() > give_up:
            raise AssertionError(f"still running: {running}")
        time.sleep(0.05)
    return True


def processes_of(group: str) -> Iterator[str]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            name, _, facts = stat.read_text().rpartition(")")
            state, _, its_group = facts.split()[:3]
            if its_group == group and state != "Z":
                yield name


def test_whoever_has_heard_enough_stops_it(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/started\nsleep 1000 & wait\n")

    def hangs(tools: Tools) -> Iterator[Check]:
        tools.run([str(script)])
        yield Check("slow", "slow", "ok", "")

    def quick(tools: Tools) -> Iterator[Check]:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        yield Check("slow", "quick", "ok", "")

    monkeypatch.setattr(doctor, "TOPICS", {"slow": (quick, hangs)})
    found = examine(["slow"])
    assert next(found).subject == "quick"
    found.close()  # type: ignore[attr-defined]  # it is a generator
    (started,) = (tmp_path / "started").read_text().split()
    assert gone(started)


# ---- Triton


def test_a_release_that_is_not_known_is_broken_and_a_compiler_that_hangs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "triton-9.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: triton\nVersion: 9.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = checks("triton", limit_s=0.05)
    assert (found["triton"].status, found["triton"].found) == ("broken", "9.1.0")
    assert "pip install 'triton" in found["triton"].advice
    for subject in ("compiles for NVIDIA", "compiles for AMD"):
        assert (found[subject].status, found[subject].found) == ("broken", "gave no answer within 0.05 s")
    assert not builds_work(found.values())


@pytest.mark.parametrize(
    ("nvidia", "amd", "packing", "works"),
    [
        ("ok", "ok", "ok", True),
        ("ok", "broken", "ok", True),
        ("broken", "ok", "ok", True),
        ("broken", "broken", "ok", False),
        ("ok", "ok", "broken", False),
    ],
)
def test_builds_work_for_one_vendor_at_least(nvidia: str, amd: str, packing: str, works: bool) -> None:
    found = [
        Check("triton", "compiles for NVIDIA", nvidia, ""),
        Check("triton", "compiles for AMD", amd, ""),
        Check("install", "packing", packing, "", needed=True),
        Check("install", "torch", "missing", ""),
    ]
    assert builds_work(found) is works


# ---- drivers

DRIVERS = {
    "hangs": ("for (;;) pause();", "gave no answer within 2 s", 2.0),
    "crashes": ("abort();", "ended by SIGABRT", 60.0),
}


@pytest.mark.parametrize("how", DRIVERS)
def test_a_driver_that_is_ill_does_not_make_the_doctor_ill(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("cc")
    code, said, limit_s = DRIVERS[how]
    (tmp_path / "cuda.c").write_text(
        "#include <stdlib.h>\n#include <unistd.h>\n"
        f"__attribute__((constructor)) static void open(void) {{ {code} }}\n"
    )
    run("cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "cuda.c")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    check = checks("drivers", limit_s=limit_s)["drivers"]
    assert (check.status, check.found) == ("broken", said)


def test_a_library_that_is_no_driver_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("cc")
    (tmp_path / "cuda.c").write_text("int cuInit(unsigned flags) { return flags != 0; }\n")
    run("cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "cuda.c")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    check = checks("drivers")["NVIDIA"]
    assert check.status == "broken"
    assert check.found.startswith("libcuda.so.1 lacks cu")


# ---- itself


def test_what_goes_wrong_in_a_probe_is_a_broken_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def falls(tools: Tools) -> Iterator[Check]:
        yield Check("odd", "before", "ok", "")
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(doctor, "TOPICS", {"odd": (falls,)})
    (check,) = examine()
    assert (check.status, check.found) == ("broken", "RuntimeError: what nobody thought of")


def test_a_topic_that_there_is_not_is_refused() -> None:
    with pytest.raises(SpecError, match="topic: expected install, triton, drivers, linking, got 'weather'"):
        examine(["weather"])


def test_what_is_tried_is_none_of_the_users_launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPACK_TUNING", "record")
    monkeypatch.setenv("KPACK_TUNING_SHAPES", str(tmp_path / "shapes.csv"))
    monkeypatch.setenv("CXX", "none")
    need("cc")
    assert checks("linking")["C compiler"].status == "ok"
    assert os.listdir(tmp_path) == []
