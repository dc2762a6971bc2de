"""Git repositories as contexts and as sources of ADD: the files that arrive, and hostile repositories and servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.archive import built_layers, read_archive
from tests.support.cli import BASE, write_context
from tests.support.elsewhere import quick, recipe
from tests.support.gits import TIME, GitServer, Repository, git_server, make_repository
from tests.support.processes import descendants, running, survivors
from tests.support.registry import make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cli import Pybuild
    from tests.support.gits import Handler
    from tests.support.people import Person

SECRET = "s3cret-0f-a-repository"  # no other test has it: this one looks at the command lines of all processes
FILES: dict[str, str | bytes] = {
    "Buildfile": f"FROM {BASE}\nCOPY . /all/\n",
    ".dockerignore": "*\n",
    "a/run.sh*": "#!/bin/sh\n",
    "a/b/text": "text",
    "link@": "/etc/passwd",
    "through@": "a",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with a commit on main."""
    found = make_repository(tmp_path / "served" / "r.git")
    found.commit(FILES)
    return found


@pytest.fixture
def server(tmp_path: Path, repository: Repository) -> Iterator[GitServer]:
    with git_server(tmp_path / "served") as found:
        yield found


def fetches(server: GitServer) -> int:
    """The number of requests for a pack."""
    return sum(body.find(b"command=fetch") >= 0 for body in server.bodies)


# Files that arrive


