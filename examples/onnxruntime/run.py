"""A session with the custom operator, compared with numpy: `python3 run.py ./libkpack_softmax.so`."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
from model import FLOAT, FLOAT16, softmax_model


def session(library: str, element_type: int = FLOAT) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(
        softmax_model(element_type), options, providers=["CPUExecutionProvider"]
    )


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def main() -> None:
    for element_type, dtype, tolerance in ((FLOAT, np.float32, 2e-5), (FLOAT16, np.float16, 2e-3)):
        of = session(sys.argv[1], element_type)
        for rows, columns in ((1, 1), (37, 1000), (64, 4096), (3, 65536)):
            x = np.random.default_rng(0).standard_normal((rows, columns)).astype(dtype)
            (y,) = of.run(None, {"x": x})
            np.testing.assert_allclose(y, softmax(x), rtol=tolerance, atol=1e-7)
            print(f"softmax of {rows} x {columns} {x.dtype} numbers: as numpy's")


if __name__ == "__main__":
    main()
