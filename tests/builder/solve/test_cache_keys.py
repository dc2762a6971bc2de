"""What a cache key depends on, and what it does not depend on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pybuild.builder.files.copy import PlannedEntry
from pybuild.builder.files.copy_layer import content_lines
from pybuild.builder.files.tree import InlineFile
from pybuild.builder.options import Network
from pybuild.builder.plan.graph import (
    CopyStep,
    FilesMount,
    PlannedCacheMount,
    RunStep,
    ScriptMount,
    StepMount,
    WorkdirStep,
)
from pybuild.builder.solve.cache_keys import SCRATCH, base_key, content_key, definition_key
from pybuild.parser import SecretMount, SshMount, TmpfsMount
from pybuild.store.formats.platform import Platform
from pybuild.store.formats.toc import Entry, Kind
from pybuild.store.objects.cache_mounts import Sharing
from tests.support.copies import planned as planned_copy
from tests.support.copymodel import Directory, File, Link, ModelCopy
from tests.support.fields import names_of, with_other
from tests.support.recipes import PLATFORM, steps

RUN = RunStep(("sh", "-c", "x"), ("A=1",), "/", "", Network.DEFAULT)
TMPFS = TmpfsMount("/a", None, False)
SECRET = SecretMount("a", "/a", None, False, 0o400, 0, 0)
SSH = SshMount("default", "/a", False, 0o600, 0, 0)
SCRIPT = ScriptMount("/dev/pipes", "E", "x")
COPY = CopyStep(("a",), "/d/", None, None, False)
HEREDOC = replace(COPY, sources=(), inline=(InlineFile("a", "x"),))
WORKDIR = WorkdirStep("/w", "")


def mounted(*mounts: StepMount) -> RunStep:
    return replace(RUN, mounts=mounts)


@pytest.mark.parametrize(
    ("step", "other"),
    [
        pytest.param(RUN, replace(RUN, argv=("sh", "-c", "y")), id="command"),
        pytest.param(RUN, replace(RUN, argv=("sh", "-c x")), id="words of the command"),
        pytest.param(RUN, replace(RUN, variables=("A=2",)), id="environment"),
        pytest.param(RUN, replace(RUN, variables=()), id="less environment"),
        pytest.param(RUN, replace(RUN, cwd="/w"), id="directory"),
        pytest.param(RUN, replace(RUN, user="1"), id="user"),
        pytest.param(RUN, replace(RUN, network=Network.NONE), id="network"),
        pytest.param(RUN, replace(RUN, insecure=True), id="insecure"),
        pytest.param(RUN, replace(RUN, hosts=("db",)), id="names of hosts"),
        pytest.param(RUN, mounted(TMPFS), id="a mount"),
        pytest.param(mounted(TMPFS), mounted(replace(TMPFS, target="/b")), id="target of a tmpfs"),
        pytest.param(mounted(TMPFS), mounted(replace(TMPFS, size=1)), id="size of a tmpfs"),
        pytest.param(mounted(TMPFS), mounted(replace(TMPFS, read_only=True)), id="a read-only tmpfs"),
        pytest.param(mounted(SCRIPT), mounted(replace(SCRIPT, name="F")), id="name of a program"),
        pytest.param(mounted(SECRET), mounted(replace(SECRET, id="b")), id="E66-which secret"),
        pytest.param(mounted(SECRET), mounted(replace(SECRET, env="A")), id="E66-a secret as a variable"),
        pytest.param(mounted(SECRET), mounted(replace(SECRET, mode=0o440)), id="E66-mode of a secret"),
        pytest.param(mounted(SSH), mounted(replace(SSH, uid=1)), id="E66-owner of an agent"),
        pytest.param(mounted(SCRIPT), mounted(replace(SCRIPT, content="y")), id="text of a program"),
        pytest.param(COPY, replace(COPY, sources=("b",)), id="sources"),
        pytest.param(COPY, replace(COPY, sources=("a", "a")), id="number of sources"),
        pytest.param(COPY, replace(COPY, dest="/d"), id="destination"),
        pytest.param(COPY, replace(COPY, chown="1"), id="owner"),
        pytest.param(COPY, replace(COPY, mode=0), id="mode"),
        pytest.param(replace(COPY, mode="a+x"), replace(COPY, mode="a+r"), id="mode in symbols"),
        pytest.param(COPY, replace(COPY, exclude=("x",)), id="what is excluded"),
        pytest.param(COPY, replace(COPY, parents=True), id="parents"),
        pytest.param(COPY, replace(COPY, link=True), id="a layer of its own"),
        pytest.param(COPY, replace(COPY, unpack=True), id="unpacking"),
        pytest.param(COPY, replace(COPY, inline=(InlineFile("a", ""),)), id="a heredoc"),
        pytest.param(HEREDOC, replace(HEREDOC, inline=(InlineFile("b", "x"),)), id="name of a heredoc"),
        pytest.param(HEREDOC, replace(HEREDOC, inline=(InlineFile("a", "y"),)), id="text of a heredoc"),
        pytest.param(WORKDIR, replace(WORKDIR, path="/v"), id="path"),
        pytest.param(WORKDIR, replace(WORKDIR, user="1"), id="owner of the path"),
        pytest.param(RUN, WORKDIR, id="kind of step"),
    ],
)
def test_a_step_that_differs_has_another_key(
    step: RunStep | CopyStep | WorkdirStep, other: RunStep | CopyStep | WorkdirStep
) -> None:
    assert definition_key(step, PLATFORM, ["p"]) != definition_key(other, PLATFORM, ["p"])


# Every field of a step and of a mount

FILES = FilesMount("/a", 0, "/", True)
CACHE = PlannedCacheMount("/a", "n", Sharing.SHARED, False, 0o755, 0, 0, 0, "/")
# Fields whose other content cannot be guessed from the present one.
OTHER: dict[str, object] = {
    "inline": (InlineFile("a", "x"),),
    "mounts": (TMPFS,),
    "network": Network.NONE,
    "sharing": Sharing.LOCKED,
}
NOT_IN_KEYS = {  # field -> why it does not count
    "RunStep.proxy": "a step should not run again because the user is on another network",
    "RunStep.args": "says which variables are ARGs, for explanations; `variables` counts",
    "CopyStep.from_stage": "says where the files are; the key of that node, or their digest, is among the inputs",
    "CopyStep.context": "a name; the digest of the files is among the inputs, or `identity` counts",
    "CopyStep.remote": "the identity of each remote source is among the inputs; `sources` counts",
    "FilesMount.source": "the position of an input; its key, or the digest of its files, is among the inputs",
    "PlannedCacheMount.source": "the position of an input; its key, or the digest of its files, is among the inputs",
    "PlannedCacheMount.name": "the result of a step must not depend on which cache it finds",
}
FIELDS = [
    pytest.param(value, name, id=f"{type(value).__name__}.{name}")
    for value in (RUN, COPY, WORKDIR, TMPFS, SECRET, SSH, SCRIPT, FILES, CACHE)
    for name in names_of(type(value))
]


@pytest.mark.parametrize(("value", "name"), FIELDS)
def test_every_field_counts_in_the_definition_key(value: RunStep | CopyStep | WorkdirStep | StepMount, name: str) -> None:
    other = with_other(value, name, OTHER)
    step = value if isinstance(value, RunStep | CopyStep | WorkdirStep) else mounted(value)
    changed_step = other if isinstance(other, RunStep | CopyStep | WorkdirStep) else mounted(other)
    counts = definition_key(step, PLATFORM, ["p"]) != definition_key(changed_step, PLATFORM, ["p"])
    field = f"{type(value).__name__}.{name}"
    function = "_step_fields" if step is value else "_mount_fields"
    if field in NOT_IN_KEYS:
        assert not counts, f"{field} is in the key: remove it from NOT_IN_KEYS"
    else:
        assert counts, f"{field}: add it to cache_keys.{function}, or say in NOT_IN_KEYS why it does not count"


def test_the_list_of_fields_that_do_not_count_names_fields() -> None:
    assert set(NOT_IN_KEYS) <= {str(field.id) for field in FIELDS}


def test_a_proxy_is_not_in_the_key() -> None:
    with_proxy = replace(RUN, proxy=("http_proxy=http://user:secret@host",))
    assert definition_key(with_proxy, PLATFORM, ["p"]) == definition_key(RUN, PLATFORM, ["p"])


@pytest.mark.parametrize("inputs", [["q"], ["p", "q"], ["q", "p"], [], [SCRATCH]])
def test_other_inputs_give_another_key(inputs: list[str]) -> None:
    assert definition_key(RUN, PLATFORM, inputs) != definition_key(RUN, PLATFORM, ["p"])


def test_another_platform_gives_another_key() -> None:
    other = Platform("linux", "arm64")
    assert definition_key(RUN, PLATFORM, ["p"]) != definition_key(RUN, other, ["p"])
    assert content_key(COPY, PLATFORM, "p", "c") != content_key(COPY, other, "p", "c")


@pytest.mark.parametrize(("parent", "content"), [("q", "c"), ("p", "d"), ("c", "p")])
def test_a_content_key_depends_on_what_is_copied_and_onto_what(parent: str, content: str) -> None:
    assert content_key(COPY, PLATFORM, parent, content) != content_key(COPY, PLATFORM, "p", "c")


def test_a_content_key_does_not_depend_on_how_the_copy_is_written() -> None:
    written = CopyStep(("x", "y/.."), "/d", "0:0", None, True)
    assert content_key(written, PLATFORM, "p", "c") == content_key(COPY, PLATFORM, "p", "c")


def test_definition_keys_and_content_keys_differ() -> None:
    assert definition_key(COPY, PLATFORM, ["p"]).digest != content_key(COPY, PLATFORM, "p", "").digest


def test_layers_of_an_image_have_a_key_of_their_own() -> None:
    assert len({base_key("a"), base_key("b"), SCRATCH}) == 3


def test_the_inputs_of_a_key_can_be_read_again() -> None:
    fields = json.loads(definition_key(RUN, PLATFORM, ["p"]).inputs)
    assert (fields["step"], fields["env"], fields["inputs"]) == ("RUN", ["A=1"], ["p"])


def test_bytes_that_are_not_utf8_have_keys() -> None:
    odd = replace(RUN, argv=("\udcff",))
    assert definition_key(odd, PLATFORM, []) != definition_key(RUN, PLATFORM, [])


# From the recipe to the key


def key(text: str, **fields: object) -> str:
    """The definition key of the target's last step."""
    return definition_key(steps(f"FROM base\n{text}", **fields)[-1], PLATFORM, ["p"]).digest  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        pytest.param("RUN x", "# say why\nRUN x", id="a comment"),
        pytest.param("RUN x", "LABEL a=b\nRUN x", id="a label"),
        pytest.param("RUN x", "CMD y\nEXPOSE 1\nVOLUME /v\nSTOPSIGNAL 9\nRUN x", id="other config"),
        pytest.param("RUN x", "ARG A\nRUN x", id="an ARG without a value"),
        pytest.param("RUN x", 'SHELL ["/bin/sh", "-c"]\nRUN x', id="SHELL with the default"),
        pytest.param("RUN x", 'RUN ["/bin/sh", "-c", "x"]', id="the same command"),
        pytest.param("COPY a /b", "ENV X=1\nCOPY a /b", id="COPY and ENV"),
        pytest.param("COPY a /b", "ARG D=b\nCOPY a /$D", id="COPY and the variable behind its words"),
        pytest.param("COPY a b", "WORKDIR /\nCOPY a /b", id="COPY and how its destination is written"),
        pytest.param("COPY a /b", "USER app\nCOPY a /b", id="COPY and USER"),
        pytest.param("COPY --chmod=755 a /b", "COPY --chmod=0755 a /b", id="COPY and how its mode is written"),
        pytest.param("COPY <<E /b\nx\nE", "ARG A=x\nCOPY <<E /b\n$A\nE", id="COPY and the variable behind a heredoc"),
        pytest.param("COPY <<E /b\nx\nE", "COPY <<-'E' /b\n\tx\n\tE", id="COPY and how a heredoc is written"),
    ],
)
def test_what_a_step_does_not_depend_on_is_not_in_its_key(text: str, other: str) -> None:
    assert key(text) == key(other)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        pytest.param("RUN x", "ENV A=1\nRUN x", id="ENV"),
        pytest.param("RUN x", "ARG A=1\nRUN x", id="an ARG that is not used"),
        pytest.param("RUN x", "USER app\nRUN x", id="USER"),
        pytest.param("RUN x", 'SHELL ["/bin/ash", "-c"]\nRUN x', id="SHELL"),
        pytest.param("RUN x y", "RUN x  y", id="a blank"),
        pytest.param("WORKDIR /w", "USER app\nWORKDIR /w", id="WORKDIR and USER"),
    ],
)
def test_what_a_step_depends_on_is_in_its_key(text: str, other: str) -> None:
    assert key(text) != key(other)


