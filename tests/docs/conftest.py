"""A folder for each page, in which its snippets run one after the other."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for place.py, reader.py and snippets.py

from place import PAGES, Place
from snippets import DOCS, read_page


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What has been compiled, for all pages: they show the same kernels."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def archive(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of all pages: the tutorial's softmax, and what pages/kernels has."""
    place = Place(tmp_path_factory.mktemp("pack"), cache)
    (place.folder / "kernels").mkdir()
    for file in (PAGES / "kernels").iterdir():
        shutil.copy(file, place.folder / "kernels")
    for snippet in read_page(DOCS / "tutorial.md"):
        if snippet.file == "softmax.py":
            (place.folder / "kernels" / "softmax.py").write_text(snippet.text)
    place.shell("kpack build --quiet kernels --arch gfx90a --arch sm_90 -o libtk.a")
    return place.folder / "libtk.a"


@pytest.fixture
def place(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, cache)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KPACK_CACHE_DIR", str(cache))
    monkeypatch.setenv("PATH", made.environment["PATH"])
    for name in ("KPACK_DRIVER", "KPACK_LOG", "KPACK_TUNING"):
        monkeypatch.delenv(name, raising=False)
    return made
