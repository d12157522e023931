"""Tables baked into archives: the runtime takes what they say, and archives do without what they never say."""

from __future__ import annotations

import os
import random
import re
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import kpack
from kpack.build import Pack
from kpack.join import join
from kpack.objfile.listing import KernelListing
from kpack.objfile.reading import read_pack
from kpack.tuning.key import bucket, tuning_hash
from kpack.tuning.table import Entry, merge_entries

if find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1":
    pytest.skip("kpack was installed without Python's headers (python3-dev)", allow_module_level=True)

from kpack.link import as_shared_object
from kpack.runtime import LoadedKernel, Pointer, load, set_tuning, use_dry_driver

KERNELS = """
import kpack, triton, triton.language as tl

@triton.jit
def copy_kernel(out_ptr, in_ptr, add_ptr, n, MODE: tl.constexpr, SCALE: tl.constexpr, EXACT: tl.constexpr,
                TYPE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(in_ptr + at, mask=at < n).to(TYPE)
    if add_ptr is not None:
        x += tl.load(add_ptr + at, mask=at < n)
    tl.store(out_ptr + at, (x * SCALE).to(out_ptr.dtype.element_ty), mask=at < n)

copy = kpack.Kernel(
    copy_kernel,
    name="copy",
    signature={"out_ptr": "*T:16?", "in_ptr": "const *T:16?", "add_ptr": "const *T:none?", "n": "i64"},
    types={"T": ["fp16", "fp32"]},
    constexprs={"MODE": ["plain", "it's \\\\"], "SCALE": [0.1], "EXACT": [True], "TYPE": [tl.float32]},
    configs=[{"BLOCK": 128, "num_warps": 1}, {"BLOCK": 256}, {"BLOCK": 1024}],
    guard=lambda n, BLOCK: n <= 64 * BLOCK,
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
"""
MODES = ("plain", "it's \\")
DEVICE = "sm_80/0"  # a dry one has no multiprocessors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bake")
    (folder / "copy.py").write_text(KERNELS)
    build(folder)
    return folder


@pytest.fixture(autouse=True)
def _dry() -> Iterator[None]:
    use_dry_driver("sm_80")
    set_tuning("use")
    yield
    set_tuning(None)
    use_dry_driver(None)


def build(folder: Path, *, arch: object = "sm_80", **options: Any) -> tuple[Pack, KernelListing]:
    pack = kpack.build(folder / "copy.py", arch=arch, **options)  # type: ignore[arg-type]
    return pack, read_pack(pack.write(folder / "libtk.a")).kernels[0]


def loaded(folder: Path) -> LoadedKernel:
    with as_shared_object(folder / "libtk.a") as library:
        return load(library)["copy"]


def hash_of(kernel: KernelListing) -> int:
    return tuning_hash(variant.hash for variant in kernel.variants)


class Call:
    """A random call, and the texts that the runtime has for it."""

    def __init__(self, source: random.Random) -> None:
        self.dtype = source.choice(("fp16", "fp32"))
        self.mode = source.choice(MODES)
        self.aligned = [source.random() < 0.7 for _ in range(2)]
        self.null = source.random() < 0.3
        self.n = source.choice([1, 16, 17, 100, 1000, 4096, 8192, 9000, 16384, 20000, 65536])

    @property
    def arguments(self) -> list[object]:
        out, in_ = (Pointer(self.dtype, 0x10000 + (0 if aligned else 8)) for aligned in self.aligned)
        add = None if self.null else Pointer(self.dtype, 0x20000)
        return [out, in_, add, self.n, self.mode, 0.1, True, kpack.DType("fp32")]

    @property
    def overload(self) -> str:
        text = self.mode.replace("\\", "\\\\").replace("'", "\\'")
        selected = f"MODE='{text}',SCALE=0.10000000000000001,EXACT=True,TYPE=fp32"
        return f"*{self.dtype},*{self.dtype},*{self.dtype},i64;{selected}"

    @property
    def call(self) -> str:
        names = [name for name, aligned in zip(("out_ptr", "in_ptr"), self.aligned, strict=True) if aligned]
        text = f"n={bucket(self.n)}" + (f" 16={','.join(names)}" if names else "")
        return text + (" null=add_ptr" if self.null else "")

    def eligible(self, kernel: KernelListing) -> list[str]:
        word = "MODEplain." if self.mode == "plain" else "MODEit_s"
        return [
            variant.name
            for variant in kernel.variants
            if variant.name.startswith(self.dtype)
            and word in variant.name
            and self.n <= 64 * int(str(variant.constexprs[-1]))
            and (variant.divisible_16 == 0 or all(self.aligned))
            and bool(variant.null) == self.null
        ]


