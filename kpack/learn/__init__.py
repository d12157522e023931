"""Kernels learnt from launches: from one, as a Triton program makes it, or from all of a running program."""

from __future__ import annotations

from kpack.learn.recorder import Launch, Recording, record
from kpack.learn.single import arguments_of_call, kernel_of_call

__all__ = ["Launch", "Recording", "arguments_of_call", "kernel_of_call", "record"]
