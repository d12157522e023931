"""The page of `kpack report`, opened in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser
from packs_for_reports import HOSTILE, TARGETS, single, write
from tools import need

from kpack.objfile.reading import read_pack
from kpack.report.write import write_report
from kpack.tuning.key import tuning_hash
from kpack.tuning.table import Entry, merge_entries

AREAS = (Path(__file__).parent / "areas.js").read_text()
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
UNKNOWN = "\N{EN DASH}"
NAMES = [
    "softmax",
    "layer_norm",
    "an_attention_kernel_with_a_very_long_name_" + "of_a_template_" * 9,
    "gemm",
    "rope",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    need("chromium", "bash")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def full(folder: Path) -> Path:
    """A page with every section, of several kernels."""
    archive = write(folder / "libtk.a", NAMES, missing=["out of shared memory"])
    before = write(folder / "libold.a", [*NAMES[1:], "gone"], seed=2)
    (kernel,) = (kernel for kernel in read_pack(archive).kernels if kernel.name == "softmax")
    hash_ = tuning_hash(variant.hash for variant in kernel.variants)
    left_out = "fp16.BLOCK512.w4: wrong; fp16.BLOCK256.w4: failed (out of memory)"
    gains = {1: 1.0, 20: 1.05, 1024: 1.2, 4096: 1.4, 16384: 1.9, 65536: 3.0, 99: 0}
    entries = [Entry("softmax", 1, "sm_80/108", "*fp16", "n=1", "fp16.BLOCK64.w4", 1, 1)]
    for at, (n, gain) in enumerate(gains.items()):
        choice, us = f"fp16.BLOCK{64 << at % 3}.w4", 10.0 + at
        entries.append(
            Entry("softmax", hash_, "sm_90/132", "*fp16", f"n={n}", choice, us, gain * us, left_out)
        )
    merge_entries(folder / "tk.csv", entries)
    trial = {"reason": "", "samples": 9}
    outcomes = [
        {
            "shape": {"kernel": "softmax", "values": {"x": "*fp16:16", "n": str(n)}, "line": 2},
            "trials": [
                {
                    **trial,
                    "name": f"v{slower}",
                    "outcome": "timed",
                    "median_us": n * slower,
                    "chosen": slower == 1,
                }
                for slower in (1, 1.05, 1.2, 1.4, 1.9, 5)
            ]
            + [{**trial, "name": "v9", "outcome": "wrong", "median_us": 0, "chosen": False}],
            "error": "",
            "crashes": [],
        }
        for n in (8, 4096)
    ]
    (folder / "trials.json").write_text(json.dumps(outcomes))
    page = folder / "full.html"
    write_report(archive, page, before=before, tuned=[folder / "tk.csv"], trials=[folder / "trials.json"])
    return page


def data(page: Path) -> dict[str, Any]:
    text = page.read_text().partition('id="data">')[2].partition("</script>")[0]
    return dict(json.loads(text))


def test_scripts_run_without_complaint_and_ask_for_nothing(browser: Browser, full: Path) -> None:
    browser.open(full)
    assert browser.complaints == []
    assert browser.requests == [full.as_uri()]
    sections = browser.js("[...document.querySelectorAll('section')].map((each) => each.id)")
    assert sections == ["sizes", "variants", "missing", "tuning", "difference"]
    assert len(browser.picture()) > 20_000


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Browser, full: Path) -> None:
    page = full.with_name("injected.html")
    page.write_text(full.read_text().replace("</body>", "<script>window.hacked = 1</script></body>"))
    browser.open(page)
    assert browser.js("window.hacked") is None
    assert any("Content Security Policy" in text for text in browser.complaints)


def check_areas(cells: list[dict[str, Any]], total: int) -> None:
    assert sum(cell["bytes"] for cell in cells) == total
    for cell in cells:
        assert cell["inside"]
        # An edge may be off by half a pixel, as it is drawn.
        slack = 0.5 / cell["width"] + 0.5 / cell["height"]
        assert cell["share"] == pytest.approx(cell["bytes"] / total, rel=slack), cell
    assert sum(cell["share"] for cell in cells) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("width", [1280, 390])
def test_areas_are_sizes(browser: Browser, full: Path, width: int) -> None:
    browser.open(full, width=width)
    of = data(full)
    cells = browser.js(AREAS)
    assert len(cells) == len(NAMES) * len(TARGETS)
    check_areas(cells, sum(of["images"]["stored"]))


def test_a_closer_look_has_the_images_of_one_kernel(browser: Browser, full: Path) -> None:
    browser.open(full)
    browser.js(
        "[...document.querySelectorAll('.cell')].find((cell) => cell.ariaLabel.startsWith('softmax,')).click()"
    )
    of = data(full)
    number = next(at for at, kernel in enumerate(of["kernels"]) if kernel["name"] == "softmax")
    of_it = [at for at, kernel in enumerate(of["images"]["kernel"]) if kernel == number]
    cells = browser.js(AREAS)
    assert len(cells) == len(of_it) == 15
    check_areas(cells, sum(of["images"]["stored"][at] for at in of_it))


def test_the_treemap_is_walked_by_keys(browser: Browser, full: Path) -> None:
    browser.open(full)
    browser.js("document.querySelector('.cell').focus()")
    focus = "document.activeElement.ariaLabel"
    at = "document.activeElement.getBoundingClientRect().left"
    first, left = browser.js(focus), browser.js(at)
    browser.press("ArrowRight")
    assert browser.js(focus) != first
    assert browser.js(at) > left
    assert browser.js("document.querySelectorAll('.cell[tabindex=\"0\"]').length") == 1
    kernel = browser.js(focus).partition(",")[0]
    browser.press("Enter")
    assert browser.js("document.querySelector('.trail strong').textContent") == kernel
    assert browser.js(focus).startswith("fp16.BLOCK")
    browser.press("Escape")
    assert browser.js("document.querySelector('.trail strong')") is None
    assert browser.js("document.activeElement.className").startswith("cell")


HEADS = "[...document.querySelectorAll('#variants thead th')]"


def rows(browser: Browser, selector: str = "#variants tbody tr") -> list[list[str]]:
    """The texts of these rows of a table."""
    texts = "(row) => [...row.cells].map((cell) => cell.textContent)"
    return list(browser.js(f"[...document.querySelectorAll({json.dumps(selector)})].map({texts})"))


def column(browser: Browser, title: str) -> list[str]:
    at = browser.js(f"{HEADS}.findIndex((head) => head.textContent.includes('{title}'))")
    return [row[at] for row in rows(browser)]


def by_number(text: str) -> float:
    return float(text.strip("⚠ %").replace(",", ""))


@pytest.mark.parametrize("title", ["Code", "Registers", "Spills", "Shared", "Occupancy"])
def test_a_column_sorts_its_numbers(browser: Browser, full: Path, title: str) -> None:
    browser.open(full)
    order = rows(browser)
    known = sorted(by_number(text) for text in column(browser, title) if text != UNKNOWN)
    unknown = len(order) - len(known)
    assert len(set(known)) > 1
    button = f"{HEADS}.find((head) => head.textContent.includes('{title}')).querySelector('button')"
    browser.js(f"{button}.click()")
    found = column(browser, title)
    assert [by_number(text) for text in found[: len(known)]] == known[::-1]
    assert found[len(known) :] == [UNKNOWN] * unknown  # what is not known is last, either way
    assert browser.js(f"{HEADS}.map((head) => head.ariaSort).filter(Boolean)") == ["descending"]
    browser.js(f"{button}.focus()")
    browser.press("Enter")
    assert [by_number(text) for text in column(browser, title)[: len(known)]] == known
    assert browser.js(f"{HEADS}.map((head) => head.ariaSort).filter(Boolean)") == ["ascending"]
    browser.press("Enter")
    assert rows(browser) == order


def test_names_sort_and_filter(browser: Browser, full: Path) -> None:
    browser.open(full)
    browser.js(f"{HEADS}.find((head) => head.textContent.includes('Kernel')).querySelector('button').click()")
    assert column(browser, "Kernel") == sorted(column(browser, "Kernel"))
    browser.js(
        "(() => { const field = document.querySelector('input[type=search]'); field.value = 'softmax SM_90';"
        " field.dispatchEvent(new Event('input')); })()"
    )
    assert set(column(browser, "Kernel")) == {"softmax"} and set(column(browser, "Target")) == {"sm_90"}
    assert browser.js("document.querySelector('.tools [role=status]').textContent") == "4 of 75 images"


def test_text_stands_out_in_light_and_dark(browser: Browser, full: Path) -> None:
    grounds = []
    for dark in (False, True):
        browser.open(full, dark=dark)
        browser.js("[...document.querySelectorAll('details')].forEach((each) => { each.open = true; })")
        found = browser.js(CONTRAST)
        assert found["low"] == []
        assert found["count"] > 500
        grounds.append(found["ground"])
    assert len(set(grounds)) == 2
    # The button goes the other way.
    browser.js("document.getElementById('theme').click()")
    assert browser.js(CONTRAST)["ground"] == grounds[0]
    assert browser.js(CONTRAST)["low"] == []


def test_contrast_is_measured(browser: Browser, full: Path) -> None:
    browser.open(full)
    browser.js("document.querySelector('h1').style.color = '#bbb'")
    assert [text for text, *_ in browser.js(CONTRAST)["low"]] == ["libtk.a"]


def test_nothing_is_said_by_colour_alone(browser: Browser, full: Path) -> None:
    browser.open(full)
    heat = browser.js(
        "[...document.querySelectorAll('.heat td')].filter((cell) => cell.className).map((cell) => cell.textContent)"
    )
    assert heat and all(any(c.isalnum() for c in text) for text in heat)
    swatches = "[...document.querySelectorAll('#sizes .swatch')]"
    patterns = browser.js(f"{swatches}.map((each) => getComputedStyle(each).backgroundImage)")
    assert len(set(patterns)) == len(TARGETS)
    labels = browser.js("[...document.querySelectorAll('.cell')].map((cell) => cell.ariaLabel)")
    assert all(any(target in label for target in TARGETS) for label in labels)
    spills = [text for text in column(browser, "Spills") if text not in ("0", UNKNOWN)]
    assert spills and all(text.startswith("⚠") for text in spills)


def test_everything_has_a_name_for_who_does_not_see(browser: Browser, full: Path) -> None:
    browser.open(full)
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "table", "region", "textbox", "searchbox", "combobox", "checkbox", "heading"}
    asked = [node for node in nodes if node.get("role", {}).get("value") in roles and not node["ignored"]]
    assert len(asked) > 40
    assert [node for node in asked if not node.get("name", {}).get("value")] == []


def test_tuning_is_a_heat_map(browser: Browser, full: Path) -> None:
    browser.open(full)
    found = rows(browser, "table.heat tr")
    second = next(at for at, row in enumerate(found) if at and row[0] == "contender")
    chosen, trials = found[:second], found[second:]
    assert chosen[0] == ["contender", "n=1", "n=20", "n=99", "n=1024", "n=4096", "n=16384", "n=65536"]
    assert chosen[1] == ["fp16.BLOCK64.w4", "★ 10.0", "·", "★ 16.0", "·", "★ 13.0", "·", "·"]
    assert chosen[-1] == ["fp16.BLOCK512.w4"] + ["wrong"] * 7
    assert trials[1] == ["v1", "★ 8.00", "★ 4,096"]
    assert trials[-1] == ["v9", "wrong", "wrong"]
    assert (
        browser.js("document.querySelector('.remarks').textContent")
        == "tk.csv: not shown: 1 entry of another build of softmax"
    )


def test_the_difference_is_told(browser: Browser, folder: Path) -> None:
    before = single(folder / "before.a", "softmax", registers=40)
    after = single(folder / "after.a", "softmax", registers=48, code=b"other " * 50)
    write_report(after, folder / "difference.html", before=before)
    browser.open(folder / "difference.html")
    found = rows(browser, "#difference tbody tr")
    assert [row[:5] for row in found] == [["± changed", "softmax", "fp16.BLOCK64.w4", "sm_90", "+100"]]
    assert found[0][5].startswith("registers 40 → 48hash ")
    write_report(after, folder / "none.html", before=after)
    browser.open(folder / "none.html")
    assert browser.js("document.querySelector('#difference .empty').textContent").startswith("None: ")


def test_hostile_names_are_only_text(browser: Browser, folder: Path) -> None:
    archive = write(
        folder / 'lib"><img src=x>.a',
        ["softmax"],
        HOSTILE,
        missing=HOSTILE,
        guard_text=HOSTILE[1],
        source=HOSTILE[0],
    )
    (kernel,) = read_pack(archive).kernels
    hash_ = tuning_hash(variant.hash for variant in kernel.variants)
    call = HOSTILE[1].replace(" ", "_")
    entry = Entry(
        "softmax", hash_, HOSTILE[0], HOSTILE[1], call, HOSTILE[0], 1.0, 2.0, f"{HOSTILE[1]}: {HOSTILE[2]}"
    )
    merge_entries(folder / "hostile.csv", [entry])
    page = folder / 'a"><script>window.hacked=1<script>.html'
    write_report(
        archive, page, before=single(folder / "libbefore.a", "softmax"), tuned=[folder / "hostile.csv"]
    )
    browser.open(page)
    assert browser.complaints == []
    assert browser.js("window.hacked") is None
    assert browser.js("document.querySelectorAll('img, main script, b:not(.tiles b)').length") == 0
    shown = set(column(browser, "Variant"))
    assert set(HOSTILE[:4]) < shown
    assert "left\\u202eright\\x07\\u2028end" in shown


def test_three_hundred_kernels_are_one_small_page(browser: Browser, folder: Path) -> None:
    archive = write(folder / "libmany.a", [f"kernel_{number}" for number in range(300)], 8)
    write_report(archive, folder / "many.html")
    assert (folder / "many.html").stat().st_size < 2_000_000
    browser.open(folder / "many.html")
    assert browser.complaints == []
    assert browser.js("document.querySelectorAll('.cell').length") == 1200
    assert len(rows(browser)) == 250
    browser.js("document.querySelector('#variants .more button').click()")
    assert len(rows(browser)) == 1250


@pytest.mark.parametrize("what", ["one kernel", "nothing but what is missing"])
def test_small_archives_are_drawn(browser: Browser, folder: Path, what: str) -> None:
    missing = ["no"] * 4 if what != "one kernel" else []
    archive = write(folder / "libone.a", ["softmax"], 1, missing=missing)
    write_report(archive, folder / "one.html")
    browser.open(folder / "one.html")
    assert browser.complaints == []
    assert browser.js("document.querySelectorAll('.cell').length") == 4 - len(missing)
    assert browser.js("document.querySelectorAll('#missing tbody tr').length") == len(missing)
    assert browser.js("document.getElementById('tuning')") is None
    assert browser.js(CONTRAST)["low"] == []
