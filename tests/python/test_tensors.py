"""kpack.TensorDescriptor on its way to a launch (by the dry driver), and Triton's own in its place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import kpack
from kpack.errors import LaunchError

if find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1":
    pytest.skip("kpack was installed without Python's headers (python3-dev)", allow_module_level=True)

from kpack.runtime import Launch, LoadedKernel, Pointer, load, use_dry_driver

KERNELS = """
import kpack, triton, triton.language as tl

@triton.jit
def copy_kernel(out, source):
    out.store([0, 0], source.load([0, 0]))

copy = kpack.Kernel(
    copy_kernel,
    name="copy",
    signature={"out": "tensordesc<fp16[16, 64]>", "source": "tensordesc<fp16[16, 64]>"},
    grid=1,
)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    (folder / "copy.py").write_text(KERNELS)
    kpack.build(folder / "copy.py", arch=["sm_80", "sm_90"]).write(folder / "libtk.a")
    whole = ["-Wl,--whole-archive", str(folder / "libtk.a"), "-Wl,--no-whole-archive"]
    subprocess.run(["cc", "-shared", "-o", str(folder / "libtk.so"), *whole], check=True)
    return folder / "libtk.so"


@pytest.fixture(params=["sm_80", "sm_90"])
def copy(library: Path, request: pytest.FixtureRequest) -> Iterator[LoadedKernel]:
    use_dry_driver(request.param)
    yield load(library)["copy"]
    use_dry_driver(None)


BASE = Pointer("fp16", 0x1000)


def tensor(**facts: Any) -> SimpleNamespace:
    """What looks like a torch tensor of fp16."""
    memory = {"data_ptr": lambda: 0x2000, "dtype": "float16", "shape": (32, 64), "stride": lambda: (128, 1)}
    return SimpleNamespace(**(memory | facts))


def shown(launch: Launch | None) -> str:
    assert launch is not None
    return launch.text.splitlines()[-1].strip()


def test_a_tensor_says_shape_and_strides_itself(copy: LoadedKernel) -> None:
    described = kpack.TensorDescriptor(tensor())
    assert (described.shape, described.strides) == ((32, 64), (128, 1))
    launch = copy(described, kpack.TensorDescriptor(BASE, (8, 16)))
    assert shown(launch) == "args     out=0x2000[32, 64] source=0x1000[8, 16]"


def test_a_shape_without_strides_is_contiguous() -> None:
    assert kpack.TensorDescriptor(tensor(), (2, 3, 4)).strides == (12, 4, 1)
    assert kpack.TensorDescriptor(tensor(), [5]).strides == (1,)


def test_strides_that_nobody_says_are_refused() -> None:
    with pytest.raises(
        LaunchError, match=r"expected strides, in elements, for a Pointer does not say its own"
    ):
        kpack.TensorDescriptor(BASE)


def test_tritons_own_descriptor_does_as_well(copy: LoadedKernel) -> None:
    torch = pytest.importorskip("torch")
    described = pytest.importorskip("triton.tools.tensor_descriptor").TensorDescriptor
    source = torch.zeros(16, 64, dtype=torch.float16)
    own = described.from_tensor(source, [16, 64])
    assert f"source={source.data_ptr():#x}[16, 64]" in shown(
        copy(kpack.TensorDescriptor(BASE, (16, 64)), own)
    )


def bad(**facts: Any) -> SimpleNamespace:
    good = {
        "base": BASE,
        "shape": (16, 64),
        "strides": (64, 1),
        "padding": "zero",
        "round_f32_to_tf32": False,
    }
    return SimpleNamespace(**(good | facts))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"base": 3}, "copy: argument 2: expected a descriptor of a tensor, got one of int"),
        ({"base": Pointer("fp32", 0x1000)}, "'source': expected tensordesc<fp16>, got tensordesc<fp32>"),
        ({"shape": (16, "64")}, "argument 2: shape: expected integers of 64 bits, got"),
        ({"shape": (16, 1 << 63)}, "argument 2: shape: expected integers of 64 bits, got"),
        ({"strides": (1,)}, "argument 2: expected as many strides as sizes, got 1 and 2"),
        ({"shape": (1,), "strides": (1,)}, "'source': expected a tensor of rank 2, got rank 1"),
        ({"shape": (1,) * 6, "strides": (1,) * 6}, "'source': expected a tensor of rank 2, got rank 6"),
        ({"strides": (65, 1)}, r"'source': strides\[0\]: expected 0 to"),
        ({"padding": "one"}, "argument 2: padding: expected 'zero' or 'nan', got 'one'"),
        ({"round_f32_to_tf32": True}, "'source': rounding to tf32: expected a tensor of fp32, got fp16"),
    ],
    ids=str,
)
def test_what_no_descriptor_can_be_is_refused(
    copy: LoadedKernel, facts: dict[str, Any], message: str
) -> None:
    with pytest.raises(LaunchError, match=message):
        copy(kpack.TensorDescriptor(BASE, (16, 64)), bad(**facts))


def test_nan_padding_is_taken(copy: LoadedKernel) -> None:
    out = kpack.TensorDescriptor(BASE, (16, 64))
    assert copy(out, kpack.TensorDescriptor(BASE, (16, 64), padding="nan")) is not None
