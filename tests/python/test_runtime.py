"""kpack.load: packs found in shared objects, and Python's values on their way to a launch (by the dry driver)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kpack
from kpack.errors import FormatError, LaunchError

if find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1":
    pytest.skip("kpack was installed without Python's headers (python3-dev)", allow_module_level=True)

from kpack.runtime import Launch, LoadedKernel, LoadedPack, load, reserve_scratch, use_dry_driver

KERNELS = """
import kpack, triton, triton.language as tl

@triton.jit
def copy_kernel(out_ptr, in_ptr, factor, n, MODE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(in_ptr + at, mask=at < n)
    if MODE == "scale":
        x = (x * factor).to(x.dtype)
    tl.store(out_ptr + at, x, mask=at < n)

copy = kpack.Kernel(
    copy_kernel,
    name="copy",
    signature={"out_ptr": "*T", "in_ptr": "const *T", "factor": "fp32", "n": "i32"},
    types={"T": ["fp16", "bf16", "fp32"]},
    constexprs={"MODE": ["plain", "scale"], "BLOCK": 128},
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
"""


def link(archive: Path, library: Path) -> Path:
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"]
    subprocess.run(["cc", "-shared", "-o", str(library), *whole], check=True)
    return library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    (folder / "copy.py").write_text(KERNELS)
    kpack.build(folder / "copy.py", arch="sm_80").write(folder / "libtk.a")
    return link(folder / "libtk.a", folder / "libtk.so")


@pytest.fixture
def copy(library: Path) -> Iterator[LoadedKernel]:
    use_dry_driver("sm_80")
    yield load(library)["copy"]
    use_dry_driver(None)


def arguments(launch: Launch | None) -> dict[str, str]:
    """Those that the dry driver shows: out_ptr=0x7f... n=4."""
    assert launch is not None
    return dict(re.findall(r"(\w+)=(\S+)", launch.text[launch.text.index("  args ") :]))


def variant(launch: Launch | None) -> str:
    assert launch is not None
    found = re.search(r"variant +(\S+)", launch.text)
    assert found
    return found[1]


# ---- packs


def test_a_pack_is_a_mapping_of_its_kernels(library: Path) -> None:
    pack = load(library)
    assert isinstance(pack, LoadedPack)
    assert (pack.name, pack.path, list(pack), len(pack)) == ("tk", library, ["copy"], 1)
    assert pack["copy"].prototype.startswith("copy(")
    assert pack["copy"].prototype in repr(pack)
    with pytest.raises(KeyError, match="nothing: no such kernel in tk; it has copy"):
        pack["nothing"]


@pytest.mark.parametrize("file", ["libother.so", "tk.so", "libtk.so.1", "strange name.so"])
def test_the_only_pack_of_a_file_needs_no_name(library: Path, tmp_path: Path, file: str) -> None:
    renamed = tmp_path / file
    renamed.write_bytes(library.read_bytes())
    assert load(renamed).name == "tk"
    assert load(str(renamed), name="tk").name == "tk"


def test_a_stripped_file_still_has_its_pack(library: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "libstripped.so"
    subprocess.run(["strip", "-o", stripped, library], check=True)
    assert list(load(stripped)) == ["copy"]


def test_a_pack_of_another_name_is_refused_and_shown(library: Path) -> None:
    with pytest.raises(FormatError, match=r"libtk\.so: expected pack other, got tk; give its name"):
        load(library, name="other")


def test_a_library_without_a_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.c").write_text("int nothing;")
    subprocess.run(["cc", "-shared", "-o", "libempty.so", "empty.c"], cwd=tmp_path, check=True)
    with pytest.raises(
        FormatError, match=r"libempty\.so: expected one pack, got none; link the archive with"
    ):
        load(tmp_path / "libempty.so")


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF", b"not a library"], ids=repr)
def test_what_is_no_library_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "libtk.so"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FormatError, match=re.escape(str(file))):
        load(file)


# ---- tensors


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_torch_tensors_bring_pointer_and_type(copy: LoadedKernel, dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="torch's tensors")
    x = torch.ones(8, dtype=getattr(torch, dtype))[2:]
    launch = copy(x, x, 1.0, 6, "plain")
    assert variant(launch).startswith({"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}[dtype])
    assert arguments(launch)["in_ptr"] == hex(x.data_ptr())


def array_interface(typestr: str = "<f4", *, read_only: bool = False) -> Any:
    return SimpleNamespace(
        __cuda_array_interface__={"typestr": typestr, "data": (4096, read_only), "shape": (1,)}
    )


def test_cuda_array_interface_brings_pointer_and_type(copy: LoadedKernel) -> None:
    launch = copy(array_interface(), array_interface(read_only=True), 1.0, 1, "plain")
    assert variant(launch).startswith("fp32")
    assert arguments(launch)["in_ptr"] == "0x1000"


def test_a_read_only_array_is_not_written(copy: LoadedKernel) -> None:
    with pytest.raises(LaunchError, match=r"'out_ptr': expected \*fp32, got const \*fp32"):
        copy(array_interface(read_only=True), array_interface(), 1.0, 1, "plain")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dlpack_brings_pointer_and_type(copy: LoadedKernel, dtype: type) -> None:
    x = np.ones(8, dtype)[3:]
    launch = copy(x, x, 1.0, 5, "plain")
    assert variant(launch).startswith(f"fp{x.itemsize * 8}")
    assert arguments(launch)["in_ptr"] == hex(x.ctypes.data)


class OnDevice:
    """A DLPack tensor that says where it is, and remembers which stream it was asked to wait with."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.asked: object = "not asked"

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.device, 0)

    def __dlpack__(self, *, stream: object) -> object:
        self.asked = stream
        return np.ones(4, np.float32).__dlpack__()


@pytest.mark.parametrize(
    ("device", "stream", "asked"),
    [
        pytest.param(1, 64, None, id="cpu"),
        pytest.param(2, 64, 64, id="cuda"),
        pytest.param(2, None, 1, id="cuda, default stream"),
        pytest.param(10, 64, 64, id="rocm"),
        pytest.param(10, None, 0, id="rocm, default stream"),
    ],
)
def test_a_dlpack_producer_is_told_the_stream(
    copy: LoadedKernel, device: int, stream: int | None, asked: int | None
) -> None:
    x = OnDevice(device)
    copy(x, x, 1.0, 4, "plain", stream=stream)
    assert x.asked == asked


# ---- memory of the host


@pytest.fixture
def real(library: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedKernel:
    """Not the dry driver: where the memory is a GPU's, the launch gets as far as a null stream does."""
    use_dry_driver(None)
    return load(library)["copy"]


def tensor(is_cuda: bool | None = None, device: str | None = None) -> SimpleNamespace:
    """What is like torch's, as far as it says where it is."""
    where = {"is_cuda": is_cuda, "device": device and SimpleNamespace(type=device)}
    said = {name: value for name, value in where.items() if value is not None}
    return SimpleNamespace(data_ptr=lambda: 4096, dtype="torch.float32", **said)


@pytest.mark.parametrize(
    ("x", "device"),
    [
        pytest.param(tensor(False, "cpu"), "device cpu", id="torch's"),
        pytest.param(tensor(False), "device cpu", id="is_cuda"),
        pytest.param(tensor(None, "xpu"), "device xpu", id="device.type"),
        pytest.param(np.ones(4, np.float32), "device cpu", id="numpy's"),
        pytest.param(OnDevice(1), "device cpu", id="dlpack, cpu"),
        pytest.param(OnDevice(14), "DLPack device type 14", id="dlpack, oneAPI"),
    ],
)
def test_memory_of_the_host_is_for_the_dry_driver_alone(real: LoadedKernel, x: object, device: str) -> None:
    message = f"copy: argument 1: expected memory of a GPU, got memory of {device}"
    with pytest.raises(LaunchError, match=message) as caught:
        real(x, x, 1.0, 4, "plain")
    assert caught.value.status == 2  # KPK_ERROR_ARGUMENT
    use_dry_driver("sm_80")
    assert isinstance(real(x, x, 1.0, 4, "plain"), Launch)
    use_dry_driver(None)


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(tensor(True, "cuda"), id="torch's"),
        pytest.param(tensor(None, "cuda"), id="cuda"),
        pytest.param(tensor(None, "hip"), id="hip"),
        pytest.param(tensor(), id="says nothing"),
        pytest.param(array_interface(), id="array interface"),
        *(pytest.param(OnDevice(device), id=f"dlpack {device}") for device in (2, 3, 10, 11, 13)),
    ],
)
def test_memory_of_a_gpu_is_taken(real: LoadedKernel, x: object) -> None:
    # A range that no argument has: it is looked at behind the pointers, and before any driver.
    with pytest.raises(LaunchError) as caught:
        real(x, x, 1.0, 2**31, "plain")
    assert "memory of" not in str(caught.value)


