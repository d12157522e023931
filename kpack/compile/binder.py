"""What Triton's runtime makes of a call, asked without compiling anything: how it binds and specialises arguments, and
what its autotuners and heuristics choose for them.

Triton's own functions answer wherever they can, so that the answers are those of the release that is installed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace
from typing import Any

from triton.backends.compiler import BaseBackend
from triton.runtime.autotuner import Autotuner, Heuristics
from triton.runtime.jit import JITFunction, create_function_from_signature
from triton.tools.tensor_descriptor import TensorDescriptor

from kpack.errors import SpecError

__all__ = [
    "Bound",
    "Choice",
    "Constant",
    "Part",
    "Scalar",
    "bind",
    "choices",
    "computed",
    "function_key",
    "inner_function",
    "named_values",
    "pruned",
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
        for config in pruned(fn, call.args, call.kwargs):
            yield from _choices(fn.fn, _configured(fn, config, call))
    elif isinstance(fn, Heuristics):
        yield from _choices(fn.fn, computed(fn, call))
    else:
        inner = getattr(fn, "fn", None)
        if inner is None or isinstance(inner, FunctionType):
            raise SpecError(f"kernel: expected a function decorated with @triton.jit, got {fn!r}")
        yield from _choices(inner, call)


def computed(fn: Any, call: Choice) -> Choice:
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


def pruned(tuner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
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
