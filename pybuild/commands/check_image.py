"""pybuild check-image: holds an image to rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pybuild.named_image import open_all_platforms
from pybuild.options.arguments import image_platform_option, tls_verify_option
from pybuild.options.completion import complete_images
from pybuild.options.rules import image_rules, rule_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pybuild.builder.events import RuleBroken
    from pybuild.builder.gate.rules import ImageRules
    from pybuild.store.formats.platform import Platform

_FORMATS = ("text", "json", "github", "sarif", "junit")


@click.command("check-image", params=[*rule_options(), image_platform_option("all"), tls_verify_option()])
@click.argument("name", metavar="IMAGE", shell_complete=complete_images)
@click.option(
    "--format",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="How to print what was found: for people, programs, GitHub Actions, code scanning or test reports.",
)
@click.pass_obj
def check_image(
    root: str,
    name: str,
    format: str,
    platform: Platform | None,
    tls_verify: bool,
    rules: str | None,
    max_size: str | None,
    max_layer_size: str | None,
    max_waste: str | None,
    max_layers: int | None,
    deny: tuple[str, ...],
) -> int:
    """Hold an image to rules, and list what breaks them.

    IMAGE is an image of the store, or one that is not imported: docker://NAME of a registry, or oci-archive:FILE,
    docker-archive:FILE or oci:DIR, with :NAME behind it if there are several. It is checked for all its platforms, or for the
    one of --platform.

    The exit status is 1 if the image breaks a rule. docs/user/image-rules.md explains the rules and the file of --rules.
    """
    from pybuild.builder.gate.judge import judge_all

    asked = image_rules(
        rules=rules,
        max_size=max_size,
        max_layer_size=max_layer_size,
        max_waste=max_waste,
        max_layers=max_layers,
        deny=deny,
    )
    if asked is None or not asked.asked:
        raise click.UsageError("name at least one rule: --rules FILE, --max-size, --max-waste, --deny …")
    with open_all_platforms(root, name, platform, tls_verify=tls_verify) as images:
        found = judge_all(images, asked)
    for line in _lines(format, name, asked, found):
        click.echo(line.encode("utf-8", "backslashreplace"))
    return int(bool(found))


def _lines(format: str, name: str, rules: ImageRules, found: Sequence[RuleBroken]) -> Iterable[str]:
    from pybuild.findings import image_rules as findings

    match format:
        case "json":
            return [findings.as_json(name, rules.asked, found)]
        case "github":
            return findings.as_annotations(name, found)
        case "sarif":
            from pybuild.findings.image_sarif import as_sarif

            return [as_sarif(name, rules.asked, found)]
        case "junit":
            from pybuild.findings.junit import as_junit

            return [as_junit(name, rules.asked, found)]
        case _:
            return findings.as_text(name, rules.asked, found)
