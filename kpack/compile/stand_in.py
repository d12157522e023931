"""A driver that stands in for a GPU's: Triton asks it what it would ask a real one, and nothing is launched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Protocol

from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver

from kpack.compile.gpu_target import gpu_target
from kpack.objfile import abi
from kpack.target import Target

__all__ = ["Surroundings", "device_capability", "device_properties", "has_driver", "stand_in_driver"]


def has_driver() -> bool:
    """Whether Triton has a driver for a GPU of this machine."""
    try:
        driver.active.get_current_target()
    except Exception:  # none, or one whose GPU cannot be reached
        return False
    return True


# Multiprocessors (compute units) of a device, of the largest that is sold with this processor; and what is like it.
_MULTIPROCESSORS = {
    75: 72,
    80: 108,
    86: 84,
    87: 16,
    89: 142,
    90: 132,
    100: 148,
    103: 160,
    110: 20,
    120: 170,
    121: 48,
}
_COMPUTE_UNITS = {"gfx908": 120, "gfx90a": 104, "gfx942": 304, "gfx950": 256, "gfx1100": 96, "gfx1201": 64}


def device_properties(target: Target) -> dict[str, int]:
    """Of a device of this target, as Triton's driver has them: bytes, counts, kHz, bits."""
    cuda = target.vendor == abi.VENDOR_CUDA
    count = _MULTIPROCESSORS.get(target.arch, 100) if cuda else _COMPUTE_UNITS.get(target.processor, 100)
    return {
        "max_shared_mem": target.shared_bytes,
        "max_num_regs": 65536,
        "multiprocessor_count": count,
        "warpSize": target.warp_size,
        "sm_clock_rate": 1_700_000,
        "mem_clock_rate": 2_600_000,
        "mem_bus_width": 5120,
    }


def device_capability(target: Target) -> tuple[int, int]:
    """Major and minor; of AMD's as ROCm says them: gfx942 is 9.4, gfx90a 9.0, gfx1100 11.0."""
    if target.vendor == abi.VENDOR_CUDA:
        return divmod(target.arch, 10)
    digits = target.processor.removeprefix("gfx")
    return int(digits[:-2]), int(digits[-2], 16)


class Surroundings(Protocol):
    """What a driver knows of torch."""

    def torch_device(self) -> Any: ...

    def device_interface(self) -> Any: ...


class _StandIn(DriverBase):  # type: ignore[misc]
    """Answers as the driver of a device of `target` would, and launches nothing."""

    def __init__(self, target: Target, surroundings: Surroundings) -> None:
        self.target = gpu_target(target)
        self.capability = device_capability(target)
        self.surroundings = surroundings
        properties = device_properties(target)
        self.utils = SimpleNamespace(get_device_properties=lambda device=0: dict(properties))
        self.launcher_cls = None

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_active_torch_device(self) -> Any:
        return self.surroundings.torch_device()

    def get_device_interface(self) -> Any:
        return self.surroundings.device_interface()

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return self.capability

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_empty_cache_for_benchmark(self) -> Any:
        return None

    def clear_cache(self, cache: Any) -> None:
        pass

    def get_benchmarker(self) -> Callable[..., Sequence[float]]:
        def benchmark(
            kernel_call: Callable[[], Any], *, quantiles: Sequence[float] = (0.5,), **_: Any
        ) -> list[float]:
            kernel_call()
            return [1.0] * len(quantiles)

        return benchmark


@contextmanager
def stand_in_driver(target: Target, surroundings: Surroundings) -> Iterator[None]:
    """While this lasts, Triton's active driver is one for a device of `target` that launches nothing."""
    saved = dict(vars(driver))  # which attributes there are differs from release to release
    driver.set_active(_StandIn(target, surroundings))
    try:
        yield
    finally:
        vars(driver).clear()
        vars(driver).update(saved)
