"""A kernel, and a pack, as objects: the structs of abi.h laid out in sections, to be linked.

Everything that describes a kernel lies in one section, so that a reference inside it is a constant, computed
here. Relocations are left only where a reference leaves it: to the images, which lie apart because they may
be gigabytes, and to the state slot, which is written to.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpack.errors import Failure, PackError
from kpack.naming import (
    KernelName,
    PackName,
    check_kernel_name,
    check_pack_name,
    entry_symbol,
    kernel_symbol,
    pack_symbol,
)
from kpack.objfile import abi, elf
from kpack.objfile.archive import Member

if TYPE_CHECKING:
    from kpack.expr import Expr
    from kpack.image import Image
    from kpack.spec import Param, Plan, Value, Variant
    from kpack.target import Target

__all__ = ["Member", "encode_index", "encode_kernel"]

# Bytes. hsaco: HIP reads the headers in place and documents no alignment, but clang's offload wrapper always
# gives 4096, so nothing else is tried in the field. cubin and PTX: the driver copies them; 64, a cache line,
# keeps the ELF's own tables aligned.
_IMAGE_ALIGN = {abi.IMAGE_HSACO: 4096, abi.IMAGE_CUBIN: 64, abi.IMAGE_PTX: 64}

_REACHABLE_BYTES = 1 << 31  # of images, on a host that has no large sections

Ref = int | str | None  # an offset in the section, a symbol outside it, or nothing


def encode_kernel(
    pack: str,
    plan: Plan,
    images: Mapping[tuple[int, str], Image],
    holes: Sequence[Failure] = (),
    info: str = "{}",
    host: str = "x86_64",
    source_key: str = "",
) -> Member:
    """The object of one kernel. `images` by variant index and target name; a variant without any is left out.

    `info` is JSON for tools; `source_key` names the source text, for the hashes of variants.
    """
    machine, pack_name, name = elf.find_host(host), check_pack_name(pack), check_kernel_name(plan.name)
    chosen = _choose(plan, images)
    store = _store_images(name, chosen)
    if not machine.large and len(store.content) > _REACHABLE_BYTES:
        raise PackError(
            f"{name}: expected at most {_REACHABLE_BYTES} bytes of images on {host}, "
            f"got {len(store.content)}; build fewer targets or variants"
        )
    homes = _Homes(f".rodata.kpack.{name}", images_section(machine, name), f".bss.kpack.{name}")
    writer = _KernelWriter(pack_name, name, plan, chosen, store, homes, source_key)
    writer.write(holes)
    return _kernel_member(machine, pack_name, name, writer, store, homes, info)


def encode_index(pack: str, kernels: Sequence[Member], host: str = "x86_64") -> Member:
    """The index object of a pack: its record for the linker to collect, and its kernels by name."""
    machine, pack_name = elf.find_host(host), check_pack_name(pack)
    listed = sorted((check_kernel_name(kernel.name), kernel.hash) for kernel in kernels)
    digest = abi.pack_digest(machine.machine, pack_name, listed)
    hash64 = int.from_bytes(digest[:8], "little")

    section = _SectionWriter()
    at = section.reserve(abi.PACK.size)
    entries = section.reserve(abi.ENTRY.size * len(listed))
    section.put(
        at, abi.PACK, size=abi.PACK.size, major=abi.ABI_MAJOR, minor=abi.ABI_MINOR, hash=hash64,
        name=section.text(pack_name), kernels=(entries, len(listed), abi.ENTRY.size),
    )  # fmt: skip
    for number, (name, _) in enumerate(listed):
        section.put(
            entries + number * abi.ENTRY.size, abi.ENTRY,
            name=section.text(name), kernel=kernel_symbol(pack_name, name),
        )  # fmt: skip

    record = _SectionWriter()
    record.reserve(abi.RECORD.size)
    record.put(0, abi.RECORD, pack=pack_symbol(pack_name), major=abi.ABI_MAJOR)

    home = f".rodata.kpack_pack.{pack_name}"
    sections = [
        elf.Section(
            "kpack_packs", bytes(record.content), 8, elf.SHF_ALLOC | elf.SHF_GNU_RETAIN,
            references=tuple(record.references),
        ),
        elf.Section(home, bytes(section.content), 8, elf.SHF_ALLOC, references=tuple(section.references)),
        _STACK_NOTE,
    ]  # fmt: skip
    data = elf.write_relocatable(machine, _group_name(digest), sections, [
        _global(entry_symbol(pack_name), "kpack_packs", abi.RECORD.size, elf.STV_DEFAULT),
        _global(pack_symbol(pack_name), home, abi.PACK.size, elf.STV_HIDDEN),
        *(_undefined(kernel_symbol(pack_name, name)) for name, _ in listed),
    ])  # fmt: skip
    symbols = (entry_symbol(pack_name), pack_symbol(pack_name))
    return Member(f"{pack_name}.index.o", data, symbols, pack_name, hash64)


# ---- what is packed


@dataclass(frozen=True, slots=True)
class _Choice:
    """A variant that goes in: its index in the plan, and its images in the order of its targets."""

    index: int
    variant: Variant
    images: tuple[Image, ...]


def _choose(plan: Plan, images: Mapping[tuple[int, str], Image]) -> tuple[_Choice, ...]:
    wanted = {(i, t.name) for i, variant in enumerate(plan.variants) for t in variant.targets}
    if unknown := sorted(set(images) - wanted):
        raise PackError(f"{plan.name}: expected images of the plan's variants and targets, got {unknown}")
    chosen = []
    for index, variant in enumerate(plan.variants):
        found = tuple(images[index, t.name] for t in variant.targets if (index, t.name) in images)
        if found:
            chosen.append(_Choice(index, variant, found))
    if not chosen:
        raise PackError(f"{plan.name}: expected at least one image, got none")
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class _ImageStore:
    """The image section: its content, and where each image lies in it, by variant index and target name."""

    content: bytes
    align: int
    offsets: Mapping[tuple[int, str], int]


def _store_images(kernel: KernelName, chosen: Sequence[_Choice]) -> _ImageStore:
    """Lay the images out one after another, equal ones once."""
    parts: list[bytes] = []
    end, offsets, seen = 0, {}, {}
    for choice in chosen:
        for image in choice.images:
            if not image.code:
                raise PackError(f"{kernel}.{choice.variant.name}: the image for {image.target.name} is empty")
            key = (image.target.kind, image.code)
            if key not in seen:
                padding = -end % _IMAGE_ALIGN[image.target.kind]
                parts += [bytes(padding), image.code]
                seen[key] = end + padding
                end += padding + len(image.code)
            offsets[choice.index, image.target.name] = seen[key]
    align = max(_IMAGE_ALIGN[image.target.kind] for choice in chosen for image in choice.images)
    return _ImageStore(b"".join(parts), align, offsets)


# ---- laying structs out


class _SectionWriter:
    """One section in the making: records at fixed places, pools of what may be shared behind them."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.references: list[tuple[int, str]] = []
        self._pool: dict[Hashable, int] = {}

    def reserve(self, size: int, align: int = 8) -> int:
        """Room for `size` bytes, zeroed; where it is."""
        self.content += bytes(-len(self.content) % align)
        at = len(self.content)
        self.content += bytes(size)
        return at

    def put(self, at: int, kind: abi.Struct, /, **values: Ref | tuple[Ref, ...]) -> None:
        """Fill a reserved record. Refs and tables are given as what they name, not relative to themselves."""
        cells = {}
        for name, value in values.items():
            field = kind.field(name)
            cells[name] = self._cell(at + field.offset, field.kind, value)
        try:
            self.content[at : at + kind.size] = kind.pack(**cells)
        except struct.error as error:
            raise PackError(f"{kind.name}: expected values that fit, got {values}: {error}") from error

    def _cell(self, here: int, kind: str, value: Ref | tuple[Ref, ...]) -> abi.Cell:
        if kind == "table":
            assert isinstance(value, tuple)
            target, count, stride = value
            assert isinstance(count, int) and isinstance(stride, int)
            return (self._relative(here, target if count else None), count, stride)
        if kind == "ref":
            assert not isinstance(value, tuple)
            return self._relative(here, value)
        return value  # type: ignore[return-value]  # only refs are None or text

    def _relative(self, here: int, target: Ref) -> int:
        if target is None:
            return 0
        if isinstance(target, str):
            self.references.append((here, target))
            return 0
        return target - here

    def shared(self, content: bytes, align: int = 1) -> int | None:
        """Where `content` is, stored once however often it is asked for; None when it is empty."""
        key = (content, align)
        if content and key not in self._pool:
            self._pool[key] = at = self.reserve(len(content), align)
            self.content[at : at + len(content)] = content
        return self._pool.get(key)

    def text(self, text: str) -> int:
        encoded = text.encode()
        if b"\0" in encoded:
            raise PackError(f"text: expected no NUL inside, got {text!r}")
        at = self.shared(encoded + b"\0")
        assert at is not None
        return at

    def optional_text(self, text: str) -> int | None:
        return self.text(text) if text else None

    def table(self, layout: abi.Struct, records: Sequence[bytes]) -> tuple[Ref, ...]:
        """A shared table of records that hold no refs."""
        return (self.shared(b"".join(records), layout.align), len(records), layout.size)

    def values(self, values: Sequence[Value]) -> int | None:
        """A shared array of kpk_value."""
        coded = tuple(_code_value(value) for value in values)
        if coded and coded not in self._pool:
            texts = [self.text(bits) if isinstance(bits, str) else None for _, bits in coded]
            self._pool[coded] = start = self.reserve(abi.VALUE.size * len(coded))
            for number, ((kind, bits), text) in enumerate(zip(coded, texts, strict=True)):
                at = start + number * abi.VALUE.size
                if text is not None:
                    bits = text - (at + abi.VALUE.offset("bits"))
                self.put(at, abi.VALUE, type=kind, bits=bits)
        return self._pool.get(coded)


