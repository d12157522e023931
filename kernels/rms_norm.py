"""RMSNorm of each row of a matrix, y = x / sqrt(mean of x^2 + eps) * weight, and its gradient.

Computed in float32, or float64 of float64: so are eps, `rstd` and the parts.

Up to 2^31 rows of up to 2^30 columns, any stride and any alignment. Forward leaves 1 / sqrt(...) of each row in
`rstd`, which backward reads. Backward leaves the gradient of the weight in `n_parts` rows, for column_sums: twice as
many as the device has multiprocessors is a good number, and four times for up to 1,024 columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from norm import ANY_LENGTH, DOUBLE_BACKWARD, PLAIN_BACKWARD, backward, forward
from rows import DOUBLE, PLAIN, PLAIN_DOUBLE, Tile, looped, short, whole, widened

if TYPE_CHECKING:  # building needs no torch
    import torch

HALF = [
    *(short(128, block, 16) for block in (8, 16, 32, 64, 128, 256, 512, 1024)),
    *(whole(128, most) for most in (2048, 3072, 4096, 5120)),
    *(whole(256, most) for most in (6144, 8192, 10240)),
    *(whole(512, most) for most in (12288, 16384)),
    looped(512, held=0, step=4, longest=32768),
    looped(1024, held=0, step=4),
]
SINGLE = [
    *(short(128, block, 8) for block in (8, 16, 32, 64, 128, 256, 512, 1024)),
    whole(128, 2048),
    *(whole(512, most) for most in (4096, 8192, 12288)),
    *(whole(256, most) for most in (14336, 16384)),
    whole(1024, 24576),
    looped(512, held=0, step=8, longest=32768),
    looped(1024, held=4, step=2),
]
rms_norm = forward(
    "rms_norm",
    {
        (8, "T"): HALF,
        (4, "fp32"): SINGLE,
        (1, "T"): PLAIN,
        (1, "fp32"): PLAIN,
        (2, "fp64"): DOUBLE,
        (1, "fp64"): PLAIN_DOUBLE,
    },
    center=False,
)

HALF_BACKWARD = [
    *(short(512, block, 16, stages=3) for block in (16, 32, 64, 128, 256)),
    short(128, 512, 32, stages=3),
    short(128, 1024, 32, stages=3),
    short(256, 2048, 32, stages=3),
    whole(128, 3072, stages=3),
    Tile(256, 2048, 2, 4096, rows=2, stages=3),
    whole(128, 5120, stages=3),
    whole(256, 6144),
    whole(256, 8192, stages=3),
    whole(256, 10240, each=4, stages=3),
    whole(512, 12288, stages=3),
    whole(512, 16384),
    ANY_LENGTH,
]
SINGLE_BACKWARD = [
    *(short(128, block, 32, stages=2) for block in (16, 32, 64)),
    short(512, 128, 8),
    *(short(128, block, 32) for block in (256, 512)),
    short(256, 1024, 16),
    Tile(128, 1024, 2, 2048, rows=2, stages=2),
    *(whole(128, most, stages=2) for most in (3072, 4096)),
    whole(128, 5120),
    whole(256, 6144),
    *(whole(512, most, each=4) for most in (8192, 12288)),
    whole(1024, 16384, each=4),
    ANY_LENGTH,
]
rms_norm_backward = backward(
    "rms_norm_backward",
    {
        (8, "T"): HALF_BACKWARD,
        (4, "fp32"): SINGLE_BACKWARD,
        (1, "T"): PLAIN_BACKWARD,
        (1, "fp32"): PLAIN_BACKWARD,
        (2, "fp64"): DOUBLE_BACKWARD,
        (1, "fp64"): DOUBLE_BACKWARD,
    },
    center=False,
)


def reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """What forward computes, in torch: rounded once at the end."""
    wide = widened(x)
    return (wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * widened(weight)).to(x.dtype)
