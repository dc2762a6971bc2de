"""What is raised about other machines: registries, web servers, git servers."""

from __future__ import annotations

from pybuild.values.errors import PybuildError


class RemoteError(PybuildError):
    """A server does not answer as its protocol says, or exceeds a limit; or its address makes no sense."""


class Unreachable(RemoteError):
    """No connection to a server, or none that can be trusted."""


class TooSlow(RemoteError):
    """A server let a deadline pass, or sends less than the lowest rate."""


class Unauthorized(RemoteError):
    """A server refuses access, or credentials would have to go where they do not belong."""
