"""A kernel's object, read back into its listing: what encode.py wrote, or another version of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from kpack.errors import FormatError
from kpack.objfile import abi, elf
from kpack.objfile.consistency import (
    check_content,
    check_group,
    check_images,
    check_programs,
    check_ranges,
    expected_symbol,
)
from kpack.objfile.listing import (
    ConstexprListing,
    Dtype,
    HoleListing,
    ImageListing,
    KernelListing,
    ListedValue,
    OverloadListing,
    ParamListing,
    RequirementListing,
    SlotListing,
    TargetListing,
    TensordescListing,
    TunedListing,
    TuningListing,
    VariantListing,
)
from kpack.objfile.record import Object, Place, Record

__all__ = ["read_kernel", "read_linked_kernel", "read_linked_tuning", "read_tuning"]

_BYTES_1_0 = 208  # of a kpk_abi_kernel of ABI 1.0
_TUNING_BYTES_1_0 = 32


def read_kernel(found: Object) -> KernelListing:
    """The kernel of an object."""
    symbols = found.kernel_symbols()
    if len(symbols) != 1:
        raise FormatError(f"expected one kernel, got {', '.join(symbol.name for symbol in symbols)}")
    kernel = _kernel_at(found, found.place_of(symbols[0]))
    name, pack = kernel.text("name"), kernel.text("pack")
    if symbols[0].name != expected_symbol(pack, name):
        raise FormatError(f"kernel: expected symbol {expected_symbol(pack, name)}, got {symbols[0].name}")
    listing = _listing_of(found, kernel)
    check_content(found, kernel, listing)
    return listing


def read_linked_kernel(found: Object, place: Place) -> KernelListing:
    """A kernel as a linker has left it: its images' hashes are computed again, its own covers what links change."""
    kernel = _kernel_at(found, place)
    listing = _listing_of(found, kernel)
    check_images(kernel, listing)
    tuning = kernel.optional("tuning")
    return listing if tuning is None else replace(listing, tuning=read_linked_tuning(found, tuning))


def _kernel_at(found: Object, place: Place) -> Record:
    return found.versioned(abi.KERNEL, place, "kernel", _BYTES_1_0)


def _listing_of(found: Object, kernel: Record) -> KernelListing:
    info = found.find(".kpack.info")
    listing = KernelListing(
        name=kernel.text("name"),
        pack=kernel.text("pack"),
        member=found.member,
        hash=kernel.number("hash"),
        state_bytes=_read_state_bytes(kernel),
        info=found.elf.sections[info].content.decode("utf-8", "backslashreplace") if info else "",
        guard_text=kernel.optional_text("guard_text"),
        grid_text=kernel.optional_text("grid_text"),
        source=kernel.optional_text("source"),
        **_read_tables(kernel),  # type: ignore[arg-type]  # one dict, several types
    )
    check_ranges(listing)
    check_programs(listing)
    return listing


def read_tuning(found: Object, symbol: elf.ElfSymbol) -> TuningListing:
    """The baked tuning table that `symbol` names, of an object."""
    table = read_linked_tuning(found, found.place_of(symbol))
    pack, _, kernel = symbol.name.removeprefix("kpack_tuning_").partition("_")
    content = found.elf.sections[symbol.section].content
    check_group(found, f"tuning of {kernel}", abi.tuning_digest(found.elf.machine, pack, kernel, content))
    return table


def read_linked_tuning(found: Object, place: Place) -> TuningListing:
    table = found.record(abi.TUNING, place, "tuning")
    if table.number("major") > abi.ABI_MAJOR or table.number("size") < _TUNING_BYTES_1_0:
        raise FormatError(
            f"tuning: expected {_TUNING_BYTES_1_0} bytes or more of ABI {abi.ABI_MAJOR} or older, got "
            f"{table.number('size')} of {table.number('major')}.{table.number('minor')}"
        )
    entries = tuple(
        TunedListing(each.number("key"), each.number("variant")) for each in table.table("entries", abi.TUNED)
    )
    keys = [entry.key for entry in entries]
    if keys != sorted(set(keys)):
        raise FormatError("tuning.entries: expected them sorted by key, each once, got another order")
    return TuningListing(table.number("kernel_hash"), entries)


def _read_tables(kernel: Record) -> dict[str, tuple[object, ...]]:
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


def _read_state_bytes(kernel: Record) -> int:
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

    def __init__(self, kernel: Record) -> None:
        size = kernel.number("expr_bytes")
        self._pool = bytes(kernel.object.bytes_at(kernel.target("exprs"), size, "kernel.exprs"))
        if self._pool[:1] != bytes([abi.EXPR_VERSION]):
            raise FormatError(
                f"kernel.exprs: expected version {abi.EXPR_VERSION}, got {self._pool[:1].hex()}"
            )

    def code(self, record: Record, name: str, at: int) -> bytes:
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


def _read_param(param: Record, exprs: _Exprs) -> ParamListing:
    return ParamListing(
        name=param.text("name"),
        extent=exprs.code(param, "extent", param.number("extent")),
        **_facts(param, "kind", "type", "flags", "direction", "least", "most"),
    )


def _read_overload(overload: Record, param_count: int, selected_count: int) -> OverloadListing:
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


def _read_variant(variant: Record, exprs: _Exprs, constexpr_count: int) -> VariantListing:
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


def _read_image(image: Record) -> ImageListing:
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


def _read_target(target: Record) -> TargetListing:
    return TargetListing(
        name=target.text("name"),
        processor=target.optional_text("processor"),
        **_facts(target, "vendor", "kind", "reach", "arch", "elf_flags"),
    )


def _read_hole(hole: Record) -> HoleListing:
    variant = hole.number("variant")
    return HoleListing(
        None if variant == abi.HOLE_NO_VARIANT else variant,
        hole.number("target"),
        hole.text("name"),
        hole.text("reason"),
    )


def _facts(record: Record, *names: str) -> dict[str, int]:
    return {name: record.number(name) for name in names}


def _read_values(record: Record, name: str, count: int) -> tuple[ListedValue, ...]:
    if not count:
        return ()
    start, what = record.target(name), f"{record.what}.{name}"
    record.object.bytes_at(start, count * abi.VALUE.size, what)
    return tuple(
        _read_value(
            record.object.record(
                abi.VALUE, Place(start.section, start.offset + number * abi.VALUE.size), f"{what}[{number}]"
            )
        )
        for number in range(count)
    )


def _read_value(value: Record) -> ListedValue:
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
