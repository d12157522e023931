"""What torch says of a GPU, where there is none: enough for packages of kernels to come to their launches.

Tensors "on cuda" lie on the CPU, or nowhere (meta), and say that they are on cuda:0. Only the thread that records is
deceived about tensors; the functions of torch.cuda are replaced for all, and put back at the end.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Literal

from kpack.compile.stand_in import device_capability, device_properties
from kpack.errors import KpackError
from kpack.objfile import abi
from kpack.target import Target

__all__ = ["stand_in_torch"]


class _Surroundings:
    """What Triton's driver asks of torch."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def torch_device(self) -> Any:
        return self._needed().device("cuda", 0)

    def device_interface(self) -> Any:
        return self._needed().cuda

    def _needed(self) -> Any:
        if self._torch is None:
            raise KpackError("record: expected torch for a device of torch's, got none; install it")
        return self._torch


@contextmanager
def stand_in_torch(target: Target, device: Literal["cpu", "meta"]) -> Iterator[_Surroundings]:
    """While this lasts, torch has one device of `target`. Without torch, nothing happens."""
    if device not in ("cpu", "meta"):
        raise KpackError(f"record: expected device='cpu' or 'meta', got {device!r}")
    if find_spec("torch") is None:
        yield _Surroundings(None)
        return
    torch = importlib.import_module("torch")
    importlib.import_module("torch.utils.checkpoint")
    with ExitStack() as stack:
        # What torch.compile is asked for runs as it is written: launches of its kernels would not be seen. First of
        # all, since what it brings in looks at the functions of torch.cuda.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        for owner, names in _replacements(torch, target):
            for name, replacement in names.items():
                stack.enter_context(_replaced(owner, name, replacement))
        stack.enter_context(_mode(torch, device))
        yield _Surroundings(torch)


_ABSENT = object()


@contextmanager
def _replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    before = vars(owner).get(name, _ABSENT)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


# ---- functions that ask for the device


class _Stream:
    """A stream, or an event, that nothing waits for."""

    cuda_stream = 0
    priority = 0
    device_index = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        pass

    def record(self, stream: Any = None) -> None:
        pass

    def record_event(self, event: Any = None) -> Any:
        return event or _Stream()

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Any) -> float:
        return 1.0

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Device(_Stream):
    """`with torch.cuda.device(0)`"""

    idx = prev_idx = 0