@pytest.mark.parametrize("dry", [False, True])
def test_a_meta_tensor_is_refused(real: LoadedKernel, dry: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch's tensors")
    use_dry_driver("sm_80" if dry else None)
    x = torch.ones(4, device="meta")
    with pytest.raises(LaunchError, match="argument 1: expected memory of a GPU, got a meta tensor"):
        real(x, x, 1.0, 4, "plain")
    use_dry_driver(None)


# ---- other values


@pytest.mark.parametrize(
    ("factor", "n", "shown"),
    [
        pytest.param(1.5, 4, ("1.5", "4"), id="float and int"),
        pytest.param(np.float32(1.5), np.int64(4), ("1.5", "4"), id="numpy's"),
        pytest.param(2, True, ("2", "true"), id="int for float, bool for int"),
        pytest.param(np.float16(1.5), np.True_, ("1.5", "true"), id="numpy's half and bool"),
        pytest.param(np.float64(1.5), np.uint8(4), ("1.5", "4"), id="numpy's double and byte"),
    ],
)
def test_numbers(copy: LoadedKernel, factor: Any, n: Any, shown: tuple[str, str]) -> None:
    x = np.ones(4, np.float32)
    found = arguments(copy(x, x, factor, n, "scale"))
    assert (found["factor"], found["n"]) == shown


def test_text_selects(copy: LoadedKernel) -> None:
    x = np.ones(4, np.float32)
    assert variant(copy(x, x, 1.0, 4, "plain")) != variant(copy(x, x, 1.0, 4, "scale"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            ([1], None, 1.0, 4, "plain"), "copy: argument 1: expected a tensor, .* got list", id="list"
        ),
        pytest.param(
            (None, None, 1.0, 2**64, "plain"), "argument 4: expected an integer of 64 bits", id="large"
        ),
        pytest.param((None, None, 1.0, 2**31, "plain"), "argument 4 'n': .*2147483648", id="range"),
        pytest.param((None, None, 1.0, 4), "expected 5 arguments, got 4", id="count"),
        pytest.param((np.ones(1), np.ones(1), 1.0, 4, "plain"), r"got \*fp64", id="type"),
        pytest.param((array_interface("<c8"), None, 1.0, 4, "plain"), "typestr '<c8'", id="complex"),
        pytest.param(
            (array_interface(">f4"), None, 1.0, 4, "plain"),
            "expected an array of little-endian numbers, got typestr '>f4'",
            id="byte order",
        ),
        pytest.param(
            (None, None, np.complex64(1), 4, "plain"), "argument 3: expected a ten.* got numpy", id="c8"
        ),
        pytest.param(
            (None, None, float, 4, "plain"), "argument 3: expected a tensor, .* got type", id="class"
        ),
        pytest.param(
            (np.ones(1, complex), None, 1.0, 4, "plain"), "DLPack .* code 5, 128 bits", id="dlpack type"
        ),
    ],
)
def test_what_no_kernel_takes_is_refused(copy: LoadedKernel, values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(LaunchError, match=message) as caught:
        copy(*values)
    assert caught.value.status == 2  # KPK_ERROR_ARGUMENT


def failing(error: BaseException, name: str) -> Any:
    """A producer whose attribute `name` raises when it is called."""

    def fail(*args: object, **named: object) -> object:
        raise error

    return SimpleNamespace(**{"__dlpack_device__": lambda: (2, 0), "dtype": "torch.float32", name: fail})


def read_only() -> np.ndarray:
    x = np.ones(4, np.float32)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        pytest.param(SimpleNamespace(__cuda_array_interface__={}), "got KeyError: 'typestr'", id="no type"),
        pytest.param(
            SimpleNamespace(__cuda_array_interface__={"typestr": "<f4"}), "got KeyError: 'data'", id="no data"
        ),
        pytest.param(
            SimpleNamespace(__cuda_array_interface__={"typestr": "<f4", "data": ("x", False)}), "", id="text"
        ),
        pytest.param(
            SimpleNamespace(__cuda_array_interface__={"typestr": "<f4", "data": (1,)}), "", id="short"
        ),
        pytest.param(SimpleNamespace(__cuda_array_interface__=3), "", id="no dict"),
        pytest.param(read_only(), "got BufferError: ", id="numpy, read-only"),
        pytest.param(failing(RuntimeError("no"), "__dlpack__"), "got RuntimeError: no", id="dlpack"),
        pytest.param(failing(RuntimeError("no"), "data_ptr"), "got RuntimeError: no", id="data_ptr"),
        pytest.param(
            SimpleNamespace(__dlpack__=lambda stream: 3, __dlpack_device__=lambda: (2, 0)), "", id="capsule"
        ),
        pytest.param(
            SimpleNamespace(__dlpack__=lambda stream: 3, __dlpack_device__=lambda: 3), "", id="device"
        ),
        pytest.param(
            SimpleNamespace(__dlpack__=lambda: 3, __dlpack_device__=lambda: ("x",)), "", id="text device"
        ),
    ],
)
def test_what_a_producer_raises_is_told_with_its_argument(copy: LoadedKernel, x: Any, message: str) -> None:
    with pytest.raises(LaunchError, match=f"copy: argument 2: expected a tensor .*{message}") as caught:
        copy(array_interface(), x, 1.0, 4, "plain")
    assert caught.value.status == 2  # KPK_ERROR_ARGUMENT


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_interrupt_of_a_producer_goes_on(copy: LoadedKernel, error: BaseException) -> None:
    x = failing(error, "__dlpack__")
    with pytest.raises(type(error)):
        copy(x, x, 1.0, 4, "plain")


