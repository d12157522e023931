"""The Python face of the runtime: load a shared object that has a pack in it, and call its kernels.

    kernels = kpack.load("libtk.so")
    kernels["softmax"](out, x, x.stride(0), out.stride(0), n_cols, n_rows)

Tensors are whatever has a data pointer: torch (`data_ptr()`), `__cuda_array_interface__`, DLPack. They have to
live until the kernel has run, as in C++.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kpack.errors import FormatError, KpackError, LaunchError
from kpack.objfile.elf import read_elf

try:
    from kpack import _runtime
except ImportError as error:
    raise KpackError(
        "kpack.load: expected the extension kpack._runtime, got none; install Python's headers "
        "(Debian: python3-dev) and then kpack again"
    ) from error

__all__ = ["Launch", "LoadedKernel", "LoadedPack", "load", "use_dry_driver"]

_ENTRY = "kpk_entry_"


@dataclass(frozen=True, slots=True)
class Launch:
    """What the dry driver would have launched: variant, image, grid, block, shared memory, arguments."""

    kernel: str
    text: str

    def __str__(self) -> str:
        return self.text


class LoadedKernel:
    """A kernel of a loaded pack. Calling it launches it; `prototype` says what it takes."""

    __slots__ = ("_kernel", "name", "prototype")

    def __init__(self, kernel: _runtime.Kernel) -> None:
        self._kernel = kernel
        self.name = kernel.name
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

    def __repr__(self) -> str:
        return f"<kernel {self.prototype}>"


class LoadedPack(Mapping[str, LoadedKernel]):
    """The kernels of a pack by name, in the order of their names. Never unloaded: they may still run."""

    __slots__ = ("_kernels", "name", "path")

    def __init__(self, path: Path, name: str, kernels: Mapping[str, LoadedKernel]) -> None:
        self.path = path
        self.name = name
        self._kernels = kernels

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
    return LoadedPack(file, pack, {kernel.name: LoadedKernel(kernel) for kernel in kernels})


def use_dry_driver(arch: str | None, *, succeed: bool = False) -> None:
    """From now on do everything but the driver call, for a device of `arch` (None: the real drivers again).

    A launch then returns the `Launch` that it would have been, or None, like a real one, with `succeed`. It takes
    memory of the host, too. Raises LaunchError for an arch that there is not; not while another thread launches.
    """
    _check(_runtime.use_dry_driver(arch, succeed))


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
