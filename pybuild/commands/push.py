"""pybuild push: send an image of the store to a registry."""

from __future__ import annotations

import os
import sys
from contextlib import closing

import click

from pybuild.builder.events import Note
from pybuild.builder.output.push import push as run_push
from pybuild.builder.sources.registry_access import registry_access
from pybuild.builder.workers.pool import Pool
from pybuild.options.arguments import all_platforms_option, image_platform_option, tls_verify_option
from pybuild.options.completion import complete_images
from pybuild.progress import kind_for, progress_for
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.objects.indexes import digest_of
from pybuild.store.store import Access, Store


@click.command(
    params=[
        tls_verify_option(),
        image_platform_option(),
        all_platforms_option("Send all images that NAME stands for, as one index."),
    ]
)
@click.argument("name", shell_complete=complete_images)
@click.argument("destination", required=False)
@click.option("-q", "--quiet", is_flag=True, help="Show only the digest, and errors.")
@click.pass_context
def push(
    ctx: click.Context,
    name: str,
    destination: str | None,
    platform: Platform | None,
    all_platforms: bool,
    tls_verify: bool,
    quiet: bool,
) -> int:
    """Send an image of the store to a registry, under its NAME or under DESTINATION.

    Its digest goes to standard output. An index is sent with all its images, or --platform chooses one. The image is sent as it is in the store; `pybuild export -o type=registry` can
    compress its layers in another way.
    """
    kind = kind_for("quiet" if quiet else "auto", os.environ, terminal=sys.stderr.isatty())
    with Store(ctx.obj, Access.READ) as store, Pool() as pool:
        access = registry_access(os.environ, store.ingest, tls_verify=tls_verify)
        image, found = store.indexes.find(name, platform)
        if all_platforms:
            image = store.indexes.whole(name, store.ingest.new_path())
        target = Reference.parse(destination) if destination is not None else found
        if target is None:
            raise click.UsageError(f"{name} is the digest of an image: give DESTINATION, the name in the registry")
        with closing(progress_for(kind, None)) as display:
            pool.on_note = lambda text: display(Note(text))
            run_push(store, pool, image, [target], access, display)
        click.echo(str(digest_of(image)))
    return 0
