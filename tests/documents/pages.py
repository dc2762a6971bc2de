"""Looks for faults in the files of a built site: what comes from elsewhere, links that lead nowhere, Markdown that shows.

A page may lead to another host, by a link that a reader follows. It may not load anything from there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Attributes whose address a browser fetches on its own. Of <link> it depends on rel.
_LOADED = {"src", "srcset", "poster", "data", "background"}
_NOT_LOADED = {"canonical", "next", "prev", "alternate", "author", "license"}
_CSS = re.compile(r"""@import\s+["']([^"']+)|url\(\s*["']?([^"')]+)""")
_CODE = {"code", "pre", "script", "style", "kbd", "svg"}
_MARKDOWN = re.compile(r"\]\(|`|\*\*|^\s*(?:[*-]|\d+\.) \S|^\s*\|.*\|\s*$|^\s*:::", re.MULTILINE)
_EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Page:
    """What a browser sees in one page."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    text: list[str] = field(default_factory=list)  # pieces of the article that are not code


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if anchor := found.get("id") or (found.get("name") if tag == "a" else None):
            self.page.anchors.add(anchor)
        self.page.loads += [value for name, value in found.items() if name in _LOADED and value]
        self.page.loads += [one for pair in _CSS.findall(found.get("style", "")) for one in pair if one]
        if tag == "link" and not set(found.get("rel", "").split()) <= _NOT_LOADED:
            self.page.loads.append(found["href"])
        elif tag in ("a", "area") and "href" in found:
            self.page.links.append(found["href"])
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.page.loads += [one for pair in _CSS.findall(data) for one in pair if one]
        elif "article" in self._open and not _CODE & set(self._open):
            self.page.text.append(data)


def read_page(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text())
    reader.close()
    return reader.page


def faults(site: Path) -> Iterator[str]:
    """Each fault, as a line that begins with the file."""
    pages = {path: read_page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        # The server gives 404.html at any address, so its own addresses begin with a slash.
        root = site if name.name == "404.html" else path.parent
        for address in page.loads:
            if wrong := _elsewhere(address) or _missing(address, root):
                yield f"{name} loads {address}: {wrong}"
        for address in page.links:
            if wrong := _leads_nowhere(address, path, root, pages):
                yield f"{name} has a link to {address}: {wrong}"
        for piece in page.text:
            if shown := _MARKDOWN.search(piece):
                yield f"{name} shows Markdown: {piece[max(0, shown.start() - 30) :][:90]!r}"
    for path in sorted(site.rglob("*.css")):
        for pair in _CSS.findall(path.read_text()):
            address = pair[0] or pair[1]
            if wrong := _elsewhere(address) or _missing(address, path.parent):
                yield f"{path.relative_to(site)} loads {address}: {wrong}"


def _elsewhere(address: str) -> str:
    parts = urlsplit(address)
    return "" if parts.scheme in ("", "data") and not parts.netloc else "it is not part of the site"


def _missing(address: str, directory: Path) -> str:
    path = urlsplit(address).path
    if address.startswith("data:") or not path:
        return ""
    return "" if (directory / unquote(path).lstrip("/")).exists() else "there is no such file"


def _leads_nowhere(address: str, path: Path, root: Path, pages: dict[Path, Page]) -> str:
    address, anchor = urldefrag(address)
    if urlsplit(address).scheme in ("https", "http", "mailto"):
        return ""
    target = (root / unquote(urlsplit(address).path).lstrip("/")).resolve() if address else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "there is no such page"
    if anchor and target in pages and unquote(anchor) not in pages[target].anchors:
        return "the page has no such anchor"
    return ""
