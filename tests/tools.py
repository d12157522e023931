"""Foreign programs that tests run: found by name or skipped by name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).parents[1] / "csrc" / "include"
CFLAGS = ("-O1", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections", f"-I{INCLUDE}")
LINKERS = ("bfd", "gold", "lld", "mold")
PROGRAMS = {"bfd": "ld.bfd", "gold": "ld.gold", "lld": "ld.lld", "mold": "mold"}


def versions(tool: str, numbers: range) -> list[str]:
    """`tool`, which a test asks for with need(), and the other versions of it that are installed."""
    found = {os.path.realpath(shutil.which(tool) or tool): tool}
    for number in numbers:
        if at := shutil.which(f"{tool}-{number}"):
            found.setdefault(os.path.realpath(at), f"{tool}-{number}")
    return list(found.values())


CXX_COMPILERS = versions("g++", range(9, 20)) + versions("clang++", range(9, 30))
C_COMPILERS = versions("gcc", range(9, 20)) + versions("clang", range(9, 30))


def need(*tools: str) -> None:
    """Skip unless these programs are installed; fail instead where KPACK_REQUIRE_TOOLS=1 says they must be."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and os.environ.get("KPACK_REQUIRE_TOOLS") == "1":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def which(tool: str) -> str:
    """Where a program is that the test has asked for with `need`."""
    found = shutil.which(tool)
    assert found, f"{tool}: ask for it with need()"
    return found


def run(*command: object, timeout_s: float = 60) -> str:
    """What a command prints; its own words when it fails."""
    done = attempt(*command, timeout_s=timeout_s)
    if done.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))}\nexit status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def attempt(*command: object, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=timeout_s, check=False
    )
