"""Arch names: what code can be for, the one parser of their spelling, and which code runs on which device.

CUDA: "sm_80" runs on later minors of its major, "sm_90a" on its arch alone, "sm_100f" on its family; "ptx_80" is
PTX, which the driver compiles for later devices, too. Triton's "sm_90" and up is the "a" code: it makes no other
unless asked. AMD: a processor ("gfx90a"), or a generic one that stands for several ("gfx9-4-generic"); with or
without features that the device must have set so ("gfx90a:sramecc+:xnack-"). Features and generic processors are
for code that is ready made: Triton compiles neither.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from kpack.errors import TargetError
from kpack.objfile import abi

__all__ = [
    "GENERIC",
    "KNOWN",
    "PROCESSORS",
    "Target",
    "cuda_target",
    "hip_target",
    "images_for",
    "nearest",
    "parse_target",
    "parse_targets",
]


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of machine code: a name as the user writes it, and what it means.

    Made from arch names by `build`, which raises TargetError for unknown ones; handed to configs=.
    """

    name: str
    vendor: int
    """`abi.VENDOR_CUDA` or `abi.VENDOR_HIP`"""
    kind: int
    """`abi.IMAGE_...`"""
    reach: int
    """`abi.REACH_...`: on which other devices it runs"""
    arch: int
    """CUDA: 10 * major + minor; AMD: 0"""
    processor: str
    """AMD: the name itself, without features; CUDA: empty"""
    warp_size: int
    """threads: 64 on AMD's gfx9, else 32. As Triton compiles; ready-made code for gfx10 and up may have 64"""

    @property
    def suffix(self) -> str:
        """CUDA: what follows the arch where code says what it is for: "a", "f" or nothing."""
        if self.vendor != abi.VENDOR_CUDA:
            return ""
        return {abi.REACH_EXACT: "a", abi.REACH_FAMILY: "f"}.get(self.reach, "")

    @property
    def features(self) -> tuple[str, ...]:
        """AMD: "sramecc+", "xnack-": what the device must have set so; none: any."""
        return tuple(self.name.split(":")[1:]) if self.vendor == abi.VENDOR_HIP else ()

    @property
    def shared_bytes(self) -> int:
        """Shared memory that a block can have: opted into on CUDA, all of the LDS on AMD."""
        return 1024 * _SHARED_KIB.get(self.processor or self.arch, _LDS_KIB)

    @property
    def compiled(self) -> bool:
        """Whether a release of Triton compiles for it; else it is for ready-made code."""
        return self.name in KNOWN


_SHARED_KIB: dict[int | str, int] = {
    **dict.fromkeys((70, 72), 96),
    75: 64,
    **dict.fromkeys((80, 87), 163),
    **dict.fromkeys((86, 89, 120, 121), 99),
    **dict.fromkeys((90, 100, 101, 103, 107, 110), 227),
    "gfx950": 160,
    **dict.fromkeys(("gfx1250", "gfx1251"), 320),
}
_LDS_KIB = 64


# ---- CUDA

# What some release of Triton compiles, by trial of 3.4, 3.6 and 3.9: 101 (now 110) not in 3.9, 103 and 121 not in 3.4,
# 107 and 110 in 3.9 alone.
_SM = (70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 103, 107, 110, 120, 121)
_FIRST_SUFFIXED = 90
_FIRST_FAMILY = 100

_REACH = {"a": abi.REACH_EXACT, "f": abi.REACH_FAMILY}
_CUDA_NAME = re.compile(r"(?P<kind>sm|ptx)_(?P<arch>[1-9][0-9]{1,2})(?P<suffix>[af]?)", re.ASCII)


def cuda_target(arch: int, suffix: str = "", *, ptx: bool = False) -> Target:
    """The target of code that says it is for sm_<arch><suffix>, named so: "sm_90", without "a", is what also runs
    on other minors."""
    kind, reach = (abi.IMAGE_PTX, abi.REACH_FORWARD) if ptx else (abi.IMAGE_CUBIN, abi.REACH_MAJOR)
    name = f"{'ptx' if ptx else 'sm'}_{arch}{suffix}"
    return Target(name, abi.VENDOR_CUDA, kind, _REACH.get(suffix, reach), arch, "", 32)


def _triton_cubin(arch: int) -> Target:
    found = cuda_target(arch, "a" if arch >= _FIRST_SUFFIXED else "")
    return Target(f"sm_{arch}", *(getattr(found, field) for field in list(Target.__dataclass_fields__)[1:]))


