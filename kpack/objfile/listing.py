"""What an archive says, read back: for tools that show it, and as the check that it says it.

The file is never trusted: every reference is followed inside bounds, every count is measured against the bytes
that are there, and content hashes are computed again. What is wrong is a FormatError that says where.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from kpack.errors import FormatError
from kpack.objfile import abi, archive, elf

__all__ = [
    "ConstexprListing",
    "Dtype",
    "HoleListing",
    "ImageListing",
    "KernelListing",
    "OverloadListing",
    "PackListing",
    "ParamListing",
    "RequirementListing",
    "SlotListing",
    "TargetListing",
    "TensordescListing",
    "VariantListing",
    "read_pack",
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

    def images_of(self, variant: VariantListing) -> tuple[ImageListing, ...]:
        return self.images[variant.first_image : variant.first_image + variant.image_count]


@dataclass(frozen=True, slots=True)
class PackListing:
    """A pack. `hash` is that of its index, 0 when what was read is a single kernel's object."""

    name: str
    hash: int
    host: str
    kernels: tuple[KernelListing, ...]


def read_pack(path: str | os.PathLike[str]) -> PackListing:
    """Read an archive, or one kernel's object. Raises FormatError on anything that is not whole and ours."""
    name = os.fspath(path)
    objects = []
    for member, data in _read_members(path):
        where = f"{name}({member})" if member else name
        objects.append(_located(where, _Object, member or os.path.basename(name), data))
    packs = [_located(name, _read_index, each) for each in objects if each.find("kpack_packs")]
    kernels = [
        _located(f"{name}({each.member})", _read_kernel, each) for each in objects if each.kernel_symbols()
    ]
    return _located(name, _assemble, objects, packs, kernels)


def _read_members(path: str | os.PathLike[str]) -> list[tuple[str, bytes]]:
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if head == b"\x7fELF":
            return [("", Path(path).read_bytes())]
    except OSError as error:
        raise FormatError(f"{os.fspath(path)}: expected a readable file, got {error.strerror}") from error
    return archive.read_archive(path)


T = TypeVar("T")


def _located(where: str, read: Callable[..., T], *arguments: object) -> T:
    """Call `read`, with `where` put before whatever it finds wrong."""
    try:
        return read(*arguments)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Index:
    """What an index member says: the pack, and name and symbol of each kernel."""

    name: str
    hash: int
    machine: int
    entries: tuple[tuple[str, str], ...]


def _assemble(
    objects: Sequence[_Object], packs: Sequence[_Index], kernels: Sequence[KernelListing]
) -> PackListing:
    """Check the index against the kernels that are there."""
    if not packs and not kernels:
        raise FormatError(f"expected an archive that kpack wrote, got none of its {len(objects)} members")
    machines = {each.elf.machine for each in objects}
    hosts = [host.name for host in elf.HOSTS.values() if {host.machine} == machines]
    if not hosts:
        raise FormatError(f"expected objects of one of {', '.join(elf.HOSTS)}, got e_machine {machines}")
    if not packs and len(kernels) == len(objects) == 1:
        return PackListing(kernels[0].pack, 0, hosts[0], tuple(kernels))
    if len(packs) != 1:
        raise FormatError(f"expected one index member, got {len(packs)}")
    index, by_name = packs[0], {kernel.name: kernel for kernel in kernels}
    listed = [name for name, _ in index.entries]
    if sorted(by_name) != listed or len(by_name) != len(kernels):
        raise FormatError(
            f"pack {index.name}: expected the kernels {', '.join(listed)}, "
            f"got {', '.join(kernel.name for kernel in kernels)}"
        )
    for name, symbol in index.entries:
        kernel = by_name[name]
        if kernel.pack != index.name or symbol != _kernel_symbol(kernel.pack, name):
            raise FormatError(
                f"pack {index.name}: expected kernel {name} of this pack, got {symbol} of {kernel.pack}"
            )
    digest = abi.pack_digest(index.machine, index.name, [(name, by_name[name].hash) for name in listed])
    _expect_hash(f"pack {index.name}", index.hash, digest)
    return PackListing(index.name, index.hash, hosts[0], tuple(by_name[name] for name in listed))


