"""Where the snippets of a page run: a folder, in which one comes after the other."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from snippets import Snippet

PAGES = Path(__file__).parent / "pages"
COMPILE = {".cc": ("g++", "-std=c++17"), ".c": ("gcc", "-std=c11")}
WARNINGS = ("-O1", "-Wall", "-Wextra", "-Werror")


class Place:
    """Where the snippets of one page run."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "KPACK_CACHE_DIR": str(cache),
        }
        for name in [name for name in os.environ if name.startswith("KPACK_") and name != "KPACK_CACHE_DIR"]:
            self.environment.pop(name, None)
        self.names: dict[str, Any] = {}

    def run(self, snippet: Snippet) -> str | None:
        """What a snippet prints; None of a fragment, which a program will include."""
        if snippet.file:
            (self.folder / snippet.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / snippet.file).write_text(snippet.text)
            return ""
        if snippet.language == "sh":
            return self.shell(snippet.text)
        if snippet.language == "python":
            return self.python(snippet)
        assert snippet.language in ("c", "cpp"), f"{snippet.name}: what is {snippet.language!r}?"
        (self.folder / f"{snippet.name}.inc").write_text(snippet.text)
        return None

    def shell(self, text: str) -> str:
        done = subprocess.run(
            ["sh", "-euc", text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def python(self, snippet: Snippet) -> str:
        # In a file, since Triton reads the source of its functions.
        file = self.folder / f"{snippet.name}.py"
        file.write_text(snippet.text)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(snippet.text, str(file), "exec"), self.names)
        return output.getvalue()

    def build(self, source: Path) -> str:
        """A program of the tests, with the page's fragments in it and libtk.a, run dry; what it prints."""
        program = self.folder / source.stem
        flags = " ".join((*COMPILE[source.suffix], *WARNINGS))
        self.shell(
            f"{flags} -I. {source.name} $(kpack config --cflags) -Wl,--whole-archive libtk.a "
            f"-Wl,--no-whole-archive $(kpack config --libs) -o {program.name}"
        )
        return self.shell(f"./{program.name}")
