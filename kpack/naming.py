"""Names that become symbols and files: what a pack and a kernel may be called, and the symbols they get."""

from __future__ import annotations

import re
from typing import NewType

from kpack.errors import SpecError

__all__ = [
    "KernelName",
    "PackName",
    "check_kernel_name",
    "check_pack_name",
    "entry_symbol",
    "kernel_symbol",
    "pack_symbol",
    "tuning_symbol",
]

PackName = NewType("PackName", str)
KernelName = NewType("KernelName", str)

# No underscore: so kpack_kernel_<pack>_<kernel> splits in one way only.
_PACK = re.compile(r"[a-z][a-z0-9]*")
_KERNEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# C++20, alternative tokens included: a kernel's name becomes a C++ identifier in its user's program.
_CPP_KEYWORDS = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class compl concept const consteval constexpr constinit const_cast continue co_await
    co_return co_yield decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq
    nullptr operator or or_eq private protected public register reinterpret_cast requires return
    short signed sizeof static static_assert static_cast struct switch template this thread_local
    throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while
    xor xor_eq
    """.split()
)


def check_pack_name(name: str) -> PackName:
    if not isinstance(name, str) or not _PACK.fullmatch(name):
        raise SpecError(
            f"pack name: expected a lower-case letter, then lower-case letters and digits, got {name!r}"
        )
    return PackName(name)


def check_kernel_name(name: str) -> KernelName:
    if not isinstance(name, str) or not _KERNEL.fullmatch(name):
        raise SpecError(f"kernel name: expected a C identifier, got {name!r}")
    if name in _CPP_KEYWORDS:
        raise SpecError(
            f"kernel name: expected a name that C++ programs can write, got the keyword {name!r}; "
            "give another name="
        )
    return KernelName(name)


def kernel_symbol(pack: PackName, kernel: KernelName) -> str:
    return f"kpack_kernel_{pack}_{kernel}"


def tuning_symbol(pack: PackName, kernel: KernelName) -> str:
    return f"kpack_tuning_{pack}_{kernel}"


def pack_symbol(pack: PackName) -> str:
    return f"kpack_pack_{pack}"


def entry_symbol(pack: PackName) -> str:
    return f"kpk_entry_{pack}"
