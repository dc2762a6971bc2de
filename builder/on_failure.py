"""What to do if a RUN fails, before its files are removed: copy some of them, open a shell among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.errors import BuildError


class TerminalHost(Protocol):
    """Lends the user's terminal to a shell."""

    def begin(self, error: BuildError) -> None:
        """A shell is about to take the terminal, after this error. Nothing else of the build runs."""
        ...

    def relay(self, terminal: int, ended: int) -> None:
        """Pass on input and output until the descriptor `ended` is readable or the user's terminal is gone.

        `terminal` is the master of the shell's terminal. The caller closes both descriptors. The user's terminal is
        restored, also if this raises.
        """
        ...


@frozen
class FailedExport:
    """A path in the failed step's filesystem, and where to copy it."""

    path: str  # relative to the step's working directory
    destination: str  # an absolute path on this machine, which must not exist


@frozen
class OnFail:
    """First the exports, then the shell. `variables` (NAME=VALUE) are added to the step's environment for the shell."""

    exports: tuple[FailedExport, ...] = ()
    host: TerminalHost | None = None
    variables: tuple[str, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether there is something to do."""
        return bool(self.exports) or self.host is not None
