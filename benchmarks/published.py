"""Packs every kernel that three published packages launch, for NVIDIA and AMD, and compiles the same with bare Triton.

    python benchmarks/published.py            # all of it, without a GPU: build/published, results/published.md

The packages come from PyPI into a folder of their own. Their operations (`packages/`) are rehearsed for each target;
what they launch is packed by kpack, and beside it compiled as Triton's JIT would. It takes a torch (CPU will do) and
the Triton of the machine with the GPU, where `published_gpu.py` launches what was packed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE.parent / "build" / "published"
RESULTS = HERE / "results" / "published.md"
TARGETS = ("sm_90", "gfx942", "gfx90a")
JOBS = len(os.sched_getaffinity(0))
TIMEOUT_S = 300

sys.path[:0] = [str(HERE.parent), str(HERE), str(FOLDER / "site")]

from packages import PACKAGES, Package  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--package", action="append", choices=PACKAGES, help="only this one; may be given again"
    )
    parser.add_argument("--target", action="append", help="only this one; may be given again")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    packages = [PACKAGES[name] for name in given.package or PACKAGES]
    targets = given.target or TARGETS
    if given.child:
        build(packages[0], targets[0])
        return
    install(packages)
    # Some packages ask for the device when they are imported: a process for each.
    for target in targets:
        for package in packages:
            command = [sys.executable, __file__, "--child", "--package", package.name, "--target", target]
            (FOLDER / target).mkdir(exist_ok=True)
            with open(FOLDER / target / f"{package.name}.log", "w") as log:  # compilers that abort say much
                subprocess.run(command, check=True, stderr=log)
    RESULTS.write_text("\n".join(report()) + "\n")
    print(RESULTS.read_text())


def install(packages: Iterable[Package]) -> None:
    """Their Python files, into build/published/site: all that travels to the machine with the GPU."""
    for package in packages:
        for requirement in package.requirements:
            name, _, version = requirement.partition("==")
            if _installed(name) == version:
                continue
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-compile",
                "--upgrade",
            ]
            subprocess.run([*command, "--target", str(FOLDER / "site"), requirement], check=True)
    for path in list((FOLDER / "site").rglob("*")):
        if path.is_dir() and path.name in ("__pycache__", "bin"):
            shutil.rmtree(path)
        elif path.is_file() and path.suffix not in (".py", ".json") and path.name != "METADATA":
            path.unlink()


def _installed(name: str) -> str:
    found = importlib.metadata.distributions(name=name, path=[str(FOLDER / "site")])
    return next((each.version for each in found), "")


# ---- one package for one target, in a process of its own


def build(package: Package, target: str) -> None:
    from packages import launches

    import kpack

    began = time.monotonic()
    with launches.rehearse(package, target) as rehearsal:
        bare = compiled_bare(rehearsal, target)
    rehearsed_s = time.monotonic()
    pack = kpack.build(
        rehearsal.kernels, target, name=package.name, jobs=JOBS, on_error="skip", timeout_s=TIMEOUT_S
    )
    pack.write(FOLDER / target / f"lib{package.name}.a")
    failures = {(each.kernel, each.variant): each.reason for each in pack.failures}
    packed = rehearsal.variants(target)
    rows = []
    for (function, text), (_, call) in rehearsal.calls.items():
        places = packed.get((function, text), [])
        reasons = [failures.get((kernel.name, variant.name), "") for kernel, variant in places]
        rows.append(
            {
                "function": ".".join(function),
                "text": text,
                "kernels": [kernel.name for kernel, _ in places],
                "packed": min(reasons, default="no kernel was made of this launch"),
                "bare": bare[function, text],
                "configs": len(call.alternatives),
            }
        )
    known = {".".join(function) for function in kernels_of(package)}
    seen = {row["function"] for row in rows}
    facts = {
        "package": package.name,
        "target": target,
        "launches": rehearsal.launches,
        "rows": rows,
        "failed": rehearsal.failed,
        "refused": rehearsal.refused,
        "kernels": [kernel.name for kernel in rehearsal.kernels],
        "known": sorted(known),
        "other": sorted(seen - known),
        "missing": sorted(known - seen),
        "images": len(pack.images),
        "bare_s": round(rehearsed_s - began),
        "build_s": round(time.monotonic() - rehearsed_s),
    }
    (FOLDER / target / f"{package.name}.json").write_text(json.dumps(facts, indent=1))
    print(f"{package.name} {target}: {len(rows)} specialisations, {summary(rows)}", flush=True)


def summary(rows: list[dict[str, Any]]) -> str:
    count = Counter((not row["packed"], not row["bare"]) for row in rows)
    one = f"only packed {count[True, False]}, only bare {count[False, True]}"
    return f"both {count[True, True]}, {one}, neither {count[False, False]}"


def compiled_bare(rehearsal: Any, target: str) -> dict[tuple[tuple[str, str], str], str]:
    """What Triton's JIT says to each specialisation, in a process of its own, since compilers abort: "" is well."""
    from packages.launches import run_jit

    from kpack.compile.binder import choices, inner_function

    os.environ["TRITON_CACHE_DIR"] = str(FOLDER / "cache")

    def compile_one(launched: Any) -> None:
        choice = choices(launched.fn, launched.args, launched.kwargs)[0]
        run_jit(
            inner_function(launched.fn), *choice.args, grid=launched.grid, warmup=True, **dict(choice.kwargs)
        )

    jobs = {
        key: (lambda launched=launched: compile_one(launched))
        for key, (launched, _) in rehearsal.calls.items()
    }
    return dict(in_processes(jobs))


