"""Tables baked into archives: which entries are of a kernel as it is built, and which variants no entry chooses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kpack.errors import FormatError, TargetError
from kpack.expr import implies
from kpack.image import Image
from kpack.objfile import abi
from kpack.objfile.descriptor import variant_hash
from kpack.objfile.section import code_value
from kpack.objfile.store import choose
from kpack.spec import Plan, Variant
from kpack.target import Target, images_for, parse_target
from kpack.tuning.key import KeyRule, overload_text, tuning_hash
from kpack.tuning.table import Entry
from kpack.tuning.tables import Key

__all__ = ["Baked", "bake", "unneeded"]

Images = Sequence[tuple[int, Image]]  # by number of the variant


@dataclass(frozen=True, slots=True)
class Baked:
    """The entries that are of a kernel as it is built. `choices`: the hash of a variant by key."""

    choices: Mapping[int, int]
    hash: int
    matches: tuple[tuple[Entry, int], ...]
    """entries, and the number of the variant that each chooses"""
    unused: Mapping[Key, str]
    """why entries are not of it"""


def bake(plan: Plan, images: Images, source_key: str, entries: Iterable[Entry], trimmed: Images) -> Baked:
    """Which of the entries are of this kernel. They were measured on all of its `images`; what is packed is
    `trimmed`, by which keys and hash are made."""
    kernel = _Kernel(plan, images, source_key)
    packed = _Kernel(plan, trimmed, source_key)
    matches: list[tuple[Entry, int]] = []
    unused: dict[Key, str] = {}
    # What a smaller choice of variants does not tell apart any more, the most special entry decides.
    keyed: dict[int, tuple[int, int]] = {}
    for entry in entries:
        try:
            number = kernel.variant_of(entry)
            call = kernel.rules[plan.variants[number].overload].read(entry.call)
        except FormatError as error:
            unused[entry.key] = f"{plan.name}: {error}"
            continue
        matches.append((entry, number))
        key = packed.rules[plan.variants[number].overload].key(entry.device, call)
        if keyed.get(key, (-1, 0))[0] <= call.special:
            keyed[key] = (call.special, number)
    return Baked(
        {key: packed.hashes[number] for key, (_, number) in keyed.items()},
        packed.hash,
        tuple(matches),
        unused,
    )


class _Kernel:
    """A kernel as its tuning sees it, with these images."""

    def __init__(self, plan: Plan, images: Images, source_key: str) -> None:
        self.plan = plan
        by_place = {(number, image.target.name): image for number, image in images}
        self.numbers = {choice.variant.name: choice.index for choice in choose(plan, by_place)}
        packed = [plan.variants[number] for number in self.numbers.values()]
        self.targets = {
            name: tuple(image.target for at, image in images if at == number)
            for name, number in self.numbers.items()
        }
        self.hashes = {
            number: variant_hash(plan, plan.variants[number], source_key) for number in self.numbers.values()
        }
        self.hash = tuning_hash(self.hashes.values())
        self.rules = [
            _rule(plan, number, [variant for variant in packed if variant.overload == number])
            for number in range(len(plan.overloads))
        ]

    def variant_of(self, entry: Entry) -> int:
        """The variant that the entry chooses. Raises FormatError, with the reason, for another kernel's."""
        if entry.hash != self.hash:
            raise FormatError(
                f"expected hash {self.hash:016x}, got {entry.hash:016x}: measured on other variants; tune it again"
            )
        if entry.choice not in self.numbers:
            raise FormatError(f"expected one of its variants, got {entry.choice!r}")
        number = self.numbers[entry.choice]
        overload = self.rules[self.plan.variants[number].overload].overload
        if entry.overload != overload:
            raise FormatError(f"expected overload {overload!r} of {entry.choice}, got {entry.overload!r}")
        device = _device(entry)
        if device is None or not images_for(device, self.targets[entry.choice]):
            names = " ".join(target.name for target in self.targets[entry.choice])
            raise FormatError(f"expected a device that runs {names}, got {entry.device}")
        return number


