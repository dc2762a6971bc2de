"""The page about a build, in a real browser, of builds that ran."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import BASE, Pybuild, copy_store, write_context
from tests.support.looks import CONTRAST, unnamed_controls

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.browser import Browser, Tab

HOSTILE = "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>"
RECIPE = f"""\
FROM {BASE} AS one
RUN echo from one > /one
FROM {BASE} AS two
RUN printf '\\033[31mred\\033[0m\\rlast \\377\\n{HOSTILE}\\n'
FROM {BASE}
ENV TOKEN=abc
COPY file* /
COPY --from=one /one /one
COPY --from=two /etc/passwd /two
RUN cat /file; test "$(cat /file)" != bad
RUN echo "{HOSTILE}"
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, store_with_base: Path) -> Path:
    """A directory with the pages of three builds: the first, one after a change, one that fails."""
    place = tmp_path_factory.mktemp("pages")
    copy_store(store_with_base, place / "store")
    pybuild = Pybuild(place / "store")
    context = write_context(place / "context", RECIPE)
    for name, content in (("first", "1"), ("second", "22"), ("failed", "bad")):
        (context / "file").write_text(content)
        (context / f"file-{HOSTILE.replace('/', '|')}").write_text(content)
        done = pybuild.run("--network=none", "-t", "app", "--report", place / f"{name}.html", context)
        assert done.status == (name == "failed"), done.err
        assert f"report: {place}/{name}.html" in done.err
    pybuild.assert_whole()
    return place


def step(tab: Tab, text: str) -> str:
    """The text of a step, opened."""
    found = tab.run(
        "(() => { const found = [...document.querySelectorAll('.step')].find((s) => s.innerText.includes("
        f"{text!r})); found.open = true; return found.innerText; }})()"
    )
    return re.sub(r"\s+", " ", str(found))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["second", "failed"])
def test_a_page_fits_loads_nothing_and_can_be_read(browser: Browser, pages: Path, name: str, dark: bool) -> None:
    path = pages / f"{name}.html"
    with browser.open(path, dark=dark) as tab:
        for width in (1400, 820, 360):
            tab.resize(width)
            tab.run("document.querySelectorAll('.step').forEach((s) => (s.open = !s.open))")
            assert tab.overflow() == 0, width
            assert tab.run(CONTRAST) == [], width
        assert tab.requests() == [path.as_uri()]
        assert tab.complaints() == []
        assert unnamed_controls(tab) == []
        assert tab.run("typeof window.hacked") == "undefined"


def test_a_build_that_follows_another(browser: Browser, pages: Path) -> None:
    with browser.open(pages / "second.html") as tab:
        assert tab.text("h1") == "app:latest done"
        stats = re.sub(r"\s+", " ", tab.text(".stats"))
        assert "Steps 5 ran 2 cached, 0 not run" in stats
        assert re.search(r"Took [\d.]+ m?s [\d.]+ m?s (less|more) than the build before", stats)
        assert "/file: content" in step(tab, "COPY file*")
        assert HOSTILE.replace("/", "|") in step(tab, "COPY file*")
        copied = step(tab, "COPY --from=one")
        assert "which is not cached" in copied and "In the build before it took" in copied
        assert "Output" in step(tab, "RUN cat /file") and "22" in step(tab, "RUN cat /file")
        assert re.search(r"cached one 1/1 .* In the build before it took [\d.]+ m?s\.$", step(tab, "one 1/1"))
        assert "new" in tab.text("#image") and "as before" in tab.text("#image")
        assert "SecretsUsedInArgOrEnv" in tab.text("#warnings")
        assert tab.run("document.querySelectorAll('.line .critical').length") == 5
        tab.click("a.line[title^='RUN cat']")
        assert tab.run("document.querySelector(location.hash).open") is True


def test_the_output_of_the_first_build_is_text(browser: Browser, pages: Path) -> None:
    with browser.open(pages / "first.html") as tab:
        assert f"last � {HOSTILE}" in step(tab, "two 1/1")
        assert "no earlier build" in step(tab, "two 1/1")
        assert "than the build before" not in tab.text(".stats")
        tab.click(".tools button")
        assert tab.run("[...document.querySelectorAll('.step')].every((s) => s.open)") is True


