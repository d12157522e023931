"""Is a file what it says: every reference, expression, hash and image's own note; and is it what its sources give?"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpack.build import expand_all, origin_of
from kpack.errors import FormatError, KpackError, TargetError
from kpack.expr import Expr
from kpack.find import AnyKernel, Source, find_kernels
from kpack.image import read_facts, serves
from kpack.objfile import abi, elf
from kpack.objfile.archive import MAGIC, read_archive, read_symbols
from kpack.objfile.decode import read_kernel
from kpack.objfile.descriptor import param_flags, variant_hash
from kpack.objfile.listing import ImageListing, KernelListing, PackListing, TargetListing, VariantListing
from kpack.objfile.reading import read_packs
from kpack.objfile.record import Object
from kpack.spec import Plan, Variant, without
from kpack.target import parse_target, parse_targets

__all__ = ["Verified", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What is wrong with a file, a line each: `problems` with what it is, `stale` with what its sources give by now.
    `packs` is what could be read: nothing where a descriptor is damaged."""

    file: str
    packs: tuple[PackListing, ...]
    problems: tuple[str, ...]
    stale: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems and not self.stale


def verify(path: str | os.PathLike[str], against: Source | None = None) -> Verified:
    """Check an archive, an object, a linked program or a shared object, all of it.

    Checked are each descriptor with its references and tables, each expression, each image's content and what its
    own note says of registers, memory, threads, parameters and target, hashes, COMDAT keys and the archive's symbol
    index. Not in any hash: `.kpack.info`, of which only the form is checked. Linking changes what a kernel's own hash
    is of: that of its images is computed again in programs, too.

    With `against`, kernels as `build` takes them, variants are compared with what these would give, which nothing is
    compiled for: source, constants, options, guards, grids, parameters. Raises SpecError for sources that do not load.
    """
    name = os.fspath(path)
    try:
        packs = read_packs(path)
    except FormatError as error:
        return Verified(name, (), tuple(_each_problem(Path(path), error)))
    problems = [
        *_index_problems(Path(path)),
        *(problem for pack in packs for kernel in pack.kernels for problem in _kernel_problems(kernel)),
    ]
    stale = [] if against is None else list(_stale(packs, find_kernels(against)))
    return Verified(name, packs, tuple(problems), tuple(stale))


# ---- what cannot be read


def _each_problem(path: Path, first: FormatError) -> Iterator[str]:
    """Of an archive, what is wrong with each member; otherwise, what was found first."""
    found = []
    try:
        members = read_archive(path) if _is_archive(path) else []
    except FormatError:
        members = []
    for member, data in members:
        try:
            opened = Object(member, data)
            if opened.kernel_symbols():
                read_kernel(opened)
        except FormatError as error:
            found.append(f"{member}: {error}")
    yield from found or [str(first).removeprefix(f"{os.fspath(path)}: ")]


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _index_problems(path: Path) -> Iterator[str]:
    """Does the symbol index of an archive send a linker to the members that define what it lists, and list all?"""
    if not _is_archive(path):
        return
    defined = Counter(
        (symbol.name, member)
        for member, data in read_archive(path)
        for symbol in elf.read_elf(data).symbols
        if symbol.binding == elf.STB_GLOBAL and symbol.section
    )
    try:
        listed = Counter(read_symbols(path))
    except FormatError as error:
        yield str(error).removeprefix(f"{os.fspath(path)}: ")
        return
    for symbol, member in sorted(defined - listed):
        yield f"symbol index: expected {symbol} of {member}, got none; make it again with ranlib"
    for symbol, member in sorted(listed - defined):
        yield f"symbol index: expected what {member} defines, got {symbol}; make it again with ranlib"


# ---- kernels and images


def _kernel_problems(kernel: KernelListing) -> Iterator[str]:
    if kernel.info:
        try:
            json.loads(kernel.info)
        except ValueError as error:
            yield f"kernel {kernel.name}: .kpack.info: expected JSON, got {error}"
    for image in kernel.images:
        for problem in _image_problems(image, kernel.targets[image.target]):
            yield f"image {image.symbol}: {problem}"


_SAME = (
    "registers spill_bytes local_bytes static_shared_bytes max_threads param_bytes warp_size least_driver ptx_version"
).split()


def _image_problems(image: ImageListing, target: TargetListing) -> Iterator[str]:
    """What the code says of itself, where the descriptor says something else."""
    if image.codec != abi.CODEC_RAW:
        yield f"expected code as it is (codec {abi.CODEC_RAW}), got codec {image.codec}, which no runtime loads yet"
        return
    try:
        named = parse_target(target.name)
        if target.kind != named.kind:
            yield f"target {target.name}: expected code of kind {named.kind}, got {target.kind}"
            return
        facts = read_facts(image.code, target.kind, image.entry)
    except (FormatError, TargetError) as error:
        yield str(error)
        return
    for name in _SAME:
        if getattr(image, name) != getattr(facts, name):
            yield f"{name}: expected {getattr(facts, name)}, as the code says, got {getattr(image, name)}"
    layout = [(slot.offset, slot.size) for slot in image.layout]
    if layout != sorted(facts.params):
        yield f"parameters (offset, size): expected {sorted(facts.params)}, as the code says, got {layout}"
    if any(facts.cluster) and facts.cluster != image.cluster:
        yield f"cluster: expected {facts.cluster}, as the code says, got {image.cluster}"
    if facts.elf_flags != target.elf_flags:
        yield f"e_flags: expected {facts.elf_flags:#x}, as the code says, got {target.elf_flags:#x}"
    if facts.target is not None and not serves(facts.target, named):
        yield f"target: expected {facts.target.name}, as the code says, got {target.name}"


