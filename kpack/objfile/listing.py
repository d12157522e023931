"""What an archive says, as values: a listing has the fields of abi.h, with references followed and texts decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "ConstexprListing",
    "Dtype",
    "HoleListing",
    "ImageListing",
    "KernelListing",
    "ListedValue",
    "OverloadListing",
    "PackListing",
    "ParamListing",
    "RequirementListing",
    "SlotListing",
    "TargetListing",
    "TensordescListing",
    "TunedListing",
    "TuningListing",
    "VariantListing",
]


@dataclass(frozen=True, slots=True)
class Dtype:
    """A constexpr value that is itself a type, by its code."""

    code: int


ListedValue = bool | int | float | str | Dtype | None


@dataclass(frozen=True, slots=True)
class ParamListing:
    name: str
    kind: int
    type: int
    flags: int
    direction: int
    extent: bytes  # a program of abi.OP_..., empty: not said; likewise all expressions below
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class OverloadListing:
    signature: int
    types: tuple[int, ...]
    selected: tuple[ListedValue, ...]
    first_variant: int
    variant_count: int


@dataclass(frozen=True, slots=True)
class RequirementListing:
    param: int
    kind: int
    value: int


@dataclass(frozen=True, slots=True)
class VariantListing:
    name: str
    hash: int
    overload: int
    first_image: int
    image_count: int
    guard: bytes
    grid: tuple[bytes, bytes, bytes]
    prefer: bytes
    divisible_16: int
    equal_1: int
    null: int
    requirements: tuple[RequirementListing, ...]
    constexprs: tuple[ListedValue, ...]
    num_stages: int


@dataclass(frozen=True, slots=True)
class TargetListing:
    name: str
    vendor: int
    kind: int
    reach: int
    arch: int
    elf_flags: int
    processor: str


@dataclass(frozen=True, slots=True)
class SlotListing:
    source: int
    type: int
    index: int
    offset: int
    size: int
    part: int


@dataclass(frozen=True, slots=True)
class TensordescListing:
    param: int
    rank: int
    type: int
    swizzle: int
    element_bytes: int
    flags: int
    box: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageListing:
    """One image; `target` is an index in KernelListing.targets, every other field as in kpk_abi_image."""

    symbol: str
    entry: str
    target: int
    stored_bytes: int
    raw_bytes: int
    hash: int
    convention: int
    codec: int
    warp_size: int
    num_warps: int
    flags: int
    cluster: tuple[int, int, int]
    shared_bytes: int
    static_shared_bytes: int
    registers: int
    spill_bytes: int
    local_bytes: int
    max_threads: int
    param_bytes: int
    global_scratch_bytes: int
    global_scratch_align: int
    profile_scratch_bytes: int
    profile_scratch_align: int
    least_driver: int
    ptx_version: int
    layout: tuple[SlotListing, ...]
    tensordescs: tuple[TensordescListing, ...]
    stored: memoryview = field(repr=False, compare=False)

    @property
    def code(self) -> bytes:
        """The bytes as stored, which are the raw ones when the codec is abi.CODEC_RAW."""
        return bytes(self.stored)


@dataclass(frozen=True, slots=True)
class ConstexprListing:
    name: str
    role: int


@dataclass(frozen=True, slots=True)
class HoleListing:
    """A variant that could not be compiled. `variant` is None when the archive has no image of it at all."""

    variant: int | None
    target: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class TunedListing:
    """The variant, by its hash, that a baked table chooses for a key."""

    key: int
    variant: int


@dataclass(frozen=True, slots=True)
class TuningListing:
    """A baked tuning table: `hash` of the variants that it was made for."""

    hash: int
    entries: tuple[TunedListing, ...]


@dataclass(frozen=True, slots=True)
class KernelListing:
    """One kernel; `member` is the object's file name, `info` the JSON text of `.kpack.info`."""

    name: str
    pack: str
    member: str
    hash: int
    state_bytes: int
    params: tuple[ParamListing, ...]
    overloads: tuple[OverloadListing, ...]
    variants: tuple[VariantListing, ...]
    images: tuple[ImageListing, ...]
    targets: tuple[TargetListing, ...]
    constexprs: tuple[ConstexprListing, ...]
    holes: tuple[HoleListing, ...]
    guard_text: str
    grid_text: str
    source: str
    info: str = field(repr=False)
    tuning: TuningListing | None = None

    def images_of(self, variant: VariantListing) -> tuple[ImageListing, ...]:
        return self.images[variant.first_image : variant.first_image + variant.image_count]


@dataclass(frozen=True, slots=True)
class PackListing:
    """A pack. `hash` is that of its index, 0 when what was read is a single kernel's object."""

    name: str
    hash: int
    host: str
    kernels: tuple[KernelListing, ...]
