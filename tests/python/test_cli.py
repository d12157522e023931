"""The command line as a user runs it: a process, its output, its exit status."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twice import KERNEL


def kpack(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "twice.py"
    path.write_text(KERNEL)
    return path


@pytest.fixture(scope="module")
def archive(source: Path) -> Path:
    path = source.parent / "libmath.a"
    done = kpack("build", source, "--arch", "gfx90a,sm_80", "--arch", "sm_80", "-o", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 kernel, 8 images for gfx90a, sm_80" in done.stdout
    return path


def test_files_and_folders_are_built_together_each_kernel_once(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(KERNEL.replace('name="twice"', 'name="again"'))
    done = kpack("build", source, source.parent, other, "--arch", "sm_80", "-o", tmp_path / "libtk.a")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 kernels, 8 images for sm_80" in done.stdout


def test_quiet_build_prints_nothing(source: Path, tmp_path: Path) -> None:
    done = kpack("build", "-q", source, "--arch", "sm_80", "-o", tmp_path / "libtk.a")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "libtk.a").exists()


def test_ls_shows_each_image_with_its_facts(archive: Path) -> None:
    done = kpack("ls", archive)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("pack math: 1 kernel, 8 images, host x86_64, ")
    assert "twice(*{fp16,fp32} out_ptr, const *{fp16,fp32} in_ptr, i32 n)" in lines[2]
    assert lines[3].strip() == "guard n > 0"
    assert lines[5].split() == "variant target bytes warps registers spills shared".split()
    rows = [line.split() for line in lines[6:]]
    assert [row[:2] for row in rows[:3]] == [
        ["fp16.BLOCK256.w2.a16", "gfx90a"],
        ["fp16.BLOCK256.w2.a16", "sm_80"],
        ["fp16.BLOCK256.w2", "gfx90a"],
    ]
    assert all(len(row) == 7 and int(row[2].replace(",", "")) > 1000 and row[3] == "2" for row in rows)


def test_ls_summary_has_a_line_a_target(archive: Path) -> None:
    lines = kpack("ls", "--summary", archive).stdout.splitlines()
    assert [line.split()[:2] for line in lines[6:]] == [["gfx90a", "4"], ["sm_80", "4"]]


def test_ls_json_has_every_fact(archive: Path) -> None:
    pack = json.loads(kpack("ls", "--json", archive).stdout)
    (kernel,) = pack["kernels"]
    assert (pack["name"], kernel["name"], len(kernel["variants"])) == ("math", "twice", 4)
    out, source, n = kernel["params"]
    assert (out["type"], source["type"], n["type"]) == ("varies", "varies", "i32")
    assert (source["kind"], source["flags"], source["direction"]) == ("argument", ["const"], "in")
    assert [overload["types"] for overload in kernel["overloads"]] == [
        ["*fp16", "*fp16", "i32"],
        ["*fp32", "*fp32", "i32"],
    ]
    assert [(t["name"], t["vendor"], t["kind"], t["reach"]) for t in kernel["targets"]] == [
        ("gfx90a", "hip", "hsaco", "exact"),
        ("sm_80", "cuda", "cubin", "major"),
    ]
    assert kernel["constexprs"] == [{"name": "BLOCK", "role": "tuned"}]
    assert re.fullmatch("[0-9a-f]{16}", kernel["hash"])
    image = kernel["images"][0]
    assert image["entry"] == "twice_fp16_BLOCK256_w2_a16"
    assert image["registers"] > 0
    last = image["layout"][-1]  # of one hidden pointer (Triton 3.4) or two
    assert image["param_bytes"] == last["offset"] + last["size"] >= 32
    assert (image["codec"], image["flags"]) == ("raw", [])
    assert [slot["source"] for slot in image["layout"]][2:4] == ["argument", "global_scratch"]
    assert kernel["images"][1]["flags"] == ["scratch_per_cta"]
    assert "triton" in json.loads(kernel["info"])


def test_config_names_what_is_there() -> None:
    cflags, runtime = kpack("config", "--cflags", "--libs").stdout.split()[:2]
    assert (Path(cflags.removeprefix("-I")) / "kpack" / "kpack.hpp").is_file()
    assert Path(runtime).name == "libkpack_runtime.a"
    assert Path(runtime).is_file()


def mangled(archive: Path, tmp_path: Path, size: int) -> Path:
    path = tmp_path / "libbad.a"
    path.write_bytes(archive.read_bytes()[:size])
    return path


def test_truncated_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    done = kpack("ls", mangled(archive, tmp_path, 5000))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"kpack: {tmp_path}/libbad.a: ")
    assert "expected" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls", "{tmp}/absent.a"], "absent.a"),
        (["ls", "{source}"], "expected an archive ('!<arch>'), got 'import'"),
        (["build", "{source}", "--arch", "sm_9", "-o", "{tmp}/libtk.a"], "got 'sm_9'; did you mean 'sm_90'?"),
        (["build", "{tmp}/absent.py", "--arch", "sm_80", "-o", "{tmp}/libtk.a"], "which does not exist"),
        (["build", "{source}", "--arch", "sm_80", "-o", "{tmp}/lib_t.a"], "give --name"),
        (["build", "{source}", "--arch", "sm_80", "-o", "{tmp}/no/libtk.a"], "expected an existing folder"),
        (["build", "{source}", "--arch", "sm_80", "-o", "{tmp}"], "expected a file to write the archive to"),
        (["build", "{source}", "--arch", "sm_80", "-o", "/proc/libtk.a"], "expected a folder that can be"),
        (
            ["build", "{source}", "--arch", "sm_80", "-o", "{tmp}/libtk.so"],
            "got '.so'; write an archive and link it: c++ -shared -Wl,--whole-archive libtk.a",
        ),
        (
            ["build", "{source}", "--arch", "sm_80", "--name", "T_K", "-o", "{tmp}/libtk.a"],
            "--name: pack name: expected a lower-case letter",
        ),
        (["build", "{source}", "--arch", "sm_80", "--host", "vax", "-o", "{tmp}/libtk.a"], "'vax'"),
    ],
    ids=[
        "ls-absent",
        "ls-foreign",
        "arch",
        "no-source",
        "pack-name",
        "no-folder",
        "folder",
        "not-writable",
        "shared-object",
        "name",
        "host",
    ],
)
def test_refusals_are_sentences(source: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = kpack(*(argument.format(tmp=tmp_path, source=source) for argument in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith("kpack: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.a"))


def test_a_kernel_that_does_not_compile_is_named_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(KERNEL.replace("2 * tl.load(in_ptr + at, mask=at < n)", "tl.sqrt(undefined_name)"))
    done = kpack("build", broken, "--arch", "sm_80", "-o", tmp_path / "libtk.a")
    assert done.returncode == 1
    assert "4 variants did not compile" in done.stderr
    assert f"twice.fp16.BLOCK256.w2.a16 for sm_80: {broken}:7: in double_kernel, at 3:" in done.stderr
    assert "undefined_name" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "libtk.a").exists()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["ls"], {"KPACK_TRACEBACK": "1"}), (["--traceback", "ls"], {}), (["ls", "--traceback"], {})],
    ids=["environment", "global", "of-the-command"],
)
def test_traceback_on_request(tmp_path: Path, arguments: list[str], environment: dict[str, str]) -> None:
    done = kpack(*arguments, tmp_path / "absent.a", **environment)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "absent.a: expected a readable file" in done.stderr


@pytest.mark.parametrize("output", ["libt_k.a", "no/libtk.a", "libtk.so"])
def test_a_wrong_output_is_refused_before_the_kernels_are_run(tmp_path: Path, output: str) -> None:
    (tmp_path / "loud.py").write_text("raise ValueError('was run')")
    done = kpack("build", tmp_path / "loud.py", "--arch", "sm_80", "-o", tmp_path / output)
    assert done.returncode == 1
    assert "was run" not in done.stderr


@pytest.mark.parametrize("jobs", ["0", "-3", "x", "2.5"])
def test_a_number_of_jobs_is_1_or_more(source: Path, tmp_path: Path, jobs: str) -> None:
    done = kpack("build", source, "--arch", "sm_80", "-o", tmp_path / "libtk.a", "-j", jobs)
    assert done.returncode == 2
    assert f"expected 1 or more, got '{jobs}'" in done.stderr


def test_output_that_cannot_be_written_is_a_sentence(archive: Path) -> None:
    for options in ([], ["--json"]):
        command = [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", "ls", *options, str(archive)]
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1
        assert (
            done.stderr == "kpack: output: expected a place to read or write, got No space left on device\n"
        )


def test_a_closed_pipe_ends_it_quietly(archive: Path) -> None:
    for options in ([], ["--json"]):
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", "ls", *options, str(archive)]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert (done.returncode, done.stderr) == (1, "")


def test_ls_shows_no_registers_of_ptx_and_counts_one_image(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text(KERNEL.replace(":16?", "").replace(', "fp32"]', "]"))
    built = kpack("build", path, "--arch", "ptx_80", "-o", tmp_path / "libtk.a")
    assert "1 kernel, 1 image for ptx_80" in built.stdout
    lines = kpack("ls", tmp_path / "libtk.a").stdout.splitlines()
    assert lines[0].startswith("pack tk: 1 kernel, 1 image, host")
    assert lines[-1].split()[4:6] == ["-", "-"]
    assert kpack("ls", "--summary", tmp_path / "libtk.a").stdout.split()[-3:-1] == ["-", "-"]


def of_session(session: int) -> list[str]:
    """What a session has left running. Workers are groups of their own in it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            name, _, facts = stat.read_text().rpartition(")")
            state, _, _, itself = facts.split()[:4]
            if int(itself) == session and state != "Z":
                found.append(name)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    many = tmp_path / "many.py"
    configs = [{"BLOCK": 2**power, "num_warps": 2**warps} for power in range(5, 14) for warps in range(5)]
    many.write_text(KERNEL.replace('[{"BLOCK": 256, "num_warps": 2}]', str(configs)))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    building = subprocess.Popen(
        [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", "build", str(many)]
        + ["--arch", "sm_80,gfx90a", "-j", "2", "-o", str(tmp_path / "out" / "libtk.a")],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "KPACK_CACHE_DIR": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    give_up = time.monotonic() + 60
    while not list(tmp_path.glob("tmp/kpack-*/1.log")) and time.monotonic() < give_up:
        time.sleep(0.05)
    time.sleep(0.5)
    assert len(of_session(building.pid)) >= 3
    building.send_signal(number)
    out, error = building.communicate(timeout=30)
    assert (building.returncode, out, error.strip()) == (130, "", "kpack: interrupted")
    assert list((tmp_path / "out").iterdir()) == []
    gone = time.monotonic() + 5
    while of_session(building.pid) and time.monotonic() < gone:
        time.sleep(0.1)
    assert of_session(building.pid) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_wrong_usage_has_its_own_status() -> None:
    assert kpack("build").returncode == 2
    assert kpack("config").returncode == 2
    assert kpack("--help").returncode == 0
