"""The process that `kpack tune` runs searches in: a contender may crash it, and another one goes on.

    main() with the arguments LIBRARY PACK TABLE OPTIONS

Greets with {"kernels": [...]} or {"error": "..."}. Then it reads a search a line from standard input,
["kernel", {"n": "1024", ...}], and answers each with a line: {"trials": [...]} or {"error": "...", "status": 10}.
OPTIONS is JSON for LoadedKernel.tune.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

from kpack.errors import KpackError, LaunchError, SpecError
from kpack.runtime import LoadedKernel, LoadedPack, load, set_tuning
from kpack.tuning.shapes import read_value

__all__ = ["main"]


def main() -> None:
    library, pack, table, options = sys.argv[1:]
    # What drivers and compilers print goes where people read, not among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        kernels = load(library, pack or None)
        set_tuning("use", table=table)
    except KpackError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"kernels": list(kernels)}), file=answers, flush=True)
    for line in sys.stdin:
        name, values = json.loads(line)
        print(json.dumps(_answer(kernels, name, values, json.loads(options))), file=answers, flush=True)


def _answer(
    kernels: LoadedPack, name: str, values: dict[str, str], options: dict[str, Any]
) -> dict[str, Any]:
    try:
        if name.startswith("op:"):
            raise SpecError(
                f"{name}: expected a kernel, got an op: its program tunes it, with KPACK_TUNING=tune"
            )
        if name not in kernels:
            raise SpecError(f"{name}: expected one of {', '.join(kernels)}, got {name!r}")
        trials = kernels[name].tune(*_arguments(kernels[name], values), **options)
    except LaunchError as error:
        return {"error": str(error), "status": error.status}
    except KpackError as error:
        return {"error": str(error), "status": 0}
    return {"trials": [dataclasses.asdict(trial) for trial in trials]}


def _arguments(kernel: LoadedKernel, values: dict[str, str]) -> list[object]:
    if {*values} != {*kernel.parameters}:
        raise SpecError(
            f"{kernel.name}: expected values of {' '.join(kernel.parameters)}, got {' '.join(values) or '(none)'}"
        )
    return [read_value(name, values[name]) for name in kernel.parameters]
