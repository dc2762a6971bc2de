"""ADD of URLs: the files that arrive, when they are fetched again, and hostile servers."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import built_layers, read_archive
from tests.support.cli import write_context
from tests.support.elsewhere import quick, recipe
from tests.support.fake_registry import FakeRegistry, fake_registry, redirect, reply
from tests.support.tars import directory, entry, tar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cli import Pybuild
    from tests.support.fake_registry import Handler, Route
    from tests.support.people import Person

MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"
SECRET = "s3cret-0f-a-password"
ARCHIVE = tar(directory(b"d/", mode=0o700, uid=3), entry(b"d/f", data=b"packed", mode=0o640, uid=3, gid=4))


@pytest.fixture
def web() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


@pytest.fixture
def elsewhere() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


@pytest.mark.parametrize(
    ("path", "dest", "flags", "expected"),
    [
        pytest.param("/a/file.txt", "/d/", "", ("d/file.txt", 0o600, 0, 0), id="E48-into a directory"),
        pytest.param("/a/file.txt", "/d", "", ("d", 0o600, 0, 0), id="E48-as a file"),
        pytest.param("/a/file.txt", "/etc", "", ("etc/file.txt", 0o600, 0, 0), id="E48-into one that is there"),
        pytest.param("/a/file.txt?q=/x#y", "/d/", "", ("d/file.txt", 0o600, 0, 0), id="E48-the query is no name"),
        pytest.param("/a%20b", "/d/", "", ("d/a b", 0o600, 0, 0), id="E48-a name is decoded"),
        pytest.param("/a/", "/d/", "", ("d/a", 0o600, 0, 0), id="E48-a slash at the end"),
        pytest.param("/", "/d/", "", ("d/__unnamed__", 0o600, 0, 0), id="E48-no name"),
        pytest.param("/%0A%1B", "/d/", "", ("d/\n\x1b", 0o600, 0, 0), id="E48-a name of control characters"),
        pytest.param("/f", "/d/", "--chmod=4755 --chown=5:6", ("d/f", 0o4755, 5, 6), id="E48-mode and owner"),
        pytest.param("/f", "/d/", "--chown=daemon", ("d/f", 0o600, 1, 1), id="E48-an owner by name"),
        pytest.param("/f", "/d/", "--link", ("d/f", 0o600, 0, 0), id="E48-a layer of its own"),
    ],
)
def test_a_download_is_a_file_of_root(
    path: str, dest: str, flags: str, expected: tuple[str, int, int, int], pybuild: Pybuild, tmp_path: Path, web: FakeRegistry
) -> None:
    web.on(path.partition("?")[0], reply(b"content", headers={"Last-Modified": MODIFIED}))
    context = write_context(tmp_path / "c", recipe(f"ADD {flags} {web.url}{path} {dest}"))
    (layer,) = built_layers(pybuild, context, tmp_path)
    name, mode, uid, gid = expected
    found = layer[name]
    assert (found.mode, found.uid, found.gid, found.size, found.mtime) == (mode, uid, gid, 7, 1445412480)


def test_sources_of_all_kinds_are_added_in_the_order_of_the_recipe(
    pybuild: Pybuild, tmp_path: Path, web: FakeRegistry
) -> None:
    web.on("/x/a", reply(b"from the web"))
    context = write_context(tmp_path / "c", recipe(f"ADD a {web.url}/x/a b /d/", f"ADD {web.url}/x/a a /e/"), a="local", b="")
    first, second = built_layers(pybuild, context, tmp_path)
    assert (sorted(first), first["d/a"].size) == (["d", "d/a", "d/b"], len("from the web"))
    assert (sorted(second), second["e/a"].size) == (["e", "e/a"], len("local"))


BUSY = reply(status=503, headers={"Retry-After": "0"})


@pytest.mark.parametrize("progress", ["plain", "json"])
def test_what_is_waited_for_is_said(progress: str, pybuild: Pybuild, tmp_path: Path, web: FakeRegistry) -> None:
    web.on("/f", BUSY, BUSY, reply(b"content"))
    web.on("/c", BUSY, reply(tar(entry(b"Dockerfile", data=recipe(f"ADD {web.url}/f /f").encode()))))
    said = pybuild(f"--progress={progress}", f"{web.url}/c").err
    expected = [f"{web.url}/c: status 503; try 2 of 5 in 0 s", *(f"{web.url}/f: status 503; try {n} of 5 in 0 s" for n in (2, 3))]
    assert [text for text in expected if text in said] == expected
    assert said.count("in 0 s") == 3


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("", ["x"]), ("--unpack=false", ["x"]), ("--unpack", ["x", "x/d", "x/d/f"]), ("--unpack --chown=7", ["x", "x/d", "x/d/f"])],
)
def test_a_downloaded_archive_is_unpacked_only_on_request(
    flags: str, expected: list[str], pybuild: Pybuild, tmp_path: Path, web: FakeRegistry
) -> None:
    web.on("/a.tar", reply(ARCHIVE))
    (layer,) = built_layers(pybuild, write_context(tmp_path / "c", recipe(f"ADD {flags} {web.url}/a.tar /x")), tmp_path)
    assert sorted(layer) == expected
    if "--unpack" in flags.split():
        assert (layer["x/d/f"].mode, layer["x/d/f"].uid) == (0o640, 7 if "chown" in flags else 3)


def unless(condition: str, value: str, body: bytes) -> Route:
    """A handler that answers 304 to a request with this header, and the body to others."""

    def route(handler: Handler) -> None:
        known = handler.headers.get(condition) == value
        name = "ETag" if condition == "If-None-Match" else "Last-Modified"
        reply(b"" if known else body, 304 if known else 200, {name: value})(handler)

    return route


@pytest.mark.parametrize(
    ("header", "value"),
    [
        pytest.param("If-None-Match", '"v1"', id="E68-by ETag"),
        pytest.param("If-None-Match", 'W/"1"', id="E68-by a weak ETag"),
        pytest.param("If-Modified-Since", MODIFIED, id="E68-by time"),
    ],
)
def test_an_unchanged_url_is_revalidated_but_not_fetched(
    header: str, value: str, pybuild: Pybuild, tmp_path: Path, web: FakeRegistry
) -> None:
    web.on("/f", unless(header, value, b"one"))
    context = write_context(tmp_path / "c", recipe(f"ADD {web.url}/f /f", "COPY other /"), other="")
    first = pybuild("--progress=json", context)
    again = pybuild("--progress=json", context)
    assert (first.out, all(again.finished().values())) == (again.out, True)
    assert [seen.headers.get(header.lower()) for seen in web.seen] == [None, value]
    # Another step needs the content itself; the store still has it.
    write_context(tmp_path / "c", recipe(f"ADD {web.url}/f /other/"))
    pybuild(context)
    assert len(web.seen) == 3


def test_only_changed_content_runs_the_step_again(
    pybuild: Pybuild, tmp_path: Path, web: FakeRegistry
) -> None:
    web.on("/f", reply(b"one"), reply(b"one", headers={"Last-Modified": MODIFIED}), reply(b"two"))
    context = write_context(tmp_path / "c", recipe(f"ADD {web.url}/f /f"))
    step = f"ADD {web.url}/f /f"
    assert [pybuild("--progress=json", context).finished()[step] for _ in range(3)] == [False, True, False]


def test_a_cached_checksum_needs_no_request(pybuild: Pybuild, tmp_path: Path, web: FakeRegistry) -> None:
    web.on("/f", reply(b"one"), reply(b"two"))
    digest = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    context = write_context(
        tmp_path / "c", recipe("ARG SUM", f"ADD --checksum=$SUM {web.url}/f /f", f"ADD --checksum={digest} {web.url}/f /g")
    )
    flags = ("--build-arg", f"SUM={digest}", "--progress=json", context)
    pybuild(*flags)
    assert all(pybuild(*flags).finished().values())
    assert len(web.seen) == 1
    write_context(tmp_path / "c", recipe(f"ADD --checksum=sha256:{'0' * 64} {web.url}/f /f"))
    message = pybuild.refused(context)
    assert f"Buildfile:2:1: error: {web.url}/f: expected sha256:{'0' * 64}, got sha256:" in message


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while handler.send(b"x" * 65536):
        pass
    handler.close_connection = True


def stalled(handler: Handler) -> None:
    reply(b"x", length=100)(handler)
    handler.until_closed()


@pytest.mark.parametrize(
    ("route", "limits", "message"),
    [
        pytest.param(reply(b"x" * 10, length=20), {}, "the connection broke", id="shorter than it says"),
        pytest.param(reply(b"x", length=1 << 40), {}, "more than the limit of 256 GiB", id="says that it is large"),
        pytest.param(endless, {"download_bytes": 100_000}, "more than the limit of 100000 bytes", id="no end"),
        pytest.param(stalled, {"rate_seconds": 1}, "bytes a second", id="slow"),
        pytest.param(reply(b"x", headers={"Content-Encoding": "gzip"}), {}, "unexpected Content-Encoding gzip", id="encoded"),
        pytest.param(reply(status=404), {}, "not found (status 404)", id="nothing"),
        pytest.param(reply(status=401), {}, "access is forbidden (status 401)", id="forbidden"),
        pytest.param(reply(status=304), {}, "status 304", id="a version that nobody asked about"),
        pytest.param(reply(status=503), {}, "status 503, 1 times in a row", id="busy"),
        pytest.param(redirect("file:///etc/passwd"), {}, "neither an https nor an http URL", id="a file of this machine"),
        pytest.param(redirect("ftp://127.0.0.1/x"), {}, "neither an https nor an http URL", id="another protocol"),
        pytest.param(redirect("/f"), {}, "redirects more often than the limit of 10", id="round and round"),
        pytest.param(redirect("http://169.254.169.254/latest/"), {}, "an address that pybuild never connects to", id="metadata"),
    ],
)  # fmt: skip
def test_hostile_servers_are_refused(
    route: Route, limits: dict[str, int], message: str, pybuild: Pybuild, tmp_path: Path, web: FakeRegistry
) -> None:
    web.on("/f", route)
    context = write_context(tmp_path / "c", recipe(f"ADD {web.url}/f /f"))
    printed = pybuild.with_environment(quick(tmp_path, **limits)).refused(context)
    assert message in printed and "Buildfile:2:1: error: " in printed, printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ADD http://169.254.169.254/latest/meta-data /x", "an address that pybuild never connects to"),
        ("ADD http://[fd00:ec2::254]/ /x", "an address that pybuild never connects to"),
        ("ADD http://0x7f.1/ /x", "is not a host name"),
        ("ADD https://example.invalid/.. /x/", "2:5: error: ADD: https://example.invalid/.. does not end with a valid file name"),
        ("ADD https://example.invalid/%00 /x/", "does not end with a valid file name"),
        ('ADD ["https://example.invalid/a b", "/x"]', "invalid characters in a URL"),
        (f"ADD http://u:{SECRET}@example.invalid/ /x", "the password would be sent unencrypted"),
        ("ADD --checksum=abcd https://example.invalid/ /x", "error: ADD: --checksum: invalid digest 'abcd'"),
        ("ADD --checksum=abcd file /x", "2:16: error: --checksum needs a source that is a URL or a repository"),
        ("COPY https://example.invalid/ /x", "COPY: a source cannot be a URL"),
    ],
)
def test_urls_that_are_refused(line: str, message: str, pybuild: Pybuild, tmp_path: Path) -> None:
    context = write_context(tmp_path / "c", recipe(line), file="")
    printed = pybuild.with_environment(quick(tmp_path)).refused(context)
    assert message in printed, printed
    assert SECRET not in printed


def test_a_password_goes_only_to_its_server_and_is_stored_nowhere(
    pybuild: Pybuild, tmp_path: Path, web: FakeRegistry, elsewhere: FakeRegistry
) -> None:
    web.on("/f", redirect(f"{elsewhere.url}/f"))
    web.on("/g", reply(status=500))
    elsewhere.on("/f", reply(b"content"))
    url = f"http://user:{SECRET}@{web.host}"
    output = tmp_path / "out.tar"
    context = write_context(tmp_path / "c", recipe(f"ADD {url}/f /f"))
    done = pybuild("--progress=plain", "-t", "x", "-o", f"type=oci,dest={output}", context)
    assert (web.seen[0].authorization or "").startswith("Basic ")
    assert elsewhere.seen[0].authorization is None
    image = read_archive(output)
    assert image.history[-1]["created_by"] == f"ADD http://xxxxx:xxxxx@{web.host}/f /f # buildkit"
    write_context(tmp_path / "c", recipe(f"ADD {url}/g /g"))
    message = pybuild.with_environment(quick(tmp_path)).refused(context)
    assert f"    2 | ADD http://xxxxx:xxxxx@{web.host}/g /g\n      | ^" in message
    kept = b"".join(path.read_bytes() for path in pybuild.root.rglob("*") if path.is_file())
    for text in (done.out, done.err, message, output.read_bytes(), kept):
        assert SECRET.encode() not in (text.encode() if isinstance(text, str) else text)


# URLs as contexts


CONTEXT = tar(entry(b"Buildfile", data=recipe("COPY d /d").encode()), directory(b"d/"), entry(b"d/f", data=b"text"))


def test_an_archive_at_a_url_is_the_context(pybuild: Pybuild, web: FakeRegistry) -> None:
    web.on("/c.tgz", unless("If-None-Match", '"1"', gzip.compress(CONTEXT)))
    url = f"http://user:{SECRET}@{web.host}/c.tgz"
    first = pybuild("-t", "x", url)
    again = pybuild("--progress=json", url)
    assert (first.out, all(again.finished().values())) == (again.out, True)
    assert [seen.headers.get("if-none-match") for seen in web.seen] == [None, '"1"']
    message = pybuild.refused("-f", "other", url)
    assert f"no such file in the archive at http://xxxxx:xxxxx@{web.host}/c.tgz" in message
    kept = b"".join(path.read_bytes() for path in pybuild.root.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept and SECRET not in first.err + again.err + message


def test_a_url_that_is_not_an_archive_is_the_recipe(pybuild: Pybuild, web: FakeRegistry) -> None:
    web.on("/recipe", reply(recipe("COPY nothing /x").encode()))
    message = pybuild.refused(f"{web.url}/recipe")
    assert f'{web.url}/recipe:2:1: error: "nothing": not found' in message
    assert "-f names another one" in pybuild.refused("-f", "x", f"{web.url}/recipe")


def test_a_named_url_is_a_file(pybuild: Pybuild, tmp_path: Path, web: FakeRegistry) -> None:
    web.on("/f", reply(b"content", headers={"Last-Modified": MODIFIED}))
    context = write_context(tmp_path / "c", recipe("COPY --from=web . /d/"))
    flags = ("--build-context", f"web={web.url}/f")
    (layer,) = built_layers(pybuild, context, tmp_path, *flags)
    assert (sorted(layer), layer["d/context"].size, layer["d/context"].mode) == (["d", "d/context"], 7, 0o600)
    assert all(pybuild("--network=none", "--progress=json", *flags, context).finished().values())


def test_every_user_can_add_a_url(person: Person, web: FakeRegistry) -> None:
    web.on("/f", reply(b"content"))
    context = person.context("c", recipe(f"ADD {web.url}/f /f", f"ADD {web.url}/f local /g/", "RUN cat /f /g/f"), local="")
    pybuild = person.pybuild()
    pybuild("--network=none", context)
    assert all(pybuild("--network=none", "--progress=json", context).finished().values())
    pybuild.assert_whole()