def test_the_files_of_a_branch_are_added(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d", f"ADD --chown=5:6 {server.url}/r.git#main:a local /e/"), local="")
    first, second = built_layers(pybuild, context, tmp_path)
    paths = ["", "/.dockerignore", "/Buildfile", "/a", "/a/b", "/a/b/text", "/a/run.sh", "/link", "/through"]
    assert sorted(first) == [f"d{path}" for path in paths]
    assert (first["d/a/run.sh"].mode, first["d/a/b/text"].mode, first["d/a"].mode) == (0o755, 0o644, 0o755)
    assert (first["d/link"].linkname, first["d/a/b/text"].uid, first["d/a/b/text"].mtime) == ("/etc/passwd", 0, TIME)
    assert sorted(second) == ["e", "e/b", "e/b/text", "e/local", "e/run.sh"]
    assert (second["e/run.sh"].uid, second["e/run.sh"].gid) == (5, 6)
    assert fetches(server) == 1, "one commit is fetched once"
    assert all(pybuild("--network=none", "--progress=json", context).finished().values())
    repository.commit({**FILES, "a/other": ""})
    assert not any(pybuild("--network=none", "--progress=json", context).finished().values())
    assert fetches(server) == 2


def test_all_ways_to_name_a_commit(pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer) -> None:
    old = repository.commit({"f": "old"}, "old")
    new = repository.commit({"f": "newer"}, "old", parent=old)
    repository.git("tag", "-a", "-m", "x", "v1", old)
    repository.git("update-ref", "refs/tags/light", new)
    repository.git("update-ref", "refs/pull/7/head", old)
    tag = repository.git("rev-parse", "v1")
    names = {
        "#old": 5, "#v1": 3, "#light": 5, "#pull/7/head": 3, "#refs/tags/v1": 3, f"#{old}": 3, f"#{tag}": 3,
        "?branch=old": 5, "?tag=v1": 3, f"?commit={new}": 5, f"?branch=old&checksum={new[:7]}": 5,
    }  # fmt: skip
    lines = [f"ADD {server.url}/r.git{name} /{number}/" for number, name in enumerate(names)]
    lines += [f"ADD --checksum={hash[:9]} {server.url}/r.git#v1 /{hash[:3]}" for hash in (old, tag)]
    layers = built_layers(pybuild, write_context(tmp_path / "c", recipe(*lines)), tmp_path)
    assert [layer[f"{number}/f"].size for number, layer in enumerate(layers[: len(names)])] == list(names.values())
    assert fetches(server) == 3, "three objects are behind all of these names"


def test_files_are_those_of_a_checkout_not_of_git_archive(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    attributes = "*.bat text eol=crlf\n*.h export-subst\n[attr]hide export-ignore\nhidden hide\nd export-ignore\n"
    long = "n" * 120
    repository.commit(
        {
            ".gitattributes": attributes, "d/x.bat": "a\nb\n", "v.h": "$Format:%H$", "hidden": "", f"{long}/{long}": "x",
            "ü\n": "", "to@": "t" * 200,
        },
        "attributes",
    )  # fmt: skip
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git?branch=attributes /d/"))
    (layer,) = built_layers(pybuild, context, tmp_path)
    assert {path: layer[f"d/{path}"].size for path in ("d/x.bat", "v.h", "hidden", f"{long}/{long}", "ü\n")} == {
        "d/x.bat": 6, "v.h": 11, "hidden": 0, f"{long}/{long}": 1, "ü\n": 0,
    }  # fmt: skip
    assert layer["d/to"].linkname == "t" * 200


@pytest.mark.parametrize("format", ["sha1", "sha256"])
def test_dot_git_is_added_on_request(
    format: str, pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    kept = make_repository(tmp_path / "served" / "kept.git", object_format=format)
    first = kept.commit({"f": "one"})
    second = kept.commit({"f": "two", "a/b": "x", "e*": "x", "l@": "f"}, parent=first)
    kept.git("tag", "-a", "-m", "x", "v1", second)
    url = f"http://user:{SECRET}@{server.host}/kept.git"
    context = write_context(
        tmp_path / "c",
        recipe(f"ADD --keep-git-dir {url}#v1 /d", f"ADD --keep-git-dir=false {url}#v1 /e", f"ADD {url}?branch=main&keep-git-dir /f"),
    )
    output = tmp_path / "out"
    pybuild("--network=none", "-o", f"type=local,dest={output}", context)
    for place, printed in (("d", "tag: v1"), ("f", "main")):
        git = Repository(output / place / ".git").git
        assert git("--work-tree", str(output / place), "status", "--porcelain", "-uall") == ""
        assert git("log", "--format=%H %D") == f"{second} grafted, HEAD, {printed}"
        assert git("config", "remote.origin.url") == f"http://xxxxx:xxxxx@{server.host}/kept.git"
        assert git("fsck", "--strict") == ""
    assert not (output / "e" / ".git").exists()



def test_a_repository_is_the_context(pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer) -> None:
    repository.commit({"deep/er/Buildfile": f"FROM {BASE}\nCOPY --from=n . /n/\nCOPY . /all/\n", "deep/er/f": "", "g": ""}, "deep")
    flags = ("--build-context", f"n={server.url}/r.git#:a")
    output = tmp_path / "out.tar"
    first = pybuild("-o", f"type=oci,dest={output}", *flags, f"{server.url}/r.git#deep:deep/er")
    image = read_archive(output)
    assert image.names(-2) == ["n", "n/b", "n/b/text", "n/run.sh"]
    assert image.names(-1) == ["all", "all/Buildfile", "all/f"]
    again = pybuild("--progress=json", *flags, f"{server.url}/r.git#deep:deep/er")
    assert (again.out, all(again.finished().values()), fetches(server)) == (first.out, True, 2)
    # The ignore file of a repository is an ordinary file. With the build argument, .git is in the context too.
    pybuild("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", "-o", f"type=oci,dest={output}", f"{server.url}/r.git")
    assert {"all/.dockerignore", "all/.git", "all/.git/HEAD", "all/a/b/text"} <= set(read_archive(output).names(-1))
    message = pybuild.refused("-f", "none", f"{server.url}/r.git")
    assert f"cannot open none: no such file in the repository {server.url}/r.git" in message
    assert f"{server.url}/r.git#none: the repository has no branch or tag 'none'" in pybuild.refused(f"{server.url}/r.git#none")


# Other servers


def test_a_server_without_a_program_for_git(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    old = repository.git("rev-parse", "main")
    repository.commit({"f": "one"}, parent=old)
    repository.git("update-server-info")
    server.before = lambda handler: handler.plain_file()
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d/", f"ADD {server.url}/r.git#{old} /e"))
    first, second = built_layers(pybuild, context, tmp_path)
    assert (sorted(first), "e/a/b/text" in second) == (["d", "d/f"], True)


def test_a_server_that_allows_only_branch_heads(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    old = repository.git("rev-parse", "main")
    repository.commit({"f": "one"}, parent=old)
    server.version = "0"
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git#{old} /e"))
    assert "e/a/b/text" in built_layers(pybuild, context, tmp_path)[0]
    message = pybuild.refused(write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git#{'1' * 40} /e")))
    assert f"Buildfile:2:1: error: {server.url}/r.git#{'1' * 40}: the server has no commit {'1' * 40}" in message


@contextmanager
def git_daemon(root: Path) -> Iterator[str]:
    """git-daemon(1) on a listening socket: one connection after the other, each in its own process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    command = ["git", "-c", "safe.directory=*", "daemon", "--inetd", "--export-all", f"--base-path={root}"]
                    subprocess.run(
                        command, stdin=connection.fileno(), stdout=connection.fileno(), stderr=subprocess.DEVNULL
                    )

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"git://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_git_protocol(pybuild: Pybuild, tmp_path: Path, repository: Repository) -> None:
    with git_daemon(tmp_path / "served") as url:
        context = write_context(tmp_path / "c", recipe(f"ADD {url}/r.git#main:a/b /d/"))
        assert sorted(built_layers(pybuild, context, tmp_path)[0]) == ["d", "d/text"]
        write_context(tmp_path / "c", recipe(f"ADD {url}/none /d/"))
        assert f"Buildfile:2:1: error: {url}/none: " in pybuild.refused(context)


SSH = """#!/bin/sh
# Notes how it was called, and runs what it is to run there.
printf '%s\\n' "$SSH_AUTH_SOCK" "$@" > {log}
while [ $# -gt 1 ]; do shift; done
exec sh -c "$1"
"""


def test_ssh_uses_the_agent_and_known_hosts(pybuild: Pybuild, tmp_path: Path, repository: Repository) -> None:
    log, tools, agent = tmp_path / "log", tmp_path / "tools", tmp_path / "agent"
    tools.mkdir()
    (tools / "ssh").write_text(SSH.format(log=log))
    (tools / "ssh").chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": "/nobody's home", "GIT_SSH_COMMAND": "false"}
    context = write_context(tmp_path / "c", recipe(f"ADD git@host.invalid:{repository.path}#main:a /d/"))
    message = pybuild.with_environment(environment).refused(context)
    assert "Buildfile:2:1: error: " in message and "an ssh URL needs an ssh agent" in message and "hint: --ssh default gives" in message
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(agent))
        done = pybuild.with_environment(environment)("--ssh", f"default={agent}", context)
    seen = log.read_text().splitlines()
    assert done.status == 0 and seen[0] == str(agent) and "git@host.invalid" in seen
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentityFile=none", "none"} <= set(seen)
    assert 'UserKnownHostsFile="/nobody\'s home/.ssh/known_hosts"' in seen
    (tools / "ssh").write_text("#!/bin/sh\necho No key is known for the host. >&2\necho Host key verification failed. >&2\nexit 255\n")
    with socket.socket(socket.AF_UNIX) as listener:
        agent.unlink()
        listener.bind(str(agent))
        message = pybuild.with_environment(environment).refused("--ssh", f"default={agent}", context)
    assert f"{repository.path}#main:a: No key is known for the host.; Host key verification failed." in message


# Repositories and servers that are refused


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("#main:link", "link is not a directory of the repository", id="C3-a link to outside"),
        pytest.param("#abcdef0", "give all 40 digits of a commit", id="a short name"),
        pytest.param("?checksum=abcd#main", "expected a commit abcd…, got ", id="another commit"),
        pytest.param(f"?checksum=abcd#{'1' * 40}", f"expected a commit abcd…, got {'1' * 40}", id="another one by name"),
        pytest.param("#git-dir", """a file "x/.GiT", a name that git does not check out""", id="C6-a repository in it"),
        pytest.param("#dots", "a name that git does not check out", id="C6-two dots"),
    ],
)
def test_invalid_repositories_are_refused(
    source: str, message: str, pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    repository.commit({"x/.GiT/config": "[core]\n\tfsmonitor = false\n"}, "git-dir")
    repository.commit_tree(repository.tree([("040000", repository.tree([("100644", repository.blob(b""), "x")]), "..")]), "dots")
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git{source} /d"))
    printed = pybuild.with_environment(quick(tmp_path)).refused(context)
    assert message in printed and "Buildfile:2:1: error: " in printed, printed


def say(status: int, **headers: str) -> Callable[[Handler], bool]:
    def before(handler: Handler) -> bool:
        handler.plain(status, **headers)
        return True

    return before


def later(body: bytes | None) -> Callable[[Handler], bool]:
    """A handler that reads the request and never answers, or that answers this without end."""

    def before(handler: Handler) -> bool:
        if handler.command != "POST":
            return False
        if body is None:
            handler.until_closed()
        else:
            handler.endless(body)
        return True

    return before


@pytest.mark.parametrize(
    ("before", "limits", "message"),
    [
        pytest.param(say(404), {}, "no such repository (status 404)", id="nothing"),
        pytest.param(say(503), {}, "status 503, 1 times in a row", id="busy"),
        pytest.param(say(302, Location="file:///etc/passwd"), {}, "neither an https nor an http URL", id="a file of this machine"),
        pytest.param(say(302, Location="http://169.254.169.254/x"), {}, "an address that pybuild never connects to", id="metadata"),
        pytest.param(say(200), {}, "the repository has no default branch", id="no repository"),
        pytest.param(later(None), {"header_seconds": 1}, "not done after 1 s", id="slow"),
        pytest.param(later(b"0010packfile\n"), {"header_seconds": 2}, "error: ", id="no protocol"),
    ],
)  # fmt: skip
def test_hostile_servers_are_refused(
    before: Callable[[Handler], bool], limits: dict[str, int], message: str, pybuild: Pybuild, tmp_path: Path, server: GitServer
) -> None:
    server.before = before
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d"))
    printed = pybuild.with_environment(quick(tmp_path, **limits)).refused(context)
    assert message in printed and "Buildfile:2:1: error: " in printed, printed


def test_hostile_names_of_branches_are_harmless(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    evil = "refs/heads/--upload-pack=touch${IFS}evil"
    (repository.path / "HEAD").write_text(f"ref: {evil}\n")
    (repository.path / evil).write_text(repository.git("rev-parse", "main") + "\n")
    context = write_context(tmp_path / "c", recipe(f"ADD --keep-git-dir {server.url}/r.git /d/"))
    (layer,) = built_layers(pybuild, context, tmp_path)
    assert "d/a/b/text" in layer and not list(tmp_path.rglob("evil"))


def test_a_repository_above_the_limit_is_not_fetched(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    repository.commit({"large": os.urandom(3_000_000)})
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d"))
    message = pybuild.with_environment(quick(tmp_path, download_bytes=100_000)).refused(context)
    assert f"Buildfile:2:1: error: {server.url}/r.git: more than the limit of 100000 bytes" in message
    assert "hint: raise the limit download-bytes" in message
    printed = pybuild("why").out
    assert "ADD" in printed and "r.git /d" in printed, "a build that failed so is remembered"


def modules(**urls: str) -> str:
    return "".join(f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n' for name, url in urls.items())


def test_submodules_are_fetched(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    inner = make_repository(tmp_path / "served" / "g" / "inner.git")
    deepest = repository.git("rev-parse", "main")
    old = inner.commit({"f": "old", "deep/": deepest, ".gitmodules": modules(deep="../../r.git")})
    inner.commit({"f": "newer"}, parent=old)
    text = modules(one="../g/inner.git", two=f"{server.url}/g/inner.git")
    repository.commit({"one/": old, "two/": old, ".gitmodules": text}, "outer")
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git#outer /d/", f"ADD {server.url}/r.git?branch=outer&submodules=false /e/"))
    first, second = built_layers(pybuild, context, tmp_path)
    assert (first["d/one/f"].size, first["d/two/f"].size, first["d/one/deep/a/b/text"].size) == (3, 3, 4)
    assert sorted(second) == ["e", "e/.gitmodules", "e/one", "e/two"]
    fetched = fetches(server)
    assert all(pybuild("--network=none", "--progress=json", context).finished().values())
    assert fetches(server) == fetched


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", ".gitmodules has no URL for the submodule", id="no place"),
        pytest.param(modules(sub="file:///etc"), "is not the URL of a repository", id="C5-files of this machine"),
        pytest.param(modules(sub="http://169.254.169.254/x"), "an address that pybuild never connects to", id="metadata"),
        pytest.param('[include]\n\tpath = /etc/passwd\n' + modules(sub="../r.git"), "the server has no commit", id="an include"),
    ],
)  # fmt: skip
def test_invalid_places_of_submodules_are_refused(
    text: str, message: str, pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    repository.commit({"sub/": "1" * 40, ".gitmodules": text})
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d"))
    printed = pybuild.with_environment(quick(tmp_path)).refused(context)
    assert message in printed and "Buildfile:2:1: error: " in printed, printed


def test_https_uses_the_configured_certificate_authorities(
    pybuild: Pybuild, tmp_path: Path, repository: Repository
) -> None:
    authority = make_certificate(tmp_path / "tls")
    with git_server(tmp_path / "served", certificate=tmp_path / "tls") as server:
        context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d"))
        assert "its certificate is not trusted" in pybuild.with_environment(quick(tmp_path)).refused(context)
        config = tmp_path / "trusting.toml"
        config.write_text(f'[registry."{server.host}"]\nca-files = ["{authority}"]\n')
        pybuild(context, PYBUILD_CONFIG=str(config))
        config.write_text(f'[registry."{server.host}"]\ntls-verify = false\n')
        repository.commit({"f": ""})
        pybuild(context, PYBUILD_CONFIG=str(config))


def test_a_password_goes_only_to_its_server_and_is_stored_nowhere(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    server.login = f"user:{SECRET}"
    seen: list[bytes] = []

    def look(handler: Handler) -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(path.read_bytes())
            except OSError:
                continue
        return False

    server.before = look
    with git_server(tmp_path / "served") as first:
        first.before = say(301, Location=f"{server.url}/r.git/info/refs?service=git-upload-pack")
        context = write_context(tmp_path / "c", recipe(f"ADD http://user:{SECRET}@{first.host}/r.git /d"))
        message = pybuild.with_environment(quick(tmp_path)).refused(context)
        assert "access is forbidden (status 401)" in message
        assert f"    2 | ADD http://xxxxx:xxxxx@{first.host}/r.git /d\n      | ^" in message
        assert all("authorization" not in headers for _, headers in server.seen)
        server.login = None
        pybuild("--progress=plain", context)
        assert {"authorization" in headers for _, headers in first.seen} == {True}
    server.login = f"user:{SECRET}"
    output = tmp_path / "out.tar"
    write_context(tmp_path / "c", recipe(f"ADD --keep-git-dir http://user:{SECRET}@{server.host}/r.git /d"))
    done = pybuild("--progress=plain", "-o", f"type=oci,dest={output}", context)
    image = read_archive(output)
    assert image.history[-1]["created_by"] == f"ADD http://xxxxx:xxxxx@{server.host}/r.git /d # buildkit"
    kept = b"".join(path.read_bytes() for path in pybuild.root.rglob("*") if path.is_file())
    whole = [b"".join(seen), kept, *image.layers]
    assert any(b"fetch" in line for line in seen) and not any(SECRET.encode() in data for data in whole)
    assert SECRET not in done.out + done.err + message


def test_a_token_goes_only_to_its_server(
    pybuild: Pybuild, tmp_path: Path, repository: Repository, server: GitServer
) -> None:
    server.login = f"x-access-token:{SECRET}"
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    with git_server(tmp_path / "served") as other:
        repository.commit({"sub/": repository.git("rev-parse", "main"), ".gitmodules": modules(sub=f"{other.url}/r.git")})
        context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d", f"ADD {other.url}/r.git /e"))
        message = pybuild.refused("--secret", f"id=GIT_AUTH_TOKEN.{other.host},src={token}", context)
        assert f"{server.url}/r.git: access is forbidden (status 401)" in message
        done = pybuild("--secret", f"id=GIT_AUTH_TOKEN.{server.host},src={token}", "--progress=plain", context)
        assert other.seen and all("authorization" not in headers for _, headers in other.seen)
    kept = b"".join(path.read_bytes() for path in pybuild.root.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept and SECRET not in done.out + done.err + message


# Ends of a build


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_survives_a_build(
    number: signal.Signals, pybuild: Pybuild, tmp_path: Path, server: GitServer
) -> None:
    reached = threading.Event()

    def stall(handler: Handler) -> bool:
        if b"command=fetch" in handler.body:
            reached.set()
            handler.until_closed()
            return True
        return False

    server.before = stall
    context = write_context(tmp_path / "c", recipe(f"ADD {server.url}/r.git /d"))
    with running(pybuild, context) as build:
        assert reached.wait(60)
        family = descendants(build.pid)
        os.kill(build.pid, number)
        build.end()
        assert any("git-remote-http" in process.command for process in family)
        assert survivors(family) == []
    pybuild("df")
    pybuild.assert_whole()


def test_every_user_can_build_a_repository(person: Person, server: GitServer) -> None:
    context = person.context("c", recipe(f"ADD {server.url}/r.git /d", "COPY --from=n a /n", "RUN test -x /d/a/run.sh -a -x /n/run.sh"))
    pybuild = person.pybuild()
    pybuild("--network=none", "--build-context", f"n={server.url}/r.git", context)
    pybuild.assert_whole()