def _kernel_symbol(pack: str, kernel: str) -> str:
    return f"kpack_kernel_{pack}_{kernel}"


def _expect_hash(what: str, said: int, digest: bytes) -> None:
    found = int.from_bytes(digest[:8], "little")
    if found != said:
        raise FormatError(f"{what}: expected content with hash {said:016x}, got {found:016x}")


# ---- places in an object


@dataclass(frozen=True, slots=True)
class _Place:
    section: int
    offset: int


class _Object:
    """An ELF relocatable, and what its references name."""

    def __init__(self, member: str, data: bytes) -> None:
        self.member = member
        self.elf = elf.read_elf(data)
        if self.elf.type != elf.ET_REL:
            raise FormatError(f"expected a relocatable object, got e_type {self.elf.type}")
        self._targets = {(r.section, r.offset): r for r in self.elf.relocations}
        self._texts: dict[_Place, str] = {}

    def find(self, name: str) -> int:
        """Index of the section of this name, 0 when there is none."""
        return next((at for at, section in enumerate(self.elf.sections) if section.name == name), 0)

    def kernel_symbols(self) -> list[elf.ElfSymbol]:
        return [s for s in self.elf.symbols if s.name.startswith("kpack_kernel_") and s.section]

    def bytes_at(self, place: _Place, size: int, what: str) -> memoryview:
        sections = self.elf.sections
        if not 0 < place.section < len(sections):
            raise FormatError(f"{what}: expected it in a section of this object, got section {place.section}")
        view = sections[place.section].view
        if not 0 <= place.offset <= len(view) - size:
            raise FormatError(
                f"{what}: expected {size} bytes at {place.offset} within {sections[place.section].name} "
                f"of {len(view)} bytes"
            )
        return view[place.offset : place.offset + size]

    def symbol_at(self, here: _Place) -> elf.ElfSymbol | None:
        """The symbol that a relocated reference names."""
        relocation = self._targets.get((here.section, here.offset))
        return self.elf.symbols[relocation.symbol] if relocation else None

    def follow(self, here: _Place, what: str) -> _Place | None:
        """Where the reference at `here` points; None when it is nothing."""
        relocation = self._targets.get((here.section, here.offset))
        if relocation:
            host = next((h for h in elf.HOSTS.values() if h.machine == self.elf.machine), None)
            if host is None or relocation.type != host.relative64:
                raise FormatError(
                    f"{what}: expected a relative relocation of 64 bits, got type {relocation.type}"
                )
            symbol = self.elf.symbols[relocation.symbol]
            return _Place(symbol.section, symbol.value + relocation.addend)
        (value,) = struct.unpack("<q", self.bytes_at(here, 8, what))
        return _Place(here.section, here.offset + value) if value else None

    def text(self, place: _Place, what: str) -> str:
        if place not in self._texts:
            self.bytes_at(place, 1, what)
            rest = self.elf.sections[place.section].view[place.offset : place.offset + _LONGEST_TEXT]
            text, end, _ = bytes(rest).partition(b"\0")
            if not end:
                raise FormatError(
                    f"{what}: expected NUL-terminated text at {place.offset}, got {text[:40]!r}"
                )
            try:
                self._texts[place] = text.decode()
            except UnicodeDecodeError:
                raise FormatError(f"{what}: expected UTF-8, got {text[:40]!r}") from None
        return self._texts[place]

    def record(self, layout: abi.Struct, place: _Place, what: str) -> _Record:
        cells = layout.unpack(self.bytes_at(place, layout.size, what))
        return _Record(self, layout, place, what, cells)


