"""How every command behaves: help that teaches, colours, completion, JSON, exit statuses, a light start."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from packs import kernel_with_holes, pack_members
from tools import need

import kpack.cli
from kpack.cli import STATUSES, commands
from kpack.cli.teach import Command
from kpack.objfile.archive import write_archive
from kpack.objfile.encode import encode_index

ROOT = Path(__file__).parents[2]
MAIN = "import kpack.cli; kpack.cli.main()"
HEAVY = {"triton", "torch", "lief", "numpy", "rich", "msgpack", "onnxruntime"}


def command(*arguments: object, script: str = MAIN, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manners") / "libtk.a"
    write_archive(path, pack_members())
    return path


# ---- help


@pytest.mark.parametrize("name", commands.commands)
def test_help_of_each_command_says_what_it_is_for_and_shows_examples(name: str) -> None:
    found = commands.commands[name]
    with click.Context(found, info_name=f"kpack {name}") as context:
        text = found.get_help(context)
    assert found.short_help and found.short_help.endswith(".")
    assert isinstance(found, Command)
    assert text.index("Options:") < text.index("Examples:")
    assert sum(f"kpack {name}" in line for line in found.examples) >= 2
    undescribed = [
        each.name
        for each in found.params
        if isinstance(each, click.Option) and not (each.help or each.hidden)
    ]
    assert undescribed == []


def examples() -> list[str]:
    """The command lines of kpack in all examples, and in the page about them."""
    page = (ROOT / "docs" / "cli.md").read_text()
    shown = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines()
    lines = [
        *commands.examples,
        *(line for each in commands.commands.values() for line in each.examples),
        *shown,
    ]
    return list(dict.fromkeys(found for line in lines for found in calls(line)))


def calls(line: str) -> list[str]:
    """The calls of kpack in a line of shell, also those in $(...)."""
    inner = re.findall(r"\$\((kpack [^()]*)\)", line)
    plain = re.sub(r"\$\([^()]*\)", "word", line)
    split = shlex.shlex(plain, posix=True, punctuation_chars="|><;&")
    split.whitespace_split = True
    words: list[str] = []
    for word in split:
        if set(word) <= set("|><;&"):
            break
        words.append(word)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return inner + ([shlex.join(words)] if words[:1] == ["kpack"] else [])


def test_calls_are_found_in_lines_of_shell() -> None:
    assert calls("A=1 kpack ls --json 'a b' | jq . # all of it") == ["kpack ls --json 'a b'"]
    assert calls("g++ a.cc $(kpack config --libs) -o a") == ["kpack config --libs"]
    assert calls("./app") == []


@pytest.mark.parametrize("line", examples())
def test_an_example_is_a_call_that_kpack_takes(line: str) -> None:
    _, name, *words = shlex.split(line)
    if name != "--help":
        with contextlib.suppress(click.exceptions.Exit):  # of a command's own --help
            commands.commands[name].make_context(name, words)


def test_the_page_has_each_command_and_status() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert re.findall(r"^\| `kpack (\w+)` \|", page, re.MULTILINE) == commands.list_commands(
        click.Context(commands)
    )
    assert dict(re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)) == {
        str(status): text for status, text in STATUSES.items()
    }


def test_a_slip_of_the_pen_is_wrong_usage() -> None:
    done = command("buidl")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'buidl'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["build", "--help"], {}),
        (["config", "--libs"], {}),
        (["ls", "--json", "{archive}"], {}),
        (
            [],
            {"_KPACK_COMPLETE": "zsh_complete", "COMP_WORDS": "kpack explain {archive} ", "COMP_CWORD": "3"},
        ),
    ],
    ids=["help", "help-of-a-command", "config", "json", "completion"],
)
def test_nothing_heavy_is_loaded_for(
    archive: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    script = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); " + MAIN
    given = {name: value.format(archive=archive) for name, value in environment.items()}
    done = command(*(each.format(archive=archive) for each in arguments), script=script, **given)
    assert done.returncode in (0, 1)  # click ends a completion with either
    loaded = set(done.stderr.split())
    assert "kpack.cli" in loaded
    assert done.stdout
    assert not loaded & HEAVY


# ---- terminals


def on_a_terminal(*arguments: object, **environment: str) -> str:
    """What a command writes to one."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        stdout=theirs,
        env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **environment},
    ):
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    return b"".join(parts).decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    member = kernel_with_holes()
    write_archive(tmp_path / "libtk.a", [member, encode_index("tk", [member])])
    assert COLOUR.search(on_a_terminal("ls", tmp_path / "libtk.a"))
    assert not COLOUR.search(on_a_terminal("ls", tmp_path / "libtk.a", NO_COLOR="1"))
    assert "\x1b" not in on_a_terminal("ls", tmp_path / "libtk.a", TERM="dumb")
    assert "\x1b" not in command("ls", tmp_path / "libtk.a").stdout


