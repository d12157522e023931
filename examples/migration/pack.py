"""What is new: what to build of the kernel. Built where there is no GPU; see the Makefile."""

import triton
from rms_norm import rms_norm_kernel

import kpack

rms_norm = kpack.Kernel(
    rms_norm_kernel,
    name="rms_norm",
    # As the JIT would find the arguments: any alignment, and the one that nearly all calls have.
    signature={
        "out_ptr": "*fp32:16?",
        "x_ptr": "const *fp32:16?",
        "weight_ptr": "const *fp32:16?",
        "row_stride": "i64:16?",
        "n_cols": "i32:16?",
        "eps": "fp32",
    },
    # next_power_of_2(n_cols) and num_warps of before.py, for as many columns as the program has.
    configs=[
        triton.Config({"BLOCK": block}, num_warps=min(max(block // 256, 1), 8)) for block in (256, 1024, 4096)
    ],
    guard=lambda n_cols, BLOCK: n_cols <= BLOCK,
    # The (n_rows,) in the brackets of the launch: n_rows is the last argument now.
    grid=lambda n_rows: (n_rows,),
)