def test_a_build_that_failed(browser: Browser, pages: Path) -> None:
    with browser.open(pages / "failed.html") as tab:
        assert tab.text(".state") == "failed"
        trouble = re.sub(r"\s+", " ", tab.text(".trouble"))
        assert "Buildfile:10:1: RUN exited with status 1" in trouble and trouble.endswith("bad")
        assert "1 not run" in tab.text(".stats")
        assert "not run" in tab.texts(".step")[-1]
        assert tab.run("document.querySelector('.step[open] .badge').innerText") == "failed"
        assert tab.pdf().startswith(b"%PDF")


def test_a_recipe_with_a_mistake_has_a_page_too(browser: Browser, pages: Path, tmp_path: Path) -> None:
    pybuild = Pybuild(pages / "store")
    assert "FROM requires" in pybuild.refused("--report", tmp_path / "page.html", write_context(tmp_path / "c", "FROM\n"))
    with browser.open(tmp_path / "page.html") as tab:
        assert "FROM requires either one or three arguments" in tab.text(".trouble")
        assert "The build ended before its first step." in tab.text("#steps")
        assert tab.complaints() == []


def test_a_page_of_an_earlier_build(browser: Browser, pages: Path, tmp_path: Path) -> None:
    pybuild = Pybuild(pages / "store")
    built = [line.split()[0] for line in pybuild("logs", "--list").out.splitlines() if " done " in line]
    done = pybuild("report", built[-1], cwd=tmp_path)
    assert done.out == f"{built[-1]}.html\n"
    with browser.open(tmp_path / f"{built[-1]}.html") as tab:
        assert "7 ran" in tab.text(".stats")
    assert pybuild("report", "app", "-o", "-").out.startswith("<!doctype html>")
    assert "is neither the id of a build nor an image" in pybuild.refused("report", "nosuch")


def test_a_build_that_was_stopped(pybuild: Pybuild, tmp_path: Path) -> None:
    """CI systems end jobs that take too long with SIGTERM: then above all one wants to know what took so long."""
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN mkfifo /f; echo started; cat /f\n")
    command = [*pybuild.command, "--network=none", "--progress=plain", "--report", str(tmp_path / "page.html"), str(context)]
    with subprocess.Popen(command, env=pybuild.env(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("started" in line and "RUN" not in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert process.returncode == 143
    assert (tmp_path / "page.html").stat().st_size > 10_000
    pybuild.assert_whole()


def test_a_build_for_several_platforms(browser: Browser, pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY Buildfile /\n")
    pybuild("-q", "--platform=linux/amd64,linux/arm64", "--report", "r.html", "--explore", "e.html", context, cwd=tmp_path)
    with browser.open(tmp_path / "r.html") as tab:
        assert sorted(tab.texts(".line b")) == ["linux/amd64 stage-0 1/1", "linux/arm64 stage-0 1/1"]
        assert "linux/amd64 linux/arm64 COPY" in re.sub(r"\s+", " ", tab.text("#image"))
    with browser.open(tmp_path / "e.html") as tab:
        assert "1 path, " in tab.text(".found")


def test_a_store_that_cannot_be_written(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nRUN true\n")
    build = (*pybuild.command, "--report", str(tmp_path / "r.html"), str(context))
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, str(pybuild.root), *build]
    done = subprocess.run(command, env={**pybuild.env(), "TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, "Read-only file system" in done.stderr) == (1, True), done.stderr
    assert (tmp_path / "r.html").stat().st_size > 10_000
    assert not [name for name in os.listdir(tmp_path) if name.startswith("pybuild-log-")]


def test_the_page_of_the_image_and_silence(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", f"FROM {BASE}\nCOPY Buildfile /\n")
    told = pybuild("--report", "r.html", "--explore", "e.html", context, cwd=tmp_path).err
    assert told.endswith("report: r.html\nimage page: e.html\n")
    assert {"r.html", "e.html"} <= set(os.listdir(tmp_path))
    assert pybuild("-q", "--report", "r.html", context, cwd=tmp_path).err == ""


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--report", "-"), 2, "--report: name a file"),
        (("--explore", "page.html", "--check"), 2, "--explore is a page about a build"),
        (("--report", "missing/page.html"), 1, "missing is not a directory"),
        (("--explore", "c"), 1, "cannot write c: it is a directory"),
    ],
)
def test_a_refusal(pybuild: Pybuild, tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    write_context(tmp_path / "c", f"FROM {BASE}\n")
    assert says in pybuild.refused(*arguments, "c", status=status, cwd=tmp_path)
