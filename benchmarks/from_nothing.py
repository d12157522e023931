"""README's "From nothing", to the letter: its blocks in order, in an empty folder and environment. Writes
results/from_nothing.md: seconds by step, and of `import kpack`.

    python benchmarks/from_nothing.py
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "from_nothing.md"
SECTION = "## From nothing\n"
IMPORTS = 21


@dataclass(frozen=True)
class Block:
    """A fenced block: commands for a shell, or a file, whose first line names it."""

    language: str
    text: str

    @property
    def file(self) -> str:
        """ "" of commands."""
        return "" if self.language == "sh" else self.text.split("\n")[0].lstrip("#/ ")


def blocks() -> list[Block]:
    section = (ROOT / "README.md").read_text().split(SECTION)[1].split("\n## ")[0]
    fence = r"^```(sh|python|cmake|cpp)\n(.*?)^```$"
    return [Block(*found) for found in re.findall(fence, section, re.MULTILINE | re.DOTALL)]


def checkout(folder: Path) -> None:
    """What a clone has, with what is not committed yet: no build, no environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def follow(folder: Path, environment: dict[str, str]) -> list[tuple[str, float, str]]:
    """Each line of each sh block in one shell: the line, its seconds, what it printed."""
    steps = []
    shell = subprocess.Popen(
        ["sh"], cwd=folder, env=environment, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert shell.stdin and shell.stdout
    for block in blocks():
        if block.file:
            (folder / block.file).write_text(block.text)
            continue
        for line in block.text.splitlines():
            began = time.monotonic()
            print(f"$ {line}", flush=True)
            shell.stdin.write(f'{line}\necho "\n--done $?"\n')
            printed = []
            while not (said := shell.stdout.readline()).startswith("--done"):
                if not said:
                    raise SystemExit(f"{line}: the shell has ended")
                printed.append(said)
            text = "".join(printed).strip()
            if said.split() != ["--done", "0"]:
                raise SystemExit(f"{line}: exit status {said.split()[1]}\n{text}")
            steps.append((line, time.monotonic() - began, text))
    shell.stdin.close()
    shell.wait()
    return steps


def import_ms(python: Path, what: str) -> float:
    """Milliseconds of a Python that runs `what` beyond those of one that runs nothing, median of turns."""
    differences = []
    for _ in range(IMPORTS):
        times = []
        for script in ("pass", what):
            began = time.perf_counter()
            subprocess.run([python, "-c", script], check=True, cwd=python.parent)
            times.append(1000 * (time.perf_counter() - began))
        differences.append(times[1] - times[0])
    return statistics.median(differences)


def machine() -> str:
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="from-nothing-") as name:
        top = Path(name)
        checkout(top / "kpack")
        (top / "app").mkdir()
        (top / "home").mkdir()
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "TERM") if key in os.environ}
        kept |= {
            key: value
            for key, value in os.environ.items()
            if key.lower().endswith("_proxy") or key.startswith("PIP_")
        }
        steps = follow(top / "app", {**kept, "HOME": str(top / "home")})
        said = steps[-1][2]
        if not said.startswith("KPK_DRY") or "image    scale.BLOCK1024.w4.sm_90" not in said:
            raise SystemExit(f"{steps[-1][0]}: expected the launch that would be made, got {said}")
        python = top / "app" / "env" / "bin" / "python"
        imports = {
            what: import_ms(python, what) for what in ("import kpack", "from kpack import Kernel, build")
        }
    seconds = sum(step[1] for step in steps)
    lines = [
        '# README\'s "From nothing", followed by a script',
        "",
        f"{machine()}, {datetime.now(UTC):%F}; pip without a cache, from the index that it is set to.",
        "",
        "| line | seconds |",
        "|---|---|",
        *(f"| `{line}` | {took:.1f} |" for line, took, _ in steps),
        f"| together: {seconds / 60:.1f} minutes | {seconds:.1f} |",
        "",
        "| in that environment, beyond a bare Python | ms, median of " + f"{IMPORTS} |",
        "|---|---|",
        *(f"| `{what}` | {took:.0f} |" for what, took in imports.items()),
    ]
    RESULT.write_text("\n".join(lines) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
