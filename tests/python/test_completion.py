"""Completion in the shells themselves, as far as they are installed: what a tab makes of a line."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packs import pack_members
from tools import need

from kpack.objfile.archive import write_archive

# What is typed before the tab, and what it makes of it.
LINES = {
    "kpack exp": "kpack explain",
    "kpack ls --js": "kpack ls --json",
    "kpack ls lib": "kpack ls libtk.a",
    "kpack verify odd@name.so lib": "kpack verify odd@name.so libtk.a",
    "kpack completion f": "kpack completion fish",
    "kpack build --host aa": "kpack build --host aarch64",
    "kpack build --host=aa": "kpack build --host=aarch64",
    "kpack build --arch gfx94": "kpack build --arch gfx942",
    "kpack build --arch gfx90a,gfx94": "kpack build --arch gfx90a,gfx942",
    "kpack build --arch=gfx90a,gfx94": "kpack build --arch=gfx90a,gfx942",
    "kpack explain libtk.a so": "kpack explain libtk.a softmax",
    "kpack extract libtk.a softmax/fp32": "kpack extract libtk.a softmax/fp32.BLOCK2048.w8",
    "kpack extract libtk.a softmax/fp32.BLOCK2048.w8@s": "kpack extract libtk.a softmax/fp32.BLOCK2048.w8@sm_80",
    "kpack extract libtk.a add softmax/fp32.BLOCK2048.w8@g": (
        "kpack extract libtk.a add softmax/fp32.BLOCK2048.w8@gfx90a"
    ),
}
# How a shell is started with a file of commands, what that says, and a key, Ctrl-X s, that writes the line to a file.
SHELLS = {
    "bash": (
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        """PS1='ready> '; eval "$(kpack completion bash)"
bind -x '"\\C-xs": printf "%s\\n" "$READLINE_LINE" > line.new; mv line.new line'
""",
    ),
    "zsh": (
        ["env", "ZDOTDIR=.", "zsh", "-d", "-i"],
        """PS1='ready> '; autoload -U compinit; compinit -u -D; eval "$(kpack completion zsh)"
tell() { print -r -- "$BUFFER" > line.new; mv line.new line }
zle -N tell; bindkey '^Xs' tell
""",
    ),
    "fish": (
        ["fish", "--no-config", "-C", "source rc"],
        """function fish_prompt; echo "ready> "; end
kpack completion fish | source
bind \\cxs 'commandline > line.new; mv line.new line'
""",
    ),
}
TAB, TELL, CLEAR = b"\t", b"\x18s", b"\x15"
PATIENCE_S = 60


class Terminal:
    """A shell that reads what is typed here."""

    def __init__(self, folder: Path, terminal: int) -> None:
        self.folder = folder
        self.terminal = terminal
        self.seen = b""

    def completed(self, line: str) -> str:
        os.write(self.terminal, line.encode() + TAB + TELL)
        self.wait(lambda: (self.folder / "line").exists(), line)
        told = (self.folder / "line").read_text()
        (self.folder / "line").unlink()
        os.write(self.terminal, CLEAR)
        return told.strip()

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not ready():
            assert time.monotonic() < end, f"{what}: {self.seen.decode(errors='replace')}"
            if select.select([self.terminal], [], [], 0.02)[0]:
                self.seen += os.read(self.terminal, 1 << 16)


@contextmanager
def started(shell: str, folder: Path) -> Iterator[Terminal]:
    command, commands = SHELLS[shell]
    (folder / "rc").write_text(commands)
    (folder / ".zshrc").write_text(commands)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", *command],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PATH": path, "HOME": str(folder), "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        try:
            terminal = Terminal(folder, ours)
            terminal.wait(lambda: b"ready> " in terminal.seen, "a prompt")
            yield terminal
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tab_completes_the_line(shell: str, tmp_path: Path) -> None:
    need(shell, "setsid")
    write_archive(tmp_path / "libtk.a", pack_members())
    program = tmp_path / "bin" / "kpack"
    program.parent.mkdir()
    main = shlex.quote("import kpack.cli; kpack.cli.main()")
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {main} "$@"\n')
    program.chmod(0o755)
    with started(shell, tmp_path) as terminal:
        found = {line: terminal.completed(line) for line in LINES}
    assert found == LINES
