"""The Python face of the runtime: load a shared object that has a pack in it, and call its kernels.

    kernels = kpack.load("libtk.so")
    kernels["softmax"](out, x, x.stride(0), out.stride(0), n_cols, n_rows)

Tensors are whatever has a data pointer: torch (`data_ptr()`), `__cuda_array_interface__`, DLPack. They have to
live until the kernel has run, as in C++.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kpack.errors import FormatError, KpackError, LaunchError
from kpack.objfile.elf import read_elf

try:
    from kpack import _runtime
except ImportError as error:
    raise KpackError(
        "kpack.load: expected the extension kpack._runtime, got none; install Python's headers "
        "(Debian: python3-dev) and then kpack again"
    ) from error

__all__ = [
    "DriverFacts",
    "Launch",
    "LoadedKernel",
    "LoadedPack",
    "Pointer",
    "TensorDescriptor",
    "Trial",
    "device_archs",
    "device_count",
    "drivers",
    "load",
    "reserve_scratch",
    "set_tuning",
    "use_dry_driver",
]

_ENTRY = "kpk_entry_"


@dataclass(frozen=True, slots=True)
class Launch:
    """What the dry driver would have launched: variant, image, grid, block, shared memory, arguments."""

    kernel: str
    text: str

    def __str__(self) -> str:
        return self.text


_OUTCOMES = ("timed", "pruned", "wrong", "failed", "not run")
_MODES = ("off", "use", "tune", "record")


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """A vendor's driver: the library, why no launch can use it ("": one can), the version of CUDA or ROCm that it is
    of ("": not said), and the arch of each device."""

    vendor: str
    library: str
    why_not: str
    version: str
    archs: tuple[str, ...]


_LIBRARIES = (
    ("cuda", "libcuda.so.1", (1000, 10)),
    ("hip", "libamdhip64.so", (10_000_000, 100_000)),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one contender of a search: `outcome` is "timed", "pruned" (others were clearly faster),
    "wrong" (its results are not those of the others), "failed" or "not run", for `reason`."""

    name: str
    outcome: str
    reason: str
    median_us: float
    """0: none"""
    samples: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Pointer:
    """A device pointer without a tensor: element type by kpack's spelling ("fp16"), address, and whether the
    kernel may only read through it."""

    dtype: str
    address: int
    read_only: bool = False

    @property
    def __kpack_pointer__(self) -> tuple[str, int, bool]:
        return self.dtype, self.address, self.read_only


@dataclass(frozen=True, slots=True)
class TensorDescriptor:
    """A tensor for a parameter that is a host tensor descriptor: what a call passes in its place. The block comes
    with the kernel.

    `base` says where the tensor begins and its element type. Without a shape it is all of `base`, with the strides
    that its `stride()` says; a shape without strides is contiguous. Strides are elements. What is read outside the
    tensor is 0, or NaN with `padding="nan"`. Triton's own TensorDescriptor does as well.
    """

    base: Any
    shape: Sequence[int] | None = None
    strides: Sequence[int] | None = None
    padding: Literal["zero", "nan"] = "zero"
    round_f32_to_tf32: bool = False

    def __post_init__(self) -> None:
        strides = self.strides
        if strides is None:
            strides = _strides(self.base) if self.shape is None else _contiguous(self.shape)
        shape = self.base.shape if self.shape is None else self.shape
        object.__setattr__(self, "shape", tuple(shape))
        object.__setattr__(self, "strides", tuple(strides))


def _strides(base: Any) -> Sequence[int]:
    if not hasattr(base, "stride"):
        raise LaunchError(
            f"TensorDescriptor: expected strides, in elements, for a {type(base).__name__} does not say its own",
            _runtime.ERROR_ARGUMENT,
        )
    strides: Sequence[int] = base.stride()
    return strides


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