def entries(kernel: KernelListing, seed: int, count: int) -> dict[tuple[str, str], tuple[Call, Entry]]:
    """Choices that are not what runs without tuning, wherever there is another."""
    source = random.Random(seed)
    found = {}
    for call in (Call(source) for _ in range(count)):
        names = call.eligible(kernel)
        if not names:
            continue
        choice = source.choice(names[1:] or names)
        entry = Entry("copy", hash_of(kernel), DEVICE, call.overload, call.call, choice, 1.0, 2.0)
        found[call.overload, call.call] = (call, entry)
    return found


def runs(kernel: LoadedKernel, call: Call) -> tuple[str, str]:
    """The variant, and what the second line says of tuning."""
    first, second = kernel.explain(*call.arguments, arch="sm_80").splitlines()[:2]
    found = re.search(r": runs (\S+),", first)
    assert found, first
    return found[1], second


def test_the_runtime_takes_what_was_baked(folder: Path) -> None:
    _, kernel = build(folder)
    made = entries(kernel, seed=5, count=150)
    assert len(made) > 60
    merge_entries(folder / "t.csv", [entry for _, entry in made.values()])
    pack, tuned = build(folder, tuned=folder / "t.csv")
    assert pack.tuned_entries == len(made)
    assert tuned.tuning is not None
    assert tuned.tuning.hash == hash_of(kernel) == hash_of(tuned)
    copy = loaded(folder)
    for call, entry in made.values():
        assert runs(copy, call) == (
            entry.choice,
            f"tuned, baked into the archive, for {call.call} on {DEVICE}",
        )


def test_a_call_of_another_key_runs_as_without_tuning(folder: Path) -> None:
    _, kernel = build(folder)
    copy = loaded(folder)
    fixed = {}
    made = entries(kernel, seed=6, count=40)
    calls = [call for call in (Call(random.Random(n)) for n in range(60)) if call.eligible(kernel)]
    others = [call for call in calls if (call.overload, call.call) not in made]
    assert len(others) > 10
    for number, call in enumerate(others):
        fixed[number] = runs(copy, call)[0]
    merge_entries(folder / "others.csv", [entry for _, entry in made.values()])
    build(folder, tuned=[folder / "others.csv"])
    copy = loaded(folder)
    assert {number: runs(copy, call)[0] for number, call in enumerate(others)} == fixed


def test_what_is_not_of_the_archive_is_left_out_with_its_reason(folder: Path, tmp_path: Path) -> None:
    _, kernel = build(folder)
    call = next(
        call for call in (Call(random.Random(n)) for n in range(60)) if len(call.eligible(kernel)) > 1
    )
    good = Entry("copy", hash_of(kernel), DEVICE, call.overload, call.call, call.eligible(kernel)[1], 1, 2)
    merge_entries(
        tmp_path / "t.csv",
        [
            good,
            replace(good, kernel="paste"),
            replace(good, kernel="op:copies", choice="copy/x"),
            replace(good, hash=7, call="n=20"),
            replace(good, hash=7, call="n=24"),
            replace(good, device="gfx90a:sramecc+:xnack-/104"),
            replace(good, device="sm_90/132"),
            replace(good, choice="fp64.BLOCK1", call="n=28"),
            replace(good, overload="*fp64"),
            replace(good, call="m=4"),
        ],
    )
    with (tmp_path / "t.csv").open("a") as table:
        table.write("garbage\n")
    with pytest.warns(UserWarning, match="tuned: expected entries of what is built") as caught:
        pack, _ = build(folder, tuned=tmp_path / "t.csv")
    assert pack.tuned_entries == 1
    said = str(caught[0].message)
    for part in (
        f"\n  {tmp_path / 't.csv'}: used 1 of 10 entries:\n",
        "paste: expected copy (1 entry)",
        "op:copies: an op's choices are read from the file (1 entry)",
        f"copy: expected hash {hash_of(kernel):016x}, got 0000000000000007: "
        "measured on other variants; tune it again (2 entries)",
        "copy: expected a device that runs sm_80, got gfx90a:sramecc+:xnack-/104 (1 entry)",
        "copy: expected a device that runs sm_80, got sm_90/132 (1 entry)",
        "copy: expected one of its variants, got 'fp64.BLOCK1' (1 entry)",
        f"copy: expected overload {call.overload!r} of {good.choice}, got '*fp64' (1 entry)",
        "copy: expected n=integer 16=in_ptr,out_ptr null=add_ptr, got 'm=4' in 'm=4' (1 entry)",
        f"{tmp_path / 't.csv'}:13: expected 9 values, got fewer",
    ):
        assert part in said


