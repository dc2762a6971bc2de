"""Which proxy a request uses, by the environment variables that curl and Go read.

HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, each in lower case first. NO_PROXY is a list of host names (with
their subdomains; `.name` and `*.name` are only the subdomains), addresses and networks, each with an optional port, or
`*`. Loopback addresses never use a proxy.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pybuild.remote.errors import ConfigError, RemoteError
from pybuild.remote.http.urls import DEFAULT_PORTS, Origin, address_of, is_loopback, parse_host, unquoted_login
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen
class Proxy:
    """A proxy, and the `user:password` for it."""

    origin: Origin
    login: str | None = field(default=None, repr=False)


def proxy_for(origin: Origin, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to an origin; None for a direct connection. Raises ConfigError for an invalid variable."""
    if is_loopback(origin.host) or _is_exempt(origin, _variable(environ, "no_proxy")):
        return None
    for name in (f"{origin.scheme}_proxy", "all_proxy"):
        if text := _variable(environ, name):
            return _parse(text, name.upper())
    return None


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _parse(text: str, name: str) -> Proxy:
    """Read a proxy's URL; `host:port` means http. No message shows the text, because it can hold a password."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        scheme, port = parts.scheme, parts.port
        host = parse_host(parts.hostname or "")
    except (ValueError, RemoteError):
        raise ConfigError(f"{name} is not the URL of a proxy") from None
    if scheme not in DEFAULT_PORTS:
        raise ConfigError(f"{name}: {scheme[:20]} proxies are not supported", hint="use an http or https proxy")
    login = None
    if parts.username is not None:
        login = unquoted_login(parts.username, parts.password or "")
    return Proxy(Origin(scheme, host, port or DEFAULT_PORTS[scheme]), login)


def _is_exempt(origin: Origin, no_proxy: str) -> bool:
    return any(_matches(origin, item.strip().lower()) for item in no_proxy.split(","))


def _matches(origin: Origin, item: str) -> bool:
    if not item:
        return False
    if item == "*":
        return True
    address = address_of(origin.host)
    if "/" in item:
        with contextlib.suppress(ValueError):
            return address is not None and address in ipaddress.ip_network(item, strict=False)
        return False
    host, colon, port = item.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or (":" in host and not host.startswith("[")):
        host = item
    elif int(port) != origin.port:
        return False
    host = host.removeprefix("[").removesuffix("]")
    if address is not None:
        with contextlib.suppress(ValueError):
            return address == ipaddress.ip_address(host)
        return False
    host = host.removeprefix("*")
    if host.startswith("."):
        return origin.host.endswith(host)
    return origin.host == host or origin.host.endswith(f".{host}")
