"""What the doctor says of a machine with a GPU."""

from __future__ import annotations

import pytest

from kpack.doctor import examine
from kpack.runtime import drivers


@pytest.mark.usefixtures("library")  # which skips where there is no GPU
def test_the_driver_and_its_devices_are_named() -> None:
    import torch

    found = {check.subject: check for check in examine(["drivers"])}["NVIDIA"]
    archs = ["sm_{}{}".format(*torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())]
    assert found.status == "ok", found
    assert found.found.startswith("libcuda.so.1, CUDA ")
    assert found.found.endswith(": " + ", ".join(archs))
    cuda = drivers()[0]
    assert (cuda.vendor, cuda.why_not, list(cuda.archs)) == ("cuda", "", archs)
    # Of the driver, which is never older than the runtime that torch came with, but for minor versions.
    assert torch.version.cuda is not None
    assert int(cuda.version.partition(".")[0]) >= int(torch.version.cuda.partition(".")[0])
