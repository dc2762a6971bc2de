"""What is done with a RUN that failed while its file system is still there (onfail.py).

Everything else of the build is ended first: a build that has failed goes on with nothing, and who looks around in a shell
must not have steps running beside it. Nothing here decides how the build ends; what goes wrong is told and no more.
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

    from pybuild.builder.events import Event, StepRef
    from pybuild.builder.files.layer_contents import LayerPlace
    from pybuild.builder.on_failure import FailedExport, OnFail
    from pybuild.builder.sandbox.mounts import MountOperation
    from pybuild.builder.sandbox.spec import SandboxSpec
    from pybuild.builder.workers.pool import Pool
    from pybuild.store.layers.view import View
    from pybuild.store.store import Store

_SHELLS = (b"bin/bash", b"bin/sh")


@frozen
class FailedStep:
    """A RUN that has ended, and what there is of it."""

    ref: StepRef
    spec: SandboxSpec
    layers: tuple[LayerPlace, ...]  # below it, the topmost first
    scaffold_toc: str


class Aftermath:
    """For one build; `vault` is the descriptor of its secrets, -1 where it has none."""

    def __init__(self, on_fail: OnFail, store: Store, pool: Pool, vault: int, observe: Callable[[Event], None]) -> None:
        self._on_fail = on_fail
        self._store = store
        self._pool = pool
        self._vault = vault
        self._observe = observe

    def of(
        self, step: FailedStep, error: BuildError, limited: Callable[[SandboxSpec], AbstractContextManager[SandboxSpec]]
    ) -> BuildError:
        """Do what is wanted; return the error to raise. Its hint says where a shell could not be opened.

        `limited` gives what is run the limits of the build, and takes them back.
        """
        self._pool.stop()
        for export in self._on_fail.exports:
            self._export(step, export)
        if self._on_fail.host is not None:
            try:
                with limited(self._spec_of_shell(step)) as spec:
                    self._observe(ShellOpened(step.ref))
                    self._on_fail.host.begin(error)
                    self._pool.run_on_terminal(spec, self._on_fail.host.relay, self._vault)
                    self._pool.stop()
            except BuildError as problem:
                return error.hinting("; ".join(filter(None, (error.hint, f"no shell could be opened: {problem}"))))
            finally:
                self._pool.stop()
        return error

    def _export(self, step: FailedStep, export: FailedExport) -> None:
        path = posixpath.join(step.spec.cwd, export.path)
        new_path = self._store.ingest.new_path
        job = ExportFailedStep(
            step.spec.upper, step.layers, step.scaffold_toc, new_path(), new_path(), path, export.destination
        )
        try:
            written = self._pool.run(job)
        except (BuildError, StoreError, OSError) as error:
            self._observe(Note(f"{path} of the failed step could not be copied to {export.destination}: {error}"))
            return
        files = "1 file" if written.files == 1 else f"{written.files} files"
        devices = f"; without {written.devices} device nodes" if written.devices else ""
        self._observe(Note(f"{path} of the failed step copied to {export.destination}: {files}{devices}"))

    def _spec_of_shell(self, step: FailedStep) -> SandboxSpec:
        """A shell that is run as the step was."""
        spec = step.spec
        given = {pair.partition("=")[0] for pair in spec.env}
        more = tuple(pair for pair in self._on_fail.variables if pair.partition("=")[0] not in given)
        return replace(
            spec,
            argv=(_shell(view_of(step.layers)),),
            env=(*spec.env, *more),
            work=_another(spec.work),
            mounts=tuple(_mount_again(mount) for mount in spec.mounts),
            terminal=True,
        )


def _shell(view: View) -> str:
    """The shell of an image: the more comfortable one, where it is there."""
    for path in _SHELLS:
        try:
            found = view.lookup(view.resolve(path))
        except LinkLoop:
            continue
        if found is not None and found.kind is Kind.FILE and found.mode & 0o111:
            return "/" + path.decode()
    return "/bin/sh"  # perhaps the step has put one there


def _mount_again(mount: MountOperation) -> MountOperation:
    if isinstance(mount, BoundFiles) and not mount.read_only:
        return replace(mount, work=_another(mount.work))
    return mount


def _another(work: str) -> str:
    """A new directory for overlayfs: it marks that of a volatile mount, and refuses it a second time."""
    path = f"{work}-again"
    os.mkdir(path, 0o700)
    return path
