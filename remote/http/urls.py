"""URLs that pybuild requests or that servers redirect to, and checks of the addresses that they lead to.

A URL here is http or https, has a host, and has no user name and no control characters. Every URL from a server's header
goes through `Url.parse`.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import field
from urllib.parse import unquote, urljoin, urlsplit

from pybuild.remote.errors import RemoteError
from pybuild.values import frozen
from pybuild.values.pattern import pattern
from pybuild.values.redact import redact

MAX_URL = 16 << 10
DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN = pattern(r"[\x21-\x7e]+")
_NAME = pattern(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?")
_NUMBER = pattern(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address

# Metadata services of clouds, which give a machine its credentials; the usual one is the link-local 169.254.169.254.
_METADATA = frozenset((ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@frozen
class Origin:
    """Scheme, host and port. Credentials belong to an origin. An IPv6 address as `host` has no brackets."""

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
    """A checked URL. `str()` leaves out the query, because it can hold a signature or a token."""

    origin: Origin
    target: str  # path and query, as sent

    @staticmethod
    def parse(text: str) -> Url:
        """Read an absolute URL. Raises RemoteError for anything except http and https."""
        if len(text) > MAX_URL:
            raise RemoteError(f"a URL of {len(text)} characters exceeds the limit of {MAX_URL}")
        if not _PLAIN.fullmatch(text) or "\\" in text:
            raise RemoteError(f"invalid characters in a URL: {printable(text)}")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise RemoteError(f"invalid URL: {printable(text)}") from None
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
        """The URL that a `Location` header of this URL's response names. Raises RemoteError."""
        if len(location) > MAX_URL:
            raise RemoteError(f"a URL of {len(location)} characters exceeds the limit of {MAX_URL}")
        # The base is the whole URL: by itself, a target that begins with two slashes would be read as a host.
        try:
            return Url.parse(urljoin(f"{self.origin}{self.target}", location))
        except ValueError:
            raise RemoteError(f"invalid URL: {printable(location)}") from None

    def __str__(self) -> str:
        return f"{self.origin}{self.target.partition('?')[0]}"


@frozen
class UrlWithLogin:
    """A URL and the `user:password` that it held. `login` is sent to the URL's own origin only."""

    url: Url
    login: str | None = field(default=None, repr=False)

    @staticmethod
    def parse(text: str) -> UrlWithLogin:
        """Read a URL and drop its fragment. Raises RemoteError, whose message never shows a password."""
        text = text.partition("#")[0]
        try:
            parts = urlsplit(text)
        except ValueError:
            raise RemoteError(f"invalid URL: {printable(redact(text))}") from None
        user, at, host_and_port = parts.netloc.rpartition("@")
        if not at:
            return UrlWithLogin(Url.parse(text))
        name, _, password = user.partition(":")
        url = Url.parse(parts._replace(netloc=host_and_port, fragment="").geturl())
        if url.origin.scheme != "https" and not is_loopback(url.origin.host):
            raise RemoteError(f"{url}: the password would be sent unencrypted", hint="use https")
        return UrlWithLogin(url, unquoted_login(name, password))

    @property
    def authorization(self) -> str | None:
        """The value of an Authorization header; None without a login."""
        return None if self.login is None else basic_authorization(self.login)


def unquoted_login(user: str, password: str) -> str:
    """`user:password`, from the two parts as a URL has them. A byte that is not UTF-8 becomes a surrogate."""
    return ":".join(unquote(part, errors="surrogateescape") for part in (user, password))


def basic_authorization(login: str) -> str:
    """The value of an Authorization header for `user:password` (RFC 7617)."""
    return f"Basic {base64.b64encode(login.encode('utf-8', 'surrogateescape')).decode('ascii')}"


def parse_host(text: str) -> str:
    """A DNS name in lower case or an IP address in canonical form. Raises RemoteError.

    Other spellings of an address (`127.1`, `0x7f000001`) are refused: the resolver accepts them, but the checks would not
    recognize them.
    """
    host = text.lower()
    found = address_of(host)
    if found is not None:
        return str(found)
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise RemoteError(f"{printable(text)!r} is not a host name")
    return host


def address_of(host: str) -> Address | None:
    """The address, if the host is written as one; None for a name. Raises RemoteError for an address with a zone."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        raise RemoteError(f"{printable(host)!r}: an address with a zone")
    return found


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: 127.0.0.0/8, ::1, localhost and the names below it (RFC 6761)."""
    found = address_of(host)
    if found is None:
        return host == "localhost" or host.endswith(".localhost")
    return effective_address(found).is_loopback


def is_private(address: Address) -> bool:
    """Whether an address is not public: loopback, link-local, private, shared or reserved."""
    plain = effective_address(address)
    return not plain.is_global or plain.is_multicast


def is_forbidden(address: Address) -> bool:
    """Whether pybuild never connects to an address: link-local, unspecified, multicast, and metadata services of clouds."""
    plain = effective_address(address)
    return plain.is_link_local or plain.is_unspecified or plain.is_multicast or plain in _METADATA


def effective_address(address: Address) -> Address:
    """The address itself, or the IPv4 address inside an IPv6 one if the kernel or a gateway would convert it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def printable(text: str, limit: int = 200) -> str:
    """Text from a server, for a message: one line, escaped, cut to `limit` characters and before the first `?`."""
    head, question, _ = text.partition("?")
    shown = head[:limit] + ("…" if len(head) > limit or question else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
