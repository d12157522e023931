"""The site: `make docs` writes it to build/docs, and fails on a link that leads nowhere."""

import sys
from pathlib import Path

from kpack import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "kpack"
release = __version__
copyright = "the kpack authors, MIT licence"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "docstrings",
    "headers",
]  # the last two: _ext/
source_suffix = {".md": "markdown"}
exclude_patterns = ["_ext"]
nitpicky = True

myst_heading_anchors = 4  # as GitHub has them: a link works in both places
myst_enable_extensions = ["attrs_block"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures keep the source's words
default_role = "code"  # docstrings are text with `code` in it

html_theme = "furo"
html_title = f"kpack {release}"
html_copy_source = False
html_show_sphinx = False
