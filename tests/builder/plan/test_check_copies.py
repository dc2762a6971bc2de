"""The checks of COPY and ADD for what goes wrong without a message, on a small context."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.builder.files.context_source import ContextSource
from pybuild.builder.plan.lint import Inspector
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import resolve
from pybuild.parser import parse
from pybuild.parser.checks import select
from pybuild.store.formats.oci_config import ExecConfig
from pybuild.store.formats.toc import Entry, Kind, Toc
from pybuild.store.layers.view import ROOT
from tests.support.recipes import Images, image, options

UNMATCHED, LAST, RESETS = "CopyUnmatchedWildcard", "CopyLastFileWins", "CopyLinkResetsDirectory"
IMAGES = Images({"base": image(ExecConfig(env=("FROM_BASE=x",)))})


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Files a.txt, b.txt, p.tar, docs/c.md, docs/deep/d.md; links to a.txt and to docs."""
    (tmp_path / "docs/deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "p.tar", "docs/c.md", "docs/deep/d.md"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("docs")
    return tmp_path


def warned(text: str, context: Path, ignored: str | None = None, missing: tuple[int, ...] = ()) -> list[str]:
    """`line rule: message` of each finding of these rules."""
    recipe = resolve(parse(text), options(), IMAGES, all_stages=True)
    inspector = Inspector(recipe, options(), lambda name: ContextSource(str(context), ignored), missing)
    plan(recipe, options(), inspector, inspector.take_mistake)
    found = select(inspector.found, recipe.buildfile)
    return [f"{w.span.line} {w.rule}: {w.message}" for w in found if w.rule in (UNMATCHED, LAST, RESETS)]


def rules(text: str, context: Path, ignored: str | None = None) -> list[str]:
    return [line.partition(":")[0] for line in warned(text, context, ignored)]


@pytest.mark.parametrize(
    "line",
    [
        "COPY nope* /x/", "COPY a.txt *.nope /x/", "ADD docs/*.txt /x/", "COPY [\"n?\", \"/x/\"]", "COPY docs/deep/*/x /x/",
        "COPY --link nope* /x/", "ARG p=nope\nCOPY $p* /x/", "COPY --parents docs/*/x /x/", "COPY --parents **/nope /x/", "COPY a\\*b /x/",
    ],
)  # fmt: skip
def test_a_pattern_that_matches_nothing(line: str, context: Path) -> None:
    assert rules(f"FROM base\n{line}", context) == [f"{2 + line.count(chr(10))} {UNMATCHED}"]


@pytest.mark.parametrize(
    "line",
    [
        "COPY *.txt /x/", "COPY doc* /x/", "COPY link/*.md /x/", "COPY nope /x/", "COPY nodir/*.txt /x/", "COPY --from=s nope* /x/",
        "COPY $b* /x/", "COPY --parents **/*.md /x/", "COPY --parents docs/./*/d.md /x/", "ADD https://a.test/x* /x/", "COPY [a-b].txt /x/",
    ],
)  # fmt: skip
def test_other_sources(line: str, context: Path) -> None:
    assert warned(f"FROM base AS s\nFROM base\n{line}", context, missing=(1,)) == []


def test_ignored_files_are_not_matched(context: Path) -> None:
    assert rules("FROM base\nCOPY *.txt /x/\nCOPY docs/*.md /x/", context, "*.txt\ndocs\n!docs/c.md") == [f"2 {UNMATCHED}"]


def test_patterns_in_an_archive(context: Path, tmp_path: Path) -> None:
    toc = Toc.write(str(tmp_path / "toc"), [ROOT, Entry(b"d", Kind.DIRECTORY, 0o755), Entry(b"d/f", Kind.FILE, 0o644)])
    recipe = resolve(parse("FROM base\nCOPY d/* nope* /x/"), options(), IMAGES)
    inspector = Inspector(recipe, options(), lambda name: ContextSource("/dev/null", toc=toc))
    plan(recipe, options(), inspector)
    assert [warning.message for warning in inspector.found] == [
        'The pattern "nope*" matches no file of the context, so COPY copies nothing for it'
    ]


@pytest.mark.parametrize(
    "line",
    [
        "COPY a.txt b.txt /app", "COPY *.txt /app", "COPY a.txt docs /app", "ADD a.txt b.txt /app", "COPY <<a <<b /app\na\nb",
        "ADD https://a.test/x a.txt /app", "WORKDIR /w\nCOPY *.txt app", "COPY [\"a.txt\", \"b.txt\", \"/app\"]",
    ],
)  # fmt: skip
def test_several_files_onto_one_name(line: str, context: Path) -> None:
    number = next(n for n, part in enumerate(line.split("\n"), 2) if part.startswith(("COPY", "ADD")))
    expected = [] if "docs" in line else [f"{number} {LAST}"]
    assert rules(f"FROM base\n{line}", context) == expected


@pytest.mark.parametrize(
    "line",
    [
        "COPY a.txt b.txt /app/", "COPY a.txt b.txt .", "COPY a.txt b.txt /app/.", "COPY a.txt /app", "COPY docs docs/deep /app",
        "ADD p.tar a.txt /app", "WORKDIR /app\nCOPY a.txt b.txt /app", "COPY a.txt b.txt /usr/local/bin", "COPY docs /app\nCOPY *.txt /app",
        "RUN mkdir -p /app\nCOPY *.txt /app", "COPY a.txt $d b.txt /app", "COPY a.txt b.txt $d", "COPY --from=s a.txt b.txt /app",
        "COPY a.txt /app/x/\nCOPY *.txt /app/x", "WORKDIR /app/src\nCOPY *.txt /app", "COPY a.txt nope b.nope /app",
    ],
)  # fmt: skip
def test_files_that_keep_their_names(line: str, context: Path) -> None:
    assert warned(f"FROM base AS s\nFROM base\n{line}", context, missing=(1,)) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("COPY --link a.txt /tmp/", "/tmp gets the mode 0755 instead of 1777"),
        ("COPY --link a.txt /tmp/x", "/tmp gets the mode 0755 instead of 1777"),
        ("COPY --link docs /root", "/root gets the mode 0755 instead of 0700"),
        ("RUN rm -rf /tmp/*\nADD --link a.txt /tmp/", "/tmp gets the mode 0755 instead of 1777"),
        ("COPY --link --chown=9 a.txt /opt/", "/opt gets the owner 9 instead of root"),
        ("COPY --link --chown=9:9 a.txt /usr/local/bin/", "/usr gets the owner 9 instead of root, /usr/local gets the owner 9 instead of root, /usr/local/bin gets the owner 9 instead of root"),
        ("USER app\nWORKDIR /app\nCOPY --link a.txt ./", "/app gets the owner root instead of app"),
        ("USER 9\nWORKDIR /app\nCOPY --link --chown=8 a.txt ./", "/app gets the owner 8 instead of 9"),
        ("COPY --chown=9 a.txt /app/\nCOPY --link b.txt /app/", "/app gets the owner root instead of 9"),
        ("COPY --chmod=700 a.txt /app/\nCOPY --link b.txt /app/", "/app gets the mode 0755 instead of 0700"),
        ("COPY --link --from=s a.txt /var/tmp/x", "/var/tmp gets the mode 0755 instead of 1777"),
        ("COPY --link $x /tmp/", "/tmp gets the mode 0755 instead of 1777"),
    ],
)  # fmt: skip
def test_link_makes_directories_anew(lines: str, said: str, context: Path) -> None:
    found = warned(f"FROM base AS s\nFROM base\n{lines}", context)
    number = 3 + lines.count("\n")
    assert found == [f"{number} {RESETS}: COPY --link makes the directories of its destination anew: {said}"]