def test_a_build_arg_counts_for_a_run_only_where_it_is_declared() -> None:
    assert key("RUN x", build_args={"A": "1"}) == key("RUN x", build_args={"A": "2"})
    assert key("ARG A\nRUN x", build_args={"A": "1"}) != key("ARG A\nRUN x", build_args={"A": "2"})


# Content

SOURCE = Directory(
    {"d": Directory({"f": File(b"f", 0o644, (1, 2), 10), "l": Link("f", (1, 2), 10)}, 0o755, (1, 2), 10)}
)


def content(tree: Directory, sources: str = "d", dest: str = "/e/") -> list[bytes]:
    return list(content_lines(planned_copy(ModelCopy((sources,), dest), tree, Directory())))


def changed(**nodes: File | Link | Directory) -> Directory:
    return Directory({"d": Directory({**SOURCE.names["d"].names, **nodes}, 0o755, (1, 2), 10)})  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(changed(f=File(b"f", 0o644, (1, 2), 99)), id="time of a file"),
        pytest.param(changed(l=Link("f", (1, 2), 99)), id="time of a link"),
        pytest.param(Directory({"other": File(), **SOURCE.names}), id="a file that is not copied"),
    ],
)
def test_content_does_not_depend_on(tree: Directory) -> None:
    assert content(tree) == content(SOURCE)


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(changed(f=File(b"F", 0o644, (1, 2), 10)), id="content"),
        pytest.param(changed(f=File(b"f", 0o600, (1, 2), 10)), id="mode"),
        pytest.param(changed(f=File(b"f", 0o644, (0, 2), 10)), id="owner"),
        pytest.param(changed(f=File(b"f", 0o644, (1, 0), 10)), id="group"),
        pytest.param(changed(f=Link("l", (1, 2), 10)), id="type"),
        pytest.param(changed(l=Link("g", (1, 2), 10)), id="target of a link"),
        pytest.param(changed(g=File()), id="one more file"),
        pytest.param(changed(g=Directory()), id="one more directory"),
    ],
)
def test_content_depends_on(tree: Directory) -> None:
    assert content(tree) != content(SOURCE)


