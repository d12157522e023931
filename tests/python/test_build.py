"""The pipeline from a Python file to an archive, and what it refuses on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kpack
from kpack.build import VERSION
from kpack.find import find_kernels
from kpack.objfile.archive import read_archive

ROOT = Path(__file__).parents[2]

SOFTMAX = """
import triton, triton.language as tl, kpack

@triton.jit
def softmax_kernel(out_ptr, in_ptr, in_row_stride, out_row_stride, n_cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < n_cols
    x = tl.load(in_ptr + row * in_row_stride + cols, mask=inside, other=-float("inf")).to(tl.float32)
    powers = tl.exp(x - tl.max(x, axis=0))
    y = powers / tl.sum(powers, axis=0)
    tl.store(out_ptr + row * out_row_stride + cols, y.to(out_ptr.dtype.element_ty), mask=inside)

softmax = kpack.Kernel(
    softmax_kernel,
    name="softmax",
    signature={
        "out_ptr": "*T:16?",
        "in_ptr": "const *T:16?",
        "in_row_stride": "i64:16?",
        "out_row_stride": "i64:16?",
        "n_cols": "i32",
    },
    types={"T": ["fp16"]},
    configs=[triton.Config({"BLOCK": 1024}, num_warps=4)],
    guard=lambda n_cols, BLOCK: n_cols <= BLOCK,
    grid=lambda n_rows: (n_rows,),
)
"""

SCALE = """
import triton, triton.language as tl, kpack
from helpers import BLOCK, twice

@triton.jit
def scale_kernel(out_ptr, in_ptr, n, BLOCK: tl.constexpr):
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < twice(n)
    tl.store(out_ptr + cols, tl.load(in_ptr + cols, mask=inside), mask=inside)

scales = [
    kpack.Kernel(
        scale_kernel,
        name=name,
        signature={"out_ptr": f"*{dtype}", "in_ptr": f"const *{dtype}", "n": "i32"},
        constexprs={"BLOCK": BLOCK},
        grid=lambda n, BLOCK: kpack.cdiv(n, BLOCK),
    )
    for name, dtype in (("scale_fp32", "fp32"), ("scale_bf16", "bf16"))
]
"""

HELPERS = """
import triton

BLOCK = 128

@triton.jit(noinline=True)
def twice(x):
    return x + x
"""


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "kernels"
    made.mkdir()
    (made / "softmax.py").write_text(SOFTMAX)
    (made / "scale.py").write_text(SCALE)
    (made / "helpers.py").write_text(HELPERS)
    (made / "_private.py").write_text("raise SystemExit")
    return made


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def symbols(path: Path, *options: str) -> list[str]:
    text = subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True).stdout
    return [line.split()[-1] for line in text.splitlines() if line and not line.endswith(":")]


def test_a_file_becomes_an_archive_that_a_program_links(folder, tmp_path):
    pack = kpack.build(folder / "softmax.py", arch=["gfx90a", "sm_90"])
    archive = pack.write(tmp_path / "libtk.a")
    assert archive == tmp_path / "libtk.a"
    assert [name for name, _ in read_archive(archive)] == ["softmax.o", "tk.index.o"]
    defined = symbols(archive, "--defined-only", "--extern-only")
    assert {"kpack_kernel_tk_softmax", "kpack_pack_tk", "kpk_entry_tk"} <= set(defined)
    assert "softmax.fp16.BLOCK1024.w4.a16.gfx90a" in symbols(archive)

    source = tmp_path / "main.c"
    source.write_text(
        "#include <kpack/abi.h>\n#include <stdio.h>\n"
        "extern const kpk_abi_kernel kpack_kernel_tk_softmax;\n"
        "int main(void) {\n"
        "  const kpk_abi_kernel *k = &kpack_kernel_tk_softmax;\n"
        '  printf("%s %u %u\\n", (const char *)&k->name + k->name, k->variants.count, k->images.count);\n'
        "}\n"
    )
    program = tmp_path / "main"
    subprocess.run(["gcc", f"-I{ROOT / 'csrc/include'}", source, archive, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "softmax 2 4\n"


def test_a_folder_becomes_one_pack_in_order_of_names(folder, tmp_path):
    pack = kpack.build(folder, arch="ptx_80", name="tk")
    archive = pack.write(tmp_path / "any name.a")
    assert [plan.name for plan in pack.plans] == ["scale_bf16", "scale_fp32", "softmax"]
    assert [name for name, _ in read_archive(archive)] == [
        "scale_bf16.o",
        "scale_fp32.o",
        "softmax.o",
        "tk.index.o",
    ]


def test_the_same_input_gives_the_same_bytes_anywhere(folder, tmp_path, monkeypatch):
    digests = set()
    for number, (jobs, arch) in enumerate([(1, ["gfx90a", "sm_80"]), (2, ["gfx90a", "sm_80"])]):
        elsewhere = tmp_path / f"else where {number}"
        (elsewhere / "deep").mkdir(parents=True)
        moved = elsewhere / "deep" / "k"
        moved.mkdir()
        for file in folder.glob("*.py"):
            (moved / file.name).write_text(file.read_text())
        monkeypatch.setenv("KPACK_CACHE_DIR", str(elsewhere / "cache"))
        code = "import sys, kpack; _, source, to, jobs, *arch = sys.argv; "
        code += "kpack.build(source, arch=arch, jobs=int(jobs)).write(to)"
        archive = elsewhere / "libtk.a"
        done = subprocess.run(
            [sys.executable, "-c", code, moved, archive, str(jobs), *arch],
            cwd=ROOT if number else elsewhere,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        digests.add(digest(archive))
        assert str(tmp_path).encode() not in archive.read_bytes()
    assert len(digests) == 1


def test_kernels_come_from_files_modules_and_lists(folder):
    from_file = find_kernels(folder / "softmax.py")
    module = sys.modules["kpack_kernels_softmax"]
    assert find_kernels(module) == from_file
    assert find_kernels(from_file[0]) == from_file
    assert find_kernels(kernel for kernel in from_file) == from_file
    assert find_kernels([*from_file, *from_file]) == from_file
    assert find_kernels(str(folder / "softmax.py"))[0].name == "softmax"


def test_a_kernel_that_a_neighbour_imports_is_still_one(folder):
    (folder / "another.py").write_text("from softmax import softmax\n")
    try:
        assert [kernel.name for kernel in find_kernels(folder)] == ["scale_bf16", "scale_fp32", "softmax"]
    finally:
        sys.modules.pop("softmax", None)


@pytest.mark.parametrize("package", [False, True])
def test_of_two_folders_each_imports_its_own_helpers(tmp_path, package):
    helper = Path("common/blocks.py" if package else "common.py")
    text = f"from {'common.blocks' if package else 'common'} import BLOCK\n"
    for name, block in (("one", 64), ("two", 128)):
        (tmp_path / name / helper).parent.mkdir(parents=True)
        (tmp_path / name / helper).write_text(f"BLOCK = {block}\n")
        kernel = SOFTMAX.replace('name="softmax"', f'name="{name}"')
        (tmp_path / name / "softmax.py").write_text(text + kernel + f"\n{name}_block = BLOCK\n")
    found = {}
    for name in ("one", "two", "one"):
        assert [kernel.name for kernel in find_kernels(tmp_path / name)] == [name]
        module = sys.modules["kpack_kernels_softmax"]
        found.setdefault(name, set()).add(vars(module)[f"{name}_block"])
    assert found == {"one": {64}, "two": {128}}
    for name in [each for each in sys.modules if each.partition(".")[0] == "common"]:
        del sys.modules[name]


def test_a_list_may_mix_files_folders_modules_and_kernels(folder):
    softmax = find_kernels(folder / "softmax.py")
    scales = find_kernels(folder / "scale.py")
    module = sys.modules["kpack_kernels_scale"]
    names = ["scale_bf16", "scale_fp32", "softmax"]
    for mixed in (
        [str(folder / "softmax.py"), folder / "scale.py"],
        [folder, *softmax],
        [module, [softmax, {"one": scales[0]}]],
        (source for source in (module, folder / "softmax.py")),
    ):
        assert [kernel.name for kernel in find_kernels(mixed)] == names


def test_each_source_of_a_list_must_hold_a_kernel(folder):
    with pytest.raises(
        kpack.SpecError, match=r"expected at least one kpack.Kernel in '.*helpers.py', got none"
    ):
        find_kernels([folder / "softmax.py", folder / "helpers.py"])


def test_kernels_are_found_in_the_lists_tuples_and_dicts_of_a_file(folder):
    loop = "\nkernels = {}\nfor name in ('a', 'b', 'c', 'd'):\n    kernels[name] = kpack.Kernel(softmax_kernel, name, "
    text = SOFTMAX.replace('softmax = kpack.Kernel(\n    softmax_kernel,\n    name="softmax",', loop)
    text += (
        "many = [kernels['a']], (kernels['b'],)\nlisted = [kernels.pop('a')]\npair = (kernels.pop('b'), 3)\n"
    )
    (folder / "softmax.py").write_text(text)
    assert [kernel.name for kernel in find_kernels(folder / "softmax.py")] == ["a", "b", "c", "d"]


TWINS = """
import functools, triton, triton.language as tl, kpack

SIZE = tl.constexpr(4)
MODES = {"a": [1, 2.0]}

class Setting:
    def __init__(self, warps): self.warps = warps

SETTING = Setting(4)

def helper(target): return len(MODES["a"]) * SETTING.warps

def configs_of(block, *, by=1):
    def configs(target, more=block): return [{"BLOCK": block * by, "num_warps": helper(target) // 2}]
    return configs

@triton.jit
def part(x): return x * SIZE

@triton.jit
def twin_kernel(out_ptr, n, BLOCK: tl.constexpr):
    tl.store(out_ptr, part(n) + BLOCK)

twin = kpack.Kernel(
    twin_kernel,
    signature={"out_ptr": "*i32", "n": "i32"},
    configs=functools.partial(configs_of(64)),
    guard=lambda n: n < 8,
    grid=lambda n, BLOCK: kpack.cdiv(n, BLOCK),
)
"""


@pytest.fixture
def twins(folder, monkeypatch):
    """Makes the kernel of a file that is run twice, as by a neighbour and by us, with a change in between."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(folder)

    def make(before: str = "", after: str = "") -> list[kpack.Kernel]:
        file = folder / "twins.py"
        file.write_text(TWINS)
        one = importlib.import_module("twins").twin
        assert TWINS.count(before) == 1 or not before
        file.write_text(TWINS.replace(before, after))
        (other,) = find_kernels(file)
        assert one is not other
        return [one, other]

    yield make
    sys.modules.pop("twins", None)


def test_a_file_that_was_run_twice_gives_one_kernel(twins):
    both = twins()
    assert find_kernels(both) == (both[0],)


def test_a_file_that_is_named_twice_is_run_once(folder):
    (folder / "twins.py").write_text(TWINS)
    found = find_kernels([folder / "twins.py", folder, f"{folder}/../kernels/twins.py"])
    assert [kernel.name for kernel in found] == ["scale_bf16", "scale_fp32", "softmax", "twin_kernel"]


@pytest.mark.parametrize(
    "change",
    [
        ("lambda n: n < 8", "lambda n: n < 9"),
        ("lambda n: n < 8", "lambda n: n <= 8"),
        ("lambda n: n < 8", "lambda n, m=9: n < m"),
        ("constexpr(4)", "constexpr(5)"),
        ("[1, 2.0]", "[1, 2]"),
        ("Setting(4)", "Setting(8)"),
        ("configs_of(64)", "configs_of(32)"),
        ("configs_of(64)", "configs_of(64, by=2)"),
        ("more=block", "more=None"),
        ("x * SIZE", "x + SIZE"),
        ('"n": "i32"', '"n": "i64"'),
    ],
    ids=lambda change: change[1],
)
def test_kernels_that_differ_in_anything_are_two(twins, change):
    with pytest.raises(kpack.SpecError, match="kernel 'twin_kernel': expected one of this name, got one in"):
        find_kernels(twins(*change))


def test_kernels_of_a_loop_that_share_a_name_are_two(folder):
    (folder / "softmax.py").write_text(
        SOFTMAX.replace("softmax = kpack", "loop = [kpack").replace("n_cols <= BLOCK", "n_cols <= BLOCK - off")
        .replace("lambda n_cols, BLOCK:", "lambda n_cols, BLOCK, off=off:").rstrip().rstrip(")")
        + ") for off in (0, 1)]\n"
    )  # fmt: skip
    with pytest.raises(kpack.SpecError, match="kernel 'softmax': expected one of this name"):
        find_kernels(folder / "softmax.py")


def test_a_kernels_file_can_be_run_in_the_interpreter_and_not_built(folder):
    code = "import sys, kpack; (kernel,) = kpack.find_kernels(sys.argv[1]); print(type(kernel.fn).__name__)\n"
    code += "try: kpack.build(kernel, 'sm_90')\nexcept kpack.SpecError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "softmax.py"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "InterpretedFunction",
        "softmax: kernel: expected a function to compile, got one for Triton's interpreter; "
        "build without TRITON_INTERPRET",
    ]


def test_a_file_may_define_dataclasses(folder):
    (folder / "softmax.py").write_text(
        "from __future__ import annotations\nimport dataclasses\n"
        "@dataclasses.dataclass\nclass Shape:\n    rows: int\n" + SOFTMAX
    )
    assert len(find_kernels(folder / "softmax.py")) == 1


def test_a_pack_is_frozen(folder):
    pack = kpack.build(folder / "softmax.py", arch="ptx_80")
    with pytest.raises(dataclasses.FrozenInstanceError):
        pack.name = "other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import kpack\nkpack.Kernel(1, grid=1)\n", ["bad.py:2: kernel: expected a function decorated"]),
        (
            "import no_such_module_here\n",
            ["bad.py:1: ModuleNotFoundError: No module named 'no_such_module_here'"],
        ),
        ("x = 1\ny = (\n", ["bad.py:2: SyntaxError: '(' was never closed"]),
        ("def f():\n    return 1 // 0\n\n\nf()\n", ["bad.py:2: ZeroDivisionError"]),
        ("x = 1\n", ["kernels: expected at least one kpack.Kernel in '", "bad.py', got none"]),
        ("raise SystemExit(3)\n", ["bad.py:1: SystemExit: 3"]),
    ],
)
def test_a_file_that_gives_no_kernel_is_refused_with_its_line(tmp_path, text, words):
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(kpack.SpecError) as raised:
        kpack.build(file, arch="sm_90")
    for word in words:
        assert word in str(raised.value)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nowhere/kernels.py", "expected a file or folder, got '/nowhere/kernels.py', which does not exist"),
        ([], "expected at least one kpack.Kernel in [], got none"),
        ([1], "expected a file, a folder, a module, a kpack.Kernel or several, got 1"),
        (3, "expected a file, a folder, a module, a kpack.Kernel or several, got 3"),
        (dataclasses, "expected at least one kpack.Kernel in module dataclasses, got none"),
    ],
)
def test_what_holds_no_kernel_is_refused(source, words):
    with pytest.raises(kpack.SpecError) as raised:
        kpack.build(source, arch="sm_90")
    assert words in str(raised.value)