def _device(entry: Entry) -> Target | None:
    """What a build for the entry's device is for."""
    try:
        return parse_target(entry.device.partition("/")[0])
    except TargetError:
        return None


def _rule(plan: Plan, number: int, variants: Iterable[Variant]) -> KeyRule:
    overload = plan.overloads[number]
    kinds = [param.kind for param in plan.params]
    names = [param.name for param in plan.params if param.kind == abi.PARAM_SELECTED]
    selected = {name: code_value(value) for name, value in zip(names, overload.selected, strict=True)}
    asked: dict[str, frozenset[int]] = {"16": frozenset(), "1": frozenset(), "null": frozenset()}
    for variant in variants:
        for name, params in (("16", variant.divisible_16), ("1", variant.equal_1), ("null", variant.null)):
            asked[name] |= params
    return KeyRule(
        overload=overload_text(overload.types, kinds, selected),
        params=tuple(param.name for param in plan.params),
        keys={
            param.name: bool(param.key & abi.PARAM_KEY_EXACT)
            for param, type_ in zip(plan.params, overload.types, strict=True)
            if param.key and param.kind != abi.PARAM_SELECTED and abi.I1 <= type_ <= abi.U64
        },
        classes={
            name: frozenset(plan.params[at].name for at in params if at < 64)
            for name, params in asked.items()
        },
    )


# ---- what tuned archives do without


def unneeded(plan: Plan, images: Images, matches: Iterable[tuple[Entry, int]]) -> set[tuple[int, str]]:
    """The variants, by number and target name, that no entry for that target chooses and whose calls others take that
    stay. An overload without entries for a target keeps all of its variants there."""
    chosen: dict[tuple[int, str], set[int]] = {}
    also: dict[
        tuple[int, str], set[int]
    ] = {}  # by later devices, which run a target's code and have none of their own
    for entry, number in matches:
        for target in _targets_of(entry, number, images):
            by_whom = chosen if _is_for(target, entry) else also
            by_whom.setdefault((plan.variants[number].overload, target.name), set()).add(number)
    dropped: set[tuple[int, str]] = set()
    for (overload, target_name), wanted in chosen.items():
        here = [
            number
            for number, image in images
            if image.target.name == target_name and plan.variants[number].overload == overload
        ]
        stay = _with_fallbacks(wanted | also.get((overload, target_name), set()), here, plan.variants)
        dropped |= {(number, target_name) for number in here if number not in stay}
    return dropped


def _targets_of(entry: Entry, number: int, images: Images) -> Sequence[Target]:
    """What the variant is compiled for and the entry's device runs."""
    device = _device(entry)
    return images_for(device, [image.target for at, image in images if at == number]) if device else ()


def _is_for(target: Target, entry: Entry) -> bool:
    """Whether the target is the entry's device, rather than an older one whose code it also runs."""
    device = _device(entry)
    if device is None or (target.arch, target.processor) != (device.arch, device.processor):
        return False
    return target.kind != abi.IMAGE_PTX and bool(images_for(device, [target]))


def _with_fallbacks(stay: set[int], here: Sequence[int], variants: Sequence[Variant]) -> set[int]:
    """`stay`, and as few others as all calls of the rest need: those first that take most."""
    if not stay:
        return {*here}

    def left() -> Iterator[int]:
        return (n for n in here if not any(_takes(variants[other], variants[n]) for other in stay))

    while open_ := list(left()):
        stay = stay | {max(open_, key=lambda n: sum(_takes(variants[n], variants[other]) for other in open_))}
    return stay


def _takes(one: Variant, other: Variant) -> bool:
    """Whether every call that `other` may run, `one` may run as well."""
    return (
        one.null == other.null
        and one.equal_1 <= other.equal_1
        and one.divisible_16 <= other.divisible_16
        and implies(other.guard, one.guard)
    )