def test_what_a_stream_raises_is_told(copy: LoadedKernel) -> None:
    stream = failing(RuntimeError("lost"), "__cuda_stream__")
    with pytest.raises(
        LaunchError, match=r"stream: expected one that says its address, got RuntimeError: lost"
    ):
        copy(None, None, 1.0, 4, "plain", stream=stream)


@pytest.mark.parametrize(
    "stream",
    [
        None,
        0,
        4096,
        SimpleNamespace(cuda_stream=4096),
        SimpleNamespace(__cuda_stream__=lambda: (0, 4096)),
        SimpleNamespace(__cuda_stream__=(0, 4096)),
    ],
    ids=["none", "zero", "number", "torch", "method", "property"],
)
def test_streams(copy: LoadedKernel, stream: object) -> None:
    x = OnDevice(10)
    assert isinstance(copy(x, x, 1.0, 4, "plain", stream=stream), Launch)
    assert x.asked == (4096 if stream else 0)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        pytest.param("main", "stream: expected an integer, .* got str", id="text"),
        pytest.param(1.0, "stream: expected an integer, .* got float", id="float"),
        pytest.param(-1, "stream: expected the address of a stream, got -1", id="negative"),
        pytest.param(2**64, f"stream: expected the address of a stream, got {2**64}", id="large"),
        pytest.param(SimpleNamespace(cuda_stream="x"), "stream: expected an integer", id="torch"),
        pytest.param(SimpleNamespace(__cuda_stream__=(0,)), "stream: expected an integer", id="no pair"),
        pytest.param(SimpleNamespace(__cuda_stream__=7), "stream: expected an integer", id="number"),
    ],
)
def test_what_is_no_stream_is_refused(copy: LoadedKernel, stream: object, message: str) -> None:
    with pytest.raises(LaunchError, match=message) as caught:
        copy(None, None, 1.0, 4, "plain", stream=stream)
    assert caught.value.status == 2  # KPK_ERROR_ARGUMENT


