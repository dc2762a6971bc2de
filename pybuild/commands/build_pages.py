"""The pages that `pybuild build --report FILE --explore FILE` writes when it ends."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import click

from pybuild import report
from pybuild.builder.errors import BuildError
from pybuild.store.exporting.publish import STDOUT, replacing
from pybuild.store.objects.build_logs import StoredLog
from pybuild.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pybuild.image import Image
    from pybuild.options.display import DisplayOptions
    from pybuild.store.store import Store


@frozen
class BuildPages:
    """The paths of the pages; None if there is no such page. `told`: whether the end of the build names them."""

    report: str | None
    explore: str | None
    told: bool

    @staticmethod
    def asked_for(report: str | None, explore: str | None, display: DisplayOptions) -> BuildPages:
        """What the command line asks for. Raises click.UsageError, and BuildError if a page cannot be written."""
        found = BuildPages(report, explore, display.kind not in ("quiet", "json"))
        for option, path in (("--report", found.report), ("--explore", found.explore)):
            if path is None:
                continue
            if path == STDOUT:
                raise click.UsageError(f"{option}: name a file; standard output gets the digest of the image")
            if display.call is not None:
                raise click.UsageError(f"{option} is a page about a build: --check and --call build nothing")
            parent = os.path.dirname(os.path.abspath(path))
            if not os.path.isdir(parent) or os.path.isdir(path):
                raise BuildError(
                    f"cannot write {path}: {'it' if os.path.isdir(path) else parent} is "
                    f"{'a' if os.path.isdir(path) else 'not a'} directory"
                )
        return found

    @contextmanager
    def after_build(self, store: Store, build: str) -> Iterator[str | None]:
        """The directory for the log of a build, which runs inside. Then its page is written, however it ended.

        Without a store to write to, the log for the page lies in a temporary directory. Raises OSError, StoreError.
        """
        with ExitStack() as stack:
            logs = store.logs if store.obstacle is None else None
            if logs is None and self.report is not None:
                from tempfile import TemporaryDirectory  # a local import: most builds need none

                logs = stack.enter_context(TemporaryDirectory(prefix="pybuild-log-"))
            try:
                yield logs
            except BaseException:
                with suppress(*report.EXPECTED):  # the first error is the one to tell
                    self._write_report(store, logs, build)
                raise
            self._write_report(store, logs, build)

    def _write_report(self, store: Store, logs: str | None, build: str) -> None:
        if self.report is None or logs is None or not os.path.isdir(f"{logs}/{build}"):
            return
        from pybuild.pages.build_page import page_of_build  # local imports: most builds need no page

        self._write(self.report, page_of_build(store, StoredLog(build, f"{logs}/{build}")), "report")

    def write_explore(self, root: str, image: Image, *, tls_verify: bool) -> None:
        """Write the page of the image that was built; of one for several platforms, that for this machine."""
        if self.explore is None:
            return
        from pybuild.named_image import open_images
        from pybuild.pages.image_data import image_data
        from pybuild.pages.page import explore_page

        name = str(image.names[0].familiar if image.names else image.digest)
        with open_images(root, str(image.stored.manifest_digest), tls_verify=tls_verify) as (found,):
            self._write(self.explore, explore_page(report.printable(name), image_data(name, found)), "image page")

    def _write(self, path: str, page: bytes, what: str) -> None:
        with replacing(path) as file:
            file.write(page)
        if self.told:
            click.echo(f"{what}: {report.printable(path)}", err=True)
