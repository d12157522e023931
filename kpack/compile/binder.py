"""What Triton's runtime makes of a call, asked without compiling anything: how it binds and specialises arguments,
what its autotuners and heuristics choose for them; and how to watch its launches, or to stand in for its driver.

Triton's own functions answer wherever they can, so that the answers are those of the release that is installed.
"""

from __future__ import annotations

import copy
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace
from typing import Any, Protocol

from triton.backends.compiler import BaseBackend, GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner, Heuristics
from triton.runtime.jit import JITFunction, KernelInterface, create_function_from_signature
from triton.tools.tensor_descriptor import TensorDescriptor

from kpack.errors import SpecError
from kpack.objfile import abi
from kpack.target import Target

__all__ = [
    "Bound",
    "Choice",
    "Constant",
    "Part",
    "Scalar",
    "Surroundings",
    "Watcher",
    "bind",
    "choices",
    "device_capability",
    "device_properties",
    "function_key",
    "has_driver",
    "inner_function",
    "named_values",
    "stand_in_driver",
    "watching",
]


# ---- binding


@dataclass(frozen=True, slots=True)
class Scalar:
    """A run-time argument as the binder sees it. `type` is Triton's: "*fp16", "i32", "tensordesc<fp16[64,64]>"."""

    type: str
    divisible: bool = False
    """by 16: what Triton tells the compiler of it"""
    one: bool = False
    """equal to one: a constant to Triton"""


@dataclass(frozen=True, slots=True)
class Constant:
    """What is compiled in: a constexpr, None, a function."""

    value: Any


