"""The difference between two archives: kernels, variants and images that came, went, or are not what they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from kpack.objfile.listing import ImageListing, KernelListing, PackListing, VariantListing

__all__ = ["Change", "Fact", "compare"]


@dataclass(frozen=True, slots=True)
class Fact:
    """What is not the same: None on the side that has none."""

    name: str
    before: int | str | None
    after: int | str | None


@dataclass(frozen=True, slots=True)
class Change:
    """`kind`: "added", "removed" or "changed"; `variant` and `target` are "" where all of it is meant. `before_bytes`
    and `after_bytes`: of its code in the archive; what several images share counts for each."""

    kind: str
    kernel: str
    variant: str
    target: str
    before_bytes: int
    after_bytes: int
    facts: tuple[Fact, ...] = ()


def compare(before: PackListing, after: PackListing) -> tuple[Change, ...]:
    """From `before` to `after`, by the names of kernels, variants and targets. What came or went as a whole is one
    change."""
    changes: list[Change] = []
    for old, new in _pairs({k.name: k for k in before.kernels}, {k.name: k for k in after.kernels}):
        if old is None or new is None:
            changes.append(_whole_kernel(old, new))
        elif old.hash != new.hash:
            changes += _in_kernel(old, new)
    return tuple(changes)


def _in_kernel(old: KernelListing, new: KernelListing) -> Iterator[Change]:
    facts = tuple(
        Fact(name, mine, its)
        for name, mine, its in (
            ("parameters", _call(old), _call(new)),
            ("guard", old.guard_text, new.guard_text),
            ("grid", old.grid_text, new.grid_text),
        )
        if mine != its
    )
    below = list(_in_variants(old, new))
    if facts or not below:
        # Its hash covers what no table shows, too.
        facts += (Fact("hash", f"{old.hash:016x}", f"{new.hash:016x}"),)
        yield Change("changed", new.name, "", "", _bytes_of(old.images), _bytes_of(new.images), facts)
    yield from below


def _in_variants(old: KernelListing, new: KernelListing) -> Iterator[Change]:
    for mine, its in _pairs({v.name: v for v in old.variants}, {v.name: v for v in new.variants}):
        if mine is None or its is None:
            before = old.images_of(mine) if mine else ()
            after = new.images_of(its) if its else ()
            there = mine or its
            assert there
            facts = (Fact("images", len(before) or None, len(after) or None),)
            kind = "added" if its else "removed"
            yield Change(kind, new.name, there.name, "", _bytes_of(before), _bytes_of(after), facts)
            continue
        below = list(_in_images(old, mine, new, its))
        if mine.hash != its.hash and not below:
            facts = (Fact("hash", f"{mine.hash:016x}", f"{its.hash:016x}"),)
            sizes = _bytes_of(old.images_of(mine)), _bytes_of(new.images_of(its))
            yield Change("changed", new.name, its.name, "", *sizes, facts)
        yield from below


def _in_images(
    old: KernelListing, mine: VariantListing, new: KernelListing, its: VariantListing
) -> Iterator[Change]:
    before = {old.targets[image.target].name: image for image in old.images_of(mine)}
    after = {new.targets[image.target].name: image for image in new.images_of(its)}
    for target in dict.fromkeys([*after, *before]):
        was, is_ = before.get(target), after.get(target)
        kind = "added" if was is None else "removed" if is_ is None else "changed"
        facts = _image_facts(was, is_)
        if facts:
            sizes = was.raw_bytes if was else 0, is_.raw_bytes if is_ else 0
            yield Change(kind, new.name, its.name, target, *sizes, facts)


def _image_facts(was: ImageListing | None, is_: ImageListing | None) -> tuple[Fact, ...]:
    """What differs of two images of one variant for one target."""

    def facts(image: ImageListing | None) -> Mapping[str, int | str | None]:
        if image is None:
            return dict.fromkeys(("warps", "registers", "spills", "shared", "hash"))
        return {
            "warps": image.num_warps,
            "registers": image.registers,
            "spills": image.spill_bytes,
            "shared": image.shared_bytes + image.static_shared_bytes,
            "hash": f"{image.hash:016x}",
        }

    mine, its = facts(was), facts(is_)
    return tuple(Fact(name, mine[name], its[name]) for name in mine if mine[name] != its[name])


def _whole_kernel(old: KernelListing | None, new: KernelListing | None) -> Change:
    there = new or old
    assert there

    def count(of: KernelListing | None) -> tuple[int | None, int | None]:
        return (len(of.variants), len(of.images)) if of else (None, None)

    facts = tuple(
        Fact(name, mine, its)
        for name, mine, its in zip(("variants", "images"), count(old), count(new), strict=True)
    )
    sizes = _bytes_of(old.images) if old else 0, _bytes_of(new.images) if new else 0
    return Change("added" if new else "removed", there.name, "", "", *sizes, facts)


def _bytes_of(images: tuple[ImageListing, ...]) -> int:
    return sum(image.raw_bytes for image in images)


def _call(kernel: KernelListing) -> str:
    return ", ".join(param.name for param in kernel.params)


T = TypeVar("T")


def _pairs(old: Mapping[str, T], new: Mapping[str, T]) -> Iterator[tuple[T | None, T | None]]:
    """Both sides of each name: those of `new` in its order, then what is gone."""
    for name, its in new.items():
        yield old.get(name), its
    for name, mine in old.items():
        if name not in new:
            yield mine, None
