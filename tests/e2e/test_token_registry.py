"""Debian's docker-registry behind a token server: who may do what is in the token, repository by repository."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import Pybuild, write_context
from tests.support.registry import DockerRegistry, docker_registry
from tests.support.token_server import TokenServer, token_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = {"ci": "secret", "reader": "other", "newcomer": "third"}
BOTH, PULL = frozenset(("pull", "push")), frozenset(("pull",))
RIGHTS = {"ci": {"": BOTH}, "reader": {"team/": PULL}, "newcomer": {"own/": BOTH, "team/": frozenset[str]()}}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with token_server(tmp_path_factory.mktemp("tokens"), USERS, RIGHTS) as found:
        yield found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), auth=tokens.config) as found:
        yield found


def logged_in(pybuild: Pybuild, registry: DockerRegistry, tokens: TokenServer, directory: Path, user: str = "") -> Pybuild:
    """The command with the login of a user, and a configuration that lets the token server have it."""
    home = directory / f"home-{user}"
    home.mkdir(exist_ok=True)
    auths = {registry.host: {"auth": base64.b64encode(f"{user}:{USERS[user]}".encode()).decode()}} if user else {}
    (home / "config.json").write_text(json.dumps({"auths": auths}))
    (home / "toml").write_text(f'[registry."{registry.host}"]\ntoken-hosts = ["{tokens.host}"]\n')
    return pybuild.with_environment({"DOCKER_CONFIG": str(home), "PYBUILD_CONFIG": str(home / "toml"), "HOME": str(home)})


@pytest.fixture
def image(pybuild: Pybuild, tmp_path: Path) -> str:
    context = write_context(tmp_path / "c", "FROM scratch\nCOPY file /\n", file=os.urandom(500_000))
    return pybuild("-t", "app", context).out.strip()


def test_push_and_what_other_tools_read(
    registry: DockerRegistry, tokens: TokenServer, pybuild: Pybuild, image: str, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/app:1"
    error = logged_in(pybuild, registry, tokens, tmp_path).refused("push", "app", name)
    assert "access denied without credentials" in error
    error = logged_in(pybuild, registry, tokens, tmp_path, "reader").refused("push", "app", name)
    assert "access denied with the credentials of this machine" in error
    ci = logged_in(pybuild, registry, tokens, tmp_path, "ci")
    tokens.asked.clear()
    assert ci("push", "app", name).out.strip() == image
    assert set(tokens.asked) == {("ci", ("repository:team/app:pull,push",))}
    creds = f"--creds=reader:{USERS['reader']}"
    inspect = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", creds, f"docker://{name}"], check=True, capture_output=True
    )
    assert json.loads(inspect.stdout)["Digest"] == image
    with tempfile.TemporaryDirectory(prefix="pm") as short:  # podman refuses a run directory of more than 50 characters
        podman = ["podman", "--storage-driver=vfs", f"--root={short}/root", f"--runroot={short}/run"]
        command = [*podman, "pull", "-q", "--tls-verify=false", creds, name]
        pulled = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    config = json.loads(pybuild("inspect", "app").out)["manifest"]["config"]["digest"]
    assert f"sha256:{pulled.strip()}" == config
    ci("reset")
    assert ci("pull", "-q", name).out.strip() == image


def test_a_copy_mounts_with_a_token_for_both_repositories(
    registry: DockerRegistry, tokens: TokenServer, pybuild: Pybuild, image: str, tmp_path: Path
) -> None:
    ci = logged_in(pybuild, registry, tokens, tmp_path, "ci")
    source, target = f"docker://{registry.host}/team/base:1", f"docker://{registry.host}/other/app:1"
    ci("copy", "store:app", source)
    tokens.asked.clear()
    done = ci("copy", source, target)
    assert "(0 B sent, 5" in done.err and done.out.strip() == image
    assert {scopes for _, scopes in tokens.asked} == {
        ("repository:team/base:pull",),
        ("repository:other/app:pull,push", "repository:team/base:pull"),
    }
    # Each worker asks for each of its tokens once.
    assert len(tokens.asked) <= 4


def test_a_push_without_a_right_to_the_repository_of_the_base(
    registry: DockerRegistry, tokens: TokenServer, pybuild: Pybuild, image: str, tmp_path: Path
) -> None:
    """The layers came from a repository that the pushing user may not read: they are sent."""
    ci = logged_in(pybuild, registry, tokens, tmp_path, "ci")
    base = f"{registry.host}/team/private:1"
    ci("push", "app", base)
    ci("pull", "-q", base)
    ci("fetch", "-q", base)
    newcomer = logged_in(pybuild, registry, tokens, tmp_path, "newcomer")
    done = newcomer("push", base, f"{registry.host}/own/app:1")
    assert done.out.strip() == image
    assert re.search(r"\(50\d(\.\d)? kB sent\)", done.err), done.err
    error = newcomer.refused("copy", f"docker://{base}", f"docker://{registry.host}/own/app:2")
    assert "team/private: access denied with the credentials of this machine" in error