def in_processes(jobs: dict[Any, Callable[[], None]]) -> Iterator[tuple[Any, str]]:
    """Each job's key with what went wrong, from JOBS processes; one that ends takes its job along, and no other."""
    waiting, running = list(jobs), {}

    def work(pipe: Any) -> None:
        while True:
            try:
                jobs[pipe.recv()]()
                pipe.send("")
            except EOFError:
                os._exit(0)
            except Exception as error:
                pipe.send(f"{type(error).__name__}: {error}")

    def start() -> tuple[Any, Any]:
        ours, theirs = fork.Pipe()
        process = fork.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    fork = get_context("fork")
    idle = [start() for _ in range(JOBS)]
    while waiting or running:
        while waiting and idle:
            pipe, process = idle.pop()
            key = waiting.pop(0)
            pipe.send(key)
            running[pipe] = (key, process, time.monotonic() + TIMEOUT_S)
        for pipe in wait(list(running), timeout=1.0):
            key, process, _ = running.pop(pipe)
            try:
                yield key, pipe.recv()
                idle.append((pipe, process))
            except (EOFError, ConnectionResetError):
                process.join()
                yield key, f"its process ended with {process.exitcode}"
                idle.append(start())
        for pipe, (key, process, deadline) in list(running.items()):
            if time.monotonic() > deadline:
                del running[pipe]
                process.kill()
                yield key, f"not done after {TIMEOUT_S} s"
                idle.append(start())
    for pipe, _ in idle:
        pipe.close()


# ---- what a package has


def kernels_of(package: Package) -> set[tuple[str, str]]:
    """The JIT functions of a package that its own host code names, to launch them, by module and name; not those that
    only other JIT functions call, and not those of modules for other devices."""
    site = FOLDER / "site"
    defined: set[tuple[str, str]] = set()
    named: set[tuple[str, str]] = set()
    for path in sorted(site.rglob("*.py")):
        module = ".".join(path.relative_to(site).with_suffix("").parts).removesuffix(".__init__")
        if not module.startswith(package.inside) or any(
            part in module.split(".") for part in package.outside
        ):
            continue
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        own = {node.name for node in functions if _is_jit(node)}
        defined |= {(module, name) for name in own}
        scope = {name: (module, name) for name in own}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                scope |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        for function in functions:
            if not _is_jit(function):
                loads = (
                    each for line in function.body for each in ast.walk(line) if isinstance(each, ast.Name)
                )
                named |= {scope[each.id] for each in loads if each.id in scope}
    return defined & named


def _is_jit(function: ast.FunctionDef) -> bool:
    names = {ast.unparse(each).partition("(")[0] for each in function.decorator_list}
    return bool(names & {"jit", "triton.jit", "gluon.jit"})


# ---- the table


