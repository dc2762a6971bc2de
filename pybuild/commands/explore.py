"""pybuild explore: an image as a page for a browser, or what differs between two."""

from __future__ import annotations

import os
import pathlib
import re
import sys
import webbrowser
from contextlib import closing
from typing import TYPE_CHECKING

import click

from pybuild.builder.errors import BuildError
from pybuild.named_image import open_images
from pybuild.options.arguments import image_platform_option, tls_verify_option
from pybuild.pages.image_data import difference_data, image_data
from pybuild.pages.page import explore_page
from pybuild.progress import kind_for, progress_for
from pybuild.report import printable
from pybuild.store.exporting.publish import STDOUT, replacing
from pybuild.values.sizes import human_size

if TYPE_CHECKING:
    from pybuild.store.formats.platform import Platform

_LONGEST = 80  # characters of a file's name that is made from that of an image


@click.command(params=[image_platform_option(), tls_verify_option()])
@click.argument("name", metavar="IMAGE")
@click.argument("other", metavar="[OTHER]", required=False)
@click.option(
    "-o", "--output", metavar="FILE", help="Where to write the page; - is standard output. [default: IMAGE.html]"
)
@click.option("--open", "opens", is_flag=True, help="Show the page in a browser.")
@click.pass_obj
def explore(
    root: str,
    name: str,
    other: str | None,
    output: str | None,
    opens: bool,
    platform: Platform | None,
    tls_verify: bool,
) -> int:
    """Write a page about an image: its layers, files, waste and config.

    IMAGE is an image of the store, one of a registry (docker://NAME, or NAME if the store does not have it), or one that is
    not imported: oci-archive:FILE, docker-archive:FILE or oci:DIR, with :NAME behind it if there are several. With OTHER
    the page shows what differs between the two.

    The page is one HTML file. It loads nothing, so it can be kept as an artifact of a CI job or sent by mail.
    """
    if opens and output == STDOUT:
        raise click.UsageError("--open needs a file: leave out -o -")
    names = [name] if other is None else [name, other]
    kind = kind_for("auto", os.environ, terminal=sys.stderr.isatty())
    with (
        closing(progress_for(kind, None)) as display,
        open_images(
            root, *names, platform=platform, tls_verify=tls_verify, observe=display, look_further=True
        ) as images,
    ):
        if other is None:
            data = image_data(name, images[0])
        else:
            data = difference_data((name, other), images[0], images[1])
    write_page(explore_page(" and ".join(map(printable, names)), data), output or default_name(*names), opens=opens)
    return 0


def default_name(*names: str) -> str:
    """The name of the file for a page about these: without what a shell or a filesystem takes in another way."""
    words = [re.sub(r"[^\w.-]+", "-", name).strip("-.") for name in names]
    return f"{'--'.join(words)[:_LONGEST] or 'image'}.html"


def write_page(page: bytes, path: str, *, opens: bool) -> None:
    """Write a page and name its file on standard output; `opens` shows it in a browser. Raises OSError, BuildError."""
    with replacing(path) as file:
        file.write(page)
    if path == STDOUT:
        return
    click.echo(path)
    click.echo(f"wrote {printable(path)} ({human_size(len(page))})", err=True)
    if opens and not webbrowser.open(pathlib.Path(path).absolute().as_uri()):
        raise BuildError(f"no browser was found to show {path}", hint="the variable BROWSER can name one")