_LONGEST_TEXT = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class _Record:
    """A struct of abi.h at its place, with its references followed on demand."""

    object: _Object
    layout: abi.Struct
    place: _Place
    what: str
    cells: Mapping[str, abi.Cell]

    def number(self, name: str) -> int:
        return cast(int, self.cells[name])

    def numbers(self, name: str) -> tuple[int, ...]:
        return cast("tuple[int, ...]", self.cells[name])

    def where(self, name: str) -> _Place:
        return _Place(self.place.section, self.place.offset + self.layout.offset(name))

    def symbol(self, name: str) -> elf.ElfSymbol | None:
        return self.object.symbol_at(self.where(name))

    def optional(self, name: str) -> _Place | None:
        return self.object.follow(self.where(name), f"{self.what}.{name}")

    def target(self, name: str) -> _Place:
        found = self.optional(name)
        if found is None:
            raise FormatError(f"{self.what}.{name}: expected a reference, got nothing")
        return found

    def text(self, name: str) -> str:
        return self.object.text(self.target(name), f"{self.what}.{name}")

    def optional_text(self, name: str) -> str:
        return self.text(name) if self.optional(name) else ""

    def table(self, name: str, layout: abi.Struct) -> tuple[_Record, ...]:
        _, count, stride = self.numbers(name)
        what = f"{self.what}.{name}"
        if not count:
            return ()
        if stride < layout.size:
            raise FormatError(f"{what}: expected a stride of {layout.size} or more, got {stride}")
        start = self.target(name)
        self.object.bytes_at(start, count * stride, what)
        return tuple(
            self.object.record(
                layout, _Place(start.section, start.offset + number * stride), f"{what}[{number}]"
            )
            for number in range(count)
        )


# ---- the index


def _read_index(found: _Object) -> _Index:
    home = found.find("kpack_packs")
    size = found.elf.sections[home].size
    if size != abi.RECORD.size:
        raise FormatError(f"kpack_packs: expected one record of {abi.RECORD.size} bytes, got {size} bytes")
    record = found.record(abi.RECORD, _Place(home, 0), "record")
    if record.number("major") > abi.ABI_MAJOR:
        raise FormatError(f"record: expected ABI {abi.ABI_MAJOR} or older, got {record.number('major')}")
    pack = found.record(abi.PACK, record.target("pack"), "pack")
    _expect_version(pack)
    entries = tuple(_read_entry(entry) for entry in pack.table("kernels", abi.ENTRY))
    names = [name for name, _ in entries]
    if names != sorted(set(names), key=str.encode):
        raise FormatError(f"pack.kernels: expected them sorted, each once, got {', '.join(names)}")
    return _Index(pack.text("name"), pack.number("hash"), found.elf.machine, entries)


def _read_entry(entry: _Record) -> tuple[str, str]:
    symbol = entry.symbol("kernel")
    if symbol is None:
        raise FormatError(f"{entry.what}.kernel: expected a relocation against a kernel, got none")
    return entry.text("name"), symbol.name


def _expect_version(record: _Record) -> None:
    if record.number("major") > abi.ABI_MAJOR:
        raise FormatError(
            f"{record.what}: expected ABI {abi.ABI_MAJOR} or older, "
            f"got {record.number('major')}.{record.number('minor')}; read it with a newer kpack"
        )
    if record.number("size") < record.layout.size:
        raise FormatError(
            f"{record.what}: expected {record.layout.size} bytes or more, got {record.number('size')}"
        )
    if record.number("must_understand"):
        raise FormatError(
            f"{record.what}: expected no must-understand bit, got {record.number('must_understand'):#x}; "
            "read it with a newer kpack"
        )


# ---- a kernel


def _read_kernel(found: _Object) -> KernelListing:
    symbols = found.kernel_symbols()
    if len(symbols) != 1:
        raise FormatError(f"expected one kernel, got {', '.join(symbol.name for symbol in symbols)}")
    kernel = found.record(abi.KERNEL, _Place(symbols[0].section, symbols[0].value), "kernel")
    _expect_version(kernel)
    name, pack = kernel.text("name"), kernel.text("pack")
    if symbols[0].name != _kernel_symbol(pack, name):
        raise FormatError(f"kernel: expected symbol {_kernel_symbol(pack, name)}, got {symbols[0].name}")
    info = found.find(".kpack.info")
    listing = KernelListing(
        name=name,
        pack=pack,
        member=found.member,
        hash=kernel.number("hash"),
        state_bytes=_read_state_bytes(kernel),
        info=found.elf.sections[info].content.decode("utf-8", "backslashreplace") if info else "",
        guard_text=kernel.optional_text("guard_text"),
        grid_text=kernel.optional_text("grid_text"),
        source=kernel.optional_text("source"),
        **_read_tables(kernel),  # type: ignore[arg-type]  # one dict, several types
    )
    _check_ranges(listing)
    _check_content(found, kernel, listing)
    return listing