def test_two_kernels_of_one_name_are_refused_with_both_places(folder):
    (folder / "second.py").write_text(SOFTMAX.replace("1024", "2048"))
    with pytest.raises(kpack.SpecError) as raised:
        kpack.build(folder, arch="sm_90")
    text = str(raised.value)
    assert "kernel 'softmax': expected one of this name" in text
    assert "second.py" in text and "softmax.py" in text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"arch": "sm_91"}, kpack.TargetError, "got 'sm_91'"),
        ({"arch": None}, kpack.TargetError, "arch: expected a name or a list of names, got None"),
        ({"arch": [["sm_90"]]}, kpack.TargetError, "got ['sm_90']"),
        ({"arch": "gfx90a,sm_90"}, kpack.TargetError, "give a list: ['gfx90a', 'sm_90']"),
        *(
            ({"arch": "sm_90", "jobs": jobs}, kpack.SpecError, f"jobs: expected 1 or more, got {jobs!r}")
            for jobs in (-3, 0, "a", 1.5, True)
        ),
        ({"arch": "sm_90", "name": "T_K"}, kpack.SpecError, "pack name: expected a lower-case letter"),
        (
            {"arch": "sm_90", "host": "sparc"},
            kpack.PackError,
            "host: expected x86_64 or aarch64, got 'sparc'",
        ),
    ],
)
def test_what_is_wrong_is_refused_before_compiling(folder, options, error, words):
    with pytest.raises(error) as raised:
        kpack.build(folder / "softmax.py", **options)
    assert words in str(raised.value)