def _code_value(value: Value) -> tuple[int, int | str]:
    """The type and bits of a kpk_value; text stays text until its place is known."""
    if value is None:
        return abi.NONE, 0
    if isinstance(value, bool):
        return abi.I1, int(value)
    if isinstance(value, int):
        return abi.I64, value
    if isinstance(value, float):
        return abi.FP64, int.from_bytes(struct.pack("<d", value), "little", signed=True)
    if isinstance(value, str):
        return abi.STRING, value
    return abi.DTYPE, _type_code(value.name)


def _type_code(name: str) -> int:
    element = name.removeprefix("*")
    if element not in abi.DTYPES:
        raise PackError(f"type: expected one of {' '.join(abi.DTYPES)}, got {name!r}")
    return abi.DTYPES[element] | (abi.POINTER if name.startswith("*") else 0)


class _KernelWriter:
    """The descriptor section of one kernel: kpk_abi_kernel first, then its tables, then what they share."""

    def __init__(
        self,
        pack: PackName,
        name: KernelName,
        plan: Plan,
        chosen: Sequence[_Choice],
        store: _ImageStore,
        homes: _Homes,
        source_key: str,
    ) -> None:
        self.section = _SectionWriter()
        self.symbols: list[elf.Symbol] = [
            _global(kernel_symbol(pack, name), homes.descriptor, abi.KERNEL.size, elf.STV_HIDDEN),
            elf.Symbol(_state_symbol(pack, name), homes.state, 0, abi.STATE_BYTES),
        ]
        self._pack, self._name, self._plan, self._chosen = pack, name, plan, chosen
        self._store, self._homes, self._source_key = store, homes, source_key
        self._params = {param.name: number for number, param in enumerate(plan.params)}
        self._exprs = bytearray([abi.EXPR_VERSION])
        self._expr_at: dict[bytes, int] = {}
        self._targets: dict[str, int] = {}  # name -> index, of those that have an image or a hole
        self._packed = {choice.variant.name: number for number, choice in enumerate(chosen)}

    def write(self, holes: Sequence[Failure]) -> None:
        plan, section = self._plan, self.section
        targets = self._find_targets(holes)
        at = section.reserve(abi.KERNEL.size)
        # All tables before any pool: a launch reads the front of the section, a message its end.
        params = self._reserve(abi.PARAM, len(plan.params))
        overloads = self._reserve(abi.OVERLOAD, len(plan.overloads))
        variants = self._reserve(abi.VARIANT, len(self._chosen))
        images = self._reserve(abi.IMAGE, sum(len(choice.images) for choice in self._chosen))
        target_table = self._reserve(abi.TARGET, len(targets))
        constexprs = self._reserve(abi.CONSTEXPR, len(plan.constexprs))
        hole_table = self._reserve(abi.HOLE, len(holes))

        for place, param in zip(_places(params), plan.params, strict=True):
            self._write_param(place, param)
        self._write_overloads(overloads)
        self._write_variants(variants, images)
        for place, (target, elf_flags) in zip(_places(target_table), targets, strict=True):
            self._write_target(place, target, elf_flags)
        for place, constexpr in zip(_places(constexprs), plan.constexprs, strict=True):
            section.put(place, abi.CONSTEXPR, name=section.text(constexpr.name), role=constexpr.role)
        for place, hole in zip(_places(hole_table), holes, strict=True):
            self._write_hole(place, hole)

        section.put(
            at, abi.KERNEL, size=abi.KERNEL.size, major=abi.ABI_MAJOR, minor=abi.ABI_MINOR,
            name=section.text(self._name), pack=section.text(self._pack),
            state=_state_symbol(self._pack, self._name), state_bytes=abi.STATE_BYTES,
            expr_bytes=len(self._exprs), exprs=section.shared(bytes(self._exprs)),
            params=params, overloads=overloads, variants=variants, images=images, targets=target_table,
            constexprs=constexprs, holes=hole_table, guard_text=section.optional_text(plan.guard_text),
            grid_text=section.optional_text(plan.grid_text), source=section.optional_text(plan.source),
        )  # fmt: skip

    def _reserve(self, layout: abi.Struct, count: int) -> tuple[int, int, int]:
        return (self.section.reserve(layout.size * count), count, layout.size)

    def _find_targets(self, holes: Sequence[Failure]) -> list[tuple[Target, int]]:
        """The targets that have an image or a hole, in the plan's order, with the e_flags of their images."""
        flags: dict[str, int] = {}
        for choice in self._chosen:
            for image in choice.images:
                known = flags.setdefault(image.target.name, image.elf_flags)
                if known != image.elf_flags:
                    raise PackError(
                        f"{self._name}: expected every image for {image.target.name} to have e_flags "
                        f"{known:#x}, got {image.elf_flags:#x} in {choice.variant.name}"
                    )
        missing = {hole.target for hole in holes}
        planned = {target.name: target for variant in self._plan.variants for target in variant.targets}
        if unknown := sorted(missing - set(planned)):
            raise PackError(
                f"{self._name}: expected holes for {', '.join(planned)}, got {', '.join(unknown)}"
            )
        targets = [(t, flags.get(name, 0)) for name, t in planned.items() if name in flags or name in missing]
        self._targets = {target.name: number for number, (target, _) in enumerate(targets)}
        return targets

    def _expr(self, expr: Expr | None) -> int:
        """Offset of its program in the expression pool; 0 for none."""
        if expr is None:
            return 0
        code = expr.code(self._params)
        if code not in self._expr_at:
            self._expr_at[code] = len(self._exprs)
            self._exprs += code
        return self._expr_at[code]

    def _write_param(self, at: int, param: Param) -> None:
        flags = param.key | (abi.PARAM_CONST if param.const else 0)
        flags |= abi.PARAM_NULLABLE if param.nullable else 0
        self.section.put(
            at, abi.PARAM, name=self.section.text(param.name), kind=param.kind, type=param.type, flags=flags,
            direction=param.direction, extent=self._expr(param.extent), least=param.least, most=param.most,
        )  # fmt: skip

    def _write_overloads(self, table: tuple[int, int, int]) -> None:
        by_overload = [choice.variant.overload for choice in self._chosen]
        if by_overload != sorted(by_overload):
            raise PackError(f"{self._name}: expected variants sorted by overload, got {by_overload}")
        for number, (at, overload) in enumerate(zip(_places(table), self._plan.overloads, strict=True)):
            if len(overload.types) != len(self._plan.params):
                raise PackError(
                    f"{self._name}: overload {number}: expected {len(self._plan.params)} types, "
                    f"got {len(overload.types)}"
                )
            count = by_overload.count(number)
            self.section.put(
                at, abi.OVERLOAD, signature=abi.signature(overload.types),
                types=self.section.shared(bytes(overload.types)),
                selected=self.section.values(overload.selected),
                first_variant=by_overload.index(number) if count else 0, variant_count=count,
            )  # fmt: skip

    def _write_variants(self, variants: tuple[int, int, int], images: tuple[int, int, int]) -> None:
        image_places = list(_places(images))
        written = 0
        for at, choice in zip(_places(variants), self._chosen, strict=True):
            self._write_variant(at, choice.variant, written, len(choice.images))
            for image in choice.images:
                self._write_image(image_places[written], choice, image)
                written += 1

    def _write_variant(self, at: int, variant: Variant, first_image: int, image_count: int) -> None:
        section, grid = self.section, [self._expr(expr) for expr in variant.grid]
        stages = dict(variant.options).get("num_stages")
        section.put(
            at, abi.VARIANT, name=section.text(variant.name), hash=self._variant_hash(variant),
            overload=variant.overload, first_image=first_image, image_count=image_count,
            guard=self._expr(variant.guard), grid=tuple(grid + [0] * (3 - len(grid))),
            divisible_16=_mask(variant.divisible_16), equal_1=_mask(variant.equal_1),
            null=_mask(variant.null),
            requirements=section.table(abi.REQUIREMENT, _requirements(variant)),
            constexprs=section.values(variant.constexprs),
            num_stages=stages if isinstance(stages, int) else 0,
        )  # fmt: skip
        symbol = f"{self._name}.{variant.name}"
        self.symbols.append(elf.Symbol(symbol, self._homes.descriptor, at, abi.VARIANT.size))

    def _variant_hash(self, variant: Variant) -> int:
        facts = (
            variant.name, variant.arguments, self._plan.overloads[variant.overload].types,
            [_code_value(value) for value in variant.constexprs],
            sorted(variant.divisible_16), sorted(variant.equal_1), sorted(variant.null),
            [(name, _code_value(value)) for name, value in sorted(variant.options, key=lambda o: o[0])],
        )  # fmt: skip
        return abi.hash64(self._name.encode(), self._source_key.encode(), repr(facts).encode())

    def _write_image(self, at: int, choice: _Choice, image: Image) -> None:
        section, target = self.section, image.target.name
        symbol = f"{self._name}.{choice.variant.name}.{target}"
        offset = self._store.offsets[choice.index, target]
        size = len(image.code)
        self.symbols.append(elf.Symbol(symbol, self._homes.images, offset, size))
        section.put(
            at, abi.IMAGE, data=symbol, stored_bytes=size, raw_bytes=size, hash=abi.image_hash(image.code),
            entry=section.text(image.entry), symbol=section.text(symbol), target=self._targets[target],
            convention=image.convention, codec=abi.CODEC_RAW, warp_size=image.warp_size,
            num_warps=image.num_warps, flags=image.flags, cluster=tuple(image.cluster),
            shared_bytes=image.shared_bytes, static_shared_bytes=image.static_shared_bytes,
            registers=image.registers, spill_bytes=image.spill_bytes, local_bytes=image.local_bytes,
            max_threads=image.max_threads, param_bytes=image.param_bytes,
            global_scratch_bytes=image.global_scratch_bytes, global_scratch_align=image.global_scratch_align,
            profile_scratch_bytes=image.profile_scratch_bytes,
            profile_scratch_align=image.profile_scratch_align,
            least_driver=image.least_driver, ptx_version=image.ptx_version,
            layout=section.table(abi.SLOT, _slots(image)), tensordescs=(None, 0, abi.DESC.size),
        )  # fmt: skip

    def _write_target(self, at: int, target: Target, elf_flags: int) -> None:
        self.section.put(
            at, abi.TARGET, name=self.section.text(target.name), vendor=target.vendor, kind=target.kind,
            reach=target.reach, arch=target.arch, elf_flags=elf_flags,
            processor=self.section.optional_text(target.processor),
        )  # fmt: skip

    def _write_hole(self, at: int, hole: Failure) -> None:
        self.section.put(
            at, abi.HOLE, variant=self._packed.get(hole.variant, abi.HOLE_NO_VARIANT),
            target=self._targets[hole.target], name=self.section.text(hole.variant),
            reason=self.section.text(hole.reason.partition("\n")[0]),
        )  # fmt: skip


