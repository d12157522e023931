"""10,000 kernels linked: start-up time, resident memory and look-up by name, beside the same program with none.

    python benchmarks/many_kernels.py [--count 10000] [--folder build/many_kernels] [--cxx g++] [--runtime lib.a]

Compiles one kernel and packs its image under as many names; no GPU takes part. Writes
benchmarks/results/many_kernels.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import time
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import triton
import triton.language as tl

import kpack
from kpack import paths
from kpack.objfile.archive import write_archive
from kpack.objfile.encode import encode_index, encode_kernel

HERE = Path(__file__).parent
STARTS = 1500  # of each program, in turns
WORDS = (
    ("attention", "layer_norm", "rms_norm", "softmax", "matmul", "grouped_gemm", "rotary", "cross_entropy"),
    ("forward", "backward_dx", "backward_dw", "inference"),
    ("fp16", "bf16", "fp32", "fp8"),
)


@triton.jit
def copy_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(in_ptr + at, mask=at < n), mask=at < n)


COPY = kpack.Kernel(
    copy_kernel,
    name="copy",
    signature={"out_ptr": "*T:16?", "in_ptr": "const *T:16?", "n": "i32"},
    types={"T": ["fp16", "fp32"]},
    constexprs={"BLOCK": 1024},
    grid="cdiv(n, BLOCK)",
)


def names(count: int) -> list[str]:
    """As a library would have them: long beginnings in common, numbers at the end."""
    numbers = range(-(-count // (8 * 4 * 4)))
    return ["_".join((*words, str(n))) for n, *words in islice(product(numbers, *WORDS), count)]


def write_pack(archive: Path, count: int) -> int:
    """The archive with `count` kernels; the bytes of its images."""
    (part,) = kpack.build(COPY, arch=["sm_90", "gfx90a"], name="tk", progress=False).parts
    images = {(variant, image.target.name): image for variant, image in part.images}
    members = [
        encode_kernel("tk", replace(part.plan, name=name), images, info=part.info, source_key=part.source_key)
        for name in names(count)
    ]
    write_archive(archive, [*members, encode_index("tk", members)])
    return count * sum(len(image.code) for image in images.values())


def link(folder: Path, cxx: str, runtime: Path) -> tuple[Path, Path]:
    """The program with the kernels, and the one without: one object, two links."""
    source = folder / "many_kernels.o"
    flags = ["-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{paths.include_dir()}"]
    subprocess.run([cxx, *flags, "-c", HERE / "many_kernels.cc", "-o", source], check=True)
    whole = ["-Wl,--whole-archive", folder / "libtk.a", "-Wl,--no-whole-archive"]
    for name, archive in (("with", whole), ("without", [])):
        subprocess.run([cxx, source, *archive, runtime, "-ldl", "-lpthread", "-o", folder / name], check=True)
    return folder / "with", folder / "without"


def start_us(program: Path) -> float:
    """From before exec to after exit, microseconds."""
    begin = time.perf_counter_ns()
    process = os.posix_spawn(program, [str(program)], {})
    _, status = os.waitpid(process, 0)
    assert status == 0, f"{program}: wait status {status}"
    return (time.perf_counter_ns() - begin) / 1000


def ask(program: Path, what: str) -> list[float]:
    done = subprocess.run([program, what], check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def memory_kib(program: Path) -> tuple[int, int]:
    """Resident memory of the program in main(), and what of it is in no file; KiB."""
    with subprocess.Popen([program, "wait"], stdin=subprocess.PIPE) as process:
        while Path(f"/proc/{process.pid}/wchan").read_text() in ("0", ""):
            time.sleep(0.001)
        time.sleep(0.02)
        rows = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        assert process.stdin is not None
        process.stdin.close()
    facts = {row.split(":")[0]: row.split()[1] for row in rows[1:]}
    return int(facts["Rss"]), int(facts["Anonymous"])


def measure_start(with_them: Path, without: Path) -> tuple[list[float], list[float], list[float]]:
    """In turns, the order of the two changing: what each took, and the differences."""
    times: dict[Path, list[float]] = {with_them: [], without: []}
    for turn in range(STARTS + 50):
        order = (with_them, without) if turn % 2 else (without, with_them)
        for program in order:
            times[program].append(start_us(program))
    ours, bare = times[with_them][50:], times[without][50:]
    return ours, bare, [a - b for a, b in zip(ours, bare, strict=True)]


def spread(values: list[float]) -> str:
    tenths = statistics.quantiles(values, n=10)
    return f"{statistics.median(values):.1f} ({tenths[0]:.1f} to {tenths[8]:.1f})"


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.machine()


def report(count: int, image_bytes: int, with_them: Path, without: Path) -> str:
    ours, bare, differences = measure_start(with_them, without)
    memory = {program: [memory_kib(program) for _ in range(21)] for program in (with_them, without)}
    resident, own = (
        [statistics.median(row[column] for row in memory[program]) for program in (with_them, without)]
        for column in (0, 1)
    )
    found = [ask(with_them, "find") for _ in range(11)]
    find = sorted(found)[len(found) // 2]
    file_bytes = [program.stat().st_size for program in (with_them, without)]
    return f"""# {count:,} kernels linked

{cpu()}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}; {image_bytes / 1e6:.0f} MB of images.
Starts: {STARTS} of each in turns, median (10 % to 90 %). Memory: in main(), median of 21. Look-up: each name once
a pass in random order, each when the one before is known; median of 200 passes, the median of 11 processes.

| | with | without | difference |
|---|---:|---:|---:|
| file, MB | {file_bytes[0] / 1e6:.1f} | {file_bytes[1] / 1e6:.1f} | |
| exec to exit, us | {spread(ours)} | {spread(bare)} | {spread(differences)} |
| resident memory, KiB | {resident[0]:.0f} | {resident[1]:.0f} | {resident[0] - resident[1]:+.0f} |
| of it in no file, KiB | {own[0]:.0f} | {own[1]:.0f} | {own[0] - own[1]:+.0f} |

Look-up by name (`kpk_pack_find`): {find[0]:.1f} ns, 10 % {find[1]:.1f}, 90 % {find[2]:.1f}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("build/many_kernels"))
    parser.add_argument("--cxx", default="g++")
    parser.add_argument("--runtime", type=Path, default=paths.library_path())
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    image_bytes = write_pack(options.folder / "libtk.a", options.count)
    packed = time.monotonic()
    programs = link(options.folder, options.cxx, options.runtime)
    print(f"packed in {packed - begin:.0f} s, linked in {time.monotonic() - packed:.0f} s", flush=True)
    text = report(options.count, image_bytes, *programs)
    (options.results / "many_kernels.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