# ---- AMD

# The processors of code objects, by what the e_flags of one say (EF_AMDGPU_MACH).
PROCESSORS: dict[int, str] = {
    0x2C: "gfx900",
    0x2D: "gfx902",
    0x2E: "gfx904",
    0x2F: "gfx906",
    0x30: "gfx908",
    0x31: "gfx909",
    0x32: "gfx90c",
    0x33: "gfx1010",
    0x34: "gfx1011",
    0x35: "gfx1012",
    0x36: "gfx1030",
    0x37: "gfx1031",
    0x38: "gfx1032",
    0x39: "gfx1033",
    0x3D: "gfx1035",
    0x3E: "gfx1034",
    0x3F: "gfx90a",
    0x40: "gfx940",
    0x41: "gfx1100",
    0x42: "gfx1013",
    0x43: "gfx1150",
    0x44: "gfx1103",
    0x45: "gfx1036",
    0x46: "gfx1101",
    0x47: "gfx1102",
    0x48: "gfx1200",
    0x49: "gfx1250",
    0x4A: "gfx1151",
    0x4B: "gfx941",
    0x4C: "gfx942",
    0x4E: "gfx1201",
    0x4F: "gfx950",
    0x51: "gfx9-generic",
    0x52: "gfx10-1-generic",
    0x53: "gfx10-3-generic",
    0x54: "gfx11-generic",
    0x55: "gfx1152",
    0x58: "gfx1153",
    0x59: "gfx12-generic",
    0x5A: "gfx1251",
    0x5C: "gfx1172",
    0x5D: "gfx1170",
    0x5E: "gfx1171",
    0x5F: "gfx9-4-generic",
}

# What code for a generic processor runs on. csrc/src/device.cc has the same table, for devices.
GENERIC: dict[str, tuple[str, ...]] = {
    "gfx9-generic": ("gfx900", "gfx902", "gfx904", "gfx906", "gfx909", "gfx90c"),
    "gfx9-4-generic": ("gfx942", "gfx950"),
    "gfx10-1-generic": ("gfx1010", "gfx1011", "gfx1012", "gfx1013"),
    "gfx10-3-generic": ("gfx1030", "gfx1031", "gfx1032", "gfx1033", "gfx1034", "gfx1035", "gfx1036"),
    "gfx11-generic": (
        "gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153",
    ),
    "gfx12-generic": ("gfx1200", "gfx1201"),
}  # fmt: skip

# What some release of Triton compiles, likewise: gfx10 not in 3.9, gfx1250 not in 3.4, gfx906, gfx117x and gfx1251 in
# 3.9 alone.
_GFX = """
    gfx906 gfx908 gfx90a gfx942 gfx950
    gfx1010 gfx1011 gfx1012 gfx1013 gfx1030 gfx1031 gfx1032 gfx1033 gfx1034 gfx1035 gfx1036
    gfx1100 gfx1101 gfx1102 gfx1103 gfx1150 gfx1151 gfx1152 gfx1153 gfx1170 gfx1171 gfx1172
    gfx1200 gfx1201 gfx1250 gfx1251
""".split()

_FEATURES = ("sramecc", "xnack")  # as AMD orders them
_FEATURE = re.compile(r"(sramecc|xnack)[+-]")


def hip_target(processor: str, features: Iterable[str] = ()) -> Target:
    """The target of a code object; `features`: "xnack+", in any order."""
    name = ":".join((processor, *sorted(features)))
    reach = abi.REACH_FAMILY if processor in GENERIC else abi.REACH_EXACT
    warp_size = 64 if re.match(r"gfx9(\d|-|0[0-9a-f])", processor) else 32
    return Target(name, abi.VENDOR_HIP, abi.IMAGE_HSACO, reach, 0, processor, warp_size)


# ---- names

KNOWN: dict[str, Target] = {
    target.name: target
    for target in (
        *map(_triton_cubin, _SM),
        *(cuda_target(arch, "a") for arch in _SM if arch >= _FIRST_SUFFIXED),
        *(cuda_target(arch, "f") for arch in _SM if arch >= _FIRST_FAMILY),
        *(cuda_target(arch, ptx=True) for arch in _SM),
        *(cuda_target(arch, "f", ptx=True) for arch in _SM if arch >= _FIRST_FAMILY),
        *map(hip_target, _GFX),
    )
}
"""What some release of Triton compiles, by name."""


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing when nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def parse_target(name: str) -> Target:
    return parse_targets((name,))[0]


