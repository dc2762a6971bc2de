"""pybuild pull: images out of registries into the store."""

from __future__ import annotations

import os
import sys
from contextlib import closing

import click

from pybuild.builder.sources.pull import pull as run_pull
from pybuild.builder.sources.pull import registry_access
from pybuild.builder.workers.pool import Pool
from pybuild.options.arguments import platform_option, tls_verified
from pybuild.progress import kind_for, progress_for
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.reference import Reference
from pybuild.store.store import Store


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--tls-verify/--no-tls-verify", default=None, help="Check certificates; refuse plain http. [default: check]"
)
@click.option(
    "--platform",
    multiple=True,
    callback=platform_option,
    metavar="OS/ARCH[/VARIANT]",
    help="Which image of the name. [default: this machine's]",
)
@click.option("-q", "--quiet", is_flag=True, help="Show only the digests.")
@click.pass_context
def pull(
    ctx: click.Context, names: tuple[str, ...], platform: Platform | None, tls_verify: bool | None, quiet: bool
) -> int:
    """Fetch the images NAMES; their digests go to standard output."""
    references = [Reference.parse(name).with_default_tag() for name in names]
    access = registry_access(os.environ, tls_verify=tls_verified(ctx, tls_verify))
    kind = kind_for("quiet" if quiet else "auto", os.environ, terminal=sys.stderr.isatty())
    with Store(ctx.obj) as store, Pool() as pool:
        for reference in references:
            with closing(progress_for(kind, None)) as display:
                image = run_pull(store, pool, reference, platform or Platform.host(), access, display)
            click.echo(str(image.manifest_digest))
            if not quiet:
                print(f"pulled {reference.familiar}", file=sys.stderr)
    return 0