def _replacements(torch: Any, target: Target) -> list[tuple[Any, dict[str, Any]]]:
    properties = _properties(target)

    def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    def always(value: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: value

    cuda: dict[str, Any] = {
        **dict.fromkeys(
            "init set_device synchronize empty_cache manual_seed manual_seed_all seed seed_all set_stream ipc_collect "
            "reset_peak_memory_stats set_per_process_memory_fraction _lazy_init".split(),
            nothing,
        ),
        **dict.fromkeys(
            "is_available is_initialized is_bf16_supported is_tf32_supported".split(), always(True)
        ),
        **dict.fromkeys("is_current_stream_capturing _is_in_bad_fork".split(), always(False)),
        **dict.fromkeys(
            "memory_allocated memory_reserved max_memory_allocated max_memory_reserved".split(), always(0)
        ),
        "device_count": always(1),
        "current_device": always(0),
        "get_device_name": always(properties.name),
        "get_device_capability": always((properties.major, properties.minor)),
        "get_device_properties": always(properties),
        "get_arch_list": always([target.name]),
        "mem_get_info": always((properties.total_memory, properties.total_memory)),
        "current_stream": always(_Stream()),
        "default_stream": always(_Stream()),
        "current_blas_handle": always(0),
        "stream": always(_Stream()),
        "Stream": _Stream,
        "ExternalStream": _Stream,
        "Event": _Stream,
        "device": _Device,
        "device_of": _Device,
        "get_rng_state": lambda device=None: _Generator(torch).get_state(),
        "set_rng_state": nothing,
        "default_generators": (_Generator(torch),),
    }
    accelerator: dict[str, Any] = {
        "is_available": always(True),
        "device_count": always(1),
        "current_accelerator": always(torch.device("cuda")),
        "current_device_index": always(0),
        "current_device_idx": always(0),
        "set_device_index": nothing,
        "set_device_idx": nothing,
        "current_stream": always(_Stream()),
        "synchronize": nothing,
        "device_index": always(nullcontext()),
    }
    hip = target.vendor == abi.VENDOR_HIP
    version: dict[str, Any] = {"hip": "6.4.0" if hip else None, "cuda": None if hip else "12.8"}
    found: list[tuple[Any, dict[str, Any]]] = [(torch.cuda, cuda), (torch.version, version)]
    if hasattr(torch, "accelerator"):
        found.append((torch.accelerator, accelerator))
    raw: dict[str, Any] = {"_cuda_getCurrentRawStream": always(0), "_cuda_getDevice": always(0)}
    # Gradients are computed where `_mode` goes on: a function that it handles would run without it.
    autograd: dict[str, Any] = {"has_torch_function": always(False)}
    return [*found, (torch._C, raw), (torch.autograd, autograd), (torch.utils.checkpoint, _checks(torch))]


def _checks(torch: Any) -> dict[str, Any]:
    """A checkpoint compares what it computes again with what was: but where tensors say they are, which they say
    to programs alone."""
    name = "_allowed_determinism_checks_to_fns"
    checks = getattr(torch.utils.checkpoint, name, {})
    return {name: {**checks, "default": lambda x: {"shape": x.shape, "dtype": x.dtype}}} if checks else {}


def _properties(target: Target) -> Any:
    """torch.cuda.get_device_properties of a device of this target."""
    facts = device_properties(target)
    major, minor = device_capability(target)
    shared = facts["max_shared_mem"]
    return SimpleNamespace(
        name=f"{'AMD' if target.processor else 'NVIDIA'} {target.name}",
        major=major,
        minor=minor,
        gcnArchName=target.name,
        total_memory=80 << 30,
        multi_processor_count=facts["multiprocessor_count"],
        warp_size=target.warp_size,
        is_integrated=False,
        is_multi_gpu_board=False,
        max_threads_per_block=1024,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=facts["max_num_regs"],
        shared_memory_per_block=min(shared, 48 << 10),
        shared_memory_per_block_optin=shared,
        shared_memory_per_multiprocessor=shared + 1024,
        L2_cache_size=50 << 20,
        clock_rate=facts["sm_clock_rate"],
        memory_clock_rate=facts["mem_clock_rate"],
        memory_bus_width=facts["mem_bus_width"],
    )


# ---- operators


class _Operators:
    """Operators that a package has in Python: they run as for CUDA, whatever their tensors lie on."""

    # For CUDA or for everything; torch's own are in C++.
    _PYTHON = re.compile(r"^(CUDA|Composite\w+\[alias\]): registered at \S+\.py:", re.MULTILINE)

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._found: dict[Any, Any] = {}
        keys = torch._C.DispatchKey
        self._keys = torch._C.DispatchKeySet(keys.CUDA).add(keys.AutogradCUDA)

    def of_package(self, func: Any) -> Callable[..., Any] | None:
        """`func`, if it is such an operator, called past torch's choice of where to run it."""
        if not isinstance(func, (self._torch._ops.OpOverload, self._torch._ops.OpOverloadPacket)):
            return None
        if func not in self._found:
            overload = (
                func
                if hasattr(func, "redispatch")
                else func.default
                if "default" in func.overloads()
                else None
            )
            dump = overload and self._torch._C._dispatch_dump(overload.name())
            python = bool(dump and self._PYTHON.search(dump))
            self._found[func] = partial(overload.redispatch, self._keys) if overload and python else None
        found: Callable[..., Any] | None = self._found[func]
        return found


# ---- tensors


class _Generator:
    """The generator of a device, of which kernels ask for a seed and an offset."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def get_state(self) -> Any:
        return self._torch.zeros(16, dtype=self._torch.uint8, device="cpu")  # 8 bytes of each

    def set_state(self, state: Any) -> None:
        pass

    def manual_seed(self, seed: int) -> _Generator:
        return self

    def initial_seed(self) -> int:
        return 0

    seed = get_offset = initial_seed

    def set_offset(self, offset: int) -> None:
        pass


def _mode(torch: Any, device: str) -> Any:
    """Where tensors are, as torch's functions are asked to make them and as they say of themselves."""
    pretended, real = torch.device("cuda", 0), torch.device(device)
    operators = _Operators(torch)
    uninitialised = {
        torch.empty,
        torch.empty_like,
        torch.empty_strided,
        torch.Tensor.new_empty,
        torch.Tensor.new_empty_strided,
    }
    getters = {"is_cuda": True, "is_cpu": False, "is_meta": False}

    def is_pretended(value: Any) -> bool:
        if isinstance(value, torch.device):
            return bool(value.type == "cuda")
        return isinstance(value, str) and value.partition(":")[0] in ("cuda", "hip")

    def backward(
        tensor: Any,
        gradient: Any = None,
        retain_graph: Any = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        torch.autograd.backward(tensor, gradient, retain_graph, create_graph, inputs=inputs)

    def call(mode: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operator = operators.of_package(func)
        if operator is not None:
            with mode:
                return operator(*args, **kwargs)
        try:
            return func(*args, **kwargs)
        except NotImplementedError:
            if kwargs.get("out_dtype") is None:
                raise
            # torch.mm(..., out_dtype=) is a GPU's alone.
            rest = {name: value for name, value in kwargs.items() if name != "out_dtype"}
            return func(*args, **rest).to(kwargs["out_dtype"])

    class Pretending(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__name__", "") == "__get__":
                name = getattr(func.__self__, "__name__", "")
                if name == "device":
                    return pretended
                if name in getters:
                    return getters[name]
            if func is torch.device:
                return func(*args, **kwargs)
            if func is torch.Tensor.backward:
                with self:  # for the backward functions of the program
                    return backward(*args, **kwargs)
            if func is torch.Tensor.get_device:
                return 0
            if func is torch.Tensor.cuda:
                return args[0].to(real)
            if func is torch.Tensor.pin_memory or func is torch.Tensor.record_stream:
                return args[0]
            if func is torch.Tensor.is_pinned:
                return False
            args = tuple(real if is_pretended(value) else value for value in args)
            kwargs = {
                name: real if is_pretended(value) or (name == "device" and type(value) is int) else value
                for name, value in kwargs.items()
                if name != "pin_memory"
            }
            result = call(self, func, args, kwargs)
            # A kernel that is not launched writes nothing: zeros are the same each time, and no wild indices.
            return result.zero_() if func in uninitialised and real.type == "cpu" else result

    return Pretending()
