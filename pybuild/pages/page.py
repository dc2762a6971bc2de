"""A page as one HTML file: it loads nothing, and runs no script and takes no style except those that it was made with.

The Content-Security-Policy names both by their hashes, so no text of an image can become code, whatever a browser makes
of it. Such texts are in the data only, which is base64; the title is the one exception, and is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from pybuild.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXPLORE_STYLES = ("page.css", "explore.css")
_EXPLORE_SCRIPTS = (
    "base.js", "inflate.js", "data.js", "files.js", "tree.js", "treemap.js", "explore.js", "sections.js", "difference.js",
    "explore-main.js",
)  # fmt: skip
_REPORT_STYLES = ("page.css", "report.css")
_REPORT_SCRIPTS = ("base.js", "inflate.js", "data.js", "report.js")
_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="pybuild {version}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main id="page"><p>One moment…</p><noscript><p>This page is a program: it needs JavaScript. It loads nothing from anywhere.</p></noscript></main>
<script type="text/plain" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def explore_page(title: str, data: str) -> bytes:
    """The page of one image, or of the differences between two. `data`: of pybuild.pages.image_data."""
    return _page(title, data, _EXPLORE_STYLES, _EXPLORE_SCRIPTS)


def report_page(title: str, data: str) -> bytes:
    """The page of a build. `data`: of pybuild.pages.build_data."""
    return _page(title, data, _REPORT_STYLES, _REPORT_SCRIPTS)


def _page(title: str, data: str, styles: Sequence[str], scripts: Sequence[str]) -> bytes:
    style = _joined(styles)
    script = f'(() => {{\n"use strict";\n{_joined(scripts)}}})();\n'
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; base-uri 'none';"
        " form-action 'none'"
    )
    page = _TEMPLATE.format(
        policy=policy, version=escape(__version__), title=escape(title), style=style, data=data, script=script
    )
    return page.encode()


def _joined(names: Sequence[str]) -> str:
    """The texts of these files. None of them can end the element that it stands in."""
    static = resources.files("pybuild.pages") / "static"
    text = "".join((static / name).read_text("utf-8") for name in names)
    assert "</s" not in text.lower() and "<!--" not in text
    return text


def _hash(text: str) -> str:
    """The source expression of an inline element: CSP Level 3, section 2.3.1."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
