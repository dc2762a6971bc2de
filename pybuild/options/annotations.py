"""The values of --annotation, and the keys of -o that begin with `annotation`, as docker's buildx reads them."""

from __future__ import annotations

import click

from pybuild.builder.annotations import Annotation, Level
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.platform import Platform
from pybuild.values.pattern import pattern

ANNOTATION_HELP = (
    "Add an annotation. LEVEL: manifest (the default), index, manifest-descriptor or index-descriptor, several with commas;"
    " manifest[linux/arm64] is for one platform. Can be repeated."
)
_LEVEL = pattern(r"([a-z-]+)(?:\[([A-Za-z0-9_/.-]+)\])?")
_KEY = pattern(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/.-]+)\])?\.(.*)")
_NAMES = {level.value: level for level in Level}


def parse_annotation(text: str) -> list[Annotation]:
    """[LEVEL[PLATFORM],…:]KEY=VALUE. Raises click.UsageError."""
    name, equals, value = text.partition("=")
    levels, colon, key = name.partition(":")
    if not colon:
        levels, key = Level.MANIFEST.value, name
    if not key or not equals:
        raise click.UsageError(f"--annotation {text}: expected KEY=VALUE")
    found = []
    for level in levels.split(","):
        match = _LEVEL.fullmatch(level.strip())
        if match is None:
            raise click.UsageError(f"--annotation {text}: expected LEVEL: or LEVEL[PLATFORM]: before the key")
        found.append(_annotation(f"--annotation {text}", match[1], match[2], key, value))
    return found


def parse_output_annotation(option: str, key: str, value: str) -> Annotation:
    """annotation[-LEVEL][[PLATFORM]].KEY of -o. `option` begins error messages. Raises click.UsageError."""
    match = _KEY.fullmatch(key)
    if match is None or not match[3]:
        raise click.UsageError(f"{option}: {key}: expected annotation.KEY=VALUE or annotation-LEVEL.KEY=VALUE")
    return _annotation(option, match[1] or Level.MANIFEST.value, match[2], match[3], value)


def _annotation(option: str, level: str, platform: str | None, key: str, value: str) -> Annotation:
    if level not in _NAMES:
        raise click.UsageError(f"{option}: unknown level {level!r}; it can be {', '.join(_NAMES)}")
    if platform is None:
        return Annotation(_NAMES[level], key, value)
    if _NAMES[level].of_index:
        raise click.UsageError(f"{option}: {level} is that of all platforms: leave out [{platform}]")
    try:
        return Annotation(_NAMES[level], key, value, Platform.parse(platform))
    except InvalidImage as error:
        raise click.UsageError(f"{option}: {error}; {error.hint}") from None
