"""The gradient of softmax, from what it gave and the gradient of that: dx = y * (dy - sum(y * dy)), in float32."""

import triton
import triton.language as tl

import kpack


@triton.jit
def softmax_backward_kernel(
    dx_ptr, y_ptr, dy_ptr, dx_row_stride, y_row_stride, dy_row_stride, n_cols, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < n_cols
    y = tl.load(y_ptr + row * y_row_stride + cols, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + row * dy_row_stride + cols, mask=inside, other=0.0).to(tl.float32)
    dx = y * (dy - tl.sum(y * dy, axis=0))
    tl.store(dx_ptr + row * dx_row_stride + cols, dx.to(dx_ptr.dtype.element_ty), mask=inside)


softmax_backward = kpack.Kernel(
    softmax_backward_kernel,
    name="softmax_backward",
    signature={
        "dx_ptr": "*T:16?",
        "y_ptr": "const *T:16?",
        "dy_ptr": "const *T:16?",
        "dx_row_stride": "i64:16?",
        "y_row_stride": "i64:16?",
        "dy_row_stride": "i64:16?",
        "n_cols": "i32:16?",
    },
    types={"T": ["fp16", "bf16", "fp32"]},
    configs=[
        triton.Config({"BLOCK": block}, num_warps=max(1, min(16, block // 1024))) for block in (1024, 16384)
    ],
    guard=lambda n_cols, BLOCK: n_cols <= BLOCK,
    grid=lambda n_rows: (n_rows,),
)