def test_a_pack_is_shown_in_a_line(folder):
    pack = kpack.build(folder / "softmax.py", arch="ptx_80", name="tk")
    assert repr(pack) == "<pack tk: softmax; 2 images for ptx_80>"
    assert repr(dataclasses.replace(pack, name=None)).startswith("<pack (named by its file): softmax;")


def test_a_mistake_has_its_line_where_the_path_is_relative(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text("x = 1\n1 // 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kpack.SpecError, match=r"^bad\.py:2: ZeroDivisionError"):
        find_kernels("bad.py")


def test_the_mistakes_of_all_files_are_told_with_their_files(folder):
    wrong = 'import softmax as s, kpack\nkpack.Kernel(s.softmax_kernel, "x", grid=1, constexprs={"A": 1})\n'
    (folder / "bad.py").write_text(wrong)
    (folder / "worse.py").write_text("1 // 0\n")
    try:
        with pytest.raises(kpack.SpecError) as raised:
            find_kernels(folder)
    finally:
        sys.modules.pop("softmax", None)
    lines = str(raised.value).splitlines()
    assert all(line.startswith(f"{folder}/bad.py:2: x: ") for line in lines[:-1]) and len(lines) > 3
    assert lines[-1].startswith(f"{folder}/worse.py:1: ZeroDivisionError")


def test_two_kernels_of_one_name_in_a_file_are_told_with_their_lines(folder):
    text = SOFTMAX + SOFTMAX.replace("softmax = ", "other = ").replace("1024", "2048")
    (folder / "softmax.py").write_text(text)
    with pytest.raises(kpack.SpecError, match=r"got one in .*softmax\.py:4 and one in .*softmax\.py:32;"):
        find_kernels(folder / "softmax.py")


def test_a_pack_is_written_to_a_path(folder):
    pack = kpack.build(folder / "softmax.py", arch="ptx_80")
    with pytest.raises(kpack.SpecError, match="path: expected where to write the archive, got None"):
        pack.write(None)


def test_a_file_name_that_names_no_pack_is_refused(folder, tmp_path):
    pack = kpack.build(folder / "softmax.py", arch="ptx_80")
    with pytest.raises(kpack.SpecError, match=r"got 'my_kernels', from the file name 'libmy_kernels.a'"):
        pack.write(tmp_path / "libmy_kernels.a")


def test_a_path_that_cannot_be_written_is_refused_and_nothing_left(folder, tmp_path):
    pack = kpack.build(folder / "softmax.py", arch="ptx_80")
    with pytest.raises(kpack.PackError):
        pack.write(tmp_path / "no" / "such" / "libtk.a")
    assert not (tmp_path / "no").exists()


def test_the_version_is_the_projects():
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
    assert kpack.__version__ == VERSION
