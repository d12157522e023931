"""The drivers, and the devices that they have: asked as a program would, through the runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec

from kpack.doctor.check import BROKEN, MISSING, OK, WARN, WITH_HEADERS, Check, Tools

__all__ = ["PROBES"]


def _drivers(tools: Tools) -> Iterator[Check]:
    if find_spec("kpack._runtime") is None:
        found = "not asked: there is no extension kpack._runtime"
        yield Check("drivers", "drivers", MISSING, found, WITH_HEADERS)
        return
    out, why = tools.python(_ASKS)
    if why:
        advice = "a driver that hangs or crashes does so in programs, too: see the system's log, restart it"
        yield Check("drivers", "drivers", BROKEN, why, advice)
        return
    for vendor, library, why_not, version, archs in json.loads(out):
        name, of = _VENDORS[vendor]
        if archs:
            count = f"{len(archs)} device{'s' if len(archs) > 1 else ''}"
            text = f"{library}{f', {of} {version}' if version else ''}, {count}: {', '.join(archs)}"
            yield Check("drivers", name, OK, text)
        else:
            missing = "cannot open" in why_not or "cannot be opened" in why_not
            advice = (
                f"only to launch on a GPU of {name}'s: install its driver; KPACK_DRIVER=dry does without one"
            )
            yield Check("drivers", name, MISSING if missing else BROKEN, why_not, advice)
    if dry := os.environ.get("KPACK_DRIVER"):
        yield Check(
            "drivers", "KPACK_DRIVER", WARN, dry, "launches are not made, only shown: unset it for real ones"
        )


_VENDORS = {"cuda": ("NVIDIA", "CUDA"), "hip": ("AMD", "ROCm")}
_ASKS = """
import json
from kpack import runtime
print(json.dumps([[d.vendor, d.library, d.why_not, d.version, d.archs] for d in runtime.drivers()]))
"""


PROBES = (_drivers,)
