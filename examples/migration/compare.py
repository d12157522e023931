"""Whether the programs agree: `python3 compare.py before.bin after.bin after_cc.bin`."""

import sys

import numpy as np

first, *others = (np.fromfile(path, np.float32) for path in sys.argv[1:])
for path, other in zip(sys.argv[2:], others, strict=True):
    np.testing.assert_allclose(other, first, rtol=1e-5, atol=1e-6, err_msg=path)
    print(f"{path}: {other.size} numbers as those of {sys.argv[1]}")
