"""What a shell completes: names of images, stages, files. A completion never fails, and says nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

_RECIPE_BYTES = 4 << 20


def complete_images(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the images in the store; also without the default tag, if that is what was typed."""
    from pybuild.store.formats.reference import Reference
    from pybuild.store.store import Access, Store
    from pybuild.values.errors import PybuildError

    root = _root(ctx)
    if not os.path.isdir(root):
        return []  # opening the store would make it
    try:
        with Store(root, Access.READ) as store:
            names = sorted({Reference.parse(tag.name).familiar for tag in store.images.tags()})
    except (PybuildError, OSError):
        return []
    given = set(ctx.params.get("names") or ())
    return [_item(name) for name in names if name.startswith(incomplete) and name not in given]


def complete_stages(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the stages of the recipe that the words before mean."""
    from pybuild.builder.sources.recipe import RECIPE_NAMES
    from pybuild.parser import parse
    from pybuild.values.errors import PybuildError

    recipe, context = ctx.params.get("file") or ctx.params.get("recipe"), ctx.params.get("context") or "."
    for path in [recipe] if recipe else [os.path.join(context, name) for name in RECIPE_NAMES]:
        try:
            with open(path, "rb") as file:
                stages = parse(file.read(_RECIPE_BYTES), path).stages
        except (PybuildError, OSError, TypeError):
            continue
        return [_item(s.name) for s in stages if s.name and s.name.startswith(incomplete)]
    return []


def complete_files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell completes the names of files."""
    return [_item(incomplete, "file")]


def complete_directories(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell completes the names of directories."""
    return [_item(incomplete, "dir")]


def _root(ctx: click.Context) -> str:
    from pybuild.defaults import default_root

    root = ctx.find_root().params.get("root")
    return root if isinstance(root, str) and root else default_root()


def _item(value: str, type: str = "plain") -> CompletionItem:
    from click.shell_completion import CompletionItem  # a local import: no command needs it

    return CompletionItem(value, type)
