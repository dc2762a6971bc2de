"""How git reaches the server of a repository, and with which credentials.

Over http pybuild sends the first request itself. It follows redirects and checks the certificate by the rules of all
downloads, and finds out whether the URL is a repository. git then talks to the final URL and follows no redirects.
Over ssh the user's agent authenticates. ssh reads the user's known hosts, but no keys, configuration or passwords.
"""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote

from pybuild.remote.errors import RemoteError, TooSlow
from pybuild.remote.http.proxies import proxy_for
from pybuild.remote.http.retries import Retries, status_error
from pybuild.remote.http.site import Site
from pybuild.remote.http.transport import Interrupted, Request, Transport, public_error
from pybuild.remote.http.trust import trusted_certificates
from pybuild.remote.http.urls import Url, UrlWithLogin
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.remote.git.url import RepositorySource
    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.transport import Response
    from pybuild.remote.registry.config import Config

_SERVICE = "/info/refs?service=git-upload-pack"  # the first request of git's protocol over http: gitprotocol-http(5)


@frozen
class GitAccess:
    """How to reach servers: the user's environment, the path of an SSH agent's socket, the configuration.

    `authorization` is the value of an Authorization header. It is sent over http to one `server` only,
    `scheme://host[:port]`, and only if the URL has no login of its own.
    """

    environ: Mapping[str, str] = field(repr=False)
    agent: str | None
    config: Config
    authorization: str = field(default="", repr=False)
    server: str = ""

    @property
    def limits(self) -> RemoteLimits:
        """The time and bytes that a server may use."""
        return self.config.limits

    @property
    def path(self) -> str:
        """The directories to search for programs, as in $PATH."""
        return self.environ.get("PATH", os.defpath)


@frozen
class GitRemote:
    """What pybuild passes to git: a URL without a password, settings (`name=value`), and environment variables."""

    url: str
    settings: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


def git_remote_of(source: RepositorySource, access: GitAccess, certificates: str) -> GitRemote:
    """How git reaches the repository. If git needs a list of trusted certificates, it is the new file `certificates`.

    Raises RemoteError, NotFound, OSError.
    """
    match source.scheme:
        case "http" | "https":
            return _over_http(source, access, certificates)
        case "ssh":
            return GitRemote(source.remote, (), {"GIT_ALLOW_PROTOCOL": "ssh", **_over_ssh(source, access)})
        case _:
            return GitRemote(source.remote, (), {"GIT_ALLOW_PROTOCOL": source.scheme})


def _over_http(source: RepositorySource, access: GitAccess, certificates: str) -> GitRemote:
    location = UrlWithLogin.parse(source.remote)
    origin = location.url.origin
    settings_of_site = access.config.for_registry(origin.authority)
    site = Site(origin.authority, (origin,), settings_of_site.tls_verify, settings_of_site.ca_files)
    authorization = location.authorization
    if authorization is None and access.authorization and str(origin) == access.server:
        authorization = access.authorization
    final_url = _follow_redirects(location.url, site, authorization, access)
    same_origin = final_url.origin == origin
    # Secrets go into the environment, because every user can read the arguments of a process.
    environment = {"GIT_ALLOW_PROTOCOL": final_url.origin.scheme}
    if same_origin and authorization is not None:
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{origin}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {authorization}",
        }
    proxy = proxy_for(final_url.origin, access.environ)
    if proxy is not None:
        user, _, password = (proxy.login or "").partition(":")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if proxy.login is not None else ""
        environment[f"{final_url.origin.scheme}_proxy"] = f"{proxy.origin.scheme}://{login}{proxy.origin.authority}"
    settings = []
    if final_url.origin.scheme == "https":
        trusted = trusted_certificates(site if same_origin else None, access.environ)
        if trusted is not None:
            with open(certificates, "xb") as file:
                file.write(trusted)
            settings.append(f"http.sslCAInfo={certificates}")
        if same_origin and not site.verify:
            settings.append("http.sslVerify=false")
    return GitRemote(f"{final_url.origin}{final_url.target}", tuple(settings), environment)


def _follow_redirects(url: Url, site: Site, authorization: str | None, access: GitAccess) -> Url:
    """The URL of the repository after all redirects."""
    limits = access.limits
    transport = Transport(site, limits, access.environ)
    retries = Retries(limits, time.sleep)
    request = Request(
        "GET", Url.parse(f"{url.origin}{url.target}{_SERVICE}"), {"Git-Protocol": "version=2"}, authorization
    )
    try:
        while True:
            try:
                with transport.request(request) as response:
                    return _repository_url(url, response)
            except (Interrupted, TooSlow) as error:
                retries.wait(error, url.origin.authority)
    except RemoteError as error:
        raise public_error(error) from None
    finally:
        transport.close()


def _repository_url(url: Url, response: Response) -> Url:
    if response.status != 200:
        raise status_error(url, response, "no such repository")
    if not response.url.target.endswith(_SERVICE):
        raise RemoteError(f"{url} redirects to {response.url}, which is not a git repository")
    return Url(response.url.origin, response.url.target.removesuffix(_SERVICE))


def _over_ssh(source: RepositorySource, access: GitAccess) -> dict[str, str]:
    if access.agent is None:
        raise RemoteError(
            f"{source.redacted}: an ssh URL needs an ssh agent", hint="--ssh default gives the build your agent"
        )
    options = [
        "BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "IdentityFile=none", "ForwardAgent=no",
        "ClearAllForwardings=yes", "PermitLocalCommand=no", "PreferredAuthentications=publickey", "ControlPath=none",
        f"ConnectTimeout={max(1, round(access.limits.connect_seconds))}", "ServerAliveInterval=15",
    ]  # fmt: skip
    home = access.environ.get("HOME", "")
    if home.startswith("/"):
        # ssh itself would use the user database instead of HOME. Quotes as in ssh_config(5).
        options.append(f'UserKnownHostsFile="{home}/.ssh/known_hosts"')
    command = ["ssh", "-F", "none", *(word for option in options for word in ("-o", option))]
    return {"GIT_SSH_COMMAND": shlex.join(command), "GIT_SSH_VARIANT": "ssh", "SSH_AUTH_SOCK": access.agent}
