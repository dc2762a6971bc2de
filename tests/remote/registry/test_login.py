"""Which registry a login is for, whether it is right, where it is stored, and that a logout removes it from everywhere."""

from __future__ import annotations

import base64
import errno
import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from pybuild.remote.errors import ConfigError, RemoteError, Unauthorized, Unreachable
from pybuild.remote.http.site import RemoteLimits
from pybuild.remote.registry.config import Config, RegistrySettings
from pybuild.remote.registry.credential_files import file_to_write
from pybuild.remote.registry.credential_writer import open_locked
from pybuild.remote.registry.credentials import Credentials, Login
from pybuild.remote.registry.login import LoginScope, check_login, store_login
from pybuild.remote.registry.logout import remove_logins
from tests.support.fake_registry import FakeRegistry, Handler, Route, fake_registry, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HUB = "https://index.docker.io/v1/"
ME = Login("me", "secret: ß")
BASIC = ME.header()


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


# -- names


@pytest.mark.parametrize(
    ("text", "registry", "path"),
    [
        ("registry.test", "registry.test", ""),
        ("registry.test:5000", "registry.test:5000", ""),
        ("localhost", "localhost", ""),
        ("[::1]:5000", "[::1]:5000", ""),
        ("https://registry.test/", "registry.test", ""),
        ("https://registry.test/v2/", "registry.test", ""),
        ("registry.test/team", "registry.test", "team"),
        ("registry.test/team/app", "registry.test", "team/app"),
        ("docker.io", "docker.io", ""),
        ("index.docker.io", "docker.io", ""),
        ("registry-1.docker.io", "docker.io", ""),
        (HUB, "docker.io", ""),
        ("docker.io/team", "docker.io", "team"),
    ],
)
def test_a_registry_is_read_in_the_forms_of_docker_and_podman(text: str, registry: str, path: str) -> None:
    assert LoginScope.parse(text) == LoginScope(registry, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a registry"),
        ("dockerhub", "'dockerhub' is not a registry"),
        ("a b", "'a b' is not a registry"),
        ("registry.test/Team", "is not a registry"),
        ("registry.test/team:1", "is not a registry"),
        ("ftp://registry.test", "is not a registry"),
        ("registry.test//x", "is not a registry"),
        ("me:secret@registry.test", "a registry has no @ in its name"),
        ("registry.test/x@sha256:secret", "a registry has no @ in its name"),
        ("x" * 5000, "is not a registry"),
    ],
)
def test_what_is_not_a_registry_is_refused(text: str, message: str) -> None:
    with pytest.raises(RemoteError) as caught:
        LoginScope.parse(text)
    assert message in str(caught.value)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert len(str(caught.value)) < 400


# -- the check


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


def check(fake: FakeRegistry, *, retries: int = 0, **settings: object) -> bool:
    found = RegistrySettings(plain_http=True, **settings)  # type: ignore[arg-type]
    config = Config({fake.host: found}, RemoteLimits(retries=retries))
    return check_login(LoginScope(fake.host), ME, config, {}, tls_verify=True)


def ask(challenge: str, accepted: str, *, refused: int = 401) -> Route:
    """GET /v2/ as a registry that wants a login: 200 with the accepted header, else a challenge or a status."""

    def route(handler: Handler) -> None:
        header = handler.headers.get("Authorization")
        status = 200 if header == accepted else refused if header else 401
        reply(b"", status, {"WWW-Authenticate": challenge} if status == 401 else {})(handler)

    return route


def test_a_right_login_is_sent_once_it_is_asked_for(fake: FakeRegistry) -> None:
    fake.on("/v2/", ask('Basic realm="x"', BASIC))
    assert check(fake)
    assert [seen.authorization for seen in fake.asked("/v2/")] == [None, BASIC]


def test_a_token_for_a_login_has_no_scope(fake: FakeRegistry) -> None:
    fake.on("/v2/", ask(f'Bearer realm="{fake.url}/token",service="s"', "Bearer good"))
    fake.on("/token", reply(b'{"token": "good"}'))
    assert check(fake)
    assert [(seen.query, seen.authorization) for seen in fake.asked("/token")] == [("service=s", BASIC)]
    fake.on("/v2/", ask(f'Bearer realm="{fake.url}/token"', "Bearer good"))
    assert check(fake)
    assert fake.asked("/token")[-1].query == ""


def test_a_registry_without_logins_does_not_get_the_password(fake: FakeRegistry) -> None:
    fake.on("/v2/", reply())
    assert not check(fake)
    assert [seen.authorization for seen in fake.asked("/v2/")] == [None]