def _read_tables(kernel: _Record) -> dict[str, tuple[object, ...]]:
    exprs = _Exprs(kernel)
    params = kernel.table("params", abi.PARAM)
    selected = sum(param.number("kind") == abi.PARAM_SELECTED for param in params)
    constexprs = kernel.table("constexprs", abi.CONSTEXPR)
    return {
        "params": tuple(_read_param(param, exprs) for param in params),
        "overloads": tuple(
            _read_overload(each, len(params), selected) for each in kernel.table("overloads", abi.OVERLOAD)
        ),
        "variants": tuple(
            _read_variant(each, exprs, len(constexprs)) for each in kernel.table("variants", abi.VARIANT)
        ),
        "images": tuple(_read_image(image) for image in kernel.table("images", abi.IMAGE)),
        "targets": tuple(_read_target(target) for target in kernel.table("targets", abi.TARGET)),
        "constexprs": tuple(ConstexprListing(c.text("name"), c.number("role")) for c in constexprs),
        "holes": tuple(_read_hole(hole) for hole in kernel.table("holes", abi.HOLE)),
    }


def _read_state_bytes(kernel: _Record) -> int:
    place, wanted = kernel.target("state"), kernel.number("state_bytes")
    sections = kernel.object.elf.sections
    if not 0 < place.section < len(sections) or sections[place.section].type != elf.SHT_NOBITS:
        raise FormatError(f"kernel.state: expected a zeroed section, got section {place.section}")
    if wanted < abi.STATE_BYTES or place.offset + wanted > sections[place.section].size:
        raise FormatError(
            f"kernel.state: expected {abi.STATE_BYTES} bytes or more, "
            f"got {wanted} at {place.offset} of {sections[place.section].size}"
        )
    return wanted


class _Exprs:
    """The expression pool of a kernel."""

    _OPERAND_BYTES: Mapping[int, int] = {
        abi.OP_I8: 1, abi.OP_I64: 8, abi.OP_PARAM: 2, abi.OP_CONSTEXPR: 2, abi.OP_SIZEOF: 2, abi.OP_JUMP: 2,
        abi.OP_JUMP_IF_ZERO: 2,
    }  # fmt: skip

    def __init__(self, kernel: _Record) -> None:
        size = kernel.number("expr_bytes")
        self._pool = bytes(kernel.object.bytes_at(kernel.target("exprs"), size, "kernel.exprs"))
        if self._pool[:1] != bytes([abi.EXPR_VERSION]):
            raise FormatError(
                f"kernel.exprs: expected version {abi.EXPR_VERSION}, got {self._pool[:1].hex()}"
            )

    def code(self, record: _Record, name: str, at: int) -> bytes:
        """The program at `at`, to its END; empty for 0."""
        if not at:
            return b""
        end = at
        while end < len(self._pool):
            op = self._pool[end]
            if op > abi.OP_JUMP_IF_ZERO:
                raise FormatError(f"{record.what}.{name}: expected an opcode at {end}, got {op}")
            end += 1 + self._OPERAND_BYTES.get(op, 0)
            if op == abi.OP_END:
                return self._pool[at:end]
        raise FormatError(f"{record.what}.{name}: expected a program at {at} of {len(self._pool)} bytes")


def _read_param(param: _Record, exprs: _Exprs) -> ParamListing:
    return ParamListing(
        name=param.text("name"),
        extent=exprs.code(param, "extent", param.number("extent")),
        **_facts(param, "kind", "type", "flags", "direction", "least", "most"),
    )


