"""Credentials in the files of docker and podman, and from helpers."""

from __future__ import annotations

import base64
import json
import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import RemoteError
from pybuild.remote.registry.credential_files import credential_files
from pybuild.remote.registry.credentials import (
    Credential,
    Credentials,
    IdentityToken,
    Login,
    RegistryToken,
)
from pybuild.remote.registry.helpers import ask_helper
from pybuild.store.errors import NotFound

if TYPE_CHECKING:
    from pathlib import Path

HUB = "https://index.docker.io/v1/"


def auth(user: str = "me", password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def find(directory: Path, document: object, registry: str, repository: str = "team/app") -> Credential | None:
    path = directory / "auth.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    environ = {"REGISTRY_AUTH_FILE": str(path)}
    return Credentials(environ, search_path=str(directory)).find(registry, repository)


def helper(directory: Path, name: str, script: str) -> None:
    path = directory / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("key", "registry", "repository"),
    [
        ("registry.test", "registry.test", "app"),
        ("registry.test:5000", "registry.test:5000", "app"),
        ("https://registry.test", "registry.test", "app"),
        ("https://registry.test/v2/", "registry.test", "app"),
        ("http://registry.test/v1/", "registry.test", "app"),
        ("registry.test/team", "registry.test", "team/app"),
        ("registry.test/team/app", "registry.test", "team/app"),
        (HUB, "docker.io", "library/debian"),
        ("docker.io", "docker.io", "library/debian"),
        ("index.docker.io", "docker.io", "library/debian"),
        ("docker.io/library", "docker.io", "library/debian"),
    ],
)
def test_a_registry_is_found_under_every_key_that_tools_write(
    tmp_path: Path, key: str, registry: str, repository: str
) -> None:
    assert find(tmp_path, {"auths": {key: auth()}}, registry, repository) == Login("me", "secret")


@pytest.mark.parametrize(
    ("key", "registry", "repository"),
    [
        ("registry.test", "registry.test:5000", "app"),
        ("registry.test:5000", "registry.test", "app"),
        ("registry.test", "evil-registry.test", "app"),
        ("registry.test", "registry.test.evil", "app"),
        ("registry.test/team", "registry.test", "team2/app"),
        ("registry.test/team/app", "registry.test", "team"),
        ("index.docker.io", "index.docker.io.evil", "app"),
    ],
)
def test_keys_of_other_registries_do_not_match(tmp_path: Path, key: str, registry: str, repository: str) -> None:
    assert find(tmp_path, {"auths": {key: auth()}}, registry, repository) is None


def test_the_longest_key_wins(tmp_path: Path) -> None:
    keys = ("registry.test", "registry.test/team", "registry.test/team/app")
    document = {"auths": {key: auth(key) for key in keys}}
    for repository, user in (("team/app", keys[2]), ("team/other", keys[1]), ("other", keys[0])):
        found = find(tmp_path, document, "registry.test", repository)
        assert isinstance(found, Login)
        assert found.user == user


def test_an_empty_entry_is_skipped(tmp_path: Path) -> None:
    document = {"auths": {"registry.test/team": {}, "registry.test": auth()}}
    assert find(tmp_path, document, "registry.test") == Login("me", "secret")


@pytest.mark.parametrize(
    ("entry", "credential"),
    [
        (auth("me", "a:b:c"), Login("me", "a:b:c")),
        (auth("mé", "ß"), Login("mé", "ß")),
        ({"auth": base64.b64encode(b"me:secret\0\0").decode()}, Login("me", "secret")),
        ({"username": "me", "password": "secret"}, Login("me", "secret")),
        ({**auth("me", ""), "identitytoken": "refresh"}, IdentityToken("refresh")),
        ({"registrytoken": "ready"}, RegistryToken("ready")),
    ],
)
def test_an_entry_has_one_of_several_forms(tmp_path: Path, entry: object, credential: Credential) -> None:
    assert find(tmp_path, {"auths": {"registry.test": entry}}, "registry.test") == credential


