"""Reports: occupancy against the vendors' own calculators, treemaps, differences, and the command."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packs import pack_members
from packs_for_reports import single, write
from tools import need, run

from kpack.errors import FormatError
from kpack.objfile.archive import write_archive
from kpack.objfile.listing import PackListing
from kpack.objfile.reading import read_pack
from kpack.report.compare import Fact, compare
from kpack.report.content import content
from kpack.report.occupancy import Needs, Occupancy, occupancy_of
from kpack.report.treemap import Box, squarify
from kpack.report.tuning import TuningResults, read_results
from kpack.target import KNOWN, PROCESSORS, parse_target
from kpack.tuning.key import tuning_hash
from kpack.tuning.table import Entry, merge_entries

SAMPLES = Path(__file__).parents[1] / "samples"


# ---- occupancy, CUDA: NVIDIA's cuda_occupancy.h, which is part of Triton

# Threads of a multiprocessor, its shared memory and the most of one block, KiB: "Technical Specifications per Compute
# Capability" of the CUDA C++ Programming Guide. A calculator is told these.
DEVICES = {
    70: (2048, 96, 96), 72: (2048, 96, 96), 75: (1024, 64, 64), 80: (2048, 164, 163), 86: (1536, 100, 99),
    87: (1536, 164, 163), 89: (1536, 100, 99), 90: (2048, 228, 227), 100: (2048, 228, 227), 103: (2048, 228, 227),
    110: (1536, 228, 227), 120: (1536, 100, 99), 121: (1536, 100, 99),
}  # fmt: skip
NEW = {72, 103, 110, 121}  # which the header of an older Triton may not know

CALCULATOR = """
#include <climits>
#include <cstdio>
#include "cuda_occupancy.h"

