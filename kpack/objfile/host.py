"""The machines that archives are made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kpack.errors import PackError
from kpack.objfile.elf import EM_AARCH64, EM_X86_64, R_AARCH64_PREL64, R_X86_64_PC64, SHF_X86_64_LARGE

__all__ = ["HOSTS", "Host", "find_host"]


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that archives are made for."""

    name: str
    machine: int
    relative64: int  # the relocation "symbol - here", 64 bits
    large: int  # flag of sections that may lie beyond 2 GiB, 0 where there is none


HOSTS: Mapping[str, Host] = MappingProxyType(
    {
        "x86_64": Host("x86_64", EM_X86_64, R_X86_64_PC64, SHF_X86_64_LARGE),
        "aarch64": Host("aarch64", EM_AARCH64, R_AARCH64_PREL64, 0),
    }
)


def find_host(name: str) -> Host:
    try:
        return HOSTS[name]
    except KeyError:
        raise PackError(f"host: expected {' or '.join(HOSTS)}, got {name!r}") from None
