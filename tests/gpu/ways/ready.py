"""As ready-made code, as TTIR, and recorded without a GPU."""

import os
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import kpack

sys.path.insert(0, os.path.dirname(__file__))
import program

GRID = {"constexprs": {"BLOCK": 128}, "grid": lambda n, BLOCK: kpack.cdiv(n, BLOCK)}
FORMS = triton.compile(
    ASTSource(
        program.scaled_kernel,
        {"x_ptr": "*fp32", "out_ptr": "*fp32", "scale": "fp32", "n": "i32", "BLOCK": "constexpr"},
        constexprs={"BLOCK": 128},
        attrs={(0,): [["tt.divisibility", 16]], (1,): [["tt.divisibility", 16]]},
    ),
    target=GPUTarget("cuda", 90, 32),
).asm

ready = kpack.Images(
    "ready",
    {"sm_90": FORMS["cubin"]},
    signature={"x_ptr": "const *fp32:16", "out_ptr": "*fp32:16", "scale": "fp32", "n": "i32"},
    scratch={"global": 0, "profile": 0},
    **GRID,
)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "scaled.ttir"
    file.write_text(FORMS["ttir"])
    lowered = kpack.IR(file, name="lowered", **GRID)


class Memory:
    """What Triton asks a tensor for."""

    dtype = "fp32"

    def __init__(self, address):
        self.address = address

    def data_ptr(self):
        return self.address


with kpack.record(target="sm_90") as recording:
    program.run(Memory(4096), Memory(8192), 1000)
(recorded,) = recording.kernels(keep="general")
