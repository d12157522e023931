"""Launches what published packages launch, on an NVIDIA GPU: by Triton's JIT, twice, and from the archive, once.

    python benchmarks/published_gpu.py        # with build/published and kpack of build/gpu/site

Each launch of an operation (`packages/`) is made three times on the same memory: what it touches is put back before
each, and what came of it compared bit for bit. Where two launches of the JIT's differ by themselves (atomics), the
archive's has to be as near to one of several of the JIT's as these are to each other. Needs no network and no compiler
but Triton's own, which has to be the release that the archive was built with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGET = "sm_90"
FOLDER = HERE.parent / "build" / "published"
BUILT = FOLDER / TARGET
MADE = HERE.parent / "build" / "gpu" / "published"
RESULTS = HERE / "results" / "published_gpu.md"
WORKERS = len(os.sched_getaffinity(0))
TIMEOUT_S = 140  # for a process
FEW_RUNS, MANY_RUNS = (
    8,
    200,
)  # of the JIT, where launches differ; many where it has not differed as much itself

SITE = f"{FOLDER / 'site'}/"  # of no interest to a reader

sys.path[:0] = [str(HERE), SITE]

from packages import PACKAGES  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--package", action="append", choices=PACKAGES, help="only this one; may be given again"
    )
    parser.add_argument("--operation", action="append", help="only this one; may be given again")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    packages = given.package or [name for name in PACKAGES if (BUILT / f"lib{name}.a").exists()]
    if given.part:
        at, _, of = given.part.partition("/")
        work(packages[0], int(at), int(of), given.operation)
        return
    began = time.monotonic()
    MADE.mkdir(parents=True, exist_ok=True)
    for name in packages:
        link(name)
    # A process that a kernel of a package brings down takes a part of that package along, and no more.
    sizes = {name: len(json.loads((BUILT / f"{name}.json").read_text())["rows"]) for name in packages}
    parts = {name: max(1, WORKERS * size // sum(sizes.values())) for name, size in sizes.items()}
    jobs = [(name, at, parts[name]) for name in packages for at in range(parts[name])]
    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = list(pool.map(lambda job: run_part(*job, given.operation or []), jobs))
    found = merged(outcomes)
    RESULTS.write_text("\n".join(report(found, time.monotonic() - began)) + "\n")
    print(RESULTS.read_text())
    if any(row["outcome"] == "differs" for row in found["rows"]):
        sys.exit("some launches differ")


def link(name: str) -> None:
    whole = f"-Wl,--whole-archive,{BUILT / f'lib{name}.a'},--no-whole-archive"
    subprocess.run(["c++", "-shared", "-o", str(MADE / f"lib{name}.so"), whole], check=True)


def run_part(name: str, at: int, of: int, operations: list[str]) -> dict[str, Any]:
    file = MADE / f"{name}_{at}.json"
    file.unlink(missing_ok=True)
    chosen = [f"--operation={each}" for each in operations]
    command = [sys.executable, "-P", __file__, "--package", name, "--part", f"{at}/{of}", *chosen]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        ended, said = f"exit status {done.returncode}", done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        ended, said = f"not done after {TIMEOUT_S} s", str(error.stderr or b"", "utf-8", "replace")
    found: dict[str, Any] = (
        json.loads(file.read_text()) if file.exists() else {"rows": [], "running": "import", "failed": {}}
    )
    if found["running"]:
        last = " ".join(said.strip().splitlines()[-2:])
        found["failed"][f"{name}.{found['running']}"] = f"{ended}: {last}"
    return found


def merged(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    failed = {name: why for each in outcomes for name, why in each["failed"].items()}
    return {"rows": [row for each in outcomes for row in each["rows"]], "failed": failed}


# ---- in a process of its own


def work(name: str, at: int, of: int, only: list[str] | None) -> None:
    import torch
    from packages import launches

    import kpack

    package = PACKAGES[name]
    found: dict[str, Any] = {"rows": [], "failed": {}, "running": "import"}
    file = MADE / f"{name}_{at}.json"

    def note(running: str) -> None:
        found["running"] = running
        file.write_text(json.dumps(found))

    note("import")
    # The same rehearsal as where the archive was built gives the same kernels, by the same names.
    with launches.rehearse(package, TARGET) as rehearsal:
        pass
    move_to_gpu()
    operations = {key: each for key, each in package.operations.items() if not only or key in only}
    known = json.loads((BUILT / f"{name}.json").read_text())
    if [kernel.name for kernel in rehearsal.kernels] != known["kernels"]:
        found["failed"][f"{name}.rehearsal"] = "other kernels than those of the archive"
        found["failed"].update({f"{name}.rehearsal of {key}": why for key, why in rehearsal.failed.items()})
    loaded = kpack.load(str(MADE / f"lib{name}.so"))
    comparison = Comparison(name, rehearsal.variants(TARGET), loaded, found["rows"])
    mine = list(operations)[at::of]
    with launches.watching(comparison.launched):
        for operation in mine:
            comparison.operation = operation
            note(operation)
            try:
                launches.seeded(operations[operation])
                torch.cuda.synchronize()
            except Exception as error:
                found["failed"][f"{name}.{operation}"] = f"{type(error).__name__}: {error}"
                if "CUDA" in str(error):
                    note("")
                    os._exit(0)
    note("")


def move_to_gpu() -> None:
    """What modules of packages keep of their import is of the rehearsal's device."""
    import torch

    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.cuda()
        if type(value) in (list, tuple):
            return type(value)(map(moved, value))
        return {key: moved(each) for key, each in value.items()} if type(value) is dict else value

    for module in list(sys.modules.values()):
        if not (getattr(module, "__file__", None) or "").startswith(SITE):
            continue
        for name, value in list(vars(module).items()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()
            elif type(value) in (list, tuple, dict) or isinstance(value, torch.Tensor):
                setattr(module, name, moved(value))


class Comparison:
    """What stands in for a launch, and notes what came of it."""

    def __init__(self, package: str, packed: Any, loaded: Any, rows: list[dict[str, Any]]) -> None:
        self.package, self.packed, self.loaded, self.rows = package, packed, loaded, rows
        self.operation = ""

    def launched(self, launch: Any, go: Any) -> Any:
        from packages.launches import function_of, launch_text

        from kpack.compile.binder import choices
        from kpack.learn.call import describe

        function = function_of(launch.fn)
        text = launch_text(describe(launch.fn, launch.args, launch.kwargs, launch.grid))
        row = {
            "package": self.package,
            "operation": self.operation,
            "function": ".".join(function),
            "text": text,
        }
        self.rows.append(row)
        choice = choices(launch.fn, launch.args, launch.kwargs)[0]
        note_config(launch.fn, choice)
        memory = Memory((*choice.args, *choice.kwargs.values()))
        try:
            result, first = by_jit(launch, choice), memory.taken()
        except Exception as error:
            row.update(outcome="the JIT refuses", why=f"{type(error).__name__}: {error}"[:300])
            if "CUDA" in str(error):  # nothing works any more
                raise
            return None
        row["writes"] = not memory.same(first, memory.before)
        places = self.packed.get((function, text), [])
        if not places:
            row.update(outcome="not packed", why="")
            return result
        memory.put_back()
        by_jit(launch, choice)
        second = memory.taken()
        memory.put_back()
        row.update(self.compared(launch, choice, places, memory, first, second))
        memory.put(first)
        return result

    def compared(
        self, launch: Any, choice: Any, places: Any, memory: Any, first: Any, second: Any
    ) -> dict[str, Any]:
        import torch

        import kpack

        stream, why = torch.cuda.current_stream(), ""
        for kernel, _ in places:
            try:
                if choice.pre_hook is not None:
                    by_hook(launch, choice)
                arguments = kernel.arguments(*launch.args, grid=launch.grid, **launch.kwargs)
                self.loaded[kernel.name](*arguments, stream=stream)
                break
            except kpack.KpackError as error:
                why = f"{kernel.name}: {error}"[:300]
        else:
            return {"outcome": "not launched", "why": why}
        third = memory.taken()
        if memory.same(first, second) and memory.same(first, third):
            return {"outcome": "equal", "why": ""}
        # Two launches of one that has atomics are the same now and then: more of them tell.
        runs, spread = [first, second], memory.distance(first, second)[0]
        near, words = min(memory.distance(third, run) for run in runs)
        while len(runs) < FEW_RUNS or (near > spread and len(runs) < MANY_RUNS):
            memory.put_back()
            by_jit(launch, choice)
            run = memory.taken()
            spread = max(spread, *(memory.distance(run, each)[0] for each in runs[:FEW_RUNS]))
            near, words = min((near, words), memory.distance(third, run))
            runs.append(run)
        inside = near <= spread
        return {
            "outcome": "within the spread" if inside else "differs",
            "why": f"{words}; of the JIT's own {spread:.3g}",
        }


def by_hook(launch: Any, choice: Any) -> None:
    names = dict(zip(launch.fn.arg_names, choice.args, strict=False))
    choice.pre_hook({**names, **choice.kwargs})


def by_jit(launch: Any, choice: Any) -> Any:
    """As the first config of an autotuner would launch it."""
    from packages.launches import run_jit

    from kpack.compile.binder import inner_function

    if choice.pre_hook is not None:
        by_hook(launch, choice)
    return run_jit(
        inner_function(launch.fn), *choice.args, grid=launch.grid, warmup=False, **dict(choice.kwargs)
    )


def note_config(fn: Any, choice: Any) -> None:
    """Programs ask an autotuner for the config that it chose."""
    from triton import Config
    from triton.runtime.autotuner import Autotuner

    own = {
        name: value for name, value in choice.tuned.items() if name in ("num_warps", "num_stages", "num_ctas")
    }
    rest = {name: value for name, value in choice.tuned.items() if name not in own}
    while hasattr(fn, "fn"):
        if isinstance(fn, Autotuner):
            fn.best_config = Config(rest, **own)
        fn = fn.fn


class Memory:
    """All that the tensors of a launch lie in."""

    def __init__(self, values: Any) -> None:
        self.tensors = {tensor.untyped_storage().data_ptr(): tensor for tensor in _tensors(values)}
        self.before = self.taken()

    def taken(self) -> list[Any]:
        import torch

        torch.cuda.synchronize()
        return [self._bytes(tensor).clone() for tensor in self.tensors.values()]

    def put_back(self) -> None:
        self.put(self.before)

    def put(self, contents: list[Any]) -> None:
        for tensor, content in zip(self.tensors.values(), contents, strict=True):
            self._bytes(tensor).copy_(content)

    def same(self, a: list[Any], b: list[Any]) -> bool:
        import torch

        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    def distance(self, a: list[Any], b: list[Any]) -> tuple[float, str]:
        """The largest difference of an element, relative to the largest element; and in words."""
        import torch

        worst = (0.0, "equal")
        for number, (tensor, x, y) in enumerate(zip(self.tensors.values(), a, b, strict=True)):
            if torch.equal(x, y):
                continue
            x, y = (each.view(tensor.dtype).double() for each in (x, y))
            gap = torch.where(x == y, 0.0, (x - y).abs()).nan_to_num(nan=float("inf"))
            gap = torch.where(x.isnan() & y.isnan(), 0.0, gap)
            size = x.nan_to_num(0.0, 0.0, 0.0).abs().max().item() or 1.0
            share = gap.max().item() / size
            words = f"tensor {number}: {int((gap > 0).sum())} of {x.numel()} elements, by {share:.3g} of the largest"
            worst = max(worst, (share, words))
        return worst

    @staticmethod
    def _bytes(tensor: Any) -> Any:
        import torch

        storage = tensor.untyped_storage()
        return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)


