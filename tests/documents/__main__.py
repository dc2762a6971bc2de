"""`make docs`: looks for faults in the built site, in its files and in a browser. Prints them, and fails if there are any.

    python -m tests.documents site [PICTURES]

The browser opens each page from the disk, in three widths and both themes, and searches. With PICTURES, a directory, it
leaves pictures of some pages there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.documents.pages import faults
from tests.support.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.browser import Browser, Tab

WIDTHS = (390, 820, 1440)
PICTURED = ("index.html", "user/cache.html", "user/kaniko.html", "user/checks.html", "dev/architecture.html")
_FOUND = (
    "new Promise((done) => { const began = Date.now(); const look = () => {"
    " const found = document.querySelectorAll('.md-search-result__item').length;"
    " found || Date.now() - began > 20000 ? done(found) : setTimeout(look, 20); }; look(); })"
)


def main(site: Path, pictures: Path | None) -> int:
    found = list(faults(site))
    with chromium() as browser:
        for path in sorted(site.rglob("*.html")):
            if path.name != "404.html":  # its addresses begin with a slash: only a server has it
                found += [f"{path.relative_to(site)}: {fault}" for fault in seen(browser, path, site)]
        found += searched(browser, site)
        found += themed(browser, site)
        if pictures:
            take(browser, site, pictures)
    print("\n".join(found))
    print(f"{len(found)} faults in {sum(1 for _ in site.rglob('*.html'))} pages")
    return 1 if found else 0


def seen(browser: Browser, path: Path, site: Path) -> Iterator[str]:
    """What a browser finds wrong with a page."""
    with browser.open(path, width=WIDTHS[0]) as tab:
        for width in WIDTHS:
            tab.resize(width)
            if overflow := tab.overflow():
                yield f"{overflow} pixels wider than a window of {width}"
        yield from _outside(tab, site)
        yield from tab.complaints()


def searched(browser: Browser, site: Path) -> Iterator[str]:
    """The search answers, from the disk and without a server."""
    with browser.open(site / "index.html", width=WIDTHS[2]) as tab:
        tab.run("document.querySelector('.md-search__input').focus()")
        tab.choose(".md-search__input", "cache mounts")
        tab.run("document.querySelector('.md-search__input').dispatchEvent(new KeyboardEvent('keyup'))")
        if not tab.run(_FOUND):
            yield "the search finds nothing"
        elif "The cache" not in (first := tab.texts(".md-search-result__item h1")[:3]):
            yield f"the search for cache mounts begins with {first}"
        yield from _outside(tab, site)
        yield from tab.complaints()


def themed(browser: Browser, site: Path) -> Iterator[str]:
    """The page follows the theme of the system, also when that changes."""
    for dark in (False, True, False):
        with browser.open(site / "index.html", dark=dark) as tab:
            if tab.run("document.body.dataset.mdColorScheme") != ("slate" if dark else "default"):
                yield f"index.html is {'not ' if dark else ''}dark"


def _outside(tab: Tab, site: Path) -> Iterator[str]:
    for address in tab.requests():
        if not address.startswith((site.as_uri(), "about:")):
            yield f"the browser asks for {address}"


def take(browser: Browser, site: Path, pictures: Path) -> None:
    pictures.mkdir(parents=True, exist_ok=True)
    for name in PICTURED:
        for width in WIDTHS:
            for dark in (False, True) if width == WIDTHS[2] else (False,):
                with browser.open(site / name, width=width, dark=dark) as tab:
                    theme = "-dark" if dark else ""
                    tab.screenshot(pictures / f"{name.replace('/', '-').removesuffix('.html')}-{width}{theme}.png")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
