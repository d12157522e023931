"""A C++ program makes a graph's node of a pinned kernel, launches it, and gives it other arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kpack.paths import include_dir, library_path

HERE = Path(__file__).parent


@pytest.mark.usefixtures("tests_library")
def test_a_pinned_kernel_is_a_graphs_node_and_its_update(tmp_path: Path) -> None:
    archive = HERE.parents[1] / "build" / "archives" / "libtests.a"
    program = tmp_path / "graph_node"
    compile_it = [
        os.environ.get("CXX", "c++"),
        "-std=c++17",
        "-O2",
        f"-I{include_dir()}",
        HERE / "graph_node.cc",
    ]
    link_it = [archive, library_path(), "-ldl", "-lpthread", "-o", program]
    subprocess.run([*compile_it, *link_it], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