def refuse_tokens(fake: FakeRegistry) -> Route:
    fake.on("/token", reply(status=401))
    return ask(f'Bearer realm="{fake.url}/token"', "Bearer good")


REFUSALS: dict[str, tuple[Callable[[FakeRegistry], Route], type[RemoteError], str]] = {
    "wrong password": (lambda fake: ask('Basic realm="x"', "other"), Unauthorized, "{host}: wrong user name or password"),
    "no token": (refuse_tokens, Unauthorized, "{host}: wrong user name or password"),
    "forbidden": (
        lambda fake: ask('Basic realm="x"', "other", refused=403), Unauthorized, "{host}: this login is refused",
    ),
    "no registry": (lambda fake: reply(status=404), RemoteError, "{host} is not a registry: status 404 for {url}/v2/"),
    "busy": (lambda fake: reply(status=503), Unreachable, "{host}: status 503 for {url}/v2/"),
    "a teapot": (lambda fake: reply(status=418), RemoteError, "{host}: status 418 for {url}/v2/"),
    "another scheme": (lambda fake: ask("Negotiate", "x"), Unauthorized, "unsupported authentication schemes: negotiate"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_login_says_why(fake: FakeRegistry, case: str) -> None:
    route, kind, message = REFUSALS[case]
    fake.on("/v2/", route(fake))
    with pytest.raises(kind) as caught:
        check(fake)
    assert type(caught.value) is kind
    assert message.format(host=fake.host, url=fake.url) in str(caught.value)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_foreign_token_server_does_not_get_the_password(fake: FakeRegistry) -> None:
    with fake_registry() as thief:
        thief.on("/token", reply(b'{"token": "good"}'))
        fake.on("/v2/", ask(f'Bearer realm="{thief.url}/token"', "Bearer good"))
        with pytest.raises(Unauthorized):
            check(fake)
        assert thief.seen == []
        assert check(fake, token_hosts=(thief.host,))


def test_a_busy_registry_is_asked_again(fake: FakeRegistry) -> None:
    fake.on("/v2/", reply(status=503, headers={"Retry-After": "0"}), ask('Basic realm="x"', BASIC))
    assert check(fake, retries=2)


# -- where


AUTH, OTHER_AUTH, DOCKER = "r/containers/auth.json", "h/.config/containers/auth.json", "h/.docker/config.json"


@pytest.mark.parametrize(
    ("existing", "variables", "expected"),
    [
        ([], {}, DOCKER),
        ([AUTH], {}, AUTH),
        ([DOCKER], {}, DOCKER),
        ([OTHER_AUTH, DOCKER], {}, OTHER_AUTH),
        ([AUTH, OTHER_AUTH, DOCKER], {}, AUTH),
        ([], {"DOCKER_CONFIG": "d"}, "d/config.json"),
        (["d/config.json", AUTH], {"DOCKER_CONFIG": "d"}, "d/config.json"),
        ([], {"REGISTRY_AUTH_FILE": "f.json"}, "f.json"),
        (["f.json", AUTH, DOCKER], {"REGISTRY_AUTH_FILE": "f.json", "DOCKER_CONFIG": "d"}, "f.json"),
    ],
)
def test_a_login_goes_where_pulls_look_first(
    tmp_path: Path, existing: list[str], variables: dict[str, str], expected: str
) -> None:
    environ = {"HOME": str(tmp_path / "h"), "XDG_RUNTIME_DIR": str(tmp_path / "r")}
    environ |= {name: str(tmp_path / value) for name, value in variables.items()}
    for name in existing:
        write(tmp_path / name, {"auths": {"registry.test": entry("old", "old")}})
    place = store_login(LoginScope("registry.test"), ME, environ)
    assert str(place) == str(tmp_path / expected)
    assert Credentials(environ).find("registry.test", "any") == ME


def test_without_a_home_there_is_no_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no place for a login: there is no home directory") as caught:
        file_to_write({})
    assert "--authfile" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("auth.json", [], "docker.io"),
        ("config.json", [], HUB),
        ("config.json", ["docker.io"], HUB),
        ("auth.json", [HUB, "registry-1.docker.io"], "docker.io"),
    ],
)
def test_docker_io_has_the_key_that_the_owner_of_the_file_uses(
    tmp_path: Path, name: str, before: list[str], after: str
) -> None:
    path = tmp_path / name
    if before:
        write(path, {"auths": {key: entry("old", "old") for key in [*before, "docker.io/team"]}})
    store_login(LoginScope("docker.io"), ME, {"REGISTRY_AUTH_FILE": str(path)})
    assert sorted(json.loads(path.read_text())["auths"]) == sorted([after, *(["docker.io/team"] if before else [])])
    assert Credentials({"REGISTRY_AUTH_FILE": str(path)}).find("docker.io", "library/debian") == ME


