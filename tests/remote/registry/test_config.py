"""The configuration file, and the servers for a name under it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import ConfigError
from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.registry.config import Config, RegistrySettings
from pybuild.remote.registry.endpoints import endpoints
from pybuild.store.formats.reference import Reference
from tests.support.people import as_user

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
[registry."docker.io"]
mirrors = ["mirror.test:5000", "cache.test/hub"]

[registry."registry.test:5000"]
tls-verify = false
plain-http = true
ca-files = ["/etc/ssl/company.pem"]
token-hosts = ["login.test", "login.test:8443"]

[limits]
retries = 3
connect-seconds = 2
"""


def test_all_settings_are_read() -> None:
    config = Config().updated(GOOD.encode(), "config.toml")
    assert config.for_registry("docker.io") == RegistrySettings(mirrors=("mirror.test:5000", "cache.test/hub"))
    assert config.for_registry("registry.test:5000") == RegistrySettings(
        (), False, True, ("/etc/ssl/company.pem",), ("login.test", "login.test:8443")
    )
    assert config.for_registry("registry.test") == RegistrySettings()
    assert config.limits == RemoteLimits(retries=3, connect_seconds=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "config.toml: invalid TOML: "),
        ("\x80", "config.toml: invalid TOML: "),
        ("[registries]", "config.toml: registries: unknown key"),
        ("registry = 5", "config.toml: registry: expected a table"),
        ('registry."a.test" = 5', 'config.toml: registry."a.test": expected a table'),
        ('[registry."a.test/b"]', "registry.\"a.test/b\": 'a.test/b' is not host or host:port"),
        ('[registry."a.test:0"]', "is not host or host:port"),
        ('[registry."a b"]', "is not host or host:port"),
        ('[registry."a.test"]\ninsecure = true', 'registry."a.test".insecure: unknown key'),
        ('[registry."a.test"]\ntls-verify = "no"', "tls-verify: expected true or false"),
        ('[registry."a.test"]\nmirrors = "b.test"', "mirrors: expected a list of strings"),
        ('[registry."a.test"]\nmirrors = [5]', "mirrors: expected a list of strings"),
        ('[registry."a.test"]\nmirrors = ["https://b.test"]', "'https://b.test' is not host, host:port or either"),
        ('[registry."a.test"]\nmirrors = ["b.test/../c"]', "is not host, host:port or either with /prefix"),
        ('[registry."a.test"]\ntoken-hosts = ["b.test/x"]', "token-hosts: 'b.test/x' is not host or host:port"),
        ('[registry."a.test"]\nca-files = ["ca.pem"]', "ca-files: 'ca.pem' is not an absolute path"),
        ("[limits]\nretry = 1", "limits.retry: unknown key"),
        ("[limits]\nretries = 0", "limits.retries: expected a number that is at least 1"),
        ("[limits]\nretries = true", "limits.retries: expected a whole number"),
        ("[limits]\nretries = 1.5", "limits.retries: expected a whole number"),
        ("x = " + "[" * 5000, "config.toml: invalid TOML: "),
        ("[limits]\nretries = " + "1" * 5000, "config.toml: invalid TOML: "),
    ],
)
def test_a_mistake_is_named_with_file_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().updated(text.encode("latin-1"), "config.toml")
    assert message in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_an_unknown_key_has_the_known_ones_as_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        Config().updated(b'[registry."a.test"]\nmirror = []', "config.toml")
    assert caught.value.hint == "known here: ca-files, mirrors, plain-http, tls-verify, token-hosts"


def test_the_file_of_the_user_is_read(tmp_path: Path) -> None:
    for directory, environ in (
        (tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)}),
        (tmp_path / ".config", {"HOME": str(tmp_path)}),
    ):
        path = directory / "pybuild" / "config.toml"
        path.parent.mkdir(parents=True)
        path.write_text("[limits]\nretries = 2\n")
        assert Config.load(environ).limits.retries == 2


def test_the_variable_names_the_only_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[limits]\nretries = 4\n")
    assert Config.load({"PYBUILD_CONFIG": str(path), "HOME": "/nowhere"}).limits.retries == 4
    path.unlink()
    with pytest.raises(ConfigError, match=r"own.toml: no such file"):
        Config.load({"PYBUILD_CONFIG": str(path)})