def _places(table: tuple[int, int, int]) -> Iterable[int]:
    start, count, stride = table
    return range(start, start + count * stride, stride)


def _mask(params: frozenset[int]) -> int:
    return sum(1 << param for param in params if param < 64)


def _requirements(variant: Variant) -> list[bytes]:
    """What the masks, 64 bits wide, cannot say."""
    beyond = sorted(
        (param, kind, value)
        for kind, params, value in (
            (abi.REQUIRE_DIVISIBLE, variant.divisible_16, 16),
            (abi.REQUIRE_EQUAL, variant.equal_1, 1),
            (abi.REQUIRE_NULL, variant.null, 0),
        )
        for param in params
        if param >= 64
    )
    return [abi.REQUIREMENT.pack(param=param, kind=kind, value=value) for param, kind, value in beyond]


def _slots(image: Image) -> list[bytes]:
    return [
        abi.SLOT.pack(**{field.name: getattr(slot, field.name) for field in abi.SLOT.fields})
        for slot in sorted(image.layout, key=lambda slot: slot.offset)
    ]


# ---- the object

_STACK_NOTE = elf.Section(".note.GNU-stack", grouped=False)  # absent means "executable stack"


@dataclass(frozen=True, slots=True)
class _Homes:
    """The sections of one kernel."""

    descriptor: str
    images: str
    state: str


