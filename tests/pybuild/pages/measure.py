"""Figures of a large page: `make pages`. Prints them, and fails if they are worse than docs/user/pages.md promises."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pybuild.pages.image_data import image_data
from pybuild.pages.page import explore_page
from tests.support.browser import chromium
from tests.support.imagined import a_large_image

if TYPE_CHECKING:
    from tests.support.browser import Tab

PATHS = 500_000
RUNS = 5
LARGEST, OPENING, FILTER = 25.0, 3.0, 0.1  # MB, seconds, seconds
_FILTERS = (
    ("text", "json"), ("text", "/usr/lib"), ("text", ""), ("owner", "1000:0"), ("owner", ""), ("special", "setuid"),
    ("special", "hidden"), ("special", "twice"), ("special", ""), ("layer", "3"), ("layer", "-1"),
)  # fmt: skip
_WATCH = (
    "new MutationObserver(() => { if (document.documentElement?.dataset.ready) window.ready ??= performance.now(); })"
    ".observe(document, { subtree: true, attributes: true });"
)


def script_seconds(tab: Tab) -> float:
    """The processor time that scripts of the page have taken."""
    return next(
        float(each["value"]) for each in tab.call("Performance.getMetrics")["metrics"] if each["name"] == "ScriptDuration"
    )


def measure(paths: int) -> bool:
    """Print what a page with so many paths takes; whether that is little enough."""
    image = a_large_image(paths)
    began = time.process_time()
    page = explore_page("large", image_data("large", image))
    size = len(page) / 1e6
    print(f"{paths:,} paths: a page of {size:.1f} MB, made in {time.process_time() - began:.1f} s of processor time")
    with TemporaryDirectory() as directory, chromium() as browser:
        path = Path(directory) / "page.html"
        path.write_bytes(page)
        opened, filtered = [], dict[tuple[str, str], list[float]]()
        for _ in range(RUNS):
            with browser.open(path, before=_WATCH) as tab:
                opened.append(tab.run("window.ready") / 1000)
                tab.call("Performance.enable", timeDomain="threadTicks")  # processor time: other work does not count
                for name, value in _FILTERS:
                    before = script_seconds(tab)
                    tab.choose(f"#filter-{name}", value)
                    filtered.setdefault((name, value), []).append(script_seconds(tab) - before)
                complaints = tab.complaints()
    opening = statistics.median(opened)
    answers = {key: statistics.median(each) for key, each in filtered.items()}
    print(f"opens in {opening:.2f} s ({min(opened):.2f} to {max(opened):.2f})")
    for (name, value), took in answers.items():
        print(f"filter {name}={value!r}: {took * 1000:.0f} ms of processor time")
    return size < LARGEST and opening < OPENING and max(answers.values()) < FILTER and not complaints


if __name__ == "__main__":
    sys.exit(0 if measure(int(sys.argv[1]) if len(sys.argv) > 1 else PATHS) else "worse than promised")
