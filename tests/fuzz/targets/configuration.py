"""Files in which users and other tools configure registries: auth.json and config.json as JSON, config.toml as TOML."""

from __future__ import annotations

import os

from pybuild.remote.errors import ConfigError, RemoteError
from pybuild.remote.registry.config import Config
from pybuild.remote.registry.credentials import Credentials, Login
from pybuild.remote.registry.endpoints import endpoints
from pybuild.store.formats.reference import Reference
from tests.fuzz.target import FuzzTarget, check_refusal

IMAGES = tuple(map(Reference.parse, ("debian", "registry.example:5000/team/app", "localhost/x")))


def read(data: bytes) -> bool:
    """A file is used or refused with its name. No helper is started: there is none in the directory that is searched."""
    return _credentials(data) | _config(data)


def _credentials(data: bytes) -> bool:
    file = os.memfd_create("auth")
    try:
        os.write(file, data)
        path = f"/proc/self/fd/{file}"
        found = Credentials({"REGISTRY_AUTH_FILE": path}, search_path="/nonexistent")
        for image in IMAGES:
            credential = found.find(image.domain, image.path)
            assert found.find(image.domain, image.path) is credential
            if isinstance(credential, Login):
                assert credential.header().startswith("Basic ") and credential.user
    except ConfigError as error:
        return check_refusal(error)
    finally:
        os.close(file)
    return True


def _config(data: bytes) -> bool:
    try:
        config = Config().updated(data, "config.toml")
    except ConfigError as error:
        assert str(error).startswith("config.toml: ")
        return check_refusal(error)
    for image in IMAGES:
        try:
            places = endpoints(image, config)
        except RemoteError as error:
            check_refusal(error)
        else:
            assert all(place.origins for place in places) and places[-1].registry == image.domain
    return True


TARGET = FuzzTarget(
    read,
    seeds=(
        b'{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"registry.example:5000":{"username":"u","password":"p"},'
        b'"registry.example:5000/team":{"identitytoken":"t"},"localhost":{"registrytoken":"r"}}}',
        b'{"credHelpers":{"docker.io":"secretservice"},"credsStore":"pass","auths":{}}',
        b'{"auths":{"docker.io":{"auth":"dTpwAAAA"},"http://localhost/v2/":{"auth":"dTo="}}}',
        b'[registry."docker.io"]\nmirrors = ["mirror.example:5000", "cache.example/dockerhub"]\n[limits]\nretries = 5\n',
        b'[registry."registry.example:5000"]\ntls-verify = false\nplain-http = true\nca-files = ["/a.pem"]\ntoken-hosts = ["l.example"]\n',
    ),
    words=(
        b'"auths":{', b'"auth":"', b'"username":', b'"password":', b'"identitytoken":', b'"credHelpers":{', b'"credsStore":"', b"\\u0000",
        b"null", b"\xc3\xa9", b"==", b'[registry."', b"mirrors = [", b"retries = ", b"= 0x", b"= 1979-05-27T07:32:00Z", b"= inf", b'"""',
        b"[limits]", b"[[a]]", b"{a=", b"[[[[[[[[[[[[[[[[", b"docker.io", b"registry.example:5000", b"[::1]", b":0", b"../",
    ),
)  # fmt: skip
