"""Recording: every launch that a running program makes, on its GPU, or where there is none, in a rehearsal."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kpack.compile.stand_in import has_driver, stand_in_driver
from kpack.compile.watch import watching
from kpack.errors import KpackError, SpecError
from kpack.learn.call import Call, call_key, describe
from kpack.learn.merge import Keep, kernels_of, names_once
from kpack.learn.single import HOOKS
from kpack.learn.stand_in import stand_in_torch
from kpack.spec import Kernel
from kpack.target import parse_target

__all__ = ["Launch", "Recording", "record"]


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a recording."""

    fn: Any = field(hash=False)
    """as it was launched: a JIT function, or the outermost of the stack around one"""
    name: str
    arguments: tuple[tuple[str, str], ...]
    """each parameter in words: ("x", "*fp16:16 of 4 x 128"), ("n", "i32:16 1024"), ("BLOCK", "256")"""
    grid: tuple[int, ...]
    """one to three sizes; none for a warmup without one"""
    options: tuple[tuple[str, Any], ...]
    configs: int = 1
    """how many configs an autotuner had to choose from"""

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}: {text}" for name, text in self.arguments)
        return f"{self.name}[{', '.join(map(str, self.grid))}]({arguments})"


class Recording:
    """What `record` has seen: `launches`, in their order, and `refused`, what could not be read of the program's, a
    line each."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.refused: list[str] = []
        self._calls: dict[str, Call] = {}
        self._lock = threading.Lock()

    def kernels(self, *, keep: Keep = "exact", configs: Literal["all", "first"] = "all") -> list[Kernel]:
        """Kernels that `kpack.build` takes: one for each JIT function, in the order of their first launches, with a
        case for each way in which it was launched. What no call can tell apart makes another, named with a number;
        what cannot be packed is left out, with a warning that says why.

        `keep` is that of `Kernel.from_call`. `configs="first"` has of an autotuner only the config that ran, or
        without a GPU its first, so that much less is built.
        """
        if configs not in ("all", "first"):
            raise SpecError(f"configs: expected 'all' or 'first', got {configs!r}")
        calls = list(self._calls.values())
        if configs == "first":
            calls = [replace(call, alternatives=call.alternatives[:1]) for call in calls]
        for call in {call.jit.__name__: call for call in calls if call.hooks}.values():
            warnings.warn(HOOKS.format(call.jit.__name__), stacklevel=2)
        refused = list(self.refused)
        kernels = kernels_of(calls, keep, names_once(), refused=lambda error: refused.append(str(error)))
        if refused:
            lines = dict.fromkeys(line for text in refused for line in text.splitlines())
            warnings.warn("of some launches no kernel is made:\n  " + "\n  ".join(lines), stacklevel=2)
        return kernels

    def _add(self, call: Call) -> None:
        first = call.alternatives[0]
        launch = Launch(
            fn=call.fn,
            name=call.jit.__name__,
            arguments=call.shown,
            grid=call.grid.sizes,
            options=tuple(sorted((name, str(value)) for name, value in first.options.items())),
            configs=len(call.alternatives),
        )
        with self._lock:
            self.launches.append(launch)
            self._calls.setdefault(call_key(call), call)

    def __repr__(self) -> str:
        names = dict.fromkeys(launch.name for launch in self.launches)
        return f"<recording of {len(self.launches)} launches of {', '.join(names) or 'nothing'}>"


class _Watcher:
    def __init__(self, recording: Recording, rehearsed: bool) -> None:
        self._recording, self._rehearsed = recording, rehearsed

    def launched(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any) -> None:
        try:
            call = describe(fn, args, kwargs, grid, best_first=not self._rehearsed)
        except SpecError as error:
            if self._rehearsed:
                raise
            self._recording.refused.append(str(error))  # the program runs, so that it goes on
        else:
            self._recording._add(call)


_recording = threading.Lock()


@contextmanager
def record(target: str | None = None, *, device: Literal["cpu", "meta"] = "cpu") -> Iterator[Recording]:
    """Collect every launch that the program makes while this lasts, in all its threads:

        with kpack.record() as r:
            model(x).sum().backward()
        kpack.build(r.kernels(), arch="sm_90").write("libtk.a")

    With a GPU the program runs as usual. Without one, or with a `target` ("sm_90", "gfx942"; sm_90 if none is given),
    it is a rehearsal: nothing is compiled or launched, so that kernels leave what they would write as it was, and what
    asks Triton or torch.cuda for the device is told of one of that target. torch's tensors "of the device" are then on
    `device`: "cpu", where torch's own operations compute, or "meta", without memory, if nobody wants a value. Packages
    that ask for the device when they are imported are best imported inside.

    What torch.compile has made of a program is not seen. Raises KpackError while another recording lasts.
    """
    chosen = parse_target(target or "sm_90") if target is not None or not has_driver() else None
    if not _recording.acquire(blocking=False):
        raise KpackError("record: expected one recording at a time, got another inside of it")
    recording = Recording()
    try:
        with ExitStack() as stack:
            if chosen is not None:
                stack.enter_context(
                    stand_in_driver(chosen, stack.enter_context(stand_in_torch(chosen, device)))
                )
            stack.enter_context(
                watching(_Watcher(recording, chosen is not None), rehearse=chosen is not None)
            )
            yield recording
    finally:
        _recording.release()