@pytest.mark.parametrize(
    "lines",
    [
        "COPY a.txt /tmp/", "COPY --link a.txt /app/", "COPY --link a.txt /usr/local/bin/", "COPY --link --chmod=600 a.txt /tmp/",
        "COPY --link a.txt /tmp", "USER 9\nWORKDIR /app\nCOPY --link --chown=9:8 a.txt ./", "USER app\nWORKDIR /app\nCOPY --link --chown=9 a.txt ./",
        "RUN chmod 755 /tmp\nCOPY --link a.txt /tmp/", "USER 9\nWORKDIR /app\nUSER 0\nRUN chown 0 /app\nCOPY --link a.txt ./",
        "COPY --link a.txt /", "COPY --link --chown=0:0 a.txt /opt/", "COPY --link --chown=$u a.txt /opt/", "COPY --link a.txt $d",
    ],
)  # fmt: skip
def test_link_changes_nothing_that_is_known(lines: str, context: Path) -> None:
    assert warned(f"FROM base\n{lines}", context, missing=(0,)) == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("COPY --link a.txt tmp/", []),
        ("WORKDIR var\nCOPY --link a.txt tmp/", []),
        ("WORKDIR /var\nCOPY --link a.txt tmp/", [f"3 {RESETS}"]),
        ("WORKDIR /\nWORKDIR var\nCOPY --link a.txt tmp/", [f"4 {RESETS}"]),
        ("WORKDIR /var\nWORKDIR $D\nCOPY --link a.txt tmp/", []),
        ("COPY a.txt b.txt app", [f"2 {LAST}"]),
    ],
)
def test_a_destination_that_depends_on_the_working_directory_of_the_base(
    lines: str, found: list[str], context: Path
) -> None:
    """The findings are the same whether the base is missing or not."""
    text = f"FROM base\n{lines}"
    without = [line.partition(":")[0] for line in warned(text, context, missing=(0,))]
    assert without == found
    if "$D" not in text:
        assert rules(text, context) == found