@pytest.mark.parametrize("home", ["/dev/null", "/root/closed", "/nowhere"])
def test_a_home_that_this_user_cannot_enter_has_no_file(home: str, tmp_path: Path) -> None:
    """As after `docker run --user`, which leaves HOME what it was; the file of the machine may exist all the same."""
    program = (
        "import sys; from pybuild.remote.registry.config import Config; print(Config.load({'HOME': sys.argv[1]}) == Config.load({}))"
    )
    closed = tmp_path / "closed"
    (closed / ".config").mkdir(parents=True)
    closed.chmod(0o700)
    home = home.replace("/root/closed", str(closed))
    command = [*as_user("nobody"), sys.executable, "-c", program, home]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_a_special_file_is_an_error() -> None:
    with pytest.raises(ConfigError, match="/dev/zero is not a regular file"):
        Config.load({"PYBUILD_CONFIG": "/dev/zero"})


def test_a_later_file_replaces_the_settings_of_a_registry() -> None:
    config = Config().updated(GOOD.encode(), "first")
    config = config.updated(b'[registry."docker.io"]\ntls-verify = false\n[limits]\nretries = 9\n', "second")
    assert config.for_registry("docker.io") == RegistrySettings(tls_verify=False)
    assert config.for_registry("registry.test:5000").plain_http
    assert config.limits == RemoteLimits(retries=9, connect_seconds=2)


# -- from names to servers


def servers(name: str, toml: str = "", **options: bool) -> list[tuple[str, list[str]]]:
    config = Config().updated(toml.encode(), "config.toml")
    found = endpoints(Reference.parse(name), config, **options)
    return [(server.repository, [str(origin) for origin in server.origins]) for server in found]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("debian", ("library/debian", ["https://registry-1.docker.io"])),
        ("docker.io/team/app", ("team/app", ["https://registry-1.docker.io"])),
        ("index.docker.io/team/app", ("team/app", ["https://registry-1.docker.io"])),
        ("registry.test/a/b/c", ("a/b/c", ["https://registry.test"])),
        ("registry.test:5000/app", ("app", ["https://registry.test:5000"])),
        ("10.0.0.1:5000/app", ("app", ["https://10.0.0.1:5000"])),
        ("localhost/app", ("app", ["https://localhost", "http://localhost"])),
        ("localhost:5000/app", ("app", ["https://localhost:5000", "http://localhost:5000"])),
        ("127.0.0.1:5000/app", ("app", ["https://127.0.0.1:5000", "http://127.0.0.1:5000"])),
        ("127.9.9.9/app", ("app", ["https://127.9.9.9", "http://127.9.9.9"])),
        ("[::1]:5000/app", ("app", ["https://[::1]:5000", "http://[::1]:5000"])),
        ("[2001:db8::1]/app", ("app", ["https://[2001:db8::1]"])),
    ],
)  # fmt: skip
def test_plain_http_is_for_this_machine_only(name: str, expected: tuple[str, list[str]]) -> None:
    assert servers(name) == [expected]


@pytest.mark.parametrize("name", ["127.0.0.1.evil.test/app", "localhost.evil.test/app", "notlocalhost.test/app"])
def test_names_that_look_like_this_machine_are_not(name: str) -> None:
    ((_, origins),) = servers(name)
    assert len(origins) == 1


def test_without_verification_plain_http_is_the_second_choice() -> None:
    expected = [("app", ["https://registry.test", "http://registry.test"])]
    assert servers("registry.test/app", tls_verify=False) == expected
    assert servers("registry.test/app", '[registry."registry.test"]\ntls-verify = false') == expected


def test_configured_plain_http_is_the_only_choice() -> None:
    assert servers("r.test:80/app", '[registry."r.test:80"]\nplain-http = true') == [("app", ["http://r.test"])]


def test_mirrors_come_first_with_their_own_settings() -> None:
    toml = GOOD + '\n[registry."mirror.test:5000"]\nplain-http = true\n'
    assert servers("debian", toml) == [
        ("library/debian", ["http://mirror.test:5000"]),
        ("hub/library/debian", ["https://cache.test"]),
        ("library/debian", ["https://registry-1.docker.io"]),
    ]
