"""The page: one file with its style, script and data inside, that asks nothing of a network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpack.errors import PackError

__all__ = ["render", "write_page"]

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("base.js", "tables.js", "treemap.js", "tuning.js", "difference.js", "main.js")


def render(heading: str, footer: str, data: Mapping[str, Any]) -> str:
    """The page's HTML, all ASCII in its data. Its policy lets no script run but the one that is written here."""
    parts = (_asset(name) for name in _SCRIPTS)
    script = '"use strict";\n{\n' + "\n".join(parts) + "}\n"
    style = _asset("page.css")
    values = {
        "title": html.escape(f"{heading} - kpack report"),
        "heading": html.escape(heading),
        "footer": html.escape(footer),
        "style": style,
        "style_hash": _policy(style),
        "script": script,
        "script_hash": _policy(script),
        "data": _json(data),
    }
    # In one pass: what is put in is not looked at again.
    return re.sub("@([a-z_]+)@", lambda marker: values[marker[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _policy(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Mapping[str, Any]) -> str:
    """JSON in which no text can end the element that it is in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Write it, whole or not at all."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            with open(partial, "x", encoding="utf-8") as file:
                file.write(page)
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        raise PackError(f"{target}: expected a place to write the report, got {error.strerror}") from error
