"""`kpack tune` on the fake driver: shapes read, searches in a process that may crash, a table filled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

import kpack
from kpack.errors import FormatError
from kpack.tuning.table import read_table

if find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1":
    pytest.skip("kpack was installed without Python's headers (python3-dev)", allow_module_level=True)

from kpack.runtime import Pointer, TensorDescriptor
from kpack.tuning.shapes import read_shapes, read_value

ROOT = Path(__file__).parents[2]
FAKES = ("recorder", "image_note", "memory", "kernels", "common", "cuda_image", "cuda_state", "cuda_launch")
FAKES += ("cuda_tensor", "cuda")

KERNELS = """
import kpack, triton, triton.language as tl

@triton.jit
def copy_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(in_ptr + at, mask=at < n), mask=at < n)

@triton.jit
def blind_kernel(out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, at, mask=at < n)

common = dict(
    configs=[{"BLOCK": 128, "num_warps": 1}, {"BLOCK": 256, "num_warps": 2}, {"BLOCK": 512}],
    grid=lambda n, BLOCK: (kpack.cdiv(n, BLOCK),),
)
copy = kpack.Kernel(
    copy_kernel, name="copy", signature={"out_ptr": "*fp32", "in_ptr": "const *fp32", "n": "i32"},
    args={"out_ptr": kpack.out(bytes="4*n"), "in_ptr": kpack.in_(bytes="4*n")}, **common,
)
blind = kpack.Kernel(blind_kernel, name="blind", signature={"out_ptr": "*i32", "n": "i32"}, **common)
"""

# Python runs it as it starts: what the launches of a device function do, from NAME=WHAT in PLAN.
PLANNER = """
import ctypes, os

BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)

class Kernel(ctypes.Structure):
    _fields_ = [("takes_ns", ctypes.c_uint64), ("error", ctypes.c_int), ("breaks", ctypes.c_int), ("body", BODY),
                ("user", ctypes.c_void_p)]