def images_section(host: elf.Host, kernel: str) -> str:
    # bfd and lld move a LARGE section out of the way only under this name.
    return f".lrodata.kpack.{kernel}" if host.large else f".rodata.kpack_image.{kernel}"


def _global(name: str, section: str, size: int, visibility: int) -> elf.Symbol:
    return elf.Symbol(name, section, 0, size, binding=elf.STB_GLOBAL, visibility=visibility)


def _undefined(name: str) -> elf.Symbol:
    """Hidden, so that it is this link's own kernel or none."""
    return elf.Symbol(name, "", type=elf.STT_NOTYPE, binding=elf.STB_GLOBAL, visibility=elf.STV_HIDDEN)


def _state_symbol(pack: PackName, kernel: KernelName) -> str:
    return f"kpack_state_{pack}_{kernel}"


def _kernel_member(
    host: elf.Host,
    pack: PackName,
    name: KernelName,
    writer: _KernelWriter,
    store: _ImageStore,
    homes: _Homes,
    info: str,
) -> Member:
    references = tuple(writer.section.references)
    places = {symbol.name: (symbol.section, symbol.offset) for symbol in writer.symbols}
    content = bytes(writer.section.content)
    digest = abi.kernel_digest(
        host.machine, content, store.content, [(at, *places[to]) for at, to in references]
    )
    at = abi.KERNEL.offset("hash")
    content = content[:at] + digest[:8] + content[at + 8 :]
    sections = [
        elf.Section(homes.descriptor, content, 8, elf.SHF_ALLOC, references=references),
        elf.Section(homes.images, store.content, store.align, elf.SHF_ALLOC | host.large),
        elf.Section(homes.state, b"", 64, elf.SHF_ALLOC | elf.SHF_WRITE, zeroed_bytes=abi.STATE_BYTES),
        elf.Section(".kpack.info", info.encode(), 1, elf.SHF_EXCLUDE),
        _STACK_NOTE,
    ]
    data = elf.write_relocatable(host, _group_name(digest), sections, writer.symbols)
    return Member(f"{name}.o", data, (kernel_symbol(pack, name),), name, int.from_bytes(digest[:8], "little"))


def _group_name(digest: bytes) -> str:
    return f"kpack_content_{digest.hex()}"
