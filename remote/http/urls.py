"""URLs that are asked for, and that servers may send us to, and the addresses that may stand behind them.

Only what we need is a URL here: http or https, a host, no user name, no control characters. Everything that
is read from a header of a stranger goes through `Url.parse`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import field
from urllib.parse import unquote, urljoin, urlsplit

from pybuild.remote.errors import RemoteError
from pybuild.values import frozen

MAX_URL = 16 << 10
DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address

# What tells a cloud's machine who it is, and its credentials, besides the link-local 169.254.169.254.
_METADATA = frozenset((ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@frozen
class Origin:
    """Scheme, host and port: what credentials are bound to. An IPv6 address as host has no brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host:port` as in a URL, without the port that the scheme implies."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@frozen
class Url:
    """A checked URL. `str()` leaves out the query: it may hold a signature or a token."""

    origin: Origin
    target: str  # path and query, as sent

    @staticmethod
    def parse(text: str) -> Url:
        """Read an absolute URL. Raises RemoteError for anything but plain http and https."""
        if len(text) > MAX_URL:
            raise RemoteError(f"a URL of {len(text)} characters exceeds the limit of {MAX_URL}")
        if not _PLAIN.fullmatch(text) or "\\" in text:
            raise RemoteError(f"a URL with characters that have no place in one: {printable(text)}")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise RemoteError(f"no URL: {printable(text)}") from None
        if parts.scheme not in DEFAULT_PORTS:
            raise RemoteError(f"{printable(text)} is neither an https nor an http URL")
        if "@" in parts.netloc:
            raise RemoteError(f"a URL with a user name, for {printable(parts.hostname or '')}")
        host = parse_host(parts.hostname or "")
        if port == 0:
            raise RemoteError(f"port 0 in a URL, for {host}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Url(Origin(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme]), target)

    def join(self, location: str) -> Url:
        """Where a `Location` leads from here. Raises RemoteError."""
        if len(location) > MAX_URL:
            raise RemoteError(f"a URL of {len(location)} characters exceeds the limit of {MAX_URL}")
        # Two slashes at the start of our own path would read as a host.
        try:
            return Url.parse(urljoin(f"{self.origin}{self.target}", location))
        except ValueError:
            raise RemoteError(f"no URL: {printable(location)}") from None

    def __str__(self) -> str:
        return f"{self.origin}{self.target.partition('?')[0]}"


@frozen
class Location:
    """A URL without what says who we are, and that apart: `login` is `user:password`, sent to the URL's own origin only."""

    url: Url
    login: str | None = field(default=None, repr=False)

    @staticmethod
    def parse(text: str) -> Location:
        """Read a URL; what stands behind `#` is not part of it. Raises RemoteError, which does not show a password."""
        text = text.partition("#")[0]
        try:
            parts = urlsplit(text)
        except ValueError:
            return Location(Url.parse(text))
        user, at, place = parts.netloc.rpartition("@")
        if not at:
            return Location(Url.parse(text))
        name, _, password = user.partition(":")
        url = Url.parse(parts._replace(netloc=place, fragment="").geturl())
        if url.origin.scheme != "https" and not is_loopback(url.origin.host):
            raise RemoteError(f"{url}: a password would go over the wire for everybody to read", hint="use https")
        return Location(url, f"{unquote(name)}:{unquote(password)}")


def parse_host(text: str) -> str:
    """A DNS name in lower case or an IP address in canonical form. Raises RemoteError.

    Other spellings of an address (`127.1`, `0x7f000001`) are refused: the resolver takes them, a check might not.
    """
    host = text.lower()
    found = address_of(host)
    if found is not None:
        return str(found)
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise RemoteError(f"{printable(text)!r} is no host name")
    return host


def address_of(host: str) -> Address | None:
    """The address that a host is written as; None for a name."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        raise RemoteError(f"{printable(host)!r}: an address with a zone")
    return found


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name: 127.0.0.0/8, ::1, localhost and the names below it (RFC 6761)."""
    found = address_of(host)
    if found is None:
        return host == "localhost" or host.endswith(".localhost")
    return plain_address(found).is_loopback


def is_private(address: Address) -> bool:
    """Whether an address is none of the public Internet: loopback, link-local, private, shared, reserved ones."""
    plain = plain_address(address)
    return not plain.is_global or plain.is_multicast


def is_nobodys(address: Address) -> bool:
    """Whether an address can belong to no server of others: link-local ones, those of clouds for their own machines."""
    plain = plain_address(address)
    return plain.is_link_local or plain.is_unspecified or plain.is_multicast or plain in _METADATA


def plain_address(address: Address) -> Address:
    """The IPv4 address inside of an IPv6 one, for the forms that the kernel or a gateway turns into it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def printable(text: str, limit: int = 200) -> str:
    """Text of a stranger for a message: one line, escaped, cut, and without what follows a `?`."""
    head, question, _ = text.partition("?")
    shown = head[:limit] + ("…" if len(head) > limit or question else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
