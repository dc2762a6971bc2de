"""pybuild copy: an image from one place to another."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from pybuild.builder.errors import UnclearPlace
from pybuild.builder.transfer.copy_image import copy_image
from pybuild.builder.transfer.places import parse_place
from pybuild.options.arguments import one_side_tls_verify_option, platform_option, tls_verify_option
from pybuild.progress import kind_for, progress_for
from pybuild.store.exporting.publish import open_descriptor
from pybuild.store.importing.archive_file import STDIN
from pybuild.store.importing.archived import ArchivePlace

if TYPE_CHECKING:
    from pybuild.builder.transfer.places import CopyPlace
    from pybuild.store.formats.platform import Platform


@click.command(
    params=[
        platform_option("Copy one image of an index.", default="the whole index"),
        tls_verify_option(),
        one_side_tls_verify_option("src", "SOURCE"),
        one_side_tls_verify_option("dest", "DESTINATION"),
    ]
)
@click.argument("source")
@click.argument("destination")
@click.option("-q", "--quiet", is_flag=True, help="Show only the digest, and errors.")
@click.pass_context
def copy(
    ctx: click.Context,
    source: str,
    destination: str,
    platform: Platform | None,
    tls_verify: bool,
    src_tls_verify: bool | None,
    dest_tls_verify: bool | None,
    quiet: bool,
) -> int:
    """Copy an image between registries, the store, archives and layouts.

    SOURCE and DESTINATION are places:

    \b
      docker://NAME                 an image of a registry
      store:NAME                    an image of the store; as SOURCE also a digest
      oci:DIR[:NAME]                an OCI layout
      oci-archive:FILE[:NAME]       an OCI archive
      docker-archive:FILE[:NAME]    an archive as of `docker save`

    - as FILE is standard input or standard output. The digest of the image stays the same and goes to standard output.
    Layers are not unpacked, and what DESTINATION has is not sent. An index is copied with all its images; the store gets
    each of them, a docker archive the one for this machine.
    """
    places = _place(source), _place(destination)
    to_stdout = isinstance(places[1], ArchivePlace) and open_descriptor(places[1].path) == sys.stdout.fileno()
    if to_stdout and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; redirect it to a file or a pipe")
    if isinstance(places[0], ArchivePlace) and places[0].path == STDIN and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal; pipe an archive into it")
    verify = (
        tls_verify if src_tls_verify is None else src_tls_verify,
        tls_verify if dest_tls_verify is None else dest_tls_verify,
    )
    kind = kind_for("quiet" if quiet else "auto", os.environ, terminal=sys.stderr.isatty())
    with closing(progress_for(kind, None)) as display:
        digest = copy_image(ctx.obj, *places, platform, os.environ, display, tls_verify=verify)
    click.echo(str(digest), err=to_stdout)
    return 0


def _place(text: str) -> CopyPlace:
    try:
        return parse_place(text)
    except UnclearPlace as error:
        raise click.UsageError(f"{error}; {error.hint}" if error.hint else str(error)) from None
