"""What was found of one thing, and the processes that find it: what may hang or crash is one, with a limit of time."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "AGAIN",
    "BROKEN",
    "MISSING",
    "OK",
    "WARN",
    "WITH_HEADERS",
    "Check",
    "Probe",
    "Tools",
    "package",
    "version_of",
]

OK, WARN, MISSING, BROKEN = "ok", "warn", "missing", "broken"
AGAIN = "install kpack again"
WITH_HEADERS = (
    "for kpack.load, explain and tune install Python's headers (Debian: python3-dev), then kpack again"
)


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one thing. `status`: "ok"; "warn", it works, but not as one may think; "missing"; "broken", it
    is there and does not work. `advice`: what to do, where there is something. `needed`: no kernel is built without."""

    topic: str
    subject: str
    status: str
    found: str
    advice: str = ""
    needed: bool = False


class Tools:
    """Runs programs for probes: in a folder of theirs, and for so long."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self.folder, self.limit_s = folder, limit_s
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._lock = threading.Lock()
        self._lock_of_pack = threading.Lock()
        self._pack: tuple[Path, str] | None = None

    def run(self, command: Sequence[str], **environment: str) -> tuple[str, str]:
        """What it prints, and why it failed, or ""."""
        try:
            with self._lock:
                if self._stopped:
                    return "", "stopped"
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    env={**_plain_environment(), **environment},
                    start_new_session=True,
                )
                self._running.add(process)
        except OSError as error:
            return "", f"{command[0]} does not start: {error.strerror}"
        try:
            out, err = process.communicate(timeout=self.limit_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            return "", f"gave no answer within {self.limit_s:g} s"
        finally:
            with self._lock:
                self._running.discard(process)
        return out, _why(process.returncode, err)

    def python(self, script: str, *arguments: str, **environment: str) -> tuple[str, str]:
        return self.run([sys.executable, "-P", "-c", script, *arguments], **environment)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    def pack(self) -> tuple[Path, str]:
        """An archive with a kernel `probe` of pack `doctor`, made once, and why there is none."""
        with self._lock_of_pack:
            if self._pack is None:
                path = self.folder / "libdoctor.a"
                _, why = self.python(_PACK, str(path), KPACK_CACHE_DIR=str(self.folder / "cache"))
                self._pack = path, why
            return self._pack


def _plain_environment() -> dict[str, str]:
    """Without what would have probes recorded, tuned or logged as the user's own launches are."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KPACK_")}


def _kill(process: subprocess.Popen[str]) -> None:
    """It and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _why(status: int, said: str) -> str:
    if not status:
        return ""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|cannot|not found", line, re.IGNORECASE)]
    # Of a traceback, the last line; of a linker, the first that says so.
    last = lines[-1] if lines and lines[0].startswith("Traceback") else next(iter(telling or lines), "")
    return last.strip() or f"exit status {status}"


Probe = Callable[[Tools], Iterable[Check]]


# Ready-made code, for which no compiler is needed.
_PACK = r"""
import sys, kpack
ptx = b".version 8.0\n.target sm_70\n.address_size 64\n"
ptx += b".visible .entry probe(.param .u64 out, .param .u32 n)\n{\nret;\n}\n"
probe = kpack.Images("probe", {"ptx_70": ptx}, signature={"out": "*fp32", "n": "i32"}, grid="n", num_warps=1)
kpack.build(probe, "ptx_70", name="doctor", jobs=1, progress=False).write(sys.argv[1])
"""


def package(topic: str, name: str, needed: bool, without: str) -> Check:
    """Whether there is a module of that name: a distribution of another may bring it (pytorch-triton-rocm)."""
    if find_spec(name) is None:
        return Check(topic, name, MISSING, "not installed", without, needed)
    return Check(
        topic, name, OK, version_of(name) or "of no distribution: its release is not known", needed=needed
    )


def version_of(module: str) -> str | None:
    """That of the distribution of its name, or else of the one that has it."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(module)
    others = metadata.packages_distributions().get(module, ())  # reads what all of them have
    return next(map(metadata.version, others), None)
