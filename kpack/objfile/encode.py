"""A kernel, and a pack, as objects (ELF relocatables): the structs of abi.h laid out in sections, to be linked.

Everything that describes a kernel lies in one section, so that a reference inside it is a constant. Relocations
are left only where a reference leaves it: to the images, which lie apart because they may be gigabytes, and to
the state slot, which is written to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    tuning_symbol,
)
from kpack.objfile import abi, elf
from kpack.objfile.archive import Member
from kpack.objfile.descriptor import Homes, KernelWriter, global_symbol, undefined
from kpack.objfile.host import Host, find_host
from kpack.objfile.relocatable import Section, write_relocatable
from kpack.objfile.section import SectionWriter
from kpack.objfile.store import ImageStore, choose, store_images

if TYPE_CHECKING:
    from kpack.image import Image
    from kpack.spec import Plan

__all__ = ["encode_index", "encode_kernel", "encode_tuning"]

_REACHABLE_BYTES = 1 << 31  # of images, on a host that has no large sections
_STACK_NOTE = Section(".note.GNU-stack", grouped=False)  # absent means "executable stack"


def encode_kernel(
    pack: str,
    plan: Plan,
    images: Mapping[tuple[int, str], Image],
    holes: Sequence[Failure] = (),
    info: str = "{}",
    host: str = "x86_64",
    source_key: str = "",
    tuned: bool = False,
) -> Member:
    """The object of one kernel. `images` by variant index and target name; a variant without any is left out.

    `holes` are variants and targets without an image, and why: a kernel may have nothing else. `info` is JSON for
    tools; `source_key` names the source text, for the hashes of variants. `tuned`: there is an `encode_tuning` beside
    it, without which it does not link.
    """
    machine, pack_name, name = find_host(host), check_pack_name(pack), check_kernel_name(plan.name)
    chosen = choose(plan, images)
    if not chosen and not holes:
        raise PackError(f"{plan.name}: expected at least one image, got none")
    store = store_images(name, chosen)
    if not machine.large and len(store.content) > _REACHABLE_BYTES:
        raise PackError(
            f"{name}: expected at most {_REACHABLE_BYTES} bytes of images on {host}, "
            f"got {len(store.content)}; build fewer targets or variants"
        )
    homes = Homes(f".rodata.kpack.{name}", _images_section(machine, name), f".bss.kpack.{name}")
    writer = KernelWriter(pack_name, name, plan, chosen, store, homes, source_key, tuned)
    writer.write(holes)
    return _kernel_member(machine, pack_name, name, writer, store, homes, info)


def _kernel_member(
    host: Host,
    pack: PackName,
    name: KernelName,
    writer: KernelWriter,
    store: ImageStore,
    homes: Homes,
    info: str,
) -> Member:
    references = tuple(writer.section.references)
    # What is in another member counts by its name: a kernel is the same with whatever table.
    places = {symbol.name: (symbol.section or symbol.name, symbol.offset) for symbol in writer.symbols}
    content = bytes(writer.section.content)
    digest = abi.kernel_digest(
        host.machine, content, store.content, [(at, *places[to]) for at, to in references]
    )
    at = abi.KERNEL.offset("hash")
    content = content[:at] + digest[:8] + content[at + 8 :]
    sections = [
        Section(homes.descriptor, content, 8, elf.SHF_ALLOC, references=references),
        Section(homes.images, store.content, store.align, elf.SHF_ALLOC | host.large),
        Section(homes.state, b"", 64, elf.SHF_ALLOC | elf.SHF_WRITE, zeroed_bytes=abi.STATE_BYTES),
        Section(".kpack.info", info.encode(), 1, elf.SHF_EXCLUDE),
        _STACK_NOTE,
    ]
    data = write_relocatable(host, _group_name(digest), sections, writer.symbols)
    return Member(f"{name}.o", data, (kernel_symbol(pack, name),), name, int.from_bytes(digest[:8], "little"))


def _images_section(host: Host, kernel: str) -> str:
    # bfd and lld move a LARGE section out of the way only under this name.
    return f".lrodata.kpack.{kernel}" if host.large else f".rodata.kpack_image.{kernel}"


def encode_tuning(
    pack: str, kernel: str, kernel_hash: int, entries: Iterable[tuple[int, int]], host: str = "x86_64"
) -> Member:
    """The object of a kernel's baked table: hashes of variants by key, measured on the kernel of that tuning hash.

    A member of its own, which the kernel's names: a plain link takes it with the kernel, and another table makes no
    other kernel of it.
    """
    machine, pack_name, name = find_host(host), check_pack_name(pack), check_kernel_name(kernel)
    listed = sorted(entries)
    section = SectionWriter()
    at = section.reserve(abi.TUNING.size)
    section.put(
        at, abi.TUNING, size=abi.TUNING.size, major=abi.ABI_MAJOR, minor=abi.ABI_MINOR, kernel_hash=kernel_hash,
        entries=section.table(abi.TUNED, [abi.TUNED.pack(key=key, variant=variant) for key, variant in listed]),
    )  # fmt: skip
    content = bytes(section.content)
    digest = abi.tuning_digest(machine.machine, pack_name, name, content)
    home, symbol = abi.tuning_section(name), tuning_symbol(pack_name, name)
    sections = [Section(home, content, 8, elf.SHF_ALLOC), _STACK_NOTE]
    data = write_relocatable(
        machine, _group_name(digest), sections,
        [global_symbol(symbol, home, abi.TUNING.size, elf.STV_HIDDEN)],
    )  # fmt: skip
    return Member(f"{name}.tuning.o", data, (symbol,), name, int.from_bytes(digest[:8], "little"))


def encode_index(pack: str, kernels: Sequence[Member], host: str = "x86_64") -> Member:
    """The index object of a pack: its record for the linker to collect, and its kernels by name."""
    machine, pack_name = find_host(host), check_pack_name(pack)
    listed = sorted((check_kernel_name(kernel.name), kernel.hash) for kernel in kernels)
    digest = abi.pack_digest(machine.machine, pack_name, listed)
    hash64 = int.from_bytes(digest[:8], "little")

    section = SectionWriter()
    at = section.reserve(abi.PACK.size)
    entries = section.reserve(abi.ENTRY.size * len(listed))
    section.put(
        at, abi.PACK, size=abi.PACK.size, major=abi.ABI_MAJOR, minor=abi.ABI_MINOR, hash=hash64,
        name=section.text(pack_name), kernels=(entries, len(listed), abi.ENTRY.size),
        names=section.table(abi.NAME, name_table([name for name, _ in listed])),
    )  # fmt: skip
    for number, (name, _) in enumerate(listed):
        section.put(
            entries + number * abi.ENTRY.size, abi.ENTRY,
            name=section.text(name), kernel=kernel_symbol(pack_name, name),
        )  # fmt: skip

    record = SectionWriter()
    record.reserve(abi.RECORD.size)
    record.put(0, abi.RECORD, pack=pack_symbol(pack_name), major=abi.ABI_MAJOR)

    home = f".rodata.kpack_pack.{pack_name}"
    sections = [
        Section(
            "kpack_packs", bytes(record.content), 8, elf.SHF_ALLOC | elf.SHF_GNU_RETAIN,
            references=tuple(record.references),
        ),
        Section(home, bytes(section.content), 8, elf.SHF_ALLOC, references=tuple(section.references)),
        _STACK_NOTE,
    ]  # fmt: skip
    data = write_relocatable(machine, _group_name(digest), sections, [
        global_symbol(entry_symbol(pack_name), "kpack_packs", abi.RECORD.size, elf.STV_DEFAULT),
        global_symbol(pack_symbol(pack_name), home, abi.PACK.size, elf.STV_HIDDEN),
        *(undefined(kernel_symbol(pack_name, name)) for name, _ in listed),
    ])  # fmt: skip
    symbols = (entry_symbol(pack_name), pack_symbol(pack_name))
    return Member(f"{pack_name}.index.o", data, symbols, pack_name, hash64)


def name_table(names: Sequence[str]) -> list[bytes]:
    """The slots of `kpk_abi_pack.names` for names in the order of their entries."""
    count = 1
    while 2 * count <= 3 * len(names):  # from a third to two thirds full
        count *= 2
    slots = [(0, 0)] * count
    for number, name in enumerate(names):
        value = abi.name_hash(name)
        at = value % count
        while slots[at][1]:
            at = (at + 1) % count
        slots[at] = (value >> 32, number + 1)
    return [abi.NAME.pack(hash=value, entry=entry) for value, entry in slots]


def _group_name(digest: bytes) -> str:
    return f"kpack_content_{digest.hex()}"