def test_other_keys_stay_byte_for_byte(tmp_path: Path) -> None:
    text = '{ "HttpHeaders" : {"n": 1.10e+2},\n"auths":{"https://b.test/v1/":{"auth":"x", "y": 1}}, "z": [ ]}\n'
    path = tmp_path / "config.json"
    path.write_text(text)
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    store_login(LoginScope("a.test", "team"), ME, environ)
    added = f',"a.test/team": {json.dumps(entry(ME.user, ME.password))}'
    assert path.read_text() == text.replace('"y": 1}', f'"y": 1}}{added}')
    remove_logins(LoginScope("a.test", "team"), environ)
    assert path.read_text() == text


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store_login(LoginScope("a.test"), ME, {}, file=str(tmp_path / "a/b/auth.json"))
    finally:
        os.umask(old)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o700, "a/b": 0o700, "a/b/auth.json": 0o600}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can write files of others")
@pytest.mark.parametrize(("mode", "after"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o640), (0o400, 0o600)])
def test_an_existing_file_keeps_its_owner(tmp_path: Path, mode: int, after: int) -> None:
    path = tmp_path / "auth.json"
    path.write_text("{}")
    os.chown(path, 1234, 1235)
    path.chmod(mode)
    store_login(LoginScope("a.test"), ME, {}, file=str(path))
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 1235, after)


def test_the_target_of_a_link_is_written(tmp_path: Path) -> None:
    real = tmp_path / "real" / "x.json"
    write(real, "{}")
    (tmp_path / "one.json").symlink_to("two.json")
    (tmp_path / "two.json").symlink_to(real)
    store_login(LoginScope("a.test"), ME, {}, file=str(tmp_path / "one.json"))
    assert (tmp_path / "one.json").is_symlink() and (tmp_path / "two.json").is_symlink()
    assert "a.test" in json.loads(real.read_text())["auths"]
    assert sorted(os.listdir(real.parent)) == ["x.json"]


def test_a_link_to_nothing_gets_its_target(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("later/x.json")
    store_login(LoginScope("a.test"), ME, {"DOCKER_CONFIG": str(tmp_path)})
    assert "a.test" in (tmp_path / "later/x.json").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"auths": {},}', "auth.json is not JSON: Expecting property name enclosed in double quotes: line 1 column 14"),
        ("[]", "auth.json is not a JSON object"),
        ('{"auths": []}', "auth.json.auths: expected an object"),
        ('{"auths": {}, "auths": {}}', "key 'auths' appears twice"),
        ('{"credHelpers": {"a": 1}}', "credHelpers.a: expected a string"),
        (b"\xff", "auth.json is not UTF-8"),
    ],
)
def test_a_broken_file_is_refused_and_stays(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "auth.json"
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        store_login(LoginScope("a.test"), ME, {}, file=str(path))
    assert message in str(caught.value) and "nothing was changed" in str(caught.value)
    assert remove_logins(LoginScope("a.test"), {}, file=str(path)).failures[0].args == caught.value.args
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["auth.json"]


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_is_filled(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(text)
    store_login(LoginScope("a.test"), ME, {}, file=str(path))
    assert "a.test" in json.loads(path.read_text())["auths"]


def test_a_special_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "fifo/x"):
        with pytest.raises(ConfigError, match=f"^{path}"):
            store_login(LoginScope("a.test"), ME, {}, file=str(path))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "auth.json"
    path.write_text('{"x": 1}')

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=f"^{path}: No space left on device$"):
        store_login(LoginScope("a.test"), ME, {}, file=str(path))
    assert path.read_text() == '{"x": 1}'
    assert os.listdir(tmp_path) == ["auth.json"]


def test_what_a_killed_login_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".auth.json.pybuild").write_text("half a passw")
    store_login(LoginScope("a.test"), ME, {}, file=str(tmp_path / "auth.json"))
    assert os.listdir(tmp_path) == ["auth.json"]


def test_logins_at_the_same_time_are_all_stored(tmp_path: Path) -> None:
    path = str(tmp_path / "new/auth.json")
    hosts = [f"host{number}.test" for number in range(24)]
    threads = [
        threading.Thread(target=store_login, args=(LoginScope(host), ME, {}), kwargs={"file": path}) for host in hosts
    ]
    with open_locked(path) as held:  # they all wait here, on the file as it is now
        for thread in threads:
            thread.start()
        held.replace('{"auths": {"first.test": {}}}')
    for thread in threads:
        thread.join()
    with open(path) as file:
        assert sorted(json.load(file)["auths"]) == sorted([*hosts, "first.test"])


