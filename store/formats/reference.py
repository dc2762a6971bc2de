"""Names of images, read as Docker reads them.

Source: the grammar of distribution's `reference` package. `debian` means docker.io/library/debian. The part before the
first slash is a host only if it has a dot, a port or an upper-case letter, or is `localhost`.
"""

from __future__ import annotations

from dataclasses import replace

from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from pybuild.values import frozen
from pybuild.values.pattern import pattern

_DOMAIN = pattern(
    r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]+)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?"
)
_COMPONENT = pattern(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_LIBRARY = "library/"
_HEX_ID = pattern(r"[0-9a-f]{64}")
MAX_LENGTH = 255  # characters of domain and path
_MAX_TEXT = MAX_LENGTH + len(":") + 128 + len("@sha512:") + 128


@frozen
class Reference:
    """The parts of an image name. `str()` is the full form."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @staticmethod
    def parse(text: str) -> Reference:
        """Read a name. Raises InvalidImage, with a hint for common mistakes."""
        if text == "scratch":
            raise InvalidImage("scratch is not an image", hint="it means an empty root filesystem, and only in FROM")
        if len(text) > _MAX_TEXT:
            raise InvalidImage(f"an image name of more than {_MAX_TEXT} characters")
        if _HEX_ID.fullmatch(text):
            raise InvalidImage(f"{text!r} cannot be a name", hint="it looks like the digest of an image")
        rest, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        tag = None
        head, colon, last = rest.rpartition(":")
        if colon and "/" not in last:
            rest, tag = head, last
            if not _TAG.fullmatch(tag):
                raise InvalidImage(
                    f"invalid tag {tag[:150]!r} in {text[:300]!r}",
                    hint="up to 128 letters, digits, dots, dashes and underscores",
                )
        first, slash, path = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
            domain = first
        else:
            domain, path = _DEFAULT_DOMAIN, rest
        if domain == _LEGACY_DOMAIN:
            domain = _DEFAULT_DOMAIN
        if domain == _DEFAULT_DOMAIN and "/" not in path:
            path = _LIBRARY + path
        components = path.split("/")
        if not _DOMAIN.fullmatch(domain) or not all(_COMPONENT.fullmatch(part) for part in components):
            hint = (
                "image names must be in lower case"
                if path.lower() != path
                else "for instance debian:bookworm or host:5000/team/app:1.0"
            )
            raise InvalidImage(f"invalid image name {text[:300]!r}", hint=hint)
        if len(domain) + 1 + len(path) > MAX_LENGTH:
            raise InvalidImage(f"an image name of more than {MAX_LENGTH} characters")
        return Reference(domain, path, tag, digest)

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}{self._suffix}"

    @property
    def familiar(self) -> str:
        """The shortest form that is a name of the same image: without the default domain and `library/` if possible.

        It is not possible for docker.io/a.b/c, because a.b/c is an image of the host a.b.
        """
        if self.domain == _DEFAULT_DOMAIN:
            for path in (self.path.removeprefix(_LIBRARY), self.path):
                short = f"{path}{self._suffix}"
                if self._is_named(short):
                    return short
        return str(self)

    def with_default_tag(self) -> Reference:
        """The same name, with the tag `latest` if it has neither tag nor digest."""
        return self if self.tag is not None or self.digest is not None else replace(self, tag="latest")

    def _is_named(self, text: str) -> bool:
        try:
            return Reference.parse(text) == self
        except InvalidImage:
            return False

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag is not None else "") + (f"@{self.digest}" if self.digest is not None else "")