def _tensors(values: Any) -> Any:
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            if value.is_cuda and value.numel():
                yield value.detach()
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)
        elif hasattr(value, "base") and hasattr(value, "strides"):
            yield from _tensors([value.base])


# ---- the table


def report(found: dict[str, Any], took_s: float) -> list[str]:
    import torch
    import triton

    lines = [
        "# Kernels of published packages, launched",
        "",
        f"{torch.cuda.get_device_name()}, {datetime.now(UTC):%F}; torch {torch.__version__}, Triton",
        f"{triton.__version__}. Taken with `benchmarks/published_gpu.py` in {took_s:.0f} s: every launch of the",
        "operations in `benchmarks/packages/` by Triton's JIT, twice, and by `kpack.load` from the archive of",
        "`published.md`, on the same memory, which is compared byte for byte; of an autotuner, its first config.",
        "",
        "* *equal*: the same bytes as the JIT's. *within the spread*: the JIT's own launches differ (below), and this",
        "  one no more than they do. *writes nothing*: of the equal ones, those that leave memory as it was.",
        "",
        "| package | launches | kernels | compared | equal | in the spread | differ | not launched | writes nothing |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = found["rows"]
    for name in dict.fromkeys(row["package"] for row in rows):
        mine = [row for row in rows if row["package"] == name]
        count = Counter(row.get("outcome", "the process ended") for row in mine)
        compared = count["equal"] + count["within the spread"] + count["differs"]
        kernels = len(
            {
                row["function"]
                for row in mine
                if row.get("outcome") in ("equal", "within the spread", "differs")
            }
        )
        idle = sum(row.get("outcome") == "equal" and not row["writes"] for row in mine)
        cells = (len(mine), kernels, compared, count["equal"], count["within the spread"], count["differs"])
        lines.append(f"| {name} | {' | '.join(map(str, (*cells, len(mine) - compared, idle)))} |")
    for title, outcome in (
        ("Differ", "differs"),
        ("Where the JIT's own launches differ", "within the spread"),
        ("Not launched", "not launched"),
        ("Not packed", "not packed"),
        ("What the JIT itself cannot launch", "the JIT refuses"),
    ):
        seen = {
            f"* `{row['function']}` ({row['package']}, {row['operation']}): {row['why']}"
            for row in rows
            if row.get("outcome") == outcome
        }
        if seen:
            lines += ["", f"## {title}", "", *sorted(seen)]
    if found["failed"]:
        lines += [
            "",
            "## Operations that did not end",
            "",
            *(f"* {name}: {why.replace(SITE, '')[:300]}" for name, why in sorted(found["failed"].items())),
        ]
    return lines


if __name__ == "__main__":
    main()