# -- logout


def test_a_logout_removes_the_login_from_every_file(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "h"), "XDG_RUNTIME_DIR": str(tmp_path / "r")}
    keep = {"b.test": entry("x", "y"), "a.test.evil": entry("x", "y"), "a.test:1": entry("x", "y")}
    first = write(tmp_path / AUTH, {"auths": {"a.test": entry("p", "p"), **keep}})
    second = write(tmp_path / DOCKER, {"auths": {"https://a.test/v1/": entry("d", "d"), "a.test/t": entry("t", "t")}})
    done = remove_logins(LoginScope("a.test"), environ)
    assert [(one.name, str(one.place)) for one in done.removed] == [("a.test", first), ("a.test", second)]
    assert [(one.name, str(one.place)) for one in done.left] == [("a.test/t", second)]
    assert done.failures == ()
    assert json.loads((tmp_path / AUTH).read_text()) == {"auths": keep}
    assert Credentials(environ).find("a.test", "x") is None
    assert [one.name for one in remove_logins(LoginScope("a.test", "t"), environ).removed] == ["a.test/t"]
    assert Credentials(environ).find("a.test", "t/x") is None
    again = remove_logins(LoginScope("a.test"), environ)
    assert (again.removed, again.left, again.failures) == ((), (), ())


def test_a_logout_makes_no_file(tmp_path: Path) -> None:
    assert remove_logins(LoginScope("a.test"), {"HOME": str(tmp_path)}).removed == ()
    assert remove_logins(None, {}, file=str(tmp_path / "x/auth.json")).removed == ()
    assert os.listdir(tmp_path) == []


def test_a_logout_goes_on_after_a_broken_file(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "h"), "XDG_RUNTIME_DIR": str(tmp_path / "r")}
    write(tmp_path / AUTH, "{")
    write(tmp_path / DOCKER, {"auths": {"a.test": entry("p", "p"), HUB: entry("p", "p")}})
    done = remove_logins(None, environ)
    assert [one.name for one in done.removed] == ["a.test", "docker.io"]
    assert "auth.json is not JSON" in str(done.failures[0])
    assert json.loads((tmp_path / DOCKER).read_text()) == {"auths": {}}


# -- helpers


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    """A helper that keeps one file for each server, in a directory, and notes how it was called."""
    kept = tmp_path / "kept"
    kept.mkdir()
    path = tmp_path / "docker-credential-test"
    path.write_text(
        f"""#!/usr/bin/python3
import json, os, sys, urllib.parse
text = sys.stdin.read()
with open("{tmp_path}/calls", "a") as calls:
    calls.write(json.dumps([sys.argv[1:], "secret" in str(os.environ)]) + "\\n")
server = json.loads(text)["ServerURL"] if sys.argv[1] == "store" else text
path = "{kept}/" + urllib.parse.quote(server, safe="")
match sys.argv[1]:
    case "store":
        open(path, "w").write(text)
    case "list":
        print(json.dumps({{urllib.parse.unquote(name): "me" for name in os.listdir("{kept}")}}))
    case "get" if os.path.exists(path):
        print(open(path).read())
    case "erase" if os.path.exists(path):
        os.unlink(path)
    case _:
        print("credentials not found in native keychain")
        sys.exit(1)
"""
    )
    path.chmod(0o755)
    return kept


@pytest.mark.parametrize("registry", ["a.test:5000", "docker.io"])
@pytest.mark.parametrize("names", ["credHelpers", "credsStore"])
def test_a_helper_stores_the_login_and_forgets_it(tmp_path: Path, helper: Path, names: str, registry: str) -> None:
    config: dict[str, object] = {"credsStore": "test"} if names == "credsStore" else {"credHelpers": {registry: "test"}}
    old = HUB if registry == "docker.io" else registry
    path = write(tmp_path / "config.json", {"auths": {old: entry("old", "old")}, **config})
    environ, search = {"DOCKER_CONFIG": str(tmp_path)}, f"{tmp_path}:/usr/bin"
    place = store_login(LoginScope(registry), ME, environ, search_path=search)
    assert str(place) == f"docker-credential-test, which {path} names"
    assert json.loads((tmp_path / "config.json").read_text()) == {"auths": {old: {}}, **config}
    assert [json.loads(file.read_text()) for file in helper.iterdir()] == [
        {"ServerURL": old, "Username": "me", "Secret": ME.password}
    ]
    assert Credentials(environ, search_path=search).find(registry, "x") == ME
    done = remove_logins(LoginScope(registry), environ, search_path=search)
    assert [(one.name, one.place) for one in done.removed] == [(registry, place)]
    assert list(helper.iterdir()) == []
    assert json.loads((tmp_path / "config.json").read_text()) == {"auths": {}, **config}
    again = remove_logins(LoginScope(registry), environ, search_path=search)
    assert (again.removed, again.failures) == ((), ())
    assert "true" not in (tmp_path / "calls").read_text() and "secret" not in (tmp_path / "calls").read_text()


