"""Writes the images that the tests of the fakes load: `images.py FOLDER`. One softmax for four targets."""

import sys
from pathlib import Path

import triton
import triton.language as tl

import kpack


@triton.jit
def softmax_kernel(out_ptr, in_ptr, in_row_stride, out_row_stride, n_cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < n_cols
    values = tl.load(in_ptr + row * in_row_stride + columns, mask=mask, other=-float("inf")).to(tl.float32)
    powers = tl.exp(values - tl.max(values, axis=0))
    result = powers / tl.sum(powers, axis=0)
    tl.store(out_ptr + row * out_row_stride + columns, result.to(out_ptr.dtype.element_ty), mask=mask)


softmax = kpack.Kernel(
    softmax_kernel,
    name="softmax",
    signature={
        "out_ptr": "*fp16:16",
        "in_ptr": "const *fp16:16",
        "in_row_stride": "i64:16",
        "out_row_stride": "i64:16",
        "n_cols": "i32",
    },
    configs=[{"BLOCK": 1024, "num_warps": 4}],
    grid=lambda n_rows: n_rows,
)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for image in kpack.build(softmax, arch=["sm_80", "sm_90", "gfx90a", "gfx1100"], progress=False).images:
        suffix = "cubin" if image.target.name.startswith("sm_") else "hsaco"
        (folder / f"{image.target.name}.{suffix}").write_bytes(image.code)
