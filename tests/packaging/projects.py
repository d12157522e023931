"""Small projects that use kpack as others do: files in a folder, configured and built by real tools."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kpack import paths

ROOT = Path(__file__).parents[2]
GENERATORS = {"ninja": "Ninja", "make": "Unix Makefiles"}

# Ready-made code: such a kernel file is built without Triton, in a moment.
PTX = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry {0}(.param .u64 out, .param .u32 n) {{ ret; }}\n"
IMAGES = """
from pathlib import Path
import kpack
{0} = kpack.Images("{0}", Path(__file__).with_name("{0}.ptx"), signature={{"out": "*fp32", "n": "i32"}},
                   grid="cdiv(n, 32)", num_warps=1)
"""
LIST = """
#include <kpack/kpack.hpp>
#include <cstdio>
int main() { for (const kpack::Kernel &kernel : kpack::linked_kernels()) std::puts(kernel.name()); }
"""


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def images(*names: str) -> dict[str, str]:
    """A kernel file of each name, and the code that it reads."""
    files = {f"{name}.py": IMAGES.format(name) for name in names}
    return files | {f"{name}.ptx": PTX.format(name) for name in names}


def environment(**more: str) -> dict[str, str]:
    """With the `kpack` of this Python first, and no driver but the dry one."""
    bin_ = Path(sys.executable).parent
    nowhere = {"KPACK_DRIVER": "", "LD_LIBRARY_PATH": ""}
    return {**os.environ, **nowhere, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", **more}


@dataclass(frozen=True)
class Project:
    """A CMake project in `source`, built in `build`."""

    source: Path
    build: Path
    generator: str = "Ninja"
    environment: Mapping[str, str] | None = None

    def configure(self, *options: str) -> str:
        found = f"-Dkpack_DIR={paths.cmake_dir()}"
        return self._run("cmake", "-S", self.source, "-B", self.build, "-G", self.generator, found, *options)

    def make(self, *options: str) -> str:
        return self._run("cmake", "--build", self.build, *options)

    def fail(self, *command: object) -> str:
        """What a command that must fail prints, in one line."""
        done = self._start(*command)
        assert done.returncode, done.stdout
        return " ".join((done.stdout + done.stderr).split())

    def run(self, program: str = "app") -> str:
        return self._run(self.build / program)

    def _run(self, *command: object) -> str:
        done = self._start(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _start(self, *command: object) -> subprocess.CompletedProcess[str]:
        used = self.environment or environment()
        return subprocess.run(
            [*map(str, command)], env=dict(used), capture_output=True, text=True, timeout=300
        )
