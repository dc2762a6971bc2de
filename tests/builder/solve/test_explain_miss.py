"""Explaining misses: two builds as the store remembers them, and the explanation for the second."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pybuild.builder.misses import FileChange
from pybuild.builder.solve.explain_miss import explain, file_changes
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.layers.difference import Difference
from pybuild.store.objects.builds import BuiltStep, MountedFiles, Outcome, StoredBuild

RAN, CACHED, FAILED, NOT_RUN = Outcome.RAN, Outcome.CACHED, Outcome.FAILED, Outcome.NOT_RUN
FIELDS: dict[str, object] = {
    "kind": "definition", "step": "RUN", "inputs": ["below"], "argv": ["/bin/sh", "-c", "make"], "env": ["PATH=/bin", "A=1"],
    "cwd": "/", "user": "", "network": "none", "platform": "linux/amd64", "version": 1,
}  # fmt: skip
COPY: dict[str, object] = {"kind": "content", "step": "COPY", "inputs": ["below"], "content": "old", "version": 1}


def step(
    fields: dict[str, object] | None, text: str = "RUN make", outcome: Outcome = RAN, *, number: int = 1, **more: object
) -> BuiltStep:
    """A step on node 0; its key follows from its fields."""
    inputs = "" if fields is None else json.dumps(fields)
    made = BuiltStep(1, 0, (), "build", number, 2, text, outcome, False, inputs, 5, ("A",), inputs)
    return replace(made, **more)  # type: ignore[arg-type]


def base(manifest: str = "sha256:1111") -> BuiltStep:
    fields = json.dumps({"step": "FROM", "manifest": manifest})
    return BuiltStep(0, None, (), "build", 0, 1, "FROM base", CACHED, False, manifest, 4, (), fields)


def build(name: str, *steps: BuiltStep, recipe: str = "/Buildfile") -> StoredBuild:
    return StoredBuild(name, recipe, "", "sha256:2222", (base(), *steps))


def causes(old: BuiltStep, new: BuiltStep) -> tuple[str, ...]:
    """The causes of the miss in the second of two builds with one step each."""
    second = build("2", new)
    (miss,) = explain([build("1", old), second], second)
    return miss.causes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"env": ["PATH=/bin", "A=2"]}, 'ARG A was "1", is "2"', id="an ARG"),
        pytest.param({"env": ["PATH=/sbin", "A=1"]}, 'ENV PATH was "/bin", is "/sbin"', id="an ENV"),
        pytest.param({"env": ["PATH=/bin", "A=1", "B=2"]}, 'ENV B is new: "2"', id="one more"),
        pytest.param({"env": ["PATH=/bin"]}, 'ARG A is gone: was "1"', id="one less"),
        pytest.param({"env": ["A=1", "PATH=/bin"]}, "the order of the environment differs", id="their order"),
        pytest.param({"env": ["PATH=/bin", "A=1", "API_TOKEN=x"]}, "ENV API_TOKEN is new", id="a secret by its name"),
        pytest.param(
            {"env": ["PATH=/bin", "A=https://me:word@host/"]}, 'ARG A was "1", is "https://xxxxx:xxxxx@host/"', id="a password in a URL"
        ),
        pytest.param({"cwd": "/src"}, 'WORKDIR was "/", is "/src"', id="the directory"),
        pytest.param({"user": "app"}, 'USER was "", is "app"', id="the user"),
        pytest.param({"network": "host"}, '--network was "none", is "host"', id="the network"),
        pytest.param({"security": "insecure"}, '--security was nothing, is "insecure"', id="insecure"),
        pytest.param({"hosts": ["db"]}, "--add-host was nothing, is db", id="a host"),
        pytest.param({"mounts": [{"type": "secret"}]}, "--mount differs", id="a mount"),
        pytest.param({"platform": "linux/arm64"}, 'platform was "linux/amd64", is "linux/arm64"', id="platform"),
        pytest.param({"version": 2}, "the version of pybuild's cache keys differs", id="the version of the keys"),
        pytest.param(
            {"argv": ["/bin/bash", "-c", "make"]}, 'the command is "/bin/bash -c make", was "/bin/sh -c make"', id="the shell"
        ),
        pytest.param({"inputs": ["other"]}, "the base image changed: base sha256:1111, now base sha256:1111", id="the base"),
        pytest.param({"contents": ["1"]}, "the files that it mounts differ", id="files of a mount"),
        pytest.param({}, "its record is gone: evicted since build 1", id="nothing"),
    ],
)  # fmt: skip
def test_one_difference_is_one_cause(changes: dict[str, object], said: str) -> None:
    assert causes(step(FIELDS), step({**FIELDS, **changes})) == (said,)


def test_a_changed_text_comes_before_its_consequences() -> None:
    new = step({**FIELDS, "argv": ["/bin/sh", "-c", "make all"], "cwd": "/src"}, "RUN make all")
    assert causes(step(FIELDS), new) == ("the instruction was RUN make", 'WORKDIR was "/", is "/src"')


def test_a_secret_that_changes_is_named_and_not_shown() -> None:
    old, new = ({**FIELDS, "env": [f"DB_PASSWORD={value}"]} for value in ("one", "two"))
    assert causes(step(old), step(new)) == ("ENV DB_PASSWORD has another value",)


def test_a_step_for_which_the_cache_was_not_used() -> None:
    (said,) = causes(step(FIELDS), step(FIELDS, fresh=True))
    assert "--no-cache" in said


def test_a_first_build_has_nothing_to_be_compared_with() -> None:
    first = build("1", step(FIELDS))
    (miss,) = explain([first], first)
    assert (miss.causes, miss.earlier) == (("no earlier build of this recipe is remembered",), None)


@pytest.mark.parametrize("outcome", [FAILED, NOT_RUN])
def test_a_step_that_made_nothing_is_not_compared_with(outcome: Outcome) -> None:
    assert causes(step(FIELDS, outcome=outcome), step(FIELDS)) == ("no earlier build of this recipe is remembered",)


def test_a_new_step_between_others_is_not_reported_as_changed() -> None:
    new = build("2", step({**FIELDS, "argv": ["new"]}, "RUN new"), step(FIELDS, node=2, number=2, outcome=CACHED))
    (miss,) = explain([build("1", step(FIELDS)), new], new)
    assert miss.causes == ("no earlier build had this step",)


def test_a_step_on_a_step_that_ran_says_so() -> None:
    above = {**FIELDS, "inputs": ["first"], "argv": ["true"]}
    old = build("1", step(FIELDS), step(above, "RUN true", node=2, parent=1, number=2))
    changed = step({**FIELDS, "cwd": "/src"})
    new = build("2", changed, step({**above, "inputs": ["second"]}, "RUN true", node=2, parent=1, number=2))
    assert [miss.causes for miss in explain([old, new], new)] == [
        ('WORKDIR was "/", is "/src"',),
        ("stands on [build 1] RUN make, which is not cached",),
    ]


def test_a_step_whose_inputs_are_not_known_says_what_it_waits_for() -> None:
    copy = step(None, "COPY --from=build /x /", NOT_RUN, node=2, parent=0, sources=(1,), number=2)
    new = build("2", step(FIELDS, outcome=NOT_RUN), copy)
    assert explain([new], new)[1].causes == ("reads [build 1] RUN make, which is not cached",)


def test_the_earlier_build_with_the_fewest_differences_is_compared() -> None:
    near, far = step({**FIELDS, "cwd": "/a"}), step({**FIELDS, "cwd": "/b", "user": "x", "network": "host"})
    new = build("3", step(FIELDS))
    (miss,) = explain([build("1", near), build("2", far), new], new)
    assert (miss.earlier is not None and miss.earlier.build.id, miss.causes) == ("1", ('WORKDIR was "/a", is "/"',))


def test_the_same_text_in_another_recipe_is_compared_for_lack_of_a_better_one() -> None:
    new = build("2", step({**FIELDS, "cwd": "/src"}), recipe="/other/checkout/Buildfile")
    (miss,) = explain([build("1", step(FIELDS)), new], new)
    assert miss.causes == ('WORKDIR was "/", is "/src"',)


def test_a_later_build_does_not_count() -> None:
    first, second = build("1", step(FIELDS)), build("2", step({**FIELDS, "cwd": "/src"}))
    (miss,) = explain([first, second], first)
    assert miss.earlier is None


def test_changed_files_are_left_to_explain_files() -> None:
    new = build("2", step({**COPY, "content": "new"}, "COPY . ."))
    (miss,) = explain([build("1", step(COPY, "COPY . .")), new], new)
    assert (miss.causes, miss.other_files) == ((), True)


SOURCE, TOOLS = MountedFiles(7, "/bound", "/src"), MountedFiles(8, "/bin", "/tools")


def context(outcome: Outcome) -> BuiltStep:
    return step(COPY, "FROM the context src", outcome, number=0, node=7, parent=None)


@pytest.mark.parametrize(
    ("contents", "mounted", "pairs"),
    [
        pytest.param(["1", "2"], (SOURCE, TOOLS), (), id="the same"),
        pytest.param(["other", "2"], (SOURCE, TOOLS), ((SOURCE, SOURCE),), id="one of them"),
        pytest.param(["2", "other"], (TOOLS, SOURCE), ((SOURCE, SOURCE),), id="in another order"),
        pytest.param(["1", "2", "3"], (SOURCE, TOOLS, TOOLS._replace(target="/new")), (), id="one more"),
        pytest.param(None, (SOURCE, TOOLS), ((SOURCE, SOURCE),), id="not read, because the context is not cached"),
    ],
)
def test_the_mounts_whose_files_differ(
    contents: list[str] | None, mounted: tuple[MountedFiles, ...], pairs: tuple[tuple[MountedFiles, MountedFiles], ...]
) -> None:
    """A mounted context is not listed as a step of its own."""
    old = step({**FIELDS, "kind": "content", "contents": ["1", "2"]}, mounted=(SOURCE, TOOLS))
    fields = {**FIELDS, "inputs": ["below", "files"]} if contents is None else {**FIELDS, "kind": "content", "contents": contents}
    new = step(fields, mounted=mounted, outcome=NOT_RUN if contents is None else RAN, sources=(7,))
    second = build("2", context(NOT_RUN if contents is None else CACHED), new)
    (miss,) = explain([build("1", context(RAN), old), second], second)
    assert miss.other_mounts == pairs
    assert ("reads FROM the context src, which is not cached" in miss.causes) == (contents is None)


def test_a_context_that_a_stage_begins_from_is_listed() -> None:
    first, second = (build(name, replace(context(RAN), inputs=json.dumps({**COPY, "content": name}))) for name in "12")
    (miss,) = explain([first, second], second)
    assert (miss.step.instruction, miss.causes, miss.other_files) == ("FROM the context src", (), True)


FILE = Entry(b"d/f", Kind.FILE, 0o644, size=1, sha256=b"1" * 32)
DIRECTORY = Entry(b"d", Kind.DIRECTORY, 0o755)


@pytest.mark.parametrize(
    ("before", "after", "how"),
    [
        (None, FILE, "added"),
        (FILE, None, "removed"),
        (FILE, FILE._replace(sha256=b"2" * 32), "content"),
        (FILE, FILE._replace(mode=0o755), "mode 0644, now 0755"),
        (FILE, FILE._replace(uid=1, gid=2), "owner 0:0, now 1:2"),
        (FILE, FILE._replace(mode=0, sha256=b"", size=9), "content, mode 0644, now 0000"),
        (FILE, FILE._replace(xattrs=((b"security.capability", b""),)), "attributes"),
        (FILE, DIRECTORY._replace(path=b"d/f"), "file, now directory"),
        (Entry(b"l", Kind.SYMLINK, link=b"a"), Entry(b"l", Kind.SYMLINK, link=b"b"), "target of the link"),
    ],
)
def test_how_a_file_differs(before: Entry | None, after: Entry | None, how: str) -> None:
    path = (before or after or FILE).path
    assert file_changes([Difference(path, before, after)]) == [FileChange(path, how)]


def test_a_directory_added_with_its_files_has_no_line_of_its_own() -> None:
    empty = DIRECTORY._replace(path=b"e")
    found = file_changes([Difference(entry.path, None, entry) for entry in (DIRECTORY, FILE, empty)])
    assert found == [FileChange(b"d/f", "added"), FileChange(b"e", "added")]
