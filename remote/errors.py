"""The errors of talking to other machines: registries, web servers, git servers."""

from __future__ import annotations

from pybuild.values.errors import PybuildError


class RemoteError(PybuildError):
    """A server breaks its protocol, refuses a request or exceeds a limit, or its address is invalid."""


class ConfigError(RemoteError):
    """This machine's own settings are broken: the configuration file, a proxy variable, certificates, stored credentials."""


class Unreachable(RemoteError):
    """No connection to a server, or none that can be trusted."""


class TooSlow(RemoteError):
    """A server missed a deadline, or sends less than the lowest rate."""


class Unauthorized(RemoteError):
    """A server refuses access, or credentials would have to go where they do not belong."""


class GitFailed(RemoteError):
    """git exited with an error. `stderr` is the end of what it wrote there, in the process that ran git."""

    def __init__(self, message: str, stderr: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr
