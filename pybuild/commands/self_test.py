"""pybuild self-test: builds on this machine as it is, and looks at the results."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from pybuild import report
from pybuild.api import build as run_build
from pybuild.builder.events import StepFinished
from pybuild.builder.options import BuildOptions, Network
from pybuild.builder.output.export import Format, ImageOutput, LocalOutput
from pybuild.machine_base import shell_files
from pybuild.named_image import open_images
from pybuild.options.steps import parse_isolation
from pybuild.store.layers.view import View
from pybuild.store.maintenance.reset import reset as reset_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pybuild.builder.events import Event

_TEXT = "from the self-test of pybuild\n"
_COPY = "FROM scratch\nCOPY --chmod=640 file /srv/file\nLABEL made-by=self-test\n"
_RUN = 'FROM scratch\nCOPY root/ /\nRUN read line < /file && echo "step: $line" > /made\n'


class _Wrong(Exception):
    """A build ended well, and its result is not the right one."""


class _SelfTest:
    """The tests, in a directory of their own. Nothing uses the network or the user's store."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.store = os.path.join(directory, "store")

    def copy(self) -> str:
        """FROM scratch and COPY, as an archive that is read back."""
        archive = self._path("image.tar")
        image = run_build(self._context("copy", _COPY), root=self.store, outputs=[ImageOutput(Format.OCI, archive)])
        with open_images(self.store, f"oci-archive:{archive}") as (found,):
            entry = View(found.tables()[::-1]).lookup(b"srv/file")
            if found.digest != image.digest or entry is None or (entry.mode, entry.size) != (0o640, len(_TEXT)):
                raise _Wrong("the archive does not hold the file as it was copied")
        return f"an OCI archive of {os.path.getsize(archive)} bytes"

    def cached(self) -> str:
        """The same again, from the cache, with the same bytes."""
        steps: list[StepFinished] = []

        def observe(event: Event) -> None:
            if isinstance(event, StepFinished):
                steps.append(event)

        again = self._path("again.tar")
        outputs = [ImageOutput(Format.OCI, again)]
        run_build(self._path("copy"), root=self.store, outputs=outputs, on_event=observe)
        if not steps or not all(step.cached for step in steps):
            raise _Wrong("a step ran again")
        with open(again, "rb") as one, open(self._path("image.tar"), "rb") as other:
            if one.read() != other.read():
                raise _Wrong("the second archive has other bytes")
        return "nothing ran again, and the bytes are the same"

    def run(self) -> str:
        """A RUN, on a root that has only this machine's shell."""
        files = shell_files()
        if files is None:
            raise _Wrong("this machine has no shell whose libraries ldd lists: install busybox-static")
        root = os.path.join(self._context("run", _RUN), "root")
        for name, source in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            _copy(source, os.path.join(root, name))
        with open(os.path.join(root, "file"), "w") as file:
            file.write(_TEXT)
        isolation = parse_isolation(os.environ.get("PYBUILD_ISOLATION") or "full")
        options = BuildOptions(network=Network.NONE, isolation=isolation)
        made = self._path("made")
        run_build(self._path("run"), root=self.store, options=options, outputs=[LocalOutput(made)])
        with open(os.path.join(made, "made")) as file:
            if file.read() != f"step: {_TEXT}":
                raise _Wrong("the step wrote something else than it should")
        return f"isolation {isolation.value}"

    def _context(self, name: str, recipe: str) -> str:
        directory = self._path(name)
        os.makedirs(directory)
        for file, text in (("Buildfile", recipe), ("file", _TEXT)):
            with open(os.path.join(directory, file), "w") as out:
                out.write(text)
        return directory

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


@click.command("self-test")
@click.pass_obj
def self_test(root: str) -> int:
    """Build small images on this machine as it is, and look at the results.

    It needs no network and leaves your store alone: its own is beside it, on the same file system, and is removed. The exit
    status is 1 if something does not work; `pybuild doctor` then says what RUN lacks.
    """
    failed = False
    with _directory_beside(root) as directory:
        tests = _SelfTest(directory)
        for name, test in (("COPY", tests.copy), ("cache", tests.cached), ("RUN", tests.run)):
            failed |= not _passes(name, test)
    if failed:
        click.echo("hint: pybuild doctor shows what RUN lacks here, and the fix", err=True)
    return int(failed)


def _passes(name: str, test: Callable[[], str]) -> bool:
    try:
        found = test()
    except (_Wrong, *report.EXPECTED) as error:
        click.echo(f"fail  {name:<6}  {report.printable(report.message_of(error))}")
        return False
    click.echo(f"ok    {name:<6}  {found}")
    return True


@contextmanager
def _directory_beside(root: str) -> Iterator[str]:
    """A directory on the file system of the store, if one can be made there; it is removed with all that is in it."""
    from pybuild.builder.steps.removal import remove

    beside = os.path.dirname(os.path.abspath(root))
    place = beside if os.path.isdir(beside) and os.access(beside, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="pybuild-self-test-", dir=place) as directory:
        try:
            yield directory
        finally:
            store = os.path.join(directory, "store")
            if os.path.isdir(store):
                reset_store(store, remove)


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as file, open(target, "wb") as out:
        while data := file.read(1 << 20):
            out.write(data)
    os.chmod(target, 0o755)
