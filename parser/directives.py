"""Parser directives: comments of the form `# name=value` at the very top of a recipe."""

from __future__ import annotations

from parser.errors import ParseError
from parser.instructions import Directive
from parser.source import Source, Span, quoted

KNOWN = ("syntax", "escape", "check")
DEFAULT_ESCAPE = "\\"
FRONTENDS = ("dockerfile", "dockerfile-upstream")


def read_directives(source: Source, lines: list[str]) -> tuple[Directive, ...]:
    """The directives before the first line that is none: a blank, a comment or an unknown name ends them.

    Raises ParseError for a directive given twice, an escape that is neither a backslash nor a backtick, and a
    syntax image that is not the Dockerfile frontend: what another frontend would read cannot be known here.
    """
    found: list[Directive] = []
    for number, line in enumerate(lines, 1):
        directive = _directive(line, number)
        if directive is None:
            break
        if any(directive.name == other.name for other in found):
            message = f"only one {directive.name} directive can be used"
            raise ParseError(message, directive.span, None, source)
        if directive.name == "escape" and directive.value not in ("\\", "`"):
            message = f"invalid escape {quoted(directive.value)}: must be \\ or `"
            raise ParseError(message, directive.span, None, source)
        if directive.name == "syntax" and _frontend(directive.value) not in FRONTENDS:
            message = f"syntax {quoted(directive.value)} is not supported"
            raise ParseError(message, directive.span, "only the Dockerfile language is read", source)
        found.append(directive)
    return tuple(found)


def escape_of(directives: tuple[Directive, ...]) -> str:
    return next((directive.value for directive in directives if directive.name == "escape"), DEFAULT_ESCAPE)


def _directive(line: str, number: int) -> Directive | None:
    text = line.lstrip()
    if not text.startswith("#"):
        return None
    name, equals, value = text[1:].partition("=")
    name, value = name.strip().lower(), value.strip()
    if not equals or not value or name not in KNOWN:
        return None
    return Directive(name, value, Span(number, len(line) - len(text) + 1, number, len(line) + 1))


def _frontend(value: str) -> str:
    """The last part of an image's repository, without tag and digest."""
    image = value.partition(" ")[0].partition("@")[0]
    return image.rpartition("/")[2].partition(":")[0]