class LoadedKernel:
    """A kernel of a loaded pack. Calling it launches it; `prototype` says what it takes."""

    __slots__ = ("_kernel", "name", "parameters", "prototype")

    def __init__(self, kernel: _runtime.Kernel) -> None:
        self._kernel = kernel
        self.name = kernel.name
        self.parameters = tuple(kernel.parameters)
        self.prototype = kernel.prototype

    def __call__(self, *args: object, stream: object = None) -> Launch | None:
        """Launch with `args` in call order, on `stream`: a number, an object with `cuda_stream` or
        `__cuda_stream__`, or None for the device's default stream.

        Returns None once the driver has taken the launch, and a `Launch` where the dry driver stands in for it.
        Raises LaunchError: for memory that is not a GPU's, for what does not fit the prototype, and for what the
        driver refuses.
        """
        try:
            status = self._kernel.launch(args, stream)
        except _runtime.Error as error:
            raise LaunchError(str(error), _runtime.ERROR_ARGUMENT) from error
        if status == _runtime.DRY:
            return Launch(self.name, _runtime.message())
        _check(status)
        return None

    def tune(
        self,
        *args: object,
        stream: object = None,
        scratch: bool = False,
        allocate: bool = False,
        exhaustive: bool = False,
        again: bool = False,
        budget_ms: float | None = None,
        tolerance: float = 1.0,
    ) -> tuple[Trial, ...]:
        """Find out which variant is the fastest for this call, and take it from now on for calls of its key. The
        table of `set_tuning` remembers it. What became of each contender; where there is an entry already, only of
        what it chose, and where there is nothing to choose from, of none.

        Runs on copies, within the extents that the kernel's args= say: without them it is refused, unless with
        `scratch` the memory may be overwritten. With `allocate`, pointers say only that they are null or how they are
        aligned, and memory is made. `exhaustive` times all to the end, `again` also where there is an entry.
        `budget_ms` is for the whole search (None: as `set_tuning` says); `tolerance` is a factor of what results may
        differ by. Raises LaunchError.
        """
        flags = (
            (scratch and _runtime.TUNE_SCRATCH)
            | (allocate and _runtime.TUNE_ALLOCATE)
            | (exhaustive and _runtime.TUNE_EXHAUSTIVE)
            | (again and _runtime.TUNE_AGAIN)
        )
        try:
            status, trials = self._kernel.tune(args, stream, flags, _budget(budget_ms), tolerance)
        except _runtime.Error as error:
            raise LaunchError(str(error), _runtime.ERROR_ARGUMENT) from error
        _check(status)
        return tuple(
            Trial(name, _OUTCOMES[outcome], reason, median_us, samples, chosen)
            for name, outcome, reason, median_us, samples, chosen in trials
        )

    def explain(self, *args: object, device: object = None, arch: str | None = None) -> str:
        """Which variant and image this call would run on `device`, and why each other one would not, in lines of
        text. Loads nothing.

        `device`: a driver's number (CUDA's where CUDA has devices, else HIP's), "cuda:1", "hip:0", a torch.device,
        or None for the first. `arch`: of a device that need not be there, "sm_90", or "sm_90/132" with so many
        multiprocessors, for what was tuned on such a one ("": the first target that the kernel has). Its memory may
        be the host's. Raises LaunchError for a value that no call takes.
        """
        try:
            return self._kernel.explain(args, _device(device), arch)
        except _runtime.Error as error:
            raise LaunchError(str(error), _runtime.ERROR_ARGUMENT) from error

    def supports(self, *args: object, device: object = None, arch: str | None = None) -> bool:
        """Whether this call would run. Everything else is as for `explain`, but no text is made."""
        try:
            return self._kernel.supports(args, _device(device), arch)
        except _runtime.Error as error:
            raise LaunchError(str(error), _runtime.ERROR_ARGUMENT) from error

    def __repr__(self) -> str:
        return f"<kernel {self.prototype}>"


