"""The occupancy that a report computes, asked of the driver."""

from __future__ import annotations

from ctypes import CDLL, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path

import pytest

from kpack.objfile.listing import ImageListing
from kpack.objfile.reading import read_pack
from kpack.report.occupancy import Needs, Occupancy, occupancy_of

ARCHIVES = Path(__file__).parents[2] / "build" / "archives"
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
PREFERRED_CARVEOUT = 9  # CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT


def blocks_by_driver(cuda: CDLL, image: ImageListing) -> int:
    module, function, blocks = c_void_p(), c_void_p(), c_int()
    assert cuda.cuModuleLoadData(byref(module), c_char_p(image.code)) == 0
    assert cuda.cuModuleGetFunction(byref(function), module, image.entry.encode()) == 0
    assert cuda.cuFuncSetAttribute(function, MAX_DYNAMIC_SHARED, image.shared_bytes) == 0
    assert cuda.cuFuncSetAttribute(function, PREFERRED_CARVEOUT, 100) == 0
    threads = image.num_warps * image.warp_size
    code = cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(
        byref(blocks), function, threads, c_size_t(image.shared_bytes)
    )
    assert code == 0
    assert cuda.cuModuleUnload(module) == 0
    return blocks.value


@pytest.mark.parametrize("file", ["libtk.a", "libtests.a"])
def test_occupancy_is_what_the_driver_says(library: Path, file: str) -> None:
    import torch

    torch.zeros(1, device="cuda")  # makes a context current
    arch = "sm_{}{}".format(*torch.cuda.get_device_capability())
    cuda = CDLL("libcuda.so.1")
    seen = 0
    for kernel in read_pack(ARCHIVES / file).kernels:
        for image in kernel.images:
            if kernel.targets[image.target].name != arch or image.cluster != (1, 1, 1):
                continue
            shared = image.shared_bytes + image.static_shared_bytes
            found = occupancy_of(arch, Needs(image.num_warps, image.registers, shared, image.warp_size))
            assert isinstance(found, Occupancy)
            assert found.blocks == blocks_by_driver(cuda, image), (kernel.name, image)
            seen += 1
    if not seen:
        pytest.skip(f"{file} has no image for {arch}")
