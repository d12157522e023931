"""The examples, built in a folder of their own, and the fake driver that computes what they launch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
from tools import attempt, need, run

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
FAKES = HERE.parent / "fakes"
# An example as a user builds it, but with the `kpack` of the Python that runs the tests; without a driver.
PLAIN = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "KPACK_DRIVER": "",
    "LD_LIBRARY_PATH": str(HERE),
}


class Project:
    """A copy of examples/<name>, at its place beside the quickstart, whose gpu.h it includes, and kernels/."""

    def __init__(self, name: str, root: Path) -> None:
        self.folder = root / "examples" / name
        shutil.copytree(EXAMPLES / name, self.folder)
        (root / "examples" / "quickstart").symlink_to(EXAMPLES / "quickstart")
        (root / "kernels").symlink_to(EXAMPLES.parent / "kernels")

    def make(self, *words: str, timeout_s: float = 300) -> str:
        """What make says; in the test's words when it fails."""
        done = self.attempt("make", "ARCHS=sm_90", *words, timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(
        self, *command: object, environment: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            cwd=self.folder,
            env={**PLAIN, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


class Fake:
    """libcuda.so.1 of tests/fakes, whose launches do what kernels.cc has for them."""

    def __init__(self, folder: Path) -> None:
        sources = [
            *("recorder", "image_note", "memory", "kernels", "common"),
            *("cuda_image", "cuda_state", "cuda_launch", "cuda_tensor", "cuda"),
        ]
        shared = ("g++", "-std=c++17", "-O0", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden")
        self.folder, self.kernels = folder, folder / "kernels.so"
        exports = ("-Wl,-Bsymbolic", f"-Wl,--version-script,{FAKES / 'exports.map'}", "-ldl", "-lpthread")
        files = [FAKES / f"{name}.cc" for name in sources]
        run(*shared, *files, "-o", folder / "libcuda.so.1", *exports, timeout_s=300)
        run(*shared, "-O1", f"-I{FAKES}", HERE / "kernels.cc", "-o", self.kernels, "-ldl", timeout_s=300)

    def environment(self, log: Path) -> dict[str, str]:
        return {
            "LD_LIBRARY_PATH": str(self.folder),
            "FAKE_CUDA": "sm_90;driver=12080",
            "FAKE_KERNELS": str(self.kernels),
            "FAKE_LOG": str(log),
        }

    def compute(self, project: Project, *command: object) -> tuple[str, list[str]]:
        """What a program prints, and the device functions that it launched; it broke no rule of the driver's."""
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        done = project.attempt(*command, environment=self.environment(log))
        assert done.returncode == 0, done.stdout + done.stderr
        lines = log.read_text().splitlines() if log.exists() else []
        assert [line for line in lines if not line.startswith("cuda launch ")] == []
        return done.stdout, [line.split()[2] for line in lines]


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    need("g++")
    return Fake(tmp_path_factory.mktemp("fake"))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    def copy(name: str) -> Project:
        need("make", "g++")
        return Project(name, tmp_path_factory.mktemp(name))

    return copy


@pytest.fixture(scope="session")
def need_module() -> Callable[[str], None]:
    """As need(), of a package for Python."""

    def check(name: str) -> None:
        if find_spec(name) is not None:
            return
        if os.environ.get("KPACK_REQUIRE_TOOLS") == "1":
            pytest.fail(f"not installed: {name}")
        pytest.skip(f"not installed: {name}")

    return check


@pytest.fixture(scope="session")
def no_gpu() -> None:
    """Skip where a driver is found in the default library path: what is looked at is a machine without one."""
    if attempt("sh", "-c", "ldconfig -p | grep -q 'libcuda.so.1\\|libamdhip64.so'").returncode == 0:
        pytest.skip("a GPU driver is in the default library path")