def test_all_logins_of_a_helper_are_removed(tmp_path: Path, helper: Path) -> None:
    environ, search = {"DOCKER_CONFIG": str(tmp_path)}, f"{tmp_path}:/usr/bin"
    write(tmp_path / "config.json", {"credsStore": "test", "credHelpers": {"c.test": "test"}})
    for registry in ("a.test", "docker.io", "c.test"):
        store_login(LoginScope(registry), ME, environ, search_path=search)
    (tmp_path / "config.json").write_text('{"credsStore": "test"}')  # only the helper knows them now
    done = remove_logins(None, environ, search_path=search)
    assert sorted(one.name for one in done.removed) == ["a.test", "c.test", "docker.io"]
    assert list(helper.iterdir()) == []


def test_a_key_whose_helper_is_named_is_not_for_the_default_helper(tmp_path: Path, helper: Path) -> None:
    """The two helpers have the same registry; the file says which of them counts."""
    search = f"{tmp_path}:/usr/bin"
    write(tmp_path / "docker-credential-broken", "#!/bin/sh\necho secret; exit 7\n")
    (tmp_path / "docker-credential-broken").chmod(0o755)
    config = {"credsStore": "broken", "credHelpers": {"docker.io": "test"}, "auths": {HUB: {}}}
    path = write(tmp_path / "config.json", config)
    store_login(LoginScope("docker.io"), ME, {}, file=path, search_path=search)
    done = remove_logins(None, {}, file=path, search_path=search)
    assert ([one.name for one in done.removed], done.failures) == (["docker.io"], ())
    assert list(helper.iterdir()) == []


@pytest.mark.parametrize(
    ("helpers", "failures"),
    [
        ({"credHelpers": {"a.test": "none"}}, ["docker-credential-none is not in"]),
        ({"credsStore": "none"}, []),
        ({"credHelpers": {"a.test": "broken"}}, ["docker-credential-broken failed for a.test, status 7"]),
        ({"credsStore": "broken"}, ["docker-credential-broken failed for a.test, status 7"]),
    ],
)
@pytest.mark.parametrize("everything", [True, False])
def test_a_logout_goes_on_without_a_helper(
    tmp_path: Path, helpers: dict[str, object], failures: list[str], everything: bool
) -> None:
    write(tmp_path / "docker-credential-broken", "#!/bin/sh\necho secret; exit 7\n")
    (tmp_path / "docker-credential-broken").chmod(0o755)
    path = write(tmp_path / "config.json", {**helpers, "auths": {"a.test": entry("x", "y")}})
    scope = None if everything else LoginScope("a.test")
    done = remove_logins(scope, {}, file=path, search_path=f"{tmp_path}:/bin")
    assert [one.name for one in done.removed] == ["a.test"]
    assert len(done.failures) == len(failures)
    for error, text in zip(done.failures, failures, strict=True):
        assert text in str(error) and "secret" not in str(error)
    assert json.loads((tmp_path / "config.json").read_text()) == {**helpers, "auths": {}}


def test_a_helper_has_no_logins_for_parts_of_a_registry(tmp_path: Path, helper: Path) -> None:
    path = write(tmp_path / "config.json", {"credsStore": "test"})
    with pytest.raises(ConfigError, match=r"stores one login for all of a\.test, none for a\.test/team"):
        store_login(LoginScope("a.test", "team"), ME, {}, file=path, search_path=f"{tmp_path}:/usr/bin")
    assert list(helper.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "docker-credential-test is not in"),
        ("cat; exit 3", "docker-credential-test does not store the login for a.test, status 3"),
    ],
)
def test_a_helper_that_does_not_store_is_an_error(tmp_path: Path, script: str | None, message: str) -> None:
    if script:
        (tmp_path / "docker-credential-test").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker-credential-test").chmod(0o755)
    text = '{"credsStore": "test"}'
    path = write(tmp_path / "config.json", text)
    with pytest.raises(ConfigError) as caught:
        store_login(LoginScope("a.test"), ME, {}, file=path, search_path=f"{tmp_path}:/bin")
    assert message in str(caught.value) and "secret" not in f"{caught.value} {caught.value.hint}"
    assert (tmp_path / "config.json").read_text() == text
