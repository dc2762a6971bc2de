"""From a name to the servers that may hold it: mirrors first, then the registry itself.

Plain http is for hosts that are this machine, and for those that the user said it of; everything else is https with a
verified certificate.
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
    """A server and the name that the repository has there."""

    registry: str  # host[:port] as in names: credentials and settings are found by it
    repository: str
    origins: tuple[Origin, ...]  # to be tried in this order: where there are two, the second is plain http
    verify: bool
    settings: RegistrySettings

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.registry}/{self.repository}"

    @property
    def site(self) -> Site:
        """The same for requests."""
        return Site(self.registry, self.origins, self.verify, self.settings.ca_files)

    @property
    def token_hosts(self) -> tuple[str, ...]:
        """Hosts that may get this registry's credentials."""
        return self.settings.token_hosts + (_DOCKER_HUB_TOKENS if self.registry == DOCKER_HUB else ())

    def may_send_credentials(self, origin: Origin) -> bool:
        """Not over plain http, unless to this machine or where the user said so."""
        return origin.scheme == "https" or self.settings.plain_http or is_loopback(origin.host)


def endpoints(reference: Reference, config: Config, *, tls_verify: bool = True) -> tuple[Endpoint, ...]:
    """The servers for a name, in the order to ask. Raises RegistryError for a host that is none."""
    found = []
    for mirror in config.for_registry(reference.domain).mirrors:
        place, _, prefix = mirror.partition("/")
        path = f"{prefix}/{reference.path}" if prefix else reference.path
        found.append(_endpoint(place, path, config, tls_verify))
    return (*found, _endpoint(reference.domain, reference.path, config, tls_verify))


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
