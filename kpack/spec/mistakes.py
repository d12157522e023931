"""All that is wrong with a kernel, collected, so that the user hears of it at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kpack.errors import SpecError

__all__ = ["Mistakes"]


class Mistakes:
    """What is wrong with a kernel, a line each. `place`: the part of it that is looked at, as "cases[1]: "."""

    def __init__(self, kernel: str, lines: list[str] | None = None, place: str = "") -> None:
        self.kernel = kernel
        self.lines = [] if lines is None else lines
        self.place = place

    def within(self, place: str) -> Mistakes:
        """The same collection, for a part of the kernel; "" for the whole."""
        return Mistakes(self.kernel, self.lines, f"{place}: " if place else "")

    def add(self, subject: str, problem: str) -> None:
        self.lines += [f"{self.kernel}: {self.place}{subject}: {line}" for line in problem.splitlines()]

    def attempt(self, subject: str, action: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return action()
        except SpecError as error:
            self.add(subject, str(error))
            return otherwise

    def raise_any(self) -> None:
        if self.lines:
            raise SpecError("\n".join(dict.fromkeys(self.lines)))
