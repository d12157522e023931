"""Launches of Triton kernels, watched as a program makes them, or rehearsed: all but the launch itself."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Protocol

from triton.runtime.autotuner import Autotuner, Heuristics
from triton.runtime.jit import JITFunction, KernelInterface

from kpack.compile.binder import Choice, computed, pruned

__all__ = ["Watcher", "watching"]


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
            return self.run(fn.fn, args, computed(fn, Choice(args, kwargs, {}, frozenset())).kwargs)
        if isinstance(fn, Autotuner):
            config = pruned(fn, args, kwargs)[0]
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
