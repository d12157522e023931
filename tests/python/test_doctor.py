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

from kpack import doctor, paths
from kpack.cli.doctor import doctor as doctor_command
from kpack.doctor import TOPICS, Check, builds_work, drivers, examine
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


def test_linkers_that_are_there_are_not_tried_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    need(PROGRAMS["bfd"])
    monkeypatch.setenv("CC", "none")
    monkeypatch.setenv("CXX", "none")
    check = checks("linking")["linker bfd"]
    assert (check.status, check.advice) == ("warn", "install a C compiler, or name it by CC")


@pytest.mark.parametrize(
    ("said", "command"), [("ccache gcc", ["ccache", "gcc"]), ("", ["cc"]), (" ", ["cc"])], ids=repr
)
def test_a_compiler_is_a_command_and_a_blank_one_the_usual(
    said: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", said)
    assert paths.compiler("CC") == command


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


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment that has none."""
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    others = [path for path in sys.path if not (Path(path) / "triton").exists()]
    monkeypatch.setattr(sys, "path", others)


@pytest.mark.usefixtures("no_triton")
def test_without_triton_all_that_needs_it_is_missing_and_says_what_to_do() -> None:
    found = checks("triton")
    assert list(found) == ["triton", "compiles for NVIDIA", "compiles for AMD"]
    assert {check.status for check in found.values()} == {"missing"}
    assert all(check.advice.startswith("pip install 'triton") for check in found.values())
    assert not builds_work(found.values())
    assert not builds_work([check for check in found.values() if check.subject != "triton"])


@pytest.mark.usefixtures("no_triton")
@pytest.mark.parametrize(
    ("release", "status"), [("3.5.1+rocm7.0", "ok"), ("9.1.0", "broken"), ("", "ok")], ids=str
)
def test_triton_may_come_of_a_distribution_of_another_name_or_of_none(
    release: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").touch()
    if release:
        folder = tmp_path / "pytorch_triton_rocm-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: pytorch-triton-rocm\nVersion: {release}\n"
        )
        (folder / "top_level.txt").write_text("triton\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    check = checks("triton", limit_s=0.05)["triton"]
    assert (check.status, check.found) == (status, release or "of no distribution: its release is not known")


@pytest.mark.parametrize(
    ("nvidia", "amd", "packing", "works"),
    [
        ("ok", "ok", "ok", True),
        ("ok", "broken", "ok", True),
        ("broken", "ok", "ok", True),
        ("broken", "broken", "ok", False),
        ("broken", "missing", "ok", False),
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


def test_without_the_extension_drivers_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "find_spec", lambda name: None)
    check = checks("drivers")["drivers"]
    assert (check.status, check.found) == ("missing", "not asked: there is no extension kpack._runtime")
    assert "install Python's headers" in check.advice


def test_a_library_that_is_no_driver_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("cc")
    (tmp_path / "cuda.c").write_text("int cuInit(unsigned flags) { return flags != 0; }\n")
    run("cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "cuda.c")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    check = checks("drivers")["NVIDIA"]
    assert check.status == "broken"
    assert check.found.startswith("libcuda.so.1 lacks cu")


# ---- itself


@pytest.mark.parametrize(
    ("topic", "works"), [("install", False), ("triton", False), ("drivers", True), ("linking", True)]
)
def test_what_goes_wrong_in_a_probe_is_a_broken_check_beside_what_it_found(
    topic: str, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def falls(tools: Tools) -> Iterator[Check]:
        yield before
        raise RuntimeError("what nobody thought of")

    before = Check(topic, "before", "ok", "")
    monkeypatch.setattr(doctor, "TOPICS", {topic: (falls,)})
    first, check = examine()
    assert first == before
    assert (check.status, check.found) == ("broken", "RuntimeError: what nobody thought of")
    assert check.advice
    assert builds_work([first, check]) is works


def test_the_command_takes_the_topics_that_there_are() -> None:
    (argument,) = (each for each in doctor_command.params if each.name == "topics")
    assert tuple(argument.type.choices) == tuple(TOPICS)  # type: ignore[attr-defined]  # it is a Choice


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