@pytest.mark.parametrize(
    "credential",
    [Login("me", "secret"), IdentityToken("secret"), RegistryToken("secret")],
    ids=lambda c: type(c).__name__,
)
def test_credentials_do_not_show_what_is_secret(credential: Credential) -> None:
    assert "secret" not in repr(credential)
    assert "secret" not in f"{credential}"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("", "auth.json is empty"),
        (" \n", "auth.json is empty"),
        ("{", "auth.json is not JSON"),
        ("[]", "auth.json is not a JSON object"),
        ('{"auths": []}', "auth.json.auths: expected an object"),
        ('{"auths": {"registry.test": 5}}', "auths.registry.test: expected an object"),
        ('{"auths": {"registry.test": {"auth": "***"}}}', "auth: expected user:password in base64"),
        ('{"auths": {"registry.test": {"auth": "bWU="}}}', "auth: expected user:password in base64"),
        ('{"auths": {"registry.test": {"auth": "bWU6eA==\u00e9"}}}', "auth: expected user:password in base64"),
        ('{"credHelpers": {"registry.test": 5}}', "registry.test: expected a string"),
        ('{"credHelpers": {"registry.test": "../../x"}}', "invalid name '../../x' of a credential helper"),
        ('{"credsStore": "a b"}', "invalid name 'a b' of a credential helper"),
        ('{"credHelpers": {"registry.test": "none-such"}}', "docker-credential-none-such is not in"),
    ],
)
def test_a_broken_file_is_named_and_passed_over(tmp_path: Path, document: str, text: str) -> None:
    (tmp_path / "auth.json").write_text(document)
    credentials = Credentials({"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}, search_path=str(tmp_path))
    for repository in ("app", "team/app"):
        assert credentials.find("registry.test", repository) is None
    (trouble,) = credentials.troubles
    assert text in trouble and str(tmp_path / "auth.json") in trouble


def test_a_special_file_is_named_and_passed_over(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        credentials = Credentials({"REGISTRY_AUTH_FILE": str(path)})
        assert credentials.find("registry.test", "app") is None
        assert credentials.troubles == (f"{path} is not a regular file",)


def test_after_a_broken_file_the_next_one_counts(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers/auth.json").write_text("")
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.test": auth()}}))
    credentials = Credentials({"XDG_RUNTIME_DIR": str(tmp_path), "DOCKER_CONFIG": str(tmp_path)})
    assert credentials.find("registry.test", "app") == Login("me", "secret")
    assert credentials.troubles == (f"{tmp_path}/containers/auth.json is empty",)


@pytest.mark.parametrize(
    ("environ", "files"),
    [
        ({}, []),
        ({"REGISTRY_AUTH_FILE": "/f", "HOME": "/h"}, ["/f"]),
        ({"HOME": "/h"}, ["/h/.config/containers/auth.json", "/h/.docker/config.json"]),
        (
            {"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"},
            ["/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"],
        ),
        (
            {"HOME": "/h", "XDG_RUNTIME_DIR": "/r"},
            ["/r/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"],
        ),
    ],
)
def test_the_files_are_those_of_podman_and_docker(environ: dict[str, str], files: list[str]) -> None:
    assert credential_files(environ) == files


def test_the_first_file_with_the_registry_counts(tmp_path: Path) -> None:
    for name, user, registry in (
        ("containers/auth.json", "podman", "a.test"),
        (".docker/config.json", "docker", "b.test"),
    ):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(json.dumps({"auths": {registry: auth(user), "both.test": auth(user)}}))
    credentials = Credentials({"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)})
    assert credentials.find("a.test", "app") == Login("podman", "secret")
    assert credentials.find("b.test", "app") == Login("docker", "secret")
    assert credentials.find("both.test", "app") == Login("podman", "secret")
    assert credentials.find("c.test", "app") is None


# -- helpers


def test_a_helper_is_asked_for_its_registry(tmp_path: Path) -> None:
    helper(
        tmp_path,
        "test",
        'read server; echo "{\\"ServerURL\\":\\"\\",\\"Username\\":\\"$server $1\\",\\"Secret\\":\\"s\\"}"',
    )
    document = {"credHelpers": {"registry.test": "test", "docker.io": "test"}}
    assert find(tmp_path, document, "registry.test") == Login("registry.test get", "s")
    assert find(tmp_path, document, "docker.io") == Login(f"{HUB} get", "s")
    assert find(tmp_path, document, "other.test") is None


def test_a_helper_runs_once(tmp_path: Path) -> None:
    helper(tmp_path, "test", f'echo x >> {tmp_path}/runs; echo \'{{"Username":"me","Secret":"s"}}\'')
    path = tmp_path / "config.json"
    path.write_text('{"credsStore": "test"}')
    credentials = Credentials({"DOCKER_CONFIG": str(tmp_path)}, search_path=f"{tmp_path}:/bin")
    for _ in range(3):
        assert credentials.find("registry.test", "app") == Login("me", "s")
    assert (tmp_path / "runs").read_text() == "x\n"


def test_a_helper_can_return_an_identity_token(tmp_path: Path) -> None:
    helper(tmp_path, "test", 'echo \'{"Username":"<token>","Secret":"refresh"}\'')
    assert find(tmp_path, {"credsStore": "test"}, "registry.test") == IdentityToken("refresh")


@pytest.mark.parametrize("missing", [True, False], ids=["no helper", "helper without it"])
def test_if_creds_store_has_nothing_the_file_counts(tmp_path: Path, missing: bool) -> None:
    if not missing:
        helper(tmp_path, "test", "echo credentials not found in native keychain; exit 1")
    document = {"credsStore": "test", "auths": {"registry.test": auth()}}
    assert find(tmp_path, document, "registry.test") == Login("me", "secret")
    assert find(tmp_path, document, "other.test") is None


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo secret; echo secret >&2; exit 7", "docker-credential-test failed for registry.test, status 7"),
        ("kill -9 $$", "docker-credential-test failed for registry.test, status -9"),
        ("echo secret", "its answer is not JSON"),
        ('echo \'{"Username":"secret"}\'', "Secret: expected a string"),
        ("", "its answer is not JSON"),
        ("exec cat /dev/zero", "printed more than the limit of 64 KiB"),
        ("while :; do echo secret; done", "printed more than the limit of 64 KiB"),
    ],
    ids=["fails", "killed", "no json", "no secret", "nothing", "endless", "endless lines"],
)
def test_a_helper_that_fails_is_named_and_not_quoted(tmp_path: Path, script: str, text: str) -> None:
    helper(tmp_path, "test", script)
    with pytest.raises(RemoteError) as caught:
        ask_helper("test", "registry.test", {}, search_path=f"{tmp_path}:/bin:/usr/bin")
    assert text in str(caught.value)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_helper_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    helper(tmp_path, "test", f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(RemoteError, match=r"did not answer within the limit of 0\.3 seconds"):
        ask_helper("test", "registry.test", {}, search_path=f"{tmp_path}:/bin:/usr/bin", seconds=0.3)
    pid = (tmp_path / "pid").read_text().strip() if (tmp_path / "pid").exists() else ""
    with suppress(ProcessLookupError):
        if pid:
            assert select.select([os.pidfd_open(int(pid))], [], [], 60)[0], "what the helper started goes on"


def test_a_helper_is_found_in_absolute_directories_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    helper(tmp_path, "test", 'echo "{\\"Username\\":\\"$PATH\\",\\"Secret\\":\\"$MARK\\"}"')
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    for path in (None, "", ".", f":{tmp_path.name}::"):
        with pytest.raises(NotFound, match=f"docker-credential-test is not in {usual}"):
            ask_helper("test", "registry.test", {} if path is None else {"PATH": path})
    environ = {"PATH": f".:/nonexistent:{tmp_path}", "MARK": "kept"}
    assert ask_helper("test", "x", environ) == (f"/nonexistent:{tmp_path}:{usual}", "kept")


def test_a_helper_that_fails_is_passed_over(tmp_path: Path) -> None:
    helper(tmp_path, "test", "exit 7")
    (tmp_path / "config.json").write_text('{"credHelpers": {"registry.test": "test", "other.test": "missing"}}')
    credentials = Credentials({"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)})
    assert credentials.find("registry.test", "app") is credentials.find("other.test", "app") is None
    failed, missing = credentials.troubles
    assert f"{tmp_path}/config.json: docker-credential-test failed for registry.test, status 7" in failed
    assert f"{tmp_path}/config.json: docker-credential-missing is not in {tmp_path}:" in missing


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-x\n", "é"])
def test_the_name_of_a_helper_is_not_a_path(name: str) -> None:
    with pytest.raises(RemoteError, match="invalid name"):
        ask_helper(name, "registry.test", {})