def test_each_file_is_told_apart_and_one_that_does_all_it_says_is_not_named(
    folder: Path, tmp_path: Path
) -> None:
    _, kernel = build(folder)
    call, other = [entry for _, entry in entries(kernel, seed=5, count=20).values()][:2]
    files = {
        "good.csv": [call, other],
        "stale.csv": [replace(call, hash=7, device="sm_90/132"), replace(other, device="sm_86/0")],
        "amd.csv": [replace(call, device="gfx942/304"), replace(other, device="gfx942/304")],
        "old.csv": [replace(call, device="sm_87/0")],
        "new.csv": [replace(call, device="sm_87/0", median_us=3)],
    }
    for name, made in files.items():
        merge_entries(tmp_path / name, made)
    with pytest.warns(UserWarning, match="tuned: ") as caught:
        pack, _ = build(folder, tuned=[tmp_path / name for name in files])
    assert pack.tuned_entries == 4
    assert str(caught[0].message).splitlines() == [
        "tuned: expected entries of what is built, got others, which are not baked in:",
        f"  {tmp_path / 'stale.csv'}: used 1 of 2 entries:",
        f"    copy: expected hash {hash_of(kernel):016x}, got 0000000000000007: measured on other variants; "
        "tune it again (1 entry)",
        f"  {tmp_path / 'amd.csv'}: used 0 of 2 entries:",
        "    copy: expected a device that runs sm_80, got gfx942/304 (2 entries)",
        f"  {tmp_path / 'old.csv'}: used 0 of 1 entry:",
        "    replaced by a later entry of the same key (1 entry)",
    ]


