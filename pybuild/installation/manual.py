"""The manual pages, made from the commands: one for pybuild, and one for each verb.

Source of the format: man(7). A page has no date, so that the same sources give the same bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from pybuild.options.groups import GroupedCommand
from pybuild.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STATUSES = (
    ("0", "success"),
    ("1", "the recipe, a step, the store or a registry failed; or a check found something"),
    ("2", "the command line is wrong"),
    ("3", "--require-cached, and a step is not cached"),
    ("130, 143, 129", "ended by SIGINT, SIGTERM, SIGHUP"),
)
_ENVIRONMENT = (
    ("PYBUILD_ROOT", "the directory of the store, as --root"),
    ("PYBUILD_CONFIG", "the configuration file"),
    ("PYBUILD_KEEP_STORAGE", "the size that the store is kept within after a build"),
    ("PYBUILD_ISOLATION", "the default of --isolation"),
    ("SOURCE_DATE_EPOCH", "the time of everything in the image, in seconds since 1970"),
    ("NO_COLOR", "if it is not empty, nothing is coloured"),
)


def manual_pages(root: click.Group, program: str = "pybuild") -> Iterator[tuple[str, str]]:
    """The file name and the text of each page of section 1."""
    context = click.Context(root, info_name=program)
    commands = [(name, root.get_command(context, name)) for name in root.list_commands(context)]
    pages = [(name, command) for name, command in commands if command is not None]
    yield f"{program}.1", _overview(root, context, pages, program)
    for name, command in pages:
        yield f"{program}-{name}.1", _page(command, name, context, program)


def _overview(
    root: click.Group, context: click.Context, pages: Sequence[tuple[str, click.Command]], program: str
) -> str:
    lines = [*_head(program, "build OCI images from Dockerfile-style recipes", program)]
    lines += [".SH SYNOPSIS", f".B {_text(program)}", "[\\fIOPTIONS\\fR] \\fICONTEXT\\fR", ".br"]
    lines += [f".B {_text(program)}", "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"]
    lines += [".SH DESCRIPTION", *_paragraphs(root.help or "")]
    lines += [".SH OPTIONS", *_options(root.get_params(context), context)]
    lines.append(".SH COMMANDS")
    for name, command in pages:
        lines += [".TP", f".BR {_text(f'{program}-{name}')} (1)", _text(command.get_short_help_str(200))]
    lines += [".SH EXIT STATUS", *_table(_STATUSES), ".SH ENVIRONMENT", *_table(_ENVIRONMENT)]
    return _joined(lines)


def _page(command: click.Command, name: str, above: click.Context, program: str) -> str:
    context = click.Context(command, above, name)
    full = f"{program}-{name}"
    lines = [*_head(full, command.get_short_help_str(200).rstrip("."), program)]
    lines += [
        ".SH SYNOPSIS",
        f".B {_text(f'{program} {name}')}",
        _text(" ".join(command.collect_usage_pieces(context))),
    ]
    lines += [".SH DESCRIPTION", *_paragraphs(command.help or "")]
    if isinstance(command, GroupedCommand):
        for title, options in command.sections(context):
            lines += [f".SH {_text(title.upper())}", *_options(options, context)]
    else:
        lines += [".SH OPTIONS", *_options(command.get_params(context), context)]
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                lines += _inner(found, inner, context, f"{program} {name}")
    others = f".BR {_text(program)} (1)"
    return _joined([*lines, ".SH SEE ALSO", others])


def _inner(command: click.Command, name: str, above: click.Context, prefix: str) -> list[str]:
    """A command of a command, as a section."""
    context = click.Context(command, above, name)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f".SH {_text(f'{prefix} {name}'.upper())}", f".B {_text(f'{prefix} {name}')}", _text(usage)]
    return [*lines, ".PP", *_paragraphs(command.help or ""), *_options(command.get_params(context), context)]


def _head(title: str, summary: str, program: str) -> list[str]:
    version = f'"{_text(program)} {_text(__version__)}"'
    name = _text(title)
    summary = summary[:1].lower() + summary[1:]
    return [f'.TH "{name.upper()}" "1" "" {version} "User Commands"', ".nh", ".SH NAME", f"{name} \\- {_text(summary)}"]


def _paragraphs(help_: str) -> list[str]:
    """The text of a help; click marks paragraphs that it must not wrap with \\b."""
    lines: list[str] = []
    separator = ""  # none below the title of the section
    for paragraph in re.split(r"\n[ \t]*\n", re.sub(r"(?m)^[ \t]+", "", help_.strip())):
        if paragraph.startswith("\b\n"):
            lines += [separator, ".nf", *map(_text, paragraph.split("\n")[1:]), ".fi"]
        else:
            lines += [separator, _text(paragraph.replace("\n", " "))]
        separator = ".PP"
    return lines


def _options(parameters: Sequence[click.Parameter], context: click.Context) -> list[str]:
    lines: list[str] = []
    for parameter in parameters:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            names, text = record
            lines += [".TP", f"\\fB{_text(names.strip())}\\fR", _text(text or "")]
    return lines or ["None."]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [line for name, text in rows for line in (".TP", f"\\fB{_text(name)}\\fR", _text(text))]


def _text(text: str) -> str:
    """A line of text: nothing in it is a request, and a hyphen stays one, so that options can be copied."""
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq").replace("^", "\\(ha")
    )
    text = text.replace("~", "\\(ti").replace('"', "\\(dq")
    return "\\&" + text if text.startswith(".") else text


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(line for line in lines if line) + "\n"