def parse_targets(arch: str | Iterable[str]) -> tuple[Target, ...]:
    """The targets of these names in their order, each once. Raises TargetError with a line a mistake."""
    if not isinstance(arch, Iterable):
        raise TargetError(f"arch: expected a name or a list of names, got {arch!r}")
    names = (arch,) if isinstance(arch, str) else tuple(arch)
    if not names:
        raise TargetError("arch: expected at least one name, got none; give for example arch='sm_90'")
    found = [_read(name) if isinstance(name, str) else None for name in names]
    unknown = [name for name, target in zip(names, found, strict=True) if target is None]
    if unknown:
        raise TargetError("\n".join(map(_unknown, unknown)))
    return tuple({target.name: target for target in found if target}.values())


def _read(name: str) -> Target | None:
    if name in KNOWN:
        return KNOWN[name]
    if match := _CUDA_NAME.fullmatch(name):
        arch, suffix, ptx = int(match["arch"]), match["suffix"], match["kind"] == "ptx"
        first = {"a": _FIRST_SUFFIXED, "f": _FIRST_FAMILY}.get(suffix, 0)
        return cuda_target(arch, suffix, ptx=ptx) if arch in _SM and arch >= first else None
    processor, *features = name.split(":")
    if processor not in PROCESSORS.values() or not all(map(_FEATURE.fullmatch, features)):
        return None
    if len({feature[:-1] for feature in features}) < len(features):
        return None
    return hip_target(processor, features)


def _unknown(name: object) -> str:
    hint = ""
    foreign = [processor for processor in PROCESSORS.values() if processor not in KNOWN]
    if isinstance(name, str):
        several = [part for part in re.split(r"[,\s]+", name) if part]
        processor, _, features = name.partition(":")
        if len(several) > 1:
            hint = f"; give a list: {several}"
        elif features and processor in PROCESSORS.values():
            hint = f"; features are {' and '.join(_FEATURES)}, each once, with + or -"
        else:
            hint = nearest(name, KNOWN) or nearest(name, foreign)
    cubins = " ".join(f"sm_{arch}" for arch in _SM)
    return (
        f"arch: expected one of {cubins} (also with a from sm_{_FIRST_SUFFIXED} and f from sm_{_FIRST_FAMILY} on), "
        f"ptx_{_SM[0]} and so on, {' '.join(_GFX)}, or for ready-made code {' '.join(foreign)} "
        f"and features (:sramecc+:xnack-), got {name!r}{hint}"
    )


# ---- what runs where


def images_for(target: Target, images: Iterable[Target]) -> tuple[Target, ...]:
    """Those of `images` that a build for `target` wants: what is for just that, with whatever features; without
    such, all that a device of that name can run."""
    known = tuple(images)
    same = tuple(image for image in known if _is(image, target))
    return same or tuple(image for image in known if _runs_on(image, target))


def _is(image: Target, target: Target) -> bool:
    if image.vendor != target.vendor or image.kind != target.kind:
        return False
    # "sm_90" asks for whatever code there is for sm_90, "sm_90a" for that alone.
    by_name = target.name == f"sm_{target.arch}" or image.reach == target.reach
    same = image.arch == target.arch and image.processor == target.processor and by_name
    return same and set(target.features) <= {*image.features} | _free(image)


def _free(image: Target) -> set[str]:
    """The settings of features that an image does not name: it runs with both."""
    named = {feature[:-1] for feature in image.features}
    return {feature + sign for feature in _FEATURES if feature not in named for sign in "+-"}


def _runs_on(image: Target, target: Target) -> bool:
    if image.vendor != target.vendor or target.kind == abi.IMAGE_PTX:
        return False
    if image.vendor == abi.VENDOR_HIP:
        among = GENERIC.get(image.processor, (image.processor,))
        return target.processor in among and set(target.features) <= {*image.features} | _free(image)
    same_major = image.arch // 10 == target.arch // 10
    reaches = {
        abi.REACH_EXACT: image.arch == target.arch,
        abi.REACH_FAMILY: same_major,
        abi.REACH_MAJOR: same_major,
        abi.REACH_FORWARD: True,
    }
    return image.arch <= target.arch and reaches[image.reach]
