"""pybuild login and logout, with a real registry that has a password, beside skopeo and podman."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.registry.credentials import Login
from pybuild.remote.registry.login import LoginScope, store_login
from tests.support.cli import Pybuild
from tests.support.registry import DockerRegistry, docker_registry
from tests.support.terminals import on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.people import Person

PASSWORD = "secret wörd $1"
STDIN = PASSWORD.encode() + b"\r\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, base_archive: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), login=("me", PASSWORD)) as found:
        found.push(base_archive, "team/base:1")
        yield found


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("secure"), tls=True, login=("me", PASSWORD)) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Pybuild:
    """The command with an empty store and an empty home."""
    return Pybuild(tmp_path / "store", {"HOME": str(tmp_path / "home")})


def other_tool(pybuild: Pybuild, *arguments: str, **environment: str) -> str:
    """Run skopeo or podman with the environment, and as the user, of a pybuild; return its output."""
    done = subprocess.run(
        [*pybuild.command[:-1], *arguments], env={**pybuild.env(), **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def log_in(pybuild: Pybuild, *arguments: object, **environment: str) -> str:
    with_variables = pybuild.with_environment(environment)
    return with_variables("login", "-u", "me", "--password-stdin", *arguments, stdin=STDIN).out


def test_a_login_serves_pulls_builds_and_other_tools(registry: DockerRegistry, person: Person) -> None:
    name = f"{registry.host}/team/base:1"
    pybuild = person.pybuild(DOCKER_CONFIG=str(person.home / "docker"))
    context = person.context("c", f"FROM {name}\nCOPY file /\n", file="1\n")
    for command in (["pull", name], [context]):
        assert f"pybuild login {registry.host}" in pybuild.refused(*command)
    file = person.home / "docker/config.json"
    assert log_in(pybuild, registry.host) == f"logged in to {registry.host} as me; stored in {file}, unencrypted\n"
    found = file.stat()
    assert (found.st_uid, found.st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (person.uid, 0o600, 0o700)
    pybuild("pull", name)
    pybuild("--pull", context)
    assert other_tool(pybuild, "skopeo", "login", "--get-login", registry.host) == "me"
    other_tool(pybuild, "skopeo", "inspect", "--tls-verify=false", "--authfile", str(file), f"docker://{name}")
    assert pybuild("logout", registry.host).out == f"removed the login for {registry.host} from {file}\n"
    assert json.loads(file.read_text()) == {"auths": {}}
    assert "access denied without credentials" in pybuild.refused("pull", name)
    again = pybuild("logout", registry.host)
    assert again.out == f"no login for {registry.host} is stored\n" and again.err == ""


@pytest.mark.parametrize("tool", ["skopeo", "podman"])
@pytest.mark.parametrize(
    ("variables", "file"),
    [
        ({"XDG_RUNTIME_DIR": "run"}, "run/containers/auth.json"),
        ({"DOCKER_CONFIG": "docker", "XDG_RUNTIME_DIR": "run"}, "docker/config.json"),
        ({"REGISTRY_AUTH_FILE": "here.json", "XDG_RUNTIME_DIR": "run"}, "here.json"),
    ],
    ids=["runtime directory", "docker's variable", "podman's variable"],
)
def test_podman_and_pybuild_share_their_logins(
    registry: DockerRegistry, home: Pybuild, tmp_path: Path, tool: str, variables: dict[str, str], file: str
) -> None:
    (tmp_path / "run").mkdir()
    both = home.with_environment({name: str(tmp_path / value) for name, value in variables.items()})
    name = f"{registry.host}/team/base:1"
    password = ["-u", "me", "-p", PASSWORD]
    other_tool(both, tool, "login", "--tls-verify=false", *password, registry.host)
    both("pull", name)
    assert both("logout", registry.host).out == f"removed the login for {registry.host} from {tmp_path / file}\n"
    assert "access denied without credentials" in both.refused("pull", name)
    (tmp_path / file).write_text('{"auths": {"other.test": {"auth": "eDp5"}}}')
    log_in(both, registry.host)
    assert other_tool(both, tool, "login", "--get-login", registry.host) == "me"
    assert other_tool(both, tool, "login", "--get-login", "other.test") == "x"
    other_tool(both, tool, "logout", registry.host)
    assert both("logout", registry.host).out == f"no login for {registry.host} is stored\n"


@pytest.mark.parametrize("tool", ["skopeo", "podman"])
@pytest.mark.parametrize("name", ["config.json", "auth.json"])
def test_other_tools_find_the_login_of_docker_io(home: Pybuild, tmp_path: Path, tool: str, name: str) -> None:
    """The key differs between the two files. Tests send nothing to docker.io, so the command is not run here."""
    file = str(tmp_path / name)
    store_login(LoginScope("docker.io"), Login("me", PASSWORD), {}, file=file)
    assert other_tool(home, tool, "login", "--get-login", "docker.io", REGISTRY_AUTH_FILE=file) == "me"
    if name == "auth.json":  # of docker's key they find no entry to remove
        other_tool(home, tool, "logout", "docker.io", REGISTRY_AUTH_FILE=file)
        assert home("logout", REGISTRY_AUTH_FILE=file).out == "no login for docker.io is stored\n"
    else:
        assert home("logout", REGISTRY_AUTH_FILE=file).out == f"removed the login for docker.io from {file}\n"


def test_a_login_for_a_part_of_a_registry(registry: DockerRegistry, home: Pybuild, tmp_path: Path) -> None:
    file = str(tmp_path / "auth.json")
    log_in(home, f"{registry.host}/team", "--authfile", file)
    image = f"docker://{registry.host}/team/base:1"
    other_tool(home, "skopeo", "inspect", "--tls-verify=false", "--authfile", file, image)
    home("pull", f"{registry.host}/team/base:1", REGISTRY_AUTH_FILE=file)
    assert "access denied without" in home.refused("pull", f"{registry.host}/other/x", REGISTRY_AUTH_FILE=file)
    assert f"pybuild logout {registry.host}/team removes it" in home("logout", registry.host, "--authfile", file).err
    assert home("logout", "--all", "--authfile", file).out == f"removed the login for {registry.host}/team from {file}\n"
    assert home("logout", "--all", "--authfile", file).out == "no login is stored\n"


def test_a_refused_login_is_not_stored(registry: DockerRegistry, home: Pybuild) -> None:
    shown = home.refused("login", "-u", "me", "--password-stdin", registry.host, stdin=b"wrong secret")
    assert f"error: {registry.host}: wrong user name or password\n" in shown and "wrong secret" not in shown
    assert "no connection: Connection refused" in home.refused("login", "-u", "me", "-p", "wrong secret", "127.0.0.1:1")
    failed = home.run("--debug", "login", "-u", "me", "--password-stdin", "127.0.0.1:1", stdin=b"wrong secret")
    assert "Traceback" in failed.err and "wrong secret" not in failed.err
    assert not Path(home.environment["HOME"]).exists()


def test_the_certificate_is_checked_as_for_pulls(secure: DockerRegistry, home: Pybuild, tmp_path: Path) -> None:
    assert "certificate" in home.refused("login", "-u", "me", "-p", PASSWORD, secure.host)
    log_in(home, secure.host, "--tls-verify=false")
    config = tmp_path / "config.toml"
    config.write_text(f'[registry."{secure.host}"]\nca-files = ["{secure.authority}"]\n')
    log_in(home, secure.host, PYBUILD_CONFIG=str(config))


def test_a_registry_without_logins_is_noted(home: Pybuild, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "open") as free:
        done = home("login", "-u", "me", "-p", "x", free.host)
    assert f"note: {free.host} does not ask for a login, so the password is not checked" in done.err
    assert "warning: other users of this machine can see --password" in done.err
    assert done.out.startswith(f"logged in to {free.host} as me; stored in ")


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["-u", "me"], b"x", "standard input is not a terminal, so pybuild cannot ask: use --password-stdin."),
        ([], b"", "cannot ask: use --username and --password-stdin."),
        (["--password-stdin"], b"x", "--password-stdin needs --username."),
        (["-u", "me", "--password-stdin", "-p", "x"], b"x", "--password and --password-stdin exclude each other."),
        (["-u", "me", "--password-stdin"], b"\n", "the password is empty."),
        (["-u", "me", "--password-stdin"], b"\xff", "the password on standard input is not UTF-8."),
        (["-u", "me", "--password-stdin"], b"a\0b", "the password has a NUL"),
        (["-u", "me", "--password-stdin"], b"x" * 20_000, "the password exceeds the limit of 16 KiB."),
        (["-u", "m:e", "--password-stdin"], b"x", "the user name has a colon or a control character."),
        (["-u", "", "--password-stdin"], b"x", "the user name is empty."),
    ],
)
def test_wrong_usage(home: Pybuild, arguments: list[str], stdin: bytes, message: str) -> None:
    assert message in home.refused("login", *arguments, "127.0.0.1:1", status=2, stdin=stdin)


def test_logout_takes_a_registry_or_all(home: Pybuild) -> None:
    assert "--all and a registry exclude each other" in home.refused("logout", "--all", "a.test", status=2)


# -- the file


def test_a_broken_file_is_an_error_before_any_question(home: Pybuild, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text('{\n  "auths": {},\n}')
    with on_terminal(home, "login", "127.0.0.1:1", columns=200, REGISTRY_AUTH_FILE=str(file)) as terminal:
        lines = terminal.end()
        assert lines[0].startswith(f"error: {file} is not JSON: ") and "line 3 column 1" in lines[0]
        assert lines[1] == "hint: pybuild, docker and podman login write this file"
    assert file.read_text() == '{\n  "auths": {},\n}'


@pytest.mark.parametrize("point", ["unlinkat:when=1", "fchmod:when=1", "fsync:when=1", "renameat:when=1", "fsync:when=2"])
def test_a_killed_login_leaves_the_old_file_or_the_new(
    registry: DockerRegistry, home: Pybuild, tmp_path: Path, point: str
) -> None:
    file = tmp_path / "docker/config.json"
    file.parent.mkdir()
    old = '{"auths": {"other.test": {"auth": "eDp5"}}, "x": 1.0}'
    file.write_text(old)
    log_in(home, registry.host, DOCKER_CONFIG=str(file.parent))
    new = file.read_text()
    file.write_text(old)
    syscall, _, when = point.partition(":")
    trace = tmp_path / "trace"
    strace = ("strace", "-qq", "-o", str(trace), "-e", f"trace={syscall}", "-e", f"inject={syscall}:signal=KILL:{when}")
    killed = replace(home, command=(*strace, *home.command)).with_environment({"DOCKER_CONFIG": str(file.parent)})
    assert killed.run("login", "-u", "me", "--password-stdin", registry.host, stdin=STDIN).status == -signal.SIGKILL
    assert syscall in trace.read_text()
    assert file.read_text() == (new if point == "fsync:when=2" else old)  # killed before the call
    log_in(home, registry.host, DOCKER_CONFIG=str(file.parent))
    assert file.read_text() == new
    assert os.listdir(file.parent) == ["config.json"]


@pytest.mark.parametrize("person", ["range"], indirect=True)
def test_a_file_that_cannot_be_replaced_is_left_out(registry: DockerRegistry, person: Person) -> None:
    locked, free = person.home / "run/containers/auth.json", person.home / "config/containers/auth.json"
    for file in (locked, free):
        file.parent.mkdir(parents=True)
        file.write_text('{"auths": {"other.test": {"auth": "eDp5"}}}')
        file.chmod(0o644)
    os.chown(free.parent, person.uid, person.uid)
    places = {"XDG_RUNTIME_DIR": str(person.home / "run"), "XDG_CONFIG_HOME": str(person.home / "config")}
    pybuild = person.pybuild(**places)
    assert f"; stored in {free}, unencrypted" in log_in(pybuild, registry.host)
    pybuild("pull", f"{registry.host}/team/base:1")
    shown = pybuild.refused("login", "-u", "me", "--password-stdin", registry.host, "--authfile", locked, stdin=STDIN)
    assert f"error: {locked}: Permission denied\nhint: --authfile FILE names another file\n" in shown
    locked.write_text(free.read_text())
    shown = pybuild.refused("login", "-u", "me", "--password-stdin", registry.host, stdin=STDIN)
    assert f"{locked} has another login for {registry.host}, which pulls find first, and it cannot be written" in shown
    done = pybuild.run("logout", registry.host)
    assert done.status == 1 and done.out == f"removed the login for {registry.host} from {free}\n"
    assert f"error: {locked}: Permission denied" in done.err


def test_a_file_that_is_mounted_is_left_as_it_is(registry: DockerRegistry, home: Pybuild, tmp_path: Path) -> None:
    outside, file = tmp_path / "outside.json", tmp_path / "docker/config.json"
    file.parent.mkdir()
    for path in (outside, file):
        path.write_text("{}")
    mounting = ("unshare", "--mount", "sh", "-c", f'mount --bind {outside} {file} && exec "$@"', "sh")
    mounted = replace(home, command=(*mounting, *home.command)).with_environment({"DOCKER_CONFIG": str(file.parent)})
    done = mounted.run("login", "-u", "me", "--password-stdin", registry.host, stdin=STDIN)
    assert done.status == 1 and f"error: {file}: Device or resource busy\nhint: a file that is mounted" in done.err
    assert [path.read_text() for path in (outside, file)] == ["{}", "{}"]
    assert os.listdir(file.parent) == ["config.json"]


# -- the prompt


def test_the_prompt_does_not_show_the_password(registry: DockerRegistry, home: Pybuild) -> None:
    with on_terminal(home, "login", registry.host, columns=200) as terminal:
        terminal.wait_until(lambda lines: "Username:" in lines[-1])
        terminal.press(b"me\n")
        terminal.wait_until(lambda lines: "Password:" in lines[-1])
        terminal.press(PASSWORD.encode() + b"\n")
        lines = terminal.end()
        assert terminal.process.returncode == 0
        assert b"secret" not in terminal.raw
        assert lines[0] == "Username: me" and lines[1] == "Password:"
        assert lines[2].startswith(f"logged in to {registry.host} as me; stored in ")


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("user", [True, False], ids=["the password", "the user name"])
def test_a_prompt_can_be_left(home: Pybuild, key: bytes, user: bool) -> None:
    with on_terminal(home, "login", *(["-u", "me"] if user else []), "127.0.0.1:1", columns=120) as terminal:
        before = terminal.modes()
        terminal.wait_until(lambda lines: "name:" in lines[-1] or "word:" in lines[-1])
        terminal.press(key)
        lines = terminal.end()
        assert terminal.modes() == before
        assert terminal.process.returncode == (128 + signal.SIGINT if key == b"\x03" else 2)
        assert not any("Traceback" in line for line in lines), lines
        assert ("error: interrupted" if key == b"\x03" else "is empty") in "\n".join(lines)


# -- where the password must not be


def test_the_password_is_in_no_program_and_no_file_but_one(
    registry: DockerRegistry, home: Pybuild, tmp_path: Path
) -> None:
    """The helper is the only other program; it gets the password on standard input."""
    docker = tmp_path / "docker"
    docker.mkdir()
    (docker / "config.json").write_text('{"credsStore": "test"}')
    helper = tmp_path / "docker-credential-test"
    helper.write_text(f'#!/bin/sh\ncase $1 in get) cat {tmp_path}/kept;; store) cat > {tmp_path}/kept;; esac\n')
    helper.chmod(0o755)
    trace = tmp_path / "trace"
    traced = ("strace", "-f", "-qq", "-v", "-s", "9999", "-e", "trace=execve", "-o", str(trace), *home.command)
    here = home.with_environment({"DOCKER_CONFIG": str(docker), "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    place = f"docker-credential-test, which {docker}/config.json names\n"
    assert log_in(replace(here, command=traced), registry.host) == f"logged in to {registry.host} as me; stored in {place}"
    here("pull", f"{registry.host}/team/base:1")
    assert here("logout", registry.host).out == f"removed the login for {registry.host} from {place}"
    assert json.loads((tmp_path / "kept").read_text())["Secret"] == PASSWORD
    assert "docker-credential-test" in trace.read_text() and "secret w" not in trace.read_text()
    holders = [path.name for path in tmp_path.rglob("*") if path.is_file() and b"secret w" in path.read_bytes()]
    assert holders == ["kept"]
