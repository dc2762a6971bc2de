"""The servers for an image name: mirrors first, then the registry itself.

pybuild uses plain http for loopback hosts and for hosts whose configuration allows it. All other servers must have https
and a valid certificate.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pybuild.remote.http.site import Site
from pybuild.remote.http.urls import DEFAULT_PORTS, Origin, is_loopback
from pybuild.remote.registry.config import split_host
from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.remote.registry.config import Config, RegistrySettings
    from pybuild.store.formats.reference import Reference

DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"  # docker.io itself is the web site
_DOCKER_HUB_TOKENS = ("auth.docker.io",)


@frozen
class Endpoint:
    """A server, and the repository's name there."""

    registry: str  # host[:port] as in names: the key of credentials and settings
    repository: str  # "" for the registry itself
    origins: tuple[Origin, ...]  # in the order to try them: one, or https and then plain http
    verify: bool
    settings: RegistrySettings

    @property
    def name(self) -> str:
        """The name of the repository, or of the registry, in messages."""
        return f"{self.registry}/{self.repository}" if self.repository else self.registry

    @property
    def site(self) -> Site:
        """The server, as `Transport` takes it."""
        return Site(self.registry, self.origins, self.verify, self.settings.ca_files)

    @property
    def token_hosts(self) -> tuple[str, ...]:
        """Hosts that may get this registry's credentials."""
        return self.settings.token_hosts + (_DOCKER_HUB_TOKENS if self.registry == DOCKER_HUB else ())

    def may_send_credentials(self, origin: Origin) -> bool:
        """Whether credentials can go to an origin: over https, to this machine, or if the user configured plain http."""
        return origin.scheme == "https" or self.settings.plain_http or is_loopback(origin.host)


def endpoints(reference: Reference, config: Config, *, tls_verify: bool = True) -> tuple[Endpoint, ...]:
    """The servers for a name, in the order to try them. Raises RemoteError for an invalid host."""
    found = []
    for mirror in config.for_registry(reference.domain).mirrors:
        host, _, prefix = mirror.partition("/")
        path = f"{prefix}/{reference.path}" if prefix else reference.path
        found.append(_endpoint(host, path, config, tls_verify))
    return (*found, _endpoint(reference.domain, reference.path, config, tls_verify))


def registry_endpoint(registry: str, config: Config, *, tls_verify: bool = True) -> Endpoint:
    """A registry without a repository, for a login. Raises RemoteError for an invalid host."""
    return _endpoint(registry, "", config, tls_verify)


def _endpoint(registry: str, repository: str, config: Config, tls_verify: bool) -> Endpoint:
    settings = config.for_registry(registry)
    if not tls_verify:
        settings = dataclasses.replace(settings, tls_verify=False)
    host, port = split_host(_DOCKER_HUB_API if registry == DOCKER_HUB else registry)
    if settings.plain_http:
        schemes: tuple[str, ...] = ("http",)
    elif is_loopback(host) or not settings.tls_verify:
        schemes = ("https", "http")
    else:
        schemes = ("https",)
    origins = tuple(Origin(scheme, host, port or DEFAULT_PORTS[scheme]) for scheme in schemes)
    return Endpoint(registry, repository, origins, settings.tls_verify, settings)
