"""The secrets and SSH agents of one build, from --secret and --ssh.

All secrets lie in one anonymous file in memory, the *vault*. Only the descriptor of the vault travels, from the main
process to the sandbox worker and on to the step, and only the step reads the secrets that it mounts. No message, cache
key, history, argument or file of the store ever holds a secret.
"""

from __future__ import annotations

import fcntl
import os
import stat
from types import MappingProxyType
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.parser import SecretMount, SshMount, suggest
from pybuild.values import frozen
from pybuild.values.limits import SECRET_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from pybuild.builder.options import AgentSource, SecretSource
    from pybuild.builder.plan.graph import StepMount

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@frozen
class VaultSecret:
    """Where a secret lies in the vault."""

    offset: int  # bytes
    size: int  # bytes
    text: bool  # whether it can be an environment variable: a secret with a NUL byte cannot


_MISSING = VaultSecret(0, 0, True)


class BuildSecrets:
    """The secrets and agents that the user gave to a build. A context manager: leaving it destroys the vault."""

    def __init__(
        self,
        secrets: Sequence[SecretSource] = (),
        agents: Sequence[AgentSource] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Read all secrets and check the sockets of the agents. Raises BuildError if one of them cannot be read."""
        self.vault = -1
        self._secrets: dict[str, VaultSecret] = {}
        self._agents = {agent.id: _socket(agent) for agent in agents}
        if secrets:
            self._keep_out_of_core_dumps()
            self.vault = os.memfd_create("pybuild secrets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                for source in secrets:
                    self._add(source.id, _read(source, environ))
                fcntl.fcntl(self.vault, fcntl.F_ADD_SEALS, _SEALS)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> BuildSecrets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Destroy the vault. Idempotent."""
        if self.vault >= 0:
            os.close(self.vault)
            self.vault = -1

    def secret(self, id: str) -> VaultSecret | None:
        """Where the secret of that id lies in the vault; None if it was not given."""
        return self._secrets.get(id)

    def read(self, id: str) -> bytes | None:
        """The content of a secret, for the main process itself; None if it was not given."""
        found = self._secrets.get(id)
        return None if found is None else os.pread(self.vault, found.size, found.offset)

    def agent(self, id: str) -> str | None:
        """The absolute path of an agent's socket; None if the agent was not given."""
        return self._agents.get(id)

    def available(self, mounts: Sequence[StepMount]) -> tuple[StepMount, ...]:
        """The mounts, without secrets and agents that were not given. Raises BuildError if a required one was not."""
        missing = self._missing(mounts)
        for mount in missing:
            if mount.required:
                what, advice = self._name_and_advice(mount)
                raise BuildError(f"this step requires {what}, which was not given", hint=advice)
        return tuple(mount for mount in mounts if mount not in missing)

    def absence(self, mounts: Sequence[StepMount]) -> str:
        """Which secrets or agents of a step were not given, as a hint if the step fails; "" if it has all of them."""
        named = map(self._name_and_advice, self._missing(mounts))
        return "; ".join(f"{what} was not given: {advice}" for what, advice in named)

    def _missing(self, mounts: Sequence[StepMount]) -> list[SecretMount | SshMount]:
        return [
            mount
            for mount in mounts
            if (isinstance(mount, SecretMount) and mount.id not in self._secrets)
            or (isinstance(mount, SshMount) and mount.id not in self._agents)
        ]

    def _name_and_advice(self, mount: SecretMount | SshMount) -> tuple[str, str]:
        id = mount.id
        if isinstance(mount, SecretMount):
            what, flag = f"the secret {id!r}", f"--secret id={id},src=FILE or --secret id={id},env=NAME"
            similar = suggest(id, self._secrets)
        else:
            what, flag = f"the ssh agent {id!r}", "--ssh default" if id == "default" else f"--ssh {id}=SOCKET"
            similar = suggest(id, self._agents)
        return what, f"{flag}; or did you mean {similar!r}, which was given?" if similar else flag

    def variables(self, mounts: Sequence[StepMount]) -> tuple[tuple[str, int, int], ...]:
        """The secrets that become environment variables: name, offset and size in the vault.

        A secret that was not given becomes an empty variable, as in BuildKit (loadSecretEnv in
        solver/llbsolver/ops/exec.go). Raises BuildError if a secret holds a NUL byte.
        """
        found = []
        for mount in mounts:
            if isinstance(mount, SecretMount) and mount.env is not None:
                secret = self._secrets.get(mount.id, _MISSING)
                if not secret.text:
                    raise BuildError(f"the secret {mount.id!r} holds a NUL byte, which an environment variable cannot")
                found.append((mount.env, secret.offset, secret.size))
        return tuple(found)

    def _add(self, id: str, data: bytes) -> None:
        offset = os.lseek(self.vault, 0, os.SEEK_END)
        with open(self.vault, "wb", closefd=False) as file:
            file.write(data)
        self._secrets[id] = VaultSecret(offset, len(data), b"\0" not in data)

    @staticmethod
    def _keep_out_of_core_dumps() -> None:
        from pybuild.builder.sandbox import linux

        linux.set_dumpable(False)


def _read(source: SecretSource, environ: Mapping[str, str]) -> bytes:
    if source.variable is not None:
        value = environ.get(source.variable)
        if value is None:
            raise BuildError(f"--secret id={source.id}: the variable {source.variable} is not set")
        data = os.fsencode(value)
    else:
        try:
            with open(source.path, "rb") as file:
                data = file.read(SECRET_BYTES.value + 1)
        except OSError as error:
            raise BuildError(f"--secret id={source.id}: cannot read {source.path}: {error.strerror}") from error
    if len(data) > SECRET_BYTES.value:
        raise SECRET_BYTES.exceeded(BuildError, f"--secret id={source.id}: the secret exceeds the limit of {{}}")
    return data


def _socket(agent: AgentSource) -> str:
    """The absolute path of an agent's socket. Raises BuildError if the path is not a socket."""
    try:
        mode = os.stat(agent.path).st_mode
    except OSError as error:
        raise BuildError(f"--ssh {agent.id}: cannot open {agent.path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise BuildError(
            f"--ssh {agent.id}: {agent.path} is not the socket of an agent",
            hint="pybuild does not read private keys: start ssh-agent, add the key with ssh-add, and use --ssh default",
        )
    return os.path.abspath(agent.path)
