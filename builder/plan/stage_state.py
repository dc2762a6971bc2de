"""What the instructions of a stage have come to: environment, user, directory, and the config of the image.

Immutable: each instruction gives a new state. Nothing here depends on what a RUN did, so all of it is known before
anything runs.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import field, replace

from pybuild.store.formats.oci_config import ExecConfig
from pybuild.values import frozen

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
# ARGs that say which stages --sbom looks at: the history of a RUN has them, its environment and words do not.
HISTORY_ONLY_ARGS = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))


@frozen
class StageState:
    """The state after some instruction of a stage."""

    config: ExecConfig
    args: Mapping[str, str | None] = field(default_factory=dict)  # declared, in order; None has no value
    has_own_cmd: bool = False  # whether this stage has set CMD
    author: str = ""  # by MAINTAINER; empty where the base's stays

    @staticmethod
    def of_base(config: ExecConfig) -> StageState:
        """The state right after FROM: the base's config, with a PATH and a working directory."""
        state = StageState(replace(config, on_build=()))
        if "PATH" not in state.env:
            state = state.with_env({"PATH": DEFAULT_PATH})
        return replace(state, config=replace(state.config, working_dir=state.config.working_dir or "/"))

    def derived(self) -> StageState:
        """The state with which a stage that starts FROM this one begins: it inherits the declared ARGs too.

        The triggers are run there, and are none of its own.
        """
        return replace(self, has_own_cmd=False, config=replace(self.config, on_build=()))

    @property
    def env(self) -> dict[str, str]:
        """The environment as a mapping, in the order of the config."""
        return dict(pair.split("=", 1) for pair in self.config.env if "=" in pair)

    @property
    def scope(self) -> dict[str, str]:
        """What `$X` means: declared ARGs that have a value, and above them ENV."""
        args = {name: value for name, value in self.args.items() if value is not None and name not in HISTORY_ONLY_ARGS}
        return {**args, **self.env}

    @property
    def run_args(self) -> tuple[str, ...]:
        """The ARGs as the history of a RUN names them: in order of declaration, with the value that `$name` has."""
        scope = self.scope
        return tuple(f"{name}={scope.get(name, value or '')}" for name, value in self.args.items())

    @property
    def run_env(self) -> tuple[str, ...]:
        """The environment of a RUN, without HOME, which depends on the image's passwd."""
        return tuple(f"{name}={value}" for name, value in self.scope.items())

    @property
    def shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL

    def with_env(self, pairs: Mapping[str, str]) -> StageState:
        """A name that was set before keeps its place and gets the new value."""
        env = {**self.env, **pairs}
        return replace(self, config=replace(self.config, env=tuple(f"{name}={value}" for name, value in env.items())))

    def with_arg(self, name: str, value: str | None) -> StageState:
        return replace(self, args={**self.args, name: value})

    def absolute(self, path: str) -> str:
        """A path of the image made absolute and clean, against the working directory."""
        joined = posixpath.join(self.config.working_dir or "/", path)
        return posixpath.normpath("/" + joined.lstrip("/"))
