"""Every block of code in README and docs/ runs, and prints what the page says; what does not run says why."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import triton
import triton.language as tl
from place import PAGES, Place
from snippets import DOCS, ROOT, Snippet, agrees, read_page, slug
from tools import need
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import kpack
from kpack.tuning.shapes import read_shapes
from kpack.tuning.table import read_table

if find_spec("kpack._runtime") is None and os.environ.get("KPACK_REQUIRE_TOOLS") != "1":
    pytest.skip("kpack was installed without Python's headers (python3-dev)", allow_module_level=True)

ALL = {
    str(path.relative_to(ROOT)): read_page(path) for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
}
CODE = ("sh", "python", "c", "cpp", "cmake", "make")

# Blocks that do not run, by page; each says why.
NOT_RUN = {"README.md": 2, "docs/cli.md": 1, "docs/install.md": 2, "docs/tuning.md": 1}
# Pages with a test of their own below.
OWN = ("docs/tuning.md", "docs/kernels.md")
# Pages that make their libtk.a themselves.
FROM_NOTHING = ("README.md", "docs/tutorial.md", "docs/build.md")


def code_of(page: str) -> list[Snippet]:
    return [snippet for snippet in ALL[page] if snippet.language in CODE and not snippet.reason]


def test_what_does_not_run_is_counted() -> None:
    assert Counter(page for page in ALL for snippet in ALL[page] if snippet.reason) == NOT_RUN


def test_every_block_is_of_a_language_that_is_run_or_shown() -> None:
    # Without a language: pictures, formats, and what Sphinx makes of a {directive}.
    unknown = {(page, s.language) for page in ALL for s in ALL[page] if s.language not in (*CODE, "text", "")}
    assert unknown == set()


@pytest.mark.parametrize("page", [page for page in ALL if code_of(page) and page not in OWN])
def test_a_page_runs(page: str, place: Place, archive: Path, request: pytest.FixtureRequest) -> None:
    need("g++", "gcc", "cmake", "nm", "readelf")
    stem = Path(page).stem
    if page not in FROM_NOTHING:
        shutil.copytree(archive.parent, place.folder, dirs_exist_ok=True)
    for name in ("softmax.py", "app.cc") if stem == "integrate" else ():
        (place.folder / name).write_text(next(s.text for s in ALL["docs/tutorial.md"] if s.file == name))
    if stem in SETUPS:
        request.getfixturevalue(SETUPS[stem])
    shutil.copytree(PAGES / stem, place.folder, dirs_exist_ok=True) if (PAGES / stem).is_dir() else None

    printed: str | None = ""
    fragments, of_fragments = set(), []
    for snippet in ALL[page]:
        if snippet.reason:
            continue
        if snippet.language == "text":
            if printed is None:
                of_fragments.append(snippet)
            else:
                assert agrees(snippet.text, printed), f"{page}:{snippet.line}: printed\n{printed}"
        elif snippet.language in CODE:
            printed = place.run(snippet)
            if printed is None:
                fragments.add(f"{snippet.name}.inc")

    programs = sorted(path for suffix in ("*.c", "*.cc") for path in (PAGES / stem).glob(suffix))
    included = {name for path in programs for name in re.findall(r'#include "(.*\.inc)"', path.read_text())}
    assert included == fragments
    said = "".join(place.build(path) for path in programs)
    for snippet in of_fragments:
        assert agrees(f"...\n{snippet.text}...", said), f"{page}:{snippet.line}: printed\n{said}"


@pytest.fixture(autouse=True)
def _drivers_again() -> Iterator[None]:
    """A page may set the dry driver."""
    yield
    if "kpack._runtime" in sys.modules:
        kpack.use_dry_driver(None)


# ---- what pages need beforehand


@triton.jit
def ready_kernel(out, x, factor, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n) * factor, mask=at < n)


@pytest.fixture
def ready_made(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """scale.cubin, scale.hsaco and scale.ttir, and modules that are imported from the page's folder."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(place.folder)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(place.folder / "triton"))
    types = {"out": "*fp32", "x": "*fp32", "factor": "fp32", "n": "i32", "BLOCK": "constexpr"}
    for target, kind in ((GPUTarget("cuda", 90, 32), "cubin"), (GPUTarget("hip", "gfx942", 64), "hsaco")):
        forms = triton.compile(ASTSource(ready_kernel, types, constexprs={"BLOCK": 128}), target=target).asm
        (place.folder / f"scale.{kind}").write_bytes(forms[kind])
        (place.folder / "scale.ttir").write_text(forms["ttir"])
    # What Triton names the parameters of this TTIR after, the page calls n_elements.
    text = (place.folder / "scale.ttir").read_text()
    (place.folder / "scale.ttir").write_text(re.sub(r"%n\b", "%n_elements", text))


