"""pybuild fetch: bring all layers of images into the store."""

from __future__ import annotations

import os
import sys
from contextlib import closing

import click

from pybuild.builder.sources.layers import LayerFetcher
from pybuild.builder.workers.pool import Pool
from pybuild.builder.workers.tasks import run_until_complete
from pybuild.options.arguments import all_platforms_option, image_platform_option, tls_verify_option
from pybuild.options.completion import complete_images
from pybuild.progress import kind_for, progress_for
from pybuild.store.formats.platform import Platform
from pybuild.store.store import Store


@click.command(
    params=[
        tls_verify_option(),
        image_platform_option(),
        all_platforms_option("Fetch the layers of all images that NAME stands for."),
    ]
)
@click.argument("names", nargs=-1, required=True, shell_complete=complete_images)
@click.option("-q", "--quiet", is_flag=True, help="Show only the digests, and errors.")
@click.pass_context
def fetch(
    ctx: click.Context,
    names: tuple[str, ...],
    platform: Platform | None,
    all_platforms: bool,
    tls_verify: bool,
    quiet: bool,
) -> int:
    """Fetch the layers of images of the store that are still in their registry.

    A build fetches only the layers whose files it needs. After `pybuild fetch` an image can be used without a network. The
    digests of the images go to standard output.
    """
    kind = kind_for("quiet" if quiet else "auto", os.environ, terminal=sys.stderr.isatty())
    with Store(ctx.obj) as store, Pool() as pool:
        for name in names:
            one, _ = store.indexes.find_image(name, platform)
            images = store.indexes.all_images(name)[1] if all_platforms else (one,)
            with closing(progress_for(kind, None)) as display:
                fetcher = LayerFetcher(store, pool, display, tls_verify)
                for image in images:
                    run_until_complete(fetcher.fetch_image(image, name=name))
            store.seal()
            for image in images:
                click.echo(str(image.manifest_digest))
    return 0