class LoadedPack(Mapping[str, LoadedKernel]):
    """The kernels of a pack by name, in the order of their names. Never unloaded: they may still run."""

    __slots__ = ("_kernels", "_library", "name", "path")

    def __init__(
        self, path: Path, name: str, kernels: Mapping[str, LoadedKernel], library: _runtime.Library
    ) -> None:
        self.path = path
        self.name = name
        self._kernels = kernels
        self._library = library

    def preload(self, pattern: str | None = None, device: object = None) -> int:
        """Load now what first launches on `device` would, so that they wait for nothing and can be captured: the
        variants whose names match the shell pattern ("softmax.fp16.*"; None: all). Returns how many are loaded.
        """
        status, loaded = self._library.preload(_ENTRY + self.name, pattern, _device(device))
        _check(status)
        return loaded

    def __getitem__(self, name: str) -> LoadedKernel:
        try:
            return self._kernels[name]
        except KeyError:
            raise KeyError(f"{name}: no such kernel in {self.name}; it has {', '.join(self)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._kernels)

    def __len__(self) -> int:
        return len(self._kernels)

    def __repr__(self) -> str:
        return "\n".join([f"<pack {self.name} of {self.path}>", *(f"  {k.prototype}" for k in self.values())])


def load(path: str | os.PathLike[str], name: str | None = None) -> LoadedPack:
    """Load the pack `name` of the shared object at `path`; without a name, the one that the file is named
    after (libtk.so: tk), or the only one that it has.

    Raises FormatError for what is no shared object, has no such pack, or is newer than this kpack.
    """
    # Absolute: a bare name would be looked for in the system's folders.
    file = Path(path).absolute()
    try:
        library = _runtime.open(str(file))
        pack = name or file.name.split(".", 1)[0].removeprefix("lib")
        kernels = library.kernels(_ENTRY + pack)
        if kernels is None:
            pack = _only_pack(file, name)
            kernels = library.kernels(_ENTRY + pack) or []
    except _runtime.Error as error:
        raise FormatError(str(error)) from error
    return LoadedPack(file, pack, {kernel.name: LoadedKernel(kernel) for kernel in kernels}, library)


def device_count() -> int:
    """How many GPUs the drivers of this machine have, CUDA's and HIP's together."""
    return _runtime.device_count()


def device_archs() -> list[str]:
    """The arch of each GPU, CUDA's first: "sm_90", "gfx90a:sramecc+:xnack-"."""
    return _runtime.device_archs()


def use_dry_driver(arch: str | None, *, succeed: bool = False) -> None:
    """From now on do everything but the driver call, for a device of `arch` (None: the real drivers again).

    A launch then returns the `Launch` that it would have been, or None, like a real one, with `succeed`. It takes
    memory of the host, too. Raises LaunchError for an arch that there is not; not while another thread launches.
    """
    _check(_runtime.use_dry_driver(arch, succeed))


def set_tuning(
    mode: str | None,
    *,
    table: str | os.PathLike[str] | None = None,
    shapes: str | os.PathLike[str] | None = None,
    budget_ms: float | None = None,
    tolerance: float = 1.0,
) -> None:
    """From now on launches choose variants so: "off", what runs without tuning; "use", what tables say, baked in or
    in the file `table`; "tune", and what no table has is searched for and added to the file; "record", as use, and
    each new call is added to the file `shapes`. None: as the environment says (KPACK_TUNING, KPACK_TUNING_TABLE,
    KPACK_TUNING_SHAPES, KPACK_TUNING_BUDGET_MS).

    `budget_ms` is what one search may take (None: 2000). Raises LaunchError for another mode. Not while another thread
    launches.
    """
    if mode is not None and mode not in _MODES:
        raise LaunchError(
            f"set_tuning: expected {', '.join(_MODES)} or None, got {mode!r}", _runtime.ERROR_ARGUMENT
        )
    number = -1 if mode is None else _MODES.index(mode)
    table, shapes = (None if path is None else os.fspath(path) for path in (table, shapes))
    _check(_runtime.set_tuning(number, table, shapes, _budget(budget_ms), tolerance))


def _budget(milliseconds: float | None) -> int:
    """In nanoseconds; 0 for the default."""
    if milliseconds is None:
        return 0
    if not 0 < milliseconds < 1e12:
        raise LaunchError(
            f"budget_ms: expected more than 0 milliseconds, got {milliseconds!r}", _runtime.ERROR_ARGUMENT
        )
    return max(1, int(milliseconds * 1e6))


def reserve_scratch(bytes: int, device: int = 0) -> None:
    """Keep `bytes` ready on the device for kernels that need memory while they run (descriptors made on the
    device, profiling), so that no launch waits for an allocation. 0 gives them back.

    `device` is the driver's number: CUDA's where CUDA has devices, else HIP's. Raises LaunchError.
    """
    if not 0 <= bytes < 1 << 64:
        raise LaunchError(
            f"reserve_scratch: expected 0 to 2**64 - 1 bytes, got {bytes}", _runtime.ERROR_ARGUMENT
        )
    _check(_runtime.reserve_scratch(bytes, device))


def drivers() -> tuple[DriverFacts, ...]:
    """What the drivers of this machine say, CUDA's and HIP's, whatever KPACK_DRIVER says."""
    found = zip(_LIBRARIES, _runtime.drivers(), strict=True)
    return tuple(
        DriverFacts(vendor, library, why, _version(version, *parts), tuple(archs))
        for (vendor, library, parts), (why, version, archs) in found
    )


def _version(number: int, major: int, minor: int) -> str:
    return f"{number // major}.{number % major // minor}" if number else ""


def _device(given: object) -> tuple[str, int]:
    """Vendor ("": whichever has devices) and ordinal."""
    if given is None:
        return "", 0
    vendor, _, number = ("", ":", str(given)) if isinstance(given, int) else str(given).partition(":")
    if vendor not in ("", "cuda", "hip") or not (number or "0").isdecimal():
        raise LaunchError(
            f"device: expected a number, 'cuda:0', 'hip:0' or None, got {given!r}", _runtime.ERROR_ARGUMENT
        )
    return vendor, int(number or "0")


def _only_pack(file: Path, wanted: str | None) -> str:
    packs = _exported_packs(file)
    if wanted is None and len(packs) == 1:
        return packs[0]
    raise FormatError(
        f"{file.name}: expected {f'pack {wanted}' if wanted else 'one pack'}, got {', '.join(packs) or 'none'}; "
        + ("give its name" if packs else "link the archive with -shared and --whole-archive")
    )


def _exported_packs(file: Path) -> list[str]:
    # The names of dynamic symbols: the one table that strip leaves. The linker may cut what a name ends with
    # out of another, but no other name ends with ours.
    names = read_elf(file.read_bytes()).section(".dynstr").content.split(b"\0")
    return sorted(text.decode().removeprefix(_ENTRY) for text in names if text.startswith(_ENTRY.encode()))


def _check(status: int) -> None:
    """The one place where a status becomes an exception."""
    if status != _runtime.OK:
        raise LaunchError(_runtime.message(), status)
