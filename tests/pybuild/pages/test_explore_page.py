"""The page about images, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pybuild.pages.image_data import difference_data, image_data
from pybuild.pages.page import explore_page
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.store.formats.toc import Entry, Kind
from tests.support.imagined import a_file, a_large_image, imagined, removed
from tests.support.looks import CONTRAST, unnamed_controls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pybuild.store.importing.archived import ReadableImage
    from tests.support.browser import Browser, Tab

LAYERS = [
    [
        a_file("bin/su", 20_000, mode=0o4755),
        a_file("bin/ash", 90_000, "ash"),
        a_file("bin/sh", 90_000, "ash", of="bin/ash"),
        a_file("etc/passwd", 150, mode=0o666),
        a_file("var/lib/apt/lists/one", 40_000),
        a_file("var/lib/apt/lists/two", 2_000),
        Entry(b"tmp", Kind.DIRECTORY, 0o1777),
        Entry(b"dev/null", Kind.CHAR, 0o666, rdev=0x103),
    ],
    [a_file("app/main.py", 3_000, "same", uid=1000), a_file("app/copy.py", 3_000, "same", uid=1000), a_file("etc/passwd", 200)],
    [
        removed("var/lib/apt"),
        a_file("bin/ping", 5_000, xattrs=((b"security.capability", b"x"),)),
        Entry(b"bin/link", Kind.SYMLINK, 0o777, link=b"ping"),
    ],
]
HOSTILE = "<img src=x onerror='window.hacked=1'></script><script>window.hacked=1</script>${hacked}]]>&amp;\"'"
DOCUMENT = "document.documentElement"


def written(page: bytes, directory: Path) -> Path:
    path = directory / "page.html"
    path.write_bytes(page)
    return path


def image_page(directory: Path, image: ReadableImage, name: str = "app:1") -> Path:
    return written(explore_page(name, image_data(name, image)), directory)


def difference_page(directory: Path, before: ReadableImage, after: ReadableImage) -> Path:
    return written(explore_page("a and b", difference_data(("a:1", "b:1"), before, after)), directory)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_page(tmp_path_factory.mktemp("image"), imagined(LAYERS))


@pytest.fixture(scope="module")
def difference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    after = imagined(LAYERS[:2], ExecConfig(env=("A=2",), user="app"))
    return difference_page(tmp_path_factory.mktemp("difference"), imagined(LAYERS), after)


@pytest.fixture(scope="module")
def filtered(browser: Browser, image: Path) -> Iterator[Tab]:
    """The page of the image, for tests that begin with a reset of the filters."""
    with browser.open(image) as tab:
        yield tab


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", ["image", "difference"])
def test_a_page_fits_loads_nothing_and_can_be_read(
    browser: Browser, kind: str, dark: bool, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(kind)
    with browser.open(path, dark=dark) as tab:
        for width in (1400, 820, 360):
            tab.resize(width)
            assert tab.overflow() == 0, width
            assert tab.run(CONTRAST) == [], width
        assert tab.requests() == [path.as_uri()]
        assert tab.complaints() == []
        assert unnamed_controls(tab) == []


@pytest.mark.parametrize(
    ("controls", "found"),
    [
        pytest.param({}, "16 paths, 121 kB", id="the image as it is"),
        pytest.param({"everything": "1"}, "20 paths, 163 kB", id="with what is hidden"),
        pytest.param({"text": "PASSWD"}, "1 path, 200 B", id="a name in any case"),
        pytest.param({"text": "bin/s"}, "2 paths, 20.0 kB", id="a part of a path"),
        pytest.param({"text": "/bin"}, "1 path, 0 B", id="from the root"),
        pytest.param({"text": "/in"}, "0 paths, 0 B", id="components begin so"),
        pytest.param({"text": "pt/lists/o", "everything": "1"}, "1 path, 40.0 kB", id="across components"),
        pytest.param({"text": "nothing"}, "0 paths, 0 B", id="nothing"),
        pytest.param({"owner": "1000:0"}, "2 paths, 6.0 kB", id="an owner"),
        pytest.param({"special": "setuid"}, "1 path, 20.0 kB", id="setuid"),
        pytest.param({"special": "capability"}, "1 path, 5.0 kB", id="capabilities"),
        pytest.param({"special": "links"}, "2 paths, 0 B", id="links"),
        pytest.param({"special": "devices"}, "1 path, 0 B", id="devices"),
        pytest.param({"special": "writable"}, "1 path, 0 B", id="writable, without a sticky directory"),
        pytest.param({"special": "hidden"}, "5 paths, 42.1 kB", id="hidden"),
        pytest.param({"special": "twice"}, "2 paths, 6.0 kB", id="twice"),
        pytest.param({"layer": "1"}, "4 paths, 6.2 kB", id="a layer"),
        pytest.param({"layer": "2", "special": "files"}, "1 path, 5.0 kB", id="two filters"),
    ],
)
def test_a_filter(filtered: Tab, controls: dict[str, str], found: str) -> None:
    filtered.click(".filters .plain-button")
    assert filtered.text(".found") == "16 paths, 121 kB"
    for name, value in controls.items():
        filtered.choose(f"#filter-{name}", value)
    assert filtered.text(".found") == found


def test_changes_of_a_layer(browser: Browser, image: Path) -> None:
    with browser.open(image) as tab:
        tab.click("button.layer:not([aria-pressed=true])")
        assert tab.run("document.querySelector('#filter-layer').value") == "0"
        tab.run("document.querySelectorAll('button.layer')[2].click()")
        for name in ("added", "changed"):
            tab.click(f"#filter-{name}")
        assert tab.text(".found") == "1 path, 0 B"
        tab.run("document.querySelectorAll('button.layer')[1].click(); document.querySelector('#filter-changed').click()")
        tab.click("#filter-deleted")
        assert tab.text(".found") == "1 path, 200 B"
        assert "~" in tab.text(".tree")


def test_the_page_tells_what_is_waste(browser: Browser, image: Path) -> None:
    with browser.open(image) as tab:
        waste = re.sub(r"\s+", " ", tab.text("#waste"))
        assert "42.1 kB hidden by later layers, 3.0 kB there more than once" in waste
        assert "42.0 kB /var/lib/apt (2 files) written by #1 RUN step 0 hidden by #3 RUN step 2" in waste
        assert "150 B /etc/passwd" in waste
        assert "2 times 3.0 kB /app/copy.py /app/main.py" in waste
        tab.click("#waste .link")
        assert tab.text(".detail .path") == "/var/lib/apt"
        assert tab.text(".row[aria-selected=true] .label") == "apt/"


def test_a_hard_link_that_is_still_there_keeps_its_bytes(browser: Browser, tmp_path: Path) -> None:
    path = image_page(tmp_path, imagined([LAYERS[0], [removed("bin/ash")]]))
    with browser.open(path) as tab:
        assert "0 B hidden by later layers" in tab.text("#waste")


def test_the_tree_by_keyboard(browser: Browser, image: Path) -> None:
    with browser.open(image) as tab:
        tab.run("document.querySelector('#tree').focus()")
        tab.press("Home", "ArrowRight", "ArrowRight", "ArrowDown")
        assert tab.text(".detail .path") == "/bin/su"
        active = "document.getElementById(document.querySelector('#tree').getAttribute('aria-activedescendant'))"
        assert tab.run(f"{active}.getAttribute('aria-level')") == "2"
        tab.press("ArrowLeft")
        assert tab.text(".detail .path") == "/bin"
        tab.press("Enter", "v")
        assert tab.run(f"{active}.innerText.includes('var/')") is True
        tab.press("End", "PageUp", "ArrowUp", "ArrowDown")
        assert tab.run("document.activeElement.id") == "tree"


def test_the_treemap_by_keyboard(browser: Browser, image: Path) -> None:
    with browser.open(image) as tab:
        tab.run("document.querySelector('.tile').focus()")
        tab.press("Enter")
        assert tab.text(".map-head").replace("\n", "") == "/bin"
        tab.press("ArrowRight")
        assert tab.run("document.activeElement.getAttribute('aria-label')") == "/bin/su, 20.0 kB"
        tab.press("Escape")
        assert tab.text(".map-head") == "/"


def test_the_areas_of_a_treemap_are_bytes(browser: Browser, tmp_path: Path) -> None:
    path = image_page(tmp_path, imagined([[a_file("a", 300), a_file("b", 100), a_file("c", 100), a_file("d", 500)]]))
    with browser.open(path) as tab:
        areas = tab.run(
            "[...document.querySelectorAll('.tile')].map((t) => [t.innerText[0],"
            " parseFloat(t.style.width) * parseFloat(t.style.height)]).sort()"
        )
        whole = sum(area for _, area in areas)
        assert {name: round(area / whole, 3) for name, area in areas} == {"a": 0.3, "b": 0.1, "c": 0.1, "d": 0.5}


def test_names_are_never_code(browser: Browser, tmp_path: Path) -> None:
    files = [
        a_file(HOSTILE.replace("/", "|"), 3_000_000, "same"), a_file(b"bytes\xff\xfe", 2_000_000, "same"),
        a_file("line\nbreak\u202etxt.exe", 1_000_000), a_file("</script>", 900_000), a_file("__proto__/constructor", 5),
        Entry(b"link", Kind.SYMLINK, 0o777, link=HOSTILE.encode()),
    ]  # fmt: skip
    config = ExecConfig(env=(f"A={HOSTILE}", HOSTILE), labels={HOSTILE: HOSTILE, "__proto__": "x"}, user=HOSTILE, cmd=(HOSTILE,))
    before = imagined([files], config, [f"RUN {HOSTILE}"])
    after = imagined([[*files, a_file(HOSTILE.replace("/", "|"), 5)]], ExecConfig(labels={"a": HOSTILE}), [HOSTILE])
    for path in (image_page(tmp_path, before, HOSTILE), difference_page(tmp_path, before, after)):
        with browser.open(path) as tab:
            for tile in range(3):
                tab.run(f"document.querySelectorAll('.tile')[{tile}]?.click()")
            tab.run("document.querySelector('#tree').focus()")
            tab.press("Home", "ArrowDown", "ArrowDown")
            tab.choose("#filter-text", HOSTILE)
            assert tab.run("typeof window.hacked") == "undefined"
            assert tab.run("document.images.length + document.links.length - document.querySelectorAll('a[href^=\"#\"]').length") == 0
            assert tab.complaints() == []
            shown = tab.text("body")
            assert HOSTILE in shown and "\u202e" not in shown
            assert tab.requests() == [path.as_uri()]
    page = image_page(tmp_path, before, HOSTILE).read_text()
    assert page.count("<script") == 2 and page.count("</script>") == 2 and "onerror" not in page.replace("&#x27;", "'").split("</title>")[1]


def test_a_browser_without_decompression(browser: Browser, image: Path) -> None:
    with browser.open(image, before="delete window.DecompressionStream; delete Uint8Array.fromBase64") as tab:
        assert tab.text(".found") == "16 paths, 121 kB"
        assert tab.complaints() == []


def test_differences(browser: Browser, difference: Path) -> None:
    with browser.open(difference) as tab:
        assert tab.text(".found") == "6 paths, 47.0 kB in files that differ"
        assert re.sub(r"\s+", " ", tab.text(".stats")).startswith("Growth +37.0 kB content, before compression + added 4 paths ~ changed 0 paths − deleted 2")
        tab.click("#filter-added")
        assert tab.text(".found") == "2 paths, 5.0 kB in files that differ"
        assert tab.texts(".row .label") == ["bin/", "ping", "link"]
        assert re.sub(r"\s+", " ", tab.text("#config tbody")) == "ENV A 1 2 Cmd sh not there User not there app"
        assert "2 of 2" in tab.text(".stats")


def test_images_that_are_equal_or_empty(browser: Browser, tmp_path: Path) -> None:
    empty = imagined([[]])
    with browser.open(image_page(tmp_path, empty)) as tab:
        assert tab.text(".found") == "0 paths, 0 B"
        assert tab.complaints() == []
    with browser.open(difference_page(tmp_path, empty, empty)) as tab:
        assert "The configs are equal." in tab.text("#config")
        assert tab.complaints() == []


def test_paper_gets_lists_in_place_of_the_tree(browser: Browser, image: Path, difference: Path) -> None:
    for path in (image, difference):
        with browser.open(path, dark=True) as tab:
            assert tab.pdf().startswith(b"%PDF")
            tab.call("Emulation.setEmulatedMedia", media="print", features=[])
            assert not tab.run("[...document.querySelectorAll('.browse, .filters, .bar')].some((e) => e.checkVisibility())")
            assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            assert "/var/lib/apt" in tab.text("body")


def test_a_large_image_and_deep_directories(browser: Browser, tmp_path: Path) -> None:
    large = a_large_image(3_000)
    deep = imagined([[a_file("d/" * 1_500 + "file", 5), *(a_file(f"many/{number}", 1) for number in range(3_000))]])
    with browser.open(image_page(tmp_path, large)) as tab:
        assert 0 < tab.run("document.querySelectorAll('.row, .tile').length") < 1_000
        tab.choose("#filter-text", "json")
        assert re.match(r"[\d,]+ paths", tab.text(".found"))
        assert tab.complaints() == []
    with browser.open(image_page(tmp_path, deep)) as tab:
        tab.choose("#filter-text", "file")
        assert tab.text(".found") == "1 path, 5 B"
        assert tab.overflow() == 0
        tab.choose("#filter-text", "")
        tab.run("document.querySelector('#tree').focus()")
        tab.press("Home", "ArrowRight", "End", "ArrowUp")
        assert tab.run("document.querySelectorAll('.row').length") < 100
        assert tab.complaints() == []
