"""Log-softmax of each row of a matrix and its gradient: the kernels of softmax, with other ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rows import widened
from softmax import forward
from softmax_backward import backward

if TYPE_CHECKING:  # building needs no torch
    import torch

log_softmax = forward("log_softmax", log=True)
log_softmax_backward = backward("log_softmax_backward", log=True)


def reference(x: torch.Tensor) -> torch.Tensor:
    """What forward computes, in torch: rounded once at the end."""
    import torch

    return torch.log_softmax(widened(x), dim=-1).to(x.dtype)