Part = Scalar | Constant | tuple["Part", ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """A call of a JIT function: for each parameter in source order what becomes of it, and its value."""

    parts: Mapping[str, Part]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Memory:
    """Stands in for an array that Triton does not know, or whose address cannot be asked."""

    dtype: Any
    address: int

    def data_ptr(self) -> int:
        return self.address


_NO_ADDRESS = ("FakeTensor", "FunctionalTensor")  # of torch; they warn, or refuse, when asked

# By id: hashing a JIT function asks for all that it calls. The function is kept so that its id stays its own.
_binders: dict[int, tuple[Any, Callable[..., Any]]] = {}


def named_values(jit: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each parameter in source order, with defaults. Raises SpecError for what is no call of it."""
    own = {name: value for name, value in kwargs.items() if name in jit.signature.parameters}
    try:
        bound = jit.signature.bind(*args, **own)
    except TypeError as error:
        raise SpecError(f"{jit.__name__}: expected a call of it, got one with {error}") from error
    bound.apply_defaults()
    return {name: _scalar(_unwrapped(value)) for name, value in bound.arguments.items()}


def bind(jit: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound:
    """What Triton's JIT would make of this call. Raises SpecError for what it refuses."""
    if id(jit) not in _binders:
        # BaseBackend: on what to specialise, backends agree but for AMD's ranges of pointers, which depend on
        # the memory behind a pointer, and so on more than a caller of the packed kernel says.
        _binders[id(jit)] = jit, create_function_from_signature(jit.signature, jit.params, BaseBackend)
    names = [param.name for param in jit.params]
    constants = {param.name for param in jit.params if param.is_constexpr}
    plain_args = [
        value if name in constants else _plain(value)
        for name, value in zip([*names, *[""] * len(args)], args, strict=False)
    ]
    plain_kwargs = {
        name: _plain(value) if name in names and name not in constants else value
        for name, value in kwargs.items()
    }
    try:
        values, specialization, options = _binders[id(jit)][1](*plain_args, **plain_kwargs)
    except TypeError as error:
        text = str(error).replace("dynamic_func()", "its call")
        raise SpecError(f"{jit.__name__}: expected arguments that Triton's JIT takes, {text}") from error
    parts = {
        param.name: Constant(_unwrapped(values[param.name]))
        if param.is_constexpr
        else _part(values[param.name], *entry[:2])
        for param, entry in zip(jit.params, specialization, strict=True)
    }
    return Bound(parts, options)


def _part(value: Any, type_: Any, key: Any) -> Part:
    if isinstance(type_, tuple):
        keys = key if isinstance(key, tuple) else (None,) * len(type_)
        parts = list(map(_part, value, type_, keys))
        # Kernels may ask for the fields of a NamedTuple by name.
        return type_._make(parts) if hasattr(type_, "_make") else tuple(parts)
    if type_ == "constexpr":
        if type(value) is int and value == 1:
            return Scalar("i32", one=True)
        return Constant(_unwrapped(value))
    return Scalar(type_, divisible=isinstance(key, str) and "D" in key)


def _unwrapped(value: Any) -> Any:
    return value.value if type(value).__name__ == "constexpr" and hasattr(value, "value") else value


def _plain(value: Any) -> Any:
    """A run-time argument as the binder takes it: it knows Python's scalars, and what has `data_ptr()`."""
    kind = type(value)
    if isinstance(value, tuple):
        parts = [_plain(part) for part in value]
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    if kind.__name__ in _NO_ADDRESS:
        return _Memory(value.dtype, value.storage_offset() * value.dtype.itemsize)
    if kind.__name__ == "dtype" and kind.__module__ == "torch":
        return _Memory(value, 0)  # as in Triton's warmup(): memory of that type
    if _is_descriptor(value) and getattr(value, "block_shape", None) is None:
        raise SpecError(
            "tensor descriptor: expected one that says its block, got none; pass Triton's TensorDescriptor, or set "
            "block_shape in the pre_hook of each config"
        )
    if kind.__name__ == "ndarray" and kind.__module__ == "numpy":
        return _Memory(value.dtype, value.__array_interface__["data"][0])
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """A scalar of numpy as Python's own."""
    of_numpy = (
        type(value).__module__ == "numpy" and hasattr(value, "item") and type(value).__name__ != "ndarray"
    )
    return value.item() if of_numpy else value


def inner_function(fn: Any) -> Any:
    """The JIT function inside a stack of wrappers. Raises SpecError where there is none."""
    inner = fn
    while not isinstance(inner, JITFunction):
        inner = getattr(inner, "fn", None)
        if inner is None or isinstance(inner, FunctionType):
            raise SpecError(f"kernel: expected a function decorated with @triton.jit, got {fn!r}")
    return inner


def function_key(jit: Any) -> object:
    """Equal for functions that compile to the same: some packages make one of the same source again and again."""
    try:
        return jit.module, jit.fn.__qualname__, jit.cache_key
    except Exception:  # it names what is not defined: then only itself is the same
        return id(jit)


# ---- autotuners and heuristics


@dataclass(frozen=True, slots=True)
class Choice:
    """One way in which a stack may run a call: what reaches the JIT function."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    tuned: Mapping[str, Any]
    """what an autotuner's config set, constexprs and options"""
    computed: frozenset[str]
    """what heuristics set"""
    pre_hook: Any = None
    """a config's, if it does more than to set the blocks of tensor descriptors"""


def choices(fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Choice]:
    """Every way in which `fn`, a JIT function or a stack around one, may run this call, in the order of its
    configs. Hooks of configs run on copies. Raises SpecError for what the stack refuses."""
    return list(_choices(fn, Choice(tuple(args), dict(kwargs), {}, frozenset())))


def _choices(fn: Any, call: Choice) -> Iterator[Choice]:
    if isinstance(fn, JITFunction):
        yield call
    elif isinstance(fn, Autotuner):
        for config in _pruned(fn, call.args, call.kwargs):
            yield from _choices(fn.fn, _configured(fn, config, call))
    elif isinstance(fn, Heuristics):
        yield from _choices(fn.fn, _computed(fn, call))
    else:
        inner = getattr(fn, "fn", None)
        if inner is None or isinstance(inner, FunctionType):
            raise SpecError(f"kernel: expected a function decorated with @triton.jit, got {fn!r}")
        yield from _choices(inner, call)


def _computed(fn: Any, call: Choice) -> Choice:
    kwargs = dict(call.kwargs)
    for name, compute in fn.values.items():
        try:
            kwargs[name] = compute({**dict(zip(fn.arg_names, call.args, strict=False)), **kwargs})
        except Exception as error:
            raise SpecError(
                f"heuristic {name!r}: expected a value for this call, got {type(error).__name__}: {error}; if it asks "
                "for a device, call it inside kpack.record(target=...), which stands in for one"
            ) from error
    return Choice(call.args, kwargs, call.tuned, call.computed | {*fn.values}, call.pre_hook)


def _pruned(tuner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The configs for this call, by Triton's own method: all of them, where pruning wants what is not here."""
    if len(tuner.configs) < 2:
        return list(tuner.configs)
    before = tuner.__dict__.get("nargs")
    tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
    try:
        return list(tuner.prune_configs(dict(kwargs)))
    except Exception as error:
        warnings.warn(
            f"{inner_function(tuner).__name__}: all configs are kept, since pruning them for this call failed: "
            f"{type(error).__name__}: {error}",
            stacklevel=2,
        )
        return list(tuner.configs)
    finally:
        tuner.nargs = before


def _configured(tuner: Any, config: Any, call: Choice) -> Choice:
    settings = config.all_kwargs()
    twice = [name for name in settings if name in call.kwargs]
    if twice:
        raise SpecError(
            f"{twice[0]!r}: expected it in the call or in the autotuner's configs, got it in both"
        )
    kwargs, args, hook = call.kwargs, call.args, call.pre_hook
    if config.pre_hook is not None:
        args = tuple(map(_copied, call.args))
        kwargs = {name: _copied(value) for name, value in call.kwargs.items()}
        named = dict(zip(tuner.arg_names, args, strict=False))
        only_blocks = _run_hook(config.pre_hook, {**named, **kwargs, **settings})
        hook = hook if only_blocks else config.pre_hook
        args = tuple(map(_uncopied, args))
        kwargs = {name: _uncopied(value) for name, value in kwargs.items()}
    return Choice(args, {**kwargs, **settings}, {**call.tuned, **settings}, call.computed, hook)


@dataclass(slots=True)
class _Watched:
    """A tensor on its way through a hook, and what the hook gets: a copy without memory."""

    original: Any
    meta: Any


def _is_descriptor(value: Any) -> bool:
    # numpy's arrays have all these, too, and a type.
    return all(hasattr(value, name) for name in ("base", "shape", "strides")) and not hasattr(value, "dtype")


def _copied(value: Any) -> Any:
    """What a hook may change: a copy of a descriptor (kpack's own are frozen, so something like them)."""
    if _is_descriptor(value):
        if hasattr(value, "block_shape"):
            return copy.copy(value)
        names = ("base", "shape", "strides", "padding", "round_f32_to_tf32")
        return SimpleNamespace(block_shape=None, **{name: getattr(value, name) for name in names})
    if isinstance(value, tuple):
        parts = [_copied(part) for part in value]
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    if hasattr(value, "is_meta") and type(value).__name__ not in _NO_ADDRESS:
        detached = value.detach()
        return _Watched(value, detached.clone() if value.is_meta else detached.to("meta"))
    return value


def _uncopied(value: Any) -> Any:
    if isinstance(value, _Watched):
        return value.original
    if isinstance(value, tuple):
        parts = [_uncopied(part) for part in value]
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    if isinstance(value, SimpleNamespace):
        known = {
            name: each for name, each in vars(value).items() if name in TensorDescriptor.__dataclass_fields__
        }
        return value if value.block_shape is None else TensorDescriptor(**known)
    return value


def _run_hook(hook: Callable[..., Any], nargs: Mapping[str, Any]) -> bool:
    """Whether the hook has left memory alone, as far as one sees: then blocks are all that it sets."""
    watched = {name: value for name, value in nargs.items() if isinstance(value, _Watched)}
    versions = {name: value.meta._version for name, value in watched.items()}
    try:
        hook({**nargs, **{name: value.meta for name, value in watched.items()}})
    except Exception:  # it wants contents, or a device
        return False
    return all(value.meta._version == versions[name] for name, value in watched.items())


# ---- watching launches


class Watcher(Protocol):
    """What is told of each launch, in the thread that makes it."""

    def launched(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any) -> None: ...


# What runs inside a launch that has been told of (a tuner's benchmarks, the JIT function of a stack) is its own.
_inside = threading.local()


@contextmanager
def watching(watcher: Watcher, *, rehearse: bool) -> Iterator[None]:
    """Tell `watcher` of every launch of this process: `fn[grid](...)`, `run` and `warmup` of JIT functions,
    autotuners, heuristics, and of what is derived from them. It hears of a launch that has been made; with
    `rehearse` nothing is launched: what surrounds a launch is done (hooks of the first config), and what stands in
    for a compiled kernel is given back."""
    rehearsal = _Rehearsal(watcher) if rehearse else None

    def watched(fn: Any, go: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plain = {name: value for name, value in kwargs.items() if name not in ("grid", "warmup")}
        if getattr(_inside, "launch", False):
            return rehearsal.run(fn, args, plain) if rehearsal else go(*args, **kwargs)
        _inside.launch = True
        try:
            if not rehearsal:
                result = go(*args, **kwargs)
                watcher.launched(fn, args, plain, kwargs.get("grid"))
                return result
            watcher.launched(fn, args, plain, kwargs.get("grid"))
            return rehearsal.run(fn, args, plain)
        finally:
            _inside.launch = False

    def method(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            return watched(self, functools.partial(original, self), args, kwargs)

        return run

    def getitem(self: Any, grid: Any) -> Callable[..., Any]:
        # Here as well: a class of a package may have a `run` of its own.
        return lambda *args, **kwargs: watched(
            self, self.run, args, {"warmup": False, **kwargs, "grid": grid}
        )

    originals = {
        (cls, name): cls.__dict__[name]
        for cls in (KernelInterface, JITFunction, Autotuner, Heuristics)
        for name in ("run", "warmup", "__getitem__")
        if name in cls.__dict__ and (cls, name) != (KernelInterface, "run")
    }
    try:
        for (cls, name), original in originals.items():
            setattr(cls, name, getitem if name == "__getitem__" else method(original))
        yield
    finally:
        for (cls, name), original in originals.items():
            setattr(cls, name, original)
        if rehearsal:
            rehearsal.restore()


class _Rehearsal:
    """What surrounds launches, without them."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.tuners: dict[int, tuple[Any, dict[str, Any]]] = {}

    def run(self, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if isinstance(fn, JITFunction):
            for hook in getattr(fn, "pre_run_hooks", ()):
                hook(*args, **kwargs)
            return _Compiled(fn, kwargs, self.watcher)
        if isinstance(fn, Heuristics):
            computed = _computed(fn, Choice(args, kwargs, {}, frozenset()))
            return self.run(fn.fn, args, computed.kwargs)
        if isinstance(fn, Autotuner):
            config = _pruned(fn, args, kwargs)[0]
            saved = {name: fn.__dict__[name] for name in ("best_config",) if name in fn.__dict__}
            self.tuners.setdefault(id(fn), (fn, saved))
            fn.best_config = config
            settings = config.all_kwargs()
            if config.pre_hook is not None:
                config.pre_hook({**dict(zip(fn.arg_names, args, strict=False)), **kwargs, **settings})
            return self.run(fn.fn, args, {**kwargs, **settings})
        return self.run(fn.fn, args, kwargs)

    def restore(self) -> None:
        for tuner, saved in self.tuners.values():
            tuner.__dict__.pop("best_config", None)
            tuner.__dict__.update(saved)


class _Compiled:
    """Stands in for a compiled kernel: what programs ask of one, to size a grid or to launch it again."""

    n_regs, n_spills, n_max_threads = 64, 0, 1024
    function = module = 0
    hash = ""

    def __init__(self, fn: Any, options: Mapping[str, Any], watcher: Watcher) -> None:
        self._fn, self._watcher = fn, watcher
        names = {param.name for param in fn.params}
        self._options = {name: value for name, value in options.items() if name not in names}
        self.name = fn.__name__
        self.num_warps = self._options.get("num_warps", 4)
        self.shared = 1024
        facts = {"num_warps": 4, "num_stages": 3, "num_ctas": 1, **self._options}
        self.metadata = SimpleNamespace(name=self.name, shared=self.shared, **facts)
        self.asm: dict[str, Any] = {}

    def _init_handles(self) -> None:
        pass

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, stream=None: self._watcher.launched(self._fn, args, dict(self._options), grid)


# ---- a driver that stands in


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
_SHARED_KIB = {
    75: 64,
    80: 163,
    86: 99,
    87: 163,
    89: 99,
    90: 227,
    100: 227,
    103: 227,
    110: 227,
    120: 99,
    121: 99,
}


def device_properties(target: Target) -> dict[str, int]:
    """Of a device of this target, as Triton's driver has them: bytes, counts, kHz, bits."""
    cuda = target.vendor == abi.VENDOR_CUDA
    shared_kib = _SHARED_KIB.get(target.arch, 99) if cuda else 160 if target.processor == "gfx950" else 64
    count = _MULTIPROCESSORS.get(target.arch, 100) if cuda else _COMPUTE_UNITS.get(target.processor, 100)
    return {
        "max_shared_mem": shared_kib * 1024,
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


def _gpu_target(target: Target) -> GPUTarget:
    if target.vendor == abi.VENDOR_CUDA:
        return GPUTarget("cuda", target.arch, target.warp_size)
    return GPUTarget("hip", target.processor, target.warp_size)


class Surroundings(Protocol):
    """What a driver knows of torch."""

    def torch_device(self) -> Any: ...

    def device_interface(self) -> Any: ...


class _StandIn(DriverBase):  # type: ignore[misc]
    """Answers as the driver of a device of `target` would, and launches nothing."""

    def __init__(self, target: Target, surroundings: Surroundings) -> None:
        self.target = _gpu_target(target)
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
