"""What keeps a RUN step apart from pybuild, from other steps and from the machine: the rung that was found here."""

from __future__ import annotations

from pybuild.builder.host.obstacles import SEE_DOCTOR
from pybuild.builder.sandbox.report import UNFILTERED, UNMASKED
from pybuild.builder.sandbox.trial import HOST_NAME, PROC, SYS
from pybuild.values import frozen

SEE_SECURITY = "see docs/user/security.md"
_GIVES_UP = {
    HOST_NAME: "steps have the host name of the container",
    PROC: "steps see its /proc, read-only: numbers, command lines and mounts of all its processes",
    SYS: "steps with --network=none see the devices of its network in /sys",
}


@frozen
class Rung:
    """`refused` are pieces that the kernel refuses a step, with its reason. `own_ids` are the maps of the user namespace
    that each step gets of its own, users and groups; None if it has none. `in_place`: nothing keeps steps apart.
    """

    refused: tuple[tuple[str, str], ...]
    own_ids: tuple[str, str] | None
    in_place: bool = False

    @property
    def is_full(self) -> bool:
        return not self.refused and not self.in_place

    def has_own(self, piece: str) -> bool:
        """Whether a step gets this piece of its own."""
        return piece not in dict(self.refused) and not self.in_place

    def note(self) -> str:
        """One line about what is missing, for a rung that is not full."""
        if self.in_place:
            return (
                "the isolation of RUN steps is `in-place`: they run in the root of this container with its network, and can"
                f" read its credentials and change pybuild; {SEE_SECURITY}"
            )
        return f"the isolation of RUN steps is `container`, not `full`: this container refuses {self.listed()}; {SEE_DOCTOR}"

    def listed(self) -> str:
        """The pieces that are refused."""
        pieces = [f"a new {piece}" for piece, _ in self.refused]
        return " and ".join(filter(None, (", ".join(pieces[:-1]), pieces[-1])))

    def gives_up(self) -> str:
        """What follows from the pieces that are refused."""
        return "; ".join(_GIVES_UP[piece] for piece, _ in self.refused)

    def more(self) -> str:
        """Which options of the container give the pieces that are refused."""
        refused = dict(self.refused)
        return " and ".join(
            ([UNFILTERED] if HOST_NAME in refused else []) + ([UNMASKED] if {PROC, SYS} & set(refused) else [])
        )


IN_PLACE = Rung((), None, in_place=True)
FULL = Rung((), None)  # without a trial: a step fails where a piece of it is refused