if os.environ.get("PLAN"):
    driver = ctypes.CDLL("libcuda.so.1")
    kept = []
    for part in os.environ["PLAN"].split(","):
        name, what = part.split("=")
        kernel = Kernel()
        if what == "crash":
            kernel.body = BODY(lambda user, launch: os.kill(os.getpid(), 9))
        elif what == "hang":
            kernel.body = BODY(lambda user, launch: __import__("time").sleep(600))
        elif what == "break":
            kernel.breaks = 700
        elif what == "fail":
            kernel.error = 719
        else:
            kernel.takes_ns = int(what)
        kept.append(kernel)
        driver.fake_cuda_kernel(name.encode(), ctypes.byref(kernel))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libtk.a, the fake driver, and what plans its kernels."""
    shop = tmp_path_factory.mktemp("offline")
    (shop / "tk.py").write_text(KERNELS)
    kpack.build(shop / "tk.py", arch="sm_80").write(shop / "libtk.a")
    (shop / "sitecustomize.py").write_text(PLANNER)
    sources = [ROOT / f"tests/fakes/{name}.cc" for name in FAKES]
    exports = f"-Wl,-soname,libcuda.so.1,-Bsymbolic,--version-script,{ROOT / 'tests/fakes/exports.map'}"
    includes = [f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc/src'}"]
    options = ["-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", *includes]
    subprocess.run(
        ["c++", *options, *sources, exports, "-pthread", "-ldl", "-o", shop / "libcuda.so.1"], check=True
    )
    return shop


def environment(shop: Path, plan: str = "") -> dict[str, str]:
    paths = [str(shop), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(shop),
        "FAKE_CUDA": "sm_80",
        "FAKE_HIP": "none",
        "KPACK_DRIVER": "",
        "PYTHONPATH": os.pathsep.join(paths),
        "PLAN": plan,
    }


def tune(
    shop: Path, folder: Path, shapes: str, *options: str, plan: str = "", status: int = 0
) -> tuple[list[dict[str, object]], str]:
    """What --json says, and standard error."""
    (folder / "s.csv").write_text("# kpack shapes 1\nkernel,call\n" + shapes)
    command = ["kpack", "tune", shop / "libtk.a", "--shapes", "s.csv", "--table", "t.csv", "--json", *options]
    done = subprocess.run(
        command, cwd=folder, env=environment(shop, plan), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout), done.stderr


def outcomes(found: dict[str, object]) -> dict[str, str]:
    trials = found["trials"]
    assert isinstance(trials, list)
    return {
        trial["name"]: trial["outcome"] + (f": {trial['reason']}" if trial["reason"] else "")
        for trial in trials
    }


COPY = "copy,out_ptr=*fp32 in_ptr=*fp32 n=1000\n"


def test_the_fastest_variant_of_each_shape_is_in_the_table(shop: Path, tmp_path: Path) -> None:
    plan = "copy_BLOCK128_w1=9000,copy_BLOCK256_w2=4000,copy_BLOCK512_w4=40000"
    shapes = 'copy,"out_ptr=*fp32 in_ptr=*fp32:4 n=[1000..4000*2]"\n'
    found, _ = tune(shop, tmp_path, shapes, plan=plan)
    assert [each["shape"]["values"]["n"] for each in found] == ["1000", "2000", "4000"]  # type: ignore[index]
    for each in found:
        assert outcomes(each)["BLOCK256.w2"] == "timed"
        assert [t["name"] for t in each["trials"] if t["chosen"]] == ["BLOCK256.w2"]  # type: ignore[union-attr,attr-defined]
    entries = read_table(tmp_path / "t.csv").entries
    assert [(e.kernel, e.device, e.overload, e.call, e.choice) for e in entries] == [
        ("copy", "sm_80/108", "*fp32,*fp32,i32", f"n={n}", "BLOCK256.w2") for n in (1024, 2048, 4096)
    ]
    assert all(e.median_us == 4 and e.fixed_us == 9 for e in entries)
    # A second time there is nothing left to do, but again.
    found, _ = tune(shop, tmp_path, shapes, plan=plan)
    for each in found:
        assert outcomes(each) == {"BLOCK256.w2": "not run: known: KPK_TUNE_AGAIN finds out again"}
    found, _ = tune(shop, tmp_path, shapes, "--again", "--exhaustive", plan=plan)
    assert [len(outcomes(each)) for each in found] == [3, 3, 3]


@pytest.mark.parametrize(
    ("what", "ended"),
    [("crash", "was ended by signal 9"), ("break", "context unusable"), ("hang", "took longer than")],
)
def test_a_variant_that_ends_the_process_is_left_out_and_remembered(
    shop: Path, tmp_path: Path, what: str, ended: str
) -> None:
    script = textwrap.dedent(f"""
        import json, sys
        from kpack.tuning.offline import tune_shapes
        from kpack.tuning.shapes import read_shapes
        shapes, _ = read_shapes("s.csv")
        limit_s = {3 if what == "hang" else 60}
        for each in tune_shapes({str(shop / "libtk.a")!r}, shapes, table="t.csv", timeout_s=limit_s):
            print(json.dumps([each.crashes, each.error, each.chosen.name,
                              [[t.name, t.outcome, t.reason] for t in each.trials]]))
    """)
    (tmp_path / "s.csv").write_text(COPY + COPY.replace("1000", "5000"))
    plan = f"copy_BLOCK256_w2={what},copy_BLOCK512_w4=1000"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path, env=environment(shop, plan), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        crashes, error, chosen, trials = json.loads(line)
        assert len(crashes) == 1
        assert ended in crashes[0]
        assert (error, chosen) == ("", "BLOCK512.w4")
        assert ["BLOCK256.w2", "not run", "crashed"] in trials
    entries = read_table(tmp_path / "t.csv").entries
    assert [(e.choice, e.left_out) for e in entries] == [("BLOCK512.w4", "BLOCK256.w2: crashed")] * 2
    assert "+" not in (tmp_path / "t.csv.trying").read_text()


def test_a_variant_that_fails_is_told_and_the_rest_is_tuned(shop: Path, tmp_path: Path) -> None:
    found, _ = tune(shop, tmp_path, COPY, plan="copy_BLOCK128_w1=fail")
    assert outcomes(found[0])["BLOCK128.w1"].startswith("failed: ")
    assert found[0]["crashes"] == []
    assert read_table(tmp_path / "t.csv").entries[0].left_out.startswith("BLOCK128.w1: failed (")


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ("paste,n=1\n", "paste: expected one of blind, copy, got 'paste'"),
        ("op:rows,n=1\n", "op:rows: expected a kernel, got an op: its program tunes it"),
        ("copy,out_ptr=*fp32 n=1000\n", "copy: expected values of out_ptr in_ptr n, got out_ptr n"),
        ("copy,out_ptr=*fp16 in_ptr=*fp32 n=1000\n", "expected *fp32, got *fp16"),
        ("blind,out_ptr=*i32 n=1000\n", "out_ptr"),
    ],
)
def test_a_shape_that_cannot_be_tuned_is_told_and_the_rest_is_tuned(
    shop: Path, tmp_path: Path, shapes: str, reason: str
) -> None:
    found, _ = tune(shop, tmp_path, shapes + COPY, status=1)
    assert reason in str(found[0]["error"])
    assert len(outcomes(found[1])) == 3


def test_people_are_shown_a_table_of_the_variants(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(COPY + "garbage\n")
    done = subprocess.run(
        ["kpack", "tune", shop / "libtk.a", "--shapes", "s.csv"],
        cwd=tmp_path, env=environment(shop, "copy_BLOCK256_w2=1000"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "kpack: s.csv:2: expected kernel,call of version 1, got 'garbage'" in done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["BLOCK256.w2", "1.00", "1.00"] in [line[:3] for line in lines]
    assert any(line[-1:] == ["chosen"] and line[0] == "BLOCK256.w2" for line in lines)
    assert lines[-1] == ["1", "of", "1", "shapes", "tuned;", "tk.csv"]
    assert len(read_table(tmp_path / "tk.csv").entries) == 1


def test_what_is_no_pack_is_refused(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(COPY)
    for file, reason in (("absent.a", "No such file"), ("libcuda.so.1", "expected one pack, got none")):
        done = subprocess.run(
            ["kpack", "tune", shop / file, "--shapes", "s.csv"],
            cwd=tmp_path, env=environment(shop), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 1
        assert reason in done.stderr
        assert "Traceback" not in done.stderr


def test_what_was_tuned_is_baked_and_runs(shop: Path, tmp_path: Path) -> None:
    tune(shop, tmp_path, COPY, plan="copy_BLOCK512_w4=1000")
    pack = kpack.build(shop / "tk.py", arch="sm_80", tuned=tmp_path / "t.csv", keep="tuned")
    assert (pack.tuned_entries, pack.dropped_images) == (1, 2)
    pack.write(tmp_path / "libtk.a")
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from kpack.link import as_shared_object
        from kpack.runtime import Pointer, load
        with as_shared_object(Path("libtk.a")) as library:
            copy = load(library)["copy"]
        for n in (1000, 800):
            print(copy.explain(Pointer("fp32", 0x10000), Pointer("fp32", 0x20000), n))
    """)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env=environment(shop),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("runs BLOCK512.w4") == 2
    assert "tuned, baked into the archive, for n=1024 on sm_80/108" in done.stdout
    assert "not tuned for n=896 on sm_80/108" in done.stdout