def report() -> list[str]:
    import triton

    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/*.json"))]
    order = {name: at for at, name in enumerate((*PACKAGES, *TARGETS))}
    found.sort(key=lambda facts: (order[facts["package"]], order[facts["target"]]))
    versions = ", ".join(
        PACKAGES[name].requirements[0] for name in dict.fromkeys(f["package"] for f in found)
    )
    lines = [
        "# Kernels of published packages",
        "",
        f"{versions}; Triton {triton.__version__}, {datetime.now(UTC):%F}. Taken with `benchmarks/published.py`,",
        "without a GPU: operations of each package (`benchmarks/packages/`) are rehearsed for each target, and every",
        "specialisation that they launch is packed by kpack, and compiled by bare Triton, as its JIT does.",
        "",
        "* *kernels*: JIT functions that the package's own code launches. *recorded*: of these, launched here.",
        "* *specialisations*: what the JIT would compile for these launches; of an autotuner, for its first config.",
        "* *packed*, *bare*: of these, those that have an image in the archive, and those that bare Triton compiles.",
        "",
        "| package | target | kernels | recorded | specialisations | packed | bare | kernels of the archive |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for facts in found:
        rows = facts["rows"]
        counts = (
            len(facts["known"]),
            len(set(facts["known"]) - set(facts["missing"])),
            len(rows),
            sum(not row["packed"] for row in rows),
            sum(not row["bare"] for row in rows),
            len(facts["kernels"]),
        )
        lines.append(f"| {facts['package']} | {facts['target']} | {' | '.join(map(str, counts))} |")
    lines += ["", "## Differences", "", *_differences(found)]
    lines += ["", "## What neither compiles", "", *_neither(found)]
    lines += ["", "## What is not recorded", "", *_not_recorded(found)]
    return lines


def _differences(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for facts in found:
        for row in facts["rows"]:
            if bool(row["packed"]) != bool(row["bare"]):
                what = "is not packed" if row["packed"] else "is not compiled by bare Triton"
                reason = _first(row["packed"] or row["bare"])
                place = f"* {facts['package']} {facts['target']}: `{row['function']}` {what}: {reason}"
                lines.append(f"{place}{_explained(row, facts['target'])}")
    return list(dict.fromkeys(lines)) or ["None."]


def _explained(row: dict[str, Any], target: str) -> str:
    if "of a block: expected at most" in row["packed"]:
        return (
            ". Bare Triton compiles it, and its JIT refuses to launch it"
            + f"; it is the first of {row['configs']} configs, of which a tuner takes another"
            * (row["configs"] > 1)
        )
    if "process ended" in row["bare"] and target.startswith("gfx"):
        return (
            ". The JIT tells AMD's backend of pointers to less than 2 GB that they are (`tt.pointer_range`), and LLVM"
            " aborts on what becomes of it; an archive does not know what its callers pass, and leaves that out"
        )
    return ""


def _neither(found: list[dict[str, Any]]) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for facts in found:
        for row in facts["rows"]:
            if row["packed"] and row["bare"]:
                reasons[row["function"], _first(row["packed"])].append(facts["target"])
    return [
        f"* `{function}` for {', '.join(dict.fromkeys(targets))}: {reason}"
        for (function, reason), targets in reasons.items()
    ] or ["Nothing."]


def _not_recorded(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for name in dict.fromkeys(facts["package"] for facts in found):
        mine = [facts for facts in found if facts["package"] == name]
        missing = set.intersection(*(set(facts["missing"]) for facts in mine))
        lines += [f"* {name}: modules `{part}`: {reason}" for part, reason in PACKAGES[name].outside.items()]
        if missing:
            lines.append(f"* {name}: no operation here comes to {_names(missing)}")
        for facts in mine:
            partly = set(facts["missing"]) - missing
            if partly:
                lines.append(f"* {name} {facts['target']}: not launched there: {_names(partly)}")
            lines += [
                f"* {name} {facts['target']}: operation `{op}`: {_first(why)}"
                for op, why in facts["failed"].items()
            ]
            lines += [f"* {name} {facts['target']}: {_first(each)}" for each in facts["refused"]]
    return lines or ["Nothing."]


def _names(functions: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in sorted(functions))


def _first(text: str) -> str:
    """Its telling line."""
    lines = [line.strip() for line in text.replace(f"{FOLDER}/site/", "").splitlines() if line.strip()]
    telling = [line for line in lines if "ssert" in line or "error:" in line]
    source = bool(lines) and ("CompilationError" in lines[0] or ": in " in lines[0])
    return (lines[-1] if source else (telling or lines or [""])[0])[:300]


if __name__ == "__main__":
    main()
