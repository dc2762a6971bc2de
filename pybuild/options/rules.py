"""--max-size, --max-waste, --deny and so on: rules that an image is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild.options.arguments import size_option
from pybuild.options.completion import complete_files
from pybuild.options.groups import OptionGroup

if TYPE_CHECKING:
    from pybuild.builder.gate.rules import ImageRules

_DENY = (
    "Refuse what a rule is about: setuid, setgid, capabilities, world-writable, devices, root-user, second-root,"
    " empty-password, unknown-owner, package-caches, secrets. Commas separate several. Can be repeated."
)


def image_rules(
    *,
    rules: str | None,
    max_size: str | None,
    max_layer_size: str | None,
    max_waste: str | None,
    max_layers: int | None,
    deny: tuple[str, ...],
) -> ImageRules | None:
    """The rules of all options; None if there are none. Raises click.UsageError, BuildError for a malformed file."""
    given = (rules, max_size, max_layer_size, max_waste, max_layers)
    if not deny and all(value is None for value in given):
        return None
    # A local import: TOML is not on the way of a build without rules.
    from pybuild.builder.gate.rules import DENIABLE, ImageRules, Waste
    from pybuild.builder.gate.rules_file import as_percentage, read_rules, unknown_rule

    names = tuple(name.strip() for text in deny for name in text.split(","))
    for name in names:
        if name not in DENIABLE:
            raise click.UsageError(f"--deny {name}: {unknown_rule(name)}")
    waste = None
    if max_waste is not None and (waste := as_percentage(max_waste)) is None:
        waste = Waste(size_option("--max-waste", max_waste) or 0)
    options = ImageRules(
        max_size=size_option("--max-size", max_size),
        max_layer_size=size_option("--max-layer-size", max_layer_size),
        max_waste=waste,
        max_layers=max_layers,
        deny=names,
    )
    if rules is None:
        return options
    asked = read_rules(rules).with_options(options)
    if not asked.asked:
        raise click.UsageError(f"--rules {rules}: the file has no rule, so name at least one rule in it or beside it")
    return asked


def rule_options() -> tuple[click.Option, ...]:
    """The options that `image_rules` reads."""
    return (
        click.Option(
            ["--rules"],
            shell_complete=complete_files,
            metavar="FILE",
            help="Hold the image to the rules of FILE, in TOML; other options win.",
        ),
        click.Option(
            ["--max-size"], metavar="SIZE", help="Refuse an image whose layers have more than SIZE (500m, 1g)."
        ),
        click.Option(["--max-layer-size"], metavar="SIZE", help="Refuse an image with a layer of more than SIZE."),
        click.Option(
            ["--max-waste"],
            metavar="SIZE|N%",
            help="Refuse more than SIZE, or N percent, of files that later layers hide or that are there twice.",
        ),
        click.Option(
            ["--max-layers"], type=click.IntRange(1), metavar="N", help="Refuse an image of more than N layers."
        ),
        click.Option(["--deny"], multiple=True, metavar="RULE", help=_DENY),
    )


RULE_OPTIONS = OptionGroup("rules", "Rules for the image", image_rules, rule_options())
