"""The descriptor of a kernel: kpk_abi_kernel and every table it names, written into one section."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpack.errors import Failure, PackError
from kpack.naming import KernelName, PackName, kernel_symbol, tuning_symbol
from kpack.objfile import abi, elf
from kpack.objfile.relocatable import Symbol
from kpack.objfile.section import SectionWriter, code_value
from kpack.objfile.store import Choice, ImageStore

if TYPE_CHECKING:
    from kpack.expr import Expr
    from kpack.image import Image
    from kpack.spec import Param, Plan, Variant
    from kpack.target import Target

__all__ = ["Homes", "KernelWriter", "global_symbol", "param_flags", "undefined", "variant_hash"]


@dataclass(frozen=True, slots=True)
class Homes:
    """The sections of one kernel."""

    descriptor: str
    images: str
    state: str


def global_symbol(name: str, section: str, size: int, visibility: int) -> Symbol:
    return Symbol(name, section, 0, size, binding=elf.STB_GLOBAL, visibility=visibility)


def undefined(name: str) -> Symbol:
    """Hidden, so that it is this link's own or none."""
    return Symbol(name, "", type=elf.STT_NOTYPE, binding=elf.STB_GLOBAL, visibility=elf.STV_HIDDEN)


def _state_symbol(pack: PackName, kernel: KernelName) -> str:
    return f"kpack_state_{pack}_{kernel}"


def variant_hash(plan: Plan, variant: Variant, source_key: str) -> int:
    """Of all that goes into compiling it but the target."""
    facts = (
        variant.name, variant.arguments, plan.overloads[variant.overload].types,
        [code_value(value) for value in variant.constexprs],
        sorted(variant.divisible_16), sorted(variant.equal_1), sorted(variant.null),
        [(name, code_value(value)) for name, value in sorted(variant.options, key=lambda o: o[0])],
    )  # fmt: skip
    return abi.hash64(plan.name.encode(), source_key.encode(), repr(facts).encode())


def param_flags(param: Param) -> int:
    """`abi.PARAM_CONST` and so on."""
    return param.key | (abi.PARAM_CONST if param.const else 0) | (abi.PARAM_NULLABLE if param.nullable else 0)


class KernelWriter:
    """The descriptor section of one kernel: kpk_abi_kernel first, then its tables, then what they share."""

    def __init__(
        self,
        pack: PackName,
        name: KernelName,
        plan: Plan,
        chosen: Sequence[Choice],
        store: ImageStore,
        homes: Homes,
        source_key: str,
        tuned: bool,
    ) -> None:
        self.section = SectionWriter()
        self.symbols: list[Symbol] = [
            global_symbol(kernel_symbol(pack, name), homes.descriptor, abi.KERNEL.size, elf.STV_HIDDEN),
            Symbol(_state_symbol(pack, name), homes.state, 0, abi.STATE_BYTES),
        ]
        self._tuning = tuning_symbol(pack, name) if tuned else None
        if self._tuning:
            self.symbols.append(undefined(self._tuning))
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
            tuning=self._tuning,
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
        self.section.put(
            at, abi.PARAM, name=self.section.text(param.name), kind=param.kind, type=param.type,
            flags=param_flags(param),
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
            at, abi.VARIANT, name=section.text(variant.name), hash=variant_hash(self._plan, variant, self._source_key),
            overload=variant.overload, first_image=first_image, image_count=image_count,
            guard=self._expr(variant.guard), grid=tuple(grid + [0] * (3 - len(grid))),
            prefer=self._expr(variant.prefer),
            divisible_16=_mask(variant.divisible_16), equal_1=_mask(variant.equal_1),
            null=_mask(variant.null),
            requirements=section.table(abi.REQUIREMENT, _requirements(variant)),
            constexprs=section.values(variant.constexprs),
            num_stages=stages if isinstance(stages, int) else 0,
        )  # fmt: skip
        symbol = f"{self._name}.{variant.name}"
        self.symbols.append(Symbol(symbol, self._homes.descriptor, at, abi.VARIANT.size))

    def _write_image(self, at: int, choice: Choice, image: Image) -> None:
        section, target = self.section, image.target.name
        symbol = f"{self._name}.{choice.variant.name}.{target}"
        offset = self._store.offsets[choice.index, target]
        size = len(image.code)
        self.symbols.append(Symbol(symbol, self._homes.images, offset, size))
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
            layout=section.table(abi.SLOT, _slots(image)), tensordescs=section.table(abi.DESC, _tensordescs(image)),
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
            reason=self.section.text(hole.summary),
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


def _tensordescs(image: Image) -> list[bytes]:
    length = abi.DESC.field("box").size // 4
    return [
        abi.DESC.pack(
            param=each.param, rank=each.rank, type=each.type, swizzle=each.swizzle,
            element_bytes=each.element_bytes, flags=each.flags,
            box=(*each.box, *[0] * (length - len(each.box))),
        )
        for each in image.tensordescs
    ]  # fmt: skip


def _slots(image: Image) -> list[bytes]:
    return [
        abi.SLOT.pack(**{field.name: getattr(slot, field.name) for field in abi.SLOT.fields})
        for slot in sorted(image.layout, key=lambda slot: slot.offset)
    ]
