"""pybuild pull: fetch images from registries into the store."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from functools import partial

import click

from pybuild.builder.events import Note
from pybuild.builder.sources.pull import pull as run_pull
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.transfer.places import RegistryPlace
from pybuild.builder.transfer.source import opened_source
from pybuild.builder.transfer.store_target import StoreTarget, take_in
from pybuild.builder.transfer.workshop import CopyWorkshop
from pybuild.builder.workers.pool import Pool
from pybuild.options.arguments import all_platforms_option, platform_option, tls_verify_option
from pybuild.options.completion import complete_images
from pybuild.progress import Progress, kind_for, progress_for
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.indexes import digest_of
from pybuild.store.store import Store


@click.command(
    params=[
        tls_verify_option(),
        platform_option("Which image to fetch if NAME stands for several."),
        all_platforms_option("Fetch all images that NAME stands for: the store gets the whole index."),
    ]
)
@click.argument("names", nargs=-1, required=True, shell_complete=complete_images)
@click.option("-q", "--quiet", is_flag=True, help="Show only the digests, and errors.")
@click.pass_context
def pull(
    ctx: click.Context,
    names: tuple[str, ...],
    platform: Platform | None,
    all_platforms: bool,
    tls_verify: bool,
    quiet: bool,
) -> int:
    """Fetch images from registries into the store.

    Their digests go to standard output.
    """
    references = [Reference.parse(name).with_default_tag() for name in names]
    kind = kind_for("quiet" if quiet else "auto", os.environ, terminal=sys.stderr.isatty())
    if all_platforms:
        for reference in references:
            _pull_all(ctx.obj, reference, kind, tls_verify=tls_verify)
        return 0
    with Store(ctx.obj) as store, Pool() as pool:
        access = registry_access(os.environ, store.ingest, tls_verify=tls_verify)
        for reference in references:
            with closing(progress_for(kind, None)) as display:
                pool.on_note = partial(_note, display)
                image = run_pull(store, pool, reference, platform or Platform.host(), access, display, whole=True)
            click.echo(str(image.manifest_digest))
            if not quiet:
                print(f"pulled {reference.familiar}", file=sys.stderr)
    return 0


def _pull_all(root: str, reference: Reference, kind: str, *, tls_verify: bool) -> None:
    """Fetch everything that a name stands for."""
    with closing(progress_for(kind, None)) as display, CopyWorkshop(root, display, writes=True) as work:
        work.open_store()
        access = registry_access(os.environ, work.ingest, tls_verify=tls_verify)
        with opened_source(RegistryPlace(reference), None, access, work) as source:
            StoreTarget.check_storable(source)
            stored, _ = take_in(source, work)
        work.store.seal()
        work.store.indexes.give_names([reference], stored, int(time.time()), recipe="pull")
    click.echo(str(digest_of(stored)))
    if kind != "quiet":
        print(f"pulled {reference.familiar}", file=sys.stderr)


def _note(display: Progress, text: str) -> None:
    display(Note(text))
