"""Counts the instructions of a launch under callgrind and holds them to a budget: `budget.py PROGRAM`.

What runs inside the driver, here a fake one, is left out: of each call into it, all but the call itself. The
counts are exact and the same on every machine with one compiler, so they tell of a change that no clock would.
After one that is meant, put the table that this prints in place of the one below.

Exit status: 0, 1 over budget, 77 without valgrind (which KPACK_REQUIRE_TOOLS=1 makes 1).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHES = 100
SLACK = 1.10  # another release of a compiler; more than that is a change of ours

# Instructions of one launch with 0, 7, 16 and 58 arguments (g++ 12, x86-64), the caller's own included: its
# arguments are put together there, and the result is looked at.
BUDGET = {
    "call": {"nothing": 166, "args7": 226, "args16": 266, "args58": 509},
    "call_c": {"nothing": 166, "args7": 247, "args16": 305, "args58": 596},
    "args": {"nothing": 163, "args7": 322, "args16": 532, "args58": 1492},
    "bound": {"nothing": 173, "args7": 234, "args16": 274, "args58": 517},
    "pinned": {"nothing": 173, "args7": 234, "args16": 274, "args58": 517},
    # Of 7 arguments: a kernel without alternatives, and a tuned one, with calls of one key and of two in turns.
    "fixed": {"tuned7": 236},
    "one_key": {"tuned7": 277},
    "two_keys": {"tuned7": 379},
}
# The driver calls of one launch, at most.
CALLS = {way: {"cuLaunchKernelEx": 1} for way in BUDGET}
DRIVER = "libcuda.so.1"
# What else a launch may call outside of its own program.
LIBC = re.compile(r"_*mem(cpy|move|set)\w*")


@dataclass
class Count:
    """What callgrind saw between two dumps."""

    instructions: int = 0
    driver_calls: Counter[str] = field(default_factory=Counter)
    other_calls: set[str] = field(default_factory=set)


def read_dump(text: str, program: str) -> tuple[str, Count]:
    """The function that a dump is of, and its count. `program` is the name of the object that launches."""
    found = re.search(r"^desc: Trigger: --dump-after=(\w+)", text, re.M)
    count, here = Count(), ""
    callee_object, callee, calls = "", "", -1
    for line in text[text.index("\nevents:") :].splitlines():
        key, _, value = line.partition("=")
        if key == "ob":
            here = value
        elif key == "cob":
            callee_object = value
        elif key == "cfn":
            callee = value.split("'")[0]
        elif key == "calls":
            calls = int(value.split()[0])
        elif re.match(r"(0x)?[0-9a-f]+ \d+$", line):
            cost = int(line.split()[1])
            if calls < 0:  # a line of the function's own
                count.instructions += cost
            elif here.endswith(program) and callee_object.endswith(DRIVER):
                count.instructions -= cost
                count.driver_calls[callee] += calls
            elif calls and here.endswith(program) and callee_object not in ("", here):
                count.other_calls.add(callee)
            callee_object, calls = "", -1
    return (found[1] if found else ""), count


def count_all(program: Path) -> dict[str, Count]:
    """By function of the program."""
    names = [f"budget_{way}_{kernel}" for way, kernels in BUDGET.items() for kernel in kernels]
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command += ["--compress-strings=no", "--compress-pos=no", "--toggle-collect=budget_*"]
        # Before each, too: a dump counts all calls since the last one, collected or not.
        command += [f"--dump-{when}={name}" for name in names for when in ("before", "after")]
        subprocess.run([*command, program, str(LAUNCHES)], check=True)
        parts = sorted(Path(folder).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        counts = dict(read_dump(path.read_text(), program.name) for path in parts)  # the last of each
    assert set(names) <= counts.keys(), f"callgrind: expected a dump of each of {names}, got {sorted(counts)}"
    return {name: counts[name] for name in names}


def complaints(way: str, kernel: str, count: Count) -> list[str]:
    """What is wrong with a launch of this kernel."""
    per_launch, wrong = count.instructions / LAUNCHES, []
    if per_launch > BUDGET[way][kernel] * SLACK:
        budget = BUDGET[way][kernel]
        wrong.append(f"expected {budget} instructions, at most {budget * SLACK:.0f}, got {per_launch:.0f}")
    driver_calls = {name: calls / LAUNCHES for name, calls in count.driver_calls.items()}
    if any(calls > CALLS[way].get(name, 0) for name, calls in driver_calls.items()):
        wrong.append(f"expected the driver calls {CALLS[way]} at most, got {driver_calls}")
    if others := sorted(name for name in count.other_calls if not LIBC.fullmatch(name)):
        wrong.append(f"expected calls into the driver alone, got {', '.join(others)}")
    return [f"{way} {kernel}: {each}" for each in wrong]


def main() -> int:
    if shutil.which("valgrind") is None:
        print("budget: not installed: valgrind")
        return 1 if os.environ.get("KPACK_REQUIRE_TOOLS") == "1" else 77
    counts = count_all(Path(sys.argv[1]))
    wrong = []
    print("BUDGET = {")
    for way, kernels in BUDGET.items():
        found = {kernel: counts[f"budget_{way}_{kernel}"] for kernel in kernels}
        cells = ", ".join(
            f'"{kernel}": {count.instructions / LAUNCHES:.0f}' for kernel, count in found.items()
        )
        print(f'    "{way}": {{{cells}}},')
        wrong += [line for kernel, count in found.items() for line in complaints(way, kernel, count)]
    print("}", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