def _read_overload(overload: _Record, param_count: int, selected_count: int) -> OverloadListing:
    where = f"{overload.what}.types"
    types = tuple(
        overload.object.bytes_at(overload.target("types"), param_count, where) if param_count else b""
    )
    if overload.number("signature") != abi.signature(types):
        raise FormatError(
            f"{overload.what}: expected signature {abi.signature(types):016x}, "
            f"got {overload.number('signature'):016x}"
        )
    return OverloadListing(
        types=types,
        selected=_read_values(overload, "selected", selected_count),
        **_facts(overload, "signature", "first_variant", "variant_count"),
    )


def _read_variant(variant: _Record, exprs: _Exprs, constexpr_count: int) -> VariantListing:
    grid = variant.numbers("grid")
    return VariantListing(
        name=variant.text("name"),
        guard=exprs.code(variant, "guard", variant.number("guard")),
        grid=cast("tuple[bytes, bytes, bytes]", tuple(exprs.code(variant, "grid", at) for at in grid)),
        prefer=exprs.code(variant, "prefer", variant.number("prefer")),
        requirements=tuple(
            RequirementListing(**_facts(each, "param", "kind", "value"))
            for each in variant.table("requirements", abi.REQUIREMENT)
        ),
        constexprs=_read_values(variant, "constexprs", constexpr_count),
        **_facts(
            variant,
            "hash",
            "overload",
            "first_image",
            "image_count",
            "divisible_16",
            "equal_1",
            "null",
            "num_stages",
        ),
    )


def _read_image(image: _Record) -> ImageListing:
    stored = image.object.bytes_at(image.target("data"), image.number("stored_bytes"), f"{image.what}.data")
    if image.optional("dictionary"):
        raise FormatError(f"{image.what}.dictionary: expected none, got one; read it with a newer kpack")
    listing = ImageListing(
        symbol=image.text("symbol"),
        entry=image.text("entry"),
        cluster=cast("tuple[int, int, int]", image.numbers("cluster")),
        layout=tuple(
            SlotListing(**_facts(slot, "source", "type", "index", "offset", "size", "part"))
            for slot in image.table("layout", abi.SLOT)
        ),
        tensordescs=tuple(
            TensordescListing(
                box=desc.numbers("box"),
                **_facts(desc, "param", "rank", "type", "swizzle", "element_bytes", "flags"),
            )
            for desc in image.table("tensordescs", abi.DESC)
        ),
        stored=stored,
        **_facts(
            image, "target", "stored_bytes", "raw_bytes", "hash", "convention", "codec", "warp_size", "num_warps",
            "flags", "shared_bytes", "static_shared_bytes", "registers", "spill_bytes", "local_bytes",
            "max_threads", "param_bytes", "global_scratch_bytes", "global_scratch_align", "profile_scratch_bytes",
            "profile_scratch_align", "least_driver", "ptx_version",
        ),
    )  # fmt: skip
    if listing.codec == abi.CODEC_RAW and listing.stored_bytes != listing.raw_bytes:
        raise FormatError(
            f"{image.what}: expected {listing.raw_bytes} bytes stored raw, got {listing.stored_bytes}"
        )
    return listing


def _read_target(target: _Record) -> TargetListing:
    return TargetListing(
        name=target.text("name"),
        processor=target.optional_text("processor"),
        **_facts(target, "vendor", "kind", "reach", "arch", "elf_flags"),
    )


def _read_hole(hole: _Record) -> HoleListing:
    variant = hole.number("variant")
    return HoleListing(
        None if variant == abi.HOLE_NO_VARIANT else variant,
        hole.number("target"),
        hole.text("name"),
        hole.text("reason"),
    )


def _facts(record: _Record, *names: str) -> dict[str, int]:
    return {name: record.number(name) for name in names}


def _read_values(record: _Record, name: str, count: int) -> tuple[ListedValue, ...]:
    if not count:
        return ()
    start, what = record.target(name), f"{record.what}.{name}"
    record.object.bytes_at(start, count * abi.VALUE.size, what)
    return tuple(
        _read_value(
            record.object.record(
                abi.VALUE, _Place(start.section, start.offset + number * abi.VALUE.size), f"{what}[{number}]"
            )
        )
        for number in range(count)
    )