def test_a_second_link_onto_the_same_directory_changes_nothing_more(context: Path) -> None:
    assert rules("FROM base\nCOPY --link a.txt /tmp/\nCOPY --link b.txt /tmp/", context) == [f"2 {RESETS}"]


def test_an_empty_stage_has_no_standard_directories(context: Path) -> None:
    assert rules("FROM scratch\nCOPY --link a.txt /tmp/\nCOPY a.txt b.txt /opt", context) == [f"3 {LAST}"]


def test_a_stage_knows_the_directories_of_the_one_below(context: Path) -> None:
    text = "FROM base AS s\nUSER 9\nWORKDIR /app\nFROM s\nCOPY --link a.txt /app/\nCOPY a.txt b.txt /app"
    assert rules(text, context) == [f"5 {RESETS}"]


@pytest.mark.parametrize(
    ("rule", "line"), [(UNMATCHED, "COPY nope* /x/"), (LAST, "COPY *.txt /app"), (RESETS, "COPY --link a.txt /tmp/")]
)
@pytest.mark.parametrize("skip", ["RULE", "all"])
def test_the_rules_can_be_skipped(rule: str, line: str, skip: str, context: Path) -> None:
    directive = f"# check=skip={skip.replace('RULE', rule)}"
    assert rules(f"FROM base\n{line}", context) == [f"2 {rule}"]
    assert rules(f"{directive}\nFROM base\n{line}", context) == []
    assert rules(f"FROM base\n{directive}\n{line}", context) == []


def test_a_context_that_cannot_be_read_is_not_judged(context: Path) -> None:
    assert rules("FROM base\nCOPY nope* /x/\nCOPY *.txt /app", context / "missing") == []


def test_of_a_recipe_with_thousands_of_steps_too_little_is_known_to_warn(context: Path) -> None:
    last = "COPY *.txt /app\nCOPY --link a.txt /tmp/\n"
    for line in ("RUN echo %d\n", "WORKDIR /w%d\n", "COPY docs /d%d\n"):
        assert rules("FROM base\n" + "".join(line % number for number in range(1200)) + last, context)[:1] != ["1202 " + LAST]
    assert rules("FROM base\n" + "RUN echo\n" * 100 + last, context) == [f"102 {LAST}", f"103 {RESETS}"]


def test_a_directory_is_listed_once(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    scandir = os.scandir

    def counted(fd: int) -> object:
        listed.append(fd)
        return scandir(fd)

    monkeypatch.setattr(os, "scandir", counted)
    assert rules("FROM base\n" + "COPY *.txt /x/\nCOPY docs/*.md /x/\n" * 5, context) == []
    assert len(listed) == 2