@pytest.fixture
def torch() -> None:
    pytest.importorskip("torch")


@pytest.fixture
def before(place: Place) -> None:
    """What docs/report.md compares with, and tuning results without any."""
    shutil.copy(place.folder / "libtk.a", place.folder / "libtk-before.a")
    (place.folder / "tk.csv").write_text("# kpack tuning table 1\n")
    (place.folder / "trials.json").write_text("[]\n")


@pytest.fixture
def linked(place: Place) -> None:
    """app and plugin.so, with the archive in them."""
    (place.folder / "main.c").write_text("int main(void) { return 0; }\n")
    whole = "-Wl,--whole-archive libtk.a -Wl,--no-whole-archive"
    place.shell(f"gcc main.c {whole} -o app && gcc -shared {whole} -o plugin.so")


SETUPS = {"cli": "linked", "build": "ready_made", "languages": "torch", "report": "before"}


# ---- pages of their own kind


def test_the_command_of_what_packs_runs_its_test() -> None:
    (snippet,) = code_of("docs/kernels.md")
    words = snippet.text.split("'")
    assert words[0] == "pytest "
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", words[1]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_what_a_kernel_says_for_tuning_is_taken(place: Place) -> None:
    """`...` among the arguments of docs/tuning.md is what the tutorial's kernel says."""
    page = [s for s in ALL["docs/tuning.md"] if s.language == "python"]
    (tutorial,) = (s for s in ALL["docs/tutorial.md"] if s.file == "softmax.py")
    common, names = tutorial.text.partition("softmax_kernel,\n")[2], {"kpack": kpack}
    (place.folder / "tuned.py").write_text(
        tutorial.text.partition("softmax = ")[0]
        + "tuned = "
        + page[0].text.replace("    ...,\n", common.rpartition(")")[0])
    )
    exec(compile((place.folder / "tuned.py").read_text(), str(place.folder / "tuned.py"), "exec"), names)
    assert kpack.build(names["tuned"], arch="sm_90").failures == ()
    assert len(page) == 1


def test_tables_and_shapes_are_as_the_page_shows_them(tmp_path: Path) -> None:
    table, shapes = (s for s in ALL["docs/tuning.md"] if s.language == "")
    (tmp_path / "tk.csv").write_text(table.text)
    (tmp_path / "shapes.csv").write_text(shapes.text)
    read = read_table(tmp_path / "tk.csv")
    assert ([entry.choice for entry in read.entries], read.rejected) == (["fp16.BLOCK1024.w4.a16"], ())
    calls, rejected = read_shapes(tmp_path / "shapes.csv")
    assert (len(calls), rejected) == (16, ())


# ---- links


def test_links_of_readme_lead_somewhere() -> None:
    """Those of the site are Sphinx's to check."""
    prose = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)]+)\)", prose)
    assert targets
    for target in targets:
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / path).exists(), target
        assert not anchor or anchor in anchors(ROOT / (path or "README.md")), target


def anchors(path: Path) -> set[str]:
    return {slug(title) for title in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}
