"""What a file of code is, by its own words: its format, what it is for, and the kernels in it."""

from __future__ import annotations

from dataclasses import dataclass

from kpack.errors import FormatError
from kpack.image.cubin import cubin_entries, cubin_target
from kpack.image.hsaco import hsaco_entries, hsaco_target
from kpack.image.ptx import ptx_entries, ptx_target
from kpack.objfile.elf import EM_AMDGPU, EM_CUDA, read_elf
from kpack.target import Target

__all__ = ["Contents", "identify"]

_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Contents:
    """One image: its code as a driver takes it (PTX ends in a NUL), what it is for, and its kernels."""

    code: bytes
    target: Target
    entries: tuple[str, ...]

    @property
    def kind(self) -> int:
        return self.target.kind


def identify(code: bytes) -> Contents:
    """What `code` is. Raises FormatError for what is none of cubin, code object and PTX, or is damaged."""
    if code[:4] == _ELF:
        elf = read_elf(code)
        if elf.machine == EM_CUDA:
            return Contents(code, cubin_target(elf), cubin_entries(elf))
        if elf.machine == EM_AMDGPU:
            return Contents(code, hsaco_target(elf), hsaco_entries(elf))
        raise FormatError(
            f"image: expected a cubin (machine {EM_CUDA}) or a code object ({EM_AMDGPU}), got machine {elf.machine}"
        )
    text = code.rstrip(b"\0 \t\r\n")
    if b".version" in text and b"\0" not in text:
        try:
            words = text.decode("ascii")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"PTX: expected ASCII text, got byte {text[error.start]:#x} at {error.start}"
            ) from None
        return Contents(text + b"\n\0", ptx_target(words), ptx_entries(words))
    raise FormatError(f"image: expected a cubin, a code object or PTX, got {code[:16]!r}")