# ---- results


def test_a_dry_launch_is_shown_unless_it_should_succeed(copy: LoadedKernel) -> None:
    x = np.ones(300, np.float32)
    launch = copy(x, x, 1.0, 300, "plain")
    assert isinstance(launch, Launch)
    assert launch.kernel == "copy"
    assert "3 x 1 x 1" in str(launch)
    use_dry_driver("sm_80", succeed=True)
    assert copy(x, x, 1.0, 300, "plain") is None


def test_scratch_memory_is_reserved_on_devices_that_there_are(copy: LoadedKernel) -> None:
    reserve_scratch(1 << 20)  # dry: on any
    use_dry_driver(None)
    with pytest.raises(LaunchError, match=r"expected one of \d+ CUDA devices, got ordinal 99"):
        reserve_scratch(1 << 20, 99)
    with pytest.raises(LaunchError, match=r"expected 0 to 2\*\*64 - 1 bytes, got -1"):
        reserve_scratch(-1)


def test_a_device_without_an_image_is_refused(copy: LoadedKernel) -> None:
    x = np.ones(4, np.float32)
    use_dry_driver("gfx90a")
    with pytest.raises(LaunchError, match="copy: no image for gfx90a; this archive has sm_80") as caught:
        copy(x, x, 1.0, 4, "plain")
    assert caught.value.status == 4  # KPK_ERROR_NO_IMAGE