def test_content_depends_on_hard_links() -> None:
    apart = Directory({"d": Directory({"a": File(b"x"), "b": File(b"x")})})
    together = Directory({"d": Directory({"a": File(b"x", inode=1), "b": File(b"x", inode=1)})})
    assert content(apart) != content(together)


def test_content_depends_on_where_it_goes() -> None:
    assert content(SOURCE, dest="/e/") != content(SOURCE, dest="/f/")


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"d", Kind.DIRECTORY, 0o755, 1, 2, 3),
        Entry(b'a "b"\n\xff', Kind.FILE, 0o4711, size=1, xattrs=((b"k", b"\0v"), (b"l", b"")), sha256=bytes(range(32))),
        Entry(b"h", Kind.FILE, hardlink=b"f\\", sha256=bytes(32), offset=512),
        Entry(b"l", Kind.SYMLINK, link=b"../\xc3\xa4"),
        Entry(b"c", Kind.CHAR, rdev=0x105),
    ],
)
def test_content_is_compact_json(entry: Entry) -> None:
    told = (*entry[:5], *entry[6:12])  # without the time, and the place in a tar
    text = json.dumps(told, default=lambda value: value.hex(), separators=(",", ":"))
    assert list(content_lines([PlannedEntry(entry, None, None)])) == [text.encode("ascii") + b"\n"]
