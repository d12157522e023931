"""As ONNX Runtime's scripts say it."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
import program


def get_function_table():
    return [
        {
            "name": f"table_{block}",
            "group": "table",
            "func": program.scaled_kernel,
            "sig": "*fp32, *fp32, fp32, i32, B",
            "kwargs": {"num_warps": block // 64, "constants": {"BLOCK": block}},
        }
        for block in (128, 256)
    ]
