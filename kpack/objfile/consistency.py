"""Does a kernel's listing hold together: indices and runs inside their tables, and content hashes as said."""

from __future__ import annotations

from collections.abc import Iterator

from kpack.errors import FormatError
from kpack.objfile import abi, elf
from kpack.objfile.listing import KernelListing
from kpack.objfile.program import why_no_program
from kpack.objfile.record import Object, Place, Record

__all__ = [
    "check_content",
    "check_group",
    "check_images",
    "check_programs",
    "check_ranges",
    "expect_hash",
    "expected_symbol",
    "tuning_symbol",
]


# Slots that hold a parameter, or a part of one.
_OF_PARAMETERS = {
    abi.SLOT_ARGUMENT, abi.SLOT_DESC_MAP, abi.SLOT_DESC_BASE, abi.SLOT_DESC_SHAPE, abi.SLOT_DESC_STRIDE,
    abi.SLOT_DESC_NAN_PADDING, abi.SLOT_DESC_ROUND_TF32,
}  # fmt: skip


def check_ranges(kernel: KernelListing) -> None:
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
            if slot.source in _OF_PARAMETERS:
                yield f"argument of {image.symbol}", slot.index, len(kernel.params)
        for descriptor in image.tensordescs:
            what = f"tensor descriptor of {image.symbol}"
            yield what, descriptor.param, len(kernel.params)
            yield f"last dimension of a {what}", descriptor.rank - 1, len(descriptor.box)
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


def check_programs(kernel: KernelListing) -> None:
    known = {b""}  # variants share them
    for what, code in _programs(kernel):
        if code not in known and (why := why_no_program(code, len(kernel.params), len(kernel.constexprs))):
            raise FormatError(f"kernel {kernel.name}: {what}: {why}")
        known.add(code)


def _programs(kernel: KernelListing) -> Iterator[tuple[str, bytes]]:
    for param in kernel.params:
        yield f"extent of {param.name}", param.extent
    for variant in kernel.variants:
        yield f"guard of {variant.name}", variant.guard
        yield f"preference of {variant.name}", variant.prefer
        yield from ((f"grid of {variant.name}", code) for code in variant.grid)


def check_images(kernel: Record, listing: KernelListing) -> None:
    """Compute the hash of each image again, once."""
    hashed: dict[tuple[Place, int], int] = {}
    for record, image in zip(kernel.table("images", abi.IMAGE), listing.images, strict=True):
        key = (record.target("data"), image.stored_bytes)
        if image.codec == abi.CODEC_RAW:
            if key not in hashed:
                hashed[key] = abi.image_hash(image.stored)
            if hashed[key] != image.hash:
                raise FormatError(
                    f"image {image.symbol}: expected content with hash {image.hash:016x}, got {hashed[key]:016x}"
                )


def check_content(found: Object, kernel: Record, listing: KernelListing) -> None:
    """Compute the hashes again, of images and of the whole. For objects: a linker changes what the latter is of."""
    check_images(kernel, listing)
    home = kernel.place.section
    references = []
    image_home = 0
    for relocation in found.elf.relocations:
        if relocation.section == home:
            symbol = found.elf.symbols[relocation.symbol]
            if not symbol.section and symbol.name == tuning_symbol(listing.pack, listing.name):
                references.append((relocation.offset, symbol.name, relocation.addend))
                continue
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
    expect_hash(f"kernel {listing.name}", listing.hash, digest)
    check_group(found, f"kernel {listing.name}", digest)


def check_group(found: Object, what: str, digest: bytes) -> None:
    """Is the object's COMDAT group keyed by its content? Linkers take groups of one key for the same."""
    for section in found.elf.sections:
        if section.type != elf.SHT_GROUP:
            continue
        symbols = found.elf.symbols
        key = symbols[section.info].name if section.info < len(symbols) else f"symbol {section.info}"
        if key != f"kpack_content_{digest.hex()}":
            raise FormatError(f"{what}: expected a group kpack_content_{digest.hex()}, got {key}")


def expect_hash(what: str, said: int, digest: bytes) -> None:
    found = int.from_bytes(digest[:8], "little")
    if found != said:
        raise FormatError(f"{what}: expected content with hash {said:016x}, got {found:016x}")


def tuning_symbol(pack: str, kernel: str) -> str:
    """Of a kernel's baked tuning table."""
    return f"kpack_tuning_{pack}_{kernel}"


def expected_symbol(pack: str, kernel: str) -> str:
    """As naming.kernel_symbol, of names that a file claims and nobody has checked."""
    return f"kpack_kernel_{pack}_{kernel}"
