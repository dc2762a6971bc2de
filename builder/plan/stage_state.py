"""The state of a stage between two instructions: environment, user, working directory, and the config of the image.

States are immutable: each instruction makes a new one. A state never depends on the result of a RUN, so all states are
known before anything runs.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Mapping
from dataclasses import field, replace

from pybuild.builder.plan import windows
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.values import frozen

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
# ARGs that tell --sbom which stages to scan. BuildKit puts them into the history of a RUN, not into its environment.
HISTORY_ONLY_ARGS = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))


class _LastEnvironment(threading.local):
    """The variables of the environment that was asked for last, so that a row of ENVs does not split each pair again.

    Environments are told apart by identity: comparing them would take as long as splitting them.
    """

    def __init__(self) -> None:
        self._env: tuple[str, ...] = ()
        self._values: dict[str, str] = {}

    def values_of(self, env: tuple[str, ...]) -> dict[str, str]:
        """Name -> value. The next call can change the result."""
        if env is not self._env:
            self._values = _split(env)
            self._env = env
        return self._values

    def extended(self, env: tuple[str, ...], pairs: Mapping[str, str]) -> tuple[str, ...]:
        """The environment with these variables: new ones at the end, the others in their places."""
        values = self.values_of(env)
        appended = len(values) == len(env) and values.keys().isdisjoint(pairs)
        values.update(pairs)
        added = pairs if appended else values
        new = tuple(f"{name}={value}" for name, value in added.items())
        self._env = env + new if appended else new
        return self._env


def _split(env: tuple[str, ...]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in env if "=" in pair)


_LAST = _LastEnvironment()


@frozen
class StageState:
    """The state after an instruction of a stage."""

    config: ExecConfig
    args: Mapping[str, str | None] = field(default_factory=dict)  # in the order of declaration; None: without a value
    has_own_cmd: bool = False  # whether this stage has set CMD
    author: str = ""  # from MAINTAINER; if empty, the author of the base stays
    windows: bool = False  # whether the stage is for Windows

    @staticmethod
    def of_base(config: ExecConfig, *, windows: bool = False) -> StageState:
        """The state right after FROM: the config of the base, with a PATH. Windows sets that itself."""
        state = StageState(replace(config, on_build=()), windows=windows)
        return state if windows or "PATH" in state.env else state.with_env({"PATH": DEFAULT_PATH})

    def derived(self) -> StageState:
        """The first state of a stage that starts FROM this one. That stage also inherits the declared ARGs.

        It runs the ONBUILD triggers and does not pass them on.
        """
        return replace(self, has_own_cmd=False, config=replace(self.config, on_build=()))

    @property
    def env(self) -> dict[str, str]:
        """The environment as a mapping, in the order of the config."""
        return dict(_LAST.values_of(self.config.env))

    @property
    def scope(self) -> dict[str, str]:
        """The variables for `$name`: the declared ARGs that have a value, and ENV, which wins."""
        args = {name: value for name, value in self.args.items() if value is not None and name not in HISTORY_ONLY_ARGS}
        return {**args, **self.env}

    @property
    def run_args(self) -> tuple[str, ...]:
        """The ARGs for the history of a RUN, as `name=value`, in the order of declaration. ENV overrides the value."""
        scope = self.scope
        return tuple(f"{name}={scope.get(name, value or '')}" for name, value in self.args.items())

    @property
    def run_env(self) -> tuple[str, ...]:
        """The environment of a RUN as `name=value`. HOME is added later: it comes from the image's passwd."""
        return tuple(f"{name}={value}" for name, value in self.scope.items())

    @property
    def shell(self) -> tuple[str, ...]:
        return self.config.shell or (windows.SHELL if self.windows else DEFAULT_SHELL)

    def with_env(self, pairs: Mapping[str, str]) -> StageState:
        """The state with these variables. One that is already set keeps its position and gets the new value."""
        return replace(self, config=replace(self.config, env=_LAST.extended(self.config.env, pairs)))

    def with_arg(self, name: str, value: str | None) -> StageState:
        return replace(self, args={**self.args, name: value})

    def absolute(self, path: str) -> str:
        """A path of the image, joined to the working directory and normalized.

        That of a Windows has slashes and no drive. Raises PlanError for a path on another drive.
        """
        directory = self.config.working_dir
        if self.windows:
            directory, path = windows.slashed(directory), windows.slashed(path)
        joined = posixpath.join(directory or "/", path)
        return posixpath.normpath("/" + joined.lstrip("/"))

    def in_layers(self, path: str) -> str:
        """Where the layers of the stage have an absolute path."""
        return windows.in_layer(path) if self.windows else path