def test_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    from packs import images, plan

    from kpack.objfile.encode import encode_kernel

    of = plan(guard_text="n < 1 \x1b]0;owned\x07[/red][bold]", source="\x1b[2J")
    member = encode_kernel("tk", of, images(of))
    write_archive(tmp_path / "libtk.a", [member, encode_index("tk", [member])])
    done = command("ls", "--summary", tmp_path / "libtk.a")
    assert done.returncode == 0, done.stderr
    assert "guard n < 1 ?]0;owned?[/red][bold]" in done.stdout
    assert not {"\x1b", "\x07"} & set(done.stdout)


# ---- errors


def test_what_nobody_thought_of_is_a_line_with_its_own_status(archive: Path) -> None:
    plant = "import kpack.objfile.reading as r; r.read_packs = lambda path: 1 // 0; " + MAIN
    done = command("ls", archive, script=plant)
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr == (
        "kpack: unexpected ZeroDivisionError: integer division or modulo by zero; --traceback shows where\n"
    )
    done = command("--traceback", "ls", archive, script=plant)
    assert done.returncode == 70
    assert done.stderr.startswith("Traceback (most recent call last)")


SECTIONS = ROOT / "docs" / "errors.md"


@pytest.mark.parametrize(
    ("arguments", "section"),
    [
        (["ls", "absent.a"], "formaterror"),
        (["ls", "--json", "absent.a"], "formaterror"),
        (["build", "one.py", "--arch", "sm_9", "-o", "libtk.a"], "targeterror"),
        (["build", "one.py", "--arch", "sm_9", "-o", "libtk.a", "--json"], "targeterror"),
        (["build", "one.py", "--arch", "sm_90", "-o", "libtk.so"], "packerror"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given[:2]),
)
def test_the_last_line_of_an_error_is_where_its_page_is(arguments: list[str], section: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    first, *_, last = done.stderr.splitlines()
    assert first.startswith("kpack: ") and "errors.md" not in first
    assert last == f"kpack: see {SECTIONS}#{section}"
    assert done.stderr.count("errors.md") == 1


def test_a_traceback_has_the_page_once() -> None:
    done = command("--traceback", "ls", "absent.a")
    assert done.stderr.splitlines()[-1] == f"see {SECTIONS}#formaterror"
    assert done.stderr.count("errors.md") == 1


def test_warnings_are_lines_of_kpack(archive: Path) -> None:
    plant = (
        "import warnings, kpack.objfile.reading as r; old = r.read_packs\n"
        "def read(path):\n    warnings.warn('look here')\n    return old(path)\n"
        "r.read_packs = read\n"
    )
    done = command("ls", "--summary", archive, script=plant + MAIN)
    assert (done.returncode, done.stderr) == (0, "kpack: warning: look here\n")


# ---- JSON


def test_config_says_all_to_machines() -> None:
    found = json.loads(command("config", "--json").stdout)
    assert {"includedir", "libdir", "cmakedir", "cflags", "libs"} <= set(found)
    assert command("config", "--libs", "--cflags").stdout.split() == found["cflags"] + found["libs"]
    assert all(Path(found[name][0]).is_dir() for name in ("includedir", "libdir", "cmakedir"))


READY = """
import kpack
PTX = b".version 8.0\\n.target sm_80\\n.address_size 64\\n.visible .entry own(.param .u64 p, .param .u32 n)\\n{ret;}\\n"
own = kpack.Images("own", {"ptx_80": PTX}, signature={"out": "*fp32", "n": "i32"}, guard="n > 0", grid=1, num_warps=1)
"""


def test_build_and_explain_say_to_machines_what_they_did(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(READY)
    built = command("build", tmp_path / "own.py", "--arch", "ptx_80", "-o", tmp_path / "libtk.a", "--json")
    assert (built.returncode, built.stderr) == (0, "")
    said = json.loads(built.stdout)
    assert (said["archive"], said["bytes"]) == (
        str(tmp_path / "libtk.a"),
        (tmp_path / "libtk.a").stat().st_size,
    )
    assert (said["kernels"], said["targets"], said["images"], said["failures"]) == (
        ["own"],
        ["ptx_80"],
        1,
        [],
    )
    for n, status in ((7, 0), (0, 1)):
        need("cc")
        asked = command("explain", tmp_path / "libtk.a", "own", "*fp32", n, "--arch", "sm_80", "--json")
        assert asked.returncode == status, asked.stderr
        found = json.loads(asked.stdout)
        assert (found["kernel"], found["runs"]) == ("own", status == 0)
        assert found["lines"][0].startswith("own on sm_80: runs" if status == 0 else "own")


def test_ls_shows_what_a_program_was_linked_with(archive: Path, tmp_path: Path) -> None:
    need("cc")
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"]
    subprocess.run(["cc", "-shared", "-o", str(tmp_path / "lib.so"), *whole], check=True)
    lines = command("ls", "--summary", tmp_path / "lib.so").stdout.splitlines()
    assert lines[0].startswith("pack tk: 3 kernels, 27 images, host x86_64, ")
    assert [line for line in lines if "softmax.py" in line]


# ---- completion


class Protocol(ShellComplete):
    """What is completed, without a shell."""

    name = "none"


def completed(*words: str) -> list[str]:
    *before, typed = words
    found = Protocol(commands, {}, "kpack", "_KPACK_COMPLETE").get_completions(before, typed)
    return [each.value for each in found]


def test_commands_options_and_files_are_completed() -> None:
    assert completed("e") == ["explain", "extract"]
    assert completed("verify", "--ag") == ["--against"]
    assert completed("completion", "f") == ["fish"]
    assert completed("build", "--host", "a") == ["aarch64"]
    found = Protocol(commands, {}, "kpack", "_KPACK_COMPLETE").get_completions(["ls"], "lib")
    assert [each.type for each in found] == ["file"]


def test_archs_are_completed_also_behind_a_comma() -> None:
    assert completed("build", "--arch", "gfx94") == ["gfx942"]
    assert completed("build", "--arch", "gfx90a,sm_9") == ["gfx90a,sm_90", "gfx90a,sm_90a"]


def test_names_in_an_archive_are_completed(archive: Path) -> None:
    file = str(archive)
    assert completed("explain", file, "") == ["add", "softmax", "vec"]
    assert completed("extract", file, "s") == ["softmax"]
    assert completed("extract", file, "softmax/fp16.") == [
        "softmax/fp16.BLOCK1024.w4.a16",
        "softmax/fp16.BLOCK1024.w4",
    ]
    assert completed("extract", file, "softmax/fp32.BLOCK2048.w8@s") == ["softmax/fp32.BLOCK2048.w8@sm_80"]


def test_of_a_large_archive_no_content_is_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kpack.cli.completing, "_MOST_BYTES", 10)
    assert completed("explain", str(archive), "v") == ["vec"]
    assert completed("extract", str(archive), "softmax/") == []


@pytest.mark.parametrize("content", [None, b"", b"!<arch>\n" + b"x" * 99, b"\x7fELF", b"hello"])
def test_completion_is_silent_about_files_that_are_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert completed("explain", str(tmp_path / "file"), "") == []
    assert completed("extract", str(tmp_path / "file"), "a/") == []


@pytest.mark.parametrize(
    ("shell", "mark"), [("zsh", "#compdef kpack"), ("fish", "complete --no-files --command kpack")]
)
def test_each_shell_has_a_script(shell: str, mark: str) -> None:
    done = command("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert mark in done.stdout
