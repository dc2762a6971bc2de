"""Named contexts in the plan: what they replace, and how steps read their files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pybuild.builder.plan.graph import BaseStep, CopyStep
from pybuild.builder.plan.planner import plan
from pybuild.builder.plan.resolve import ContextFiles, resolve
from pybuild.builder.solve.cache_keys import definition_key
from pybuild.builder.sources.contexts import _split_layout, context_name
from pybuild.parser import parse
from pybuild.store.errors import InvalidImage
from pybuild.store.formats.digest import Digest
from tests.support.recipes import PLATFORM, Images, chain, image, options

if TYPE_CHECKING:
    from pybuild.builder.plan.graph import Plan, Step
    from pybuild.store.objects.images import StoredImage

DIGEST = "sha256:" + "a" * 64


@dataclass
class Named:
    """Invented named contexts, by name."""

    known: dict[str, StoredImage | ContextFiles] = field(default_factory=dict)

    def main(self) -> ContextFiles:
        return ContextFiles("")

    def find(self, name: str) -> StoredImage | ContextFiles | None:
        return self.known.get(name)


def planned(text: str, **known: StoredImage | ContextFiles) -> Plan:
    images = Images({"base": image()})
    return plan(resolve(parse(text), options(), images, contexts=Named(dict(known))), options())


def steps(text: str, **known: StoredImage | ContextFiles) -> list[Step]:
    found = planned(text, **known)
    return [node.step for node in chain(found, found.image.node)]


def whole(name: str) -> CopyStep:
    return CopyStep((".",), "/", None, None, False, context=name)


FILES = ContextFiles("files")
OTHER = image(layers=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("FROM files", [whole("files")], id="files as a base"),
        pytest.param("FROM other", [BaseStep(OTHER)], id="another image as a base"),
        pytest.param("FROM base AS other\nRUN x\nFROM other", [BaseStep(OTHER)], id="a stage of that name is replaced"),
        pytest.param("FROM base AS other\nRUN x", [BaseStep(OTHER)], id="the target is replaced"),
        pytest.param("FROM base AS files\nRUN x\nFROM files", [whole("files")], id="a stage is replaced by files"),
    ],
)
def test_a_named_context_stands_for_images_and_stages(text: str, expected: list[Step]) -> None:
    assert steps(text, files=FILES, other=OTHER) == expected


def test_a_copy_from_a_named_context_reads_its_files_and_no_stage() -> None:
    result = planned("FROM base\nCOPY --from=files a /b\nCOPY c /d", files=FILES)
    first, second = result.nodes[-2], result.nodes[-1]
    assert isinstance(first.step, CopyStep) and isinstance(second.step, CopyStep)
    assert (first.step.context, first.step.from_stage, first.sources) == ("files", False, ())
    assert (second.step.context, second.sources) == ("", ())


def test_a_copy_by_number_from_a_stage_that_is_replaced_reads_the_context() -> None:
    result = planned("FROM base AS other\nRUN x\nFROM base\nCOPY --from=0 a /b", other=OTHER)
    last = result.nodes[-1]
    assert last.sources[0] is not None
    assert result.nodes[last.sources[0]].step == BaseStep(OTHER)


def test_the_files_of_a_context_are_one_node() -> None:
    result = planned("FROM files AS a\nRUN x\nFROM files\nCOPY --from=a y /z", files=FILES)
    assert [node.step for node in result.nodes].count(whole("files")) == 1


def test_the_identity_of_an_immutable_context_is_part_of_the_key() -> None:
    (first,) = steps("FROM files", files=ContextFiles("files", "commit 1"))
    (second,) = steps("FROM files", files=ContextFiles("files", "commit 2"))
    (any_,) = steps("FROM files", files=FILES)
    assert isinstance(first, CopyStep) and isinstance(any_, CopyStep)
    assert (first.reads_context, any_.reads_context) == (False, True)
    keys = {definition_key(step, PLATFORM, []).digest for step in (first, second, any_)}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpine", "alpine"),
        ("Alpine:latest", "alpine"),
        ("docker.io/library/alpine", "alpine"),
        ("alpine:3.20", "alpine:3.20"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b"),
    ],
)
def test_context_names_are_normalised_like_image_names(text: str, expected: str) -> None:
    assert context_name(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "../x", "scratch"])
def test_a_name_for_neither_a_stage_nor_an_image_is_refused(text: str) -> None:
    with pytest.raises(InvalidImage):
        context_name(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dir", ("dir", None, None)),
        ("/a/dir:1.0", ("/a/dir", "1.0", None)),
        ("/a:b/dir", ("/a:b/dir", None, None)),
        (f"dir@{DIGEST}", ("dir", None, Digest.parse(DIGEST))),
        (f"dir:x@{DIGEST}", ("dir", "x", Digest.parse(DIGEST))),
        ("a@b/dir", ("a@b/dir", None, None)),
    ],
)
def test_the_parts_of_a_layout(text: str, expected: tuple[str, str | None, Digest | None]) -> None:
    assert _split_layout(text) == expected
