"""First use in captures, and contexts that go, on a real driver. A process each: images are loaded once in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMON = """
import sys, threading
from ctypes import CDLL, byref, c_int, c_ulonglong, c_void_p
from kpack.runtime import load

cuda = CDLL("libcuda.so.1")
nothing = load(sys.argv[1])["nothing"]

def check(code):
    assert code == 0, f"CUresult {code}"

def make_current():
    context = c_void_p()
    check(cuda.cuDevicePrimaryCtxRetain(byref(context), 0))
    check(cuda.cuCtxSetCurrent(context))

def create_stream():
    stream = c_void_p()
    check(cuda.cuStreamCreate(byref(stream), 1))
    return stream

def in_thread(body):
    failed = []
    def run():
        try:
            body()
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed, failed

def launch():
    nothing()
    check(cuda.cuCtxSynchronize())

check(cuda.cuInit(0))
"""

CAPTURE = """
def replay(stream, graph):
    executable = c_void_p()
    check(cuda.cuGraphInstantiateWithFlags(byref(executable), graph, c_ulonglong(0)))
    check(cuda.cuGraphLaunch(executable, stream))
    check(cuda.cuStreamSynchronize(stream))

make_current()
stream, graph = create_stream(), c_void_p()
check(cuda.cuStreamBeginCapture_v2(stream, c_int(int(sys.argv[2]))))
"""

SCENARIOS = {
    "first use in a capture": CAPTURE
    + """
nothing(stream=stream.value)
check(cuda.cuStreamEndCapture(stream, byref(graph)))
replay(stream, graph)
""",
    "first use while another thread captures": CAPTURE
    + """
def first_use():
    make_current()
    nothing(stream=create_stream().value)

in_thread(first_use)
nothing(stream=stream.value)
check(cuda.cuStreamEndCapture(stream, byref(graph)))
replay(stream, graph)
""",
    "a reset, and the context made current again": """
make_current()
for _ in range(3):
    launch()
    check(cuda.cuDevicePrimaryCtxReset_v2(0))
    make_current()
launch()
""",
    "a reset, and the context that is gone still current": """
make_current()
for _ in range(3):
    launch()
    check(cuda.cuDevicePrimaryCtxReset_v2(0))
launch()
""",
    "a reset, and threads without a context": """
for _ in range(3):
    in_thread(launch)
    check(cuda.cuDevicePrimaryCtxReset_v2(0))
in_thread(launch)
""",
    "a context of the program that is destroyed": """
for _ in range(3):
    context = c_void_p()
    check(cuda.cuCtxCreate_v2(byref(context), 0, 0))
    launch()
    launch()
    check(cuda.cuCtxDestroy_v2(context))
make_current()
launch()
""",
}


def run(scenario: str, *arguments: str) -> None:
    script = COMMON + SCENARIOS[scenario]
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mode", range(3), ids=["global", "thread-local", "relaxed"])
@pytest.mark.parametrize("scenario", [name for name, script in SCENARIOS.items() if CAPTURE in script])
def test_first_use_beside_a_capture(tests_library: Path, scenario: str, mode: int) -> None:
    run(scenario, str(tests_library), str(mode))


@pytest.mark.parametrize("scenario", [name for name, script in SCENARIOS.items() if CAPTURE not in script])
def test_contexts_that_go(tests_library: Path, scenario: str) -> None:
    run(scenario, str(tests_library))
