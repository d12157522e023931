"""kernels/softmax.py computes what torch does: Triton's interpreter on the CPU, in a process of its own."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch", reason="torch is what softmax is compared with")

KERNEL = Path(__file__).parents[2] / "kernels" / "softmax.py"
ROWS = 3
WIDTHS = [1, 2, 63, 127, 128, 1000, 1023, 1024, 1025, 4096, 65536]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
# How far apart two results may be: one rounding of the type; absolute where fp16 has no more digits left.
RTOL = {"fp16": 2**-10, "bf16": 2**-7, "fp32": 1e-5}
ATOL = {"fp16": 2**-24, "bf16": 1e-30, "fp32": 1e-30}
# Elements from the end of one row to the start of the next, in the input and in the output.
GAPS = {"contiguous": (0, 0), "padded": (64, 16), "odd": (1, 7)}
UNTOUCHED = 7.0  # what lies where the kernel has nothing to write
POISON = float("nan")  # what lies where it has nothing to read: it would be seen in every result of the row

INF = float("inf")
SPECIAL = {
    "all -inf": [-INF, -INF, -INF, -INF, -INF],
    "one inf": [1.0, INF, 0.0, -1.0, 2.0],
    "two inf": [INF, 0.0, INF, -1.0, 2.0],
    "inf and -inf": [INF, -INF, 0.0, 0.0, 0.0],
    "one nan": [0.0, 1.0, 2.0, POISON, -1.0],
    "nan last": [0.0, 1.0, 2.0, 3.0, POISON],
    "all nan": [POISON] * 5,
    "nan among -inf": [-INF, -INF, POISON, -INF, -INF],
    "nan and inf": [INF, POISON, 0.0, 0.0, 0.0],
    "some -inf": [-INF, 1.0, -INF, 2.0, 3.0],
    "all but one -inf": [-INF, -INF, 5.0, -INF, -INF],
    "the largest": [60000.0, 60000.0, -60000.0, 0.0, 59968.0],
    "all equal": [-3.0, -3.0, -3.0, -3.0, -3.0],
}
# Where the sum of exponentials is inf - inf, torch has NaN in the whole row.
ALL_NAN = ["all -inf", "one inf", "two inf", "inf and -inf", "one nan", "nan last", "all nan"]
ALL_NAN += ["nan among -inf", "nan and inf"]


class Case(NamedTuple):
    dtype: str
    width: int
    gaps: str

    def __str__(self) -> str:
        return f"{self.dtype}-{self.width}-{self.gaps}"


CASES = [Case(*case) for case in itertools.product(DTYPES, WIDTHS, GAPS)]


def padded(x: torch.Tensor, gap: int, filler: float) -> torch.Tensor:
    """A copy of `x` in rows with a gap behind each: everything that is allocated, gaps included."""
    return torch.cat([x, x.new_full((x.shape[0], gap), filler)], dim=1)


def random_rows(case: Case) -> torch.Tensor:
    generator = torch.Generator().manual_seed(case.width)
    return torch.randn(ROWS, case.width, generator=generator).mul(4).to(DTYPES[case.dtype])


def special_rows(dtype: str) -> torch.Tensor:
    return torch.tensor(list(SPECIAL.values())).to(DTYPES[dtype])


def load_kernel() -> ModuleType:
    spec = importlib.util.spec_from_file_location("softmax", KERNEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- in the process that interprets


def interpret(module: ModuleType, x: torch.Tensor, gaps: str) -> torch.Tensor:
    """What the kernel leaves in memory that was UNTOUCHED, gaps included."""
    rows, width = x.shape
    in_gap, out_gap = GAPS[gaps]
    source = padded(x, in_gap, POISON)
    out = padded(torch.full_like(x, UNTOUCHED), out_gap, UNTOUCHED)
    block = min(block for block in module.BLOCKS if block >= width)
    module.softmax_kernel[(rows,)](out, source, source.stride(0), out.stride(0), width, BLOCK=block)
    return out


def interpret_far_apart(module: ModuleType) -> torch.Tensor:
    """Rows 2^30 elements apart, in place: the third begins at 2^31. Only the pages in use are ever there."""
    stride, width = 2**30, 100
    memory = torch.empty(2 * stride + width, dtype=torch.float16)
    rows = memory.as_strided((ROWS, width), (stride, 1))
    rows.copy_(random_rows(Case("fp16", width, "")))
    module.softmax_kernel[(ROWS,)](memory, memory, stride, stride, width, BLOCK=128)
    return rows.clone()


def interpret_all(results: Path) -> None:
    module = load_kernel()
    found = {str(case): interpret(module, random_rows(case), case.gaps) for case in CASES}
    found |= {f"special-{dtype}": interpret(module, special_rows(dtype), "contiguous") for dtype in DTYPES}
    found["far apart"] = interpret_far_apart(module)
    torch.save(found, results)


# ---- in pytest's process


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """All results by name. TRITON_INTERPRET counts when triton is imported, so not in this process."""
    results = tmp_path_factory.mktemp("softmax") / "results.pt"
    done = subprocess.run(
        [sys.executable, __file__, results],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, torch.Tensor] = torch.load(results)
    return loaded


def assert_softmax(got: torch.Tensor, x: torch.Tensor, dtype: str) -> None:
    # Not by the reference beside the kernel: one mistake in both would go unseen.
    expected = torch.softmax(x.double(), dim=-1).to(x.dtype)
    torch.testing.assert_close(got, expected, rtol=RTOL[dtype], atol=ATOL[dtype], equal_nan=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_softmax_is_torchs_and_leaves_the_gaps_alone(
    case: Case, interpreted: dict[str, torch.Tensor]
) -> None:
    out = interpreted[str(case)]
    assert out.shape == (ROWS, case.width + GAPS[case.gaps][1])
    assert_softmax(out[:, : case.width], random_rows(case), case.dtype)
    assert (out[:, case.width :] == UNTOUCHED).all()


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_inf_and_nan_are_torchs(dtype: str, name: str, interpreted: dict[str, torch.Tensor]) -> None:
    row = list(SPECIAL).index(name)
    got = interpreted[f"special-{dtype}"][row]
    assert_softmax(got, special_rows(dtype)[row], dtype)
    assert got.isnan().all() if name in ALL_NAN else got.isfinite().all()


def test_rows_beyond_2_31_elements(interpreted: dict[str, torch.Tensor]) -> None:
    assert_softmax(interpreted["far apart"], random_rows(Case("fp16", 100, "")), "fp16")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_reference_beside_the_kernel_agrees(dtype: str) -> None:
    x = random_rows(Case(dtype, 1000, ""))
    assert_softmax(load_kernel().reference(x), x, dtype)


if __name__ == "__main__":
    interpret_all(Path(sys.argv[1]))