// A line of arch, threads, shared KiB, shared KiB of a block, warps, registers and shared bytes: blocks, or -1.
int main() {
  int arch, threads, warps, registers;
  size_t shared, most, bytes;
  while (std::scanf("%d %d %zu %zu %d %d %zu", &arch, &threads, &shared, &most, &warps, &registers, &bytes) == 7) {
    cudaOccDeviceProp device;
    device.computeMajor = arch / 10, device.computeMinor = arch % 10;
    device.maxThreadsPerBlock = 1024, device.maxThreadsPerMultiprocessor = threads;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536, device.warpSize = 32, device.numSms = 1;
    device.sharedMemPerBlock = 48 * 1024, device.sharedMemPerMultiprocessor = shared * 1024;
    device.sharedMemPerBlockOptin = most * 1024, device.reservedSharedMemPerBlock = arch >= 80 ? 1024 : 0;
    cudaOccFuncAttributes kernel = {};
    kernel.maxThreadsPerBlock = INT_MAX, kernel.numRegs = registers;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN, kernel.maxDynamicSharedSizeBytes = bytes;
    cudaOccDeviceState state;
    state.carveoutConfig = 100;
    cudaOccResult found;
    const auto status = cudaOccMaxActiveBlocksPerMultiprocessor(&found, &device, &kernel, &state, warps * 32, bytes);
    std::printf("%d\\n", status == CUDA_OCC_SUCCESS ? found.activeBlocksPerMultiprocessor : -1);
  }
}
"""


@pytest.fixture(scope="module")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("g++")
    spec = importlib.util.find_spec("triton")
    assert spec and spec.submodule_search_locations
    include = Path(spec.submodule_search_locations[0]) / "backends" / "nvidia" / "include"
    assert (include / "cuda_occupancy.h").exists()
    source = tmp_path_factory.mktemp("occupancy") / "calculator.cc"
    source.write_text(CALCULATOR)
    run("g++", "-O1", f"-I{include}", source, "-o", source.with_suffix(""))
    return source.with_suffix("")


def blocks(found: Occupancy | str) -> int:
    assert isinstance(found, Occupancy), found
    return found.blocks


@pytest.mark.parametrize("arch", DEVICES)
def test_cuda_occupancy_is_nvidias(calculator: Path, arch: int) -> None:
    numbers = random.Random(arch)
    threads, shared, most = DEVICES[arch]
    asked = [
        (numbers.choice([1, 2, 3, 4, 8, 12, 16, 32]), numbers.randrange(8, 256), shared_bytes)
        for _ in range(200)
        for shared_bytes in (0, numbers.randrange(1, most * 1024 + 1), most * 1024)
    ]
    lines = [f"{arch} {threads} {shared} {most} {warps} {regs} {size}\n" for warps, regs, size in asked]
    done = subprocess.run([calculator], input="".join(lines), capture_output=True, text=True, check=True)
    expected = [int(line) for line in done.stdout.split()]
    if arch in NEW and set(expected) == {-1}:
        pytest.skip(f"the cuda_occupancy.h of this Triton does not know sm_{arch}")
    found = [
        occupancy_of(f"sm_{arch}", Needs(warps, registers, size, 32)) for warps, registers, size in asked
    ]
    assert len(set(expected)) > 5
    assert list(map(blocks, found)) == expected
    assert {each.most_warps for each in found if isinstance(each, Occupancy)} == {threads // 32}


# ---- occupancy, AMD: what LLVM writes beside the code that it makes

LLVM = """
@lds_{number} = internal addrspace(3) global [{shared} x i8] poison
define amdgpu_kernel void @kernel_{number}() #{number} {{
  call void asm sideeffect "", "~{{v{registers}}}"()
  {use}
  ret void
}}
attributes #{number} = {{ "amdgpu-flat-work-group-size"="{threads},{threads}" }}
"""
USE = 'call void asm sideeffect "", "v"(ptr addrspace(3) @lds_{number})'
COMPUTE = ("gfx906", "gfx908", "gfx90a", "gfx942")
GRAPHICS = "gfx1010 gfx1030 gfx1100 gfx1101 gfx1102 gfx1150 gfx1151 gfx1152 gfx1200 gfx1201".split()


MODES = ("", "cumode", "wavefrontsize64")


@pytest.mark.parametrize(
    ("processor", "mode"),
    [*((each, "") for each in COMPUTE), *((each, mode) for each in GRAPHICS for mode in MODES)],
)
def test_amd_occupancy_is_llvms(tmp_path: Path, processor: str, mode: str) -> None:
    need("clang-19")
    numbers = random.Random(processor + mode)
    wave = 64 if processor in COMPUTE or mode == "wavefrontsize64" else 32
    asked = []
    for number in range(40):
        warps = numbers.choice([4, 8, 16])
        shared = numbers.choice([0, 0, 5120, 10240, 20480, 40960, 61440])
        registers = numbers.randrange(min(255, 2040 // warps if wave == 64 else 255))
        asked.append((number, warps, registers, shared))
    text = "".join(
        LLVM.format(
            number=number,
            registers=registers,
            shared=max(shared, 1),
            threads=warps * wave,
            use=USE.format(number=number) if shared else "",
        )
        for number, warps, registers, shared in asked
    )
    (tmp_path / "kernels.ll").write_text(text)
    target = [
        "clang-19",
        "--target=amdgcn-amd-amdhsa",
        f"-mcpu={processor}",
        "-nogpulib",
        "-Wno-override-module",
    ]
    features = ["-mcumode"] if mode == "cumode" else ["-mwavefrontsize64"] if mode else []
    written = run(*target, *features, "-O1", "-S", tmp_path / "kernels.ll", "-o", "-")
    waves = [int(found) for found in re.findall(r"; Occupancy: (\d+)", written)]

    def facts(name: str) -> list[int]:
        return [int(each) for each in re.findall(rf"^ *\.{name}: +(\d+)", written, re.MULTILINE)]

    vectors, scalars = facts("vgpr_count"), facts("sgpr_count")
    assert facts("group_segment_fixed_size") == [shared for *_, shared in asked]
    assert len(waves) == len(vectors) == len(scalars) == len(asked)
    simds = 2 if mode == "cumode" else 4
    for at, (_, warps, _, shared) in enumerate(asked):
        needs = Needs(warps, vectors[at], shared, wave, scalars[at], mode == "cumode")
        found = occupancy_of(processor, needs)
        # LLVM counts waves of a SIMD, also where they are no whole groups.
        assert blocks(found) == simds * waves[at] // warps, (needs, found)


def test_scalar_registers_count_on_gfx9_alone() -> None:
    """As LLVM 22 has it; 19 leaves out what a trap handler takes."""
    for scalars, blocks_of_4 in ((64, 8), (80, 8), (83, 7), (96, 7), (101, 6)):
        assert blocks(occupancy_of("gfx942", Needs(4, 32, 0, 64, scalars))) == blocks_of_4
        assert blocks(occupancy_of("gfx1100", Needs(4, 32, 0, 32, scalars))) == 16


def test_every_target_has_an_occupancy_or_a_reason() -> None:
    needs = Needs(4, 32, 1024, 32)
    without = {name for name in KNOWN if isinstance(occupancy_of(name, needs), str)}
    assert without == {name for name in KNOWN if name.startswith("ptx_") or "_107" in name}
    other = {name for name in PROCESSORS.values() if isinstance(occupancy_of(name, needs), str)}
    assert other == {name for name in PROCESSORS.values() if name.endswith("-generic")}


@pytest.mark.parametrize(
    ("target", "needs", "limit"),
    [
        ("sm_90", Needs(8, 32, 0, 32), "warps"),
        ("sm_90", Needs(1, 32, 0, 32), "blocks"),
        ("sm_90", Needs(4, 128, 0, 32), "registers"),
        ("sm_90", Needs(4, 32, 100_000, 32), "shared memory"),
        ("gfx942", Needs(4, 64, 0, 64), "warps"),
        ("gfx942", Needs(2, 64, 0, 64), "warps"),
        ("gfx1100", Needs(1, 96, 0, 32), "warps"),
        ("gfx90a", Needs(4, 256, 0, 64), "registers"),
        ("gfx90a", Needs(4, 32, 40_000, 64), "shared memory"),
    ],
)
def test_what_sets_the_limit(target: str, needs: Needs, limit: str) -> None:
    found = occupancy_of(target, needs)
    assert isinstance(found, Occupancy)
    assert found.limit == limit
    assert found.warps == found.blocks * needs.warps <= found.most_warps


def test_what_does_not_fit_has_no_blocks() -> None:
    too_much = parse_target("gfx90a").shared_bytes + 1
    assert blocks(occupancy_of("gfx90a", Needs(4, 32, too_much, 64))) == 0
    assert blocks(occupancy_of("sm_86", Needs(4, 32, 100 * 1024, 32))) == 0
    assert blocks(occupancy_of("sm_86", Needs(16, 200, 0, 32))) == 0


# ---- treemaps


@pytest.mark.parametrize("seed", range(20))
def test_boxes_have_their_share_and_do_not_overlap(seed: int) -> None:
    numbers = random.Random(seed)
    sizes = [int(numbers.lognormvariate(5, 2)) for _ in range(numbers.randrange(1, 60))]
    within = Box(3, 5, numbers.uniform(1, 100), numbers.uniform(1, 100))
    boxes = squarify(sizes, within)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.area == pytest.approx(within.area * size / sum(sizes))
        assert box.x >= within.x - 1e-9 and box.x + box.width <= within.x + within.width + 1e-9
        assert box.y >= within.y - 1e-9 and box.y + box.height <= within.y + within.height + 1e-9
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert wide < 1e-9 or high < 1e-9


def test_boxes_are_squarish() -> None:
    boxes = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    assert (boxes[0].width, boxes[0].height) == (3, 2)  # the example of the paper
    assert max(max(box.width / box.height, box.height / box.width) for box in boxes) < 3


def test_nothing_has_no_area() -> None:
    assert squarify([], Box(0, 0, 1, 1)) == ()
    assert [box.area for box in squarify([0, 5, 0], Box(0, 0, 2, 1))] == [0, 2, 0]
    assert [box.area for box in squarify([0], Box(0, 0, 2, 1))] == [0]


# ---- what a page is made of


def data_of(pack: PackListing) -> dict[str, Any]:
    return content("lib.a", 1, pack, TuningResults((), ()), None)


def test_what_amds_code_alone_says_is_read_from_it(tmp_path: Path) -> None:
    code = (SAMPLES / "softmax.hsaco").read_bytes()
    (entry,) = set(re.findall(rb"(\w+)\.kd\0", code))
    facts: dict[str, Any] = {"num_warps": 4, "registers": 24, "shared_bytes": 0, "static_shared_bytes": 0}
    archive = single(tmp_path / "a.a", "softmax", "gfx90a", code=code, entry=entry.decode(), **facts)
    found = data_of(read_pack(archive))
    assert (found["images"]["occupancy"], found["images"]["most"], found["texts"]) == (
        [1000],
        [32],
        ["warps"],
    )
    made_up = data_of(read_pack(single(tmp_path / "b.a", "softmax", "gfx90a", **facts)))
    assert (made_up["images"]["occupancy"], made_up["texts"]) == ([None], ["code not readable"])


def test_code_that_images_share_counts_once(tmp_path: Path) -> None:
    write_archive(tmp_path / "lib.a", pack_members(["softmax"]))
    pack = read_pack(tmp_path / "lib.a")
    columns = data_of(pack)["images"]
    shared = [at for at, stored in enumerate(columns["stored"]) if stored == 0]
    assert len(shared) == 1 and columns["bytes"][shared[0]] > 0
    assert sum(columns["stored"]) == sum(
        {each.hash: each.stored_bytes for each in pack.kernels[0].images}.values()
    )


def test_registers_of_ptx_are_not_known(tmp_path: Path) -> None:
    archive = write(tmp_path / "lib.a", ["softmax"], 1, targets=("ptx_80",))
    columns = data_of(read_pack(archive))["images"]
    assert (columns["registers"], columns["spills"], columns["occupancy"]) == ([None], [None], [None])


# ---- differences


def test_what_changes_of_an_image_is_told(tmp_path: Path) -> None:
    before = read_pack(single(tmp_path / "a.a", "softmax", registers=40, spill_bytes=0))
    after = read_pack(single(tmp_path / "b.a", "softmax", registers=48, spill_bytes=16, code=b"other"))
    (change,) = compare(before, after)
    assert (change.kind, change.kernel, change.variant, change.target) == (
        "changed",
        "softmax",
        "fp16.BLOCK64.w4",
        "sm_90",
    )
    assert (change.before_bytes, change.after_bytes) == (200, 5)
    assert change.facts[:2] == (Fact("registers", 40, 48), Fact("spills", 0, 16))
    assert [fact.name for fact in change.facts] == ["registers", "spills", "hash"]
    assert compare(after, after) == ()


def test_what_comes_and_goes_is_told_once(tmp_path: Path) -> None:
    before = read_pack(write(tmp_path / "a.a", ["kept", "gone"], ["old", "same"], targets=("sm_80", "sm_90")))
    after = read_pack(write(tmp_path / "b.a", ["kept", "came"], ["same", "new"], targets=("sm_90", "gfx90a")))
    told = [(change.kind, change.kernel, change.variant, change.target) for change in compare(before, after)]
    assert told == [
        ("added", "came", "", ""),
        ("changed", "kept", "same", "sm_90"),
        ("added", "kept", "same", "gfx90a"),
        ("removed", "kept", "same", "sm_80"),
        ("added", "kept", "new", ""),
        ("removed", "kept", "old", ""),
        ("removed", "gone", "", ""),
    ]


def test_what_changes_of_a_kernel_is_told(tmp_path: Path) -> None:
    before = read_pack(write(tmp_path / "a.a", ["softmax"], 1, guard_text="n <= 1024"))
    after = read_pack(write(tmp_path / "b.a", ["softmax"], 1, guard_text="n <= 2048"))
    (change,) = compare(before, after)
    assert (change.variant, change.facts[0]) == ("", Fact("guard", "n <= 1024", "n <= 2048"))


# ---- tuning


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> PackListing:
    return read_pack(write(tmp_path_factory.mktemp("tuned") / "lib.a", ["softmax"]))


def entry(
    pack: PackListing, call: str, choice: str, median_us: float = 1.0, fixed_us: float = 2.0, **facts: Any
) -> Entry:
    hash_ = tuning_hash(variant.hash for variant in pack.kernels[0].variants)
    return replace(Entry("softmax", hash_, "sm_90/132", "*fp16", call, choice, median_us, fixed_us), **facts)


def test_a_table_is_a_map_for_each_device_and_overload(pack: PackListing, tmp_path: Path) -> None:
    entries = [
        entry(pack, "n=1024 m=5 16=x", "b.w4"),
        entry(pack, "n=20 m=5 16=x", "b.w16", 2.0, 0.0, left_out="b.w4: failed (no memory); b.w2: wrong"),
        entry(pack, "n=20 m=5", "b.w4", device="sm_80/108"),
        entry(pack, "n=20 m=5", "b.w4", overload="*fp32"),
        entry(pack, "-", "function:own", kernel="op:any", hash=7),
        entry(pack, "n=20", "b.w4", hash=9),
        entry(pack, "n=24", "b.w4", hash=9),
        entry(pack, "n=20", "b.w4", kernel="other"),
    ]
    merge_entries(tmp_path / "tk.csv", entries)
    with open(tmp_path / "tk.csv", "a") as file:
        file.write("garbage\n")
    found = read_results(pack, [tmp_path / "tk.csv"], [])
    assert [(each.kernel, each.device, each.group) for each in found.maps] == [
        ("softmax", "sm_90/132", "*fp16  m=5 16=x"),
        ("softmax", "sm_80/108", "*fp16"),
        ("softmax", "sm_90/132", "*fp32"),
        ("op:any", "sm_90/132", "*fp16"),
    ]
    first = found.maps[0]
    assert (first.rows, first.columns) == (("b.w2", "b.w4", "b.w16"), ("n=20", "n=1024"))
    cells = {
        (cell.row, cell.column): (cell.chosen, cell.median_us, cell.ratio, cell.note) for cell in first.cells
    }
    assert cells == {
        (2, 0): (True, 2.0, 0.0, ""),
        (1, 0): (False, 0, 0, "failed (no memory)"),
        (0, 0): (False, 0, 0, "wrong"),
        (1, 1): (True, 1.0, 2.0, ""),
    }
    assert found.remarks == (
        "tk.csv:11: expected 9 values, got fewer",
        "tk.csv: not shown: 2 entries of another build of softmax",
        "tk.csv: not shown: 1 entry of other, which is not here",
    )


def trials(path: Path, *outcomes: dict[str, Any]) -> Path:
    path.write_text(json.dumps(outcomes))
    return path


REST = {"reason": "", "samples": 5}


def outcome(*medians: float, n: int = 1, **facts: Any) -> dict[str, Any]:
    """As `kpack tune --json` writes them."""
    made = [
        {"name": f"v{at}", "outcome": "timed" if us else "wrong", "median_us": us, "chosen": at == 0, **REST}
        for at, us in enumerate(medians)
    ]
    shape = {"kernel": "softmax", "values": {"x": "*fp16:16", "n": str(n)}, "line": 3}
    return {"shape": shape, "trials": made, "error": "", "crashes": [], **facts}


def test_trials_are_times_by_the_best(pack: PackListing, tmp_path: Path) -> None:
    failed = outcome(error="softmax: argument 'x': no extent")
    path = trials(tmp_path / "t.json", outcome(2.0, 3.0, 0, n=512), outcome(4.0, 4.0, 8.0, n=64), failed)
    found = read_results(pack, [], [path])
    (map_,) = found.maps
    assert (map_.kind, map_.group, map_.columns) == ("trials", "x=*fp16:16", ("n=64", "n=512"))
    assert [(cell.row, cell.column, cell.ratio, cell.note) for cell in map_.cells] == [
        (0, 0, 1.0, ""), (1, 0, 1.0, ""), (2, 0, 2.0, ""), (0, 1, 1.0, ""), (1, 1, 1.5, ""), (2, 1, 0.0, "wrong"),
    ]  # fmt: skip
    assert found.remarks == ("t.json: softmax x=*fp16:16 n=1: softmax: argument 'x': no extent",)


SHAPE = '[{"shape": {"kernel": "k", "values": {}}'


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("{", "got no JSON: "),
        ("{}", "a list, got dict"),
        ("[1]", "in outcome 0 no shape"),
        ('[{"shape": {"kernel": 1}}]', "no kernel and values"),
        ('[{"shape": {"kernel": "k", "values": {"n": 1}}}]', "a value that is no text"),
        (SHAPE + ', "trials": [{}]}]', "trials without name, outcome"),
        (SHAPE + ', "trials": [{"name": "a", "outcome": "timed", "reason": "", "median_us": NaN}]}]', "trials without"),
        (SHAPE + ', "trials": [{"name": 1, "outcome": "timed", "reason": "", "median_us": 1}]}]', "trials without"),
        ("[" * 100_000, "got no JSON: "),
    ],
)  # fmt: skip
def test_what_are_no_trials_is_refused(pack: PackListing, tmp_path: Path, text: str, got: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(FormatError, match="expected what kpack tune --json writes, .*" + re.escape(got)):
        read_results(pack, [], [tmp_path / "t.json"])


# ---- the command


def kpack(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import kpack.cli; kpack.cli.main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_writes_one_page(tmp_path: Path) -> None:
    archive = write(tmp_path / "libtk.a", ["softmax"])
    done = kpack("report", archive, archive, "-o", tmp_path / "report.html")
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "report.html").read_text()
    assert done.stdout == f"{tmp_path / 'report.html'}: {len(page.encode()):,} bytes\n"
    assert not re.search(r"https?://|<link|src=|@import|url\(", page)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["libtk.a", "report.html"]
    again = kpack("report", archive, archive, "-o", tmp_path / "again.html")
    assert again.returncode == 0 and (tmp_path / "again.html").read_text() == page


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["broken.a", "-o", "new.html"], "kpack: broken.a"),
        (["libtk.a", "broken.a", "-o", "new.html"], "kpack: broken.a"),
        (["absent.a", "-o", "new.html"], "kpack: absent.a: expected a readable file, got No such file"),
        (["libtk.a", "-o", "new.html", "--tuned", "absent.csv"], "kpack: absent.csv: expected a tuning table"),
        (["libtk.a", "-o", "new.html", "--trials", "libtk.a"], "kpack: libtk.a: expected what kpack tune"),
        (["libtk.a", "-o", "absent/new.html"], "kpack: absent/new.html: expected a place to write the report"),
        (["libtk.a", "-o", "libtk.a"], "kpack: libtk.a: expected a file to write the page to, got one that"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], refusal: str
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = write(tmp_path / "libtk.a", ["softmax"]).read_bytes()
    at = len(whole) // 2
    (tmp_path / "broken.a").write_bytes(whole[:at] + b"\xff" * 200 + whole[at + 200 :])
    done = kpack("report", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(refusal) and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.a", "libtk.a"]
    assert (tmp_path / "libtk.a").read_bytes() == whole
