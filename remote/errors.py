"""The errors of talking to other machines: registries, web servers, git servers.

remote/ also raises errors of store/errors.py: NotFound if a server has no object of that name, DigestMismatch for wrong
content, InvalidImage for a manifest or index that violates its format.
"""

from __future__ import annotations

from pybuild.values.errors import PybuildError


class RemoteError(PybuildError):
    """A server breaks its protocol, refuses a request or exceeds a limit, or its address is invalid."""


class ConfigError(RemoteError):
    """This machine's own settings are broken: the configuration file, a proxy variable, certificates, stored credentials."""


class Unreachable(RemoteError):
    """No connection to a server, or none that can be trusted."""


class TooSlow(RemoteError):
    """A server missed a deadline, or sent fewer bytes a second than the lowest rate."""


class Unauthorized(RemoteError):
    """A server refuses access, or pybuild would have to send credentials to a server that must not get them."""


class GitFailed(RemoteError):
    """git exited with an error. `stderr` is the end of its stderr; an error that came from another process has none."""

    def __init__(self, message: str, stderr: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr
