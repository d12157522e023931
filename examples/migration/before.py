"""Before: Triton compiles rms_norm in the running program, once for each block size that it meets."""

from __future__ import annotations

import sys

import torch
import triton
from inputs import inputs, save
from rms_norm import rms_norm_kernel


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    out = torch.empty_like(x)
    n_rows, n_cols = x.shape
    block = triton.next_power_of_2(n_cols)
    rms_norm_kernel[(n_rows,)](
        out, x, weight, x.stride(0), n_cols, eps, BLOCK=block, num_warps=min(max(block // 256, 1), 8)
    )
    return out


if __name__ == "__main__":
    save(sys.argv[1], [rms_norm(x, weight) for x, weight in inputs()])