def test_that_some_entries_are_replaced_is_no_warning(folder: Path, tmp_path: Path) -> None:
    _, kernel = build(folder)
    made = [entry for _, entry in entries(kernel, seed=5, count=20).values()][:2]
    merge_entries(tmp_path / "old.csv", made)
    merge_entries(tmp_path / "new.csv", made[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack, _ = build(folder, tuned=[tmp_path / "old.csv", tmp_path / "new.csv"])
    assert pack.tuned_entries == 2


def test_of_a_part_what_is_of_other_kernels_is_told_by_the_join(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text(KERNELS.replace('name="copy"', 'name="more"'))
    parts = [tmp_path / "copy.a", tmp_path / "more.a"]
    _, kernel = build(folder)
    good = next(entry for _, entry in entries(kernel, seed=5, count=20).values())
    made = [
        good,
        replace(good, device="gfx942/304"),
        replace(good, kernel="more"),
        replace(good, kernel="nil"),
    ]
    merge_entries(tmp_path / "t.csv", made)
    with (tmp_path / "t.csv").open("a") as table:
        table.write("garbage\n")
    said = []
    for source, part in zip((folder / "copy.py", tmp_path / "more.py"), parts, strict=True):
        with pytest.warns(UserWarning, match="tuned: expected entries of what is built") as caught:
            kpack.build(source, "sm_80", name="tk", tuned=tmp_path / "t.csv", part=True).write(part)
        said += [str(each.message).splitlines()[1:] for each in caught]
    assert said[0] == [
        f"  {tmp_path / 't.csv'}: used 1 of 2 entries:",
        "    copy: expected a device that runs sm_80, got gfx942/304 (1 entry)",
    ]
    assert said[1][0] == f"  {tmp_path / 't.csv'}: used 0 of 1 entry:"
    with pytest.warns(
        UserWarning, match="tuned: expected entries of kernels of pack tk, got others"
    ) as caught:
        join(parts, tmp_path / "libtk.a", [tmp_path / "t.csv"])
    assert str(caught[0].message).splitlines()[1:] == [
        f"  {tmp_path / 't.csv'}: 1 of 4 entries left out:",
        "    nil: expected copy, more (1 entry)",
        f"    {tmp_path / 't.csv'}:7: expected 9 values, got fewer",
    ]


def test_a_table_that_cannot_be_read_leaves_the_archive_as_it_was(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "libtk.a"
    output.write_bytes(b"as it was")
    with pytest.raises(kpack.FormatError, match=r"t\.csv: expected a tuning table"):
        join([folder / "libtk.a"], output, [tmp_path / "t.csv"])
    assert output.read_bytes() == b"as it was"


def test_an_entry_of_a_later_device_of_the_same_major_is_taken(folder: Path, tmp_path: Path) -> None:
    _, kernel = build(folder)
    call, entry = next(iter(entries(kernel, seed=5, count=20).values()))
    merge_entries(tmp_path / "t.csv", [replace(entry, device="sm_86/0")])
    pack, _ = build(folder, tuned=tmp_path / "t.csv")
    assert pack.tuned_entries == 1
    copy = loaded(folder)
    assert f"tuned, baked into the archive, for {call.call} on sm_86/0" in copy.explain(
        *call.arguments, arch="sm_86"
    )
    assert "not tuned" in copy.explain(*call.arguments, arch="sm_80")


def test_an_arch_with_its_multiprocessors_shows_what_was_tuned_there(folder: Path, tmp_path: Path) -> None:
    _, kernel = build(folder)
    call, entry = next(iter(entries(kernel, seed=5, count=20).values()))
    merge_entries(tmp_path / "t.csv", [replace(entry, device="sm_80/108")])
    build(folder, tuned=tmp_path / "t.csv")
    copy = loaded(folder)
    assert f"tuned, baked into the archive, for {call.call} on sm_80/108" in copy.explain(
        *call.arguments, arch="sm_80/108"
    )
    for other in ("sm_80", "sm_80/107"):
        assert "not tuned" in copy.explain(*call.arguments, arch=other)


@pytest.mark.parametrize("arch", ["sm_80/", "sm_80/0", "sm_80/-1", "sm_80/12345", "sm_80/1x", "/108"])
def test_an_arch_with_no_number_of_multiprocessors_is_refused(folder: Path, arch: str) -> None:
    build(folder)
    expected = f"expected an arch such as sm_90 or gfx90a, got '{arch}'"
    assert expected in loaded(folder).explain(1, arch=arch)


# ---- doing without


def test_what_no_entry_chooses_is_dropped_and_no_call_is_lost(folder: Path, tmp_path: Path) -> None:
    before, kernel = build(folder)
    copy = loaded(folder)
    made = {
        key: each for key, each in entries(kernel, seed=9, count=400).items() if "BLOCK128" in each[1].choice
    }
    merge_entries(tmp_path / "t.csv", [entry for _, entry in made.values()])
    pack, trimmed = build(folder, tuned=tmp_path / "t.csv", keep="tuned")
    chosen = {entry.choice for _, entry in made.values()}
    names = {variant.name for variant in trimmed.variants}
    # Beside what is chosen the most general of what is left stays: it takes all that the largest block takes.
    assert chosen <= names < {variant.name for variant in kernel.variants}
    assert not any("BLOCK256" in name for name in names)
    assert pack.image_bytes < pack.untrimmed_bytes == before.image_bytes == before.untrimmed_bytes
    assert pack.dropped_images == len(before.images) - len(pack.images) > 0
    assert sum(image.raw_bytes for image in trimmed.images) >= pack.image_bytes
    assert trimmed.tuning is not None
    assert trimmed.tuning.hash == hash_of(trimmed) != hash_of(kernel)

    smaller = loaded(folder)
    source = random.Random(1)
    supported = 0
    for call in (Call(source) for _ in range(300)):
        was = copy.supports(*call.arguments, arch="sm_80")
        assert smaller.supports(*call.arguments, arch="sm_80") == was
        supported += was
    assert 100 < supported <= 300
    for call, entry in made.values():
        name, said = runs(smaller, call)
        assert said.startswith("tuned, baked into the archive")
        if all(call.aligned):  # else several entries may have become one
            assert name == entry.choice


def test_what_a_later_device_chooses_stays_in_the_code_that_it_runs(folder: Path, tmp_path: Path) -> None:
    _, kernel = build(folder)
    call, entry = next(iter(entries(kernel, seed=5, count=20).values()))
    *_, small, large = call.eligible(kernel)
    assert ("BLOCK256" in small, "BLOCK1024" in large) == (
        True,
        True,
    )  # which takes all calls of the small one
    own, later = replace(entry, choice=large), replace(entry, device="sm_86/84", choice=small)
    merge_entries(tmp_path / "own.csv", [own])
    merge_entries(tmp_path / "both.csv", [own, later])
    _, without = build(folder, tuned=tmp_path / "own.csv", keep="tuned")
    assert small not in {variant.name for variant in without.variants}
    pack, kept = build(folder, tuned=tmp_path / "both.csv", keep="tuned")
    assert pack.tuned_entries == 2
    assert {small, large} <= {variant.name for variant in kept.variants}


def test_overloads_and_targets_that_no_entry_is_of_stay_whole(folder: Path, tmp_path: Path) -> None:
    _, kernel = build(folder, arch=["sm_80", "sm_90"])
    made = [
        entry for call, entry in entries(kernel, seed=3, count=200).values()
        if call.dtype == "fp16" and call.mode == "plain"
    ]  # fmt: skip
    merge_entries(tmp_path / "t.csv", made)
    _, trimmed = build(folder, arch=["sm_80", "sm_90"], tuned=tmp_path / "t.csv", keep="tuned")

    def images(of: KernelListing, target: str, word: str) -> int:
        return sum(of.targets[image.target].name == target and word in image.symbol for image in of.images)

    for target, word in (("sm_90", ""), ("sm_80", "copy.fp32."), ("sm_80", "it_s")):
        assert images(trimmed, target, word) == images(kernel, target, word) > 0
    assert images(trimmed, "sm_80", "copy.fp16.MODEplain") < images(kernel, "sm_80", "copy.fp16.MODEplain")


def test_without_entries_nothing_is_dropped_and_nothing_is_baked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# kpack tuning table 1\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack, kernel = build(folder, tuned=[tmp_path / "t.csv"], keep="tuned")
    assert (pack.tuned_entries, pack.dropped_images, kernel.tuning) == (0, 0, None)


def test_the_same_table_makes_the_same_bytes(folder: Path) -> None:
    _, kernel = build(folder)
    merge_entries(folder / "same.csv", [entry for _, entry in entries(kernel, 2, 30).values()])
    archives = []
    for _ in range(2):
        build(folder, tuned=folder / "same.csv", keep="tuned")
        archives.append((folder / "libtk.a").read_bytes())
    assert archives[0] == archives[1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"keep": "some"}, "keep: expected 'all' or 'tuned', got 'some'"),
        ({"tuned": "/nowhere.csv"}, "/nowhere.csv: expected a tuning table, got No such file or directory"),
    ],
)
def test_a_wrong_option_is_refused(folder: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(kpack.KpackError, match=re.escape(reason)):
        build(folder, **options)


def test_the_command_line_says_what_was_baked_and_dropped(folder: Path, tmp_path: Path) -> None:
    _, kernel = build(folder)
    made = [entry for _, entry in entries(kernel, seed=4, count=40).values()]
    merge_entries(tmp_path / "t.csv", [*made, Entry("x", 1, "d", "o", "n=1", "c", 1, 2)])
    command = ["kpack", "build", folder / "copy.py", "--arch", "sm_80", "-o", tmp_path / "libtk.a"]
    done = subprocess.run(
        [*command, "--tuned", tmp_path / "t.csv", "--keep", "tuned"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(
        r"tuned: \d+ choices baked in; \d+ images that none of them takes dropped: code was \S+ kB, is \S+ kB",
        done.stdout,
    )
    assert "kpack: warning: tuned: expected entries of what is built, got others" in done.stderr
    assert "UserWarning" not in done.stderr
    tuned = ["--tuned", tmp_path / "t.csv"]
    part = subprocess.run([*command, *tuned, "--part"], capture_output=True, text=True, check=True)
    assert part.stderr == ""
    joined = ["kpack", "join", tmp_path / "libtk.a", *tuned, "-o", tmp_path / "libtk.a"]
    done = subprocess.run(joined, capture_output=True, text=True, check=True)
    assert "kpack: warning: tuned: expected entries of kernels of pack tk, got others" in done.stderr
    listed = subprocess.run(["kpack", "ls", tmp_path / "libtk.a"], capture_output=True, text=True, check=True)
    assert re.search(r"tuned for \d+ keys", listed.stdout)
