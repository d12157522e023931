"""The examples for make and meson, as their comments say to use them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools import need

sys.path.insert(0, str(Path(__file__).parent))  # for projects.py
from projects import ROOT, environment

from kpack import paths


def shell(folder: Path, line: str) -> str:
    used = environment(KPACK_CACHE_DIR=str(folder / "cache"), PKG_CONFIG_PATH=str(paths.pkgconfig_dir()))
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=used, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def touch(path: Path) -> None:
    time.sleep(0.02)  # a coarse clock may give two files one time
    path.touch()


def test_a_makefile_builds_again_what_a_helper_is_part_of(tmp_path: Path) -> None:
    need("make", "g++")
    folder = shutil.copytree(ROOT / "examples" / "makefile", tmp_path / "project")
    shell(folder, "make ARCH='gfx90a sm_90'")
    assert "image    scale.BLOCK1024.w4.sm_90" in shell(folder, "./app")
    assert "up to date" in shell(folder, "make")
    touch(folder / "blocks.py")
    again = shell(folder, "make")
    assert "kpack build" in again and "main.cc" not in again
    touch(folder / "main.cc")
    again = shell(folder, "make")
    assert "kpack build" not in again and "main.cc" in again
    assert "up to date" in shell(folder, "make")


def test_meson_builds_again_what_a_helper_is_part_of(tmp_path: Path) -> None:
    need("meson", "ninja", "pkg-config", "g++")
    folder = shutil.copytree(ROOT / "examples" / "meson", tmp_path / "project")
    shell(folder, "meson setup build -Darch=gfx90a,sm_90 && meson compile -C build")
    assert "image    scale.BLOCK1024.w4.sm_90" in shell(folder, "build/app")
    assert "no work to do" in shell(folder, "meson compile -C build")
    touch(folder / "blocks.py")
    assert "Generating libtk.a" in shell(folder, "meson compile -C build")
    assert "no work to do" in shell(folder, "meson compile -C build")
