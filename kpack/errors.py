"""The error tree: chosen by what a caller can do about it. Messages say subject, expected, got, what to do."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CompileError",
    "Failure",
    "FormatError",
    "KpackError",
    "LaunchError",
    "PackError",
    "SpecError",
    "TargetError",
]


class KpackError(Exception):
    """Base of every error that kpack raises on purpose."""


class SpecError(KpackError, ValueError):
    """What the user wrote cannot be built; one error may carry several lines, one a mistake."""


class TargetError(SpecError):
    """An arch name that kpack does not know."""


class FormatError(KpackError, ValueError):
    """An archive, object or image is not what it should be."""


class PackError(KpackError):
    """An object or archive cannot be written."""


class LaunchError(KpackError, RuntimeError):
    """The runtime refused or failed a call; `status` is its `kpk_status`."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Failure:
    """One variant that did not compile for one target, and the compiler's reason."""

    kernel: str
    variant: str
    target: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kernel}.{self.variant} for {self.target}: {self.reason}"


class CompileError(KpackError):
    """Variants that did not compile, all of them: `failures` has one for each, and its reason."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        count = len(failures)
        super().__init__(
            f"{count} variant{'s' if count > 1 else ''} did not compile\n" + "\n".join(map(str, failures))
        )
        self.failures = failures