def _read_value(value: _Record) -> ListedValue:
    kind, bits = value.number("type"), value.number("bits")
    readers: dict[int, Callable[[], ListedValue]] = {
        abi.NONE: lambda: None,
        abi.I1: lambda: bool(bits),
        abi.I64: lambda: bits,
        abi.FP64: lambda: cast(float, struct.unpack("<d", struct.pack("<q", bits))[0]),
        abi.DTYPE: lambda: Dtype(bits),
        abi.STRING: lambda: value.text("bits"),
    }
    if kind not in readers:
        raise FormatError(f"{value.what}: expected the type of a compile-time value, got {kind}")
    return readers[kind]()


# ---- does it hold together


def _check_ranges(kernel: KernelListing) -> None:
    for what, index, count in _indices(kernel):
        if not 0 <= index < count:
            raise FormatError(f"kernel {kernel.name}: {what}: expected an index below {count}, got {index}")
    for what, first, size, count in _runs(kernel):
        if first + size > count:
            raise FormatError(f"kernel {kernel.name}: {what}: expected at most {count}, got {first} + {size}")


def _indices(kernel: KernelListing) -> Iterator[tuple[str, int, int]]:
    for variant in kernel.variants:
        yield f"overload of {variant.name}", variant.overload, len(kernel.overloads)
        for requirement in variant.requirements:
            yield f"requirement of {variant.name}", requirement.param, len(kernel.params)
    for image in kernel.images:
        yield f"target of {image.symbol}", image.target, len(kernel.targets)
        for slot in image.layout:
            if slot.source == abi.SLOT_ARGUMENT:
                yield f"argument of {image.symbol}", slot.index, len(kernel.params)
    for hole in kernel.holes:
        yield f"target of hole {hole.name}", hole.target, len(kernel.targets)
        if hole.variant is not None:
            yield f"variant of hole {hole.name}", hole.variant, len(kernel.variants)


def _runs(kernel: KernelListing) -> Iterator[tuple[str, int, int, int]]:
    for number, overload in enumerate(kernel.overloads):
        yield (
            f"variants of overload {number}",
            overload.first_variant,
            overload.variant_count,
            len(kernel.variants),
        )
    for variant in kernel.variants:
        yield f"images of {variant.name}", variant.first_image, variant.image_count, len(kernel.images)
    for image in kernel.images:
        for slot in image.layout:
            yield f"layout of {image.symbol}", slot.offset, slot.size, image.param_bytes


def _check_content(found: _Object, kernel: _Record, listing: KernelListing) -> None:
    """Compute the hashes again: of each image once, and of the whole."""
    hashed: dict[tuple[int, int], int] = {}
    for record, image in zip(kernel.table("images", abi.IMAGE), listing.images, strict=True):
        key = (record.target("data").offset, image.stored_bytes)
        if image.codec == abi.CODEC_RAW:
            if key not in hashed:
                hashed[key] = abi.image_hash(image.stored)
            if hashed[key] != image.hash:
                raise FormatError(
                    f"image {image.symbol}: expected content with hash {image.hash:016x}, got {hashed[key]:016x}"
                )
    home = kernel.place.section
    references = []
    image_home = 0
    for relocation in found.elf.relocations:
        if relocation.section == home:
            symbol = found.elf.symbols[relocation.symbol]
            place = found.elf.sections[symbol.section] if symbol.section < len(found.elf.sections) else None
            if place is None:
                raise FormatError(
                    f"kernel {listing.name}: expected references into sections, got {symbol.name}"
                )
            references.append((relocation.offset, place.name, symbol.value + relocation.addend))
            image_home = symbol.section if place.type == elf.SHT_PROGBITS else image_home
    digest = abi.kernel_digest(
        found.elf.machine,
        found.elf.sections[home].content,
        found.elf.sections[image_home].view,
        references,
    )
    _expect_hash(f"kernel {listing.name}", listing.hash, digest)
