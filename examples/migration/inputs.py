"""What all three programs compute with, and how they save it: for the comparison, no part of the migration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

SHAPES = ((64, 256), (37, 1000), (3, 4096))


def values(rows: int, columns: int) -> np.ndarray:
    """-10 to 10, from whole numbers, so that C++ makes the same."""
    at = np.arange(rows * columns, dtype=np.uint64) * 2654435761 % 2000
    return (at.astype(np.float32) / np.float32(100) - np.float32(10)).reshape(rows, columns)


def inputs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for rows, columns in SHAPES:
        x, weight = values(rows, columns), values(1, columns)[0]
        yield torch.from_numpy(x).to(device), torch.from_numpy(weight).to(device)


def save(path: str, results: list[torch.Tensor]) -> None:
    """All numbers, one after the other, as float32."""
    Path(path).write_bytes(b"".join(np.asarray(result.cpu(), np.float32).tobytes() for result in results))
