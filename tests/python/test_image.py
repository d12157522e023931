"""Facts read out of cubin, code object and PTX, beside what other tools say, and beside what the compiler says."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import struct
import subprocess
from pathlib import Path

import pytest
import triton
import triton.language as tl

import kpack
from kpack.errors import FormatError
from kpack.image import Compiled, identify, read_facts, read_image
from kpack.image.cubin import cubin_target, read_cubin
from kpack.objfile import abi
from kpack.objfile.elf import read_elf
from kpack.target import parse_target

TARGETS = ("sm_80", "sm_90", "ptx_80", "gfx90a", "gfx1100")
MAJOR, MINOR = map(int, triton.__version__.split(".")[:2])
# What follows the user's arguments: 3.4 had no profile scratch.
SCRATCH = (abi.SLOT_GLOBAL_SCRATCH, abi.SLOT_PROFILE_SCRATCH)[: 1 if (MAJOR, MINOR) == (3, 4) else 2]
POINTER = abi.POINTER


@triton.jit
def scalars_kernel(out_ptr, flag, a, b, c, d, e, f, g, h, n, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    x = (a + b + c + d + n).to(tl.float32) + e + f + g + h.to(tl.float32)
    x = tl.where(flag, x, -x)
    tl.store(out_ptr + cols, x, mask=cols < n)


@triton.jit
def spilling_kernel(out_ptr, in_ptr, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    x = tl.load(in_ptr + cols)
    tl.store(out_ptr + cols, x / tl.sum(x, axis=0))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def scalars(cache):
    kernel = kpack.Kernel(
        scalars_kernel,
        name="scalars",
        signature={
            "out_ptr": "*fp32:16",
            "flag": "i1",
            "a": "i8",
            "b": "u16",
            "c": "i64",
            "d": "u32:1",
            "e": "fp16",
            "f": "fp64",
            "g": "fp32",
            "h": "bf16",
            "n": "i32",
        },
        constexprs={"BLOCK": 128},
        grid=1,
    )
    return {image.target.name: image for image in kpack.build(kernel, TARGETS).images}


@pytest.fixture(scope="module")
def spilling(cache):
    kernel = kpack.Kernel(
        spilling_kernel,
        signature={"out_ptr": "*fp32:16", "in_ptr": "const *fp32:16"},
        constexprs={"BLOCK": 2048},
        options={"num_warps": 1, "maxnreg": 32},
        grid=1,
    )
    return {image.target.name: image for image in kpack.build(kernel, ("sm_80", "sm_90")).images}


@triton.jit
def move_kernel(before, out, source, after):
    out.store([0, 0], source.load([0, 0]) + before + after)


@pytest.fixture(scope="module")
def moves(cache):
    """Descriptors that do not begin at 0, and are not all there is."""
    kernel = kpack.Kernel(
        move_kernel,
        signature={
            "before": "i32",
            "out": "tensordesc<fp32[16, 32]>",
            "source": "tensordesc<fp32[16, 32]>",
            "after": "fp32",
        },
        grid=1,
    )
    return {image.target.name: image for image in kpack.build(kernel, (*TARGETS, "sm_100")).images}


def compiled(image, **changes) -> Compiled:
    """What the compiler said of an image, as read_image() is told."""
    arguments = [(s.index, s.type) for s in image.layout if s.source == abi.SLOT_ARGUMENT]
    arguments += [(each.param, abi.TENSORDESC | each.type) for each in image.tensordescs]
    sources = {slot.source for slot in image.layout}
    flags = tuple(sorted(sources & {abi.SLOT_DESC_NAN_PADDING, abi.SLOT_DESC_ROUND_TF32}))
    given = Compiled(
        target=image.target,
        entry=image.entry,
        code=image.code,
        arguments=tuple(sorted(arguments)),
        hidden=tuple(sorted(sources & set(SCRATCH))),
        tensordescs=image.tensordescs,
        parts=None if abi.SLOT_DESC_MAP in sources else flags,
        num_warps=image.num_warps,
        warp_size=image.warp_size,
        shared_bytes=image.shared_bytes,
        flags=image.flags,
        convention=image.convention,
    )
    return dataclasses.replace(given, **changes)


@pytest.mark.parametrize("target", TARGETS)
def test_every_scalar_lies_where_c_puts_it(scalars, target):
    image = scalars[target]
    # `d` is 1, and gone.
    assert [(slot.index, slot.offset, slot.size) for slot in image.layout[: -len(SCRATCH)]] == [
        (0, 0, 8),
        (1, 8, 1),
        (2, 9, 1),
        (3, 10, 2),
        (4, 16, 8),
        (6, 24, 2),
        (7, 32, 8),
        (8, 40, 4),
        (9, 44, 2),
        (10, 48, 4),
    ]
    hidden = [(slot.source, slot.offset, slot.size) for slot in image.layout[-len(SCRATCH) :]]
    assert hidden == [(source, 56 + 8 * number, 8) for number, source in enumerate(SCRATCH)]
    assert image.param_bytes == 56 + 8 * len(SCRATCH)


def test_the_code_says_what_it_is(scalars):
    assert scalars["ptx_80"].code.endswith(b"}\n\0") or scalars["ptx_80"].code.endswith(b"\0")
    assert scalars["ptx_80"].ptx_version >= 80 and scalars["ptx_80"].least_driver >= 12000
    assert scalars["gfx90a"].elf_flags == 0x53F and scalars["gfx1100"].elf_flags == 0x41
    assert {name: image.warp_size for name, image in scalars.items()} == {
        "sm_80": 32,
        "sm_90": 32,
        "ptx_80": 32,
        "gfx90a": 64,
        "gfx1100": 32,
    }
    assert {image.convention for image in scalars.values()} == {100 * MAJOR + MINOR}


@pytest.mark.parametrize("target", TARGETS)
def test_reading_an_image_again_gives_the_same(scalars, moves, target):
    assert read_image(compiled(scalars[target])) == scalars[target]
    assert read_image(compiled(moves[target])) == moves[target]


@pytest.mark.parametrize(("target", "offsets"), [("sm_90", [0, 48, 240]), ("sm_100", [0, 64, 256])])
def test_maps_lie_where_the_code_says(moves, target, offsets):
    layout = moves[target].layout
    wide = [slot.offset for slot in layout if slot.source in (abi.SLOT_ARGUMENT, abi.SLOT_DESC_MAP)]
    assert wide[:3] == offsets and wide[3] == offsets[2] + 128 + 4 + 4 + 8 + 8


@pytest.mark.parametrize("target", [*TARGETS, "sm_100"])
@pytest.mark.parametrize(
    "change",
    [
        lambda image: {"parts": None if abi.SLOT_DESC_MAP not in {s.source for s in image.layout} else ()},
        lambda image: {"tensordescs": tuple(dataclasses.replace(d, rank=3) for d in image.tensordescs)},
        lambda image: {"tensordescs": image.tensordescs[:1], "arguments": compiled(image).arguments[:2]},
        lambda image: {"arguments": compiled(image).arguments[1:]},
    ],
    ids=["the other form", "another rank", "one descriptor fewer", "no value before"],
)
def test_code_and_compiler_must_say_the_same_of_descriptors(moves, target, change):
    with pytest.raises(FormatError, match=r"parameters \(offset, size\): expected .* by the signature, got"):
        read_image(compiled(moves[target], **change(moves[target])))


def test_a_map_that_lies_elsewhere_in_the_code_is_refused(moves):
    """The first map's place is the code's word; that of all else follows from it."""
    image = moves["sm_90"]
    second = struct.pack("<IHHI", 0, 6, 240, 128 << 18)[4:8]
    at = image.code.index(second)
    moved = image.code[: at + 2] + struct.pack("<H", 256) + image.code[at + 4 :]
    with pytest.raises(FormatError, match=r"\(240, 128\).* by the signature, got .*\(256, 128\)"):
        read_image(compiled(image, code=moved))


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_resources_are_those_that_cuobjdump_reports(scalars, spilling, tmp_path, target):
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        pytest.skip("no cuobjdump in this triton")
    for image in (scalars[target], spilling[target]):
        file = tmp_path / "image.cubin"
        file.write_bytes(image.code)
        text = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
        said = {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED):(\d+)", text)}
        reserved = 1024 if b".nv.shared.reserved.0" in image.code else 0
        assert image.registers == said["REG"]
        assert image.local_bytes == said["STACK"]
        assert image.static_shared_bytes == max(0, said["SHARED"] - reserved) == 0
        assert image.max_threads == 32 * image.num_warps


def test_spills_are_told_from_the_rest_of_the_frame(scalars, spilling):
    assert scalars["sm_80"].spill_bytes == 0
    assert spilling["sm_80"].spill_bytes == spilling["sm_80"].local_bytes > 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": SCRATCH[:-1]}, ["parameters (offset, size): expected (0, 8)", "by the signature, got (0, 8)"]),
        ({"arguments": ((0, POINTER | abi.FP32), (1, abi.I32))}, ["(8, 4)", "in the code"]),
        ({"num_warps": 8}, ["threads of a block: expected"]),
        ({"warp_size": 16}, ["warp size: expected 16 by the compiler, got"]),
        ({"entry": "other"}, ["other"]),
    ],
)  # fmt: skip
def test_code_and_compiler_must_say_the_same(scalars, target, changes, words):
    with pytest.raises(FormatError) as raised:
        read_image(compiled(scalars[target], **changes))
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("target", TARGETS)
def test_no_damage_goes_past_as_another_error(scalars, target):
    code = scalars[target].code
    for length in range(
        0, len(code) * 9 // 10, 499
    ):  # program headers may lie at the end, and nobody asks them
        with pytest.raises(FormatError):
            read_image(compiled(scalars[target], code=code[:length]))


@pytest.mark.parametrize("target", ["sm_80", "gfx90a"])
def test_a_flipped_byte_of_the_facts_is_refused_or_read(scalars, target):
    image = scalars[target]
    name = b".nv.info" if target == "sm_80" else b"amdhsa.kernels"
    start = image.code.index(name)
    for at in range(start, min(start + 600, len(image.code)), 5):
        code = bytearray(image.code)
        code[at] ^= 0x5A
        with contextlib.suppress(FormatError):
            read_image(compiled(image, code=bytes(code)))


@pytest.mark.parametrize(("target", "other"), [("sm_80", "gfx90a"), ("gfx90a", "sm_80"), ("ptx_80", "sm_80")])
def test_code_of_another_kind_is_refused(scalars, target, other):
    with pytest.raises(FormatError, match="expected"):
        read_image(compiled(scalars[target], code=scalars[other].code))


def test_a_cubin_without_a_symbol_of_its_entry_is_refused():
    code = (Path(__file__).parents[1] / "samples" / "softmax.cubin").read_bytes()
    entry = next(
        s.name.removeprefix(".text.") for s in read_elf(code).sections if s.name.startswith(".text.")
    )
    assert read_cubin(code, entry).registers > 0
    names = read_elf(code).section(".strtab")
    at = code.index(b"\0" + entry.encode() + b"\0", names.offset) + 1
    nameless = code[:at] + b"another" + code[at + 7 :]
    with pytest.raises(FormatError, match=f"{entry}: expected a symbol of this name in the cubin, got none"):
        read_cubin(nameless, entry)


# ---- what code says that it is


@pytest.mark.parametrize("target", TARGETS)
def test_code_says_its_kind_target_and_kernels(scalars, target):
    image = scalars[target]
    contents = identify(image.code)
    assert (contents.target.kind, contents.entries) == (image.target.kind, (image.entry,))
    assert contents.target.suffix == image.target.suffix
    assert read_facts(image.code, image.target.kind, image.entry).target == contents.target


@pytest.mark.parametrize(
    ("flags", "abi_version", "note", "name"),
    [
        (0x500550, 7, "", "sm_80"),
        (0x5A055A, 7, "", "sm_90"),
        (0x5A0D5A, 7, "", "sm_90a"),
        (0x6005004, 8, "", "sm_80"),
        (0x6005A04, 8, "-arch sm_90 ", "sm_90"),
        (0x6005A04, 8, "-v -lineinfo -arch sm_90a ", "sm_90a"),
        (0x6006402, 8, "-arch sm_100 ", "sm_100"),
        (0x6006402, 8, "-arch sm_100f ", "sm_100f"),
        (0x600640A, 8, "-arch sm_100a ", "sm_100a"),
        (0x6006402, 8, "", "sm_100a"),  # nothing says that it runs elsewhere
        (0x6006402, 8, "-arch sm_103f ", "sm_100a"),  # of something that was linked in
    ],
)
def test_a_cubin_says_what_it_is_for_in_flags_or_in_the_note_of_its_tool(
    scalars, flags, abi_version, note, name
):
    """As ptxas 12.8, 12.9 and 13.4 write them: from 13 on, "a" is in the note alone."""
    elf = read_elf(scalars["sm_80"].code)
    (section, *_) = elf.sections
    said = dataclasses.replace(
        section, name=".note.nv.tkinfo", view=memoryview(b"ptxas\0" + note.encode() + b"\0\0")
    )
    made = dataclasses.replace(elf, flags=flags, abi_version=abi_version, sections=(said,))
    assert cubin_target(made).name == name


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        ("sm_80", {"target": "sm_86"}, "expected code for sm_86, got code for sm_80"),
        ("sm_90", {"target": "sm_100f"}, "expected code for sm_100f, got code for sm_90a"),
        ("ptx_80", {"target": "ptx_75"}, "expected code for ptx_75, got code for ptx_80"),
        ("gfx90a", {"target": "gfx942"}, "expected code for gfx942, got code for gfx90a"),
        ("gfx90a", {"target": "gfx90a:xnack-"}, "expected code for gfx90a:xnack-, got code for gfx90a"),
    ],
)
def test_code_for_another_target_is_refused(scalars, target, changes, words):
    with pytest.raises(FormatError, match=words):
        read_image(compiled(scalars[target], target=parse_target(changes["target"])))


def test_a_code_object_for_an_unknown_processor_or_of_an_old_version_is_refused(scalars):
    code = scalars["gfx90a"].code
    for at, value, words in [
        (48, b"\xfe", "expected a known processor in e_flags, got 0xfe"),
        (8, b"\x01", "expected version 4"),
    ]:
        with pytest.raises(FormatError, match=re.escape(words)):
            identify(code[:at] + value + code[at + 1 :])


def test_comments_of_ptx_declare_nothing(scalars):
    text = scalars["ptx_80"].code[:-1].decode()
    entry = scalars["ptx_80"].entry
    commented = text.replace(
        ".visible .entry", f"// .entry other(\n/* .entry {entry}() {{ */\n.visible .entry", 1
    )
    assert identify(commented.encode()).entries == (entry,)
    facts = read_facts(commented.encode() + b"\0", abi.IMAGE_PTX, entry)
    assert facts.params == read_facts(scalars["ptx_80"].code, abi.IMAGE_PTX, entry).params