def test_python_tunes_and_records(shop: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        from pathlib import Path
        from kpack.errors import LaunchError
        from kpack.link import as_shared_object
        from kpack.runtime import Pointer, load, set_tuning
        import kpack
        with as_shared_object(Path({str(shop / "libtk.a")!r})) as library:
            pack = load(library)
        kpack.set_tuning("record", shapes="shapes.csv")
        pack["copy"](Pointer("fp32", 0x10010), Pointer("fp32", 0x20000), 1000)
        kpack.set_tuning("use", table="t.csv", budget_ms=500)
        trials = pack["copy"].tune(Pointer("fp32", 0x10000), Pointer("fp32", 0x20000), 1000, allocate=True)
        print(*sorted((t.name, t.outcome, t.chosen) for t in trials))
        (known,) = pack["copy"].tune(Pointer("fp32", 0x10000), Pointer("fp32", 0x20000), 1000, allocate=True)
        print(known.name, known.outcome)
        for wrong in (lambda: kpack.set_tuning("on"), lambda: kpack.set_tuning("use", budget_ms=0),
                      lambda: pack["blind"].tune(Pointer("i32", 0x10000), 1000, allocate=True)):
            try:
                wrong()
            except LaunchError as error:
                print(error)
    """)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path, env=environment(shop, "copy_BLOCK256_w2=1000"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "('BLOCK256.w2', 'timed', True)" in lines[0]
    assert lines[1] == "BLOCK256.w2 not run"
    assert lines[2] == "set_tuning: expected off, use, tune, record or None, got 'on'"
    assert lines[3] == "budget_ms: expected more than 0 milliseconds, got 0"
    assert "out_ptr" in lines[4]
    # What was recorded is what `kpack tune` reads.
    (shape,), rejected = read_shapes(tmp_path / "shapes.csv")
    assert not rejected
    assert str(shape) == "copy out_ptr=*fp32:16 in_ptr=*fp32:256 n=1000"


# ---- shapes


def shapes_of(tmp_path: Path, text: str) -> tuple[list[str], list[str]]:
    (tmp_path / "shapes.csv").write_text(text)
    shapes, rejected = read_shapes(tmp_path / "shapes.csv")
    return [str(shape) for shape in shapes], [line.partition("shapes.csv:")[2] for line in rejected]


def test_a_row_stands_for_all_combinations(tmp_path: Path) -> None:
    text = '# kpack shapes 1\nkernel,call\n# by hand\n\nk,"n=[1,4..16*2,[5]] m=[1..7+3] x=*fp16"\n'
    text = text.replace(",[5]", "")
    found, rejected = shapes_of(tmp_path, text + "k,n=1 m=1 x=*fp16\n")
    assert not rejected
    assert found == [f"k n={n} m={m} x=*fp16" for n in (1, 4, 8, 16) for m in (1, 4, 7)]


def test_what_the_runtime_writes_is_read(tmp_path: Path) -> None:
    row = (
        "k,\"a=*fp16:16 b=null c=-3 d=18446744073709551615 e=true f=2.5 g='a b,\\'\\x0a' h=fp16 i=none "
        'j=tensordesc<fp16>[64,128][128,1]:256+nan"\n'
    )
    (tmp_path / "shapes.csv").write_text("# kpack shapes 1\nkernel,call\n" + row)
    (shape,), rejected = read_shapes(tmp_path / "shapes.csv")
    assert not rejected
    values = {name: read_value(name, text) for name, text in shape.values.items()}
    tensor = values.pop("j")
    assert isinstance(tensor, TensorDescriptor)
    assert (tensor.shape, tensor.strides, tensor.padding) == ((64, 128), (128, 1), "nan")
    assert values == {
        "a": Pointer("fp16", 0x10010),
        "b": None,
        "c": -3,
        "d": 2**64 - 1,
        "e": True,
        "f": 2.5,
        "g": "a b,'\n",
        "h": kpack.DType("fp16"),
        "i": None,
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("k", "1: expected kernel,call of version 1, got 'k'"),
        ('k,"n=1', "1: expected kernel,call of version 1"),
        ("# kpack shapes 2", "1: expected kernel,call of version 1, got '# kpack shapes 2'"),
        ("k,n", "1: expected name=value, each name once, got 'n'"),
        ("k,n=1 n=2", "1: expected name=value, each name once, got 'n=2'"),
        ("k,n=[]", "1: n: expected [values] or [a..b], got '[]'"),
        ("k,n=[4..1]", "1: n: expected a range that grows from its first value to its last, got [4..1]"),
        ("k,n=[0..8*2]", "1: n: expected a range that grows"),
        ("k,n=[1..9*1]", "1: n: expected a range that grows"),
        ("k,n=[1..999999]", "1: n: expected at most 100000 values"),
        ("k,n=[1..999] m=[1..999]", "1: expected at most 100000 calls of one row, got 998001"),
        ("k,n=1..4", "1: n: expected a number, true, false, none"),
        ("k,n=*fp17", "1: n: expected a type among"),
        ("k,n=*fp16:24", "1: n: expected an alignment that is a power of two, got 24"),
        ("k,n=tensordesc<fp16>[1][1]+x", "1: n: expected +nan and +tf32, got +x"),
    ],
)
def test_a_row_that_is_none_is_told(tmp_path: Path, row: str, reason: str) -> None:
    found, rejected = shapes_of(tmp_path, row + "\nk,n=1\n")
    assert found == ["k n=1"]
    assert [line[: len(reason)] for line in rejected] == [reason]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"absent\.csv: expected a file of shapes, got No such file"):
        read_shapes(tmp_path / "absent.csv")
