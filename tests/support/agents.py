"""A real ssh agent with a key, and the numbers of its protocol (draft-ietf-sshm-ssh-agent, section 6.1)."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LIST, REMOVE_ALL = 11, 19
FAILURE, KEYS = 5, 12


@contextmanager
def an_agent(place: Path, prefix: Sequence[str] = ()) -> Iterator[str]:
    """The path of its socket, which is in `place`. `prefix` makes a command run as the user of the agent."""
    key = place / "key"
    subprocess.run([*prefix, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    path = str(place / "agent")
    with subprocess.Popen(
        [*prefix, "ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it prints the path when it listens
        try:
            subprocess.run([*prefix, "ssh-add", "-q", key], check=True, env={**os.environ, "SSH_AUTH_SOCK": path})
            yield path
        finally:
            process.send_signal(signal.SIGTERM)


def keys(path: str, prefix: Sequence[str] = ()) -> str:
    """The public keys that the agent has."""
    command = [*prefix, "ssh-add", "-L"]
    return subprocess.run(command, env={**os.environ, "SSH_AUTH_SOCK": path}, capture_output=True, text=True).stdout
