"""How git gets to the server of a repository, and who it says that we are.

Over http the first request is our own: it finds out by the rules for all downloads where redirects lead, whether the
certificate is trusted and whether there is anything. Git then talks to the place that was found and follows nowhere.
Over ssh an agent of the user's signs; keys, configuration and passwords of the user are not looked at, his known hosts are.
"""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote

from pybuild.remote.errors import RemoteError, TooSlow, Unauthorized
from pybuild.remote.git.url import basic
from pybuild.remote.http.proxies import proxy_for
from pybuild.remote.http.retries import BUSY, Patience, retry_after
from pybuild.remote.http.site import Site
from pybuild.remote.http.transport import Interrupted, Request, Transport, published
from pybuild.remote.http.trust import authorities
from pybuild.remote.http.urls import Location, Url
from pybuild.store.errors import NotFound
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.remote.git.url import RepositorySource
    from pybuild.remote.http.site import RemoteLimits
    from pybuild.remote.http.transport import Answer
    from pybuild.remote.registry.config import Config

_SERVICE = "/info/refs?service=git-upload-pack"  # the first request of git's protocol over http: gitprotocol-http(5)


@frozen
class Access:
    """How servers are reached: the user's environment, the socket of an SSH agent of his, his configuration.

    `authorization` is what he says over http to one `server`, `scheme://host[:port]`, where its URL says nothing.
    """

    environ: Mapping[str, str] = field(repr=False)
    agent: str | None
    config: Config
    authorization: str = field(default="", repr=False)
    server: str = ""

    @property
    def limits(self) -> RemoteLimits:
        """What a server may cost."""
        return self.config.limits

    @property
    def path(self) -> str:
        """Where programs are looked for."""
        return self.environ.get("PATH", os.defpath)


@frozen
class GitRemote:
    """What git is given: a URL without a password, settings (`name=value`), and variables of its environment."""

    url: str
    settings: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


def place_of(source: RepositorySource, access: Access, certificates: str) -> GitRemote:
    """Where a repository is. `certificates` is a free path for a file of authorities. Raises RemoteError, StoreError."""
    match source.scheme:
        case "http" | "https":
            return _over_http(source, access, certificates)
        case "ssh":
            return GitRemote(source.remote, (), {"GIT_ALLOW_PROTOCOL": "ssh", **_over_ssh(source, access)})
        case _:
            return GitRemote(source.remote, (), {"GIT_ALLOW_PROTOCOL": source.scheme})


def _over_http(source: RepositorySource, access: Access, certificates: str) -> GitRemote:
    location = Location.parse(source.remote)
    origin = location.url.origin
    configured = access.config.of(origin.authority)
    site = Site(origin.authority, (origin,), configured.tls_verify, configured.ca_files)
    authorization = None
    if location.login is not None:
        authorization = basic(location.login)
    elif access.authorization and str(origin) == access.server:
        authorization = access.authorization
    found = _follow(location.url, site, authorization, access)
    own = found.origin == origin
    # What is secret goes into the environment: the arguments of a process can be read by everybody.
    environment = {"GIT_ALLOW_PROTOCOL": found.origin.scheme}
    if own and authorization is not None:
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{origin}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {authorization}",
        }
    proxy = proxy_for(found.origin, access.environ)
    if proxy is not None:
        user, _, password = (proxy.login or "").partition(":")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if proxy.login is not None else ""
        environment[f"{found.origin.scheme}_proxy"] = f"{proxy.origin.scheme}://{login}{proxy.origin.authority}"
    settings = []
    if found.origin.scheme == "https":
        trusted = authorities(site if own else None, access.environ)
        if trusted is not None:
            with open(certificates, "xb") as file:
                file.write(trusted)
            settings.append(f"http.sslCAInfo={certificates}")
        if own and not site.verify:
            settings.append("http.sslVerify=false")
    return GitRemote(f"{found.origin}{found.target}", tuple(settings), environment)


def _follow(url: Url, site: Site, authorization: str | None, access: Access) -> Url:
    """Where a repository is, redirects followed."""
    limits = access.limits
    transport = Transport(site, limits, access.environ)
    patience = Patience(limits, time.sleep)
    request = Request(
        "GET", Url.parse(f"{url.origin}{url.target}{_SERVICE}"), {"Git-Protocol": "version=2"}, authorization
    )
    try:
        while True:
            try:
                with transport.request(request) as answer:
                    return _base(url, answer)
            except (Interrupted, TooSlow) as error:
                patience.wait(error, url.origin.authority)
    except RemoteError as error:
        raise published(error) from None
    finally:
        transport.close()


def _base(url: Url, answer: Answer) -> Url:
    status = answer.status
    if status in (401, 403):
        raise Unauthorized(f"{url}: access is forbidden (status {status})")
    if status in (404, 410):
        raise NotFound(f"{url}: there is no repository (status {status})")
    if status in BUSY:
        raise Interrupted(f"{url}: status {status}", wait=retry_after(answer))
    if status != 200:
        raise RemoteError(f"{url}: status {status}")
    if not answer.url.target.endswith(_SERVICE):
        raise RemoteError(f"{url} redirects to {answer.url}, which is no repository")
    return Url(answer.url.origin, answer.url.target.removesuffix(_SERVICE))


def _over_ssh(source: RepositorySource, access: Access) -> dict[str, str]:
    if access.agent is None:
        raise RemoteError(
            f"{source.shown}: this needs an ssh agent, and none was given", hint="--ssh default gives a build yours"
        )
    options = [
        "BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "IdentityFile=none", "ForwardAgent=no",
        "ClearAllForwardings=yes", "PermitLocalCommand=no", "PreferredAuthentications=publickey", "ControlPath=none",
        f"ConnectTimeout={max(1, round(access.limits.connect_seconds))}", "ServerAliveInterval=15",
    ]  # fmt: skip
    home = access.environ.get("HOME", "")
    if home.startswith("/"):
        # By HOME, as for all else of the user's; ssh itself goes by the user database. Quoted as ssh_config(5) has it.
        options.append(f'UserKnownHostsFile="{home}/.ssh/known_hosts"')
    command = ["ssh", "-F", "none", *(word for option in options for word in ("-o", option))]
    return {"GIT_SSH_COMMAND": shlex.join(command), "GIT_SSH_VARIANT": "ssh", "SSH_AUTH_SOCK": access.agent}
