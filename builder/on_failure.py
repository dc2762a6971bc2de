"""What is to be done where a RUN fails, before what it left is gone: copy parts of it, open a shell in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pybuild.values import frozen

if TYPE_CHECKING:
    from pybuild.builder.errors import BuildError


class TerminalHost(Protocol):
    """Who lends a terminal to a shell."""

    def begin(self, error: BuildError) -> None:
        """A shell is about to take the terminal, after this error; nothing else of the build goes on."""
        ...

    def relay(self, terminal: int, ended: int) -> None:
        """Pass on what is typed and what is written, until the descriptor `ended` can be read or our terminal is gone.

        `terminal` is the master of the shell's; both descriptors stay the caller's. Whatever leaves this leaves our terminal
        as it was.
        """
        ...


@frozen
class FailedExport:
    """A path of the failed step's file system, relative to its working directory, and where it is copied to."""

    path: str
    destination: str  # absolute, of this machine; there must be nothing yet


@frozen
class OnFail:
    """First the exports, then the shell. `variables` (NAME=VALUE) are what its environment has beside the step's."""

    exports: tuple[FailedExport, ...] = ()
    host: TerminalHost | None = None
    variables: tuple[str, ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.exports) or self.host is not None