# ---- what the sources give


def _stale(packs: tuple[PackListing, ...], sources: tuple[AnyKernel, ...]) -> Iterator[str]:
    packed: dict[str, list[tuple[str, KernelListing]]] = defaultdict(list)
    for pack in packs:
        for kernel in pack.kernels:
            packed[kernel.name].append((pack.name, kernel))
    by_name = {source.name: source for source in sources}
    for name in sorted(packed.keys() | by_name.keys()):
        if name not in by_name:
            yield f"kernel {name}: not in the sources"
        elif name not in packed:
            yield f"kernel {name}: not in the file"
        else:
            for pack_name, kernel in packed[name]:
                # A program's packs may have kernels of one name.
                which = f"{name} of pack {pack_name}" if len(packed[name]) > 1 else name
                if kernel.targets:
                    yield from (f"kernel {which}: {text}" for text in _stale_kernel(kernel, by_name[name]))


def _stale_kernel(kernel: KernelListing, source: AnyKernel) -> Iterator[str]:
    targets = parse_targets(target.name for target in kernel.targets)
    try:
        (plan,) = expand_all((source,), targets)
        plan = without(plan, _left_out(plan, kernel))
        key = origin_of(plan, targets, built=True)["source_key"]
    except KpackError as error:
        yield f"the sources give none: {error}"
        return
    made, here = _compiler(kernel), key.split("-")[1] if key.startswith("triton-") else ""
    named = bool(kernel.info)  # linkers leave it out of programs
    if named and made != here:
        yield f"made by Triton {made or '(none)'}, here is {here or '(none)'}"
    planned = {variant.name: variant for variant in plan.variants}
    packed = {variant.name: variant for variant in kernel.variants}
    holes = {hole.name for hole in kernel.holes}
    # What a tuning table chose may have been all that was kept.
    if kernel.tuning is None and (new := [name for name in planned if name not in packed.keys() | holes]):
        yield f"variants that the sources have and the file has not: {_some(new)}"
    if gone := [name for name in packed if name not in planned]:
        yield f"variants that the sources have no more: {_some(gone)}"
    both = [(planned[name], packed[name]) for name in planned if name in packed]
    other = [v.name for v, found in both if found.hash != variant_hash(plan, v, key)]
    if other and (made == here or not named):
        what = "source, constants or options" if named else "source, constants, options or compiler"
        yield f"variants of other {what}: {_some(other)}"
    yield from _stale_call(plan, kernel, both)


def _left_out(plan: Plan, kernel: KernelListing) -> Iterator[tuple[int, str]]:
    """What the build did without: variants, by number and target name, that did not compile or no table chose."""
    packed = {
        (variant.name, kernel.targets[image.target].name)
        for variant in kernel.variants
        for image in kernel.images_of(variant)
    }
    known = {variant.name for variant in kernel.variants} | {hole.name for hole in kernel.holes}
    for number, variant in enumerate(plan.variants):
        for target in variant.targets:
            built = variant.name in known or kernel.tuning is not None
            if built and (variant.name, target.name) not in packed:
                yield number, target.name


def _stale_call(
    plan: Plan, kernel: KernelListing, variants: Sequence[tuple[Variant, VariantListing]]
) -> Iterator[str]:
    """What a launch reads, and no compiler."""
    numbers = {param.name: number for number, param in enumerate(plan.params)}

    def code(expr: Expr | None) -> bytes:
        return b"" if expr is None else expr.code(numbers)

    params = [
        (p.name, p.kind, p.type, param_flags(p), p.direction, p.least, p.most, code(p.extent))
        for p in plan.params
    ]
    found = [(p.name, p.kind, p.type, p.flags, p.direction, p.least, p.most, p.extent) for p in kernel.params]
    names, named = [name for name, *_ in params], [name for name, *_ in found]
    if names != named:
        yield f"parameters: expected {', '.join(names)}, as the sources say, got {', '.join(named)}"
    elif other := [one[0] for one, two in zip(params, found, strict=True) if one != two]:
        yield f"parameters with another type, flag, range or extent: {_some(other)}"
    for number, what in enumerate(("guard", "preference", "grid")):
        other = []
        for planned, listed in variants:
            grid = tuple(map(code, (*planned.grid, None, None, None)[:3]))
            given = (code(planned.guard), code(planned.prefer), grid)
            if given[number] != (listed.guard, listed.prefer, listed.grid)[number]:
                other.append(listed.name)
        if other:
            yield f"variants with another {what}: {_some(other)}"


def _compiler(kernel: KernelListing) -> str:
    """The release of Triton, as the provenance says; "" for ready-made code."""
    try:
        said = json.loads(kernel.info or "{}")
    except ValueError:
        return ""
    return str(said.get("triton", "")) if isinstance(said, dict) else ""


def _some(names: Iterable[str]) -> str:
    first, *others = names
    return first if not others else f"{first} and {len(others)} more"
