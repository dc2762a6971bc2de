"""What --on-fail does with a failed RUN while its root filesystem still exists: export files of it, open a shell in it.

All other steps are stopped first, so that a debug shell has the machine to itself. The result of the build does not
depend on anything here: problems are reported as notes, or in the hint of the step's error.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builder.errors import BuildError
from pybuild.builder.events import Note, ShellOpened
from pybuild.builder.files.layer_contents import view_of
from pybuild.builder.jobs.export_failed import ExportFailedStep
from pybuild.builder.sandbox.mounts import BoundFiles
from pybuild.store.errors import StoreError
from pybuild.store.formats.toc import Kind
from pybuild.store.layers.view import LinkLoop
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pybuild.builder.events import StepRef
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.on_failure import FailedExport
    from pybuild.builder.sandbox.mounts import MountOperation
    from pybuild.builder.sandbox.spec import SandboxSpec
    from pybuild.builder.session import Session
    from pybuild.store.layers.view import View

_SHELLS = (b"bin/bash", b"bin/sh")


@frozen
class FailedStep:
    """A RUN that failed, and where its files are."""

    ref: StepRef
    spec: SandboxSpec
    layers: tuple[LayerPlace, ...]  # the layers below the step, the topmost first
    scaffold_toc: str


class FailureHandler:
    """Does what --on-fail asks for, in one build."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._on_fail = session.options.on_fail

    def handle(
        self, step: FailedStep, error: BuildError, limited: Callable[[SandboxSpec], AbstractContextManager[SandboxSpec]]
    ) -> BuildError:
        """Export files and open a shell, as asked; return the error to raise. If no shell opens, its hint says why.

        `limited` puts the shell under the resource limits of the build.
        """
        pool = self._session.pool
        pool.stop()
        for export in self._on_fail.exports:
            self._export(step, export)
        if self._on_fail.host is not None:
            try:
                with limited(self._shell_spec(step)) as spec:
                    self._session.observe(ShellOpened(step.ref))
                    self._on_fail.host.begin(error)
                    pool.run_on_terminal(spec, self._on_fail.host.relay, self._session.secrets.vault)
                    pool.stop()
            except BuildError as problem:
                return error.advising(f"no shell could be opened: {problem}")
            finally:
                pool.stop()
        return error

    def _export(self, step: FailedStep, export: FailedExport) -> None:
        path = posixpath.join(step.spec.cwd, export.path)
        new_path = self._session.store.ingest.new_path
        job = ExportFailedStep(
            step.spec.upper,
            bool(step.spec.lowers),
            step.layers,
            step.scaffold_toc,
            new_path(),
            new_path(),
            path,
            export.destination,
        )
        try:
            written = self._session.pool.run(job)
        except (BuildError, StoreError, OSError) as error:
            note = f"{path} of the failed step could not be copied to {export.destination}: {error}"
        else:
            files = "1 file" if written.files == 1 else f"{written.files} files"
            devices = f"; without {written.devices} device nodes" if written.devices else ""
            note = f"{path} of the failed step copied to {export.destination}: {files}{devices}"
        self._session.observe(Note(note))

    def _shell_spec(self, step: FailedStep) -> SandboxSpec:
        """The sandbox of the failed step, with a shell on a terminal in place of its command."""
        spec = step.spec
        defined = {pair.partition("=")[0] for pair in spec.env}
        added = tuple(pair for pair in self._on_fail.variables if pair.partition("=")[0] not in defined)
        return replace(
            spec,
            argv=(_shell(view_of(step.layers)),),
            env=(*spec.env, *added),
            work=_new_work_directory(spec.work) if spec.lowers else "",
            mounts=tuple(_remount(mount) for mount in spec.mounts),
            terminal=True,
        )


def _shell(view: View) -> str:
    """The most comfortable shell that the image has."""
    for path in _SHELLS:
        try:
            found = view.lookup(view.resolve(path))
        except LinkLoop:
            continue
        if found is not None and found.kind is Kind.FILE and found.mode & 0o111:
            return "/" + path.decode()
    return "/bin/sh"  # the step itself might have installed it


def _remount(mount: MountOperation) -> MountOperation:
    """The same mount, to be made a second time."""
    if isinstance(mount, BoundFiles) and not mount.read_only:
        return replace(mount, work=_new_work_directory(mount.work))
    return mount


def _new_work_directory(work: str) -> str:
    """A fresh work directory: overlayfs marks the one of a volatile mount and refuses to use it again."""
    path = f"{work}-again"
    os.mkdir(path, 0o700)
    return path
