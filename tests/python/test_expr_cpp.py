"""The runtime's expression evaluator against Python's own arithmetic, on random expressions."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from kpack.expr import trace
from kpack.objfile.program import why_no_program

ROOT = Path(__file__).parents[2]
NAMES = ("a", "b", "c")
SIZES = {"p": 2, "q": 8}  # pointers, and the bytes of what they point to, as evaluate.cc has them
PARAMS = {name: index for index, name in enumerate((*NAMES, *SIZES))}
BINARY = ("+", "-", "*", "//", "%", "<", "<=", ">", ">=", "==", "!=", "&", "|", "^")
INTERESTING = (0, 1, -1, 2, 3, 7, 16, -16, 1000, 4096, 2**31, -(2**31), 2**62, -(2**62), 2**63 - 1, -(2**63))


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("evaluate") / "evaluate"
    sources = [ROOT / "tests/cpp/evaluate.cc", ROOT / "csrc/src/expr.cc", ROOT / "csrc/src/types.cc"]
    includes = [f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc/src'}"]
    options = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    subprocess.run(["c++", *options, *includes, *sources, "-o", program], check=True)
    return program


def random_expression(source: random.Random, depth: int) -> str:
    if depth == 0 or source.random() < 0.15:
        if source.random() < 0.1:
            return f"sizeof({source.choice(list(SIZES))})"
        return source.choice(NAMES) if source.random() < 0.7 else str(source.choice(INTERESTING))
    inner = [random_expression(source, depth - 1) for _ in range(3)]
    form = source.randrange(9)
    if form < 4:
        return f"({inner[0]} {source.choice(BINARY)} {inner[1]})"
    return (
        f"({inner[0]} {source.choice(('and', 'or'))} {inner[1]})",
        f"(not {inner[0]})",
        f"({inner[0]} if {inner[1]} else {inner[2]})",
        f"{source.choice(('min', 'max', 'cdiv'))}({inner[0]}, {inner[1]})",
        f"{source.choice(('abs', 'next_power_of_2', '-'))}({inner[0]})",
    )[form - 4]


def python_result(expression: str, values: dict[str, int]) -> str:
    """What the traced expression evaluates to in Python; 'error' where it says it has no int64 result."""
    try:
        return str(trace(expression, NAMES, SIZES).evaluate(values, SIZES))
    except (ArithmeticError, ValueError):
        return "error"


def test_runtime_and_python_agree_on_random_expressions(evaluator: Path) -> None:
    source = random.Random(20240607)
    lines, expected, shown = [], [], []
    while len(lines) < 4000:
        expression = random_expression(source, source.randrange(1, 5))
        values = {
            name: source.choice(INTERESTING) if source.random() < 0.5 else source.randrange(-100, 100)
            for name in NAMES
        }
        code = trace(expression, NAMES, SIZES).code(PARAMS)
        lines.append(" ".join([code.hex(), *map(str, values.values()), "0", "0"]))
        expected.append(python_result(expression, values))
        shown.append(f"{expression} with {values}")
    run = subprocess.run(
        [evaluator], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    wrong = [
        f"{case}: expected {want}, got {got}"
        for case, want, got in zip(shown, expected, run.stdout.split(), strict=True)
        if want != got
    ]
    assert not wrong, "\n".join(wrong[:10])
    assert expected.count("error") < len(expected) / 2, "most cases should have a result"


@pytest.mark.parametrize(
    "code",
    [
        "0101",
        "ff",
        "01010a00",
        "00",
        "0101" * 33 + "0a" * 32 + "00",
        "0101010200",
        "03050000",
        "04000000",
        "0101021e",
        "1d010001010000",
        "0101" + "1e0400" + "0101" + "1d0300" + "0a0a0a" + "00",
        "0101" + "1e0300" + "0101" + "01010a" + "00",
        "1d0000",
        "1dffff00",
    ],
    ids=[
        "no-end",
        "unknown",
        "underflow",
        "no-result",
        "too-deep",
        "two-results",
        "no-such-parameter",
        "no-such-constexpr",
        "cut",
        "jump-into-an-operand",
        "underflow-after-jump",
        "ways-disagree",
        "jump-to-the-end",
        "jump-past-the-end",
    ],
)
def test_malformed_program_is_not_run(evaluator: Path, code: str) -> None:
    run = subprocess.run([evaluator], input=f"{code} 1 2 3\n", capture_output=True, text=True, check=True)
    assert run.stdout == "malformed\n"
    assert why_no_program(bytes.fromhex(code), params=3, constexprs=0)


def test_random_bytes_are_refused_or_run_cleanly(evaluator: Path) -> None:
    source = random.Random(7)
    lines = [
        bytes(source.choice((0, 1, 3, 10, 13, 29, 30, source.randrange(256))) for _ in range(12)).hex()
        + " 1 2 3"
        for _ in range(20000)
    ]
    run = subprocess.run(
        [evaluator], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    results = run.stdout.split()
    assert len(results) == len(lines)
    assert results.count("malformed") < len(lines), "some should be programs"
    whys = [why_no_program(bytes.fromhex(line.split()[0]), params=3, constexprs=0) for line in lines]
    assert [why != "" for why in whys] == [result == "malformed" for result in results]
