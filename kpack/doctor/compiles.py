"""Which Triton is there, and does it compile, for each vendor?"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from kpack.doctor.check import BROKEN, MISSING, OK, Check, Probe, Tools, package

__all__ = ["COMPILES", "PROBES"]


def _triton(tools: Tools) -> Iterator[Check]:
    found = package("triton", "triton", needed=True, without=_advice())
    bounds = dict(re.findall(r"(>=|<)(\d+\.\d+)", _triton_wanted()))
    least, below, here = map(_release, (bounds[">="], bounds["<"], found.found))
    if found.status == OK and here and not least <= here < below:
        advice = f"{_advice()}: launch conventions of others are not known"
        found = Check("triton", "triton", BROKEN, found.found, advice, needed=True)
    yield found


def _release(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _triton_wanted() -> str:
    """What kpack's own metadata asks for."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for each in metadata.requires("kpack") or ():
            if each.startswith("triton"):
                return each
    return "triton>=3.4,<3.10"


def _advice() -> str:
    return f"pip install '{_triton_wanted()}'"


COMPILES = {"compiles for NVIDIA": "sm_80", "compiles for AMD": "gfx90a"}


def _compiles(subject: str) -> Probe:
    def compiling(tools: Tools) -> Iterator[Check]:
        if find_spec("triton") is None:
            yield Check("triton", subject, MISSING, "not tried: there is no triton", _advice())
            return
        arch = COMPILES[subject]
        source, began = tools.folder / f"doctor_{arch}.py", time.monotonic()
        source.write_text(_KERNEL)
        # A cache of its own: what has been compiled before would say nothing.
        archive, cache = tools.folder / f"libdoctor_{arch}.a", tools.folder / f"cache-{arch}"
        _, why = tools.python(_BUILDS, str(source), arch, str(archive), KPACK_CACHE_DIR=str(cache))
        took = f"a kernel for {arch}, {time.monotonic() - began:.1f} s"
        advice = (
            "only builds for this vendor need it; pip install --force-reinstall triton, or see the message"
        )
        yield Check("triton", subject, BROKEN if why else OK, why or took, advice if why else "")

    return compiling


_KERNEL = """
import kpack, triton, triton.language as tl

@triton.jit
def doctor_kernel(out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, at.to(tl.float32), mask=at < n)

doctor = kpack.Kernel(
    doctor_kernel,
    name="doctor",
    signature={"out": "*fp32", "n": "i32"},
    configs=[{"BLOCK": 64, "num_warps": 1}],
    grid=1,
)
"""
_BUILDS = """
import sys, kpack
try:
    kpack.build(sys.argv[1], sys.argv[2], name="doctor", jobs=1, progress=False).write(sys.argv[3])
except kpack.KpackError as error:
    sys.exit("error: " + " ".join(str(error).split()))
"""


PROBES = (_triton, *map(_compiles, COMPILES))
