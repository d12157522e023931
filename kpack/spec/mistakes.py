"""All that is wrong with a kernel, collected, so that the user hears of it at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kpack.errors import SpecError

__all__ = ["Mistakes"]


class Mistakes:
    """What is wrong with a kernel, a line each."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.lines: list[str] = []

    def add(self, subject: str, problem: str) -> None:
        self.lines += [f"{self.kernel}: {subject}: {line}" for line in problem.splitlines()]

    def attempt(self, subject: str, action: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return action()
        except SpecError as error:
            self.add(subject, str(error))
            return otherwise

    def raise_any(self) -> None:
        if self.lines:
            raise SpecError("\n".join(dict.fromkeys(self.lines)))
